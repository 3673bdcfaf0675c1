# SPDX-License-Identifier: Apache-2.0
"""A QONNX graph becomes a graph of FINN's abstract hardware operators, plus the host's work at its two edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bitward.hardware.lowering.rules  # noqa: F401 - registers the rules
from bitward.errors import ModelError
from bitward.hardware.lowering.edges import enter, leave
from bitward.hardware.lowering.passes import prepare
from bitward.hardware.lowering.walk import BiasAs, Walk
from bitward.hardware.parameters import Parameter
from bitward.streams import EdgeOp


@dataclass(frozen=True)
class Lowered:
    """The hardware graph (FINN's abstract operators, integers, channels last), and what belongs to it.

    `pre` and `post` are the host's work (bitward.streams.apply_edge), `parameters` the graph's initializers by name,
    `steps` what each pass and each rule did, in order.
    """

    model: Any
    pre: list[EdgeOp]
    post: list[EdgeOp]
    parameters: dict[str, Parameter]
    steps: list[str]


def lower(qonnx_model: Any, *, bias_as: BiasAs = "threshold") -> Lowered:
    """The QONNX model (weights plain, signs folded) as hardware operators, neither specialised nor folded.

    One walk over the graph: it always ends. `bias_as` "add" gives integer biases (those whose scale is that of the
    sums) a memory and an adder of their own; else biases go into thresholds. Raises ModelError, naming node and op,
    for anything that does not become hardware.
    """
    model, steps = prepare(qonnx_model)
    if len(model.graph.input) != 1 or len(model.graph.output) != 1:
        raise ModelError(
            f"the model must have one input and one output, got {len(model.graph.input)} and "
            f"{len(model.graph.output)}: cut it, or leave a part to the host."
        )
    if not model.find_consumers(model.graph.input[0].name):
        raise ModelError(
            f"output {model.graph.output[0].name} must depend on the graph's input, got a constant: export the model "
            "again."
        )
    first, source, pre = enter(model)
    walk = Walk(model, source, bias_as)
    result = walk.run(first, source)
    if not any(parameter.role == "weight" for parameter in walk.parameters.values()):
        raise ModelError(
            "the model must have at least one Conv, ConvTranspose, MatMul or Gemm with quantized weights, got none: "
            "quantize it with Brevitas."
        )
    post = leave(result, model.get_tensor_shape(model.graph.output[0].name))
    hardware = walk.graph.finish(result.tensor)
    return Lowered(hardware, pre, post, walk.parameters, [*steps, *walk.log])

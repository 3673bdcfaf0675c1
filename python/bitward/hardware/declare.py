# SPDX-License-Identifier: Apache-2.0
"""What a build is made for, and what its options and the QONNX graph say of how parameters are to be stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bitward.errors import ConfigError, ModelError
from bitward.hardware.lowering import Lowered
from bitward.rewrites import (
    FoldNegativeScales,
    InsertMsbVoter,
    LiftBiasTmr,
    LiftVoters,
    QuantizeBiases,
    bias_schemes,
    find_layers,
    load_model,
    protection,
    read_weights,
)
from bitward.rewrites.harden import prepare
from bitward.schemes import Scheme, Secded, Tmr

Protect = Literal["model", "none", "msb", "tmr", "secded"]


@dataclass(frozen=True)
class BuildOptions:
    """What a build is made for. `protect` "model" keeps what the QONNX says; "none" is the unprotected twin.

    "secded" is a property of the memories alone, a row a codeword: no QONNX graph declares it. `bias` "tmr" keeps
    biases in triplicate: as memories of their own, added (`bias_as` "add"), or in the thresholds that they fold into.
    `fifos` "measured" finds the depths of queues that `folding` does not give in the RTL, in `fifo_limit_s` seconds at
    most; "safe" ones never stop the design, but are deeper than they must be. Without `simulate` there is RTL, but no
    Verilator model, no measured cycles, and queues are as given or safe.
    Biases to be added that are no integers are rounded to whole steps of the sums (bitward.rewrites.QuantizeBiases).
    `folding` and `specialize` may be what FINN's files hold (bitward.hardware.finn_config).
    """

    protect: Protect = "model"
    voted: int = 1
    target_fps: float = 100_000.0
    clk_mhz: float = 200.0
    board: str = "virtual"
    folding: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    specialize: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    ram_style: str = "block"
    saturate_signs: bool = False
    bias: Literal["model", "none", "tmr"] = "model"
    bias_as: Literal["threshold", "add"] = "threshold"
    fifos: Literal["measured", "safe"] = "measured"
    fifo_limit_s: float = 180.0
    simulate: bool = True


def declare(model_path: Path, options: BuildOptions) -> tuple[Any, dict[str, Scheme]]:
    """The plain QONNX graph with signs folded, and how each layer's weights are to be stored.

    Hardening is declared on the QONNX graph (voter nodes); here it is lifted to annotations, as streamlining cannot see
    weights through a voter. A SEC-DED codeword spans the weights of a row, whose number folding decides: it is declared
    here, with rows of one.
    """
    model = prepare(load_model(model_path)).transform(LiftBiasTmr())
    if options.bias_as == "add":
        model = model.transform(FoldNegativeScales(options.saturate_signs)).transform(QuantizeBiases())
    if options.protect in ("msb", "tmr") and not _is_hardened(model):
        model = model.transform(FoldNegativeScales(options.saturate_signs))
        model = _insert_voters(model, options)
    elif options.protect in ("msb", "tmr") or (options.protect == "secded" and _is_hardened(model)):
        raise ConfigError(
            f"protect must be 'model' or 'none' for a model that is hardened already, got {options.protect!r}."
        )
    model = model.transform(LiftVoters())
    model = model.transform(FoldNegativeScales(options.saturate_signs))
    if options.protect == "secded":
        layers = find_layers(model).items()
        return model, {name: Secded(read_weights(model, layer).bits, 1) for name, layer in layers}
    return model, {} if options.protect == "none" else protection(model)


def _is_hardened(model: Any) -> bool:
    return any(node.op_type == "MsbVoter" for node in model.graph.node)


def _insert_voters(model: Any, options: BuildOptions) -> Any:
    if options.protect == "msb":
        return model.transform(InsertMsbVoter(None, options.voted))
    for name, layer in find_layers(model).items():  # full TMR votes all bits, and layers may differ in width
        model = model.transform(InsertMsbVoter([name], read_weights(model, layer).bits))
    return model


def hardened_biases(model: Any, options: BuildOptions) -> list[str] | None:
    """The layers whose biases are kept in triplicate: those that the QONNX says, none, or all (None)."""
    if options.bias == "model":
        return list(bias_schemes(model))
    return None if options.bias == "tmr" else []


def memory_schemes(
    lowered: Lowered, layers: Mapping[str, Scheme], biases: Sequence[str] | None, bias_as: Literal["threshold", "add"]
) -> dict[str, Scheme]:
    """How each memory stores its words, by name: weights as their layer's scheme says, biases in triplicate.

    `biases` are those of these layers, of all for None; where they fold into thresholds, these are. Raises
    ModelError for a scheme of a layer that has no weights, and where no memory holds the biases to protect.
    """
    weights = {parameter.layer: name for name, parameter in lowered.parameters.items() if parameter.role == "weight"}
    unknown = sorted(set(layers) - set(weights))
    if unknown:
        raise ModelError(
            f"protected layers must be weight layers that the model's output depends on, got {', '.join(unknown)}: "
            "remove their voters, or the layers."
        )
    schemes = {weights[layer]: scheme for layer, scheme in layers.items()}
    role = "bias" if bias_as == "add" else "threshold"
    of_role = {name: parameter for name, parameter in lowered.parameters.items() if parameter.role == role}
    held = {name: each for name, each in of_role.items() if biases is None or each.layer in biases}
    if biases != [] and not held:
        raise ModelError(
            f"a model whose biases are to be protected must have them in a {role} memory, got memories "
            f"{', '.join(lowered.parameters)}: build with bias 'none', or with the other bias_as."
        )
    return schemes | {name: Tmr(parameter.bits, parameter.bits) for name, parameter in held.items()}

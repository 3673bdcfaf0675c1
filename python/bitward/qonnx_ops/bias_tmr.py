# SPDX-License-Identifier: Apache-2.0
"""The voter between three copies of stored biases and the bias that a layer adds, as an ONNX operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, NodeProto, helper
from qonnx.core.datatype import DataType
from qonnx.custom_op.base import CustomOp

from bitward.formats import Int
from bitward.schemes import Tmr
from bitward.words import extract, join, word_dtype

if TYPE_CHECKING:
    from qonnx.core.modelwrapper import ModelWrapper

COPIES = 3


class BiasTmr(CustomOp):
    """Three copies of each bias in, what a majority of each bit says out, in float32 tensors that hold integers.

    Input: words of `bits` bits, shape (3, ...): the copies. Output: two's complement integers, shape (...). `layer`
    names the layer for good: renaming passes leave attributes alone.
    """

    def get_nodeattr_types(self) -> dict[str, Any]:
        return {"bits": ("i", True, 0), "layer": ("s", True, "")}

    @property
    def scheme(self) -> Tmr:
        """How a bias is stored: all its bits three times."""
        bits = self.get_nodeattr("bits")
        return Tmr(bits, bits)

    def store(self, biases: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The copies, shape (3, ...), of integer biases of shape (...)."""
        scheme = self.scheme
        stored = scheme.encode(Int(scheme.bits).encode(biases))
        lows = range(0, scheme.stored_bits, scheme.bits)
        copies = [extract(stored, scheme.stored_bits, low, scheme.bits) for low in lows]
        return np.stack(copies).astype(np.float32)

    def read(self, copies: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The integer biases that these copies, shape (3, ...), are read as."""
        scheme = self.scheme
        words = np.rint(copies).astype(word_dtype(scheme.bits))
        stored = join(*((words[copy], scheme.bits) for copy in range(COPIES)))
        return Int(scheme.bits).decode(scheme.decode(stored)).astype(np.float32)

    def execute_node(self, context: dict[str, npt.NDArray[Any]], graph: GraphProto) -> None:
        context[self.onnx_node.output[0]] = self.read(context[self.onnx_node.input[0]])

    def make_shape_compatible_op(self, model: ModelWrapper) -> NodeProto:
        inputs, outputs = [self.onnx_node.input[0]], [self.onnx_node.output[0]]
        if model.get_opset_imports().get("", 1) < 12:
            return helper.make_node("ReduceMax", inputs, outputs, axes=[0], keepdims=0)
        return helper.make_node("Einsum", inputs, outputs, equation="i...->...")  # the first axis is gone

    def infer_node_datatype(self, model: ModelWrapper) -> None:
        model.set_tensor_datatype(self.onnx_node.output[0], DataType[f"INT{self.get_nodeattr('bits')}"])

    def verify_node(self) -> list[str]:
        """What is wrong with the node: nothing that `scheme` does not refuse itself."""
        return []

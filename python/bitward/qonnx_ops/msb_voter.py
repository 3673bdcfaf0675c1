# SPDX-License-Identifier: Apache-2.0
"""The voter between stored words and weights, as an ONNX operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, NodeProto, helper
from qonnx.core.datatype import DataType
from qonnx.custom_op.base import CustomOp

from bitward.formats import Int, UInt
from bitward.schemes import Tmr
from bitward.words import word_dtype

if TYPE_CHECKING:
    from qonnx.core.modelwrapper import ModelWrapper


class MsbVoter(CustomOp):
    """Stored words in, the weights that hardware reads out, both in float32 tensors of one shape that hold integers.

    Input: words of `bits + 2*voted` bits (`bitward.schemes.Tmr`). Output: the voted words as two's complement (`signed`
    = 1) or unsigned integers. `layer` names the layer for good: renaming passes leave attributes alone.
    """

    def get_nodeattr_types(self) -> dict[str, Any]:
        return {
            "bits": ("i", True, 0),
            "voted": ("i", True, 0),
            "signed": ("i", False, 1, {0, 1}),
            "layer": ("s", True, ""),
        }

    @property
    def scheme(self) -> Tmr:
        """How the words at the input are stored."""
        return Tmr(self.get_nodeattr("bits"), self.get_nodeattr("voted"))

    def read(self, stored: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The integer weights that these stored words are read as."""
        scheme = self.scheme
        words = np.rint(stored).astype(word_dtype(scheme.stored_bits))
        numbers = Int(scheme.bits) if self.get_nodeattr("signed") else UInt(scheme.bits)
        return numbers.decode(scheme.decode(words)).astype(np.float32)

    def execute_node(self, context: dict[str, npt.NDArray[Any]], graph: GraphProto) -> None:
        context[self.onnx_node.output[0]] = self.read(context[self.onnx_node.input[0]])

    def make_shape_compatible_op(self, model: ModelWrapper) -> NodeProto:
        return helper.make_node("Identity", [self.onnx_node.input[0]], [self.onnx_node.output[0]])

    def infer_node_datatype(self, model: ModelWrapper) -> None:
        sign = "INT" if self.get_nodeattr("signed") else "UINT"
        model.set_tensor_datatype(self.onnx_node.output[0], DataType[f"{sign}{self.get_nodeattr('bits')}"])

    def verify_node(self) -> list[str]:
        """What is wrong with the node: nothing that `scheme` does not refuse itself."""
        return []

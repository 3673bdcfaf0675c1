# SPDX-License-Identifier: Apache-2.0
"""A channel-wise sum whose constants, a layer's biases, lie in memory as stored words of a Scheme."""

from __future__ import annotations

from typing import ClassVar

from finn.custom_op.fpgadataflow.elementwise_binary import ElementwiseAdd
from finn.custom_op.fpgadataflow.rtl import register_custom_op

from bitward.errors import ModelError
from bitward.hardware.ops._folding import where
from bitward.hardware.ops._module import Parameter
from bitward.hardware.ops._stored import Axes, StoredModule, lane_counts
from bitward.hardware.parameters import Parameter as Tensor
from bitward.indexmap import split_axes


@register_custom_op
class StoredBias_rtl(StoredModule, ElementwiseAdd):  # noqa: N801 - FINN finds back ends by this spelling
    """`bitward_bias`: memory of stored biases -> registered voter -> one adder a lane.

    Row f holds the biases of channels f*PE to f*PE + PE - 1. It comes from an ElementwiseAdd whose right operand is a
    parameter; one that adds any other constant is no memory (`ElementwiseAdd_rtl`).
    """

    module = "bitward_bias"
    stores: ClassVar[str] = "ElementwiseAdd"

    def get_nodeattr_types(self) -> dict:
        """FINN's attributes and those of a stored module."""
        return {**ElementwiseAdd.get_nodeattr_types(self), **StoredModule.get_nodeattr_types(self)}

    def execute_node(self, context: dict, graph: object) -> None:
        """Add in numpy, as FINN's abstract operator does."""
        ElementwiseAdd.execute_node(self, context, graph)

    def channels(self) -> int:
        """How many biases there are."""
        return int(self.out_shape[-1])

    def lanes(self) -> int:
        """Biases a row, one a lane."""
        return int(self.pe)

    def depth(self) -> int:
        """Rows: beats of a pixel."""
        return self.channels() // self.lanes()

    def axes(self, parameter: Tensor) -> Axes:
        """The map of a bias tensor."""
        return split_axes(parameter.columns, self.lanes())

    @classmethod
    def foldings(cls, parameter: Tensor) -> dict[str, list[int]]:
        """Channels a beat."""
        return {"PE": lane_counts(parameter.columns)}

    def rows_per_image(self) -> int:
        """Beats."""
        return int(self.get_exp_cycles())

    def parameters(self, fpgapart: str) -> dict[str, Parameter]:
        """Parameters of `bitward_bias`. Raises ModelError for another sum than that of a stream and biases."""
        self._check_shapes()
        return {
            "Channels": self.channels(),
            "Pe": self.lanes(),
            "InBits": self.lhs_dtype.bitwidth(),
            "InSigned": int(self.lhs_dtype.signed()),
            "OutBits": self.out_dtype.bitwidth(),
            **{"BiasBits" if name == "WeightBits" else name: value for name, value in self.storage().items()},
        }

    def minimize_weight_bit_width(self, model: object, datatype_only: bool = False) -> None:
        """The type stays: an upset makes any word of it, whatever the biases are now."""

    def minimize_accumulator_width(self, model: object, datatype_only: bool = False) -> object:
        """The type stays as lowering chose it, for any word of the memory."""
        return self.out_dtype

    def _check_shapes(self) -> None:
        """One signed bias for each channel of a stream."""
        lhs, rhs = list(self.lhs_shape), list(self.rhs_shape)
        is_one_a_channel = lhs == list(self.out_shape) and rhs == [1] * (len(rhs) - 1) + [self.channels()]
        if self.lhs_style != "input" or self.rhs_style != "const" or not is_one_a_channel:
            raise ModelError(
                f"{where(self.onnx_node)} must add one bias for each of its {self.channels()} channels to a stream, "
                f"got {lhs} ({self.lhs_style}) and {rhs} ({self.rhs_style}): bring biases to shape [{self.channels()}]."
            )
        if not self.rhs_dtype.signed():
            raise ModelError(
                f"{where(self.onnx_node)} must have signed biases, got {self.rhs_dtype.name}: quantize them as signed."
            )

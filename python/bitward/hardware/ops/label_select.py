# SPDX-License-Identifier: Apache-2.0
"""Top-1 in RTL (FINN+ leaves LabelSelect to Vitis HLS)."""

from __future__ import annotations

import math

from finn.custom_op.fpgadataflow.labelselect import LabelSelect
from finn.custom_op.fpgadataflow.rtl import register_custom_op

from bitward.errors import ModelError
from bitward.hardware.ops._folding import where
from bitward.hardware.ops._module import Parameter, RtlModule


@register_custom_op
class LabelSelect_rtl(LabelSelect, RtlModule):  # noqa: N801 - FINN finds back ends by this spelling
    """`bitward_labelselect`: the place of each vector's greatest score, the first where several are greatest."""

    module = "bitward_labelselect"

    def get_exp_cycles(self) -> int:
        """A cycle for each beat of each vector (FINN counts one vector an image)."""
        return math.prod(int(size) for size in self.get_folded_input_shape()[:-1])

    def get_number_output_values(self) -> int:
        """A label for each vector (FINN counts one vector an image)."""
        return math.prod(int(size) for size in self.get_folded_output_shape()[:-1])

    def parameters(self, fpgapart: str) -> dict[str, Parameter]:
        """Parameters of `bitward_labelselect`. Raises ModelError for K > 1 and for labels beyond their type."""
        labels = int(self.get_nodeattr("Labels"))
        if self.get_nodeattr("K") != 1:
            raise ModelError(
                f"{where(self.onnx_node)} must have K = 1, got {self.get_nodeattr('K')}: give "
                "out the scores and sort them on the host."
            )
        source, result = self.get_input_datatype(), self.get_output_datatype()
        if not result.allowed(labels - 1):
            raise ModelError(
                f"{where(self.onnx_node)} must have an outputDataType that holds {labels - 1}, got "
                f"{result.name}: widen it."
            )
        return {
            "Labels": labels,
            "Pe": self.get_nodeattr("PE"),
            "Bits": source.bitwidth(),
            "Signed": int(source.signed()),
            "OutBits": result.bitwidth(),
        }

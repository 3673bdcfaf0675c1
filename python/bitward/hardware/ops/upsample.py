# SPDX-License-Identifier: Apache-2.0
"""Nearest neighbour up-sampling in RTL (FINN+ leaves UpsampleNearestNeighbour to Vitis HLS)."""

from __future__ import annotations

from finn.custom_op.fpgadataflow.rtl import register_custom_op
from finn.custom_op.fpgadataflow.upsampler import UpsampleNearestNeighbour

from bitward.hardware.ops._folding import checked_scale, checked_simd
from bitward.hardware.ops._module import Parameter, RtlModule


@register_custom_op
class UpsampleNearestNeighbour_rtl(UpsampleNearestNeighbour, RtlModule):  # noqa: N801 - FINN finds back ends so
    """`bitward_upsample`: every pixel and every row a whole number of times."""

    module = "bitward_upsample"

    def get_nodeattr_types(self) -> dict:
        """FINN's UpsampleNearestNeighbour attributes and those of an RTL back end."""
        return {**UpsampleNearestNeighbour.get_nodeattr_types(self), **RtlModule.get_nodeattr_types(self)}

    def execute_node(self, context: dict, graph: object) -> None:
        """Up-sample as FINN's abstract operator does."""
        UpsampleNearestNeighbour.execute_node(self, context, graph)

    def parameters(self, fpgapart: str) -> dict[str, Parameter]:
        """Parameters of `bitward_upsample`. ModelError for a folding or a scale that it has not."""
        node, width = self.onnx_node, self.get_nodeattr("WI")
        channels = self.get_nodeattr("NumChannels")
        return {
            "Width": width,
            "ScaleH": checked_scale(node, self.get_nodeattr("HO"), self.get_nodeattr("HI"), "height"),
            "ScaleW": checked_scale(node, self.get_nodeattr("WO"), width, "width"),
            "Channels": channels,
            "Simd": checked_simd(node, self.get_nodeattr("SIMD"), [channels]),
            "Bits": self.get_input_datatype().bitwidth(),
        }

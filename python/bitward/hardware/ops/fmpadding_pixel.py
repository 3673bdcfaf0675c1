# SPDX-License-Identifier: Apache-2.0
"""Zeros between pixels in RTL (FINN+ leaves FMPadding_Pixel to Vitis HLS)."""

from __future__ import annotations

from finn.custom_op.fpgadataflow.fmpadding_pixel import FMPadding_Pixel
from finn.custom_op.fpgadataflow.rtl import register_custom_op

from bitward.hardware.ops._folding import checked_simd
from bitward.hardware.ops._module import Parameter, RtlModule


@register_custom_op
class FMPadding_Pixel_rtl(FMPadding_Pixel, RtlModule):  # noqa: N801 - FINN finds back ends by this spelling
    """`bitward_pixelpad`: the first half of a transposed convolution."""

    module = "bitward_pixelpad"

    def get_nodeattr_types(self) -> dict:
        """FINN's FMPadding_Pixel attributes and those of an RTL back end."""
        return {**FMPadding_Pixel.get_nodeattr_types(self), **RtlModule.get_nodeattr_types(self)}

    def execute_node(self, context: dict, graph: object) -> None:
        """Pad in numpy, as FINN's abstract operator does."""
        FMPadding_Pixel.execute_node(self, context, graph)

    def parameters(self, fpgapart: str) -> dict[str, Parameter]:
        """Parameters of `bitward_pixelpad`. ModelError for a folding that it has not."""
        height, width = self.get_nodeattr("ImgDim")
        stride_h, stride_w = self.get_nodeattr("Stride")
        channels = self.get_nodeattr("NumChannels")
        return {
            "Height": int(height),
            "Width": int(width),
            "StrideH": int(stride_h),
            "StrideW": int(stride_w),
            "Channels": channels,
            "Simd": checked_simd(self.onnx_node, self.get_nodeattr("SIMD"), [channels]),
            "Bits": self.get_input_datatype().bitwidth(),
        }

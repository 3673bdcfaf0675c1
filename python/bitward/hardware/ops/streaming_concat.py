# SPDX-License-Identifier: Apache-2.0
"""Concatenation over channels in RTL (FINN+ leaves StreamingConcat to Vitis HLS)."""

from __future__ import annotations

from finn.custom_op.fpgadataflow.concat import StreamingConcat
from finn.custom_op.fpgadataflow.rtl import register_custom_op

from bitward.hardware.ops._folding import checked_simd, checked_streams
from bitward.hardware.ops._module import Parameter, RtlModule


@register_custom_op
class StreamingConcat_rtl(StreamingConcat, RtlModule):  # noqa: N801 - FINN finds back ends by this spelling
    """`bitward_concat`: 2 to 8 streams, one vector of each in turn, widened to the type that holds them all."""

    module = "bitward_concat"

    def get_nodeattr_types(self) -> dict:
        """FINN's StreamingConcat attributes and those of an RTL back end."""
        return {**StreamingConcat.get_nodeattr_types(self), **RtlModule.get_nodeattr_types(self)}

    def execute_node(self, context: dict, graph: object) -> None:
        """Concatenate in numpy, as FINN's abstract operator does."""
        StreamingConcat.execute_node(self, context, graph)

    def parameters(self, fpgapart: str) -> dict[str, Parameter]:
        """Parameters of `bitward_concat`. ModelError for a folding or a number of streams that it has not."""
        channels = checked_streams(self.onnx_node, [int(count) for count in self.get_nodeattr("ChannelsPerStream")])
        types = [self.get_input_datatype(stream) for stream in range(len(channels))]
        return {
            "Num": len(channels),
            "Simd": checked_simd(self.onnx_node, self.get_nodeattr("SIMD"), channels),
            "OutBits": self.get_output_datatype().bitwidth(),
            "Signed": sum(int(datatype.signed()) << stream for stream, datatype in enumerate(types)),
            **{f"Channels{stream}": count for stream, count in enumerate(channels)},
            **{f"Bits{stream}": datatype.bitwidth() for stream, datatype in enumerate(types)},
        }

# SPDX-License-Identifier: Apache-2.0
"""Split over channels in RTL (FINN+ leaves StreamingSplit to Vitis HLS)."""

from __future__ import annotations

import math

from finn.custom_op.fpgadataflow.rtl import register_custom_op
from finn.custom_op.fpgadataflow.split import StreamingSplit

from bitward.hardware.ops._folding import checked_simd, checked_streams
from bitward.hardware.ops._module import Parameter, RtlModule


@register_custom_op
class StreamingSplit_rtl(StreamingSplit, RtlModule):  # noqa: N801 - FINN finds back ends by this spelling
    """`bitward_split`: the channels of each vector to 2 to 8 streams in turn."""

    module = "bitward_split"

    def get_nodeattr_types(self) -> dict:
        """FINN's StreamingSplit attributes and those of an RTL back end."""
        return {**StreamingSplit.get_nodeattr_types(self), **RtlModule.get_nodeattr_types(self)}

    def execute_node(self, context: dict, graph: object) -> None:
        """Split in numpy, as FINN's abstract operator does."""
        StreamingSplit.execute_node(self, context, graph)

    def get_number_output_values(self) -> dict[str, int]:
        """Beats an image of each output, whatever the rank of its shape (FINN takes the first dimension for 1)."""
        outputs = range(len(self.onnx_node.output))
        return {f"out{index}": math.prod(self.get_folded_output_shape(index)[:-1]) for index in outputs}

    def parameters(self, fpgapart: str) -> dict[str, Parameter]:
        """Parameters of `bitward_split`. ModelError for a folding or a number of streams that it has not."""
        channels = checked_streams(self.onnx_node, [int(count) for count in self.get_nodeattr("ChannelsPerStream")])
        return {
            "Num": len(channels),
            "Simd": checked_simd(self.onnx_node, self.get_nodeattr("SIMD"), channels),
            "Bits": self.get_input_datatype().bitwidth(),
            **{f"Channels{stream}": count for stream, count in enumerate(channels)},
        }

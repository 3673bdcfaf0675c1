# SPDX-License-Identifier: Apache-2.0
"""Queues between nodes (FINN's own FIFO is replaced: ours can be measured, and stores no padding)."""

from __future__ import annotations

from finn.custom_op.fpgadataflow.rtl import register_custom_op
from finn.custom_op.fpgadataflow.streamingfifo import StreamingFIFO

from bitward.hardware.costs import RamStyle, queue_style
from bitward.hardware.ops._module import Parameter, RtlModule


@register_custom_op
class StreamingFIFO_rtl(StreamingFIFO, RtlModule):  # noqa: N801 - FINN finds back ends by this spelling
    """`bitward_fifo`. `ram_style` "srl" is its shift register; "auto" is what costs least at that depth and width."""

    module = "bitward_fifo"

    def get_nodeattr_types(self) -> dict:
        """FINN's StreamingFIFO attributes and those of an RTL back end."""
        return {**StreamingFIFO.get_nodeattr_types(self), **RtlModule.get_nodeattr_types(self)}

    def execute_node(self, context: dict, graph: object) -> None:
        """Elements pass as they are."""
        StreamingFIFO.execute_node(self, context, graph)

    def get_exp_cycles(self) -> int:
        """No node waits for a queue: it takes and gives a beat a cycle, and so costs nothing of its own."""
        return 0

    def resolve_ram_style(self) -> RamStyle:
        """The style it is built with."""
        style = self.get_nodeattr("ram_style")
        return queue_style(self.get_nodeattr("depth"), self.get_instream_width()) if style == "auto" else style

    def parameters(self, fpgapart: str) -> dict[str, Parameter]:
        """Parameters of `bitward_fifo`."""
        style = self.resolve_ram_style()
        in_ram = style != "srl"
        return {
            "Bits": self.get_instream_width(),
            "Depth": self.get_nodeattr("depth"),
            "InRam": int(in_ram),
            "RamStyle": style if in_ram else "block",
        }

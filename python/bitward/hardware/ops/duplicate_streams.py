# SPDX-License-Identifier: Apache-2.0
"""Forks in RTL (FINN+ leaves DuplicateStreams to Vitis HLS)."""

from __future__ import annotations

from finn.custom_op.fpgadataflow.duplicatestreams import DuplicateStreams
from finn.custom_op.fpgadataflow.rtl import register_custom_op

from bitward.errors import ModelError
from bitward.hardware.ops._folding import MAX_STREAMS, where
from bitward.hardware.ops._module import Parameter, RtlModule


@register_custom_op
class DuplicateStreams_rtl(DuplicateStreams, RtlModule):  # noqa: N801 - FINN finds back ends by this spelling
    """`bitward_duplicate`: NumOutputStreams (2 to 8) equal streams, each taken at its own pace, one beat apart at most.

    The branch that waits longer needs a FIFO.
    """

    module = "bitward_duplicate"

    def parameters(self, fpgapart: str) -> dict[str, Parameter]:
        """Parameters of `bitward_duplicate`. Raises ModelError for fewer than 2 or more than 8 outputs."""
        count = len(self.onnx_node.output)
        if not 2 <= count <= MAX_STREAMS or count != self.get_nodeattr("NumOutputStreams"):
            raise ModelError(
                f"{where(self.onnx_node)} must have NumOutputStreams = 2 to {MAX_STREAMS} "
                f"outputs, got {self.get_nodeattr('NumOutputStreams')} and {count}: fork a fork for more."
            )
        return {"Num": count, "Width": self.get_instream_width()}

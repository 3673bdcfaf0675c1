# SPDX-License-Identifier: Apache-2.0
"""Global sum pooling in RTL (FINN+ leaves GlobalAccPool to Vitis HLS)."""

from __future__ import annotations

import math

from finn.custom_op.fpgadataflow.globalaccpool import GlobalAccPool
from finn.custom_op.fpgadataflow.rtl import register_custom_op

from bitward.hardware.ops._module import Parameter, RtlModule


@register_custom_op
class GlobalAccPool_rtl(GlobalAccPool, RtlModule):  # noqa: N801 - FINN finds back ends by this spelling
    """`bitward_accpool`: each channel's sum over all pixels of an image; a divisor belongs to the scale behind it.

    All sums leave while the last pixel comes. A FIFO of NumChannels / PE beats behind the node lets a slow consumer
    take them without holding up the next image.
    """

    module = "bitward_accpool"

    def get_exp_cycles(self) -> int:
        """A cycle for each beat that comes in: the sums need none of their own."""
        return math.prod(int(size) for size in self.get_folded_input_shape()[:-1])

    def parameters(self, fpgapart: str) -> dict[str, Parameter]:
        """Parameters of `bitward_accpool`."""
        source = self.get_input_datatype()
        return {
            "Channels": self.get_nodeattr("NumChannels"),
            "Pe": self.get_nodeattr("PE"),
            "Bits": source.bitwidth(),
            "Signed": int(source.signed()),
            "Pixels": math.prod(int(size) for size in self.get_nodeattr("numInputVectors")[1:]),
            "OutBits": self.get_output_datatype().bitwidth(),
        }

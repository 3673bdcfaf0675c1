# SPDX-License-Identifier: Apache-2.0
"""Max and average pooling in RTL (FINN+ leaves Pool to Vitis HLS)."""

from __future__ import annotations

import math

from finn.custom_op.fpgadataflow.pool import Pool
from finn.custom_op.fpgadataflow.rtl import register_custom_op

from bitward.errors import ModelError
from bitward.hardware.ops._folding import where
from bitward.hardware.ops._module import Parameter, RtlModule


@register_custom_op
class Pool_rtl(Pool, RtlModule):  # noqa: N801 - FINN finds back ends by this spelling
    """`bitward_pool` behind a depthwise ConvolutionInputGenerator, which sends a window's taps in turn.

    `Function` is one of
    - MaxPool: the greatest tap, of the input's type;
    - AccPool: the plain sum of the taps, of OutputDataType, which must hold every sum. An average is this sum, and its
      divisor (kernel height * width) belongs to the scale behind it;
    - QuantAvgPool: that sum without its low bits, as many as FINN's abstract operator drops for OutputDataType.
    """

    module = "bitward_pool"

    def taps(self) -> int:
        """Beats of a window."""
        return math.prod(int(size) for size in self.get_nodeattr("KernelSize"))

    def shift(self) -> int:
        """Low bits of the sum that are dropped."""
        if self.get_nodeattr("Function") != "QuantAvgPool":
            return 0
        most = (2 ** self.get_input_datatype().bitwidth() - 1) * self.taps()
        return max(0, most.bit_length() - int(self.get_output_datatype().bitwidth()))

    def parameters(self, fpgapart: str) -> dict[str, Parameter]:
        """Parameters of `bitward_pool`. Raises ModelError for AvgPool and for results beyond their type."""
        function = self.get_nodeattr("Function")
        if function == "AvgPool":
            raise ModelError(
                f"{where(self.onnx_node)} must pool by MaxPool, AccPool or QuantAvgPool, got AvgPool: take "
                "the sum (AccPool) and divide in the scale behind it."
            )
        source, result = self.get_input_datatype(), self.get_output_datatype()
        if function != "MaxPool":
            ends = [int(end) * self.taps() >> self.shift() for end in (source.min(), source.max())]
            if not all(result.allowed(end) for end in ends):
                raise ModelError(
                    f"{where(self.onnx_node)} must have an OutputDataType that holds {ends[0]} to {ends[1]}, "
                    f"got {result.name}: widen it."
                )
        return {
            "Pe": self.get_nodeattr("PE"),
            "Bits": source.bitwidth(),
            "Signed": int(source.signed()),
            "Taps": self.taps(),
            "Sum": int(function != "MaxPool"),
            "Shift": self.shift(),
            "OutBits": result.bitwidth(),
        }

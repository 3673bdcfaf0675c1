# SPDX-License-Identifier: Apache-2.0
"""A converter of stream widths at full rate for any two widths (FINN+'s loses up to a third of its cycles)."""

from __future__ import annotations

import math

from finn.custom_op.fpgadataflow.rtl import register_custom_op
from finn.custom_op.fpgadataflow.streamingdatawidthconverter import StreamingDataWidthConverter

from bitward.errors import ModelError
from bitward.hardware.ops._folding import where
from bitward.hardware.ops._module import Parameter, RtlModule


@register_custom_op
class StreamingDataWidthConverter_rtl(StreamingDataWidthConverter, RtlModule):  # noqa: N801 - it takes FINN's place
    """`bitward_dwc`: the elements of an image in beats of another width.

    Of FINN+ 1.6.1's converter, 27 elements a beat to 16 takes 1.56 times the cycles that the beats need, 3 to 2 takes
    1.33 times; simulators compile it slowly, and Yosys does not read it.
    """

    module = "bitward_dwc"

    def get_nodeattr_types(self) -> dict:
        """FINN's StreamingDataWidthConverter attributes and those of an RTL back end."""
        return {**StreamingDataWidthConverter.get_nodeattr_types(self), **RtlModule.get_nodeattr_types(self)}

    def execute_node(self, context: dict, graph: object) -> None:
        """Nothing is computed, as FINN's abstract operator says."""
        StreamingDataWidthConverter.execute_node(self, context, graph)

    def get_exp_cycles(self) -> int:
        """Beats an image of the narrower side."""
        return max(math.prod(self.get_folded_input_shape()[:-1]), math.prod(self.get_folded_output_shape()[:-1]))

    def parameters(self, fpgapart: str) -> dict[str, Parameter]:
        """Parameters of `bitward_dwc`. ModelError where the beats of one side do not hold whole images."""
        taken, given = (math.prod(int(size) for size in self.get_nodeattr(name)) for name in ("inShape", "outShape"))
        widths = self.get_nodeattr("inWidth"), self.get_nodeattr("outWidth")
        bits = self.get_input_datatype().bitwidth()
        if taken != given:
            raise ModelError(
                f"{where(self.onnx_node)} must give the {taken} elements it takes, got {given}: fold by divisors."
            )
        for width in widths:
            if width < 1 or width % bits != 0 or taken * bits % width != 0:
                raise ModelError(
                    f"{where(self.onnx_node)} must have beats of {bits}-bit elements that divide {taken} of them, got "
                    f"{width} bits: fold by divisors."
                )
        return {"InBits": widths[0], "OutBits": widths[1]}

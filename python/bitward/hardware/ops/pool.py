# SPDX-License-Identifier: Apache-2.0
"""Max pooling in RTL (FINN+ leaves Pool to Vitis HLS)."""

from __future__ import annotations

from finn.custom_op.fpgadataflow.pool import Pool
from finn.custom_op.fpgadataflow.rtl import register_custom_op

from bitward.errors import ModelError
from bitward.hardware.ops._module import Parameter, RtlModule


@register_custom_op
class Pool_rtl(Pool, RtlModule):  # noqa: N801 - FINN finds back ends by this spelling
    """`bitward_maxpool` behind a depthwise ConvolutionInputGenerator, which sends a window's taps in turn."""

    module = "bitward_maxpool"

    def get_nodeattr_types(self) -> dict:
        """FINN's Pool attributes and those of an RTL back end."""
        return {**Pool.get_nodeattr_types(self), **RtlModule.get_nodeattr_types(self)}

    def execute_node(self, context: dict, graph: object) -> None:
        """Pool in numpy, as FINN's abstract operator does."""
        Pool.execute_node(self, context, graph)

    def parameters(self, fpgapart: str) -> dict[str, Parameter]:
        """Parameters of `bitward_maxpool`. Raises ModelError for a pooling function other than the maximum."""
        function = self.get_nodeattr("Function")
        if function != "MaxPool":
            raise ModelError(
                f"node {self.onnx_node.name} (Pool) must pool by maximum to have RTL, got {function}: use nn.MaxPool2d."
            )
        height, width = (list(self.get_nodeattr("KernelSize")) * 2)[:2]
        datatype = self.get_input_datatype()
        return {
            "Pe": self.get_nodeattr("PE"),
            "Bits": datatype.bitwidth(),
            "Signed": int(datatype.signed()),
            "Taps": int(height) * int(width),
        }

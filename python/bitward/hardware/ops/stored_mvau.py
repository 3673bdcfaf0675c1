# SPDX-License-Identifier: Apache-2.0
"""A matrix-vector unit whose weights lie in memory as stored words of a Scheme."""

from __future__ import annotations

import json

from finn.custom_op.fpgadataflow.matrixvectoractivation import MVAU
from finn.custom_op.fpgadataflow.rtl import register_custom_op
from finn.custom_op.fpgadataflow.rtl.matrixvectoractivation_rtl import MVAU_rtl
from finn.util.basic import get_dsp_block

from bitward.hardware.ops._module import Parameter, RtlModule
from bitward.schemes import Plain, Scheme, scheme_from_dict


@register_custom_op
class StoredMVAU_rtl(RtlModule, MVAU_rtl):  # noqa: N801 - FINN finds back ends by this spelling
    """`bitward_mvau`: memory of stored words -> registered voter -> FINN's MVU.

    The attribute `scheme` is a Scheme as JSON (bitward.schemes.scheme_from_dict); an empty one means plain words.
    """

    module = "bitward_mvau"

    def get_nodeattr_types(self) -> dict:
        """FINN's MVAU_rtl attributes, those of an RTL back end, and `scheme`."""
        own = {"scheme": ("s", False, "")}
        return {**MVAU_rtl.get_nodeattr_types(self), **RtlModule.get_nodeattr_types(self), **own}

    def execute_node(self, context: dict, graph: object) -> None:
        """Multiply in numpy, as FINN's abstract operator does."""
        MVAU.execute_node(self, context, graph)

    def scheme(self) -> Scheme:
        """How a weight is stored."""
        text = self.get_nodeattr("scheme")
        return scheme_from_dict(json.loads(text)) if text else Plain(self.get_input_datatype(1).bitwidth())

    def memory_file(self) -> str:
        """Name of the file with the memory's initial content."""
        return f"{self.onnx_node.name}_weights.dat"

    def parameters(self, fpgapart: str) -> dict[str, Parameter]:
        """Parameters of `bitward_mvau`."""
        scheme = self.scheme()
        datatype = self.get_input_datatype(0)
        return {
            "Mw": self.get_nodeattr("MW"),
            "Mh": self.get_nodeattr("MH"),
            "Pe": self.get_nodeattr("PE"),
            "Simd": self.get_nodeattr("SIMD"),
            "WeightBits": scheme.bits,
            "Voted": scheme.voted,
            "ActBits": datatype.bitwidth(),
            "ActSigned": int(datatype.signed()),
            "AccBits": self.get_output_datatype().bitwidth(),
            "DspVersion": {"DSP48E1": 1, "DSP48E2": 2}.get(get_dsp_block(fpgapart), 3),
            "InitFile": self.memory_file(),
            "RamStyle": self.get_nodeattr("ram_style"),
        }

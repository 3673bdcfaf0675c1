# SPDX-License-Identifier: Apache-2.0
"""A matrix-vector unit whose weights lie in memory as stored words of a Scheme."""

from __future__ import annotations

import math

from finn.custom_op.fpgadataflow.matrixvectoractivation import MVAU
from finn.custom_op.fpgadataflow.rtl import register_custom_op
from finn.custom_op.fpgadataflow.rtl.matrixvectoractivation_rtl import MVAU_rtl
from finn.util.basic import get_dsp_block, get_dsp_datapath_limits

from bitward.errors import ModelError
from bitward.hardware.ops import _module
from bitward.hardware.ops._folding import where
from bitward.hardware.ops._stored import Axes, StoredModule
from bitward.hardware.parameters import Parameter
from bitward.indexmap import mvau_axes


@register_custom_op
class StoredMVAU_rtl(StoredModule, MVAU_rtl):  # noqa: N801 - FINN finds back ends by this spelling
    """`bitward_mvau`: memory of stored words -> registered voter or decoder -> FINN's MVU."""

    module = "bitward_mvau"
    stores = "MVAU"

    def get_nodeattr_types(self) -> dict:
        """FINN's MVAU_rtl attributes and those of a stored module."""
        return {**MVAU_rtl.get_nodeattr_types(self), **StoredModule.get_nodeattr_types(self)}

    def execute_node(self, context: dict, graph: object) -> None:
        """Multiply in numpy, as FINN's abstract operator does."""
        MVAU.execute_node(self, context, graph)

    def lanes(self) -> int:
        """PE * SIMD weights a row."""
        return int(self.get_nodeattr("PE") * self.get_nodeattr("SIMD"))

    def depth(self) -> int:
        """Row (output fold, input fold)."""
        return int(self.get_nodeattr("MW") * self.get_nodeattr("MH")) // self.lanes()

    def axes(self, parameter: Parameter) -> Axes:
        """Weight (row, column) of the matrix where FINN's unit reads it."""
        return mvau_axes(parameter.columns, parameter.rows, self.get_nodeattr("PE"), self.get_nodeattr("SIMD"))

    def rows_per_image(self) -> int:
        """Every row once for each vector."""
        return self.depth() * math.prod(int(size) for size in self.get_nodeattr("numInputVectors"))

    def parameters(self, fpgapart: str) -> dict[str, _module.Parameter]:
        """Parameters of `bitward_mvau`. ModelError for types that no DSP slice of the part takes."""
        self._check(get_dsp_block(fpgapart))
        datatype = self.get_input_datatype(0)
        return {
            "Mw": self.get_nodeattr("MW"),
            "Mh": self.get_nodeattr("MH"),
            "Pe": self.get_nodeattr("PE"),
            "Simd": self.get_nodeattr("SIMD"),
            "ActBits": datatype.bitwidth(),
            "ActSigned": int(datatype.signed()),
            "AccBits": self.get_output_datatype().bitwidth(),
            "DspVersion": {"DSP48E1": 1, "DSP48E2": 2}.get(get_dsp_block(fpgapart), 3),
            **self.storage(),
        }

    def _check(self, block: str) -> None:
        """FINN's unit would cut off wider numbers without a word."""
        most_act, _, most_sum = get_dsp_datapath_limits(block)
        source, weight, result = (self.get_input_datatype(0), self.get_input_datatype(1), self.get_output_datatype())
        act_bits = source.bitwidth() + (not source.signed())  # the port is signed
        if act_bits > most_act or result.bitwidth() > most_sum or not weight.signed():
            raise ModelError(
                f"{where(self.onnx_node)} must have inputs of up to {most_act} bits, sign included, signed weights and "
                f"sums of up to {most_sum} bits on {block}, got {source.name}, {weight.name} and {result.name}: "
                "quantize before."
            )

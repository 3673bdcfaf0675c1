# SPDX-License-Identifier: Apache-2.0
"""A depthwise unit whose weights lie in memory as stored words of a Scheme (FINN+ has one in RTL for Versal alone)."""

from __future__ import annotations

import math

from finn.custom_op.fpgadataflow.rtl import register_custom_op
from finn.custom_op.fpgadataflow.vectorvectoractivation import VVAU

from bitward.errors import ModelError
from bitward.hardware.ops import _module
from bitward.hardware.ops._folding import checked_simd, where
from bitward.hardware.ops._stored import Axes, StoredModule
from bitward.hardware.parameters import Parameter
from bitward.indexmap import mvau_axes


@register_custom_op
class StoredVVAU_rtl(StoredModule, VVAU):  # noqa: N801 - FINN finds back ends by this spelling
    """`bitward_vvau` behind a depthwise ConvolutionInputGenerator whose SIMD is this node's PE.

    With SIMD > 1 the generator must send all taps of a window in parallel (`parallel_window`). The weights of a beat
    are one row of memory, that of channel p and tap s in lane p*SIMD + s; the rows of a channel fold follow each other.
    """

    module = "bitward_vvau"
    stores = "VVAU"

    def get_nodeattr_types(self) -> dict:
        """FINN's VVAU attributes and those of a stored module."""
        return {**VVAU.get_nodeattr_types(self), **StoredModule.get_nodeattr_types(self)}

    def execute_node(self, context: dict, graph: object) -> None:
        """Multiply in numpy, as FINN's abstract operator does."""
        VVAU.execute_node(self, context, graph)

    def taps(self) -> int:
        """Taps of a window."""
        return math.prod(int(size) for size in self.get_nodeattr("Kernel"))

    def lanes(self) -> int:
        """PE * SIMD weights a row."""
        return int(self.get_nodeattr("PE") * self.get_nodeattr("SIMD"))

    def depth(self) -> int:
        """Row (channel fold, tap fold)."""
        return int(self.taps() * self.get_nodeattr("Channels")) // self.lanes()

    def axes(self, parameter: Parameter) -> Axes:
        """Weight (tap, channel) of the matrix where the unit reads it."""
        return mvau_axes(parameter.columns, parameter.rows, self.get_nodeattr("PE"), self.get_nodeattr("SIMD"))

    def rows_per_image(self) -> int:
        """Every row once for each window."""
        return self.depth() * math.prod(int(size) for size in self.get_nodeattr("Dim"))

    def parameters(self, fpgapart: str) -> dict[str, _module.Parameter]:
        """Parameters of `bitward_vvau`. ModelError for a folding, an activation or types that it has not."""
        self._check()
        datatype = self.get_input_datatype(0)
        return {
            "Taps": self.taps(),
            "Channels": self.get_nodeattr("Channels"),
            "Pe": self.get_nodeattr("PE"),
            "Simd": self.get_nodeattr("SIMD"),
            "ActBits": datatype.bitwidth(),
            "ActSigned": int(datatype.signed()),
            "AccBits": self.get_output_datatype().bitwidth(),
            **self.storage(),
        }

    def _check(self) -> None:
        node, channels, pe = self.onnx_node, self.get_nodeattr("Channels"), self.get_nodeattr("PE")
        checked_simd(node, self.get_nodeattr("SIMD"), [self.taps()], what="taps")
        if pe < 1 or channels % pe != 0:
            raise ModelError(
                f"{where(node)} must have a PE that divides {channels} channels, got {pe}: fold by a divisor."
            )
        if not self.get_nodeattr("noActivation"):
            raise ModelError(f"{where(node)} must have no thresholds of its own, got noActivation=0: keep them apart.")
        weight, result = self.get_input_datatype(1), self.get_output_datatype()
        if not weight.signed():
            raise ModelError(f"{where(node)} must have signed weights, got {weight.name}: quantize them so.")
        low, high = self.sum_range()
        if not (result.min() <= low and high <= result.max()):
            raise ModelError(
                f"{where(node)} must have an output type for sums of any weights, {low} to {high}, got {result.name}: "
                "widen it."
            )

    def sum_range(self) -> tuple[int, int]:
        """The least and the greatest sum that any weight words, upset or rewritten ones too, can give."""
        bits, source = self.get_input_datatype(1).bitwidth(), self.get_input_datatype(0)
        weights = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        products = [weight * int(act) for weight in weights for act in (source.min(), source.max())]
        return self.taps() * min(products), self.taps() * max(products)

# SPDX-License-Identifier: Apache-2.0
"""Integer sums and products, element by element, in RTL (FINN+ has RTL for floats on Versal only)."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from finn.custom_op.fpgadataflow.elementwise_binary import ElementwiseAdd, ElementwiseBinaryOperation, ElementwiseMul
from finn.custom_op.fpgadataflow.rtl import register_custom_op

from bitward.errors import ModelError
from bitward.hardware.ops._folding import where
from bitward.hardware.ops._module import Parameter, RtlModule


class _Elementwise(RtlModule, ElementwiseBinaryOperation):
    """`bitward_elementwise` for two streams of one shape, or `bitward_constant` where `rhs_style` is "const".

    A constant is the right operand: one integer, or one a channel (the last axis). It becomes logic, no memory, and the
    attribute `constants` holds it once the node's RTL is generated: the engine reads it there.
    """

    @property
    def module(self) -> str:  # type: ignore[override]  # it depends on an attribute
        """The module that joins two streams, or the one that holds constants."""
        return "bitward_constant" if self.rhs_style == "const" else "bitward_elementwise"

    def get_nodeattr_types(self) -> dict:
        """FINN's attributes, those of an RTL back end, and `constants`."""
        own: dict[str, tuple[object, ...]] = {"constants": ("ints", False, [])}
        return {
            **ElementwiseBinaryOperation.get_nodeattr_types(self),
            **RtlModule.get_nodeattr_types(self),
            **own,
        }

    def execute_node(self, context: dict, graph: object) -> None:
        """Compute in numpy, as FINN's abstract operator does."""
        ElementwiseBinaryOperation.execute_node(self, context, graph)

    def generate_hdl(self, model: Any, fpgapart: str, clk: float) -> None:
        """The node is an instance of its module; constants, which must be integers, come from the initializer."""
        if self.rhs_style == "const":
            values = np.asarray(model.get_initializer(self.onnx_node.input[1])).reshape(-1)
            if np.any(values != np.rint(values)):
                raise ModelError(
                    f"{where(self.onnx_node)} must have integer constants, got {values[values != np.rint(values)][0]}: "
                    "leave the fraction to the scale behind it."
                )
            self.set_nodeattr("constants", [int(value) for value in values])
        super().generate_hdl(model, fpgapart, clk)

    def parameters(self, fpgapart: str) -> dict[str, Parameter]:
        """Parameters of the module. Raises ModelError for shapes it cannot join and for results beyond `out_dtype`."""
        self._check_shapes()
        constants = [int(value) for value in self.get_nodeattr("constants")]
        self._check_results(constants)
        lhs, out_bits, multiply = self.lhs_dtype, self.out_dtype.bitwidth(), int(self._operation[0] == "Mul")
        if self.rhs_style == "input":
            rhs = self.rhs_dtype
            return {
                "Multiply": multiply,
                "Pe": self.pe,
                "Bits0": lhs.bitwidth(),
                "Signed0": int(lhs.signed()),
                "Bits1": rhs.bitwidth(),
                "Signed1": int(rhs.signed()),
                "OutBits": out_bits,
            }
        lanes = constants if len(constants) > 1 else constants * self.pe  # one for all: every beat is alike
        return {
            "Multiply": multiply,
            "Channels": len(lanes),
            "Pe": self.pe,
            "Bits": lhs.bitwidth(),
            "Signed": int(lhs.signed()),
            "OutBits": out_bits,
            "Constants": sum(value % 2**out_bits << at * out_bits for at, value in enumerate(lanes)),
        }

    def _check_shapes(self) -> None:
        lhs, rhs, channels = list(self.lhs_shape), list(self.rhs_shape), self.out_shape[-1]
        if self.lhs_style != "input":
            raise ModelError(
                f"{where(self.onnx_node)} must have its constant on the right, got lhs_style const: swap the operands."
            )
        is_one_a_channel = math.prod(rhs) in (1, channels) and rhs[-1] == math.prod(rhs)
        if lhs != list(self.out_shape) or not (rhs == lhs or self.rhs_style == "const" and is_one_a_channel):
            raise ModelError(
                f"{where(self.onnx_node)} must join two streams of one shape, or a stream with one constant or "
                f"one for each of its {channels} channels, got {lhs} and {rhs}: bring both to one shape first."
            )

    def _check_results(self, constants: list[int]) -> None:
        left = int(self.lhs_dtype.min()), int(self.lhs_dtype.max())
        right = (int(self.rhs_dtype.min()), int(self.rhs_dtype.max())) if self.rhs_style == "input" else constants
        if not right:
            raise ModelError(
                f"{where(self.onnx_node)} must hold its constants, got none: generate its RTL (PrepareIP) first."
            )
        results = [int(self.npy_op(a, b)) for a, b in itertools.product(left, right)]
        if not all(self.out_dtype.allowed(result) for result in results):
            raise ModelError(
                f"{where(self.onnx_node)} must have an out_dtype that holds {min(results)} to {max(results)}, got "
                f"{self.out_dtype.name}: widen it."
            )


@register_custom_op
class ElementwiseAdd_rtl(_Elementwise, ElementwiseAdd):  # noqa: N801 - FINN finds back ends by this spelling
    """Integer sum. It stands in the place of FINN's back end of that name, which adds floats with Versal's DSP58."""


@register_custom_op
class ElementwiseMul_rtl(_Elementwise, ElementwiseMul):  # noqa: N801 - FINN finds back ends by this spelling
    """Integer product. It stands in the place of FINN's back end of that name, which needs Versal's DSP58."""

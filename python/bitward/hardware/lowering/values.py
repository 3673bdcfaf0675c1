# SPDX-License-Identifier: Apache-2.0
"""What is known of a tensor while lowering: the integers that hardware has, and how QONNX's floats come from them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitward.engine.datatypes import IntegerType
from bitward.errors import ModelError

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Deferred:
    """An element-wise node of the QONNX graph that is not done yet: it never makes a smaller value of a greater one.

    `data` is the index of the input that carries the tensor; `constants` are the other inputs by their names, each of
    shape () or (channels,).
    """

    node: Any
    data: int
    constants: dict[str, NDArray[Any]]

    @property
    def is_per_channel(self) -> bool:
        """Whether channels are treated differently."""
        return any(constant.ndim for constant in self.constants.values())

    def constant(self, position: int) -> NDArray[Any]:
        """The constant at that input."""
        return self.constants[self.node.input[position]]


@dataclass(frozen=True, eq=False)
class Value:
    """A float tensor of the QONNX graph: `pending`, in turn, of `scale` times the integers `tensor` of the hardware.

    The integers are of `type`, from `low` to `high` whatever the weights are, in `shape` (1, H, W, C) or (1, C);
    `scale` has shape () or (C,). `axes` are the float tensor's own: "NCHW", "NHWC" or "NC"; `is_flat` when all but the
    first were flattened into one. `origin` names the layer that the integers come from.
    """

    tensor: str
    type: IntegerType
    low: int
    high: int
    shape: tuple[int, ...]
    axes: str
    scale: NDArray[np.float64] = field(default_factory=lambda: np.ones(()))
    pending: tuple[Deferred, ...] = ()
    is_flat: bool = False
    origin: str = "input"

    @property
    def channels(self) -> int:
        """How many channels the integers have."""
        return self.shape[-1]

    @property
    def vectors(self) -> list[int]:
        """The shape without channels, as FINN's numInputVectors has it."""
        return list(self.shape[:-1])

    @property
    def float_shape(self) -> tuple[int, ...]:
        """The float tensor's shape."""
        sizes = dict(zip("NHWC" if len(self.shape) == 4 else "NC", self.shape, strict=True))
        shape = [sizes[axis] for axis in self.axes]
        return (shape[0], int(np.prod(shape[1:]))) if self.is_flat else tuple(shape)

    def then(self, deferred: Deferred) -> Value:
        """The value after one more operation."""
        return replace(self, pending=(*self.pending, deferred))

    def uniform_scale(self, where: str) -> float:
        """The scale of all channels; ModelError names `where` when they differ."""
        if not np.allclose(self.scale, self.scale.flat[0], rtol=1e-6, atol=0):
            raise ModelError(
                f"{where} must take activations of one scale, got scales from {self.scale.min():g} to "
                f"{self.scale.max():g}: quantize them per tensor, or share one quantizer."
            )
        return float(self.scale.flat[0])


def unused(name: str, taken: Collection[str]) -> str:
    """`name`, or `name_2`, `name_3` ... where others have that name already.

    >>> unused("a", {"b"}), unused("a", {"a", "a_2"})
    ('a', 'a_3')
    """
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def smallest(low: int, high: int, signed: bool | None = None) -> IntegerType:
    """The smallest type, `signed` if so asked, that holds `low` to `high`.

    >>> str(smallest(-120, 105)), str(smallest(0, 15)), str(smallest(0, 15, signed=True))
    ('INT8', 'UINT4', 'INT5')
    """
    if low >= 0 and not signed:
        return IntegerType(max(1, high.bit_length()), False)
    return IntegerType(max((-low - 1).bit_length() if low < 0 else 0, max(high, 0).bit_length()) + 1, True)

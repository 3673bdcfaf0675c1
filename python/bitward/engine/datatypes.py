# SPDX-License-Identifier: Apache-2.0
"""Integer types of streams, as FINN names them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.errors import ModelError

Stream = npt.NDArray[np.integer[Any]]
"""Integers that pass one place of the hardware, shape (images, elements an image), in the order of their passing."""


@dataclass(frozen=True)
class IntegerType:
    """Integers of `bits` bits, two's complement if `signed`.

    >>> IntegerType.parse("INT4", "node a")
    IntegerType(bits=4, signed=True)
    """

    bits: int
    signed: bool

    @classmethod
    def parse(cls, name: str, where: str) -> IntegerType:
        """The type of that FINN name; ModelError names `where` if it is no integer of 1 to 63 bits."""
        match = re.fullmatch(r"(U?)INT([1-9]|[1-5]\d|6[0-3])", "UINT1" if name == "BINARY" else name)
        if match is None:
            raise ModelError(f"{where} must be INT or UINT of 1 to 63 bits, got {name}; quantize to integers")
        return cls(int(match[2]), not match[1])

    def __str__(self) -> str:
        return f"{'INT' if self.signed else 'UINT'}{self.bits}"

    @property
    def low(self) -> int:
        """The least integer."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """The greatest integer."""
        return self.low + (1 << self.bits) - 1

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The smallest numpy type that holds it."""
        return next(np.dtype(f"i{size}") for size in (1, 2, 4, 8) if self.bits + (not self.signed) <= 8 * size)

    def wrap(self, numbers: npt.NDArray[np.int64]) -> Stream:
        """The low `bits` bits of each number, read as this type: what a register of that width keeps."""
        return ((numbers - self.low & (1 << self.bits) - 1) + self.low).astype(self.dtype)

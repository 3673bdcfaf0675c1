# SPDX-License-Identifier: Apache-2.0
"""One fault: a bit of a row of a memory that is inverted, or stuck."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from bitward.errors import FormatError

Kind = Literal["flip", "stuck0", "stuck1"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_SUFFIX: dict[Kind, str] = {"flip": "", "stuck0": "=0", "stuck1": "=1"}
_KIND_OF = {suffix: kind for kind, suffix in _SUFFIX.items()}


@dataclass(frozen=True, order=True)
class Fault:
    """Bit `bit` of row `word` of memory `memory` is inverted, or stuck; copies and check bits are bits of the row too.

    >>> str(Fault("conv1", 3, 17)), str(Fault("conv1", 3, 17, "stuck0"))
    ('conv1:3:17', 'conv1:3:17=0')
    >>> Fault.parse("conv1:3:17=1")
    Fault(memory='conv1', word=3, bit=17, kind='stuck1')
    """

    memory: str
    word: int
    bit: int
    kind: Kind = "flip"

    def __post_init__(self) -> None:
        if self.kind not in _SUFFIX:
            raise FormatError(f"a fault's kind must be one of {', '.join(KINDS)}, got {self.kind!r}; take flip")

    def __str__(self) -> str:
        return f"{self.memory}:{self.word}:{self.bit}{_SUFFIX[self.kind]}"

    def hit(self, row: int) -> int:
        """The row's bits with the fault in them.

        >>> Fault("conv1", 0, 2).hit(0b101), Fault("conv1", 0, 2, "stuck1").hit(0b101)
        (1, 5)
        """
        mask = 1 << self.bit
        if self.kind == "flip":
            return row ^ mask
        return row & ~mask if self.kind == "stuck0" else row | mask

    @classmethod
    def parse(cls, text: str) -> Fault:
        """The fault that `str` wrote; FormatError otherwise."""
        match = re.fullmatch(r"(.+):(\d+):(\d+)(=[01])?", text)
        if match is None:
            raise FormatError(
                f"a fault must be memory:word:bit, or memory:word:bit=0 or =1 where stuck, got {text!r}; for example "
                "conv1:3:17"
            )
        return cls(match[1], int(match[2]), int(match[3]), _KIND_OF[match[4] or ""])


def suffix(kind: Kind) -> str:
    """What the text of a fault of that kind ends in."""
    return _SUFFIX[kind]

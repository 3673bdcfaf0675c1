# SPDX-License-Identifier: Apache-2.0
"""The faults of one trial: as arrays where they are many, and as a line of text."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, repeat
from typing import overload

import numpy as np
import numpy.typing as npt

from bitward.faults.fault import Fault, Kind, suffix

Indices = npt.NDArray[np.int64]


class Faults(Sequence[Fault]):
    """Faults memory by memory, all of one kind; `places` are (rows, bits) of each memory, arrays of shape (n,).

    A bit error rate of 1e-3 on 11 million weights is 357,000 faults a trial: as arrays they are drawn and written in a
    fraction of the time that as many objects take. Equal to a tuple of the same faults; objects are made for whoever
    asks for one.

    >>> Faults({"conv1": (np.array([3, 4]), np.array([17, 0]))})[0]
    Fault(memory='conv1', word=3, bit=17, kind='flip')
    """

    def __init__(self, places: Mapping[str, tuple[Indices, Indices]], kind: Kind = "flip") -> None:
        self.places = dict(places)
        self.kind = kind

    def of_kind(self, kind: Kind) -> Faults:
        """The same bits, hit in another way."""
        return Faults(self.places, kind)

    def __len__(self) -> int:
        return sum(len(words) for words, _ in self.places.values())

    @overload
    def __getitem__(self, place: int) -> Fault: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Fault, ...]: ...

    def __getitem__(self, place: int | slice) -> Fault | tuple[Fault, ...]:
        if isinstance(place, slice):
            return tuple(self)[place]
        at = range(len(self))[place]
        ends = list(accumulate(len(words) for words, _ in self.places.values()))
        which = bisect_right(ends, at)
        memory, (words, bits) = list(self.places.items())[which]
        return Fault(memory, int(words[at - ends[which]]), int(bits[at - ends[which]]), self.kind)

    def __iter__(self) -> Iterator[Fault]:
        return (Fault(memory, word, bit, self.kind) for memory, word, bit in self._rows())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (tuple, Faults)) and len(self) == len(other) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"<{len(self)} faults in {len(self.places)} memories>"

    def texts(self) -> list[str]:
        """Each fault as `str` writes it."""
        end = suffix(self.kind)
        return [f"{memory}:{word}:{bit}{end}" for memory, word, bit in self._rows()]

    def _rows(self) -> Iterator[tuple[str, int, int]]:
        for memory, (words, bits) in self.places.items():
            yield from zip(repeat(memory), words.tolist(), bits.tolist())


def fault_text(faults: Iterable[Fault]) -> str:
    """The faults of a trial as one line, which `parse_trial` reads.

    >>> fault_text([Fault("conv1", 3, 17), Fault("fc", 0, 1, "stuck0")])
    'conv1:3:17 fc:0:1=0'
    """
    return " ".join(faults.texts() if isinstance(faults, Faults) else map(str, faults))


def faults_sha256(faults: Iterable[Fault]) -> str:
    """The sha256 of a trial's faults, as `fault_text` writes them."""
    return hashlib.sha256(fault_text(faults).encode()).hexdigest()


def parse_trial(text: str) -> tuple[Fault, ...]:
    """The faults in a line that `fault_text` wrote; FormatError otherwise."""
    return tuple(map(Fault.parse, text.split()))

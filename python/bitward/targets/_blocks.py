# SPDX-License-Identifier: Apache-2.0
"""Many rows at once: where a trial's faults lie, and what they do to the words of those rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitward.errors import ManifestError
from bitward.faults import Fault, Faults, Kind
from bitward.manifest import Hardware, Manifest, Memory
from bitward.words import SEGMENT_BITS

Words = npt.NDArray[np.uint32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """Rows of a memory in hardware; their words follow each other row by row, segment 0 first."""

    memory: Memory
    place: Hardware
    rows: Rows

    @property
    def segments(self) -> int:
        """Words a row."""
        return self.memory.segments


@dataclass(frozen=True)
class Hit:
    """What faults do to a block: each word becomes (word & ~clear) ^ flip; both of shape (rows, segments)."""

    block: Block
    flips: Words
    clears: Words


def hits_of(faults: Sequence[Fault], manifest: Manifest) -> list[Hit]:
    """Each memory's share of the faults, as if they came one after another; ManifestError for a place that is none."""
    if isinstance(faults, Faults):
        return [_hit(manifest, name, *places, faults.kind) for name, places in faults.places.items() if len(places[0])]
    kinds: dict[Kind, dict[str, list[Fault]]] = {}
    for fault in faults:
        kinds.setdefault(fault.kind, {}).setdefault(fault.memory, []).append(fault)
    if len(kinds) == 1:
        ((kind, memories),) = kinds.items()
        return [_hit(manifest, name, *_places(found), kind) for name, found in memories.items()]
    return [_in_order(manifest, name, [fault for fault in faults if fault.memory == name]) for name in _names(faults)]


def block_of(manifest: Manifest, name: str, rows: npt.ArrayLike | None = None) -> Block:
    """Those rows of a memory, or all of them; ManifestError where it has none such, or is software-only."""
    memory = manifest.memory(name)
    if memory.hardware is None:
        raise ManifestError(f"memory {name} must be in hardware, got a software-only one; build the model first")
    if rows is None:
        return Block(memory, memory.hardware, np.arange(memory.depth, dtype=np.int64))
    found = np.asarray(rows, dtype=np.int64)
    _check("word", name, found, memory.depth)
    return Block(memory, memory.hardware, found)


def _hit(manifest: Manifest, name: str, words: npt.ArrayLike, bits: npt.ArrayLike, kind: Kind) -> Hit:
    rows, which = np.unique(np.asarray(words, dtype=np.int64), return_inverse=True)
    block = block_of(manifest, name, rows)
    at = np.asarray(bits, dtype=np.int64)
    _check("bit", name, at, block.memory.width)
    flips, clears = _nothing(block), _nothing(block)
    place, mask = (which, at // SEGMENT_BITS), np.uint32(1) << (at % SEGMENT_BITS).astype(np.uint32)
    if kind == "flip":
        np.bitwise_xor.at(flips, place, mask)  # twice is not at all
    else:
        np.bitwise_or.at(clears, place, mask)
        if kind == "stuck1":
            np.bitwise_or.at(flips, place, mask)
    return Hit(block, flips, clears)


def _in_order(manifest: Manifest, name: str, faults: Sequence[Fault]) -> Hit:
    """Faults of several kinds in one memory: the last one that sticks a bit decides, flips before it are undone."""
    rows = np.unique([fault.word for fault in faults])
    block = block_of(manifest, name, rows)
    _check("bit", name, np.array([fault.bit for fault in faults]), block.memory.width)
    flips, clears = _nothing(block), _nothing(block)
    where = {int(row): number for number, row in enumerate(rows)}
    for fault in faults:
        place, mask = (where[fault.word], fault.bit // SEGMENT_BITS), np.uint32(1 << fault.bit % SEGMENT_BITS)
        if fault.kind == "flip":
            flips[place] ^= mask
        else:
            clears[place] |= mask
            flips[place] = flips[place] | mask if fault.kind == "stuck1" else flips[place] & ~mask
    return Hit(block, flips, clears)


def _nothing(block: Block) -> Words:
    return np.zeros((len(block.rows), block.segments), np.uint32)


def _places(faults: Sequence[Fault]) -> tuple[list[int], list[int]]:
    return [fault.word for fault in faults], [fault.bit for fault in faults]


def _names(faults: Sequence[Fault]) -> list[str]:
    return list(dict.fromkeys(fault.memory for fault in faults))


def _check(what: str, memory: str, values: npt.NDArray[np.int64], limit: int) -> None:
    wrong = values[(values < 0) | (values >= limit)]
    if len(wrong):
        raise ManifestError(
            f"{what} must be 0 to {limit - 1} in memory {memory}, got {wrong[0]}; take faults from bitward.faults"
        )

# SPDX-License-Identifier: Apache-2.0
"""What faults make of parameters: only the rows that they hit are read, and no memory is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bitward.engine.images import Image, StoredImages
from bitward.engine.ops import StoredOp
from bitward.engine.ops._op import Parameters
from bitward.engine.order import Indices
from bitward.faults import Fault, Kind, Trial
from bitward.words import SEGMENT_BITS, segments_of


@dataclass(frozen=True)
class Changed:
    """Parameters of one step that hold other values: flat indices and values, one entry each."""

    index: Indices
    value: Indices

    def patched(self, parameters: Parameters) -> Parameters:
        """All parameters of the step."""
        found = parameters.copy()
        found.ravel()[self.index] = self.value
        return found


class Hits:
    """The parameters that trials change, from golden images."""

    def __init__(self, ops: Sequence[tuple[int, StoredOp]], stored: StoredImages) -> None:
        """`ops` are the steps, by number, that read a memory."""
        self._ops = {op.memory.name: (step, op) for step, op in ops}
        self._stored = stored

    def of(self, trials: Sequence[Trial]) -> list[dict[int, Changed]]:
        """By trial: what it changes, by step; none where the redundancy masks it, or nothing reads it."""
        found: list[dict[int, Changed]] = [{} for _ in trials]
        singles: dict[str, list[int]] = {}
        for number, faults in enumerate(trials):
            if len(faults) == 1:
                singles.setdefault(faults[0].memory, []).append(number)
            else:
                self._several(faults, found[number])
        for memory, numbers in singles.items():
            self._single(memory, [trials[number][0] for number in numbers], [found[number] for number in numbers])
        return found

    def _single(self, memory: str, faults: list[Fault], found: list[dict[int, Changed]]) -> None:
        """One fault a trial, all in one memory."""
        words = np.array([fault.word for fault in faults])
        rows = self._stored.golden_image(memory)[words]
        at, bits = np.arange(len(faults)), np.array([fault.bit for fault in faults])
        segment, mask = bits // SEGMENT_BITS, np.uint32(1) << (bits % SEGMENT_BITS).astype(np.uint32)
        held = rows[at, segment]
        hit: dict[Kind, Image] = {"flip": held ^ mask, "stuck0": held & ~mask, "stuck1": held | mask}
        kinds = list(hit)
        rows[at, segment] = np.choose([kinds.index(fault.kind) for fault in faults], list(hit.values()))
        step, _ = self._ops[memory]
        for each, index, value in self._read(memory, words, rows):
            found[each][step] = Changed(index, value)

    def _several(self, faults: Trial, found: dict[int, Changed]) -> None:
        """Several faults of one trial, one after the other."""
        beats: dict[str, dict[int, int]] = {}
        for fault in faults:
            rows = beats.setdefault(fault.memory, {})
            held = rows.get(fault.word)
            rows[fault.word] = fault.hit(self._stored.golden(fault.memory, fault.word) if held is None else held)
        for memory, rows in beats.items():
            step, op = self._ops[memory]
            segments = [segments_of(beat, op.memory.segments) for beat in rows.values()]
            read = self._read(memory, np.array(list(rows)), np.array(segments, np.uint32))
            entries = [(index, value) for _, index, value in read]
            if entries:
                index, value = (np.concatenate(each) for each in zip(*entries, strict=True))
                found[step] = Changed(index, value)

    def _read(self, memory: str, words: Indices, rows: Image) -> list[tuple[int, Indices, Indices]]:
        """(place in `words`, flat indices, values) of the parameters that rows change, each by itself."""
        _, op = self._ops[memory]
        golden = op.integers(self._stored.golden_image(memory)[words])
        now = op.integers(rows)
        found: dict[int, list[tuple[Indices, int]]] = {}
        for at, lane in np.argwhere(golden != now).tolist():
            found.setdefault(at, []).append((op.entries(int(words[at]), lane), int(now[at, lane])))
        read = []
        for at, lanes in found.items():
            index = np.concatenate([entries for entries, _ in lanes])
            value = np.concatenate([np.full(len(entries), value) for entries, value in lanes])
            if len(index):  # else what nothing reads
                read.append((at, index, value))
        return read

# SPDX-License-Identifier: Apache-2.0
"""StoredThresholding_rtl: the place of each element in a list of thresholds, by binary search as the RTL does it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from bitward.engine.datatypes import IntegerType, Stream
from bitward.engine.images import Image
from bitward.engine.ops._op import Attributes, Channelwise, Parameters, StoredOp, builds, signed_words, stored_in
from bitward.engine.order import Indices
from bitward.errors import ManifestError, ModelError
from bitward.manifest import Memory

TABLE_RESULTS = 1 << 22  # that a table holds at most
INT32_BITS = 31  # of elements that numpy's int32 holds, and their distance to another


@dataclass(frozen=True)
class Table:
    """Results by element: that of element e of channel c is `results[min(max(e, low[c]), high[c]) + shift[c]]`."""

    results: Stream
    low: Indices
    high: Indices
    shift: Indices
    tiled: dict[int, tuple[npt.NDArray[np.int32], ...]] = field(default_factory=dict)  # bounds of images, by their size

    def of(self, stream: Stream) -> Stream:
        """The results of a stream whose channels are those of the table, over and over."""
        low, high, shift = self._bounds(stream.shape[1] // len(self.low))
        place = np.maximum(stream, low, dtype=np.int32)
        np.minimum(place, high, out=place)
        place += shift
        return self.results.take(place)

    def _bounds(self, vectors: int) -> tuple[npt.NDArray[np.int32], ...]:
        """The bounds of every element of an image: numpy is quicker with long ones."""
        if vectors not in self.tiled:
            ends = (self.low, self.high, self.shift)
            self.tiled[vectors] = tuple(np.tile(each.astype(np.int32), vectors) for each in ends)
        return self.tiled[vectors]


@dataclass(frozen=True)
class Lists:
    """The thresholds of each channel, with the table of their results where there is one."""

    lists: Parameters
    table: Table | None = None


@dataclass(frozen=True)
class StoredThresholding(StoredOp, Channelwise):
    """Elements become `bias` + the result of a search over `steps` thresholds of their own list.

    `bitward_thresholding.sv`: from the top result bit s down, threshold `result + 2^s - 1` is compared and bit s is set
    if it is not above the element; thresholds that do not exist never set a bit. On a sorted list that counts the
    thresholds that are not above; after an upset the list may be unsorted, and it does not.

    Row {fold, lane, index} of the memory, lane and index of whole bits, holds a threshold of channel fold*pe + lane;
    with one fold for more channels than lanes, channel c uses the list of lane c % pe.
    """

    channels: int
    pe: int
    steps: int
    bias: int
    threshold: IntegerType
    channel_axis: ClassVar[int] = 0
    forgets: ClassVar[bool] = True

    @property
    def levels(self) -> int:
        """Stages of the search."""
        return self.steps.bit_length()

    @property
    def list_rows(self) -> int:
        """Rows of one list for every lane."""
        return 1 << (self.pe - 1).bit_length() + self.levels

    def folds(self) -> int:
        """Lists a lane holds; ManifestError where the memory's depth is neither that of one nor of all."""
        folds = next((n for n in (self.channels // self.pe, 1) if self.memory.depth == n * self.list_rows), 0)
        if not folds:
            raise ManifestError(
                f"memory {self.memory.name} must have {self.list_rows} rows, or as many for each of "
                f"{self.channels // self.pe} channel folds of node {self.node}, got {self.memory.depth}; take "
                "manifest and graph of one build"
            )
        return folds

    def integers(self, image: Image) -> npt.NDArray[np.int64]:
        words = self.words(image)
        return signed_words(words, self.threshold.bits) if self.threshold.signed else words.astype(np.int64)

    def arranged(self, integers: npt.NDArray[np.int64]) -> Parameters:
        """The list of each channel, shape (channels, 2^levels), int64; places behind `steps` are never used."""
        folds = self.folds()
        held = integers.reshape(folds, -1, 1 << self.levels)[:, : self.pe].reshape(folds * self.pe, -1)
        return np.asarray(held[np.arange(self.channels) % len(held)])

    def run(self, stream: Stream, parameters: Parameters | None) -> Stream:
        elements = stream.reshape(-1, self.channels).astype(np.int64)
        return self._searched(elements, np.asarray(parameters)).reshape(len(stream), self.outputs)

    def _searched(self, elements: npt.NDArray[np.int64], lists: Parameters) -> Stream:
        """The result of each element, shape (vectors, channels), in its channel's list."""
        first = np.arange(lists.shape[0]) << self.levels  # each channel's list in the flat table
        found = np.zeros_like(elements)
        for level in reversed(range(self.levels)):
            at = found + ((1 << level) - 1)
            taken = (lists.take(first + at) <= elements) & (at < self.steps)
            found |= taken.astype(np.int64) << level
        return (found + self.bias).astype(self.result.dtype)

    def ready(self, parameters: Parameters | None, elements: int) -> Lists:
        """The lists, with the results of all elements that matter where those are fewer than `elements`.

        No result changes below a list's least threshold, or above its greatest.
        """
        lists = np.asarray(parameters)
        low, high = lists[:, : self.steps].min(axis=1) - 1, lists[:, : self.steps].max(axis=1)
        spans = high - low + 1
        is_small = self.source.bits <= INT32_BITS and max(-int(low.min()), int(high.max())) < 1 << INT32_BITS - 1
        if not is_small or spans.sum() > min(elements, TABLE_RESULTS):
            return Lists(lists)
        reached = low + np.arange(spans.max())[:, None]
        results = self._searched(np.minimum(reached, high), lists).T[np.arange(spans.max()) < spans[:, None]]
        return Lists(lists, Table(results, low, high, np.cumsum(spans) - spans - low))

    def ready_of(self, ready: Lists, channels: Indices) -> Lists:
        table = ready.table
        if table is None:
            return Lists(ready.lists[channels])
        low, high, shift = (each[channels] for each in (table.low, table.high, table.shift))
        return Lists(ready.lists[channels], Table(table.results, low, high, shift))

    def apply_ready(self, streams: tuple[Stream, ...], ready: Lists) -> tuple[Stream, ...]:
        if ready.table is None:
            return self.apply(streams, ready.lists)
        return (ready.table.of(streams[0]),)


@builds("StoredThresholding_rtl")
def stored_thresholding(attributes: Attributes, memory: Memory | None) -> StoredThresholding:
    """The operator of a StoredThresholding_rtl node."""
    channels = attributes.number("NumChannels")
    elements = attributes.size("numInputVectors", (1,)) * channels
    op = StoredThresholding(
        node=attributes.node,
        inputs=elements,
        outputs=elements,
        source=attributes.type("inputDataType"),
        result=attributes.type("outputDataType"),
        memory=stored_in(attributes, memory),
        channels=channels,
        pe=attributes.number("PE"),
        steps=attributes.number("numSteps"),
        bias=attributes.number("ActVal", 0),
        threshold=attributes.type("weightDataType"),
    )
    op.check_rows(op.memory.depth, lanes=1, bits=op.threshold.bits)
    op.folds()
    if op.bias < op.result.low or op.bias + op.steps > op.result.high:
        raise ModelError(
            f"{attributes.where} must have results {op.bias} to {op.bias + op.steps} in its type, got {op.result}; "
            "build again"
        )
    return op

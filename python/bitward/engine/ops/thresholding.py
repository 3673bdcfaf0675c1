# SPDX-License-Identifier: Apache-2.0
"""Thresholding_rtl: the place of each element in a list of thresholds, found by binary search as the RTL does it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitward.engine.datatypes import IntegerType, Stream
from bitward.engine.images import Image
from bitward.engine.ops._op import Attributes, Parameters, StoredOp, builds, signed_words, stored_in
from bitward.errors import ManifestError, ModelError
from bitward.manifest import Memory


def _clog2(number: int) -> int:
    return (number - 1).bit_length()


@dataclass(frozen=True)
class Thresholding(StoredOp):
    """Elements become `bias` + the result of a search over `steps` thresholds of their own list.

    finn-rtllib's `thresholding.sv`: from the top result bit down, stage s compares threshold `result + 2^s - 1` and
    sets bit s if it is not above the element; thresholds that do not exist never set a bit. On a sorted list that
    counts the thresholds that are not above; after an upset the list may be unsorted, and it does not.

    Row {fold, lane, threshold} of the memory, each field of whole bits, holds a threshold of channel fold*pe + lane;
    with one fold for more channels than lanes, channel c uses the list of lane c % pe. The compare is signed if the
    elements are, and elements wider than a threshold are saturated to its width (`thresholding_axi.sv`).
    """

    channels: int
    pe: int
    steps: int
    bias: int

    @property
    def levels(self) -> int:
        """Stages of the search."""
        return _clog2(self.steps + 1)

    @property
    def type(self) -> IntegerType:
        """How a threshold's word is compared."""
        return IntegerType(self.memory.scheme.bits, self.source.signed)

    def folds(self) -> int:
        """Lists a lane holds; ManifestError where the memory's depth is neither that of one nor of all."""
        row_bits = _clog2(self.pe) + _clog2(self.steps)
        folds = next((n for n in (self.channels // self.pe, 1) if self.memory.depth == 1 << row_bits + _clog2(n)), 0)
        if not folds:
            raise ManifestError(
                f"memory {self.memory.name} must have {1 << row_bits} rows, or as many for each of "
                f"{self.channels // self.pe} channel folds of node {self.node}, got {self.memory.depth}; take "
                "manifest and graph of one build"
            )
        return folds

    def parameters(self, image: Image) -> Parameters:
        """The list of each channel, shape (channels, 2^levels), int64; places behind `steps` are never used."""
        words = self.words(image)[:, 0]
        thresholds = signed_words(words, self.type.bits) if self.type.signed else words.astype(np.int64)
        folds = self.folds()
        rows = thresholds.reshape(-1, 1 << _clog2(self.pe), 1 << _clog2(self.steps))
        held = rows[:folds, : self.pe, : self.steps].reshape(folds * self.pe, self.steps)
        lists = np.zeros((self.channels, 1 << self.levels), np.int64)
        lists[:, : self.steps] = held[np.arange(self.channels) % len(held)]
        return lists

    def run(self, stream: Stream, parameters: Parameters | None) -> Stream:
        lists = np.asarray(parameters)
        elements = stream.reshape(-1, self.channels).astype(np.int64)
        elements = np.clip(elements, self.type.low, self.type.high)  # only ever clips where a threshold is narrower
        first = np.arange(self.channels) << self.levels  # each channel's list in the flat table
        found = np.zeros_like(elements)
        for level in reversed(range(self.levels)):
            at = found + ((1 << level) - 1)
            taken = (lists.take(first + at) <= elements) & (at < self.steps)
            found |= taken.astype(np.int64) << level
        return (found + self.bias).astype(self.result.dtype).reshape(len(stream), self.outputs)


@builds("Thresholding_rtl")
def thresholding(attributes: Attributes, memory: Memory | None) -> Thresholding:
    """The operator of a Thresholding_rtl node."""
    channels = attributes.number("NumChannels")
    elements = attributes.size("numInputVectors", (1,)) * channels
    op = Thresholding(
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
    )
    op.check_rows(op.memory.depth, lanes=1, bits=attributes.type("weightDataType").bits)
    op.folds()
    if op.bias < op.result.low or op.bias + op.steps > op.result.high:
        raise ModelError(
            f"{attributes.where} must have results {op.bias} to {op.bias + op.steps} in its type, got {op.result}; "
            "build again"
        )
    return op

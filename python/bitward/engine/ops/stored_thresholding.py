# SPDX-License-Identifier: Apache-2.0
"""StoredThresholding_rtl: the place of each element in a list of thresholds, by binary search as the RTL does it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitward.engine.datatypes import IntegerType, Stream
from bitward.engine.images import Image
from bitward.engine.ops._op import Attributes, Parameters, StoredOp, builds, signed_words, stored_in
from bitward.errors import ManifestError, ModelError
from bitward.manifest import Memory


@dataclass(frozen=True)
class StoredThresholding(StoredOp):
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

    def parameters(self, image: Image) -> Parameters:
        """The list of each channel, shape (channels, 2^levels), int64; places behind `steps` are never used."""
        words = self.words(image)[:, 0]
        bits = self.threshold.bits
        thresholds = signed_words(words, bits) if self.threshold.signed else words.astype(np.int64)
        folds = self.folds()
        held = thresholds.reshape(folds, -1, 1 << self.levels)[:, : self.pe].reshape(folds * self.pe, -1)
        return np.asarray(held[np.arange(self.channels) % len(held)])

    def run(self, stream: Stream, parameters: Parameters | None) -> Stream:
        lists = np.asarray(parameters)
        elements = stream.reshape(-1, self.channels).astype(np.int64)
        first = np.arange(self.channels) << self.levels  # each channel's list in the flat table
        found = np.zeros_like(elements)
        for level in reversed(range(self.levels)):
            at = found + ((1 << level) - 1)
            taken = (lists.take(first + at) <= elements) & (at < self.steps)
            found |= taken.astype(np.int64) << level
        return (found + self.bias).astype(self.result.dtype).reshape(len(stream), self.outputs)


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

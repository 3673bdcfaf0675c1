# SPDX-License-Identifier: Apache-2.0
"""A design behind AXI: stored beats as 32-bit words of one AXI-Lite map, images as the bytes of two streams."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.engine.images import StoredImages, load_images
from bitward.errors import BoardError, ManifestError
from bitward.faults import Fault, Trial
from bitward.manifest import Hardware, Io, Manifest
from bitward.targets import Outcome, Target
from bitward.targets._blocks import Block, Hit, Words, block_of, hits_of
from bitward.words import beat_of, segments_of

MAGIC = 0x42575444  # what the identification register of an accelerator of bitward's reads


class AxiTarget(Target):
    """What the RTL simulation and a board have in common. A subclass moves words and bytes.

    Words written are stale for a while: memories read ahead. `infer` therefore sends dummy images first, as many as the
    manifest says for the memories written since the last call.
    """

    def __init__(self, build_dir: str | Path) -> None:
        self.build_dir = Path(build_dir)
        self._manifest = Manifest.load(self.build_dir / "manifest.json")
        self._images = StoredImages(self._manifest, load_images(self.build_dir / "memories.npz"))
        self._stale: set[str] = set()
        self._images_per_transfer = 0

    @abstractmethod
    def _read_words(self, address: int, count: int) -> Sequence[int]:
        """`count` 32-bit words from a byte address of the AXI-Lite map on, lowest first."""

    @abstractmethod
    def _write_words(self, address: int, words: Sequence[int]) -> None:
        """32-bit words are written from a byte address on, lowest first."""

    @abstractmethod
    def _transfer(self, data: bytes, out_bytes: int) -> bytes:
        """The `out_bytes` that the design streams back for `data`."""

    def _read_blocks(self, blocks: Sequence[Block]) -> Words:
        """The words of all blocks; a target that can take them at once overrides this, and the next two."""
        found: list[int] = []
        for block in blocks:
            place = block.place
            for row in block.rows.tolist():
                found += self._read_words(place.base + row * place.word_stride, place.segments)
        return np.array(found, dtype=np.uint32)

    def _write_blocks(self, blocks: Sequence[Block], words: Words) -> None:
        """The blocks hold `words`."""
        at = 0
        for block in blocks:
            place = block.place
            for row in block.rows.tolist():
                self._write_words(place.base + row * place.word_stride, words[at : at + place.segments].tolist())
                at += place.segments

    def _flip_blocks(self, blocks: Sequence[Block], flips: Words, clears: Words) -> None:
        """Each word of the blocks becomes (word & ~clear) ^ flip."""
        self._write_blocks(blocks, (self._read_blocks(blocks) & ~clears) ^ flips)

    def _differing_words(self, blocks: Sequence[Block], words: Words) -> npt.NDArray[np.int64]:
        """Which words of the blocks, counted from 0, are not `words`."""
        return np.flatnonzero(self._read_blocks(blocks) != words)

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    def identify(self) -> None:
        """The design that runs is the manifest's. Raises BoardError where the registers say otherwise."""
        registers = self._manifest.registers
        (magic,) = self._read_words(registers["magic"], 1)
        if magic != MAGIC:
            raise BoardError(
                f"the accelerator must be one of bitward's (identification 0x{MAGIC:08x}), got 0x{magic:08x}; load the "
                f"overlay of {self.build_dir}"
            )
        (design_id,) = self._read_words(registers["design_id"], 1)
        if design_id != self._manifest.design_id:
            raise BoardError(
                f"the manifest must belong to the loaded overlay (design 0x{design_id:08x}), got "
                f"0x{self._manifest.design_id:08x} from {self.build_dir}; use the manifest built with the overlay"
            )

    def read(self, memory: str, word: int) -> int:
        place = self._place(memory, word)
        segments = self._read_words(place.base + word * place.word_stride, place.segments)
        return beat_of(np.array(segments, dtype=np.uint32))

    def write(self, memory: str, word: int, value: int) -> None:
        place = self._place(memory, word)
        if not 0 <= value < 1 << place.width:
            raise ManifestError(f"a beat of memory {memory} must be {place.width} bits, got {value:#x}; mask it")
        words = [int(segment) for segment in segments_of(value, place.segments)]
        self._write_words(place.base + word * place.word_stride, words)
        self._stale.add(memory)

    def golden(self, memory: str, word: int) -> int:
        return self._images.golden(memory, word)

    def read_rows(self, memory: str, rows: npt.ArrayLike | None = None) -> Words:
        """Those rows of a memory, or all of them, as they are stored now: uint32 of shape (rows, segments)."""
        block = block_of(self._manifest, memory, rows)
        return self._read_blocks([block]).reshape(len(block.rows), block.segments)

    def write_rows(self, memory: str, rows: npt.ArrayLike, words: Words) -> None:
        """Those rows of a memory hold `words`, uint32 of shape (rows, segments)."""
        block = block_of(self._manifest, memory, rows)
        if np.shape(words) != (len(block.rows), block.segments):
            raise ManifestError(
                f"words of memory {memory} must be of shape {(len(block.rows), block.segments)}, got "
                f"{np.shape(words)}; give {block.segments} 32-bit segments a row"
            )
        self._stale.add(memory)
        self._write_blocks([block], np.asarray(words, dtype=np.uint32).reshape(-1))

    def inject_many(self, faults: Sequence[Fault]) -> None:
        """All faults are injected, as `inject` would one after another, in as few accesses as the target needs."""
        self._inject(hits_of(faults, self._manifest))

    def restore_many(self, faults: Sequence[Fault]) -> None:
        """The rows that the faults hit are golden again, all of their bits."""
        self._restore(hits_of(faults, self._manifest))

    def outcomes(self, images: npt.NDArray[Any], trials: Sequence[Trial]) -> Iterator[Outcome]:
        for faults in trials:
            started = time.perf_counter()
            outputs = self._under(images, hits_of(faults, self._manifest))
            yield Outcome(outputs, "full", time.perf_counter() - started)

    def differing(self, golden: Mapping[str, npt.NDArray[np.uint32]]) -> Iterator[tuple[str, int]]:
        for memory in self._manifest.memories:
            block = block_of(self._manifest, memory.name)
            places = self._differing_words([block], golden[memory.name].reshape(-1))
            for row in np.unique(places // block.segments).tolist():
                yield memory.name, row

    def _under(self, images: npt.NDArray[Any], hits: Sequence[Hit]) -> npt.NDArray[Any]:
        """The outputs under the faults; the rows hit are golden again, whatever happens."""
        try:
            self._inject(hits)
            return np.asarray(self.infer(images))
        finally:
            self._restore(hits)

    def _inject(self, hits: Sequence[Hit]) -> None:
        if hits:
            self._stale.update(hit.block.memory.name for hit in hits)
            flips = np.concatenate([hit.flips.reshape(-1) for hit in hits])
            clears = np.concatenate([hit.clears.reshape(-1) for hit in hits])
            self._flip_blocks([hit.block for hit in hits], flips, clears)

    def _restore(self, hits: Sequence[Hit]) -> None:
        if hits:
            blocks = [hit.block for hit in hits]
            self._stale.update(block.memory.name for block in blocks)
            self._write_blocks(blocks, self._golden_words(blocks))

    def _golden_words(self, blocks: Sequence[Block]) -> Words:
        """What the blocks hold without faults."""
        images = [self._images.golden_image(block.memory.name)[block.rows] for block in blocks]
        return np.concatenate([image.reshape(-1) for image in images])

    def counters(self) -> dict[str, tuple[int, int]]:
        """(corrected, detected) by memory: reads of rows whose redundancy disagreed, and of rows known to be wrong.

        Counted since the last call, which cleared them; reads, not upsets: an upset row counts again each time it is
        used, by dummy images too. Each stops at 2^32 - 1. Memories without redundancy have no counters.
        """
        registers = self._manifest.registers
        counted = [memory.name for memory in self._manifest.memories if f"corrected:{memory.name}" in registers]
        return {name: (self._register(f"corrected:{name}"), self._register(f"detected:{name}")) for name in counted}

    def _register(self, name: str) -> int:
        (value,) = self._read_words(self._manifest.registers[name], 1)
        return value

    def infer(self, images: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
        flush = self._flush_images()
        batch = np.concatenate([np.repeat(images[:1], flush, axis=0), images]) if flush and len(images) else images
        if len(batch) == 0:
            return np.zeros((0, *self._io.output.shape), dtype=np.int64)
        self._set_images_per_transfer(len(batch))
        try:
            data = self._transfer(self._io.input.pack(batch), len(batch) * self._io.output.image_bytes)
        except BoardError:
            self._images_per_transfer = 0  # writing the register again re-arms TLAST
            raise
        self._stale.clear()
        return self._io.output.unpack(data)[flush:]

    def _flush_images(self) -> int:
        places = (self._manifest.memory(name).hardware for name in self._stale)
        return max((place.flush_images for place in places if place is not None), default=0)

    def _set_images_per_transfer(self, count: int) -> None:
        if count != self._images_per_transfer:
            self._write_words(self._manifest.registers["images_per_transfer"], [count])
            self._images_per_transfer = count

    def _place(self, memory: str, word: int) -> Hardware:
        found = self._manifest.memory(memory)
        if found.hardware is None:
            raise ManifestError(f"memory {memory} must be in hardware, got a software-only one; build the model first")
        if not 0 <= word < found.depth:
            raise ManifestError(f"word must be 0 to {found.depth - 1} in memory {memory}, got {word}")
        return found.hardware

    @property
    def _io(self) -> Io:
        if self._manifest.io is None:
            raise ManifestError(
                f"{self.build_dir}/manifest.json must describe streams, got none; build the model again"
            )
        return self._manifest.io

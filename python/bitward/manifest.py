# SPDX-License-Identifier: Apache-2.0
"""The manifest: every injectable memory of a design. The only contract between build, board and injector.

`manifest.json` is this module's `Manifest`, field by field; unknown keys are refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bitward.errors import ManifestError, OutputError, nearest, reason_of
from bitward.indexmap import Axis, IndexMap, mvau_axes, radix, split_axes
from bitward.memory import Hardware, Location, Memory, Stratum
from bitward.records import read_record, to_plain
from bitward.streams import EdgeOp, Io, StreamTensor, apply_edge

__all__ = [
    "Axis",
    "EdgeOp",
    "Hardware",
    "IndexMap",
    "Io",
    "Location",
    "Manifest",
    "Memory",
    "Stratum",
    "StreamTensor",
    "apply_edge",
    "mvau_axes",
    "radix",
    "split_axes",
]

SCHEMA = 1


@dataclass(frozen=True)
class Manifest:
    """A design and its memories. `design_id` is what the identification register reads; `board` a kind of board.

    `registers` are byte addresses by name in the AXI-Lite window of `axilite_bytes` bytes (None: software-only). Those
    called corrected:MEMORY and detected:MEMORY count reads of rows whose redundancy disagreed, and of rows that are
    known to be wrong (reads, not upsets); a read clears them.
    """

    design: str
    design_id: int
    board: str
    clk_mhz: float
    memories: tuple[Memory, ...]
    io: Io | None = None
    registers: dict[str, int] = field(default_factory=dict)
    axilite_bytes: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.design_id < 1 << 32:
            raise ManifestError(f"design_id must be 32 bits, got {self.design_id}; it is read from a register")
        names = [memory.name for memory in self.memories]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ManifestError(f"memories must be of different names, got {twice!r} twice; rename one")
        self._check_addresses()

    def _check_addresses(self) -> None:
        """Memories and registers lie apart from each other, inside the window."""
        ranges = [(at, at + 4, f"register {name}") for name, at in self.registers.items()]
        ranges += [(m.hardware.base, m.hardware.end, f"memory {m.name}") for m in self.memories if m.hardware]
        ranges.sort()
        for (_, end, before), (start, _, name) in zip(ranges, ranges[1:], strict=False):
            if start < end:
                raise ManifestError(f"{name} must be behind {before}'s end at {end:#x}, got {start:#x}; build again")
        end = max((end for _, end, _ in ranges), default=0)
        if self.axilite_bytes is not None and end > self.axilite_bytes:
            raise ManifestError(f"axilite_bytes must be at least {end:#x}, got {self.axilite_bytes:#x}; build again")

    def memory(self, name: str) -> Memory:
        """The memory of that name; ManifestError with the nearest name otherwise."""
        found = next((memory for memory in self.memories if memory.name == name), None)
        if found is None:
            known = [memory.name for memory in self.memories]
            raise ManifestError(f"a memory must be one of design {self.design}, got {name!r}; {nearest(name, known)}")
        return found

    def select(self, names: Sequence[str] | None) -> tuple[Memory, ...]:
        """The memories of those names, in the manifest's order; all of them for None."""
        if names is None:
            return self.memories
        chosen = {self.memory(name).name for name in names}
        return tuple(memory for memory in self.memories if memory.name in chosen)

    @property
    def population(self) -> int:
        """Number of live bits of all memories."""
        return sum(memory.population for memory in self.memories)

    @property
    def strata(self) -> tuple[Stratum, ...]:
        """The strata of all memories."""
        return tuple(stratum for memory in self.memories for stratum in memory.strata)

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        return json.dumps({"schema": SCHEMA, **to_plain(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "manifest") -> Manifest:
        """The manifest that `to_json` wrote; ManifestError names the place of what is wrong in it."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ManifestError(f"{where} must be JSON, got {error}; build the design again") from error
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            got = data.get("schema") if isinstance(data, dict) else data
            raise ManifestError(f"{where} must be of schema {SCHEMA}, got {got!r}; build with this version of bitward")
        del data["schema"]
        return read_record(cls, data, where)

    def save(self, path: str | Path) -> None:
        """`path` holds the manifest, whole or not at all; OutputError where it cannot be written."""
        target = Path(path)
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        try:
            part.write_text(self.to_json(), encoding="utf-8")
            part.replace(target)
        except OSError as error:
            raise OutputError(f"{target} must be writable, got {error.strerror}; free it or choose another") from error

    @classmethod
    def load(cls, path: str | Path) -> Manifest:
        """The manifest in the file `path`; ManifestError where there is none or it is wrong."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ManifestError(
                f"{path} must be a manifest, got {reason_of(error)}: name a folder that bitward build wrote"
            ) from error
        return cls.from_json(text, str(path))

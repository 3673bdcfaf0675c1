# SPDX-License-Identifier: Apache-2.0
"""What the PL holds, as far as this server knows: it was the one who loaded it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from .backend import Backend


@dataclass(frozen=True)
class Loaded:
    """A bitstream that was loaded: its name, and the sha256 of its words as they came."""

    name: str
    sha256: str


class Loader:
    """Programs the board and remembers with what; `loaded` is None before the first load and after one that failed."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.loaded: Loaded | None = None

    def program(self, name: str, bitstream: bytes, handoff: bytes = b"") -> None:
        """The PL holds the bitstream; BoardError where the board refuses it."""
        self.loaded = None
        self._backend.program(name, bitstream, handoff)
        self.loaded = Loaded(name, hashlib.sha256(bitstream).hexdigest())

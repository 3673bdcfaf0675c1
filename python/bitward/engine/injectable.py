# SPDX-License-Identifier: Apache-2.0
"""Whatever has stored beats that can be read and written can take faults."""

from __future__ import annotations

from abc import ABC, abstractmethod

from bitward.errors import ManifestError
from bitward.faults import Fault
from bitward.manifest import Manifest


class Injectable(ABC):
    """Memories of a design whose beats (whole rows, copies and padding included) are Python integers."""

    @property
    @abstractmethod
    def manifest(self) -> Manifest:
        """The design's memories."""

    @abstractmethod
    def read(self, memory: str, word: int) -> int:
        """The beat in row `word` as it is stored now."""

    @abstractmethod
    def write(self, memory: str, word: int, value: int) -> None:
        """Row `word` holds `value`."""

    @abstractmethod
    def golden(self, memory: str, word: int) -> int:
        """The beat that row `word` holds without faults."""

    def check_place(self, fault: Fault) -> None:
        """The fault's bit is one of a memory's; ManifestError otherwise."""
        self._mask(fault)
        self.golden(fault.memory, fault.word)

    def inject(self, fault: Fault) -> None:
        """The fault's bit is inverted, or stuck at its value until `restore`; ManifestError if there is no such bit."""
        self._mask(fault)
        self.write(fault.memory, fault.word, fault.hit(self.read(fault.memory, fault.word)))

    def restore(self, fault: Fault) -> None:
        """The fault's bit is golden again, whatever it was; other bits of the row stay as they are."""
        mask = self._mask(fault)
        stored = self.read(fault.memory, fault.word)
        wrong = (stored ^ self.golden(fault.memory, fault.word)) & mask
        self.write(fault.memory, fault.word, stored ^ wrong)

    def _mask(self, fault: Fault) -> int:
        width = self.manifest.memory(fault.memory).width
        if not 0 <= fault.bit < width:
            raise ManifestError(
                f"bit must be 0 to {width - 1} in memory {fault.memory}, got {fault.bit}; take faults from "
                "bitward.faults"
            )
        return 1 << fault.bit

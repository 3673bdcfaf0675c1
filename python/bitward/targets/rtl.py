# SPDX-License-Identifier: Apache-2.0
"""The RTL as a target: the Verilator model of a build, in this process, reached through its own AXI ports."""

from __future__ import annotations

from collections.abc import Sequence

from bitward.errors import ConfigError
from bitward.hardware.simulate import Simulation
from bitward.targets._axi import AxiTarget


class RtlTarget(AxiTarget):
    """The design in a build directory, simulated cycle by cycle."""

    _simulation: Simulation | None = None

    def open(self) -> None:
        self._simulation = Simulation(self.build_dir)
        self._images_per_transfer = 0
        self.identify()

    def close(self) -> None:
        if self._simulation is not None:
            self._simulation.close()
        self._simulation = None

    def _read_words(self, address: int, count: int) -> Sequence[int]:
        return [self._open.axil_read(address + 4 * index) for index in range(count)]

    def _write_words(self, address: int, words: Sequence[int]) -> None:
        for index, word in enumerate(words):
            self._open.axil_write(address + 4 * index, word)

    def _transfer(self, data: bytes, out_bytes: int) -> bytes:
        try:
            return self._open.stream(data, out_bytes)
        except BaseException:
            self._images_per_transfer = 0  # the design was reset
            raise

    @property
    def _open(self) -> Simulation:
        if self._simulation is None:
            raise ConfigError(f"the simulation of {self.build_dir} must be open, got a closed one; call open() first")
        return self._simulation

# SPDX-License-Identifier: Apache-2.0
"""The gauged model of a build: its queues are as deep as its user says, and tell what went through them."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from bitward.hardware.simulate import GAUGED_LIBRARY, Simulation, Streamed, StuckError

_PREFIX = "TOP.bitward_top.i_"  # of a node's instance in the RTL
_COUNTS = 5


@dataclass(frozen=True)
class Gauge:
    """What a queue counted: most beats and beats left in it, beats passed, and cycles.

    `blocked` ones: its producer offered a beat and it was full. `empty` ones: it had no beat to give.
    """

    peak: int
    held: int
    passed: int
    blocked: int
    empty: int


@dataclass(frozen=True)
class Measured:
    """A stream through the gauged model: None where it got stuck, else its beats; and every queue's gauge by node."""

    streamed: Streamed | None
    gauges: dict[str, Gauge]
    cycles: int


class GaugedSimulation(Simulation):
    """The gauged model in a build directory's sim folder."""

    library_name = GAUGED_LIBRARY

    def measure(self, images: NDArray[Any], depths: Mapping[str, int], pace: float = 0.0) -> Measured:
        """Images went through, queues being `depths` deep by node name, without bounds if not named.

        The model is reset before and after. `pace` as Simulation.infer has it.
        """
        self._library.bitward_gauge_unlimit()
        for name, depth in depths.items():
            self._library.bitward_gauge_limit(f"{_PREFIX}{name}".encode(), depth)
        self.reset()
        start = self.cycles
        streamed: Streamed | None
        try:
            streamed = self.infer(images, pace=pace)
        except StuckError:
            streamed = None
        cycles = self.cycles - start
        self.reset()
        return Measured(streamed, self._gauges(), cycles)

    def _gauges(self) -> dict[str, Gauge]:
        result = {}
        name, counts = ctypes.create_string_buffer(1024), (ctypes.c_uint64 * _COUNTS)()
        number = 0
        while self._library.bitward_gauge_read(number, name, len(name), counts) == 0:
            result[name.value.decode().removeprefix(_PREFIX)] = Gauge(*counts)
            number += 1
        return result

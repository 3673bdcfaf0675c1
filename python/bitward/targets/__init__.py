# SPDX-License-Identifier: Apache-2.0
"""Targets: whatever takes faults and infers. The engine, the RTL simulation and a board are used alike.

    with EngineTarget("runs/digits/build/hardened") as target:
        target.inject(fault)
        faulty = target.infer(images)
        target.restore(fault)

A new target is one file here: `open`, `close`, `manifest`, `read`, `write`, `golden` and `infer`; it inherits the rest.
Where it can do better than one inference a trial, it overrides `outcomes` and `screened`.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bitward.engine import Injectable
from bitward.faults import Trial
from bitward.words import beat_of

__all__ = ["Outcome", "Target"]


@dataclass(frozen=True)
class Outcome:
    """The outputs of all images under the faults of one trial, how they were computed, and how long that took.

    `path` is "full" for one inference of everything; a target with quicker ways names the one it took.
    """

    outputs: npt.NDArray[Any]
    path: str
    seconds: float


class Target(Injectable):
    """A design that runs somewhere: its stored beats can be read and written, and it infers.

    `Fault(memory, word, bit)` means the same on every target (DESIGN.md, "What a fault means"). `chunk_trials` is how
    many trials `outcomes` and `screened` are given at a time: more, where a target gains by seeing many at once.

    A target that runs a failed trial once more says in `first_failure` why the last one was (None: it was not), and
    gives each attempt `limit_s` seconds (None: all it takes), which it shows by `limits_attempts`. What was still wrong
    after the last trial was undone, and had to be put right, is `aftermath` (None: nothing).
    """

    chunk_trials: ClassVar[int] = 64
    limits_attempts: ClassVar[bool] = False
    limit_s: float | None = None
    first_failure: str | None = None
    aftermath: str | None = None

    @abstractmethod
    def open(self) -> None:
        """The design is ready, its memories golden. Raises a BitwardError that says what is missing if not."""

    @abstractmethod
    def close(self) -> None:
        """Whatever `open` took is given back; closing twice is allowed."""

    @property
    def address(self) -> str | None:
        """Which board it is, by host and port; None for what is no board."""
        return None

    @property
    def name(self) -> str | None:
        """What the board calls itself, once it is open; None for what is no board."""
        return None

    @abstractmethod
    def infer(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Images as streamed, shape (n, *io.input.shape), through the design as its memories are now.

        Integers give integers of shape (n, *io.output.shape); a software-only design (without `io`) may take and give
        floats. No image sees a word from before the last write (hardware flushes as `flush_images` says).
        """

    def outcomes(self, images: npt.NDArray[Any], trials: Sequence[Trial]) -> Iterator[Outcome]:
        """What each trial gives, in their order; whenever one is given, or fails, the memories are golden again."""
        for faults in trials:
            started = time.perf_counter()
            try:
                for fault in faults:
                    self.inject(fault)
                outputs = np.asarray(self.infer(images))
            finally:
                for fault in faults:
                    self.restore(fault)
            yield Outcome(outputs, "full", time.perf_counter() - started)

    def screened(self, images: npt.NDArray[Any], trials: Sequence[Trial]) -> npt.NDArray[np.bool_]:
        """Which trials may be left out, because a first-order bound says that no decision changes: here, none."""
        return np.zeros(len(trials), dtype=np.bool_)

    def differing(self, golden: Mapping[str, npt.NDArray[np.uint32]]) -> Iterator[tuple[str, int]]:
        """(memory, word) of every row that differs from the images `golden`, name -> (depth, segments)."""
        for memory in self.manifest.memories:
            for word, segments in enumerate(golden[memory.name]):
                if self.read(memory.name, word) != beat_of(segments):
                    yield memory.name, word

    def __enter__(self) -> Target:
        try:
            self.open()
        except BaseException:
            self.close()  # what `open` took before it failed, a virtual board for one
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

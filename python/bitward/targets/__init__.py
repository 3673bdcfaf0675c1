# SPDX-License-Identifier: Apache-2.0
"""Targets: whatever takes faults and infers. The engine, the RTL simulation and a board are used alike.

    with EngineTarget("runs/digits/build/hardened") as target:
        target.inject(fault)
        faulty = target.infer(images)
        target.restore(fault)

A new target is one file here: `open`, `close`, `manifest`, `read`, `write`, `golden` and `infer`; it inherits the rest.
"""

from __future__ import annotations

from abc import abstractmethod
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.engine import Injectable

__all__ = ["Target"]


class Target(Injectable):
    """A design that runs somewhere: its stored beats can be read and written, and it infers.

    `Fault(memory, word, bit)` means the same on every target (DESIGN.md, "What a fault means").
    """

    @abstractmethod
    def open(self) -> None:
        """The design is ready, its memories golden. Raises a BitwardError that says what is missing if not."""

    @abstractmethod
    def close(self) -> None:
        """Whatever `open` took is given back; closing twice is allowed."""

    @abstractmethod
    def infer(self, images: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
        """Integer images as streamed, shape (n, *io.input.shape), through the design as its memories are now.

        Gives integers of shape (n, *io.output.shape); no image sees a word from before the last write (hardware flushes
        as the manifest's `flush_images` says).
        """

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

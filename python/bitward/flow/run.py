# SPDX-License-Identifier: Apache-2.0
"""A flow and its folder: where everything that its stages make lies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bitward.datasets import Dataset, load_dataset
from bitward.flow.spec import Flow, Side
from bitward.networks import find_network


@dataclass(frozen=True)
class Run:
    """A flow and its folder: where everything lies."""

    flow: Flow
    folder: Path
    console: Console
    data: Path | None = None  # where images given by path lie

    @property
    def plain_model(self) -> Path:
        """The exported QONNX."""
        return self.folder / "models" / f"{self.flow.network}.onnx"

    @property
    def hardened_model(self) -> Path:
        """The QONNX whose weights are stored words behind voters."""
        return self.folder / "models" / f"{self.flow.network}-hardened.onnx"

    def model(self, side: Side) -> Path:
        """The QONNX of a build."""
        return self.plain_model if side == "plain" else self.hardened_model

    def build(self, side: Side) -> Path:
        """The build directory of a side."""
        return self.folder / "build" / side

    def overlay(self, board: str) -> Path:
        """The build of the hardened design that a board loads."""
        return self.folder / f"overlay-{board}"

    def campaign(self, name: str) -> Path:
        """The trials of a campaign."""
        return self.folder / "campaigns" / name

    def measured(self, side: Side) -> Path:
        """What was measured of a build on a board."""
        return self.folder / "measured" / f"{side}.json"

    def dataset(self) -> Dataset:
        """The dataset that the flow names, else the network's."""
        return load_dataset(self.flow.dataset or find_network(self.flow.network).dataset, self.data)

    @contextmanager
    def bars(self) -> Iterator[Progress | None]:
        """Yields progress bars that vanish when done; None where nobody watches."""
        if not self.console.is_terminal:
            yield None
            return
        columns = (TextColumn("  {task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=True) as bars:
            yield bars

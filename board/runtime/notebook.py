# SPDX-License-Identifier: Apache-2.0
"""What the notebooks in board/notebooks are made of: a board by one name, images with labels, faults and their shares.

A notebook runs in Jupyter on the board, or on a host. What is a host's alone (the virtual board, the data sets) is
imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bitward.errors import BoardError, ManifestError
from bitward.faults import Fault, single_bit_stratified
from bitward.manifest import Io, Manifest, apply_edge
from bitward.metrics import changed_outputs, top1_accuracy

from .connection import PORT, Credentials
from .measure import Measurement, Plan, measure
from .source import sensor_of, source_of
from .upsets import Upsettable

VIRTUAL = "virtual"  # the host that stands for a board simulated here


class Board(Upsettable, Protocol):
    """What `connect` gives: a target, used inside `with`."""

    def __enter__(self) -> Board:
        """It is open, its memories golden."""

    def __exit__(self, *failure: Any) -> None:
        """It is given back."""

    def inject(self, fault: Fault, /) -> None:
        """The fault is in its memory."""

    def restore(self, fault: Fault, /) -> None:
        """It is no more."""


@dataclass(frozen=True)
class Examples:
    """Images as a design's network takes them, and the class of each."""

    images: npt.NDArray[Any]
    labels: npt.NDArray[Any]


def connect(build: str | Path, host: str = VIRTUAL, port: int = PORT, credentials: Credentials | None = None) -> Board:
    """The board at `host`, to be opened by `with`, for the build in that folder; "virtual" starts one (simulated).

    On the board itself the host is 127.0.0.1, where its server answers. `credentials` are for a server with TLS.
    """
    where = (None if host == VIRTUAL else host, port, credentials)
    board: Board = _host_module("bitward.targets.board").BoardTarget(build, *where)
    return board


def examples(count: int, path: str | Path | None = None) -> Examples:
    """The first images and labels of an .npz that `save_examples` wrote; without a path, of the digits' test images."""
    if path is None:
        digits = _host_module("bitward.datasets").load_dataset("digits")
        return Examples(digits.test_images[:count], digits.test_labels[:count])
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Examples(arrays["images"][:count], arrays["labels"][:count])
    except (OSError, ValueError, KeyError) as error:
        raise BoardError(f"{path} must hold images and labels, got {error}; write it by save_examples") from error


def save_examples(found: Examples, path: str | Path) -> None:
    """`path`, an .npz, holds them: to take to a board that has no data sets."""
    np.savez_compressed(path, images=found.images, labels=found.labels)


def streamed(board: Board, found: Examples) -> npt.NDArray[np.int64]:
    """The images as the board takes them."""
    return apply_edge(_streams(board.manifest).pre, found.images).astype(np.int64)


def accuracy(board: Board, outputs: npt.NDArray[Any], found: Examples) -> float:
    """The share of images whose largest output, behind the design's edge, is at the label."""
    scores = apply_edge(_streams(board.manifest).post, outputs)
    return top1_accuracy(scores.reshape(len(scores), -1), found.labels)


def measure_board(
    board: Board, images: npt.NDArray[Any], plan: Plan, build: str | Path, host: str = VIRTUAL
) -> Measurement:
    """The open board, measured; power where the notebook runs on the board, or its server shows the sensor."""
    source = source_of(board, "board", build)
    return measure(board, images, source, plan, *sensor_of(board, source, host))


def top_bits(manifest: Manifest, per_bit: int, seed: int) -> list[Fault]:
    """`per_bit` faults in the top bit of the words of each weight memory, and as many in each copy of it."""
    faults: list[Fault] = []
    for memory in manifest.memories:
        if memory.role == "weight":
            top = [
                bit for bit in range(memory.scheme.lane_bits) if memory.scheme.origin(bit)[1] == memory.scheme.bits - 1
            ]
            faults += single_bit_stratified(manifest, per_bit, seed, [memory.name], top)
    return faults


def shares_changed(
    board: Board, images: npt.NDArray[Any], faults: Sequence[Fault]
) -> Mapping[str, Mapping[int, tuple[int, int]]]:
    """For each memory and bit of its stored words: faults that changed an output of any image, and faults in all.

    One fault is in the memories at a time. ManifestError for a fault in a dead bit, which stands for no stored bit.
    """
    golden = board.infer(images)
    found: dict[str, dict[int, tuple[int, int]]] = {}
    for fault in faults:
        stored_bit = int(board.manifest.memory(fault.memory).locate(fault.word, fault.bit).stored_bit)
        if stored_bit < 0:
            raise ManifestError(f"a fault must hit a bit that is read, got {fault}; take faults from bitward.faults")
        board.inject(fault)
        try:
            is_changed = bool(changed_outputs(golden, board.infer(images)).any())
        finally:
            board.restore(fault)
        changed, count = found.setdefault(fault.memory, {}).get(stored_bit, (0, 0))
        found[fault.memory][stored_bit] = (changed + is_changed, count + 1)
    return found


def _streams(manifest: Manifest) -> Io:
    if manifest.io is None:
        raise ManifestError(
            f"design {manifest.design} must have streams, got a software-only manifest; build the model"
        )
    return manifest.io


def _host_module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise BoardError(
            f"{name} must be there for this, got {error}; install bitward's engine and train extras (make setup), or "
            "give what it would have given: a host, a file of examples"
        ) from error

# SPDX-License-Identifier: Apache-2.0
"""What faults change of golden values: rows of them, whole or one channel each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bitward.memory import Role

ONE_TERM = 0.98 * 2.0**128  # sums beyond may overflow, even where one term is huge: little less than the largest number


@dataclass(frozen=True)
class Change:
    """Values of some rows (pairs of a trial and an image) that differ from the golden ones.

    With `channel`, shape (rows,), only that channel of each row does: `values` are (rows, 1, *spatial), or (rows,
    elements of the channel) behind a Flatten. Without, `values` are whole: (rows, *shape).
    """

    values: Tensor
    channel: Tensor | None = None

    def of(self, rows: Tensor | slice) -> Change:
        """The change of these rows alone."""
        return Change(self.values[rows], None if self.channel is None else self.channel[rows])


@dataclass(frozen=True)
class Hit:
    """One parameter that a trial changed: flat index `index` of the step's tensor of that role."""

    role: Role
    index: int
    golden: float
    value: float


@dataclass(frozen=True)
class Arrival:
    """What reaches a step: changes of its inputs (None: golden), of rows that are of these images.

    `golden` gives an input of all images, `output` the step's own golden one; `is_spent` says by input whether its
    values may be overwritten: nobody takes them afterwards, and no other tensor shares them.
    """

    changes: Sequence[Change | None]
    golden: Callable[[int], Tensor]
    output: Callable[[], Tensor]
    images: Tensor
    is_spent: Sequence[bool]

    @property
    def found(self) -> list[tuple[int, Change]]:
        """(place of the input, its change), at least one."""
        return [(place, change) for place, change in enumerate(self.changes) if change is not None]


def channel_of(golden: Tensor, images: Tensor, change: Change) -> Tensor:
    """The golden values of the channel that each row changes, in the shape of the change's values."""
    values = change.values
    if golden.ndim == 2 and values.ndim == 2:
        return golden.reshape(len(golden), -1, values.shape[1])[images, change.channel]
    return golden[images, change.channel][:, None]


def whole(golden: Tensor, images: Tensor, change: Change | None) -> Tensor:
    """The whole values of the rows: golden ones, in which the changed channel is."""
    if change is not None and change.channel is None:
        return change.values
    values = golden[images]
    if change is not None:
        rows = torch.arange(len(images), device=values.device)
        if values.ndim == 2 and change.values.ndim == 2:
            values.reshape(len(values), -1, change.values.shape[1])[rows, change.channel] = change.values
        else:
            values[rows, change.channel] = change.values[:, 0]
    return values


def add_golden(values: Tensor, golden: Tensor, images: Tensor, out: Tensor | None = None) -> Tensor:
    """values + golden[images], in `out` (None: in `values`); rows of all images, trial by trial, are gathered by none.

    Raises nothing: shapes are those of one step.
    """
    out = values if out is None else out
    count = len(golden)
    if is_all_images(images, count):
        shape = (-1, *golden.shape)
        torch.add(values.view(shape), golden, out=out.view(shape))
        return out
    return torch.add(values, golden[images], out=out)


def is_all_images(images: Tensor, count: int) -> bool:
    """Are these all `count` images in order, once or several times over?"""
    return len(images) % count == 0 and bool(
        (images.view(-1, count) == torch.arange(count, device=images.device)).all()
    )


def largest(values: Tensor) -> Tensor:
    """By row, the largest absolute value, NaN where there is one: (rows,)."""
    if values.ndim == 4:
        values = values.permute(0, 2, 3, 1)  # as it lies in memory
    return values.reshape(len(values), -1).abs().amax(dim=1)


def depends_on_order(values: Tensor) -> Tensor:
    """By row: may the sum of a channel's places overflow in one order of its terms, and not in another? (rows,)

    That needs terms of both signs, or a sum that is about the largest number.
    """
    places = (values.flatten(2) if values.ndim > 2 else values[:, None]).double()
    above, below = places.clamp(min=0).sum(dim=2), -places.clamp(max=0).sum(dim=2)
    larger, smaller = torch.maximum(above, below), torch.minimum(above, below)
    return ((larger >= ONE_TERM) & ((smaller > 0) | (larger <= 2**129 - ONE_TERM))).any(dim=1)


def differing(values: Tensor, golden: Tensor, limit: Tensor) -> Tensor:
    """By row: does any value differ from the golden one by more than `limit`, (rows,)? NaN differs from everything."""
    apart = values - golden
    if apart.ndim == 4:
        apart = apart.permute(0, 2, 3, 1)
    return ~(apart.reshape(len(apart), -1).abs_().amax(dim=1) <= limit)

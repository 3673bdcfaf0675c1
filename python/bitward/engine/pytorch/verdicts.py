# SPDX-License-Identifier: Apache-2.0
"""Which trials change a decision: of the images that a fault threatens, as few are run as tell."""

from __future__ import annotations

import torch
from torch import Tensor

from bitward.engine.pytorch.golden import Golden, is_close
from bitward.engine.pytorch.screen import SHARE
from bitward.engine.pytorch.walk import Rows, Sink, Walk

HARMLESS, UNKNOWN, CRITICAL = 0, 1, 2  # verdicts; of several parts of the images the highest holds
FIRST = 4  # images of a threatened trial that are run before the others


class Changed(Sink):
    """The trials that change a decision, those that come close to it, and those whose numbers may overflow."""

    def __init__(self, golden: Golden) -> None:
        self._decisions = golden.outputs.argmax(dim=1)
        self.trials: set[int] = set()
        self.close: set[int] = set()
        self.doubtful: set[int] = set()

    def put(self, rows: Rows, outputs: Tensor) -> None:
        close = is_close(outputs)
        changed = (outputs.argmax(dim=1) != self._decisions[rows.image]) & ~close
        self.trials.update(rows.trial[changed].tolist())
        self.close.update(rows.trial[close].tolist())

    def doubt(self, rows: Rows) -> None:
        self.doubtful.update(rows.trial.tolist())


def run_threatened(
    walk: Walk, changed: Changed, index: int, rows: Rows, taken: Tensor, wild: Tensor, is_watched: bool
) -> None:
    """The images that trials threaten have been run, or the trial is in `changed`: one image that changes is enough.

    `rows` are all images of some trials, changed at step `index`; `taken`, (trials, images), is what each takes of the
    margin: the FIRST images that it takes most of are run before the others. They are run whatever it takes for the
    trials in `wild`, (trials,).
    """
    first = torch.zeros_like(taken, dtype=torch.bool)
    first.scatter_(1, taken.topk(min(FIRST, taken.shape[1]), dim=1).indices, True)
    threatened = ((taken > SHARE) | (first & wild[:, None])).reshape(-1)
    first = first.reshape(-1)
    walk.send(index, rows.of(torch.nonzero(threatened & first)[:, 0]), is_watched)
    known = torch.tensor(sorted(changed.trials), dtype=torch.int64, device=taken.device)
    others = threatened & ~first & ~torch.isin(rows.trial, known)
    walk.send(index, rows.of(torch.nonzero(others)[:, 0]), is_watched)

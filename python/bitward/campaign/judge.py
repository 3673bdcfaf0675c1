# SPDX-License-Identifier: Apache-2.0
"""From faults and outputs to a row of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.campaign.plan import Campaign, digest
from bitward.campaign.trial import SCREENED, Status, Trial
from bitward.errors import BoardError
from bitward.faults import Fault, faults_sha256
from bitward.manifest import Manifest, apply_edge
from bitward.metrics import changed_outputs
from bitward.targets import Outcome

FAULTS_KEPT = 4096  # faults that a row lists; a trial of more is drawn again from the spec's model


@dataclass(frozen=True)
class Planned:
    """A trial before it is run. `screened`: the target's bound says that it changes no decision."""

    number: int
    faults: Sequence[Fault]
    screened: bool = False


@dataclass(frozen=True)
class Judge:
    """Compares outputs with the golden ones. One for a target, as long as it is open; `board` says which one it is."""

    campaign: Campaign
    golden: npt.NDArray[Any]
    board: str | None = None

    @cached_property
    def _golden_top1(self) -> npt.NDArray[np.int64]:
        return self._top1(self.golden)

    def done(
        self, planned: Planned, outcome: Outcome, first_failure: str | None = None, aftermath: str | None = None
    ) -> Trial:
        """The row of a trial that gave outputs; BoardError where they are of another shape than the golden ones."""
        outputs = outcome.outputs
        if outputs.shape != self.golden.shape:
            raise BoardError(
                f"target {self.campaign.target} must give outputs of shape {self.golden.shape}, got {outputs.shape}: "
                "build the design again"
            )
        top1, labels = self._top1(outputs), self.campaign.labels
        return self._row(
            planned,
            outputs_changed=int(changed_outputs(self.golden, outputs).sum()),
            top1_changed=int((top1 != self._golden_top1).reshape(len(top1), -1).any(axis=1).sum()),
            top1_correct=None if labels is None else int((top1 == labels).sum()),
            outputs_sha256=digest(outputs),
            path=outcome.path,
            seconds=outcome.seconds,
            board=self.board,
            first_failure=first_failure,
            aftermath=aftermath,
        )

    def left_out(self, planned: Planned) -> Trial:
        """The row of a trial that was screened and not audited."""
        return self._row(planned, path=SCREENED)

    def failed(
        self, planned: Planned, status: Status, error: str, seconds: float, first_failure: str | None = None
    ) -> Trial:
        """The row of a trial that gave no outputs."""
        return self._row(
            planned, status=status, error=error, path="none", seconds=seconds, board=self.board,
            first_failure=first_failure,
        )  # fmt: skip

    def _row(self, planned: Planned, **found: Any) -> Trial:
        verdicts = dict.fromkeys(("outputs_changed", "top1_changed", "top1_correct", "outputs_sha256"))
        return Trial(
            **{
                "trial": planned.number,
                "target": self.campaign.target,
                **place(self.campaign.manifest, planned.faults),
                "images": len(self.golden),
                "flips": len(planned.faults),
                "faults": tuple(map(str, planned.faults)) if len(planned.faults) <= FAULTS_KEPT else None,
                "faults_sha256": faults_sha256(planned.faults),
                "screened": planned.screened,
                **verdicts,
                **found,
            }
        )

    def _top1(self, outputs: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The class of each image, or of each pixel, after the host's work at the edge (scales differ by channel)."""
        io = self.campaign.manifest.io
        scores = apply_edge(io.post, outputs) if io else outputs
        return np.argmax(scores if scores.ndim > 2 else scores.reshape(len(outputs), -1), axis=1)


PLACE = ("memory", "layer", "role", "word", "bit", "parameter", "replica", "stored_bit", "copy", "parameter_bit")


def place(manifest: Manifest, faults: Sequence[Fault]) -> dict[str, Any]:
    """What a single fault hits, by the names of a row; None for all where there is not exactly one."""
    if len(faults) != 1:
        return dict.fromkeys(PLACE)
    (fault,) = faults
    memory = manifest.memory(fault.memory)
    at = memory.locate(fault.word, fault.bit)
    index, replica = (None if number < 0 else int(number) for number in (at.index, at.replica))
    stored = [None if at.dead else int(number) for number in (at.stored_bit, at.copy, at.bit)]
    found = (memory.name, memory.layer, memory.role, fault.word, fault.bit, index, replica, *stored)
    return dict(zip(PLACE, found, strict=True))

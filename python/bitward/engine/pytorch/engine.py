# SPDX-License-Identifier: Apache-2.0
"""A torch network under faults: golden values once per batch of images, then only what a fault can have changed.

A row is a pair of a trial and an image. Trials whose one fault hits the same step go together. The fault's change of
one channel is followed, as one channel, for as long as the steps allow; then rows are computed as a whole, as long as
they differ from the golden ones. Trials of several faults are computed whole from the first step that they hit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bitward.engine.pytorch.program import Program, Step, as_one_step, checked, execute, trace
from bitward.engine.pytorch.rules import Change, Convolution, Hit, TransposedConvolution, channel_of, differing, whole
from bitward.engine.pytorch.screen import Screen
from bitward.engine.pytorch.storage import Choose, StoredTensor, as_float32, by_memory, check_place, store
from bitward.errors import ManifestError
from bitward.faults import Fault
from bitward.manifest import Manifest

GOLDEN_BYTES = 3 << 29  # of golden values that are kept (1.5 GiB)
BATCH_BYTES = 1 << 23  # of the largest value of rows that are computed together
NEAR = 1e-6  # of the largest score: closer decisions are computed again, as torch would

PATHS = ("masked", "delta", "suffix", "again")  # how trials are computed, from the quickest on

Trial = Sequence[Fault]


@dataclass
class _Golden:
    """Golden values of some images."""

    images: Tensor
    values: dict[str, Tensor]
    outputs: Tensor  # as `infer` gives them: bit by bit what an image without changes has
    screen: Screen | None = None

    @property
    def count(self) -> int:
        return len(self.images)


@dataclass
class _Rows:
    """Rows on their way through the program."""

    trial: Tensor
    image: Tensor
    changes: dict[str, Change]

    def of(self, kept: Tensor | slice) -> _Rows:
        return _Rows(self.trial[kept], self.image[kept], {n: c.of(kept) for n, c in self.changes.items()})


@dataclass
class _Answers:
    """Outputs of trials, as the golden ones until a row says otherwise; how each was computed."""

    outputs: Tensor
    path: list[str]
    near: list[int] = field(default_factory=list)


class TorchEngine:
    """A network whose parameters are memories, which can be read, written, hit and run."""

    def __init__(
        self, network: nn.Module, choose: Choose = as_float32, design: str = "network", device: str = "cpu"
    ) -> None:
        """`choose` says how each parameter is stored. The network is in the engine's hands from now on: its parameters
        are set to what is stored, and it is in evaluation mode.
        """
        self.device = torch.device(device)
        self.network = network.eval().to(self.device).requires_grad_(False)
        self.manifest: Manifest
        self.manifest, stored = store(self.network, choose, design)
        self._stored = {each.memory.name: each for each in stored}
        self._last_use: dict[str, int] = {}
        self._looks: set[int] = set()
        self._largest = {each.memory.name: float(each.tensor.abs().max()) for each in stored}
        self._program: Program | None = None
        self._kept: _Golden | None = None
        self._source: npt.NDArray[Any] | None = None

    def stored(self, memory: str) -> StoredTensor:
        """The memory of that name; ManifestError otherwise."""
        self.manifest.memory(memory)
        return self._stored[memory]

    def images(self) -> dict[str, npt.NDArray[np.uint32]]:
        """Every memory as it is stored now, name -> (depth, segments)."""
        return {name: stored.image() for name, stored in self._stored.items()}

    def inject(self, faults: Trial) -> None:
        """All faults are in the memories."""
        for name, (words, bits, kinds) in by_memory(faults).items():
            stored = self.stored(name)
            check_place(stored.memory, words, bits)
            stored.inject(words, bits, kinds)

    def restore(self) -> None:
        """All memories are golden."""
        for stored in self._stored.values():
            stored.restore()

    @torch.inference_mode()
    def infer(self, images: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Images through the network as its memories are now, all of it: what every other path is measured against."""
        result = self.network(torch.as_tensor(np.asarray(images, dtype=np.float32), device=self.device))
        return np.asarray(result.cpu().numpy(), dtype=np.float32)

    @torch.inference_mode()
    def outcomes(
        self, images: npt.NDArray[Any], trials: Sequence[Trial]
    ) -> Iterator[tuple[npt.NDArray[np.float32], str, float]]:
        """(outputs, path, seconds) of each trial, by itself, from golden memories, in order.

        The path says how it was computed: "delta", one channel followed as far as it goes; "suffix", whole from the
        first step that is hit; "masked", no value that is read has changed; "again", whole, as a decision was close.
        """
        self._check_golden()
        start = time.perf_counter()
        parts = [self._answers(golden, trials) for golden in self._parts(images)]
        each = (time.perf_counter() - start) / max(1, len(trials))
        outputs = np.concatenate([part.outputs.cpu().numpy() for part in parts], axis=1)
        for number in range(len(trials)):
            yield outputs[number], max((part.path[number] for part in parts), key=PATHS.index), each

    @torch.inference_mode()
    def screened(self, images: npt.NDArray[Any], trials: Sequence[Trial]) -> npt.NDArray[np.bool_]:
        """Which trials may be left out: to first order, their one fault changes no decision (screen.Screen).

        Trials of several faults, values that are not finite and per-pixel networks are never left out.
        """
        self._check_golden()
        left_out = np.ones(len(trials), dtype=np.bool_)
        for golden in self._parts(images):
            left_out &= self._left_out(golden, trials)
        return left_out

    def _left_out(self, golden: _Golden, trials: Sequence[Trial]) -> npt.NDArray[np.bool_]:
        left_out = np.zeros(len(trials), dtype=np.bool_)
        if golden.values[self.program.sink].ndim != 2:
            return left_out
        if golden.screen is None:
            golden.screen = Screen(self.program, golden.images, golden.values)
        groups: dict[int, list[tuple[int, Hit]]] = {}
        for number, hits in self._single(trials).items():
            if not hits:
                left_out[number] = True
            elif len(hits) == 1 and self._is_small(hits[0][1], trials[number][0]):
                groups.setdefault(hits[0][0], []).append((number, hits[0][1]))
        for index, members in groups.items():
            found = golden.screen.leaves_out(index, [hit for _, hit in members])
            left_out[[number for number, _ in members]] = found.cpu().numpy()
        return left_out

    def _is_small(self, hit: Hit, fault: Fault) -> bool:
        """Does the value change by no more than the largest golden one? First order says little of more."""
        return abs(hit.value - hit.golden) <= self._largest[fault.memory]

    def _check_golden(self) -> None:
        if any(len(stored.faulty) for stored in self._stored.values()):
            raise ManifestError("memories must be golden before trials, got faults in them: restore first")

    # -- golden values ----------------------------------------------------------------------------------------------

    def _tensor(self, images: npt.ArrayLike) -> Tensor:
        tensor = torch.as_tensor(np.asarray(images, dtype=np.float32), device=self.device)
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    def _parts(self, images: npt.NDArray[Any]) -> Iterator[_Golden]:
        """Golden values of all images, in parts of GOLDEN_BYTES; where one part is enough it is kept."""
        if self._kept is not None and self._source is not None and np.array_equal(images, self._source):
            yield self._kept
            return
        tensor = self._tensor(images)
        if self._program is None:
            self._program = checked(trace(self.network), self.network, tensor[:2])
            self._last_use = self._program.last_use()
            self._looks = _worth_a_look(self._program)
        self._kept = self._source = None  # freed before the next ones are computed
        outputs = self.network(tensor.contiguous())
        first = execute(self._program, tensor[:1])
        per_image = sum(value.numel() * value.element_size() for value in first.values())
        at_once = max(1, GOLDEN_BYTES // per_image)
        for start in range(0, max(1, len(tensor)), at_once):
            part = tensor[start : start + at_once]
            golden = _Golden(part, execute(self._program, part), outputs[start : start + at_once])
            if len(part) == len(tensor):
                self._kept, self._source = golden, np.array(images)
            yield golden

    @property
    def program(self) -> Program:
        """The network's steps; one step before any image was seen."""
        return self._program or as_one_step(self.network)

    # -- trials -------------------------------------------------------------------------------------------------------

    def _answers(self, golden: _Golden, trials: Sequence[Trial]) -> _Answers:
        """Each trial is prepared by itself; those of one step go through the rest together."""
        outputs = golden.outputs.expand(len(trials), *golden.outputs.shape).clone()
        answers = _Answers(outputs, ["masked"] * len(trials))
        groups: dict[int, list[tuple[int, Hit]]] = {}
        single = self._single(trials)
        for number, faults in enumerate(trials):
            hits = single[number] if number in single else self._hits(faults)
            if len(hits) == 1 and math.isfinite(hits[0][1].value):
                groups.setdefault(hits[0][0], []).append((number, hits[0][1]))
            elif hits:
                self._whole(golden, answers, number, faults, {index for index, _ in hits})
        for index, members in groups.items():
            self._group(golden, answers, index, members, trials)
        for number in sorted(set(answers.near)):
            with self._hit(trials[number]):
                answers.outputs[number] = self.network(golden.images.contiguous())
            answers.path[number] = "again"
        return answers

    @contextmanager
    def _hit(self, faults: Trial) -> Iterator[None]:
        """The faults are in the memories, which are golden afterwards."""
        self.inject(faults)
        try:
            yield
        finally:
            self.restore()

    def _hits(self, faults: Trial) -> list[tuple[int, Hit]]:
        """(step, hit) of every parameter value that the faults change."""
        found = []
        with self._hit(faults):
            for name in dict.fromkeys(fault.memory for fault in faults):
                stored = self._stored[name]
                role, steps = stored.memory.role, self.program.index_of(stored.memory.layer)
                for index, golden, value in zip(*stored.changes(), strict=True):
                    found += [(step, Hit(role, int(index), float(golden), float(value))) for step in steps]
        return found

    def _single(self, trials: Sequence[Trial]) -> dict[int, list[tuple[int, Hit]]]:
        """As `_hits`, by trial, of all trials of one fault at once."""
        numbers: dict[str, list[int]] = {}
        for number, faults in enumerate(trials):
            if len(faults) == 1:
                numbers.setdefault(faults[0].memory, []).append(number)
        found: dict[int, list[tuple[int, Hit]]] = {}
        for name, members in numbers.items():
            stored = self.stored(name)
            words, bits, kinds = by_memory([trials[number][0] for number in members])[name]
            check_place(stored.memory, words, bits)
            role, steps = stored.memory.role, self.program.index_of(stored.memory.layer)
            goldens, values = stored.hit(words, bits, kinds)
            found_here = zip(members, words.tolist(), goldens.tolist(), values.tolist(), strict=True)
            for number, word, golden, value in found_here:
                found[number] = [(step, Hit(role, word, golden, value)) for step in steps if value != golden]
        return found

    def _group(
        self,
        golden: _Golden,
        answers: _Answers,
        index: int,
        members: Sequence[tuple[int, Hit]],
        trials: Sequence[Trial],
    ) -> None:
        """Trials whose one hit is at the same step."""
        step = self.program.steps[index]
        output = golden.values[step.name]
        inputs = [golden.values[name] for name in step.inputs]
        channel = output[0].numel() // output.shape[1] if output.ndim > 1 else 1
        at_once = max(1, BATCH_BYTES // (4 * golden.count * channel))
        for start in range(0, len(members), at_once):
            part = members[start : start + at_once]
            numbers = [number for number, _ in part]
            change = step.rule.enter(inputs, output, [hit for _, hit in part])
            if change is None:
                for number in numbers:
                    self._whole(golden, answers, number, trials[number], {index})
                continue
            self._send(golden, answers, index, self._rows(golden, numbers, {step.name: change}), "delta")

    def _whole(self, golden: _Golden, answers: _Answers, number: int, faults: Trial, hit: set[int]) -> None:
        """A trial whose faults hit these steps, computed whole up to the last of them."""
        changed: dict[str, Tensor] = {}
        with self._hit(faults):
            for index in range(min(hit), max(hit) + 1):
                step = self.program.steps[index]
                if index in hit or any(name in changed for name in step.inputs):
                    inputs = [changed.get(name, golden.values[name]) for name in step.inputs]
                    changed[step.name] = step.rule.run(*inputs)
        changes = {name: Change(value) for name, value in changed.items() if self._last_use[name] > max(hit)}
        self._send(golden, answers, max(hit), self._rows(golden, [number], changes), "suffix")

    def _rows(self, golden: _Golden, numbers: list[int], changes: dict[str, Change]) -> _Rows:
        """The rows of all images of the trials, trial by trial."""
        trial = torch.tensor(numbers, device=self.device).repeat_interleave(golden.count)
        return _Rows(trial, torch.arange(golden.count, device=self.device).repeat(len(numbers)), changes)

    # -- rows ---------------------------------------------------------------------------------------------------------

    def _send(self, golden: _Golden, answers: _Answers, index: int, rows: _Rows, path: str) -> None:
        """Rows, changed up to step `index`, go through the steps behind it, in batches that fit."""
        rows = self._differing(golden, rows)
        for number in torch.unique(rows.trial).tolist():
            answers.path[number] = path
        at_once = self._at_once(golden, index, any(change.channel is not None for change in rows.changes.values()))
        for start in range(0, len(rows.trial), at_once):
            self._through(golden, answers, index + 1, rows.of(slice(start, start + at_once)))

    def _at_once(self, golden: _Golden, index: int, is_sparse: bool) -> int:
        """How many rows go together through the steps behind `index`: their largest value, or channel, fits."""
        values = [golden.values[step.name] for step in self.program.steps[index:]]
        sizes = [value[0].numel() // (value.shape[1] if is_sparse and value.ndim > 1 else 1) for value in values]
        return max(1, BATCH_BYTES // (4 * max(sizes)))

    def _through(self, golden: _Golden, answers: _Answers, first: int, rows: _Rows) -> None:
        for index in range(first, len(self.program.steps)):
            step = self.program.steps[index]
            if not any(name in rows.changes for name in step.inputs):
                continue
            if index in self._looks:
                rows = self._differing(golden, rows)
                if not len(rows.trial):
                    return
                if self._divide(golden, answers, index, rows):
                    return
            rows.changes[step.name] = self._follow(golden, step, rows)
            rows.changes = {name: c for name, c in rows.changes.items() if self._last_use[name] > index}
        if (change := rows.changes.get(self.program.sink)) is not None:
            values = whole(golden.values[self.program.sink], rows.image, change)
            answers.outputs[rows.trial, rows.image] = values
            answers.near += rows.trial[_is_close(values)].tolist()

    def _divide(self, golden: _Golden, answers: _Answers, index: int, rows: _Rows) -> bool:
        """Rows of one channel each, more than fit as whole ones, went on in batches, those of a channel together."""
        channel = next((c.channel for c in rows.changes.values() if c.channel is not None), None)
        at_once = self._at_once(golden, index, False)
        if channel is None or len(rows.trial) <= at_once:
            return False
        rows = rows.of(torch.argsort(channel, stable=True))
        for start in range(0, len(rows.trial), at_once):
            part = rows.of(slice(start, start + at_once))
            step = self.program.steps[index]
            part.changes[step.name] = self._follow(golden, step, part)
            part.changes = {name: c for name, c in part.changes.items() if self._last_use[name] > index}
            self._through(golden, answers, index + 1, part)
        return True

    def _follow(self, golden: _Golden, step: Step, rows: _Rows) -> Change:
        changes = [rows.changes.get(name) for name in step.inputs]
        if any(change is not None and change.channel is not None for change in changes):
            found = step.rule.follow(
                changes, lambda place: golden.values[step.inputs[place]], golden.values[step.name], rows.image
            )
            if found is not None:
                return found
        inputs = [whole(golden.values[name], rows.image, change)
                  for name, change in zip(step.inputs, changes, strict=True)]  # fmt: skip
        return Change(step.rule.run_golden(*inputs))

    def _differing(self, golden: _Golden, rows: _Rows) -> _Rows:
        """The rows of which any value that is still to be taken differs from the golden one."""
        differs = torch.zeros(len(rows.trial), dtype=torch.bool, device=self.device)
        for name, change in rows.changes.items():
            values = golden.values[name]
            same = values[rows.image] if change.channel is None else channel_of(values, rows.image, change)
            differs |= differing(change.values, same)
        return rows if bool(differs.all()) else rows.of(torch.nonzero(differs)[:, 0])


def _worth_a_look(program: Program) -> set[int]:
    """The steps before which rows are compared with the golden ones: convolutions, and what makes values fewer."""
    return {
        index for index, step in enumerate(program.steps) if isinstance(step.rule, (Convolution, TransposedConvolution))
    }


def _is_close(scores: Tensor) -> Tensor:
    """Rows of which the two highest scores are so close that rounding may decide between them."""
    if scores.ndim != 2 or scores.shape[1] < 2:
        return torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    first, second = scores.topk(2, dim=1).values.unbind(1)
    gap = first - second  # infinite where one is and the other is not: that is no close decision
    return torch.isnan(gap) | (torch.isfinite(gap) & (gap <= NEAR * scores.abs().amax(dim=1)))

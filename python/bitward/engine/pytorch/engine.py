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
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bitward.engine.pytorch.changes import Change, Hit
from bitward.engine.pytorch.golden import Golden, bytes_per_image, is_close
from bitward.engine.pytorch.memories import by_memory, store
from bitward.engine.pytorch.program import Program, as_one_step, checked, execute, own, pair_of, trace
from bitward.engine.pytorch.screen import Screen
from bitward.engine.pytorch.simplify import simplified
from bitward.engine.pytorch.storage import Choose, StoredTensor, as_float32, check_place
from bitward.engine.pytorch.verdicts import CRITICAL, HARMLESS, UNKNOWN, Changed, run_threatened
from bitward.engine.pytorch.walk import BATCH_BYTES, Route, Rows, Sink, Walk
from bitward.errors import ManifestError
from bitward.faults import Fault
from bitward.manifest import Manifest
from bitward.memory import Role

GOLDEN_BYTES = 3 << 29  # of golden values that are kept (1.5 GiB)

PATHS = ("masked", "delta", "suffix", "again")  # how trials are computed, from the quickest on

IMAGES = 64  # that go through the whole network together
HUGE = 2.0**64  # a parameter beyond may let numbers overflow
FEW = 8  # faults of a trial that may come to one changed value

Trial = Sequence[Fault]


class _Answers(Sink):
    """Outputs of trials, as the golden ones until a row says otherwise; how each was computed."""

    def __init__(self, golden: Golden, trials: int) -> None:
        self.outputs = golden.outputs.expand(trials, *golden.outputs.shape).clone()
        self.path = ["masked"] * trials
        self.near: dict[int, list[int]] = {}  # by trial: images that the network itself must decide

    def put(self, rows: Rows, outputs: Tensor) -> None:
        place = rows.trial * self.outputs.shape[1] + rows.image
        self.outputs.flatten(0, 1).index_copy_(0, place, outputs)
        self.doubt(rows.of(torch.nonzero(is_close(outputs))[:, 0]))

    def doubt(self, rows: Rows) -> None:
        for trial, image in zip(rows.trial.tolist(), rows.image.tolist(), strict=True):
            self.near.setdefault(trial, []).append(image)


@dataclass
class _Part:
    """Some images, and what is known of them."""

    route: Route
    golden: Golden
    screen: Screen | None = None


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
        self._largest = {each.memory.name: float(each.tensor.abs().max()) for each in stored}
        self._route: Route | None = None
        self._kept: _Part | None = None
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
        result = self.network(torch.tensor(np.asarray(images, dtype=np.float32), device=self.device))
        return np.asarray(result.cpu().numpy(), dtype=np.float32)

    @torch.inference_mode()
    def outcomes(
        self, images: npt.NDArray[Any], trials: Sequence[Trial]
    ) -> Iterator[tuple[npt.NDArray[np.float32], str, float]]:
        """(outputs, path, seconds) of each trial, by itself, from golden memories, in order.

        The path says how it was computed: "delta", one channel followed as far as it goes; "suffix", whole from the
        first step that is hit; "masked", what is hit gives what it did, but for rounding; "again", as "delta" or
        "suffix", but images whose decision was close, or whose numbers may overflow, by the whole network.
        """
        self._check_golden()
        start = time.perf_counter()
        parts = [self._answers(part, trials) for part in self._parts(images)]
        each = (time.perf_counter() - start) / max(1, len(trials))
        outputs = np.concatenate([part.outputs.cpu().numpy() for part in parts], axis=1)
        for number in range(len(trials)):
            yield outputs[number], max((part.path[number] for part in parts), key=PATHS.index), each

    @torch.inference_mode()
    def verdicts(self, images: npt.NDArray[Any], trials: Sequence[Trial]) -> npt.NDArray[np.int8]:
        """By trial: does its one fault change a decision? CRITICAL, HARMLESS (screen.Screen) or UNKNOWN.

        A critical trial changes the decision on an image that was run. Of a harmless one, all images that the fault
        threatens to first order were run and kept their decisions, and of others first order is all that is known.
        Trials of several faults, values that are not finite and per-pixel networks are unknown.
        """
        self._check_golden()
        found = np.full(len(trials), HARMLESS, dtype=np.int8)
        for part in self._parts(images):
            found = np.maximum(found, self._verdicts(part, trials))
        return found

    def screened(self, images: npt.NDArray[Any], trials: Sequence[Trial]) -> npt.NDArray[np.bool_]:
        """Which trials may be left out: those that `verdicts` says are harmless."""
        return np.asarray(self.verdicts(images, trials) == HARMLESS)

    def _verdicts(self, part: _Part, trials: Sequence[Trial]) -> npt.NDArray[np.int8]:
        found = np.full(len(trials), UNKNOWN, dtype=np.int8)
        if part.golden.outputs.ndim != 2:
            return found
        part.screen = part.screen or Screen(self.program, part.golden, part.route.lane_ends())
        groups = _Groups()
        single = self._single(trials)
        for number, hits in single.items():
            if not hits:
                found[number] = HARMLESS
            elif len(hits) == 1 and math.isfinite(hits[0][1].value):
                groups.add(number, *hits[0])
        changed = Changed(part.golden)
        walk = Walk(part.route, part.golden, changed)
        for index, numbers, change, is_huge in self._entries(part.golden, groups):
            if change is None:
                continue
            rows = self._rows(part.golden, numbers, {self.program.steps[index].name: change})
            index = walk.along(index, rows, is_huge)
            name = self.program.steps[index].name
            taken = part.screen.taken(name, rows.changes[name], len(numbers))
            wild = [self._is_wild(single[number][0][1], trials[number][0]) for number in numbers]
            run_threatened(walk, changed, index, rows, taken, torch.tensor(wild, device=self.device), is_huge)
            found[numbers] = HARMLESS
        found[list(changed.close)] = UNKNOWN
        found[list(changed.trials)] = CRITICAL
        found[list(changed.doubtful)] = UNKNOWN
        return found

    def _is_wild(self, hit: Hit, fault: Fault) -> bool:
        """Does the value change by more than twice the largest golden one? First order says little of that."""
        return abs(hit.value - hit.golden) > 2 * self._largest[fault.memory]

    def _check_golden(self) -> None:
        if any(len(stored.faulty) for stored in self._stored.values()):
            raise ManifestError("memories must be golden before trials, got faults in them: restore first")

    # -- golden values ----------------------------------------------------------------------------------------------

    def _tensor(self, images: npt.ArrayLike) -> Tensor:
        tensor = torch.as_tensor(np.asarray(images, dtype=np.float32), device=self.device)
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    def _parts(self, images: npt.NDArray[Any]) -> Iterator[_Part]:
        """Golden values of all images, in parts of GOLDEN_BYTES; where one part is enough it is kept."""
        if self._kept is not None and self._source is not None and np.array_equal(images, self._source):
            yield self._kept
            return
        tensor = self._tensor(images)
        if self._route is None:
            pair = pair_of(tensor)
            program = checked(simplified(trace(self.network)), self.network, pair)
            self._route = Route(program, execute(program, pair))
        self._kept = self._source = None  # freed before the next ones are computed
        at_once = max(1, GOLDEN_BYTES // bytes_per_image(self.program, tensor))
        for start in range(0, max(1, len(tensor)), at_once):
            some = tensor[start : start + at_once]
            part = _Part(self._route, Golden(self.program, some, self._outputs(some)))
            if len(some) == len(tensor):
                self._kept, self._source = part, np.array(images)
            yield part

    def _outputs(self, images: Tensor) -> Tensor:
        """What the network gives, bit by bit as `infer` does; a few images at a time."""
        parts = list(images.split(IMAGES))
        if len(parts) > 1 and len(parts[-1]) == 1:
            parts[-2:] = [torch.cat(parts[-2:])]  # one image alone goes through other sums
        return torch.cat([self.network(own(part)) for part in parts])

    @property
    def program(self) -> Program:
        """The network's steps; one step before any image was seen."""
        return self._route.program if self._route is not None else as_one_step(self.network)

    # -- trials -------------------------------------------------------------------------------------------------------

    def _answers(self, part: _Part, trials: Sequence[Trial]) -> _Answers:
        """Each trial is prepared by itself; those of one step go through the rest together."""
        golden = part.golden
        answers = _Answers(golden, len(trials))
        walk = Walk(part.route, golden, answers)
        groups = _Groups()
        single = self._single(trials)
        for number, faults in enumerate(trials):
            hits = single[number] if number in single else self._hits(faults) if len(faults) <= FEW else None
            if hits is not None and len(hits) == 1 and math.isfinite(hits[0][1].value):
                groups.add(number, *hits[0])
            elif hits is None or hits:
                self._whole(walk, answers, number, faults)
        for index, numbers, change, is_huge in self._entries(golden, groups):
            if change is None:
                for number in numbers:
                    self._whole(walk, answers, number, trials[number])
                continue
            rows = self._rows(golden, numbers, {self.program.steps[index].name: change})
            differing = walk.send(index, rows, is_huge)
            for number in differing.tolist():
                answers.path[number] = "delta"
        for number, images in answers.near.items():
            self._again(golden, answers, number, trials[number], images)
        return answers

    def _again(self, golden: Golden, answers: _Answers, number: int, faults: Trial, images: list[int]) -> None:
        """The trial's outputs of these images are those of the network itself."""
        some = torch.tensor(sorted(set(images)), device=self.device)
        with self._hit(faults):  # one image alone goes through other sums
            outputs = self.network(golden.images[some if len(some) > 1 else some.repeat(2)].contiguous())
        answers.outputs[number, some] = outputs[: len(some)]
        answers.path[number] = "again"

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
                role, steps = stored.role, self.program.index_of(stored.memory.layer)
                for index, golden, value in zip(*stored.changes(), strict=True):
                    found += [(step, Hit(role, int(index), float(golden), float(value))) for step in steps]
        return found

    def _single(self, trials: Sequence[Trial]) -> dict[int, list[tuple[int, Hit]]]:
        """As `_hits`, by trial, of all trials of one fault at once; a list's fault may change two parameters."""
        numbers: dict[str, list[int]] = {}
        for number, faults in enumerate(trials):
            if len(faults) == 1 and self.stored(faults[0].memory).memory.role != "outlier":
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

    def _entries(self, golden: Golden, groups: _Groups) -> Iterator[tuple[int, list[int], Change | None, bool]]:
        """(step, trials, what they change of its output, is a value huge?), in batches that fit.

        None where a whole channel is not all that changes.
        """
        for (index, _, is_huge), found in groups.members.items():
            members = sorted(found, key=lambda member: member[1].index)  # those of a channel stand together
            step = self.program.steps[index]
            output = golden.value(step.name)
            inputs = [golden.value(name) for name in step.inputs]
            channel = output[0].numel() // output.shape[1] if output.ndim > 1 else 1
            at_once = max(1, BATCH_BYTES // (4 * golden.count * channel))
            for start in range(0, len(members), at_once):
                part = members[start : start + at_once]
                change = step.rule.enter(inputs, output, [hit for _, hit in part])
                yield index, [number for number, _ in part], change, is_huge

    def _whole(self, walk: Walk, answers: _Answers, number: int, faults: Trial) -> None:
        """A trial computed whole up to the last of the steps that its faults hit."""
        changed: dict[str, Tensor] = {}
        with self._hit(faults):
            stored = [self._stored[name] for name in by_memory(faults)]
            values = [(each.memory.layer, each.changes()[2]) for each in stored]
            hit = {step for layer, now in values if len(now) for step in self.program.index_of(layer)}
            is_huge = any(not (np.abs(now) <= HUGE).all() for _, now in values)
            if not hit:
                return
            for index in range(min(hit), max(hit) + 1):
                step = self.program.steps[index]
                if index in hit or any(name in changed for name in step.inputs):
                    inputs = [changed[name] if name in changed else walk.golden.value(name) for name in step.inputs]
                    changed[step.name] = step.rule.run(*inputs)
        last_use = walk.route.last_use
        changes = {name: Change(value) for name, value in changed.items() if last_use[name] > max(hit)}
        if len(walk.send(max(hit), self._rows(walk.golden, [number], changes), is_huge)):
            answers.path[number] = "suffix"

    def _rows(self, golden: Golden, numbers: list[int], changes: dict[str, Change]) -> Rows:
        """The rows of all images of the trials, trial by trial."""
        trial = torch.tensor(numbers, device=self.device).repeat_interleave(golden.count)
        return Rows(trial, torch.arange(golden.count, device=self.device).repeat(len(numbers)), changes)


class _Groups:
    """Trials of one fault, by the step and the role that it hits, huge values apart."""

    def __init__(self) -> None:
        self.members: dict[tuple[int, Role, bool], list[tuple[int, Hit]]] = {}

    def add(self, number: int, index: int, hit: Hit) -> None:
        self.members.setdefault((index, hit.role, abs(hit.value) > HUGE), []).append((number, hit))

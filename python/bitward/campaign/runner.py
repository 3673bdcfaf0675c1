# SPDX-License-Identifier: Apache-2.0
"""Runs a campaign: inject, infer, compare, restore, for every fault that the store does not have yet.

With several workers each process has a target of its own and every n-th trial. A trial depends on nothing but its
fault: the table is the same for any number of workers, and for any number of kill -9 on the way.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.campaign.store import Trial, TrialStore
from bitward.campaign.workers import from_workers
from bitward.errors import BoardError, ConfigError
from bitward.faults import Fault
from bitward.manifest import Manifest, Memory, apply_edge
from bitward.targets import Target

Integers = npt.NDArray[np.integer[Any]]
MemoryImages = Mapping[str, npt.NDArray[np.uint32]]
Progress = Callable[[int, int], None]
PART_TRIALS, PART_S = 1000, 10.0  # what kill -9 can lose at most
SEND_TRIALS, SEND_S = 64, 0.5  # how often a worker speaks to its parent


TargetFactory = Callable[[], Target]


@dataclass(frozen=True)
class Campaign:
    """What is injected into what: trial i is `faults[i]`, each judged on every one of `images`.

    `golden` holds the memories as built, name -> (depth, segments). `images` are as streamed, (n, *io.input.shape).
    `expected`, the outputs without faults from another target, is what this target must compute too. `parameters` are
    what the user chose (flow, seed, sampler ...): a store refuses to be continued with others, and names them.
    """

    target: str
    manifest: Manifest
    golden: MemoryImages
    faults: Sequence[Fault]
    images: Integers
    labels: Integers | None = None
    expected: Integers | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.images) == 0:
            raise ConfigError("a campaign's images must be at least 1, got none: raise the number of images")
        if self.images.dtype.kind not in "iu":
            raise ConfigError(
                f"a campaign's images must be integers, as they are streamed, got {self.images.dtype}: apply the "
                "manifest's io.pre first"
            )
        if self.labels is not None and len(self.labels) != len(self.images):
            raise ConfigError(
                f"a campaign's labels must be as many as its {len(self.images)} images, got {len(self.labels)}: give "
                "both from one data set"
            )
        for memory in self.manifest.memories:
            shape = self.golden[memory.name].shape if memory.name in self.golden else "none"
            if shape != (memory.depth, memory.segments):
                raise ConfigError(
                    f"the golden image of memory {memory.name} must be of shape {(memory.depth, memory.segments)}, got "
                    f"{shape}: build the design again"
                )

    def spec(self) -> dict[str, Any]:
        """What identifies the campaign, for its store: the user's parameters and digests of everything else."""
        arrays = {"images": self.images, "labels": self.labels, "expected": self.expected}
        return {
            **self.parameters,
            "target": self.target,
            "design": self.manifest.design,
            "design_id": self.manifest.design_id,
            "manifest_sha256": hashlib.sha256(self.manifest.to_json().encode()).hexdigest(),
            "memories_sha256": {name: digest(image) for name, image in self.golden.items()},
            "faults": len(self.faults),
            "faults_sha256": hashlib.sha256("\n".join(map(str, self.faults)).encode()).hexdigest(),
            "image_count": len(self.images),
            **{f"{name}_sha256": None if array is None else digest(array) for name, array in arrays.items()},
        }


@dataclass(frozen=True)
class CampaignResult:
    """How a campaign ended. `repaired` are rows that a killed process had left faulty, found before the first trial."""

    trials: int
    restored_golden: bool
    unrestored: tuple[str, ...]
    repaired: tuple[str, ...]
    golden_sha256: str

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> CampaignResult:
        """The result that `TrialStore.result` read."""
        rows = {name: tuple(stored[name]) for name in ("unrestored", "repaired")}
        return cls(**{**stored, **rows})


@dataclass(frozen=True)
class Ready:
    """A target is open, golden, and computes `golden_sha256` without faults."""

    golden_sha256: str
    repaired: tuple[str, ...]


@dataclass(frozen=True)
class Trials:
    """Trials that a target has done."""

    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Restored:
    """A target has done all its trials; `unrestored` rows differ from the golden image."""

    unrestored: tuple[str, ...]


Events = Generator[Ready | Trials | Restored, None, None]


def digest(array: npt.ArrayLike) -> str:
    """The sha256 of integers and their shape, whatever type they come in: equal for equal arrays on every target.

    >>> digest(np.array([1, 2], np.int8)) == digest(np.array([1, 2], np.int64))
    True
    """
    integers = np.ascontiguousarray(array, dtype="<i8")
    return hashlib.sha256(repr(integers.shape).encode() + integers.tobytes()).hexdigest()


def run_campaign(
    campaign: Campaign,
    target_factory: TargetFactory,
    store: TrialStore,
    *,
    workers: int = 1,
    progress: Progress | None = None,
    part_trials: int = PART_TRIALS,
    part_s: float = PART_S,
) -> CampaignResult:
    """Every trial is in the store, and the target's memories were read back against the golden images.

    Goes on where an earlier run stopped. `target_factory` makes a closed target (with several workers it must be
    picklable: a class or a partial). `progress(done, total)` is called as trials come in. What was done is stored
    whatever ends the run; BoardError when a target is wrong without faults.
    """
    total = len(campaign.faults)
    done = store.finished()
    if len(done) == total and (ended := store.result()) is not None:
        return CampaignResult.from_dict(ended)
    numbers = [number for number in range(total) if number not in done]
    result = _collect(_events(campaign, target_factory, numbers, workers), store, total, progress, part_trials, part_s)
    store.set_result(asdict(result))
    return result


def _events(campaign: Campaign, factory: TargetFactory, numbers: Sequence[int], workers: int) -> Events:
    workers = min(workers, len(numbers))
    if workers <= 1:
        return attend(campaign, factory, numbers)
    shares = [numbers[first::workers] for first in range(workers)]
    return from_workers(attend, [(campaign, factory, share) for share in shares])


def _collect(
    events: Events,
    store: TrialStore,
    total: int,
    progress: Progress | None,
    part_trials: int,
    part_s: float,
) -> CampaignResult:
    """Stores trials as they come in, in parts; whatever ends the loop, what came in is stored."""
    done = len(store.finished())
    pending: list[Trial] = []
    unrestored: list[str] = []
    repaired: list[str] = []
    golden: set[str] = set()
    written = time.monotonic()
    report = progress or (lambda done, total: None)
    report(done, total)
    try:
        for event in events:
            if isinstance(event, Ready):
                golden.add(event.golden_sha256)
                repaired += event.repaired
                if len(golden) > 1:
                    raise BoardError("the workers' targets must agree without faults, got two outputs: use one worker")
            elif isinstance(event, Trials):
                pending += event.trials
                done += len(event.trials)
                report(done, total)
                if len(pending) >= part_trials or time.monotonic() - written >= part_s:
                    store.append(pending)
                    pending, written = [], time.monotonic()
            else:
                unrestored += event.unrestored
    finally:
        events.close()
        store.append(pending)
    return CampaignResult(total, not unrestored, tuple(unrestored), tuple(repaired), golden.pop())


def attend(campaign: Campaign, factory: TargetFactory, numbers: Sequence[int]) -> Events:
    """One target from opening to read-back: Ready, then Trials, then Restored."""
    with closing(factory()) as target:
        target.open()
        repaired = _repair(target, campaign)
        golden = np.asarray(target.infer(campaign.images))
        if campaign.expected is not None and not np.array_equal(golden, campaign.expected):
            axes = tuple(range(1, golden.ndim))
            wrong = "another shape"
            if golden.shape == campaign.expected.shape:
                wrong = f"{int((golden != campaign.expected).any(axis=axes).sum())} other images of {len(golden)}"
            raise BoardError(
                f"target {campaign.target} must compute the expected outputs without faults, got {wrong}: build the "
                "design again, and compare with bitward infer"
            )
        yield Ready(digest(golden), repaired)
        pending: list[Trial] = []
        sent = time.monotonic()
        for trial in _trials(target, campaign, golden, numbers):
            pending.append(trial)
            if len(pending) >= SEND_TRIALS or time.monotonic() - sent >= SEND_S:
                yield Trials(tuple(pending))
                pending, sent = [], time.monotonic()
        yield Trials(tuple(pending))
        yield Restored(tuple(f"{memory}:{word}" for memory, word in _not_golden(target, campaign)))


def _trials(target: Target, campaign: Campaign, golden: Integers, numbers: Collection[int]) -> Iterator[Trial]:
    golden_top1 = _top1(campaign, golden)
    for number in numbers:
        fault = campaign.faults[number]
        memory = campaign.manifest.memory(fault.memory)
        target.inject(fault)
        try:
            outputs = np.asarray(target.infer(campaign.images))
        finally:
            target.restore(fault)
        yield _judge(campaign, number, memory, outputs, golden, golden_top1)


def _judge(
    campaign: Campaign, number: int, memory: Memory, outputs: Integers, golden: Integers, golden_top1: Integers
) -> Trial:
    fault = campaign.faults[number]
    at = memory.locate(fault.word, fault.bit)
    parameter, replica = (None if value < 0 else int(value) for value in (at.index, at.replica))
    stored_bit, copy, bit = (None if at.dead else int(value) for value in (at.stored_bit, at.copy, at.bit))
    changed = (outputs != golden).reshape(len(golden), -1).any(axis=1)
    top1 = _top1(campaign, outputs)
    return Trial(
        trial=number,
        target=campaign.target,
        memory=fault.memory,
        layer=memory.layer,
        role=memory.role,
        word=fault.word,
        bit=fault.bit,
        parameter=parameter,
        replica=replica,
        stored_bit=stored_bit,
        copy=copy,
        parameter_bit=bit,
        images=len(golden),
        outputs_changed=int(changed.sum()),
        top1_changed=int((top1 != golden_top1).reshape(len(top1), -1).any(axis=1).sum()),
        top1_correct=None if campaign.labels is None else int((top1 == campaign.labels).sum()),
        outputs_sha256=digest(outputs),
    )


def _top1(campaign: Campaign, outputs: Integers) -> Integers:
    """The class of each image, or of each pixel, after the host's work at the edge (scales differ between channels)."""
    scores = apply_edge(campaign.manifest.io.post, outputs) if campaign.manifest.io else outputs
    return np.argmax(scores if scores.ndim > 2 else scores.reshape(len(outputs), -1), axis=1)


def _not_golden(target: Target, campaign: Campaign) -> Iterator[tuple[str, int]]:
    """(memory, word) of every row that differs from the golden image."""
    for memory in campaign.manifest.memories:
        for word, segments in enumerate(campaign.golden[memory.name]):
            if target.read(memory.name, word) != _row(segments):
                yield memory.name, word


def _repair(target: Target, campaign: Campaign) -> tuple[str, ...]:
    """The memories are golden; returns the rows that were not, as a killed run leaves them on a board that stays on."""
    rows = list(_not_golden(target, campaign))
    for memory, word in rows:
        target.write(memory, word, _row(campaign.golden[memory][word]))
    return tuple(f"{memory}:{word}" for memory, word in rows)


def _row(segments: npt.NDArray[np.uint32]) -> int:
    """A row as one integer, from its 32-bit segments, lowest first."""
    return int.from_bytes(segments.astype("<u4").tobytes(), "little")

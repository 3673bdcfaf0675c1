# SPDX-License-Identifier: Apache-2.0
"""The campaigns of a flow: which faults go into which build on which target, and what a person asks for by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from bitward_runtime.connection import Connection, Credentials
from numpy.typing import NDArray

from bitward.campaign import Campaign, CampaignResult, TrialStore, run_campaign, trial_faults
from bitward.campaign.plan import digest
from bitward.campaign.trial import Trial
from bitward.engine.graph import stream_ends
from bitward.engine.images import load_images
from bitward.errors import ConfigError, OtherCampaignError
from bitward.faults import Fault, FaultModel, every_fault, single_bit_stratified
from bitward.flow.rules import Rules
from bitward.manifest import Manifest, Memory, apply_edge
from bitward.metrics import changed_top1
from bitward.targets import Target

On = Literal["engine", "rtl", "board"]
Progress = Callable[[int, int, str], None]
NO_RULES = Rules()
SPECIAL = 16  # faults of an agreement set that must hit weights of -2^(b-1), and as many that must hit one-row memories


@dataclass(frozen=True)
class Place:
    """Where a target of kind `on` is: a build directory, and for a board its host (None: a virtual one is started)."""

    on: On
    build: Path
    host: str | None = None
    port: int = 7967
    credentials: Credentials | None = None

    @classmethod
    def at(cls, connection: Connection, build: Path) -> Place:
        """A board, with this build."""
        return cls("board", build, connection.host, connection.port, connection.credentials)

    def target(self) -> Target:
        """The target, closed. Picklable, so that workers can make their own."""
        if self.on == "engine":
            from bitward.targets.engine import EngineTarget

            return EngineTarget(self.build)
        if self.on == "rtl":
            from bitward.targets.rtl import RtlTarget

            return RtlTarget(self.build)
        from bitward.targets.board import BoardTarget

        return BoardTarget(self.build, self.host, self.port, self.credentials)


def msb_faults(manifest: Manifest, voted: int) -> list[Fault]:
    """Every bit that voting protects: the voted bits and their copies, or, in a plain memory, the top `voted` bits."""
    faults: list[Fault] = []
    for memory in manifest.memories:
        if memory.role == "weight":
            bits = memory.scheme.masked_bits or tuple(range(memory.scheme.bits - voted, memory.scheme.bits))
            faults += every_fault(manifest, memory.name, bits)
    return faults


def agreement_faults(
    manifest: Manifest, golden: Mapping[str, NDArray[np.uint32]], count: int, seed: int
) -> list[Fault]:
    """`count` different faults over all strata, weights of -2^(b-1) and one-row memories certainly among them.

    Raises ConfigError if the design has fewer live bits.
    """
    if count > manifest.population:
        raise ConfigError(f"agree_faults must be at most the {manifest.population} live bits, got {count}.")
    weights = [memory for memory in manifest.memories if memory.role == "weight"]
    lowest = [fault for memory in weights for fault in _on_lowest(memory, golden[memory.name])]
    one_row = [fault for memory in weights if memory.depth == 1 for fault in every_fault(manifest, memory.name)]
    random = np.random.default_rng(seed)
    chosen: dict[Fault, None] = {}
    for pool in (lowest, one_row):
        picks = random.permutation(len(pool))[: min(SPECIAL, count // 4)]
        chosen.update(dict.fromkeys(pool[pick] for pick in sorted(picks)))
    per_stratum = 1
    while len(chosen) < count:
        drawn = [fault for fault in single_bit_stratified(manifest, per_stratum, seed) if fault not in chosen]
        short = count - len(chosen)
        some = sorted(random.permutation(len(drawn))[:short])
        chosen.update(dict.fromkeys(drawn[pick] for pick in some))
        per_stratum *= 2
    return list(chosen)


def _on_lowest(memory: Memory, image: NDArray[np.uint32]) -> list[Fault]:
    """Every stored bit of the weights of -2^(b-1): those that have no negative."""
    plain = memory.words(image).reshape(-1)
    lowest = np.unique(np.flatnonzero(plain == 1 << (memory.scheme.bits - 1)) % memory.parameters)
    places = memory.places(lowest).reshape(-1, 2)
    return [Fault(memory.name, int(word), int(bit)) for word, bit in places]


def run(
    place: Place,
    faults: FaultModel | Sequence[Fault],
    images: NDArray[Any],
    labels: NDArray[Any] | None,
    directory: Path,
    parameters: Mapping[str, Any],
    workers: int = 1,
    progress: Progress | None = None,
    restart: bool = False,
    rules: Rules = NO_RULES,
    more_boards: Sequence[Place] = (),
) -> CampaignResult:
    """Every trial is done at `place`; trials lie in `directory`, an interrupted campaign goes on there.

    `images` are as the network takes them. With `restart`, a store of another campaign is moved
    aside to NAME.old, in the place of what was there. Where `place` is a board, `more_boards` share the trials with it.
    """
    manifest = Manifest.load(place.build / "manifest.json")
    integers = streamed(manifest, images)
    with Place("engine", place.build).target() as engine:
        expected = engine.infer(integers)
    campaign = Campaign(
        target=place.on,
        manifest=manifest,
        golden=load_images(place.build / "memories.npz"),
        faults=faults,
        images=integers,
        labels=labels,
        expected=expected,
        parameters=dict(parameters),
        trials=rules.trials,
        stopping=rules.stopping,
        screen=rules.screen,
        timeout_s=rules.timeout_s,
    )
    factory = factories(place, more_boards, rules.timeout_s)
    with open_store(directory, campaign.spec(), restart) as store:
        return run_campaign(campaign, factory, store, workers=workers, scheduler=rules.scheduler, progress=progress)


def streamed(manifest: Manifest, images: NDArray[Any]) -> NDArray[np.int64]:
    """Images as the build's input stream takes them; ManifestError where it has no streams."""
    return apply_edge(stream_ends(manifest).pre, images).astype(np.int64)


def factories(
    place: Place, more_boards: Sequence[Place] = (), timeout_s: float | None = None
) -> Callable[[], Target] | dict[str, Callable[[], Target]]:
    """What makes the target, or the boards by name where they are several or have to be watched.

    ConfigError for a board that is named twice, and for several places that are no boards.
    """
    places = (place, *more_boards)
    if any(each.on != "board" for each in more_boards) or (more_boards and place.on != "board"):
        raise ConfigError(f"places that share trials must be boards, got {', '.join(each.on for each in places)}")
    if len(places) == 1 and (place.on != "board" or timeout_s is None):
        return partial(_target, place)
    found: dict[str, Callable[[], Target]] = {}
    for each in places:
        name = str(Connection(each.host, each.port))
        if name in found:
            raise ConfigError(f"each board must be named once, got {name} twice: drop one, or give another port")
        found[name] = partial(_target, each)
    return found


@dataclass(frozen=True)
class Again:
    """A recorded trial that was run once more: digests of its outputs, and on how many images it changes the decision.

    Floating-point outputs may differ in their last bits, as sums of a trial by itself have another order.
    """

    faults: Sequence[Fault]
    recorded: str
    found: str
    recorded_changed: int | None
    found_changed: int | None
    images: int

    @property
    def is_equal(self) -> bool:
        """Whether all outputs of all images are the recorded ones."""
        return self.recorded == self.found

    @property
    def decides_alike(self) -> bool:
        """Whether as many decisions are changed as recorded."""
        return self.recorded_changed == self.found_changed


def recorded_trial(directory: Path, number: int) -> tuple[TrialStore, Trial]:
    """The campaign's store, and that trial of it; ConfigError where there is no such trial, or it has no outputs."""
    store = TrialStore.load(directory)
    trial = next((each for each in store.trials() if each.trial == number), None)
    if trial is None:
        raise ConfigError(f"a trial must be one of those in {directory}, got {number}: bitward trials lists them")
    if trial.outputs_sha256 is None:
        how = trial.path if trial.status == "done" else trial.status
        raise ConfigError(f"a trial must have outputs to be compared with, got {number}, which is {how}: take another")
    return store, trial


def holds_its_memories(store: TrialStore, golden: Mapping[str, NDArray[np.uint32]]) -> bool:
    """Whether these are the memories that the campaign was run on."""
    return {name: digest(image) for name, image in golden.items()} == store.spec["memories_sha256"]


def once_more(store: TrialStore, trial: Trial, target: Target) -> Again:
    """The trial is run again on an open target that holds the campaign's memories, on the campaign's own images."""
    faults, images = trial_faults(trial, store.spec, target.manifest), store.images()
    outcome = next(iter(target.outcomes(images, [faults])))
    changed = None
    if trial.top1_changed is not None:
        changed = int(changed_top1(target.infer(images), outcome.outputs).sum())
    found = digest(outcome.outputs)
    return Again(faults, str(trial.outputs_sha256), found, trial.top1_changed, changed, len(images))


def run_again(directory: Path, number: int, place: Place) -> Again:
    """Trial `number` of the campaign in `directory` is run once more at `place`, on the campaign's own images.

    ConfigError where there is no such trial, it has no outputs, or the build holds other memories.
    """
    store, trial = recorded_trial(directory, number)
    if not holds_its_memories(store, load_images(place.build / "memories.npz")):
        raise ConfigError(f"{place.build} must be the campaign's build, got one of other memories: name its own")
    with place.target() as target:
        return once_more(store, trial, target)


def _target(place: Place) -> Target:
    return place.target()


def open_store(directory: Path, spec: Mapping[str, Any], restart: bool) -> TrialStore:
    """The store of the spec; with `restart`, one of another campaign is moved aside to NAME.old."""
    try:
        return TrialStore.open(directory, spec, "with --restart these are moved aside, and it begins anew")
    except OtherCampaignError:
        if not restart:
            raise
        aside = directory.with_name(f"{directory.name}.old")
        shutil.rmtree(aside, ignore_errors=True)
        directory.rename(aside)
        return TrialStore.open(directory, spec)

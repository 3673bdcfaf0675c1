# SPDX-License-Identifier: Apache-2.0
"""Runs a campaign: inject, infer, compare, restore, for every trial that the store does not have yet.

A trial depends on nothing but its number and the campaign: the table is the same for any number of workers, here or on
a cluster, and for any number of kill -9 on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from threading import Event
from typing import Any, Literal

from bitward.campaign.boards import from_boards
from bitward.campaign.cluster import from_cluster
from bitward.campaign.collect import Collector
from bitward.campaign.plan import Campaign
from bitward.campaign.session import Events, TargetFactory, attend
from bitward.campaign.store import TrialStore
from bitward.campaign.watch import Missing, Watch
from bitward.campaign.workers import from_workers
from bitward.errors import ConfigError
from bitward.statistics import Interval

Progress = Callable[[int, int, str], None]
Ended = Literal["all trials done", "margin reached"]
PART_TRIALS, PART_S = 1000, 10.0  # what kill -9 can lose at most


@dataclass(frozen=True)
class CampaignResult:
    """How a campaign ended: after how many of the `planned` trials, and why. `failed` ones, or timed out, are counted.

    `interval` is that of the stopping rule; without one, that of top1_changed for a fixed number of trials (None where
    they are no random sample). `repaired` are rows that a killed process had left faulty, found before the
    first trial; `unrestored` those that differ from the golden image after the last.

    Of boards: how many trials each did, what each calls itself (those that were there at the end), how many trials
    ended only at the second attempt (`retried`; what fails twice is among the `failed`), and who was set aside, with
    the reason; its trials were done by others.
    """

    trials: int
    restored_golden: bool
    unrestored: tuple[str, ...]
    repaired: tuple[str, ...]
    golden_sha256: str
    planned: int = 0
    ended: Ended = "all trials done"
    failed: int = 0
    interval: Interval | None = None
    retried: int = 0
    boards: Mapping[str, int] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    set_aside: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> CampaignResult:
        """The result that `TrialStore.result` read."""
        rows = {name: tuple(stored[name]) for name in ("unrestored", "repaired", "set_aside")}
        interval = None if stored["interval"] is None else Interval(**stored["interval"])
        return cls(**{**stored, **rows, "interval": interval})


def run_campaign(
    campaign: Campaign,
    target_factory: TargetFactory | Mapping[str, TargetFactory],
    store: TrialStore,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Progress | None = None,
    part_trials: int = PART_TRIALS,
    part_s: float = PART_S,
) -> CampaignResult:
    """Every trial that the campaign needs is in the store, and the memories were read back against the golden images.

    Goes on where an earlier run stopped. `target_factory` makes a closed target (with several workers it must be
    picklable: a class or a partial); several of them by name are boards that share the trials, each in a process of its
    own, while any of them answers. `scheduler` is Dask's: "local", or an address; without it, `workers` processes.
    `progress(done, planned, note)` is called as trials come in. What was done is stored whatever ends the run;
    BoardError when a target is wrong without faults.

    With a time limit trials run in a process of their own, also where there is one worker only:
    `bitward.campaign.watch` ends one that overstays, whatever it is doing (not that of a board, whose calls have
    deadlines of their own).
    """
    if scheduler is not None and campaign.timeout_s is not None:
        raise ConfigError(
            f"a time limit must be watched by this machine's processes, got the Dask scheduler {scheduler}: leave out "
            "one of the two"
        )
    if isinstance(target_factory, Mapping) and (scheduler is not None or not target_factory):
        raise ConfigError(
            f"boards that share trials must be one or more, without Dask, got {len(target_factory)} and the scheduler "
            f"{scheduler}: leave out the scheduler"
        )
    stored = frozenset(store.finished())
    if (ended := store.result()) is not None and len(stored) == ended["trials"]:
        return CampaignResult.from_dict(ended)
    store.keep_images(campaign.images)
    collector = Collector(campaign, store, progress, part_trials, part_s)
    stop = Event()
    if collector.is_enough:
        stop.set()
    planned = 0 if stop.is_set() else campaign.planned
    missing = Missing(planned, frozenset(number for number in stored if number < planned))
    _drain(_events(campaign, target_factory, missing, store, workers, scheduler, stop), collector, stop)
    result = _result(campaign, collector)
    store.set_result(asdict(result))
    return result


def _events(
    campaign: Campaign,
    factory: TargetFactory | Mapping[str, TargetFactory],
    missing: Missing,
    store: TrialStore,
    workers: int,
    scheduler: str | None,
    stop: Event,
) -> Events:
    if isinstance(factory, Mapping):
        return from_boards(campaign, factory, missing, stop.is_set)
    workers = min(workers, len(missing))
    if scheduler is not None and workers:
        return from_cluster(campaign, factory, missing, store.fingerprint, scheduler, workers, stop.is_set)
    if workers <= 1 and campaign.timeout_s is None:
        return attend(campaign, factory, missing, stop.is_set)
    shares = [missing.share(worker, max(1, workers)) for worker in range(max(1, workers))]
    watch = None if campaign.timeout_s is None else Watch(campaign, shares, campaign.timeout_s)
    return from_workers(partial(attend, campaign, factory), shares, stop.is_set, watch)


def _drain(events: Events, collector: Collector, stop: Event) -> None:
    """All events are taken; whatever ends the loop, the trials that came in are stored."""
    try:
        for event in events:
            collector.take(event)
            if collector.is_enough:
                stop.set()
    finally:
        events.close()
        collector.flush()


def _result(campaign: Campaign, collector: Collector) -> CampaignResult:
    is_early = collector.is_enough and collector.done < campaign.planned
    return CampaignResult(
        trials=collector.done,
        restored_golden=not collector.unrestored,
        unrestored=tuple(collector.unrestored),
        repaired=tuple(collector.repaired),
        golden_sha256=collector.golden_sha256,
        planned=campaign.planned,
        ended="margin reached" if is_early else "all trials done",
        failed=collector.failed,
        interval=collector.interval(),
        retried=collector.retried,
        boards=dict(collector.boards),
        names=collector.names,
        set_aside=collector.set_aside(),
    )

# SPDX-License-Identifier: Apache-2.0
"""What a run left in its folder, read once. Whatever is not there is `Missing`, with the reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc
from bitward_runtime.measure import Measurement

from bitward.campaign import TrialStore
from bitward.campaign.query import has_changed
from bitward.errors import ConfigError
from bitward.flow.rates import campaign_name
from bitward.manifest import Manifest

Side = Literal["plain", "hardened"]
SIDES: tuple[Side, ...] = get_args(Side)
AGREEING = ("engine", "rtl", "board")
KINDS = ("msb", "strata", "model")  # of campaigns into both builds
CAMPAIGNS = (*(f"{kind}-{side}" for kind in KINDS for side in SIDES), *(f"agree-{on}" for on in AGREEING))
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Missing:
    """A figure that the run does not have, and why."""

    reason: str


@dataclass(frozen=True)
class Trials:
    """The trials of one campaign: `planned` of them at most, by `spec`. `result` is None until it has ended."""

    name: str
    table: pa.Table
    planned: int
    fingerprint: str
    spec: Mapping[str, Any]
    result: Mapping[str, Any] | None

    @property
    def restored(self) -> bool | None:
        """Whether its memories were golden at the end; None until then."""
        return None if self.result is None else bool(self.result["restored_golden"])

    @property
    def images(self) -> int:
        """Images on which each fault was judged."""
        return int(self.table["images"][0].as_py())

    @property
    def is_complete(self) -> bool:
        """Whether every trial of the campaign was run, or as many as its stopping rule needed."""
        is_sure = self.result is not None and self.result.get("ended") == "margin reached"
        return is_sure or self.table.num_rows == self.planned

    def count(self, column: str) -> int:
        """How many faults changed at least one image in `column`: "outputs_changed" or "top1_changed".

        A trial that failed or timed out counts: the design did not give its answers.
        """
        return int(pc.sum(has_changed(self.table, column)).as_py() or 0)


@dataclass(frozen=True)
class RunData:
    """A run's folder. `manifests`, `builds` and `measured` lack a side, `campaigns` a name, that is not there (yet).

    `by_hand` are the campaigns of `bitward inject --on board`.
    """

    folder: Path
    summary: Mapping[str, Any]
    manifests: Mapping[str, Manifest]
    builds: Mapping[str, Mapping[str, Any]]
    campaigns: Mapping[str, Trials]
    measured: Mapping[str, Measurement]
    by_hand: Mapping[str, Trials]

    def figure(self, *keys: str) -> Any:
        """A value of `summary.json` by its path of keys; Missing where there is none, or it was not measured."""
        value: Any = self.summary
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is None or value == NOT_MEASURED:
            return Missing(f"summary.json has no {'.'.join(keys)}: the run did not come so far")
        return value

    def trials(self, name: str) -> Trials | Missing:
        """The trials of a campaign."""
        return self.campaigns.get(name, Missing(f"the campaign {name} has no trials: the run did not come so far"))


def load_run(folder: Path) -> RunData:
    """Everything in a run's folder. ConfigError when it is none; ManifestError and StoreError for damaged files."""
    if not (folder / "summary.json").is_file():
        raise ConfigError(f"{folder} must be a run's folder, got one without summary.json: run bitward run first")
    builds = {side: folder / "build" / side for side in SIDES}
    stores = {name: folder / "campaigns" / name for name in CAMPAIGNS}
    summary = read_object(folder / "summary.json")
    stores |= {name: folder / "campaigns" / name for name in _rates(summary)}
    return RunData(
        folder=folder,
        summary=summary,
        manifests={side: Manifest.load(path / "manifest.json") for side, path in builds.items() if _built(path)},
        builds={side: read_object(path / "build.json") for side, path in builds.items() if _built(path)},
        campaigns=_campaigns(stores),
        measured=_measured(folder, summary),
        by_hand=_campaigns({path.name: path for path in sorted((folder / "campaigns").glob("inject-*-board"))}),
    )


def _rates(summary: Mapping[str, Any]) -> list[str]:
    """The campaigns of the bit error rates that the flow asked for; those of an earlier flow are none of them."""
    settings = summary.get("settings")
    inject = settings.get("inject") if isinstance(settings, Mapping) else None
    rates = inject.get("bers") if isinstance(inject, Mapping) else None
    return [campaign_name(side, ber) for ber in rates or () for side in SIDES]


def _measured(folder: Path, summary: Mapping[str, Any]) -> dict[str, Measurement]:
    """What the run's last measurement left; what an earlier one left of another build is not the summary's."""
    rows = summary.get("measured")
    paths = {side: folder / "measured" / f"{side}.json" for side in SIDES if isinstance(rows, dict) and side in rows}
    return {
        side: Measurement.from_json(path.read_text(encoding="utf-8"), str(path))
        for side, path in paths.items()
        if path.is_file()
    }


def _campaigns(stores: Mapping[str, Path]) -> dict[str, Trials]:
    """Those that have trials."""
    return {
        name: trials
        for name, path in stores.items()
        if (path / "spec.json").is_file() and (trials := _read_trials(name, path)).table.num_rows
    }


def _built(path: Path) -> bool:
    return (path / "manifest.json").is_file() and (path / "build.json").is_file()


def _read_trials(name: str, path: Path) -> Trials:
    store = TrialStore.load(path)
    table, result = store.read(), store.result()
    planned = store.spec.get("faults", table.num_rows)
    return Trials(name, table, planned, store.fingerprint, store.spec, result)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; ConfigError where it holds none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} must be JSON that bitward wrote, got {error}: run the flow again") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must be a JSON object, got a {type(content).__name__}: run the flow again")
    return content

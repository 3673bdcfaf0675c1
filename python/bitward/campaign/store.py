# SPDX-License-Identifier: Apache-2.0
"""The trial store: a folder of Parquet parts that only grows, and survives kill -9 at any instant.

    spec.json      what the campaign is, its fingerprint, and what made it
    part-*.parquet trials, one row each; written beside, synced, then renamed: whole or not there
    images.npz     the images that faults were judged on, so that any trial can be run again anywhere
    result.json    what was found after the last trial
    log.jsonl      what boards had trouble with: trials run once more, overlays loaded anew, boards set aside
    lock           held while a process appends

A store belongs to one spec. Whoever comes with another is told which parameter differs, so that no table mixes two.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import IO, Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bitward.campaign.plan import digest
from bitward.campaign.trial import Trial
from bitward.errors import OtherCampaignError, StoreError
from bitward.locks import hold
from bitward.tools import PARTIAL_SUFFIX, atomic_path, atomic_write, git_hash, output_directory, writing_to

SCHEMA_VERSION = 3
SPEC_FILE, RESULT_FILE, IMAGES_FILE = "spec.json", "result.json", "images.npz"
LOG_FILE = "log.jsonl"
ANOTHER = "choose another folder, or delete this one to start again"


_TYPES = {
    "int": pa.int64(), "str": pa.string(), "Status": pa.string(), "bool": pa.bool_(), "float": pa.float64(),
    "tuple[str, ...]": pa.list_(pa.string()),
}  # fmt: skip


def _column(name: str, kind: str) -> pa.Field:
    return pa.field(name, _TYPES[kind.removesuffix(" | None")], nullable=kind.endswith(" | None"))


SCHEMA = pa.schema([_column(field.name, str(field.type)) for field in fields(Trial)])
VERDICTS = (
    "trial", "faults_sha256", "status", "outputs_changed", "top1_changed", "top1_correct", "outputs_sha256",
)  # fmt: skip


def fingerprint(spec: Mapping[str, Any]) -> str:
    """The sha256 of a spec: equal for equal parameters, in whatever order they are written.

    >>> fingerprint({"seed": 1, "on": "rtl"}) == fingerprint({"on": "rtl", "seed": 1})
    True
    """
    return hashlib.sha256(_canonical(spec).encode()).hexdigest()


def _canonical(spec: Mapping[str, Any]) -> str:
    try:
        return json.dumps(spec, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(f"a campaign's spec must be JSON values, got {error}: use numbers, text and lists") from error


def _differences(was: Any, now: Any, where: str = "") -> list[str]:
    """Every parameter that differs, by its dotted name, with both values."""
    if isinstance(was, dict) and isinstance(now, dict):
        keys = sorted({*was, *now})
        return [d for k in keys for d in _differences(was.get(k), now.get(k), f"{where}.{k}" if where else k)]
    return [] if was == now else [f"{where} = {json.dumps(now)}, was {json.dumps(was)}"]


def verdicts_sha256(table: pa.Table) -> str:
    """The sha256 of what a campaign found, trial by trial: numbers, faults and verdicts, whatever computed them.

    Times and paths are not in it: they may differ between two runs of one campaign.
    """
    rows = table.sort_by("trial").select(VERDICTS).to_pylist()
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


class TrialStore:
    """Trials of one campaign in a folder. `open` is for the process that appends, `load` for those that read."""

    def __init__(self, directory: Path, spec: dict[str, Any], lock: IO[str] | None) -> None:
        self.directory = directory
        self.spec = spec
        self.fingerprint = fingerprint(spec)
        self._lock = lock

    @classmethod
    def open(cls, directory: Path, spec: Mapping[str, Any], otherwise: str = ANOTHER) -> TrialStore:
        """The store of `spec`, made or continued; leftovers of a killed process are gone.

        OtherCampaignError when the folder holds another campaign (naming what differs, and `otherwise` what to do),
        StoreError when another process appends to it; OutputError when it cannot be written.
        """
        wanted = json.loads(_canonical(spec))
        lock = _lock(output_directory(directory))
        try:
            for leftover in directory.glob(f".*{PARTIAL_SUFFIX}"):
                leftover.unlink()
            if (directory / SPEC_FILE).exists():
                if differences := _differences(_read_spec(directory), wanted):
                    named = [each for each in differences if "_sha256 = " not in each] or differences
                    raise OtherCampaignError(
                        f"the trials in {directory} must be continued as they were begun, got {'; '.join(named)}: "
                        f"{otherwise}"
                    )
            else:
                _begin(directory, wanted)
        except BaseException:
            lock.close()
            raise
        return cls(directory, wanted, lock)

    @classmethod
    def load(cls, directory: Path) -> TrialStore:
        """The store in a folder, to read; StoreError when there is none."""
        return cls(directory, _read_spec(directory), None)

    def __enter__(self) -> TrialStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Another process may append."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def append(self, trials: Sequence[Trial]) -> None:
        """The trials are on disk, as one part; none of them is when this fails (OutputError) or is killed."""
        if self._lock is None:
            raise StoreError(f"the store {self.directory} must be opened to append, got one that was loaded: use open")
        if not trials:
            return
        metadata = {"bitward.schema": str(SCHEMA_VERSION), "bitward.fingerprint": self.fingerprint}
        table = pa.Table.from_pylist([vars(trial) for trial in trials], schema=SCHEMA.with_metadata(metadata))
        first = min(trial.trial for trial in trials)  # names the part: a trial is stored once
        with atomic_path(self.directory / f"part-{first:08d}.parquet") as partial:
            pq.write_table(table, partial, compression="zstd", write_page_checksum=True)

    def read(self) -> pa.Table:
        """All trials, ordered by number; StoreError names a part that is damaged or belongs elsewhere."""
        tables = [self._read_part(path) for path in self._parts()]
        table = pa.concat_tables([SCHEMA.empty_table(), *tables]).sort_by("trial").combine_chunks()
        numbers = table["trial"].to_pylist()
        if len(set(numbers)) != len(numbers):
            raise StoreError(f"the trials in {self.directory} must be stored once each, got some twice: {ANOTHER}")
        return table

    def trials(self) -> list[Trial]:
        """All trials, ordered by number, as they were appended."""
        rows = self.read().to_pylist()
        return [Trial(**{**row, "faults": None if row["faults"] is None else tuple(row["faults"])}) for row in rows]

    def finished(self) -> set[int]:
        """The numbers of the trials that are stored; every part is checked on the way."""
        return set(self.read()["trial"].to_pylist())

    def keep_images(self, images: npt.NDArray[Any]) -> None:
        """The images that trials are judged on are on disk, once."""
        if not (self.directory / IMAGES_FILE).exists():
            with atomic_path(self.directory / IMAGES_FILE) as partial, open(partial, "wb") as file:
                np.savez_compressed(file, images=images)

    def images(self) -> npt.NDArray[Any]:
        """What `keep_images` kept; StoreError where there is none, or not what the spec says."""
        path = self.directory / IMAGES_FILE
        try:
            with np.load(path, allow_pickle=False) as kept:
                images = np.asarray(kept["images"])
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise StoreError(
                f"{path} must hold the images of the campaign, got {error}: run the campaign again"
            ) from error
        if digest(images) != self.spec.get("images_sha256"):
            raise StoreError(f"{path} must hold the images that the spec names, got others: run the campaign again")
        return images

    def set_result(self, result: Mapping[str, Any]) -> None:
        """What was found after the last trial is on disk."""
        atomic_write(self.directory / RESULT_FILE, json.dumps(result, indent=1) + "\n")

    def result(self) -> dict[str, Any] | None:
        """What `set_result` kept; None when the campaign has not come to its end."""
        path = self.directory / RESULT_FILE
        return _read_json(path) if path.exists() else None

    def note(self, entry: Mapping[str, Any]) -> None:
        """The entry is in the log, with the time of day."""
        line = json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds"), **entry})
        with writing_to(self.directory), open(self.directory / LOG_FILE, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def log(self) -> list[dict[str, Any]]:
        """What was noted, in order; a line that kill -9 cut short is left out."""
        path = self.directory / LOG_FILE
        found = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            with suppress(ValueError):
                found.append(json.loads(line))
        return found

    def _parts(self) -> list[Path]:
        return sorted(self.directory.glob("part-*.parquet"))

    def _read_part(self, path: Path) -> pa.Table:
        try:
            # The page checksums tell a flipped bit on the disk from a trial.
            table = pq.ParquetFile(path, page_checksum_verification=True).read()
        except (pa.ArrowException, OSError) as error:
            raise StoreError(
                f"{path} must be a whole part of a trial store, got {str(error).splitlines()[0]}: delete it and start "
                "again to run its trials anew"
            ) from error
        found = (table.schema.metadata or {}).get(b"bitward.fingerprint", b"none").decode()
        if found != self.fingerprint:
            raise StoreError(
                f"{path} must belong to the campaign {self.fingerprint[:12]}, got a part of {found[:12]}: move it out "
                "of the folder"
            )
        return table.replace_schema_metadata(None).cast(SCHEMA)


def _lock(directory: Path) -> IO[str]:
    """The folder is this process's to append to, until the file is closed or the process dies in whatever way."""
    if (lock := hold(directory)) is None:
        raise StoreError(
            f"the store {directory} must be appended to by one process at a time, got a second one: wait for the "
            "first, or end it"
        )
    return lock


def _begin(directory: Path, spec: dict[str, Any]) -> None:
    if list(directory.glob("part-*.parquet")):
        raise StoreError(f"{directory} must have {SPEC_FILE} beside its parts, got none: {ANOTHER}")
    content = {
        "schema": SCHEMA_VERSION,
        "fingerprint": fingerprint(spec),
        "spec": spec,
        "made_by": {"bitward": version("bitward"), "git": git_hash()},
    }
    atomic_write(directory / SPEC_FILE, json.dumps(content, indent=1) + "\n")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} must be JSON that bitward wrote, got {error}: {ANOTHER}") from error
    if not isinstance(content, dict):
        raise StoreError(f"{path} must be JSON that bitward wrote, got a {type(content).__name__}: {ANOTHER}")
    return content


def _read_spec(directory: Path) -> dict[str, Any]:
    path = directory / SPEC_FILE
    if not path.exists():
        raise StoreError(f"{directory} must hold a campaign's trials, got no {SPEC_FILE}: run bitward inject first")
    content = _read_json(path)
    if content.get("schema") != SCHEMA_VERSION:
        raise OtherCampaignError(
            f"{path} must be of schema {SCHEMA_VERSION}, got {content.get('schema')}: read it with the bitward that "
            "wrote it"
        )
    spec = content.get("spec")
    if not isinstance(spec, dict) or content.get("fingerprint") != fingerprint(spec):
        raise StoreError(f"{path} must carry the fingerprint of its spec, got one that was edited: {ANOTHER}")
    return spec

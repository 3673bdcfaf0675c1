# SPDX-License-Identifier: Apache-2.0
"""Looking at the trials of a store: filters in SQL, counts with intervals, files for other tools."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from bitward.campaign.trial import SCREENED
from bitward.errors import ConfigError
from bitward.metrics import Share
from bitward.statistics import exact
from bitward.tools import atomic_path

FORMATS = (".csv", ".parquet", ".json")


def where(table: pa.Table, condition: str) -> pa.Table:
    """The trials for which an SQL condition on the table's columns is true; ConfigError says what is wrong with it.

    DuckDB evaluates it, with no access to files, the network or settings: a condition can but choose rows.
    """
    import duckdb

    query = f"SELECT * FROM trials WHERE ({condition}\n) ORDER BY trial"
    try:
        with duckdb.connect(":memory:", config={"enable_external_access": "false"}) as connection:
            statements = connection.extract_statements(query)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise ConfigError(f"a condition must be one SQL expression, got {condition!r}: for example flips = 1")
            connection.register("trials", table)
            connection.execute("SET lock_configuration = true")
            found: pa.Table = connection.sql(query).to_arrow_table()
    except duckdb.Error as error:
        reason = next(line for line in str(error).splitlines() if line.strip())
        raise ConfigError(
            f"a condition must be SQL on a trial's columns, got {condition!r}: {reason}; the columns are "
            f"{', '.join(table.column_names)}"
        ) from error
    return found.cast(table.schema)


@dataclass(frozen=True)
class Group:
    """Trials of one memory and stored bit, or of several faults each (`memory` None), and what they changed.

    Shares are of the trials that were run, with the exact 95 % interval of Clopper and Pearson, which holds for
    a number of trials fixed beforehand; trials that failed or timed out count as changed, those screened out are not in
    them.
    """

    role: str | None
    memory: str | None
    stored_bit: int | None
    trials: int
    failed: int
    screened_out: int
    outputs_changed: Share | None
    top1_changed: Share | None


def has_failed(table: pa.Table) -> pa.ChunkedArray:
    """Which trials gave no outputs: they failed, or took too long."""
    return pc.not_equal(table["status"], "done")


def is_left_out(table: pa.Table) -> pa.ChunkedArray:
    """Which trials were not run, because a screen named them."""
    return pc.equal(table["path"], SCREENED)


def has_changed(table: pa.Table, column: str) -> pa.ChunkedArray:
    """Which trials changed an image in `column`, "outputs_changed" or "top1_changed".

    One that failed or timed out did: the design did not give its answers. One that was left out did not.
    """
    return pc.or_(has_failed(table), pc.fill_null(pc.greater(table[column], 0), False))


def summary(table: pa.Table) -> list[Group]:
    """The trials by role, memory and stored bit, in the order in which memories first come; those of several last."""
    keys = ["role", "memory", "stored_bit"]
    counts = {"failed": has_failed(table), "out": is_left_out(table)}
    for name in ("outputs_changed", "top1_changed"):
        counts[name] = has_changed(table, name)
    plain = {name: pc.cast(column, pa.int64()) for name, column in counts.items()}
    marked = pa.table({**{key: table[key] for key in keys}, "first": table["trial"], **plain})
    found = marked.group_by(keys).aggregate(
        [("first", "min"), ("first", "count"), *((name, "sum") for name in counts)]
    )  # fmt: skip
    rows = sorted(
        found.to_pylist(), key=lambda row: (row["memory"] is None, _first(found, row), row["stored_bit"] or 0)
    )
    return [_group(row) for row in rows]


def _first(found: pa.Table, row: dict[str, Any]) -> int:
    """The first trial of the row's memory."""
    of_memory = [each for each in found.select(["memory", "first_min"]).to_pylist() if each["memory"] == row["memory"]]
    return min(int(each["first_min"]) for each in of_memory)


def _group(row: dict[str, Any]) -> Group:
    run = row["first_count"] - row["out_sum"]
    shares = [_share(row[f"{name}_sum"], run) if run else None for name in ("outputs_changed", "top1_changed")]
    return Group(
        row["role"], row["memory"], row["stored_bit"], row["first_count"], row["failed_sum"], row["out_sum"], *shares
    )


def _share(count: int, total: int) -> Share:
    found = exact(count, total)
    return Share(count, total, found.low, found.high)


@dataclass(frozen=True)
class Flips:
    """How many bits the trials hit: what belongs beside every rate.

    >>> str(Flips(8.93, 4, 15)), str(Flips(1, 1, 1))
    ('8.93 flips a trial (4 to 15)', '1 flip a trial')
    """

    mean: float
    least: int
    most: int

    def __str__(self) -> str:
        if self.least == self.most:
            return f"{self.least:,} flip{'' if self.least == 1 else 's'} a trial"
        return f"{self.mean:,.3g} flips a trial ({self.least:,} to {self.most:,})"


def flips(table: pa.Table) -> Flips | None:
    """The flips of the table's trials; None where it has none."""
    if not len(table):
        return None
    found = [pc.mean(table["flips"]).as_py(), pc.min(table["flips"]).as_py(), pc.max(table["flips"]).as_py()]
    return Flips(*found)


def model_text(model: Mapping[str, Any] | None) -> str:
    """A fault model as a campaign's spec describes it, in a few words.

    >>> model_text({"model": "ber", "seed": 3, "memories": None, "stuck": None, "ber": 1e-05, "bits": None})
    'model ber, ber 1e-05, seed 3'
    """
    if not model:
        return "model not recorded"
    others = sorted(name for name in model if model[name] is not None and name not in ("model", "seed", "sha256"))
    return ", ".join(f"{name} {model[name]}" for name in ("model", *others, "seed") if name in model)


def method_text(spec: Mapping[str, Any]) -> str:
    """Whose interval a campaign with this spec ends with, in a few words.

    >>> method_text({"stopping": {"method": "betting", "confidence": 0.95}})
    '95 % confidence sequence (betting)'
    >>> method_text({"stopping": None, "screen": None, "model": {"model": "ber"}})
    '95 %, exact (Clopper-Pearson)'
    """
    rule = spec.get("stopping") or {"method": "fixed", "confidence": 0.95}
    confidence = f"{100 * rule['confidence']:g} %"
    if rule["method"] != "fixed":
        return f"{confidence} confidence sequence ({rule['method']})"
    if spec.get("screen"):
        return f"{confidence}, exact (Clopper-Pearson), of what was kept and what was audited"
    is_finite = (spec.get("model") or {}).get("model") == "uniform"  # trials are different faults
    return f"{confidence}, {'finite population' if is_finite else 'exact (Clopper-Pearson)'}"


def boards_text(result: Mapping[str, Any]) -> str:
    """Which boards did a campaign's trials, and what they had trouble with; empty where none took part.

    >>> boards_text({"boards": {"kria:7967": 12}, "retried": 1, "failed": 2, "set_aside": ["b:1: gone"]})
    'trials by board: kria:7967 12; right at the second attempt: 1, failed twice (DUE): 2; set aside: b:1: gone'
    """
    if not result.get("boards"):
        return ""
    did = ", ".join(f"{board} {trials:,}" for board, trials in sorted(result["boards"].items()))
    aside = f"; set aside: {'; '.join(result['set_aside'])}" if result["set_aside"] else ""
    again = f"right at the second attempt: {result['retried']:,}, failed twice (DUE): {result['failed']:,}"
    return f"trials by board: {did}; {again}{aside}"


def export(table: pa.Table, path: Path) -> None:
    """The trials are in `path`, whole or not at all: as CSV (spaces between faults), Parquet or JSON, by its suffix."""
    if path.suffix not in FORMATS:
        raise ConfigError(f"an export must end in {', '.join(FORMATS)}, got {path.name!r}: choose one of them")
    with atomic_path(path) as partial:
        if path.suffix == ".parquet":
            pq.write_table(table, partial, compression="zstd")
        elif path.suffix == ".csv":
            pa.csv.write_csv(_flat(table), partial)
        else:
            partial.write_text(json.dumps(table.to_pylist(), indent=1) + "\n", encoding="utf-8")


def _flat(table: pa.Table) -> pa.Table:
    """The table with lists as text, which CSV has no other way for."""
    at = table.column_names.index("faults")
    texts: Sequence[str | None] = [
        None if faults is None else " ".join(faults) for faults in table["faults"].to_pylist()
    ]
    return table.set_column(at, "faults", pa.array(texts, pa.string()))

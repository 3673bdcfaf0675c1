# SPDX-License-Identifier: Apache-2.0
"""Several runs on one page: figures as their own runs have them, critical bits counted anew, tables as CSV."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
import report_run

from bitward.cli import main
from bitward.errors import ConfigError
from bitward.report import write_comparison


def _software(folder: Path, name: str, stored: int, drop: float) -> Path:
    """What a software-only flow leaves, as far as it is compared."""
    folder.mkdir()
    interval = {"low": drop - 0.01, "high": drop + 0.01, "estimate": drop, "trials": 100}
    rows = [
        {"seed": seed, "rate": {"ber": ber, "spread": "bits"}, "drop": {**interval, "estimate": drop * ber / 1e-4}}
        for seed in (0, 1)
        for ber in (1e-5, 1e-4)
    ]
    summary = {
        "kind": "software-only", "flow": name, "accuracy_mean": 0.81, "vulnerability": rows,
        "versions": {"bitward": "1"},
        "memory": {"stored_bits": stored, "plain_bits": 3000, "of_8_bit": stored / 8000}, "git": "abc", "settings": {},
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture
def hardware(tmp_path: Path) -> list[Path]:
    folders = [tmp_path / "one", tmp_path / "two"]
    for number, folder in enumerate(folders):
        folder.mkdir()
        report_run.write_run(folder)
        path = folder / "summary.json"
        changed = {"flow": folder.name, "steady_cycles_per_image": {"plain": 199.0 + number, "hardened": 250.0}}
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    return folders


def _table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(encoding="utf-8")))


def test_builds_stand_side_by_side_with_their_own_figures(hardware: list[Path], tmp_path: Path) -> None:
    page = write_comparison(hardware, tmp_path / "page.html", tmp_path / "csv").read_text(encoding="utf-8")
    rows = {row["Build"]: row for row in _table(tmp_path / "csv" / "builds.csv")}
    assert list(rows) == ["one, plain", "one, hardened", "two, plain", "two, hardened"]
    assert rows["two, plain"]["Cycles an image"] == "200" and rows["two, plain"]["Frames a second"] == "1,000,000"
    assert rows["one, hardened"]["LUT"] == "1,010" and rows["one, hardened"]["DSP"] == "not measured"
    live = {side: sum(m.depth * m.width for m in report_run.manifest(side).memories) for side in ("plain", "hardened")}
    assert rows["one, plain"]["Live bits"] == f"{live['plain']:,}"
    assert rows["one, hardened"]["Live bits"] == f"{live['hardened']:,}"
    assert "2 runs" in page and "simulated" in page and page.count('<svg class="scatter"') == 1


def test_critical_bits_are_shares_of_sampled_flips_times_live_bits(hardware: list[Path], tmp_path: Path) -> None:
    """Weighted by the sizes of strata, from the trials themselves."""
    design = report_run.manifest("plain")
    trials = report_run.campaigns()["strata-plain"]
    critical = 0.0
    for memory in design.memories:
        for stratum in memory.strata:
            of = [t for t in trials if t.memory == memory.name and t.stored_bit == stratum.stored_bit]
            critical += stratum.size * sum(t.top1_changed > 0 for t in of) / len(of)
    page = write_comparison(hardware, tmp_path / "page.html").read_text(encoding="utf-8")
    said = re.search(r"one, plain: (\S+) thousand critical bits of (\S+)", page)
    assert said is not None and float(said[1]) == pytest.approx(critical / 1000, rel=0.01)


def test_stored_networks_are_compared_at_every_rate(tmp_path: Path) -> None:
    folders = [_software(tmp_path / "a", "8-bit", 8000, 0.2), _software(tmp_path / "b", "P-3", 5000, 0.05)]
    page = write_comparison(folders, tmp_path / "page.html", tmp_path / "csv").read_text(encoding="utf-8")
    rows = {row["Network, stored as"]: row for row in _table(tmp_path / "csv" / "networks.csv")}
    assert rows["8-bit"]["Memory, % of 8-bit words"] == "100.00" and rows["P-3"]["Memory, % of 8-bit words"] == "62.50"
    assert rows["8-bit"]["Points lost, 0.0001 over bits [95 %]"].startswith("20.00 [")
    assert rows["P-3"]["Points lost, 1e-05 over bits [95 %]"].startswith("0.50 [")
    assert "Vulnerability against memory, 0.0001 over bits" in page and "software-only" in page


def test_a_rate_that_one_run_has_not_is_not_measured_there_and_no_dot(tmp_path: Path) -> None:
    folders = [_software(tmp_path / "a", "8-bit", 8000, 0.2), _software(tmp_path / "b", "P-3", 5000, 0.05)]
    summary = json.loads((folders[1] / "summary.json").read_text())
    summary["vulnerability"] = [row for row in summary["vulnerability"] if row["rate"]["ber"] < 1e-4]
    (folders[1] / "summary.json").write_text(json.dumps(summary))
    page = write_comparison(folders, tmp_path / "page.html", tmp_path / "csv").read_text(encoding="utf-8")
    rows = {row["Network, stored as"]: row for row in _table(tmp_path / "csv" / "networks.csv")}
    assert rows["P-3"]["Points lost, 0.0001 over bits [95 %]"] == "not measured"
    assert rows["P-3"]["Points lost, 1e-05 over bits [95 %]"].startswith("0.50 [")
    assert "8-bit: 20.00 [" in page and "P-3: " not in page, "dots are at the highest rate of any"


def test_what_cannot_be_compared_is_refused(hardware: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^a comparison must have two different runs at least, got "):
        write_comparison([hardware[0], hardware[0]], tmp_path / "page.html")
    other = _software(tmp_path / "c", "maps", 1, 0.1)
    summary = json.loads((other / "summary.json").read_text()) | {"kind": "sensitivity"}
    (other / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(ConfigError, match=r"c must be a run of hardware or software-only, got a sensitivity: leave it"):
        write_comparison([hardware[0], other], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_the_command_takes_one_run_or_several(hardware: list[Path], tmp_path: Path, capsys) -> None:
    out = tmp_path / "both.html"
    assert main(["report", *map(str, hardware), "--out", str(out), "--csv", str(tmp_path / "csv")]) == 0
    assert capsys.readouterr().out.strip() == str(out) and out.is_file()
    assert main(["report", str(hardware[0])]) == 0
    assert (hardware[0] / "report.html").is_file()

# SPDX-License-Identifier: Apache-2.0
"""FORTUNE's flows, tables and figures: complete, beside the paper's values, and no claim without its interval."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import tiny_classic
import yaml

from bitward.classic import classic_names
from bitward.flow.software_spec import load_software_flow

NETWORKS = {"vgg11": "vgg11_bn", "resnet18": "resnet18", "inception": "googlenet", "alexnet": "alexnet"}
ROWS = {"8bit": "8-bit", "5bit": "5-bit", "4bit": "4-bit", "3bit": "3-bit",
        "p5": "P-5-bit", "p4": "P-4-bit", "p3": "P-3-bit"}  # fmt: skip


@pytest.fixture(scope="module")
def benchmark(repository):
    folder = repository / "benchmarks"
    sys.path.insert(0, str(folder))  # as python has it for a script
    spec = importlib.util.spec_from_file_location("fortune", folder / "fortune.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["fortune"] = module
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(folder))


def test_there_is_a_flow_for_every_row_of_the_tables(repository, benchmark):
    paths = {path.stem: path for path in (repository / "flows" / "fortune").glob("*.yaml")}
    assert set(paths) == {f"{network}-{row}" for network in NETWORKS for row in ROWS}
    for network, name in NETWORKS.items():
        assert name in classic_names()
        for row, label in ROWS.items():
            flow = load_software_flow(paths[f"{network}-{row}"])
            assert (flow.network, str(flow.design), len(flow.seeds)) == (name, label, 3)
            assert tuple(flow.inject.bers) == benchmark.BERS and flow.design.per == "channel"
    assert len(benchmark.TABLE_II) == 15


def test_printed_memory_is_parameters_times_stored_bits(benchmark):
    """The paper's own column, against the widths of the same rows: exact in 14 of 15 rows."""
    exact = 0
    for (network, row), printed in benchmark.TABLE_II.items():
        parameters = benchmark.TABLE_II[network, "8bit"].memory / 8
        stored = 8 if row == "8bit" else int(row[1]) + 2
        exact += printed.memory == parameters * stored
    assert exact == 14


def summary(drop: float, seeds: int = 3, bits: int = 8, spread: float = 0.001) -> dict:
    """What a flow leaves: every seed a bit off."""
    rows = []
    for kind in ("bits", "layers"):
        for number, ber in enumerate((1e-5, 3e-5, 1e-4, 3e-4), 1):
            for seed in range(seeds):
                value = drop * number + spread * (seed - (seeds - 1) / 2)
                rows.append({
                    "seed": seed, "rate": {"ber": ber, "spread": kind}, "flips": [40.0 * number, 1, 99],
                    "drop": {"estimate": value, "low": value - 0.005, "high": value + 0.005}, "p_drop": 0.1, "rap": 0.2,
                })  # fmt: skip
    accuracies = {str(seed): 0.9 + seed / 1000 for seed in range(seeds)}
    memory = {"stored_bits": 1000 * bits, "of_8_bit": bits / 8}
    return {"width": 0.25, "memory": memory, "accuracy": accuracies, "float_accuracy": accuracies,
            "vulnerability": rows}  # fmt: skip


@pytest.fixture
def runs(tmp_path) -> Path:
    """Three rows of a network over three seeds, and two of another, over one."""
    made = {
        "vgg11-8bit": summary(0.05), "vgg11-3bit": summary(0.08, bits=3), "vgg11-p3": summary(0.01, bits=5),
        "resnet18-8bit": summary(0.05, 1), "resnet18-p3": summary(0.01, 1, 5),
    }  # fmt: skip
    for name, content in made.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps(content))
    return tmp_path


def test_tables_have_ours_and_the_papers_side_by_side(benchmark, runs, tmp_path, capsys):
    out = tmp_path / "out"
    assert benchmark.main(["--case", "tables", "--runs", str(runs), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert text.strip() == (out / "tables.md").read_text().strip()
    first = "| vgg11, width 0.25, 8-bit | 90.10 | 90.10 [89.85, 90.35] | 92.41 |"
    assert first in text and "| resnet18, width 0.25, 8-bit | 90.00 | 90.00 (one seed) | 93.06 |" in text
    line = next(
        line for line in text.splitlines() if line.startswith("| vgg11 P-3-bit | 5,000 | 62.50 / 62.50 | 0.0001")
    )
    assert "| 3.00 [2.75, 3.25] | 3.00 [2.75, 3.25] | 34.20 |" in line and line.endswith("| 0.177 |")
    assert {path.name for path in out.iterdir()} == {"tables.md", "tables.json", "fig5.png", "fig6.png", "fig7.png"}
    assert all((out / f"fig{number}.png").stat().st_size > 10_000 for number in (5, 6, 7))


def test_an_order_holds_only_where_the_interval_between_seeds_says_so(benchmark, runs, tmp_path, capsys):
    benchmark.main(["--case", "tables", "--runs", str(runs), "--out", str(tmp_path / "out")])
    order = capsys.readouterr().out.partition("Does the paper's order hold?")[2].splitlines()
    lines = [line for line in order if line.startswith("| vgg11")]
    assert len(lines) == 16 and all(line.endswith("| holds |") for line in lines)
    assert all(line.endswith("| not tested |") for line in order if line.startswith("| resnet18"))
    (runs / "vgg11-p3" / "summary.json").write_text(json.dumps(summary(0.05, spread=0.02)))
    benchmark.main(["--case", "tables", "--runs", str(runs), "--out", str(tmp_path / "out")])
    order = capsys.readouterr().out.partition("Does the paper's order hold?")[2].splitlines()
    lines = [line for line in order if line.startswith("| vgg11: 8-bit less P-3-bit | 1e-05")]
    assert len(lines) == 2 and all(line.endswith("| not shown |") for line in lines)


def test_run_does_the_rows_and_tables_find_them(benchmark, tmp_path, monkeypatch, capsys):
    """A tiny network in the place of VGG-11: its rows run, read the images once, and stand in the tables."""
    tiny_classic.weights(tmp_path / "weights.pt")
    told = {"network": "alexnet", "width": tiny_classic.WIDTH, "dataset": "digits", "weights": "weights.pt",
            "inject": {"bers": [1e-4], "spread": ["bits"], "trials": 3, "images": 16}}  # fmt: skip

    def resource(path: str) -> Path:
        stem = Path(path).stem
        (tmp_path / f"{stem}.yaml").write_text(yaml.safe_dump({**told, "quantize": {"bits": int(stem[-4])}}))
        return tmp_path / f"{stem}.yaml"

    monkeypatch.setattr(benchmark, "resource", resource)
    arguments = ["--case", "run", "vgg11", "--rows", "8bit", "3bit", "--runs", str(tmp_path / "runs")]
    assert benchmark.main(arguments) == 0
    tables = ["--case", "tables", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    assert benchmark.main(tables) == 0
    out = capsys.readouterr().out
    assert "| vgg11, width 0.0625, 8-bit |" in out and "| vgg11, width 0.0625, 3-bit |" in out
    assert "| 100.00 / 100.00 | 0.0001 |" in out and "| not run |" in out
    higher = ["--bers", "1e-2", "--runs", str(tmp_path / "runs")]
    assert benchmark.main([*arguments[:3], "--rows", "8bit", "--runs", str(tmp_path / "runs"), "--bers", "1e-2"]) == 0
    assert (tmp_path / "runs" / "vgg11-8bit-at-0.01" / "summary.json").is_file()
    assert benchmark.main(["--case", "tables", *higher]) == 0
    assert "Does the paper's order hold?" in capsys.readouterr().out


def test_tables_of_nothing_are_refused(benchmark, tmp_path, capsys):
    assert benchmark.main(["--case", "tables", "--runs", str(tmp_path)]) == 1
    assert "run --case run first" in capsys.readouterr().err
    assert benchmark.main(["--case", "run", "vgg12"]) == 1
    assert "networks must be among vgg11, resnet18, alexnet, inception, got vgg12" in capsys.readouterr().err


def test_decode_is_timed_and_every_way_reads_the_same(benchmark, tmp_path, capsys):
    path = tmp_path / "decode.json"
    arguments = ["--case", "decode", "--weights", "200000", "--loop", "5000", "--repeats", "2", "--json", str(path)]
    benchmark.main(arguments)
    rows = json.loads(path.read_text())
    assert [row["bits"] for row in rows] == [3, 4, 5]
    assert all(row["times_element"] > row["times_list"] > 5 for row in rows), "loops are slower, by far"
    assert "extrapolated" in capsys.readouterr().out

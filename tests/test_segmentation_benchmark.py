# SPDX-License-Identifier: Apache-2.0
"""The tables of upsets in segmentation networks: no claim without an interval between seeds, protections compared."""

from __future__ import annotations

import copy
import json

import pytest
import torch
import yaml
from benchmark_scripts import imported

from bitward.classic import find_classic
from bitward.statistics import Interval

FLOW = {
    "network": "hsi_unet3_relu", "width": 0.25, "dataset": "synthetic_hsi_roads", "weights": "weights.pt",
    "analyse": {"images": 1, "margin": 0.5},
}  # fmt: skip


@pytest.fixture(scope="module")
def benchmark(repository):
    with imported(repository, "segmentation") as module:
        yield module


@pytest.fixture(scope="module")
def folder(tmp_path_factory, benchmark):
    """Flows of a network that nobody trained: folded float32 that has run, int8."""
    made = tmp_path_factory.mktemp("flows")
    torch.manual_seed(0)
    torch.save(find_classic("hsi_unet3_relu").build(6, 25, 0.25).state_dict(), made / "weights.pt")
    for stem, keys in (("float", {"fold_batch_norm": True}), ("whole", {"quantize": "int8", "calibration": 2})):
        (made / f"{stem}.yaml").write_text(yaml.safe_dump({"name": f"seg-{stem}", **FLOW, **keys}))
    assert benchmark.main(["--runs", str(made / "runs"), "run", "--flows", str(made / "float.yaml")]) == 0
    return made


@pytest.fixture
def summary(folder):
    return json.loads((folder / "runs" / "seg-float" / "summary.json").read_text())


def seeds(summary, rates) -> dict:
    """The summary as if it had been of so many seeds with these mean error rates (None: as it is)."""
    made = copy.deepcopy(summary)
    made["seeds"] = [{**copy.deepcopy(made["seeds"][0]), "seed": number} for number in range(len(rates))]
    for seed, rate in zip(made["seeds"], rates, strict=True):
        for row in seed["sets"] if rate is not None else ():
            row["error"] = {"low": rate, "high": rate, "estimate": rate, "trials": 1}
    return made


def test_the_order_of_activations_holds_only_where_seeds_agree(benchmark, summary):
    tables = benchmark.tables_of
    relu = seeds(summary, [0.10, 0.11, 0.12])
    clear = {**seeds(summary, [0.05, 0.06, 0.07]), "network": "hsi_unet3_sigmoid"}
    unclear = {**seeds(summary, [0.05, 0.17, 0.07]), "network": "hsi_unet3_hardsigmoid"}
    text = tables.order([relu, clear, unclear])
    lines = {line.split(" | ")[1]: line for line in text.splitlines()[2:]}
    assert lines["ReLU less Sigmoid"].endswith("(3 seeds) | holds |")
    assert lines["ReLU less Hard Sigmoid"].endswith("(3 seeds) | not shown |")
    assert "| 5.00 (one seed) | not judged |" in tables.order([seeds(relu, [0.1]), clear])
    assert tables.verdict(Interval(-0.3, -0.1, -0.2, 3)) == "the contrary holds"


def test_a_claim_is_about_the_sets_that_it_names(benchmark, summary):
    tables = benchmark.tables_of
    (seed,) = summary["seeds"]
    for row in seed["sets"]:
        row["error"]["estimate"] = 0.5 if row["name"].startswith("enc") else 0.1 if row["name"].startswith("dec") else 0
    assert tables.of_kinds(seed, ["conv kernel"], ["enc"]) == pytest.approx(0.5)
    assert tables.of_kinds(seed, ["conv kernel"], ["dec"]) == pytest.approx(0.1)
    assert tables.of_kinds(seed, ["gamma"]) is None
    text = tables.claims([seeds(summary, [None, None, None])])
    line = next(line for line in text.splitlines() if "kernels of the encoder" in line)
    assert "| float32, folded | 40.00 [40.00, 40.00] (3 seeds) holds |  |  |" in line
    line = next(line for line in text.splitlines() if "the base is less sensitive" in line)
    assert "(3 seeds) holds |" in line
    assert "gammas" not in text, "a folded network has none, and nothing is claimed of them"


def test_the_tables_are_printed_of_what_has_run(benchmark, folder, summary, capsys):
    runs = folder / "runs"
    (runs / "seg-relu").mkdir()
    (runs / "seg-relu" / "summary.json").write_text(json.dumps(summary))
    assert benchmark.main(["--runs", str(runs), "tables"]) == 0
    said = capsys.readouterr().out
    for title in ("Mean error rates", "Order of the activations", "The papers' claims", "Equation 2", "By bit"):
        assert f"### {title}\n" in said
    assert "| 1 of 1 |" in said, "equation 2 against the one fault of bit 30 that so small a sample has"
    assert benchmark.main(["--runs", str(folder / "nothing"), "tables"]) == 1
    assert "run flows first" in capsys.readouterr().err


def test_protections_are_measured_before_and_after(benchmark, folder, capsys):
    given = ["--runs", str(folder / "runs"), "protect", "--flow", str(folder / "float.yaml"), "--per-bit", "2"]
    assert benchmark.main(given) == 0
    said = capsys.readouterr().out
    moved = [int(line.split(" | ")[1].replace(",", "")) for line in said.splitlines() if line.startswith("| PT")
             and ", " not in line.split(" | ")[0]]  # fmt: skip
    assert len(moved) == 4 and moved == sorted(moved) and moved[-1] > moved[0] >= 0
    kept = sorted((folder / "runs" / "seg-float" / "protection").iterdir())
    times = [path.stat().st_mtime_ns for path in kept]
    assert len(kept) == 4 and benchmark.main(given) == 0
    assert capsys.readouterr().out == said and [path.stat().st_mtime_ns for path in kept] == times


def test_redundancy_is_compared_at_equal_rates_of_upsets(benchmark, folder, capsys, monkeypatch):
    monkeypatch.setattr(benchmark, "RATES", (1e-3,))
    given = ["--runs", str(folder / "runs"), "redundancy", "--flow", str(folder / "whole.yaml"), "--repetitions", "3"]
    assert benchmark.main(given) == 0
    rows = {line.split(" | ")[0][2:]: line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")}
    assert set(benchmark.PROTECTIONS) <= set(rows)
    costs = {name: int(rows[name].split(" | ")[1].split(" ")[0].replace(",", "")) for name in benchmark.PROTECTIONS}
    flips = {name: int(rows[name].rpartition("(")[2].partition(")")[0].replace(",", "")) for name in costs}
    parameters = dict(find_classic("hsi_unet3_relu").build(6, 25, 0.25).named_parameters())
    weights = sum(value.numel() for value in parameters.values() if value.ndim > 1)
    biases = sum(value.numel() for name, value in parameters.items() if name.endswith("bias") and ".bn" not in name)
    assert costs["none"] == costs["check bits inside the biases"] == 8 * weights + 32 * biases
    assert costs["both"] == 10 * weights + 96 * biases
    for name, cost in costs.items():
        assert flips[name] == round(cost * 1e-3)

# SPDX-License-Identifier: Apache-2.0
"""Tables I and II of weight scaling: a flow for every row, the paper's values, and ours beside them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_classic
import torch
import yaml
from benchmark_scripts import imported
from picture_folders import picture_folder

from bitward.campaign import TrialStore
from bitward.classic import find_classic
from bitward.cli import main
from bitward.flow.software_spec import load_software_flow

FORMATS = {"fp32": ("FP32", 1e-3), "fp16": ("FP16", 1e-3), "q25": ("Q2.5", 1e-4)}
NETWORKS = ("alexnet", "resnet18", "resnet50", "densenet169")


OWN = ("cifar10-resnet18", "cifar10-vgg11")


@pytest.fixture(scope="module")
def benchmark(repository):
    with imported(repository, "weight_scaling_tables") as module:
        yield module


@pytest.mark.parametrize("form", FORMATS)
def test_there_is_a_flow_for_every_row_of_both_tables(repository, form):
    name, ber = FORMATS[form]
    best = 1.97 if form == "q25" else 1.9999
    said = {"": name, "-t1": f"{name} scaled by layer, t = 1", "-best": f"{name} scaled by layer, t = {best}"}
    for network in (*NETWORKS, *OWN):
        for row, design in said.items():
            flow = load_software_flow(repository / "flows" / "weight_scaling" / f"{network}-{form}{row}.yaml")
            assert str(flow.design) == design and find_classic(flow.network).name == flow.network
            (rate,) = flow.rates
            assert (rate.ber, rate.spread, rate.safe_exponents) == (ber, "bits", form != "q25")
            assert flow.inject.trials == 10 and (flow.dataset == "imagenet") == (flow.weights is not None)
    paths = {path.stem for path in (repository / "flows" / "weight_scaling").glob(f"*-{form}*.yaml")}
    rows = ["channel", *(("open", "voted", "short") if form == "fp16" else ("apart",) if form == "q25" else ())]
    own = {f"{network}-{form}-{row}" for network in OWN for row in rows}
    assert len(paths) == 3 * len((*NETWORKS, *OWN)) + len(own) and own <= paths


def test_the_papers_mean_gains_are_those_of_its_table(benchmark):
    for form, gain in benchmark.GAIN.items():
        gains = [high[0] - low[0] for (_, other), (low, high) in benchmark.TABLE_II.items() if other == form]
        assert len(gains) == 4 and np.mean(gains) == pytest.approx(gain, abs=0.005)
    assert set(benchmark.TABLE_I) == set(benchmark.TABLE_II)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Two rows of Q2.5 by a small network, in the places of those of CIFAR-10, and one that was not attacked."""
    folder = tmp_path_factory.mktemp("scaling")
    tiny_classic.weights(folder / "weights.pt")
    for row, scale, to in (("-t1", {"t": 1.0}, "report"), ("-best", {"t": 1.97}, "report"), ("", None, "quantize")):
        flow = {"network": "alexnet", "width": tiny_classic.WIDTH, "dataset": "digits", "weights": "weights.pt",
                "quantize": {"format": "q2.5", "scale": scale},
                "inject": {"bers": [5e-3], "spread": ["bits"], "trials": 5, "images": 50}}  # fmt: skip
        path = folder / f"cifar10-resnet18-q25{row}.yaml"
        path.write_text(yaml.safe_dump(flow))
        assert main(["-q", "run", str(path), "--runs", str(folder / "runs"), "--to", to]) == 0
    return folder / "runs"


def test_both_tables_have_the_papers_values_and_ours(benchmark, runs, capsys):
    assert benchmark.main(["tables", "--runs", str(runs)]) == 0
    out = capsys.readouterr().out
    assert "| ResNet50 | FP16 | 4.43 ± 4.33 | 59.87 ± 4.62 | +55.44 | not run | not run | not run |" in out
    stores = {row: next((runs / f"cifar10-resnet18-q25{row}" / "campaigns" / "seed0").glob("bits-*"))
              for row in ("-t1", "-best")}  # fmt: skip
    shares = {row: [2 * each for each in TrialStore.load(store).read()["top1_correct"].to_pylist()]
              for row, store in stores.items()}  # fmt: skip
    cells = [f"{np.mean(shares[row]):.2f} ± {np.std(shares[row], ddof=1):.2f}" for row in ("-t1", "-best")]
    gain = np.mean(shares["-best"]) - np.mean(shares["-t1"])
    assert f"| Q2.5 |  |  |  | not run | {cells[0]} | {cells[1]} | {gain:+.2f} |  | not run |" in out
    assert ", FP16, t = 1.999, every bit hit, the top two voted | not run |" in out
    assert gain > 2 and "Fault sets x images: 5 x 50." in out and "42.17 FP32, 43.15 FP16, 42.37 Q2.5" in out


LONG = [pytest.param(network, marks=pytest.mark.slow) for network in ("resnet18", "resnet50")]


@pytest.mark.parametrize("network", ["alexnet", "densenet169", *LONG])
def test_a_flow_of_imagenet_runs_on_a_checkpoint_and_class_folders(repository, tmp_path, network):
    """As it stands but for the width, the fault sets and pictures of 64 x 64: weights are random values, by name."""
    told = yaml.safe_load((repository / "flows" / "weight_scaling" / f"{network}-q25-best.yaml").read_text())
    torch.manual_seed(0)
    made = find_classic(told["network"]).build(2, 3, 0.125)
    torch.save({"state_dict": made.state_dict()}, tmp_path / told["weights"])
    pictures = picture_folder(tmp_path / "cut", ("n01440764", "n01443537"), train=1, test=2, shape=(64, 64, 3))
    told |= {"width": 0.125, "inject": {**told["inject"], "trials": 2, "images": 4}}
    (tmp_path / "row.yaml").write_text(yaml.safe_dump(told))
    arguments = ["-q", "run", str(tmp_path / "row.yaml"), "--runs", str(tmp_path / "runs"), "--data", str(pictures)]
    assert main(arguments) == 0
    found = json.loads((tmp_path / "runs" / "row" / "summary.json").read_text())
    assert found["stored_as"] == "Q2.5 scaled by layer, t = 1.97" and found["test_images"] == 4
    weights = sum(each.numel() for each in made.parameters() if each.ndim > 1)
    assert found["memory"]["stored_bits"] == 8 * weights and len(found["vulnerability"]) == 1


def test_a_network_that_has_no_flows_is_refused(benchmark, capsys):
    assert benchmark.main(["run", "resnet181"]) == 1
    assert "a network must be one of alexnet, " in (said := capsys.readouterr().err) and "did you mean" in said

# SPDX-License-Identifier: Apache-2.0
"""Sensitivity flows: the YAML and its mistakes, run to the report, and run again; figures and tables."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from browser import SIZES, complaints, looked_at
from rich.console import Console

from bitward.classic import find_classic
from bitward.cli import main
from bitward.datasets import normalised
from bitward.errors import ConfigError
from bitward.flow.kinds import is_sensitivity, is_software
from bitward.flow.sensitivity import open_sensitivity
from bitward.flow.sensitivity_spec import load_sensitivity_flow
from bitward.report.sensitivity_figures import grid
from bitward.train.recipe import RECIPES

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "a made-up device, table 1"
FLOW = {
    "network": "hsi_unet3_relu", "width": 0.25, "dataset": "synthetic_hsi_roads", "weights": "weights.pt",
    "analyse": {"images": 1, "margin": 0.5, "several": {"flips": [1, 100], "repetitions": 3}},
    "reliability": {"fit_per_mb": 20, "source": SOURCE},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the weights of a network lie that nobody trained."""
    made = tmp_path_factory.mktemp("flows")
    torch.manual_seed(0)
    torch.save(find_classic("hsi_unet3_relu").build(6, 25, 0.25).state_dict(), made / "weights.pt")
    return made


def written(folder: Path, stem: str, /, **changes) -> Path:
    path = folder / f"{stem}.yaml"
    path.write_text(yaml.safe_dump({**FLOW, **changes}))
    return path


@pytest.fixture(scope="module")
def run(folder) -> Path:
    """A flow of a folded network that has run to its end."""
    flow = written(folder, "folded", fold_batch_norm=True)
    assert main(["-q", "run", str(flow), "--runs", str(folder / "runs")]) == 0
    return folder / "runs" / "folded"


def summary(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())


def test_a_run_says_what_it_found(run):
    found = summary(run)
    assert found["kind"] == "sensitivity" and found["stored_as"] == "float32, batch norm folded"
    (seed,) = found["seeds"]
    assert {row["kind"] for row in seed["sets"]} == {
        "conv kernel", "conv bias", "transposed conv kernel", "transposed conv bias"
    }  # fmt: skip
    assert seed["faults"] == sum(row["n"] for row in seed["cells"]) and seed["failed"] == 0
    assert 0 <= seed["mean"]["low"] <= seed["mean"]["estimate"] <= seed["mean"]["high"] <= 1
    assert [row["flips"] for row in seed["several"]] == [1, 100] and len(seed["several"][0]["errors"]) == 3
    bits = seed["stored_bits"]
    assert bits == 32 * seed["parameters"]
    assert found["reliability"]["upsets_per_hour"] == pytest.approx(bits / 1e6 * 20 / 1e9)


def test_figures_are_there_as_png_and_svg_and_cells_as_csv(run):
    names = {path.name for path in (run / "figures").iterdir()}
    for figure in ("heatmap", "sets", "signs", "risk", "equation2", "several"):
        assert {f"{figure}-seed0.png", f"{figure}-seed0.svg"} <= names
    with open(run / "figures" / "cells.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    cells = summary(run)["seeds"][0]["cells"]
    assert [(row["set"], int(row["bit"]), float(row["error"])) for row in rows] == [
        (cell["set"], cell["bit"], cell["error"]) for cell in cells
    ]
    svg = (run / "figures" / "heatmap-seed0.svg").read_text()
    assert "enc1.conv1.weight" in svg and "pixels whose class changed" in svg


def test_a_grid_has_every_cell_at_its_place():
    cells = [{"set": "a", "bit": 30, "error": 0.5}, {"set": "b", "bit": 31, "error": 1.0}]
    sets, bits, values = grid(cells)
    assert (sets, bits) == (["a", "b"], [31, 30])
    assert values[0, 1] == 0.5 and values[1, 0] == 1.0 and values[0, 0] != values[0, 0], "NaN where there is none"


def test_the_report_is_complete_and_loads_nothing(run):
    page = (run / "report.html").read_text()
    for text in ("software-only", "Heat map, seed 0", "Equation 2 says", SOURCE, "synthetic", "enc1.conv1.weight"):
        assert text in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert len(re.findall(r"<h1\b", page)) == 1 and page.count("<img alt=") == 6


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_the_page_is_read_on_a_phone_and_with_a_keyboard(run, tmp_path, width, scheme):
    assert complaints(looked_at(run / "report.html", tmp_path, width, scheme)) == {}


def test_what_is_there_is_not_made_again_and_a_changed_report_is(run, folder):
    stores = sorted(run.glob("campaigns/seed0/*/part-*.parquet"))
    before = [path.stat().st_mtime_ns for path in stores]
    found = summary(run)
    assert main(["-q", "run", str(folder / "folded.yaml"), "--runs", str(folder / "runs")]) == 0
    assert [path.stat().st_mtime_ns for path in stores] == before and stores
    assert summary(run) == found


def test_force_throws_away_campaigns_and_no_other_stage_does(folder, monkeypatch):
    for name in ("load_dataset", "train_classic"):
        monkeypatch.setattr(f"bitward.flow.sensitivity.{name}", lambda *told, **more: None)
    flow = written(folder, "forced", device="cpu")
    store = folder / "runs" / "forced" / "campaigns" / "seed0" / "single"
    store.mkdir(parents=True)
    arguments = ["-q", "run", str(flow), "--runs", str(folder / "runs"), "--to", "train"]
    for force, is_kept in (("report", True), ("analyse", False)):
        assert main([*arguments, "--force", force]) == 0
        assert store.exists() == is_kept
    assert open_sensitivity(load_sensitivity_flow(flow), folder / "runs", Console(quiet=True), None).device == "cpu"


def test_stages_that_are_not_there_are_refused(folder, capsys):
    flow = str(folder / "folded.yaml")
    assert main(["-q", "run", flow, "--runs", str(folder / "runs"), "--to", "analyze"]) == 1
    assert (
        "--to must be one of train, analyse, report in a sensitivity flow, got 'analyze'; " in capsys.readouterr().err
    )
    assert main(["-q", "run", flow, "--runs", str(folder / "runs"), "--force", "train"]) == 1
    assert "--force must be one of analyse, report in a sensitivity flow, got 'train'; " in capsys.readouterr().err


def test_upsets_of_a_device_are_refused_without_a_source(folder):
    path = written(folder, "no-source", reliability={"fit_per_mb": 20})
    with pytest.raises(ConfigError, match=r"no-source\.yaml: reliability\.source"):
        load_sensitivity_flow(path)
    path = written(folder, "empty-source", reliability={"fit_per_mb": 20, "source": ""})
    with pytest.raises(ConfigError, match=r"empty-source\.yaml: reliability\.source"):
        load_sensitivity_flow(path)


def test_a_run_without_a_figure_of_the_device_says_that_there_is_none(folder):
    from bitward.report.sensitivity import NO_SOURCE, render_sensitivity

    found = {**summary(folder / "runs" / "folded"), "reliability": None}
    assert NO_SOURCE.partition(":")[0] in render_sensitivity(folder / "again", found)


def test_tables_and_figures_are_left_for_papers(run, tmp_path):
    csvs, figures = tmp_path / "csv", tmp_path / "figures"
    asked = ["--out", str(tmp_path / "page.html"), "--csv", str(csvs), "--figures", str(figures)]
    assert main(["report", str(run), *asked]) == 0
    (seed,) = summary(run)["seeds"]
    sets = list(csv.DictReader((csvs / "error-rate-by-parameter-set-seed-0.csv").open(encoding="utf-8")))
    assert [row["Set"] for row in sets] == [f"p{row['number']} {row['name']}" for row in seed["sets"]]
    cells = list(csv.DictReader((csvs / "cells.csv").open(encoding="utf-8")))
    assert [float(row["error"]) for row in cells] == [cell["error"] for cell in seed["cells"]]
    several = list(csv.DictReader((csvs / "several-random-flips-at-once-seed-0.csv").open(encoding="utf-8")))
    assert [row["Flips"] for row in several] == ["1", "100"]
    drawn = {path.name for path in (run / "figures").glob("*-seed0.*")}
    assert {path.name for path in figures.glob("*-seed0.*")} == drawn and len(drawn) == 12


def test_a_network_without_output_biases_in_memories_has_no_prediction(run, tmp_path):
    from bitward.report.sensitivity import render_sensitivity

    found = summary(run)
    found["seeds"][0]["output_biases"] = None
    page = render_sensitivity(tmp_path, found)
    assert "Not measured: the network has no output layer with a bias a class in a memory." in page
    assert "Equation 2 says" not in page and not (tmp_path / "figures" / "equation2-seed0.png").exists()


def test_unknown_keys_are_refused(folder):
    with pytest.raises(ConfigError, match=r"mistyped\.yaml: .*got 'fold_batch_norms'; did you mean 'fold_batch_norm'"):
        load_sensitivity_flow(written(folder, "mistyped", fold_batch_norms=True))
    with pytest.raises(ConfigError, match=r"analyse\.several must have only the keys flips, repetitions, seeds, got "):
        load_sensitivity_flow(written(folder, "nested", analyse={"several": {"flipz": [1]}}))


def test_a_network_that_labels_images_is_refused(folder, tmp_path):
    flow = load_sensitivity_flow(written(folder, "images", network="vgg11_bn"))
    with pytest.raises(ConfigError, match=r"^network of a sensitivity flow must label pixels, got vgg11_bn, "):
        open_sensitivity(flow, tmp_path, None, None)


def test_activations_are_clipped_to_their_ranges_where_asked(folder):
    """Without faults clipping changes nothing on the images that gave the ranges; int8 has no need of it."""
    given = {"calibration": 8, "analyse": {"images": 1, "margin": 0.9}}
    studies = {}
    for outside in ("none", "bound", "zero"):
        path = written(folder, f"clip-{outside}", clip_activations=outside, **given)
        run = open_sensitivity(load_sensitivity_flow(path), folder / "runs", Console(quiet=True), None)
        studies[outside] = (run.flow.stored_as, run.study(0).network, run.dataset)
    assert [said for said, _, _ in studies.values()] == [
        "float32", "float32, activations clipped to bounds", "float32, activations clipped to zero"
    ]  # fmt: skip
    _, network, data = studies["bound"]
    images = torch.from_numpy(normalised(data, data.train_images[:8]))
    beyond = images * 50
    with torch.inference_mode():
        plain = studies["none"][1]
        assert torch.equal(network(images), plain(images)) and torch.equal(studies["zero"][1](images), plain(images))
        assert not torch.allclose(network(beyond), plain(beyond))
    with pytest.raises(ConfigError, match=r"quantize must be none with clip_activations"):
        load_sensitivity_flow(written(folder, "clip-int8", clip_activations="bound", quantize="int8"))


def test_kinds_of_flows_are_told_apart(folder):
    assert is_sensitivity(written(folder, "pixels")) and is_software(folder / "pixels.yaml")
    assert not is_sensitivity(written(folder, "images", network="vgg11_bn"))
    assert not is_sensitivity(ROOT / "flows" / "digits.yaml")


@pytest.mark.parametrize("path", sorted((ROOT / "flows" / "segmentation").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_flow_of_ours_is_one(path):
    flow = load_sensitivity_flow(path)
    assert is_sensitivity(path) and flow.name.startswith("seg-") and len(flow.seeds) == 3


class Knows(torch.nn.Module):
    """Labels the pixels of some images, and of no others: right, or each as the class behind the right one."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, classes: int, beside: int) -> None:
        super().__init__()
        self.images, self.scores = images, torch.nn.functional.one_hot((labels + beside) % classes, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert torch.equal(images, self.images)
        return self.scores.permute(0, 3, 1, 2).float()


def test_pruning_is_judged_on_the_training_images_asked_for_and_trains_on_more_slowly(folder, tmp_path, monkeypatch):
    asked, trainings = {}, []

    def prune(network, shape, score, tune, **told):
        asked.update(told, shape=shape, score=score)
        return SimpleNamespace(network=tune(network))

    monkeypatch.setattr("bitward.flow.sensitivity.prune_channels", prune)
    monkeypatch.setattr("bitward.flow.sensitivity.fine_tune", lambda made, *told: trainings.append(told) or made)
    given = {"shares": [0.3, 0.2], "allowed": 0.25, "scored": 3, "epochs": 5, "folder": "rounds"}
    flow = load_sensitivity_flow(written(folder, "judged", prune=given, device="cpu"))
    run = open_sensitivity(flow, tmp_path, Console(quiet=True), None)
    run.study(0)
    data = run.dataset
    images, labels = torch.from_numpy(normalised(data, data.train_images[:3])), torch.from_numpy(data.train_labels[:3])
    right, wrong = (asked["score"](Knows(images, labels.long(), data.classes, beside)) for beside in (0, 1))
    assert set(right.values()) == {1.0} and set(wrong.values()) == {0.0}, "pixels without a label do not count"
    assert (asked["shape"], asked["shares"], asked["allowed"]) == (data.image_shape, (0.3, 0.2), 0.25)
    assert asked["folder"] == tmp_path / "rounds"
    ((of, recipe, seed, device),) = trainings
    first = RECIPES[find_classic("hsi_unet3_relu").recipe]
    assert (of, recipe.float_epochs, seed, device) == (data, 5, 0, "cpu")
    assert recipe.float_learning_rate == pytest.approx(0.4 * first.float_learning_rate)


@pytest.mark.slow
def test_a_network_is_pruned_once_and_analysed_as_it_is_then(folder, tmp_path, monkeypatch):
    trainings = []
    monkeypatch.setattr("bitward.flow.sensitivity.fine_tune", lambda made, *told: trainings.append(told) or made)
    prune = {"shares": [0.3], "allowed": 0.99, "scored": 2, "epochs": 5, "folder": "rounds"}
    flow = load_sensitivity_flow(written(folder, "pruned", prune=prune, quantize="int8", calibration=2))
    assert flow.stored_as == "int8 weights and int32 biases, batch norm folded, pruned"
    found = [open_sensitivity(flow, tmp_path, Console(quiet=True), None).study(0) for _ in range(2)]
    ((_, recipe, seed, _),) = trainings
    assert recipe.float_epochs == 5 and seed == 0, "trained on once, found the second time"
    first, second = ([each.manifest.memory(one.name).shape for one in each.sets] for each in found)
    assert first == second and sum(each.parameters for each in found[0].sets) < 122_454
    assert {each.bits for each in found[0].sets} == {tuple(range(8)), tuple(range(32))}

# SPDX-License-Identifier: Apache-2.0
"""A run's tables as CSV and figures as SVG and PNG: what the trials say, by stable names, for every kind of run."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import report_run
from PIL import Image
from test_report_comparison import _software
from test_report_graph import hardware_graph
from test_report_rates import folder as rated

from bitward.cli import main
from bitward.errors import OutputError
from bitward.report import export_run, write_comparison

folder = rated

TABLES = {
    "bits", "checks", "cycles", "layers", "masked", "memories", "provenance", "rates", "resources", "safety",
    "safety-assumptions", "safety-coverage", "voted-bits", "worst-flips",
}  # fmt: skip
FIGURES = {
    "heat-map-outputs-changed", "heat-map-top1-changed", "layers", "masked", "rates-accuracy", "rates-changed",
    "wall-time", "weight-memory", "worst-flips",
}  # fmt: skip


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(encoding="utf-8")))


def drawn(folder: Path) -> set[str]:
    """The figures of a folder: each is an SVG with its words as text, and a PNG, with one caption."""
    names = {path.stem for path in folder.glob("*.svg")}
    assert names == {path.stem for path in folder.glob("*.png")}
    for name in names:
        tree = ElementTree.parse(folder / f"{name}.svg")
        text = " ".join(
            "".join(node.itertext()) for node in tree.iter() if node.tag.endswith(("}text", "}description"))
        )
        image = Image.open(folder / f"{name}.png")
        assert len(text) > 20 and image.text["Description"] in text, name
        assert image.width > 900 and len(image.convert("RGB").getcolors(1 << 24)) > 5, name
    return names


def test_a_run_of_hardware_leaves_every_table_and_figure(folder: Path, tmp_path: Path) -> None:
    hardware_graph(folder / "build" / "hardened")
    export_run(folder, tmp_path / "csv", tmp_path / "figures")
    assert {path.stem for path in (tmp_path / "csv").iterdir()} == TABLES
    assert drawn(tmp_path / "figures") == FIGURES
    bits = rows_of(tmp_path / "csv" / "bits.csv")
    found = report_run.campaigns()
    for side in ("plain", "hardened"):
        for metric, effect in (("outputs_changed", "output value"), ("top1_changed", "top-1 answer")):
            mine = [row for row in bits if row["build"] == side and row["effect"].endswith(effect)]
            assert sum(int(row["tried"]) for row in mine) == len(found[f"strata-{side}"])
            changed = sum(getattr(trial, metric) > 0 for trial in found[f"strata-{side}"])
            assert sum(int(row["changed"]) for row in mine) == changed > 0
    rates = rows_of(tmp_path / "csv" / "rates.csv")
    summary = json.loads((folder / "summary.json").read_text())["ber"]
    assert [(row["build"], float(row["rate"])) for row in rates] == [
        (side, ber) for side in ("plain", "hardened") for ber in (1e-3, 1e-2)
    ]
    for row in rates:
        point = summary[row["build"]]["points"][row["rate"]]
        assert float(row["RAP"]) == pytest.approx(point["rap"]) and float(row["P_drop"]) == pytest.approx(
            point["p_drop"]
        )
        assert float(row["accuracy"]) == pytest.approx(0.95 - point["drop"]["estimate"])
    layers = rows_of(tmp_path / "csv" / "layers.csv")
    assert {row["memory"]: row["protected bits"] for row in layers if row["memory"]} == {
        "conv.weight": "72", "conv.threshold": "0", "fc.weight": "360",
    }  # fmt: skip


def test_what_was_not_measured_has_no_file(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text("{}")
    export_run(tmp_path / "run", tmp_path / "csv", tmp_path / "figures")
    assert {path.stem for path in (tmp_path / "csv").iterdir()} == {"checks", "cycles", "provenance"}
    assert not list((tmp_path / "figures").iterdir())


@pytest.fixture
def stored(tmp_path: Path) -> list[Path]:
    """Two software-only runs, whole."""
    folders = [_software(tmp_path / "a", "8-bit", 8000, 0.2), _software(tmp_path / "b", "P-3", 5000, 0.05)]
    for folder in folders:
        summary = json.loads((folder / "summary.json").read_text())
        for row in summary["vulnerability"]:
            row |= {"flips": [8.0, 1, 20], "trials": 100, "images": 256, "failed": 0, "p_drop": 1e-9, "rap": 0.1}
        summary |= {
            "network": "vgg11_bn", "width": 0.5, "dataset": "cifar10", "stored_as": "UInt(8)", "accuracy": {"0": 0.8},
            "float_accuracy": {"0": 0.81}, "test_images": 1000, "said": ["Software-only."], "device": "cpu",
        }  # fmt: skip
        summary["memory"] |= {"parameters": 1000}
        (folder / "summary.json").write_text(json.dumps(summary))
    return folders


def test_a_software_only_run_leaves_its_tables_and_its_curve(stored: list[Path], tmp_path: Path) -> None:
    assert main(["report", str(stored[0]), "--csv", str(tmp_path / "csv"), "--figures", str(tmp_path / "out")]) == 0
    assert {path.stem for path in (tmp_path / "csv").iterdir()} == {
        "accuracy-lost-under-faults", "accuracy-without-faults", "memory",
    }  # fmt: skip
    assert drawn(tmp_path / "out") == {"lost-bits"}
    html = (stored[0] / "report.html").read_text(encoding="utf-8")
    assert 'class="scatter curve"' in html and "0.0001: 20.00 [20.00, 20.00] points lost" in html


def test_a_software_only_run_that_was_not_attacked_says_so(stored: list[Path], tmp_path: Path) -> None:
    summary = json.loads((stored[0] / "summary.json").read_text())
    del summary["vulnerability"]
    (stored[0] / "summary.json").write_text(json.dumps(summary))
    assert main(["report", str(stored[0]), "--csv", str(tmp_path / "csv"), "--figures", str(tmp_path / "out")]) == 0
    assert {path.stem for path in (tmp_path / "csv").iterdir()} == {"accuracy-without-faults", "memory"}
    assert not list((tmp_path / "out").iterdir())
    html = (stored[0] / "report.html").read_text(encoding="utf-8")
    assert "Not measured: the flow did not come so far." in html and "points lost" not in html


def test_a_comparison_leaves_the_figures_of_its_page(stored: list[Path], tmp_path: Path) -> None:
    one = tmp_path / "one"
    report_run.write_run(one)
    write_comparison([*stored, one], tmp_path / "page.html", tmp_path / "csv", tmp_path / "figures")
    assert drawn(tmp_path / "figures") == {"critical", "vulnerability-bits"}
    assert {path.stem for path in (tmp_path / "csv").iterdir()} == {"builds", "networks"}
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert html.count('class="front"') == 1 and "Pareto front" in html  # P-3 is better and smaller: no line there


def test_a_folder_that_cannot_be_made_is_an_error(stored: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"^.+ must be below a folder, got "):
        export_run(stored[0], figures=tmp_path / "file" / "figures")
    with pytest.raises(OutputError, match=r"^.+ must be below a folder, got "):
        export_run(stored[0], tmp_path / "file" / "csv")

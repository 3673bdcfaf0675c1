# SPDX-License-Identifier: Apache-2.0
"""Measuring as a stage of a flow: asked for by a section, on both builds or on a board's own, and in the report."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from bitward_runtime.connection import Credentials
from bitward_runtime.measure import Golden, Latency, Measurement, Power, Rate
from bitward_runtime.power import Mean
from bitward_runtime.source import Source
from report_run import write_run
from rich.console import Console
from test_report import Page

from bitward.errors import BoardError, ConfigError
from bitward.flow import Flow, load_flow, run_flow
from bitward.flow import measure as measure_module
from bitward.flow.attack import Place
from bitward.flow.cache import stage_key
from bitward.flow.measure import measure_run, places_to_measure
from bitward.flow.run import Run
from bitward.flow.stages import STAGES, clear
from bitward.flow.summary import summarise
from bitward.report import export_run, write_report

SPEC = {"name": "toy", "network": "digits_mlp"}
SIMULATED = Measurement(
    Source("board", "KV260 (virtual)", True, "toy_cnn", 0xB17, 200.0, cycles_per_image=192.0, latency_cycles=503),
    Golden(3, 10, "the engine's prediction", 0, ()), Rate(1490.4, 10, (0.1, 0.2)), Latency(200, 0.00242, 0.00346, None),
    None, "what is simulated takes no power",
)  # fmt: skip
POWER = Power(Mean(3.5, 0.01, 100, 10), Mean(6.25, 0.02, 100, 10), 0.31, 0.004, 0.14, None, 0)
ON_A_BOARD = replace(
    SIMULATED, source=replace(SIMULATED.source, name="KV260", is_simulated=False, cycles_per_image=None), power=POWER,
    why_no_power=None, rate=Rate(20.16, 10, (0.5,)),
)  # fmt: skip


def run_of(folder: Path, **measure: object) -> Run:
    return Run(Flow.model_validate({**SPEC, "measure": measure}), folder, Console(file=StringIO()))


# ---- what a flow asks for ------------------------------------------------------------------------------------------


def test_files_of_a_section_go_from_the_flows_folder_and_keys_are_checked(tmp_path: Path):
    path = tmp_path / "a.yaml"
    path.write_text("network: a\nmeasure: {host: kria, tls_ca: ca.pem, token_file: token}")
    found = load_flow(path).measure
    assert found is not None and (found.tls_ca, found.token_file) == (tmp_path / "ca.pem", tmp_path / "token")
    path.write_text("network: a\nmeasure: {imges: 3}")
    with pytest.raises(
        ConfigError, match=r"measure must have only the keys board, .*, images, .*, got 'imges'; did you mean 'images'"
    ):
        load_flow(path)
    path.write_text("network: a")
    assert load_flow(path).measure is None


@pytest.mark.parametrize("option", ["to", "force"])
def test_a_flow_that_does_not_ask_is_told_how_to(tmp_path: Path, option: str):
    with pytest.raises(
        ConfigError, match=r"^the flow must ask for the stage measure, got none of its keys: add a section, measure: {}"
    ):
        run_flow(Flow.model_validate(SPEC), tmp_path, Console(file=StringIO()), **{option: "measure"})
    assert list(tmp_path.iterdir()) == []


def test_the_stage_is_there_where_it_is_asked_for():
    (stage,) = (stage for stage in STAGES if stage.name == "measure")
    assert not stage.is_asked(Flow.model_validate(SPEC))
    assert stage.is_asked(Flow.model_validate({**SPEC, "measure": {}}))
    assert all(each.is_asked(Flow.model_validate(SPEC)) for each in STAGES if each is not stage)


def test_both_builds_are_measured_on_a_simulated_board_and_a_boards_own_on_a_real_one(tmp_path: Path):
    run = run_of(tmp_path)
    assert places_to_measure(run, run.flow.measure) == {
        side: Place("board", run.build(side)) for side in ("plain", "hardened")
    }
    run = run_of(tmp_path, board="kv260", host="kria:8000", tls_ca="ca.pem", token_file="token")
    with pytest.raises(
        ConfigError, match=r"^the board must be one that the flow is built for, got kv260 and no build in .*: run make "
    ):
        places_to_measure(run, run.flow.measure)
    run.overlay("kv260").mkdir()
    (run.overlay("kv260") / "manifest.json").touch()
    credentials = Credentials(Path("ca.pem"), Path("token"))
    assert places_to_measure(run, run.flow.measure) == {
        "hardened": Place("board", run.overlay("kv260"), "kria", 8000, credentials)
    }
    nowhere = run_of(tmp_path, board="kv260")
    with pytest.raises(ConfigError, match=r"^the host of a kv260 must be given, got none: name it as HOST"):
        places_to_measure(nowhere, nowhere.flow.measure)


# ---- the stage -----------------------------------------------------------------------------------------------------


def test_the_stage_keeps_everything_and_gives_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[Place, int, object]] = []

    def measured(place: Place, images: int, plan: object) -> Measurement:
        asked.append((place, images, plan))
        return SIMULATED

    monkeypatch.setattr(measure_module, "measure_build", measured)
    run = run_of(tmp_path, images=7, batches=2, passes=4, transfers=5)
    found = measure_run(run)
    assert found == {"plain": SIMULATED.row(), "hardened": SIMULATED.row()}
    assert [(place.build, images) for place, images, _ in asked] == [(run.build(s), 7) for s in ("plain", "hardened")]
    assert {(p.batches, p.golden_passes, p.transfers) for _, _, p in asked} == {(2, 4, 5)}  # type: ignore[attr-defined]
    for side in ("plain", "hardened"):
        assert Measurement.from_json(run.measured(side).read_text()) == SIMULATED
        assert run.measured(side).with_suffix(".csv").is_file()
    assert summarise(run, {"measure": found}, {})["measured"]["plain"]["fps"] == 1490.4
    (stage,) = (stage for stage in STAGES if stage.name == "measure")
    assert list(stage.outputs(run)) == [run.measured("plain"), run.measured("hardened")]
    clear(run, stage)
    assert not run.measured("plain").exists()


def test_samples_that_differ_fail_the_stage_and_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wrong = replace(SIMULATED, golden=Golden(3, 10, "the engine's prediction", 2, ()))
    monkeypatch.setattr(measure_module, "measure_build", lambda *_: wrong)
    run = run_of(tmp_path)
    with pytest.raises(
        BoardError, match=r"^3 passes must give what the engine predicts, got 2 samples that differ: .*plain.json keeps"
    ):
        measure_run(run)
    assert Measurement.from_json(run.measured("plain").read_text()).golden.differing == 2


def test_other_rtl_is_measured_again(tmp_path: Path):
    run = run_of(tmp_path)
    for side in ("plain", "hardened"):
        (run.build(side) / "rtl").mkdir(parents=True)
        for name in ("manifest.json", "memories.npz", "rtl/top.sv"):
            (run.build(side) / name).write_text("as built")
    (stage,) = (stage for stage in STAGES if stage.name == "measure")
    before = stage_key({}, stage.inputs(run))
    (run.build("plain") / "rtl" / "top.sv").write_text("changed")
    assert stage_key({}, stage.inputs(run)) != before


def test_the_summary_does_not_say_simulated_of_what_a_board_did(tmp_path: Path):
    run = run_of(tmp_path)
    simulated = summarise(run, {"measure": {"plain": SIMULATED.row()}}, {})["simulated"]
    assert any("No board was timed" in line for line in simulated)
    real = summarise(run, {"measure": {"hardened": ON_A_BOARD.row()}}, {})["simulated"]
    assert real[0].startswith("All but the measurement of the build on a board is simulated")
    assert not any("No board was timed" in line or "Power" in line for line in real)


# ---- the report ----------------------------------------------------------------------------------------------------


def claim(folder: Path, measured: object) -> None:
    """The summary says that this was measured."""
    path = folder / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "measured": measured}))


def page_with(folder: Path, **measured: Measurement) -> str:
    write_run(folder)
    (folder / "measured").mkdir()
    for side, each in measured.items():
        (folder / "measured" / f"{side}.json").write_text(each.to_json())
    claim(folder, {side: each.row() for side, each in measured.items()})
    return Page(write_report(folder).read_text(encoding="utf-8")).text


def test_a_simulated_board_is_shown_by_its_cycles_beside_the_papers_kv260(tmp_path: Path):
    text = page_with(tmp_path / "run", plain=SIMULATED, hardened=SIMULATED)
    for fps, watts, joules in (("22.68", "6.62", "0.29"), ("0.59", "5.74", "9.73"), ("19.83", "6.90", "0.35")):
        assert f"{fps} not given not given not given {watts} {joules} published measured on a KV260 [1]" in text
    computed = "1,041,667 2.52 µs, an image alone not measured not measured computed 192 cycles an image in RTL"
    simulated = "1,490 2.42 ms 3.46 ms not measured not measured not measured simulated says nothing of a KV260's speed"
    assert text.count(f"{computed} simulation at 200 MHz, not a measurement on a board") == text.count(simulated) == 2
    assert "Power not measured: what is simulated takes no power." in text and "No board was timed" in text
    assert json.loads((tmp_path / "run" / "measured" / "plain.json").read_text())["power"] is None


def test_a_board_is_shown_as_measured_with_its_power_and_errors(tmp_path: Path):
    text = page_with(tmp_path / "run", hardened=ON_A_BOARD)
    assert "20.16 2.42 ms 3.46 ms not measured 6.25 0.31 measured measured on KV260" in text
    assert "Power 6.25 ± 0.02 W, idle 3.5 ± 0.01 W; energy per image 0.31 ± 0.004 J, above idle 0.14 (error not" in text
    assert "No board was timed" not in text and "what a board took is under Speed and power" in text


def test_a_table_for_papers_has_every_latency_in_its_cell(tmp_path: Path):
    page_with(tmp_path / "run", plain=SIMULATED)
    export_run(tmp_path / "run", tmp_path / "csv")
    with (tmp_path / "csv" / "speed.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "simulated"]
    assert [row["latency"] for row in rows] == ["2.42 ms; 3.46 ms; not measured"]


def test_without_a_measurement_the_page_has_no_such_section(tmp_path: Path):
    assert "Speed and power" not in page_with(tmp_path / "run")
    assert "Speed and power" in page_with(tmp_path / "other", plain=SIMULATED)
    claim(tmp_path / "other", "not measured")  # the stage did not run for the build that is there now
    assert "Speed and power" not in Page(write_report(tmp_path / "other").read_text(encoding="utf-8")).text


def test_a_damaged_measurement_is_refused(tmp_path: Path):
    write_run(tmp_path / "run")
    (tmp_path / "run" / "measured").mkdir()
    (tmp_path / "run" / "measured" / "plain.json").write_text("{")
    claim(tmp_path / "run", {"plain": {}})
    with pytest.raises(ConfigError, match=r"^.*measured/plain.json must be JSON, got .*; measure again"):
        write_report(tmp_path / "run")

# SPDX-License-Identifier: Apache-2.0
"""Measuring: fakes whose figures are known beforehand, then the virtual board by the command line."""

from __future__ import annotations

import csv
import json
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bitward_runtime.comparison import PUBLISHED, cells, compared, table
from bitward_runtime.measure import Golden, Measurement, Plan, golden_passes, latencies, lines, measure, percentile
from bitward_runtime.power import find_ina260, local_files
from bitward_runtime.source import Source, sensor_of, source_of
from test_power import hwmon

from bitward.cli import main
from bitward.errors import BoardError, ConfigError, ManifestError
from bitward.flow.attack import Place
from bitward.flow.measure import measure_build, random_images, save_measurement
from bitward.manifest import Io, StreamTensor
from bitward.targets.engine import EngineTarget

IMAGES = np.arange(40).reshape(10, 4)
SOURCE = Source("board", "KV260", False, "toy", 0xB17, 200.0, cycles_per_image=100.0, latency_cycles=500)
QUICK = Plan(golden_passes=2, warm_up=1, batches=4, transfers=100, idle_s=0.1, busy_s=0.05, period_s=0.001)


class Sleeper:
    """Adds 1, takes `fixed_s` a call and `image_s` an image, and is wrong in chosen (call, image)."""

    def __init__(self, fixed_s: float = 0.0, image_s: float = 0.0, wrong: tuple[tuple[int, int], ...] = ()) -> None:
        self.fixed_s, self.image_s, self.wrong = fixed_s, image_s, wrong
        self.calls: list[int] = []

    def infer(self, images: np.ndarray) -> np.ndarray:
        self.calls.append(len(images))
        time.sleep(self.fixed_s + self.image_s * len(images))
        outputs = images + 1
        for call, image in self.wrong:
            if call == len(self.calls):
                outputs[image, 0] += 100
        return outputs


def test_identical_passes_come_first_and_then_everything_the_plan_says():
    target = Sleeper()
    found = measure(target, IMAGES, SOURCE, QUICK)
    assert found.golden == Golden(2, 10, "the first pass", 0, ()) and found.golden.is_identical
    assert target.calls == [10] * 2 + [1] * 101 + [10] + [10] * 4
    assert len(found.rate.batch_s) == 4 and found.rate.images_per_batch == 10


def test_differing_samples_are_kept_and_the_measurement_goes_on():
    found = measure(Sleeper(wrong=((2, 3), (2, 7))), IMAGES, SOURCE, QUICK)
    assert not found.golden.is_identical and found.golden.differing == 2
    first, second = found.golden.samples
    assert (first.number, first.image, second.image) == (2, 3, 7)
    assert first.expected == (13, 14, 15, 16) and first.got == (113, 14, 15, 16)
    assert found.rate.fps > 0


def test_a_prediction_shows_what_is_wrong_in_every_pass():
    """Without one, an upset that was there before the first pass would never show."""
    expected = IMAGES + 1
    expected[4, 1] = -1
    assert golden_passes(Sleeper(), IMAGES, 3).differing == 0
    found = golden_passes(Sleeper(), IMAGES, 3, expected)
    assert found.differing == 3 and {each.image for each in found.samples} == {4}
    assert found.against == "the engine's prediction"


def test_of_many_differing_samples_all_are_counted_and_some_kept():
    images = np.zeros((300, 2), np.int64)
    found = golden_passes(Sleeper(), images, 2, images)
    assert found.differing == 600 and len(found.samples) == 100


def test_outputs_of_another_shape_are_refused():
    with pytest.raises(
        BoardError, match=r"^outputs must be of shape \(10, 3\), got \(10, 4\); is the overlay the build"
    ):
        golden_passes(Sleeper(), IMAGES, 1, np.zeros((10, 3)))


def test_frames_and_latency_are_those_of_the_target():
    found = measure(Sleeper(fixed_s=0.002, image_s=0.001), IMAGES, SOURCE, replace(QUICK, batches=5))
    assert 40 < found.rate.fps <= 10 / 0.012
    assert 0.003 <= found.latency.p50_s <= found.latency.p95_s < 0.1


def test_batches_go_on_for_as_many_seconds_as_are_asked():
    found = measure(Sleeper(fixed_s=0.01), IMAGES, SOURCE, replace(QUICK, seconds=0.2, transfers=0))
    assert sum(found.rate.batch_s) >= 0.2 and len(found.rate.batch_s) > 4


def test_percentiles_are_samples_and_none_where_there_are_too_few():
    values = np.random.default_rng(0).permutation(1000) / 1000
    assert percentile(values.tolist(), 50) == 0.499 and percentile(values.tolist(), 99) == 0.989
    assert sum(values <= percentile(values.tolist(), 95)) == 950
    assert latencies(Sleeper(), IMAGES, 99).p99_s is None and latencies(Sleeper(), IMAGES, 99).p95_s is not None
    none = latencies(Sleeper(), IMAGES, 0)
    assert (none.p50_s, none.p95_s, none.p99_s) == (None, None, None)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"golden_passes": 0}, "^golden_passes must be a whole number from 1, got 0: ask for more$"),
        ({"warm_up": -1}, "^warm_up must be a whole number from 0, got -1: ask for more$"),
        ({"batches": 0}, "^batches must be a whole number from 1, got 0: ask for more$"),
        ({"transfers": 1.5}, "^transfers must be a whole number from 0, got 1.5: ask for more$"),
    ],
)
def test_a_plan_is_checked(changed, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Plan(**changed)


def test_no_images_are_refused():
    with pytest.raises(ConfigError, match="^images must be one or more, got none: give some to measure with$"):
        measure(Sleeper(), IMAGES[:0], SOURCE, QUICK)


# ---- power ---------------------------------------------------------------------------------------------------------


class Consumer(Sleeper):
    """Takes 5 W while it infers a batch, 3 W otherwise: written where the fake sensor reads it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def infer(self, images: np.ndarray) -> np.ndarray:
        if len(images) > 1:
            self.file.write_text("5000000")
        time.sleep(0.01)
        return super().infer(images)


def test_power_is_idle_first_then_busy_and_energy_follows(tmp_path):
    file = hwmon(tmp_path, 5, "ina260_u14", "3000000") / "power1_input"
    plan = replace(QUICK, transfers=0, batches=10)
    found = measure(Consumer(file), IMAGES, SOURCE, plan, find_ina260(local_files(tmp_path)))
    power, fps = found.power, found.rate.fps
    assert (power.idle.value, power.busy.value, found.why_no_power) == (3.0, 5.0, None)
    assert power.energy_j == pytest.approx(5 / fps) and power.net_energy_j == pytest.approx(2 / fps)
    step = 0.01 / np.sqrt(12)
    assert power.energy_error_j == pytest.approx(step / fps)
    assert power.net_energy_error_j == pytest.approx(np.sqrt(2) * step / fps)
    text = "\n".join(lines(found))
    assert "power: 5 +- 0.0029 W, idle 3 +- 0.0029 W" in text and "energy per image: " in text


def test_a_sensor_that_fails_leaves_power_not_measured(tmp_path):
    file = hwmon(tmp_path, 0, "ina260", "3000000") / "power1_input"
    sensor = find_ina260(local_files(tmp_path))
    file.write_text("0")  # what a driver without its chip answers: not a power of 0
    found = measure(Sleeper(fixed_s=0.01), IMAGES, SOURCE, replace(QUICK, transfers=0), sensor)
    assert found.power is None and re.match(r"the sensor failed: \d+ times idle, \d+ times while", found.why_no_power)
    assert found.row()["energy_j"] is None and json.loads(found.to_json())["power"] is None


class Described:
    """A target as far as its name goes."""

    def __init__(self, name: str | None, **more: object) -> None:
        self.manifest = SimpleNamespace(design="toy", design_id=1, clk_mhz=100.0)
        if name is not None:
            self.name = name
        vars(self).update(more)


@pytest.mark.parametrize(
    ("on", "target", "name", "is_simulated"),
    [
        ("board", Described("KV260"), "KV260", False),
        ("board", Described("KV260 (virtual, bitward)"), "KV260 (virtual, bitward)", True),
        ("board", Described("KV260", is_simulated=True), "KV260", True),
        ("rtl", Described(None), "the RTL, simulated by Verilator", True),
        ("engine", Described(None), "the engine (software)", False),
    ],
)
def test_what_is_simulated_says_so(tmp_path, on, target, name, is_simulated):
    found = source_of(target, on, tmp_path)
    assert (found.name, found.is_simulated, found.cycles_per_image) == (name, is_simulated, None)
    (tmp_path / "build.json").write_text('{"cycles": {"latency": 40, "steady_per_image": 8.0}}')
    found = source_of(target, on, tmp_path)
    assert (found.latency_cycles, found.fps_by_cycles) == (40, 12.5e6)


def test_only_a_real_boards_own_sensor_is_read(tmp_path):
    hwmon(tmp_path, 1, "ina260", "4000000")
    seen = Described("KV260", read_file=local_files(tmp_path))
    sensor, _ = sensor_of(seen, SOURCE, "10.0.0.2")
    assert sensor.read_w() == 4.0
    assert sensor_of(seen, replace(SOURCE, is_simulated=True), None) == (None, "simulated board")
    assert sensor_of(seen, replace(SOURCE, on="engine"), None) == (None, "what is simulated takes no power")
    sensor, why = sensor_of(Described("KV260"), SOURCE, "10.0.0.2")
    assert sensor is None and why == "the board's server shows no sensor; measure on the board itself"
    sensor, why = sensor_of(Described("KV260", read_file=local_files(tmp_path / "none")), SOURCE, "10.0.0.2")
    assert sensor is None and why.startswith("a board must have a sensor ina260 under hwmon, got no sensor at all; ")


def test_on_the_board_itself_its_own_files_are_read(tmp_path, monkeypatch):
    hwmon(tmp_path, 1, "ina260", "4000000")
    monkeypatch.setattr("bitward_runtime.source.local_files", lambda: local_files(tmp_path))
    assert sensor_of(Described("KV260"), SOURCE, "127.0.0.1")[0].read_w() == 4.0
    assert sensor_of(Described("KV260"), SOURCE, "10.0.0.2")[0] is None


# ---- results ---------------------------------------------------------------------------------------------------------


def test_what_was_not_measured_is_null_and_a_cell_that_says_so(tmp_path):
    found = measure(Sleeper(), IMAGES, SOURCE, replace(QUICK, transfers=0), why_no_power="none here")
    path, beside = save_measurement(found, tmp_path / "m.json")
    data = json.loads(path.read_text())
    assert data["power"] is None and data["why_no_power"] == "none here" and data["latency"]["p99_s"] is None
    with open(beside, newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["energy_j"] == row["busy_w"] == row["latency_p50_s"] == "not measured"
    assert float(row["fps"]) == found.rate.fps == data["rate"]["fps"] and row["simulated"] == "False"
    assert "0" not in {row["idle_w"], row["energy_j"]}
    with pytest.raises(
        ConfigError, match=r"^--out must name the JSON file, got .*m\.csv: the CSV is written beside it$"
    ):
        save_measurement(found, beside)


def test_a_measurement_is_read_again_from_its_json(tmp_path):
    file = hwmon(tmp_path, 5, "ina260", "3000000") / "power1_input"
    sensor = find_ina260(local_files(tmp_path))
    for found in (
        measure(Sleeper(wrong=((1, 2),)), IMAGES, SOURCE, replace(QUICK, transfers=0)),
        measure(Consumer(file), IMAGES, SOURCE, replace(QUICK, transfers=25), sensor),
    ):
        assert Measurement.from_json(found.to_json()) == found
    with pytest.raises(ConfigError, match=r"^m\.json must be JSON, got .*; measure again$"):
        Measurement.from_json("{", "m.json")
    with pytest.raises(ConfigError, match=r"^m\.json must have known keys only, got 'watts'; "):
        Measurement.from_json('{"watts": 3}', "m.json")
    with pytest.raises(ConfigError, match=r"^m\.json must be an object, got 3; "):
        Measurement.from_json("3", "m.json")


def test_a_name_with_a_comma_is_one_cell():
    found = measure(Sleeper(), IMAGES, replace(SOURCE, name='a "KV260", virtual'), replace(QUICK, transfers=0))
    (row,) = csv.DictReader(found.to_csv().splitlines())
    assert row["board"] == 'a "KV260", virtual'


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, "measured on KV260"),
        ({"is_simulated": True}, "simulated: says nothing of a KV260's speed"),
        ({"on": "rtl", "is_simulated": True}, "simulated: says nothing of a KV260's speed"),
        ({"on": "engine"}, "software, which computes equal images once: says nothing of a KV260's speed"),
    ],
)
def test_a_source_says_what_its_figures_are_of(changed, says):
    assert replace(SOURCE, **changed).says == says


def test_the_table_stands_beside_the_papers_and_says_where_each_figure_comes_from():
    found = measure(Sleeper(), IMAGES, replace(SOURCE, is_simulated=True), replace(QUICK, transfers=0))
    rows = compared(found)
    assert [(row.fps, row.power_w, row.energy_j) for row in rows[:3]] == [
        (22.68, 6.62, 0.29), (0.59, 5.74, 9.73), (19.83, 6.90, 0.35),
    ]  # fmt: skip
    assert cells(rows[3])[1:] == (f"{found.rate.fps:,.2f}", "not measured", "not measured", found.source.says)
    assert cells(rows[4])[1] == "2,000,000.00"  # 200 MHz, 100 cycles
    assert rows[4].source.endswith("100 cycles an image in RTL simulation at 200 MHz, not a measurement on a board")
    text = table(rows)
    assert "simulated: says nothing of a KV260's speed" in text and "Table IV" in text
    without = replace(found, source=replace(found.source, cycles_per_image=None))
    assert len(compared(without)) == 4


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row.design)
def test_the_papers_energy_is_its_power_over_its_throughput(row):
    assert row.power_w / row.fps == pytest.approx(row.energy_j, abs=0.005)


@pytest.mark.parametrize(("datatype", "least", "most"), [("UINT8", 0, 255), ("INT4", -8, 7), ("UINT1", 0, 1)])
def test_random_images_are_all_of_the_inputs_type(datatype, least, most):
    stream = StreamTensor((3,), datatype, 24, 3, 1)
    images = random_images(Io(stream, stream), 2000)
    assert images.shape == (2000, 3) and (images.min(), images.max()) == (least, most)
    stream.pack(images)
    with pytest.raises(ManifestError):  # negative control: the type is tight
        stream.pack(images + 1)


# ---- real builds -----------------------------------------------------------------------------------------------------


def test_the_virtual_board_is_measured_by_the_command(mlp_run, tmp_path, capsys):
    short = ["--images", "4", "--batches", "2", "--passes", "2", "--transfers", "20"]
    assert main(["measure", str(mlp_run.build("hardened")), *short, "--out", str(tmp_path / "m.json")]) == 0
    out = capsys.readouterr().out
    assert "on KV260 (virtual, bitward): simulated: says nothing of a KV260's speed" in out
    assert "0 samples differ from the engine's prediction" in out and "power: not measured: " in out
    data = json.loads((tmp_path / "m.json").read_text())
    cycles = json.loads((mlp_run.build("hardened") / "build.json").read_text())["cycles"]["steady_per_image"]
    assert data["fps_by_rtl_cycles"] == pytest.approx(200e6 / cycles)
    assert data["latency"]["p50_s"] > 0 and data["latency"]["p95_s"] is not None is data["latency"]["p99_s"]


@pytest.mark.parametrize(("on", "says"), [("rtl", "simulated"), ("engine", "software")])
def test_rtl_and_engine_are_measured_alike(mlp_run, on, says):
    found = measure_build(Place(on, mlp_run.build("plain")), 3, replace(QUICK, transfers=0))
    assert found.golden.is_identical and found.source.says.startswith(says) and found.power is None


def test_an_upset_design_fails_the_command_and_its_samples_are_kept(mlp_run, tmp_path, capsys, monkeypatch):
    """The prediction is spoilt here, which is the same seen from the other side."""
    truth = EngineTarget.infer
    monkeypatch.setattr(EngineTarget, "infer", lambda self, images: truth(self, images) + 1)
    given = ["--on", "rtl", "--images", "2", "--batches", "1", "--passes", "1", "--transfers", "0"]
    assert main(["measure", str(mlp_run.build("plain")), *given, "--out", str(tmp_path / "m.json")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("bitward: 1 passes must give what the engine predicts, got 2 samples that differ: --out ")
    assert len(json.loads((tmp_path / "m.json").read_text())["golden"]["samples"]) == 2

# SPDX-License-Identifier: Apache-2.0
"""Power from a tree of files that looks like hwmon; the statistics against independent ones. No board is here."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest
from bitward_runtime.power import Ina260, Sampler, find_ina260, local_files, mean_of, sample_for

from bitward.errors import BoardError


def hwmon(root: Path, index: int, name: str, microwatts: str | None = None) -> Path:
    folder = root / "sys" / "class" / "hwmon" / f"hwmon{index}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    if microwatts is not None:
        (folder / "power1_input").write_text(f"{microwatts}\n")
    return folder


@pytest.mark.parametrize("index", [0, 2, 17])
@pytest.mark.parametrize("name", ["ina260", "ina260_u14"])
def test_the_sensor_is_found_by_the_beginning_of_its_name_whatever_its_index(tmp_path, index, name):
    for other in {0, 1, 2, 17} - {index}:
        hwmon(tmp_path, other, "ams", "99000000")
    hwmon(tmp_path, index, name, "4130000")
    assert find_ina260(local_files(tmp_path)).read_w() == pytest.approx(4.13)


def test_a_board_without_the_sensor_is_told_what_there_is(tmp_path):
    with pytest.raises(
        BoardError, match=r"^a board must have a sensor ina260 under hwmon, got no sensor at all; power "
    ):
        find_ina260(local_files(tmp_path))
    hwmon(tmp_path, 0, "ams")
    hwmon(tmp_path, 1, "my-ina260", "1000000")
    with pytest.raises(BoardError, match=r"^a board must have a sensor ina260 under hwmon, got ams, my-ina260; power "):
        find_ina260(local_files(tmp_path))


@pytest.mark.parametrize("text", ["0", "", "-5", "4.1", "n/a", "\N{SUPERSCRIPT TWO}"])
def test_what_is_no_power_is_never_taken_for_one(tmp_path, text):
    folder = hwmon(tmp_path, 3, "ina260", text)
    sensor = Ina260(local_files(tmp_path), "/sys/class/hwmon/hwmon3")
    with pytest.raises(BoardError, match=r"^/sys/class/hwmon/hwmon3/power1_input must be microwatts above 0, got '"):
        sensor.read_w()
    (folder / "power1_input").unlink()
    with pytest.raises(BoardError, match=r"^/sys/class/hwmon/hwmon3/power1_input must be readable, got .*No such file"):
        find_ina260(local_files(tmp_path))


def test_the_sampler_follows_the_sensor_and_leaves_failures_out(tmp_path):
    power = hwmon(tmp_path, 0, "ina260", "3000000") / "power1_input"
    sensor = find_ina260(local_files(tmp_path))
    with Sampler(sensor, period_s=0.001) as sampler:
        time.sleep(0.05)
        power.write_text("broken")
        time.sleep(0.05)
        power.write_text("7000000")
        time.sleep(0.05)
    samples = sampler.samples_w
    assert set(samples.tolist()) == {3.0, 7.0} and (np.diff(samples) >= 0).all()
    assert sampler.failed > 0
    count = len(samples)
    time.sleep(0.02)
    assert len(sampler.samples_w) == count  # the thread has ended
    assert (sample_for(sensor, 0.02, 0.001).samples_w == 7.0).all()


def test_the_period_is_checked():
    with pytest.raises(BoardError, match=r"^period_s must be above 0, got 0; the INA260 converts in milliseconds$"):
        Sampler(Ina260(local_files(), "/sys"), period_s=0)


def test_no_samples_have_no_mean_and_few_have_no_error():
    assert mean_of(np.zeros(0)) is None
    few = mean_of(np.array([3.0, 3.1, 3.0]))
    assert few.value == pytest.approx(3.0333, abs=1e-4) and few.error is None and few.batch is None


def test_equal_samples_have_the_error_of_the_sensors_step():
    found = mean_of(np.full(500, 3.5))
    assert found.error == pytest.approx(0.01 / np.sqrt(12)) and found.value == 3.5


def test_the_error_of_independent_samples_is_the_usual_one():
    samples = np.random.default_rng(1).normal(4.0, 0.2, 4096)
    found = mean_of(samples, step=0.0)
    assert found.batch == 1 and found.error == pytest.approx(samples.std(ddof=1) / 64, rel=1e-9)


def autoregressive(count: int, rho: float, random: np.random.Generator) -> np.ndarray:
    noise = random.normal(0, 1, count) * np.sqrt(1 - rho**2)
    noise[0] = random.normal()
    for at in range(1, count):
        noise[at] += rho * noise[at - 1]
    return noise


def test_the_error_of_correlated_samples_is_that_of_repeated_measurements():
    """The spread of the means of AR(1) series is the truth; independent samples would have an error 4.4 times less."""
    random = np.random.default_rng(5)
    found = [mean_of(autoregressive(4096, 0.9, random), step=0.0) for _ in range(200)]
    truth = np.std([each.value for each in found])
    errors = [each.error for each in found]
    assert None not in errors and min(each.batch for each in found) > 1
    assert 0.75 * truth < np.sqrt(np.mean(np.square(errors))) < 1.3 * truth
    assert truth > 3 / 64  # negative control: what independent samples would have, 1/64, is far off


def test_samples_that_never_stop_drifting_have_no_error():
    assert mean_of(np.linspace(3, 5, 1000)).error is None


def test_sentences_are_whole():
    """One line, an end that says what next."""
    with pytest.raises(BoardError) as told:
        find_ina260(local_files(Path("/nowhere")))
    assert re.fullmatch(r".+ must .+, got .+; .+", str(told.value))

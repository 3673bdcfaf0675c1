# SPDX-License-Identifier: Apache-2.0
"""Power of a KV260 from its INA260: the sensor found by hwmon, a sampling thread, means with their uncertainty.

The INA260 on the carrier sees the whole system-on-module (PS, PL and DDR) in steps of 10 mW (TI SBOS656); what the
accelerator takes is the difference from an idle baseline. Files are read through `ReadFile`: the local sysfs, or the
board's server. Not yet run on hardware; a virtual board has no sensor.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from bitward.errors import BoardError

ReadFile = Callable[[str], bytes]
"""The content of the file of that absolute path on the board; OSError or BoardError where it cannot be read."""
Samples = npt.NDArray[np.float64]

HWMON = "/sys/class/hwmon/hwmon{}"
SENSOR = "ina260"  # how the name begins: Linux appends an address or an index to some
MOST_HWMON = 64  # indices have gaps and change from boot to boot
STEP_W = 0.01  # one count of the INA260's power register
FEWEST_BATCHES = 8  # means that a standard error is taken from


def local_files(root: Path = Path("/")) -> ReadFile:
    """Files of this machine, below `root`: on the board its own, in a test a tree that looks like one."""
    return lambda path: (root / path.lstrip("/")).read_bytes()


@dataclass(frozen=True)
class Ina260:
    """The sensor whose hwmon folder is `folder`."""

    files: ReadFile
    folder: str

    def read_w(self) -> float:
        """Watts now; BoardError where the sensor gives no number above 0 (a powered module takes watts)."""
        path = f"{self.folder}/power1_input"
        try:
            text = self.files(path).decode("ascii", "replace").strip()
        except OSError as error:
            raise BoardError(f"{path} must be readable, got {error}; is the sensor's driver loaded?") from error
        if not text.isdecimal() or int(text) == 0:
            raise BoardError(f"{path} must be microwatts above 0, got {text!r}; is the sensor's driver loaded?")
        return int(text) / 1e6


def find_ina260(files: ReadFile) -> Ina260:
    """The first sensor whose name begins with ina260 and which gives a figure; BoardError where there is none."""
    found: list[str] = []
    for index in range(MOST_HWMON):
        folder = HWMON.format(index)
        try:
            name = files(f"{folder}/name").decode("ascii", "replace").strip()
        except (OSError, BoardError):
            continue
        found.append(name)
        if name.startswith(SENSOR):
            sensor = Ina260(files, folder)
            sensor.read_w()
            return sensor
    listed = ", ".join(found) if found else "no sensor at all"
    raise BoardError(f"a board must have a sensor {SENSOR} under hwmon, got {listed}; power cannot be measured there")


class Sampler:
    """Inside `with`, a thread reads the sensor every `period_s`; afterwards `samples_w` holds what it read.

    A reading that fails is left out and counted in `failed`, never taken as 0.
    """

    def __init__(self, sensor: Ina260, period_s: float = 0.02) -> None:
        if not period_s > 0:
            raise BoardError(f"period_s must be above 0, got {period_s}; the INA260 converts in milliseconds")
        self._sensor, self._period_s = sensor, period_s
        self._samples: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="ina260", daemon=True)
        self.failed = 0

    @property
    def samples_w(self) -> Samples:
        """Watts, in the order in which they were read."""
        return np.array(self._samples, dtype=np.float64)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.is_set():
            try:
                self._samples.append(self._sensor.read_w())
            except BoardError:
                self.failed += 1
            self._stop.wait(self._period_s)


def sample_for(sensor: Ina260, seconds: float, period_s: float = 0.02) -> Sampler:
    """A sampler that has read the sensor for so long, while nothing is asked of the board."""
    with Sampler(sensor, period_s) as sampler:
        time.sleep(seconds)
    return sampler


@dataclass(frozen=True)
class Mean:
    """A mean of samples and its standard error; the error is None where the samples are too few or too alike in time.

    `batch` is how many consecutive samples each of the means has from which the error was taken.
    """

    value: float
    error: float | None
    samples: int
    batch: int | None


def mean_of(samples: Samples, step: float = STEP_W) -> Mean | None:
    """The mean by non-overlapping batch means (Schmeiser, Operations Research 30, 1982); None of no samples.

    Batches are doubled until neighbours are uncorrelated: their lag-1 autocorrelation below 2/sqrt(batches). With fewer
    than 8 of those there is no error to give. To it the sensor's step is added, step/sqrt(12), which averaging does not
    remove where all samples fall on one count.

    >>> mean_of(np.full(64, 3.5), step=0.0)
    Mean(value=3.5, error=0.0, samples=64, batch=1)
    """
    count = len(samples)
    if count == 0:
        return None
    value, size = float(samples.mean()), 1
    while count // size >= FEWEST_BATCHES:
        batches = count // size
        means = samples[: batches * size].reshape(batches, size).mean(axis=1)
        if abs(_lag_one(means)) < 2 / math.sqrt(batches):
            scatter = float(means.std(ddof=1)) / math.sqrt(batches)
            return Mean(value, math.hypot(scatter, step / math.sqrt(12)), count, size)
        size *= 2
    return Mean(value, None, count, None)


def _lag_one(means: Samples) -> float:
    """The autocorrelation of neighbours; 0 where nothing varies."""
    away = means - means.mean()
    square = float(away @ away)
    return float(away[:-1] @ away[1:]) / square if square > 0 else 0.0

# SPDX-License-Identifier: Apache-2.0
"""How fast a design is and what it takes, measured from outside: identical passes first, then frames, latency, watts.

Anything with `infer` is measured alike: a board, the simulation behind the virtual one, the engine. What the figures
are of is `Source`'s to say, and stands with them everywhere. What could not be measured is None, and is written
"not measured". Time is the host's, from images as they are streamed to outputs: packing and transport are in it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bitward.errors import BoardError, ConfigError
from bitward.records import read_record, to_plain

from .power import Ina260, Mean, Sampler, mean_of, sample_for
from .source import Source

NOT_MEASURED = "not measured"
MOST_KEPT = 100  # differing samples that are kept whole; all are counted
PERCENTILES = (50, 95, 99)
_DERIVED = ("says", "fps_by_rtl_cycles")  # keys of the JSON for whoever reads it without this module
Images = npt.NDArray[Any]


class Infers(Protocol):
    """What can be measured: `bitward.targets.Target` is one."""

    def infer(self, images: Images, /) -> npt.NDArray[Any]:
        """The outputs for images as streamed, in their order."""


@dataclass(frozen=True)
class Plan:
    """How much is measured. Batches go on until there are `batches` of them and `seconds` have passed.

    Where there is a sensor they go on for `busy_s`, so that it is read often enough, after `idle_s` for the baseline.
    """

    golden_passes: int = 3
    warm_up: int = 2  # batches whose time does not count
    batches: int = 20
    seconds: float = 0.0
    transfers: int = 200  # of a single image
    idle_s: float = 10.0
    busy_s: float = 10.0
    period_s: float = 0.02  # between two readings of the sensor

    def __post_init__(self) -> None:
        for name, least in (("golden_passes", 1), ("warm_up", 0), ("batches", 1), ("transfers", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"{name} must be a whole number from {least}, got {value!r}: ask for more")


@dataclass(frozen=True)
class Differing:
    """An image whose outputs were not those expected, in pass `number` (from 1)."""

    number: int
    image: int
    expected: tuple[int, ...]
    got: tuple[int, ...]


@dataclass(frozen=True)
class Golden:
    """Passes over the same images: how many samples differed, and the first of them.

    `against` says from what: the prediction that was given, or the first pass.
    """

    passes: int
    images: int
    against: str
    differing: int
    samples: tuple[Differing, ...]

    @property
    def is_identical(self) -> bool:
        """Whether every pass gave what was expected."""
        return self.differing == 0


@dataclass(frozen=True)
class Rate:
    """Throughput over whole batches, back to back, the warm-up apart."""

    fps: float
    images_per_batch: int
    batch_s: tuple[float, ...]


@dataclass(frozen=True)
class Latency:
    """Seconds of transfers of one image; a percentile is None where too few transfers were made to have it."""

    transfers: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None


@dataclass(frozen=True)
class Power:
    """Watts of the whole module, idle and while batches run, and joules per image: in all, and above idle.

    Errors are standard errors, None where the samples do not give one. Readings that failed are left out.
    """

    idle: Mean
    busy: Mean
    energy_j: float
    energy_error_j: float | None
    net_energy_j: float
    net_energy_error_j: float | None
    failed_readings: int


@dataclass(frozen=True)
class Measurement:
    """All of it. `power` is None where it was not measured, and `why_no_power` says why."""

    source: Source
    golden: Golden
    rate: Rate
    latency: Latency
    power: Power | None
    why_no_power: str | None

    def to_json(self) -> str:
        """Field by field; what was not measured is null."""
        derived = dict(zip(_DERIVED, (self.source.says, self.source.fps_by_cycles), strict=True))
        return json.dumps({**derived, **to_plain(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "measurement") -> Measurement:
        """The measurement that `to_json` wrote; ConfigError names the place of what is wrong in it."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{where} must be JSON, got {error}; measure again") from error
        if isinstance(data, dict):
            data = {name: value for name, value in data.items() if name not in _DERIVED}
        return read_record(cls, data, where, ConfigError)

    def row(self) -> dict[str, Any]:
        """One figure a column, None where it was not measured."""
        source, latency, power = self.source, self.latency, self.power
        return {
            "design": source.design,
            "design_id": f"0x{source.design_id:08x}",
            "on": source.on,
            "board": source.name,
            "simulated": source.is_simulated or source.on == "engine",
            "clk_mhz": source.clk_mhz,
            "cycles_per_image_rtl": source.cycles_per_image,
            "fps_by_rtl_cycles": source.fps_by_cycles,
            "golden_passes": self.golden.passes,
            "differing_samples": self.golden.differing,
            "images_per_batch": self.rate.images_per_batch,
            "batches": len(self.rate.batch_s),
            "fps": self.rate.fps,
            "latency_p50_s": latency.p50_s,
            "latency_p95_s": latency.p95_s,
            "latency_p99_s": latency.p99_s,
            "idle_w": power and power.idle.value,
            "idle_error_w": power and power.idle.error,
            "busy_w": power and power.busy.value,
            "busy_error_w": power and power.busy.error,
            "energy_j": power and power.energy_j,
            "energy_error_j": power and power.energy_error_j,
            "net_energy_j": power and power.net_energy_j,
            "net_energy_error_j": power and power.net_energy_error_j,
        }

    def to_csv(self) -> str:
        """A line of names and a line of figures."""
        cells = {name: NOT_MEASURED if value is None else str(value) for name, value in self.row().items()}
        return "\n".join(",".join(_quoted(cell) for cell in line) for line in (cells, cells.values())) + "\n"


def measure(
    target: Infers,
    images: Images,
    source: Source,
    plan: Plan = Plan(),
    sensor: Ina260 | None = None,
    why_no_power: str = "no sensor was given",
    expected: npt.NDArray[Any] | None = None,
) -> Measurement:
    """The design, measured with `images` as one batch: identical passes, latency, then throughput and power.

    `expected` are the outputs that a prediction gives; without it, the first pass'. Differing samples do not stop the
    measurement: they are in it. The idle baseline is taken first, while nothing is asked of the target.
    """
    if len(images) == 0:
        raise ConfigError("images must be one or more, got none: give some to measure with")
    idle = sample_for(sensor, plan.idle_s, plan.period_s) if sensor else None
    golden = golden_passes(target, images, plan.golden_passes, expected)
    latency = latencies(target, images, plan.transfers)
    for _ in range(plan.warm_up):
        target.infer(images)
    if sensor is None or idle is None:
        return Measurement(source, golden, throughput(target, images, plan), latency, None, why_no_power)
    with Sampler(sensor, plan.period_s) as busy:
        rate = throughput(target, images, replace(plan, seconds=max(plan.seconds, plan.busy_s)))
    power = power_of(idle, busy, 1 / rate.fps)
    why = None if power else f"the sensor failed: {idle.failed} times idle, {busy.failed} times while batches ran"
    return Measurement(source, golden, rate, latency, power, why)


def golden_passes(target: Infers, images: Images, passes: int, expected: npt.NDArray[Any] | None = None) -> Golden:
    """What `passes` passes over the images gave that was not expected: samples are compared whole."""
    against = "the engine's prediction" if expected is not None else "the first pass"
    differing = 0
    kept: list[Differing] = []
    for number in range(1, passes + 1):
        got = np.asarray(target.infer(images))
        expected = got if expected is None else np.asarray(expected)
        if got.shape != expected.shape:
            raise BoardError(f"outputs must be of shape {expected.shape}, got {got.shape}; is the overlay the build's?")
        wrong = np.flatnonzero((got != expected).reshape(len(got), -1).any(axis=1))
        differing += len(wrong)
        for image in wrong[: MOST_KEPT - len(kept)].tolist():
            kept.append(Differing(number, image, *(tuple(each[image].ravel().tolist()) for each in (expected, got))))
    return Golden(passes, len(images), against, differing, tuple(kept))


def throughput(target: Infers, images: Images, plan: Plan) -> Rate:
    """Whole batches, one behind the other, as many as the plan says."""
    batch_s: list[float] = []
    while len(batch_s) < plan.batches or sum(batch_s) < plan.seconds:
        started = time.perf_counter()
        target.infer(images)
        batch_s.append(time.perf_counter() - started)
    return Rate(len(images) * len(batch_s) / sum(batch_s), len(images), tuple(batch_s))


def latencies(target: Infers, images: Images, transfers: int) -> Latency:
    """Transfers of one image each, the images in turn; the first is a warm-up."""
    taken: list[float] = []
    for number in range(transfers + 1 if transfers else 0):
        at = number % len(images)
        started = time.perf_counter()
        target.infer(images[at : at + 1])
        taken.append(time.perf_counter() - started)
    return Latency(transfers, *(percentile(taken[1:], percent) for percent in PERCENTILES))


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The least value that `percent` of 100 do not exceed; None of so few values that it could only be the largest.

    >>> percentile([float(n) for n in range(1, 101)], 95), percentile([1.0] * 99, 99)
    (95.0, None)
    """
    if len(values) * (100 - percent) < 100:
        return None
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def power_of(idle: Sampler, busy: Sampler, seconds_per_image: float) -> Power | None:
    """Watts and joules per image from both series of samples; None where either has none.

    The time of an image is that of the batches which the samples cover, so the errors are those of power alone.
    """
    resting, working = mean_of(idle.samples_w), mean_of(busy.samples_w)
    if resting is None or working is None:
        return None
    both = None if resting.error is None or working.error is None else math.hypot(resting.error, working.error)
    return Power(
        resting,
        working,
        energy_j=working.value * seconds_per_image,
        energy_error_j=None if working.error is None else working.error * seconds_per_image,
        net_energy_j=(working.value - resting.value) * seconds_per_image,
        net_energy_error_j=None if both is None else both * seconds_per_image,
        failed_readings=idle.failed + busy.failed,
    )


def lines(measured: Measurement) -> Iterable[str]:
    """The measurement for people, a line each, what it is of first."""
    source, golden, rate = measured.source, measured.golden, measured.rate
    latency, power = measured.latency, measured.power
    yield f"{source.design} on {source.name}: {source.says}"
    yield (
        f"golden passes: {golden.passes} of {golden.images} images, {golden.differing} samples differ "
        f"from {golden.against}"
    )
    yield f"frames: {rate.fps:.6g} per second over {len(rate.batch_s)} batches of {rate.images_per_batch} images"
    shares = zip(PERCENTILES, (latency.p50_s, latency.p95_s, latency.p99_s), strict=True)
    each = ", ".join(f"p{percent} {_ms(value)}" for percent, value in shares)
    yield f"latency of one image ({latency.transfers} transfers): {each}"
    if source.fps_by_cycles is not None and source.latency_cycles is not None:
        yield (
            f"by cycles counted in RTL, at {source.clk_mhz:g} MHz: {source.fps_by_cycles:,.2f} frames per second, "
            f"latency {source.latency_cycles / source.clk_mhz:.3f} us: computed, not measured on a board"
        )
    if power is None:
        yield f"power: {NOT_MEASURED}: {measured.why_no_power}"
        return
    yield f"power: {_with(power.busy.value, power.busy.error)} W, idle {_with(power.idle.value, power.idle.error)} W"
    yield (
        f"energy per image: {_with(power.energy_j, power.energy_error_j)} J, above idle "
        f"{_with(power.net_energy_j, power.net_energy_error_j)} J"
    )


def _ms(seconds: float | None) -> str:
    return NOT_MEASURED if seconds is None else f"{1e3 * seconds:.3f} ms"


def _with(value: float, error: float | None) -> str:
    """A figure and its standard error."""
    return f"{value:.4g} +- {error:.2g}" if error is not None else f"{value:.4g} (error {NOT_MEASURED})"


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(mark in cell for mark in ',"\n') else cell

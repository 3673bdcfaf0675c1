# SPDX-License-Identifier: Apache-2.0
"""Where the variance of a bit-error-rate campaign comes from, and how many repetitions and images it is best spent on.

Each repetition draws a new set of faults; each is judged on some images. What fault sets differ by is paid for with
repetitions alone; what images differ by, with repetitions times images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import special

from bitward.errors import ConfigError, nearest
from bitward.statistics.interval import Floats, alpha_of

Design = Literal["fresh", "shared"]
"""Images of a repetition: drawn anew for each ("fresh"), or one set for all ("shared")."""
MOST_REPETITIONS = 1 << 40


@dataclass(frozen=True)
class Components:
    """Variances of one repetition's value on one image: between fault sets, between images, and of both together."""

    faults: float
    images: float
    residual: float


@dataclass(frozen=True)
class Split:
    """A plan: `repetitions` of `images` each. `half_width` is expected; `cost` in the units of what was asked for."""

    repetitions: int
    images: int
    half_width: float
    cost: float

    @property
    def evaluations(self) -> int:
        """Image evaluations in all."""
        return self.repetitions * self.images


def variance_components(values: npt.ArrayLike) -> Components:
    """The variance components of a pilot, shape (fault sets, images), at least two of each; one below 0 becomes 0.

    Two-way random effects without repetition, by the mean squares of the analysis of variance (S. R. Searle,
    G. Casella, C. E. McCulloch, "Variance Components", 1992, chapter 4). A value is what one image lost under one
    fault set: 1 for right before and wrong after, -1 for the reverse, else 0.
    """
    table = np.asarray(values, np.float64)
    if table.ndim != 2 or min(table.shape) < 2 or not np.isfinite(table).all():
        raise ConfigError(
            f"values must be finite, of shape (fault sets, images) and two of each or more, got {table.shape}; run a "
            "larger pilot"
        )
    sets, images = table.shape
    by_set, by_image, mean = table.mean(axis=1), table.mean(axis=0), table.mean()
    between_sets = images * np.sum((by_set - mean) ** 2) / (sets - 1)
    between_images = sets * np.sum((by_image - mean) ** 2) / (images - 1)
    rest = np.sum((table - by_set[:, None] - by_image + mean) ** 2) / ((sets - 1) * (images - 1))
    return Components(
        faults=float(max(0.0, (between_sets - rest) / images)),
        images=float(max(0.0, (between_images - rest) / sets)),
        residual=float(rest),
    )


def standard_error(found: Components, repetitions: npt.ArrayLike, images: npt.ArrayLike, design: Design) -> Floats:
    """The standard deviation of the mean over `repetitions` of `images` each (arrays broadcast)."""
    sets, per_set = np.asarray(repetitions, np.float64), np.asarray(images, np.float64)
    variance = (found.faults + (found.residual + found.images) / per_set) / sets
    if design == "shared":
        variance = (found.faults + found.residual / per_set) / sets + found.images / per_set
    return np.asarray(np.sqrt(variance))


@dataclass(frozen=True)
class Costs:
    """What is paid for a repetition (drawing and undoing a fault set) and for an image's evaluation, in one unit."""

    repetition: float = 0.0
    image: float = 1.0

    def __post_init__(self) -> None:
        if not self.repetition >= 0 or not self.image > 0:
            raise ConfigError(
                f"costs must be 0 or more a repetition and above 0 an image, got {self.repetition} and {self.image}; "
                "measure both in one unit"
            )


def best_split(
    found: Components,
    half_width: float,
    images: int,
    confidence: float = 0.95,
    costs: Costs | None = None,
    design: Design = "fresh",
) -> Split:
    """The repetitions, and images of each (1 to `images`), that reach the half-width at least cost.

    ConfigError where no number of repetitions does, as shared images are a sample too. Without `costs`, image
    evaluations are what is counted.
    """
    plans = [split_for(found, half_width, each, confidence, costs, design) for each in _candidates(images)]
    reached = [plan for plan in plans if plan is not None]
    if not reached:
        raise ConfigError(
            f"half_width must be one that {images} shared images can reach, got {half_width}; take the design 'fresh' "
            "or more images"
        )
    return min(reached, key=lambda plan: plan.cost)


def split_for(
    found: Components,
    half_width: float,
    images: int,
    confidence: float = 0.95,
    costs: Costs | None = None,
    design: Design = "fresh",
) -> Split | None:
    """The fewest repetitions, two at least, that reach the half-width with so many images each; None where none do.

    Student's quantile for repetitions - 1 degrees of freedom is used, so that few are not taken for many.
    """
    alpha_of(confidence)
    if design not in get_args(Design):
        raise ConfigError(f"design must be a known one, got {design!r}; {nearest(design, get_args(Design))}")
    if not half_width > 0 or images < 1:
        raise ConfigError(
            f"half_width and images must be above 0, got {half_width} and {images}; 0.005 is half a point"
        )

    def width(repetitions: int) -> float:
        quantile = special.stdtrit(repetitions - 1, (1 + confidence) / 2)
        return float(quantile * standard_error(found, repetitions, images, design))

    least, most = 2, 2
    while width(most) > half_width:
        least, most = most + 1, most * 2
        if most > MOST_REPETITIONS:
            return None
    while least < most:
        middle = (least + most) // 2
        least, most = (least, middle) if width(middle) <= half_width else (middle + 1, most)
    paid = costs or Costs()
    return Split(most, images, width(most), most * (paid.repetition + images * paid.image))


def _candidates(images: int) -> list[int]:
    """1 to `images`: all up to 50, then in steps of 2 %, and the last."""
    found = [1]
    while found[-1] < images:
        found.append(min(images, max(found[-1] + 1, int(found[-1] * 1.02))))
    return found

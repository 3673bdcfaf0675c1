# SPDX-License-Identifier: Apache-2.0
"""How weights are scaled before they are stored, as a design says it (see `bitward.rewrites.WeightScaling`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from bitward.errors import ConfigError
from bitward.formats import Format

if TYPE_CHECKING:
    from torch import nn

    from bitward.explore.subject import Subject
    from bitward.rewrites import WeightScaling

By = Literal["none", "layer", "channel", "power_of_two", "channel_power_of_two"]
Divide = Literal["weights", "logits"]
SAID = {
    "none": "",
    "layer": "scaled by layer",
    "channel": "scaled by channel",
    "power_of_two": "scaled by layer to a power of two",
    "channel_power_of_two": "scaled by channel to a power of two",
}


@dataclass(frozen=True)
class Scale:
    """Weights are stored times c = t / max|W| `by` layer or output channel (or the power of two below c), or as is.

    `t` None is the format's own (`largest_scaled`). What is read is divided again: each weight as it is read, or the
    logits once, which takes a network that lets factors through and one factor a layer.
    """

    by: By = "none"
    t: float | None = None
    divide: Divide = "weights"

    def __post_init__(self) -> None:
        if self.by == "none":
            if self.t is not None or self.divide != "weights":
                what = "t" if self.t is not None else "divide"
                raise ConfigError(f"scale.by must be layer or channel where {what} is given, got none: name one")
            return
        _ = self.scaling  # refuses a t
        if self.divide == "logits" and self.by.startswith("channel"):
            raise ConfigError(
                f"scale.by must be layer or power_of_two where logits are divided, got {self.by}: divide weights"
            )

    @property
    def scaling(self) -> WeightScaling:
        """The rewrite."""
        from bitward.rewrites.weight_scaling import WeightScaling

        return WeightScaling(self.t, self.by.startswith("channel"), self.by.endswith("power_of_two"))

    def __str__(self) -> str:
        """What it adds to a design's name."""
        t = "" if self.t is None else f", t = {self.t:g}"
        at_logits = " and divided at the logits" if self.divide == "logits" else ""
        return f"{SAID[self.by]}{at_logits}{t}"


@dataclass(frozen=True, eq=False)
class LogitsDivided:
    """Makes the network that `make` makes with its weights scaled for a format, and its logits divided."""

    make: Callable[[], nn.Module]
    scale: Scale
    form: Format

    def __call__(self) -> nn.Module:
        """ModelError names the layer that lets no factor through."""
        from bitward.rewrites.torch_networks import divide_logits

        return divide_logits(self.make(), self.scale.scaling, self.form).network


def scaled_subject(subject: Subject, scale: Scale, form: Format | None) -> Subject:
    """The subject whose network computes with scaled weights where logits are divided; else the subject itself."""
    if scale.divide == "weights" or form is None:
        return subject
    return replace(subject, make=LogitsDivided(subject.make, scale, form))

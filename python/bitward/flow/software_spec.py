# SPDX-License-Identifier: Apache-2.0
"""The YAML of a software-only flow: a classic float network, quantized after training, attacked in software."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator

from bitward.errors import ConfigError
from bitward.explore.design import Design, FormatName, Per, Point, SchemeName, default_bits
from bitward.explore.evaluate import Rate, Rules, Spread
from bitward.explore.scale import By, Divide, Scale
from bitward.flow.explore_spec import Explore
from bitward.flow.reading import Section, read_yaml, validated
from bitward.flow.spec import folder_name
from bitward.formats import Beyond


class Seeds(Section):
    """How the network is trained; every seed is evaluated by itself. With `weights` there is one, and no training."""

    seeds: tuple[int, ...] = Field((0,), min_length=1)


class Scaling(Section):
    """What weights are multiplied by before they are stored, in formats that are no integers; read, they are divided.

    `by` layer is t / max|W|, the weight-scaling paper's; `t` is the format's own where none is given.
    """

    by: By = "layer"
    t: float | None = None
    divide: Divide = Field("weights", description="each weight as it is read, or the network's logits, once")


class Quantize(Section):
    """How weights (and `biases`) are stored, without retraining: `affine` is FORTUNE's equations 1 to 5.

    `per` tensor is what these say, `per` channel what the paper's released code does. Formats that are no integers take
    `scale` instead, and `beyond` says what becomes of weights that are 2 or more as they are stored (of fixed-point
    ones, that are out of range).
    """

    format: FormatName = "affine"
    bits: int | None = Field(None, description="of a weight; without it the format's own, or 8")
    per: Per = "tensor"
    biases: bool = False
    layers: dict[str, int] = Field(default_factory=dict, description="bits of these layers, where they have others")
    scale: Scaling | None = None
    beyond: Beyond = "keep"

    def design(self, point: Point) -> Design:
        """How parameters are stored whose words are such."""
        layers = tuple((layer, point.with_bits(width)) for layer, width in sorted(self.layers.items()))
        scale = Scale() if self.scale is None else Scale(self.scale.by, self.scale.t, self.scale.divide)
        return Design(point, self.format, self.per, self.biases, layers, scale, self.beyond)


class Protect(Section):
    """How the integers are stored: `voted` top bits three times with the scheme tmr."""

    scheme: SchemeName = "plain"
    voted: int = 0


class Rates(Section):
    """Which bit error rates are tried: each of `bers` in each `spread`, on `trials` fault sets x `images` images.

    With `safe_exponents` no fault hits the most significant bit of a floating-point word's exponent.
    """

    bers: tuple[float, ...] = Field((1e-5, 3e-5, 1e-4, 3e-4), min_length=1)
    spread: tuple[Spread, ...] = Field(("bits", "layers"), min_length=1)
    trials: int = Field(100, ge=2)
    images: int = Field(256, ge=1)
    seed: int = Field(1, ge=0)
    safe_exponents: bool = False

    @field_validator("bers")
    @classmethod
    def _are_rates(cls, bers: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < ber <= 1 for ber in bers):
            raise ValueError("must be above 0 and at most 1 each; they are flips per stored bit")
        return bers


class FloatFlow(Section):
    """What flows of classic float networks have in common; none of these becomes hardware."""

    name: str = Field("", max_length=100)
    network: str
    width: float = Field(1.0, gt=0)
    weights: Path | None = None
    dataset: str
    device: Literal["auto", "cpu", "cuda"] = "auto"
    train: Seeds = Seeds()
    train_cache: Path = Field(Path(".trained"), description="below the folder of runs")

    _is_a_folder_name = field_validator("name")(folder_name)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that are evaluated."""
        return self.train.seeds if self.weights is None else (0,)

    def beside(self, folder: Path) -> Self:
        """The flow, its `weights` found from the folder of its file."""
        return self if self.weights is None else self.model_copy(update={"weights": folder / self.weights})


class SoftwareFlow(FloatFlow):
    """One experiment on a classic float network. `name` is its folder under runs/ (default: the file's stem).

    `train_cache` is where trained seeds are kept: flows of one network share it, and train once.
    """

    quantize: Quantize = Quantize()
    harden: Protect = Protect()
    inject: Rates = Rates()
    explore: Explore | None = None

    @property
    def design(self) -> Design:
        """How parameters are stored."""
        bits = default_bits(self.quantize.format) if self.quantize.bits is None else self.quantize.bits
        return self.quantize.design(Point(bits, self.harden.scheme, self.harden.voted))

    @property
    def rates(self) -> tuple[Rate, ...]:
        """Every rate in every spread."""
        is_safe = self.inject.safe_exponents
        return tuple(Rate(ber, spread, is_safe) for spread in self.inject.spread for ber in self.inject.bers)

    def rules(self, device: str) -> Rules:
        """How vulnerabilities are measured."""
        return Rules(self.inject.trials, self.inject.images, self.inject.seed, device=device)


def load_software_flow(path: Path) -> SoftwareFlow:
    """The flow in a YAML file, `weights` found from its own folder; ConfigError as `load_flow` raises it."""
    flow = validated(SoftwareFlow, read_yaml(path), path)
    try:
        _ = flow.design
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return flow.beside(path.parent)

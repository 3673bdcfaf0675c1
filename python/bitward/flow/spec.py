# SPDX-License-Identifier: Apache-2.0
"""The YAML of a flow: one experiment, from network to report. Every key has a default but `network`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator

from bitward.errors import ConfigError
from bitward.flow.explore_spec import Explore
from bitward.flow.reading import Section, read_yaml, validated
from bitward.tools import resource

Side = Literal["plain", "hardened"]
SIDES: tuple[Side, ...] = get_args(Side)
Model = Literal["single", "uniform", "layers", "exact", "ber", "burst", "replay"]
Metric = Literal["top1_changed", "outputs_changed", "top1_change_rate"]
Sequence = Literal["beta-binomial", "betting", "empirical-bernstein"]


BELONGS: dict[str, tuple[Model, ...]] = {
    "flips": ("layers", "exact"),
    "ber": ("ber",),
    "burst": ("burst",),
    "faults_from": ("replay",),
    "memories": ("single", "uniform", "layers", "exact", "ber", "burst"),
    "bits": ("single", "uniform", "layers", "exact", "ber"),
    "stuck": ("single", "uniform", "layers", "exact", "ber", "burst"),
    "margin": ("uniform", "layers", "exact", "ber", "burst"),
}
"""The fault models that a key of `inject` belongs to. A margin asks for trials that are a random sample."""


def _kind(board: str) -> str:
    """The kind of board, where it is known by FINN's word or its part; unknown ones are refused where they are used."""
    from bitward.hardware.boards import board_kind

    try:
        return board_kind(board)
    except ConfigError:
        return board


class Train(Section):
    """How the network is trained. The first seed is the one exported; none is chosen on the test set."""

    seeds: tuple[int, ...] = Field((0, 1, 2, 3, 4), min_length=1)


class Harden(Section):
    """How weights are stored: the top `voted` bits three times; in the `layers` named, or in all.

    `bias` tmr stores the biases of all layers three times: in hardware inside thresholds, or added as `bias_as` says.
    """

    voted: int = Field(1, ge=1, le=8)
    layers: tuple[str, ...] | None = None
    bias: Literal["none", "tmr"] = "none"
    bias_as: Literal["threshold", "add"] = "threshold"


class Build(Section):
    """What hardware is built. `folding` sets PE and SIMD (and other FINN attributes) of layers by name: as here, or as
    FINN's folding configuration file has them; or it is the path of such a file, from the flow's folder.
    """

    target_fps: float = Field(100_000.0, gt=0)
    clk_mhz: float = Field(200.0, gt=0)
    board: str = "virtual"
    ram_style: Literal["block", "distributed", "auto"] = "block"
    folding: dict[str, dict[str, Any]] = Field(default_factory=dict)

    _is_a_kind = field_validator("board")(_kind)


class Verify(Section):
    """RTL against QONNX: on how many test images (None: all), and how often each stream idles in a second run."""

    images: int | None = Field(None, ge=1)
    stall: float = Field(0.3, ge=0, lt=1)


class _Boards(Section):
    """What boards are, and what a server with TLS demands; files go from the flow's folder."""

    board: str = Field("virtual", description="kind of board; a real one loads what make bitstream left for it")
    tls_ca: Path | None = Field(None, description="certificate (PEM) of a server with TLS, or of its authority")
    token_file: Path | None = Field(None, description="holds the token that such a server demands")

    _is_a_kind = field_validator("board")(_kind)


class Measure(_Boards):
    """A build's frames per second, latency and power, where a flow asks for it: `measure: {}` suffices.

    On a simulated `board` both builds are measured, on a real one the build that `make bitstream` left for it.
    """

    host: str | None = Field(None, description="HOST[:PORT] of its server; none: a virtual board is started")
    images: int = Field(100, ge=1, description="images per batch")
    batches: int = Field(20, ge=1, description="batches that are timed")
    passes: int = Field(3, ge=1, description="passes before, which must all give what the engine predicts")
    transfers: int = Field(200, ge=0, description="single-image transfers for the latency")


class CitedRate(Section):
    """Upsets of a device's memories. There is no default, and none without a source."""

    fit_per_mb: float = Field(gt=0, description="upsets per 1e6 bits in 1e9 hours")
    source: str = Field(min_length=8, description="document, version and table that the figure stands in")


class Safety(CitedRate):
    """What the report needs for rates in FIT; it assumes none of it."""

    flux_factor: float = Field(1.0, gt=0, description="particle flux where the device is, to that of the source")
    scrub_period_s: float | None = Field(None, gt=0, description="seconds between two scrub passes")


class Inject(_Boards):
    """Which faults are injected; the same seed draws the same faults on every target.

    `msb`, `per_stratum` and `agree_faults` are what every run does, with single bits. `bers` asks for the accuracy
    under bit error rates (`bitward.flow.rates`). `model` and what follows it are one campaign more, on the engine, into
    the plain and the hardened build, when any of them is given; and what `bitward inject` does: see `bitward.faults`
    for the models, `bitward.campaign` for the rules.
    """

    seed: int = Field(1, ge=0)
    images: int = Field(16, ge=1, description="test images per fault, on the RTL and the board")
    msb: bool = Field(True, description="every voted bit and copy of every weight memory, on the RTL")
    per_stratum: int = Field(64, ge=1, description="faults per memory and bit, on the engine")
    strata_images: int = Field(64, ge=1, description="test images per fault, on the engine")
    agree_faults: int = Field(200, ge=1, description="faults injected alike into engine, RTL and board")
    bers: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = Field(
        None, min_length=1, description="flips per stored bit: accuracy under each of these rates, both builds"
    )
    ber_trials: int = Field(100, ge=2, description="fault sets per rate of bers, on the engine")
    ber_images: int = Field(256, ge=1, description="test images per fault set of bers")
    model: Model = Field("single", description="how faults are drawn")
    memories: tuple[str, ...] | None = Field(None, min_length=1, description="into these memories only")
    bits: tuple[int, ...] | None = Field(None, min_length=1, description="into these bits of stored words only")
    flips: int | None = Field(None, ge=1, description="bits per trial, of the models exact and layers")
    ber: float | None = Field(None, gt=0, le=1, description="flips per stored bit, of the model ber")
    burst: int | None = Field(None, ge=1, description="adjacent bits, of the model burst")
    stuck: Literal[0, 1] | None = Field(None, description="bits stick at this value instead of being inverted")
    faults_from: Path | None = Field(None, description="of the model replay: a campaign's folder, or a text file")
    trials: int | None = Field(None, ge=1, description="trials at most")
    margin: float | None = Field(None, gt=0, lt=0.5, description="stop when the interval is so narrow to each side")
    confidence: float = Field(0.95, gt=0, lt=1, description="of that interval")
    metric: Metric = Field("top1_changed", description="what that interval is of")
    method: Sequence | None = Field(None, description="of that interval; beta-binomial for shares, betting for means")
    audit: float | None = Field(None, gt=0, le=1, description="leave out what cannot matter, but for this share")
    timeout_s: float | None = Field(None, gt=0, description="a trial that takes longer is given up")
    hosts: tuple[str, ...] | None = Field(None, min_length=1, description="HOST[:PORT] of boards that share the trials")

    @field_validator("bers")
    @classmethod
    def _rise(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        names = [f"{rate:g}" for rate in value or ()]
        if len(set(names)) < len(names) or list(value or ()) != sorted(value or ()):
            raise ValueError("must be rising rates that differ in six digits")
        return value

    @field_validator(*BELONGS)
    @classmethod
    def _belongs_to_the_model(cls, value: Any, info: ValidationInfo) -> Any:
        model, fitting = info.data.get("model"), BELONGS[str(info.field_name)]
        if value is not None and model is not None and model not in fitting:
            raise ValueError(f"must go with inject.model {_or(fitting)}, not {model}")
        return value

    @field_validator("method")
    @classmethod
    def _takes_the_metric(cls, value: Any, info: ValidationInfo) -> Any:
        if value == "beta-binomial" and info.data.get("metric") == "top1_change_rate":
            raise ValueError("must be betting or empirical-bernstein for the mean top1_change_rate")
        return value

    @property
    def asks_for_more(self) -> bool:
        """Whether a run has a campaign of its own by `model`, beside what every run does."""
        own = (*BELONGS, "trials", "audit", "timeout_s")
        return self.model != "single" or any(getattr(self, name) is not None for name in own)


def folder_name(name: str) -> str:
    """A name that can be a folder's, and is no path."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise ValueError("must begin with a letter or digit and have only letters, digits, '.', '_' and '-'")
    return name


class Flow(Section):
    """One experiment. `name` is its folder under runs/ (default: the file's stem).

    With `model`, a QONNX file (a path from the flow's own folder), nothing is trained: the flow begins from that file,
    and `network` need not be one of bitward's where `dataset` says which images it is for.
    """

    name: str = Field("", max_length=100)
    network: str
    model: Path | None = None
    dataset: str | None = None
    train: Train = Train()
    harden: Harden = Harden()
    build: Build = Build()
    verify: Verify = Verify()
    inject: Inject = Inject()
    measure: Measure | None = None
    safety: Safety | None = None
    explore: Explore | None = None

    _is_a_folder_name = field_validator("name")(folder_name)


def _or(names: tuple[str, ...]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def load_flow(path: Path) -> Flow:
    """The flow in a YAML file. Raises ConfigError: no file, no YAML, an unknown key (with the nearest), bad values."""
    data = read_yaml(path)
    build = data.get("build")
    if isinstance(build, dict) and isinstance(build.get("folding"), str):
        from bitward.hardware.finn_config import read_config

        data["build"] = {**build, "folding": read_config(path.parent / build["folding"], "build.folding")}
    return _beside(validated(Flow, data, path), path.parent)


def from_shipped(flow: Flow) -> Flow:
    """The flow from its network's model that comes with bitward on: nothing is trained, its folder is NAME-shipped.

    Raises ConfigError where the network has none.
    """
    models = {path.stem: path for path in resource("onnx_models").glob("*.onnx")}
    if flow.model is not None or flow.network not in models:
        what = flow.network if flow.model is None else f"a flow that has a model, {flow.model.name}"
        raise ConfigError(
            f"--shipped must be given to a flow of {', '.join(sorted(models))}, got {what}: run it without --shipped"
        )
    return flow.model_copy(update={"model": models[flow.network], "name": f"{flow.name}-shipped"})


def _beside(flow: Flow, folder: Path) -> Flow:
    """Paths in a flow go from its own folder."""
    changes: dict[str, Any] = {"inject": _placed(flow.inject, folder, "faults_from", "tls_ca", "token_file")}
    if flow.model is not None:
        changes["model"] = folder / flow.model
    if flow.measure is not None:
        changes["measure"] = _placed(flow.measure, folder, "tls_ca", "token_file")
    if flow.explore is not None:
        models = {name: folder / path for name, path in flow.explore.models.items()}
        changes["explore"] = flow.explore.model_copy(update={"models": models})
    return flow.model_copy(update=changes)


def _placed(section: Section, folder: Path, *names: str) -> Section:
    """The section, its paths of these names from `folder`."""
    given = {name: getattr(section, name) for name in names}
    return section.model_copy(update={name: folder / path for name, path in given.items() if path is not None})

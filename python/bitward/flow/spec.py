# SPDX-License-Identifier: Apache-2.0
"""The YAML of a flow: one experiment, from network to report. Every key has a default but `network`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from bitward.errors import ConfigError, nearest
from bitward.flow.explore_spec import Explore

Side = Literal["plain", "hardened"]
SIDES: tuple[Side, ...] = get_args(Side)
Model = Literal["single", "uniform", "layers", "exact", "ber", "burst", "replay"]
Metric = Literal["top1_changed", "outputs_changed", "top1_change_rate"]
Sequence = Literal["beta-binomial", "betting", "empirical-bernstein"]
Kind = TypeVar("Kind", bound=BaseModel)


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


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Train(_Section):
    """How the network is trained. The first seed is the one exported; none is chosen on the test set."""

    seeds: tuple[int, ...] = Field((0, 1, 2, 3, 4), min_length=1)


class Harden(_Section):
    """How weights are stored: the top `voted` bits three times; in the `layers` named, or in all.

    `bias` tmr stores the biases of all layers three times: in hardware inside thresholds, or added as `bias_as` says.
    """

    voted: int = Field(1, ge=1, le=8)
    layers: tuple[str, ...] | None = None
    bias: Literal["none", "tmr"] = "none"
    bias_as: Literal["threshold", "add"] = "threshold"


class Build(_Section):
    """What hardware is built. `folding` sets PE and SIMD (and other FINN attributes) of layers by name."""

    target_fps: float = Field(100_000.0, gt=0)
    clk_mhz: float = Field(200.0, gt=0)
    board: str = "virtual"
    ram_style: Literal["block", "distributed", "auto"] = "block"
    folding: dict[str, dict[str, Any]] = Field(default_factory=dict)


class Verify(_Section):
    """RTL against QONNX: on how many test images (None: all), and how often each stream idles in a second run."""

    images: int | None = Field(None, ge=1)
    stall: float = Field(0.3, ge=0, lt=1)


class _Boards(_Section):
    """What boards are, and what a server with TLS demands; files go from the flow's folder."""

    board: str = Field("virtual", description="kind of board; a real one loads what make bitstream left for it")
    tls_ca: Path | None = Field(None, description="certificate (PEM) of a server with TLS, or of its authority")
    token_file: Path | None = Field(None, description="holds the token that such a server demands")


class Measure(_Boards):
    """A build's frames per second, latency and power, where a flow asks for it: `measure: {}` suffices.

    On a simulated `board` both builds are measured, on a real one the build that `make bitstream` left for it.
    """

    host: str | None = Field(None, description="HOST[:PORT] of its server; none: a virtual board is started")
    images: int = Field(100, ge=1, description="images per batch")
    batches: int = Field(20, ge=1, description="batches that are timed")
    passes: int = Field(3, ge=1, description="passes before, which must all give what the engine predicts")
    transfers: int = Field(200, ge=0, description="single-image transfers for the latency")


class CitedRate(_Section):
    """Upsets of a device's memories. There is no default, and none without a source."""

    fit_per_mb: float = Field(gt=0, description="upsets per 1e6 bits in 1e9 hours")
    source: str = Field(min_length=8, description="document, version and table that the figure stands in")


class Safety(CitedRate):
    """What the report needs for rates in FIT; it assumes none of it."""

    flux_factor: float = Field(1.0, gt=0, description="particle flux where the device is, to that of the source")
    scrub_period_s: float | None = Field(None, gt=0, description="seconds between two scrub passes")


class Inject(_Boards):
    """Which faults are injected; the same seed draws the same faults on every target.

    `msb`, `per_stratum` and `agree_faults` are what every run does, with single bits. `model` and what follows it are
    one campaign more, on the engine, into the plain and the hardened build, when any of them is given; and what
    `bitward inject` does: see `bitward.faults` for the models, `bitward.campaign` for the rules.
    """

    seed: int = Field(1, ge=0)
    images: int = Field(16, ge=1, description="test images per fault, on the RTL and the board")
    msb: bool = Field(True, description="every voted bit and copy of every weight memory, on the RTL")
    per_stratum: int = Field(64, ge=1, description="faults per memory and bit, on the engine")
    strata_images: int = Field(64, ge=1, description="test images per fault, on the engine")
    agree_faults: int = Field(200, ge=1, description="faults injected alike into engine, RTL and board")
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


class Flow(_Section):
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
    return _beside(validated(Flow, read_yaml(path), path), path.parent)


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys and values of a flow's YAML file, `name` among them; ConfigError where there are none."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        raise ConfigError(
            f"the flow {path} must be a readable YAML file, got {reason}: see flows/digits.yaml"
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}" if mark is not None else "somewhere"
        raise ConfigError(f"the flow {path} must be YAML, got a mistake at {place}: see flows/digits.yaml") from error
    if not isinstance(data, dict):
        raise ConfigError(
            f"the flow {path} must hold keys and values, got {type(data).__name__}: see flows/digits.yaml"
        )
    data.setdefault("name", path.stem)
    return data


def validated(model: type[Kind], data: dict[str, Any], path: Path) -> Kind:
    """The data as a flow of that kind; ConfigError says what is wrong with them."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_sentence(error, model)}") from error


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


def _placed(section: _Section, folder: Path, *names: str) -> _Section:
    """The section, its paths of these names from `folder`."""
    given = {name: getattr(section, name) for name in names}
    return section.model_copy(update={name: folder / path for name, path in given.items() if path is not None})


def _sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing wrong, where it is, and what was meant."""
    mistakes = error.errors()
    first = next((mistake for mistake in mistakes if mistake["type"] == "extra_forbidden"), mistakes[0])
    place = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        known = _fields(model, place[:-1])
        where = ".".join(place[:-1]) or "the flow"
        return f"{where} must have only the keys {', '.join(known)}, got {place[-1]!r}; {nearest(place[-1], known)}"
    if first["type"] == "missing":
        return f"{'.'.join(place)} must be given, got nothing; see flows/digits.yaml"
    rule = first["msg"].replace("Input should", "must").replace("Value error, ", "")
    return f"{'.'.join(place)} {rule}, got {first['input']!r}; see flows/digits.yaml"


def _fields(model: type[BaseModel], place: list[str]) -> list[str]:
    section: Any = model
    for part in place:
        field = section.model_fields.get(part)
        kinds = () if field is None else (field.annotation, *get_args(field.annotation))  # a section, or one or none
        section = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if section is None:
            return []
    return list(section.model_fields)

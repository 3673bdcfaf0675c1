# SPDX-License-Identifier: Apache-2.0
"""The YAML of a sensitivity flow: a float network that labels pixels, analysed under upsets of its parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from bitward.flow.reading import Section, read_yaml, validated
from bitward.flow.software_spec import FloatFlow
from bitward.flow.spec import CitedRate
from bitward.sensitivity.sample import Sampling
from bitward.sensitivity.several import FLIPS, REPETITIONS

CLIPPED_TO = {"bound": "bounds", "zero": "zero"}


class SeveralFlips(Section):
    """Many flips at once: how many, each so often, anywhere in the stored parameters, of the first `seeds` seeds."""

    flips: tuple[int, ...] = Field(FLIPS, min_length=1)
    repetitions: int = Field(REPETITIONS, ge=2)
    seeds: int = Field(1, ge=1)


class Analyse(Section):
    """Which faults are tried on how many test images: `margin` is Leveugle's, for each parameter set."""

    images: int = Field(10, ge=1)
    margin: float = Field(0.025, gt=0, lt=1)
    confidence: float = Field(0.95, gt=0, lt=1)
    seed: int = Field(1, ge=0)
    several: SeveralFlips | None = None

    @property
    def sampling(self) -> Sampling:
        """What decides which faults are tried."""
        return Sampling(self.margin, self.confidence, self.seed)


class Prune(Section):
    """Channels are pruned round by round: each takes its share of the operations, then trains on for `epochs`.

    Rounds lie in `folder`, below the folder of runs, and are found there; benchmarks/compression.py leaves the same.
    """

    shares: tuple[float, ...] = Field((0.3, 0.25, 0.2, 0.1), min_length=1)
    allowed: float = Field(0.015, gt=0, lt=1, description="loss of global or weighted IoU")
    epochs: int = Field(8, ge=1)
    scored: int = Field(60, ge=1, description="training images that rounds are judged on")
    folder: Path = Path("seg/compressed/rounds")


class SensitivityFlow(FloatFlow):
    """One experiment on a network that labels pixels. `name` is its folder under runs/ (default: the file's stem).

    `prune` takes channels away; `fold_batch_norm` puts batch norm into the layers before it. `clip_activations` keeps
    activations in their ranges on the first `calibration` training images: beyond is the bound (Ranger) or 0 (ClipAct).
    `quantize` to int8 folds too: weights of 8 bits, biases of 32, activations of 8, of ranges on those images.
    `train_cache` is where trained seeds are kept; with `weights`, a file of a trained network, there is one seed, 0,
    and no training.
    """

    prune: Prune | None = None
    fold_batch_norm: bool = False
    clip_activations: Literal["none", "bound", "zero"] = "none"
    quantize: Literal["none", "int8"] = "none"
    calibration: int = Field(64, ge=1)
    analyse: Analyse = Analyse()
    reliability: CitedRate | None = None

    @field_validator("quantize")
    @classmethod
    def _clips_by_itself(cls, value: str, info: ValidationInfo) -> str:
        if value == "int8" and info.data.get("clip_activations", "none") != "none":
            raise ValueError("must be none with clip_activations: 8 bits keep activations in range by themselves")
        return value

    @property
    def stored_as(self) -> str:
        """How parameters are stored, in words."""
        words = ["int8 weights and int32 biases" if self.quantize == "int8" else "float32"]
        words += ["batch norm folded"] if self.fold_batch_norm or self.quantize == "int8" else []
        if self.clip_activations != "none":
            words.append(f"activations clipped to {CLIPPED_TO[self.clip_activations]}")
        return ", ".join([*words, "pruned"] if self.prune is not None else words)


def load_sensitivity_flow(path: Path) -> SensitivityFlow:
    """The flow in a YAML file, `weights` found from its own folder; ConfigError as `load_flow` raises it."""
    return validated(SensitivityFlow, read_yaml(path), path).beside(path.parent)

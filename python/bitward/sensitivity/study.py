# SPDX-License-Identifier: Apache-2.0
"""What is analysed: a network as it is stored, and the images that its faults are judged on; campaigns on it."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch import nn

from bitward.campaign import Campaign, TrialStore, run_campaign
from bitward.campaign.plan import digest
from bitward.campaign.store import fingerprint
from bitward.engine.pytorch import Choose, TorchEngine, as_float32
from bitward.errors import ConfigError
from bitward.explore.evaluate import code_sha256
from bitward.explore.subject import state_sha256
from bitward.faults import Fault, FaultModel
from bitward.formats import Int
from bitward.manifest import Manifest
from bitward.metrics import global_iou, weighted_iou
from bitward.sensitivity import pixels
from bitward.sensitivity.pixels import Classes, PixelTarget, classes_of
from bitward.sensitivity.sets import ParameterSet, parameter_sets

AT_ONCE = 32  # images that go through the network together
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, eq=False)
class Study:
    """A network that labels pixels, in evaluation mode, its parameters stored as `choose` says; it is never changed.

    `images` are float32 (n, channels, height, width) as the network takes them; `labels` (n, height, width), of which
    `ignore` counts nothing, are for IoU alone: error rates are against the network without faults. Campaigns lie below
    `folder`, and are continued there. ConfigError: it gives no scores by pixel.
    """

    name: str
    network: nn.Module
    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    folder: Path
    choose: Choose = as_float32
    ignore: int | None = None
    device: str = "cpu"

    @property
    def make(self) -> partial[nn.Module]:
        """Gives the network anew, to whoever stores faults in it."""
        return partial(copy.deepcopy, self.network)

    @cached_property
    def engine(self) -> TorchEngine:
        """An engine with a network of its own, golden whenever nobody uses it."""
        return TorchEngine(self.make(), self.choose, self.name, self.device)

    @property
    def manifest(self) -> Manifest:
        """The memories."""
        return self.engine.manifest

    @cached_property
    def sets(self) -> tuple[ParameterSet, ...]:
        """The parameter sets."""
        return parameter_sets(self.network, self.manifest)

    @cached_property
    def scores(self) -> npt.NDArray[np.float32]:
        """What the stored network gives without faults, (n, classes, height, width)."""
        scores = self.engine.infer(self.images)
        if scores.ndim != 4 or len(scores) != len(self.images):
            raise ConfigError(
                f"network {self.name} must give scores (n, classes, height, width), got {scores.shape}: analyse one "
                "that labels pixels"
            )
        return scores

    @cached_property
    def golden(self) -> Classes:
        """The class of every pixel without faults, (n, height, width)."""
        return classes_of(self.scores)

    def values(self, memory: str) -> npt.NDArray[np.float32]:
        """The parameters of a memory as they are read, in C order."""
        held: npt.NDArray[np.float32] = self.engine.stored(memory).tensor.detach().cpu().numpy().reshape(-1)
        return held.copy()

    def integers(self, memory: str) -> list[int]:
        """What a memory of whole numbers holds, in C order; ConfigError where it holds others."""
        found, stored = self.manifest.memory(memory), self.engine.stored(memory)
        if not isinstance(found.format, Int):
            raise ConfigError(f"memory {memory} must hold whole numbers, got {found.format}: quantize the network")
        words = np.array([stored.golden(word) for word in range(found.depth)], dtype=np.uint64)
        values = found.format.decode(found.scheme.decode(words))
        return [round(float(value) / found.format.scale) for value in values]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What decides the outcome of a fault, as JSON values."""
        return {
            "code_sha256": _code(),
            "network_sha256": hashlib.sha256(repr(self.network).encode()).hexdigest(),
            "weights_sha256": state_sha256(self.network.state_dict()),
            "scores_sha256": digest(self.scores),
            "device": self.device,
        }

    def trials(
        self,
        name: str,
        faults: FaultModel | Sequence[Fault],
        count: int | None = None,
        progress: Progress | None = None,
    ) -> pa.Table:
        """The trials of a campaign, all of them, by number; rows count pixels. It is stored as NAME-FINGERPRINT.

        What is there is not run again, and a run that was killed goes on.
        """
        campaign = Campaign("torch", self.manifest, self.engine.images(), faults, self.images,
                            parameters=self.identity, trials=count)  # fmt: skip
        spec = campaign.spec()
        folder = self.folder / f"{name}-{fingerprint(spec)[:12]}"
        factory = partial(PixelTarget, self.make, self.choose, self.name, self.device)
        with TrialStore.open(folder, spec) as store:
            run_campaign(campaign, factory, store, progress=progress)
        return TrialStore.load(folder).read()


def error_rates(table: pa.Table) -> npt.NDArray[np.float64]:
    """By trial, the share of pixels whose class changed; 1 of one that failed."""
    changed = table["top1_changed"].to_numpy(zero_copy_only=False).astype(np.float64)
    done = np.array([status == "done" for status in table["status"].to_pylist()], bool)
    return np.where(done, changed / table["images"].to_numpy(), 1.0)


@cache
def _code() -> str:
    """sha256 of the sources that decide the outcome of a fault."""
    own = Path(pixels.__file__).read_bytes()
    return hashlib.sha256(code_sha256().encode() + own).hexdigest()


def iou(study: Study, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> dict[str, float]:
    """Global and weighted IoU of the stored network without faults on labelled images (bitward.metrics)."""
    maps = [classes_of(study.engine.infer(images[start : start + AT_ONCE])) for start in range(0, len(images), AT_ONCE)]
    return iou_of(np.concatenate(maps), labels, study.scores.shape[1], study.ignore)


def iou_of(maps: Classes, labels: npt.NDArray[np.int64], classes: int, ignore: int | None) -> dict[str, float]:
    """Global and weighted IoU of maps of classes; a pixel without a class counts as one of the last class plus one."""
    found = np.where(maps < 0, classes, maps)
    measures = {"global_iou": global_iou, "weighted_iou": weighted_iou}
    return {name: measure(found, labels, classes + 1, ignore) for name, measure in measures.items()}

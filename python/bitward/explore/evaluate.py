# SPDX-License-Identifier: Apache-2.0
"""What a design loses under a bit error rate: campaigns on the torch engine, resumable, software-only.

The unit is the fault set: each trial draws one, and its value is the accuracy lost over one fixed set of images.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

import bitward
from bitward.campaign import Campaign, TrialStore, run_campaign
from bitward.campaign.store import fingerprint
from bitward.errors import ConfigError
from bitward.explore.subject import Subject, accuracy
from bitward.faults import Ber, FaultModel, Layers, Population
from bitward.manifest import Manifest
from bitward.metrics import MemoryBits, memory_bits
from bitward.statistics import Interval, student
from bitward.targets.torch import TorchTarget
from bitward.tools import atomic_write, output_directory

if TYPE_CHECKING:
    from bitward.engine.pytorch import Choose

Spread = Literal["bits", "layers"]
Progress = Callable[[int, int, str], None]
ACCURACIES = "accuracies.json"
SOURCES = (
    "engine/pytorch", "faults", "explore/design.py", "explore/scale.py", "rewrites/weight_scaling.py",
    "rewrites/torch_networks/divide_logits.py", "formats.py", "schemes", "words.py", "memory.py", "layout.py",
    "indexmap.py", "targets/torch.py",
)  # fmt: skip


@dataclass(frozen=True)
class Rate:
    """A bit error rate and how its flips are spread.

    "bits": every stored bit flips with probability `ber`, independently (the count is binomial, bits are distinct).
    "layers": FORTUNE's released code: int(ber * stored bits) draws, each of a layer drawn uniformly, then of that
    layer's bits, with replacement (what is drawn twice is not flipped). Small layers are hit far above the rate.
    `safe_exponents`: the most significant bit of exponents is none of the bits (see `bitward.faults.Population`).
    """

    ber: float
    spread: Spread = "bits"
    safe_exponents: bool = False

    def model(self, manifest: Manifest, seed: int) -> FaultModel:
        """The fault model on a design's memories; ConfigError where the rate comes to no flip."""
        if self.spread == "bits":
            return Ber(manifest, seed, ber=self.ber, safe_exponents=self.safe_exponents)
        size = Population(manifest.memories, safe_exponents=self.safe_exponents).size
        flips = int(self.ber * size)
        if flips < 1:
            raise ConfigError(
                f"ber must come to at least one flip of {size:,} stored bits where it is spread over "
                f"layers, got {self.ber:g}: take a higher rate, or spread bits"
            )
        return Layers(manifest, seed, flips=flips, repeats=True, safe_exponents=self.safe_exponents)

    def __str__(self) -> str:
        return f"{self.ber:g} over {self.spread}{', exponents safe' if self.safe_exponents else ''}"


@dataclass(frozen=True)
class Rules:
    """How a vulnerability is measured: so many fault sets, each on the same so many images; where it is computed."""

    trials: int = 100
    images: int = 256
    seed: int = 1
    confidence: float = 0.95
    device: str = "cpu"


@dataclass(frozen=True)
class Vulnerability:
    """Accuracy lost under a rate, mean over fault sets: `drop`, with its interval, as a share (0.01 is one point).

    `golden` is the accuracy without faults on the same images; `flips` the (mean, least, most) of a trial. Trials that
    failed (`failed`) count as an accuracy of 0.
    """

    rate: Rate
    drop: Interval
    golden: float
    flips: tuple[float, int, int]
    trials: int
    images: int
    failed: int
    folder: str = field(default="", compare=False)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "flips": list(self.flips)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Vulnerability:
        """What `to_dict` made."""
        made = {"rate": Rate(**stored["rate"]), "drop": Interval(**stored["drop"]), "flips": tuple(stored["flips"])}
        return cls(**{**stored, **made})


@cache
def code_sha256() -> str:
    """sha256 over the sources that decide a trial's outcome; others may change while a search goes on."""
    package = Path(bitward.__file__).parent
    digest = hashlib.sha256()
    for source in SOURCES:
        path = package / source
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            digest.update(str(file.relative_to(package)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


class Bench:
    """A network stored in one way: its accuracy without faults, its memories, and its campaigns below `folder`."""

    def __init__(
        self, subject: Subject, choose: Choose, told: Mapping[str, Any], folder: Path, rules: Rules = Rules()
    ) -> None:
        """`told` says as JSON values what `choose` does: it tells designs apart, in stores and in what is kept."""
        self.subject, self.choose, self.told, self.folder, self.rules = subject, choose, told, folder, rules

    @cached_property
    def _target(self) -> TorchTarget:
        target = TorchTarget(*self.parts)
        target.open()
        return target

    @property
    def parts(self) -> tuple[Any, ...]:
        """What a `TorchTarget` is made of."""
        return self.subject.make, self.choose, self.subject.name, self.rules.device

    @property
    def manifest(self) -> Manifest:
        """The memories."""
        return self._target.manifest

    def images(self) -> dict[str, npt.NDArray[np.uint32]]:
        """The memories as they are without faults."""
        return self._target.engine.images()

    @cached_property
    def bits(self) -> MemoryBits:
        """Parameters, plain and stored bits of all memories."""
        return memory_bits(self.manifest)["total"]

    @cached_property
    def exponents_at_risk(self) -> int:
        """Floating-point words of 2 or more: their exponents' top bit is 1, and upsets of the others may be huge."""
        engine = self._target.engine
        floats = [each.name for each in self.manifest.memories if each.format.exponent_msb is not None]
        return sum(int((np.abs(engine.stored(name).said()) >= 2).sum()) for name in floats)

    @property
    def apart(self) -> int:
        """Weights that lie in lists of outliers."""
        return sum(each.parameters for each in self.manifest.memories if each.name.endswith(".outliers.values"))

    @cached_property
    def accuracy(self) -> float:
        """Of the whole test set, without faults: computed once, then kept in the folder."""
        path = output_directory(self.folder) / ACCURACIES
        known: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}
        key = fingerprint({**self.identity, "images": self.subject.images_sha256})
        if key not in known:
            network = self._target.engine.network
            known[key] = accuracy(network, self.subject.images, self.subject.labels)
            atomic_write(path, json.dumps(known, indent=1) + "\n")
        return known[key]

    @property
    def identity(self) -> dict[str, Any]:
        """What tells it from others, as JSON values."""
        return {
            "network": self.subject.name,
            "weights_sha256": self.subject.weights_sha256,
            "stored": dict(self.told),
            "device": self.rules.device,
            "code_sha256": code_sha256(),
        }

    def vulnerability(self, rate: Rate, name: str, progress: Progress | None = None) -> Vulnerability:
        """The accuracy lost under the rate; its trials lie below the folder as NAME-FINGERPRINT, and are continued."""
        images, labels = self.subject.some(self.rules.images)
        campaign = Campaign(
            "torch",
            self.manifest,
            self.images(),
            rate.model(self.manifest, self.rules.seed),
            images,
            labels,
            parameters=self.identity,
            trials=self.rules.trials,
        )
        spec = campaign.spec()
        folder = self.folder / f"{name}-{fingerprint(spec)[:12]}"
        with TrialStore.open(folder, spec) as store:
            run_campaign(campaign, partial(TorchTarget, *self.parts), store, progress=progress)
        return measured(folder, rate, self._golden, self.rules.confidence)

    @cached_property
    def _golden(self) -> float:
        """Accuracy without faults on the images that trials are judged on."""
        return accuracy(self._target.engine.network, *self.subject.some(self.rules.images))


def measured(folder: Path, rate: Rate, golden: float, confidence: float = 0.95) -> Vulnerability:
    """What the campaign in `folder` found of a rate."""
    table = TrialStore.load(folder).read()
    images = int(table["images"][0].as_py())
    right = np.array([0 if each is None else each for each in table["top1_correct"].to_pylist()])
    flips = np.array(table["flips"].to_pylist())
    return Vulnerability(
        rate=rate,
        drop=student(golden - right / images, confidence, step=1 / images),
        golden=golden,
        flips=(float(flips.mean()), int(flips.min()), int(flips.max())),
        trials=len(table),
        images=images,
        failed=sum(status != "done" for status in table["status"].to_pylist()),
        folder=folder.name,
    )

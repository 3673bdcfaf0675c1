# SPDX-License-Identifier: Apache-2.0
"""What a campaign is: faults, images, and the rules that were fixed before the first trial."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.campaign.code import code_sha256
from bitward.campaign.metrics import METRICS
from bitward.errors import ConfigError, nearest
from bitward.faults import Fault, FaultModel, Replay
from bitward.faults.draw import fraction, stream
from bitward.manifest import Manifest
from bitward.statistics import Stopping

MemoryImages = Mapping[str, npt.NDArray[np.uint32]]


def digest(array: npt.ArrayLike) -> str:
    """The sha256 of numbers and their shape: of integers whatever type they come in, of floats as float32.

    >>> digest(np.array([1, 2], np.int8)) == digest(np.array([1, 2], np.int64))
    True
    >>> digest(np.array([1.0, 2.0])) == digest(np.array([1, 2]))
    False
    """
    given = np.asarray(array)
    plain = np.ascontiguousarray(given, dtype="<f4" if given.dtype.kind == "f" else "<i8")
    return hashlib.sha256(repr(plain.shape).encode() + plain.tobytes()).hexdigest()


@dataclass(frozen=True)
class Screen:
    """Trials that the target's first-order bound names are left out, but for a random share that is run all the same.

    The share `audit` tells what the screen misses: `bitward.statistics` puts it into the estimate and its interval.
    Whether a trial is audited depends on `seed` and its number alone.
    """

    audit: float = 0.05
    seed: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.audit <= 1:
            raise ConfigError(
                f"a screen's audit must be above 0 and at most 1, got {self.audit}: 0.05 is one in twenty"
            )

    def is_audited(self, number: int) -> bool:
        """Whether the trial is run although it was screened."""
        return fraction(stream(self.seed, f"audit:{number}")) < self.audit


@dataclass(frozen=True)
class Campaign:
    """What is injected into what: trial i is `faults`' trial i, each judged on every one of `images`.

    `faults` is a fault model, or a list whose entries are faults or several faults at once. `golden` holds the memories
    as built, name -> (depth, segments). `images` are as streamed, (n, *io.input.shape), floats in software-only
    designs. `expected`, the outputs without faults from another target, is what this target must compute too.
    `parameters` are what the user chose (flow, seed ...): a store refuses to be continued with others, and names them.

    `trials` are how many at most; with `stopping`, fewer when its interval is narrow enough. With a `screen`, trials
    that cannot matter are left out. A trial that takes longer than `timeout_s` is given up.
    """

    target: str
    manifest: Manifest
    golden: MemoryImages
    faults: FaultModel | Sequence[Fault | Sequence[Fault]]
    images: npt.NDArray[Any]
    labels: npt.NDArray[Any] | None = None
    expected: npt.NDArray[Any] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    trials: int | None = None
    stopping: Stopping | None = None
    screen: Screen | None = None
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        self._check_images()
        for memory in self.manifest.memories:
            shape = self.golden[memory.name].shape if memory.name in self.golden else "none"
            if shape != (memory.depth, memory.segments):
                raise ConfigError(
                    f"the golden image of memory {memory.name} must be of shape {(memory.depth, memory.segments)}, got "
                    f"{shape}: build the design again"
                )
        self._check_rules()
        if isinstance(self.model, Replay):
            check_places(self.manifest, self.model)
        _ = self.planned

    def _check_images(self) -> None:
        if len(self.images) == 0:
            raise ConfigError("a campaign's images must be at least 1, got none: raise the number of images")
        if self.images.dtype.kind not in ("iu" if self.manifest.io else "iuf"):
            rule = "integers, as they are streamed," if self.manifest.io else "numbers,"
            raise ConfigError(
                f"a campaign's images must be {rule} got {self.images.dtype}: apply the manifest's io.pre first"
            )
        if self.labels is not None and len(self.labels) != len(self.images):
            raise ConfigError(
                f"a campaign's labels must be as many as its {len(self.images)} images, got {len(self.labels)}: give "
                "both from one data set"
            )

    def _check_rules(self) -> None:
        if self.trials is not None and self.trials < 0:
            raise ConfigError(f"a campaign's trials must be 0 or more, got {self.trials}: 1000 is a beginning")
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise ConfigError(
                f"a campaign's timeout_s must be above 0, got {self.timeout_s}: leave it out for no limit"
            )
        if self.stopping is None:
            return
        if self.stopping.metric not in METRICS:
            raise ConfigError(
                f"a stopping rule's metric must be one of {', '.join(METRICS)}, got {self.stopping.metric!r}; "
                f"{nearest(self.stopping.metric, METRICS)}"
            )
        if not self.model.is_sample:
            raise ConfigError(
                f"a stopping rule must go with trials that are a random sample, got the model {self.model.name}, whose "
                "first trials are not: take uniform, or leave the rule out"
            )

    @cached_property
    def model(self) -> FaultModel:
        """The faults, as a model."""
        return self.faults if isinstance(self.faults, FaultModel) else Replay(self.faults)

    @cached_property
    def planned(self) -> int:
        """How many trials there are at most."""
        rule = self.stopping.most if self.stopping else None
        limits = [limit for limit in (self.trials, rule, self.model.trials) if limit is not None]
        if not limits:
            raise ConfigError(
                f"a campaign's trials must be given for the model {self.model.name}, which has no end, got none: name "
                "a number of trials"
            )
        if self.model.trials is not None and self.trials is not None and self.trials > self.model.trials:
            raise ConfigError(
                f"a campaign's trials must be at most the {self.model.trials} that the model {self.model.name} has, "
                f"got {self.trials}: ask for fewer"
            )
        return min(limits)

    def spec(self) -> dict[str, Any]:
        """What identifies the campaign, for its store: the user's parameters and digests of everything else."""
        arrays = {"images": self.images, "labels": self.labels, "expected": self.expected}
        return {
            "code_sha256": code_sha256(),  # a caller who knows more of the code gives a digest of all that
            **self.parameters,
            "target": self.target,
            "design": self.manifest.design,
            "design_id": self.manifest.design_id,
            "manifest_sha256": hashlib.sha256(self.manifest.to_json().encode()).hexdigest(),
            "memories_sha256": {name: digest(image) for name, image in self.golden.items()},
            "model": self.model.to_dict(),
            "faults": self.planned,
            "stopping": None if self.stopping is None else self.stopping.to_dict(),
            "screen": None if self.screen is None else asdict(self.screen),
            "timeout_s": self.timeout_s,
            "image_count": len(self.images),
            **{f"{name}_sha256": None if array is None else digest(array) for name, array in arrays.items()},
        }


def check_places(manifest: Manifest, recorded: Replay) -> None:
    """Every fault of the list is a bit of the design; ManifestError names a place that is not there."""
    places: dict[str, list[tuple[int, int]]] = {}
    for faults in recorded.list:
        for fault in faults:
            places.setdefault(fault.memory, []).append((fault.word, fault.bit))
    for name, found in places.items():
        words, bits = np.array(found).T
        manifest.memory(name).locate(words, bits)

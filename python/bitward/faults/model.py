# SPDX-License-Identifier: Apache-2.0
"""What a fault model is: trials by number, each the same whoever asks for it and in whatever order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar

from numpy.random import PCG64

from bitward.errors import FormatError
from bitward.faults.draw import stream
from bitward.faults.fault import Fault, Kind
from bitward.faults.faults import Faults
from bitward.faults.population import Population
from bitward.manifest import Manifest

Trial = Sequence[Fault]
"""The faults of one trial: all are there at once. None at all is a trial too (a bit error rate may hit nothing).

A tuple, or `Faults` where they are many; equal where the faults are the same, in the same order.
"""


class FaultModel(ABC):
    """Trials by number, from 0 up. `is_sample`: the first n are a random sample of all: a campaign may stop there."""

    name: ClassVar[str]
    is_sample: ClassVar[bool] = True

    @property
    @abstractmethod
    def trials(self) -> int | None:
        """How many different trials there are, of which none comes twice; None: trials are drawn without end."""

    @abstractmethod
    def trial(self, number: int) -> Trial:
        """The faults of trial `number`; FormatError where there is no such trial."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """What makes the model, as JSON values; `bitward.faults.fault_model` makes it again."""

    def _check(self, number: int) -> None:
        if number < 0 or (self.trials is not None and number >= self.trials):
            rule = "0 or more" if self.trials is None else f"0 to {self.trials - 1}"
            raise FormatError(f"a trial of model {self.name} must be {rule}, got {number}; ask for fewer trials")


@dataclass(frozen=True)
class Sampler(FaultModel):
    """A model that draws with a seed from the live bits of the memories named, or of all.

    Trial i depends on the seed, i and the model's parameters alone: not on how many trials there are. With `stuck` 0 or
    1 its bits are stuck there instead of inverted; where a bit has that value anyway, nothing changes.
    """

    manifest: Manifest
    seed: int = 1
    memories: tuple[str, ...] | None = None
    stuck: int | None = None

    def __post_init__(self) -> None:
        stream(self.seed, "")  # refuses a negative seed before the first trial
        if self.stuck not in (None, 0, 1):
            raise FormatError(f"stuck must be 0 or 1, got {self.stuck}; leave it out for inverted bits")
        _ = self.population

    @cached_property
    def population(self) -> Population:
        """The bits that are drawn from."""
        bits, is_safe = getattr(self, "bits", None), getattr(self, "safe_exponents", False)
        return Population(self.manifest.select(self.memories), bits, is_safe)

    def to_dict(self) -> dict[str, Any]:
        """What makes the model, as JSON values; "safe_exponents" is there where it is so."""
        parameters = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "manifest"}
        if not parameters.get("safe_exponents", True):
            del parameters["safe_exponents"]
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in parameters.items()}
        return {"model": self.name, **plain}

    @property
    def trials(self) -> int | None:
        return None

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: the parameters, and none of what was computed from them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def trial(self, number: int) -> Trial:
        self._check(number)
        hit = self._hit(number)
        if self.stuck is None:
            return hit
        kind: Kind = "stuck1" if self.stuck else "stuck0"
        if isinstance(hit, Faults):
            return hit.of_kind(kind)
        return tuple(replace(fault, kind=kind) for fault in hit)

    @abstractmethod
    def _hit(self, number: int) -> Trial:
        """The bits of a trial, as inverted ones; the number was checked."""

    def _stream(self, number: int) -> PCG64:
        """The random stream of a trial."""
        return stream(self.seed, f"{self.name}:{number}")

# SPDX-License-Identifier: Apache-2.0
"""Who gives verdicts on single faults of a network's weights: a naive loop, bitward, and its peers where installed."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitward.engine.pytorch import TorchEngine
from bitward.engine.pytorch.verdicts import CRITICAL, HARMLESS, UNKNOWN
from bitward.faults import Fault
from bitward.statistics import Screening, screened_share

Verdicts = np.ndarray
AUDIT = 0.02  # of the trials that the screen leaves out, run exactly all the same


@dataclass(frozen=True)
class Case:
    """The engine that holds the model, the images, and the trials."""

    engine: TorchEngine
    images: np.ndarray
    trials: list[tuple[Fault, ...]]
    form: str
    golden: Verdicts

    @property
    def model(self) -> nn.Module:
        """The model with its weights as they are stored."""
        return self.engine.network

    def place(self, trial: tuple[Fault, ...]) -> tuple[str, int, float]:
        """(layer, flat index, faulty value) of the weight that a trial hits."""
        (fault,) = trial
        stored = self.engine.stored(fault.memory)
        _, values = stored.hit(np.array([fault.word]), np.array([fault.bit]), [fault.kind])
        return stored.memory.layer, fault.word, float(values[0])


class Contender:
    """Something that gives verdicts: the decision on every image, fault by fault."""

    name = ""

    def __init__(self, case: Case) -> None:
        self.case = case

    def verdicts(self, trials: Sequence[tuple[Fault, ...]]) -> Verdicts:
        """Decisions, shape (trials, images); -1 where it left a trial out."""
        raise NotImplementedError


class Naive(Contender):
    """Write in place, run everything, compare, restore."""

    name = "naive loop"

    @torch.no_grad()
    def verdicts(self, trials: Sequence[tuple[Fault, ...]]) -> Verdicts:
        images, found = torch.from_numpy(self.case.images), []
        for trial in trials:
            layer, index, value = self.case.place(trial)
            flat = self.case.model.get_submodule(layer).weight.view(-1)
            golden = flat[index].item()
            flat[index] = value
            found.append(self.case.model(images).argmax(1).numpy())
            flat[index] = golden
        return np.array(found)


class Exact(Contender):
    """bitward, every trial."""

    name = "bitward, exact"

    def verdicts(self, trials: Sequence[tuple[Fault, ...]]) -> Verdicts:
        return np.array([out.argmax(1) for out, _, _ in self.case.engine.outcomes(self.case.images, trials)])


class Screened(Contender):
    """bitward: faults that change no decision to first order are left out, but for a random share of them.

    A verdict is a single one here: 1 where a decision changes, on any image, 0 where none does, -1 where left out.
    """

    name = "bitward, screened with audit"

    def verdicts(self, trials: Sequence[tuple[Fault, ...]]) -> Verdicts:
        engine = self.case.engine
        found = engine.verdicts(self.case.images, trials)
        run = np.random.default_rng(len(trials)).random(len(trials)) < AUDIT
        run = (found == HARMLESS) & run | (found == UNKNOWN)
        result = np.where(found == CRITICAL, 1, -1)
        exact = engine.outcomes(self.case.images, [trials[place] for place in np.flatnonzero(run)])
        for place, (out, _, _) in zip(np.flatnonzero(run), exact, strict=True):
            result[place] = (out.argmax(1) != self.case.golden).any()
        self.screened += (found == HARMLESS).tolist()
        return result

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.screened: list[bool] = []

    def estimate(self, results: Verdicts) -> dict[str, float]:
        """The share of faults that change a decision, with its 95 % interval, from the last `results`."""
        screened = np.array(self.screened[-len(results) :])
        share = screened_share(np.maximum(results, 0), Screening(screened, screened & (results >= 0), AUDIT))
        return {"estimate": share.estimate, "low": share.low, "high": share.high, "run": int((results >= 0).sum())}


class PyTorchFi(Contender):
    """It copies the model for every fault."""

    name = "PyTorchFI 0.6.0"

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        from pytorchfi.core import fault_injection

        self._layers = [m for m in case.model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        with contextlib.redirect_stdout(io.StringIO()):
            self._core = fault_injection(
                case.model, len(case.images), input_shape=[3, 32, 32], layer_types=[nn.Conv2d, nn.Linear]
            )

    @torch.no_grad()
    def verdicts(self, trials: Sequence[tuple[Fault, ...]]) -> Verdicts:
        images, found = torch.from_numpy(self.case.images), []
        for trial in trials:
            layer, index, value = self.case.place(trial)
            module = self.case.model.get_submodule(layer)
            at = np.unravel_index(index, tuple(module.weight.shape))
            number = self._layers.index(module)
            model = self._declare(number, at, value) if len(at) == 4 else self._dense(layer, at, value)
            found.append(model(images).argmax(1).numpy())
        return np.array(found)

    def _declare(self, number: int, at: Any, value: float) -> nn.Module:
        k, *dims = ([int(each)] for each in at)
        return self._core.declare_weight_fi(
            layer_num=[number], k=k, dim1=dims[0], dim2=dims[1], dim3=dims[2], value=[value]
        )

    def _dense(self, layer: str, at: Any, value: float) -> nn.Module:
        """Its index has four numbers, which dense layers do not take: its copy, and the value written by hand."""
        model = self._core.declare_weight_fi(layer_num=[-1], k=[0], dim1=[0], dim2=[0], dim3=[0], value=[0.0])
        model.get_submodule(layer).weight[at] = value
        return model


class Mrfi(Contender):
    """Hooks on every layer; it keeps a copy of each layer's weights that was hit."""

    name = "MRFI 2.1.0"

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        import copy

        from mrfi import MRFI, EasyConfig

        fault = {
            "type": "weight", "name": ["weight"], "enabled": False, "module_type": ["Conv2d", "Linear"],
            "selector": {"method": "FixPosition", "position": 0}, "error_mode": {"method": "SetValue", "value": 0.0},
        }  # fmt: skip
        self._model = MRFI(copy.deepcopy(case.model), EasyConfig({"faultinject": [fault]}))

    def verdicts(self, trials: Sequence[tuple[Fault, ...]]) -> Verdicts:
        images, found = torch.from_numpy(self.case.images), []
        for trial in trials:
            layer, index, value = self.case.place(trial)
            module = self._model.model.get_submodule(layer)
            config = module.FI_config.weights[0]
            config.enabled = True
            config.selector.args.position, config.error_mode.args.value = index, value
            found.append(self._model(images).argmax(1).numpy())
            config.enabled = False
            with torch.no_grad():
                module.weight.copy_(config.weight_copy)
        return np.array(found)


class Seu(Contender):
    """Its own loop over indices of a tensor, for a bit of float32."""

    name = "seu-injection-framework 1.3.0"

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        if case.form != "fp32":
            raise ImportError("it flips bits of float32 alone")
        from seu_injection import ExhaustiveSEUInjector

        found: list[np.ndarray] = []
        self._found, self._indices = found, np.zeros((0, 4), int)
        outer = self

        class Chosen(ExhaustiveSEUInjector):  # type: ignore[misc, valid-type]
            def _get_injection_indices(self, tensor_shape: Any, **kwargs: Any) -> np.ndarray:
                return outer._indices

        def criterion(model: nn.Module, x: Tensor, y: Any, device: Any) -> float:
            found.append(model(x).argmax(1).numpy())
            return 0.0

        with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            self._injector = Chosen(case.model, criterion, device="cpu", x=torch.from_numpy(case.images))

    def verdicts(self, trials: Sequence[tuple[Fault, ...]]) -> Verdicts:
        found = []
        for (fault,) in trials:
            memory = self.case.engine.stored(fault.memory).memory
            self._indices = np.array([np.unravel_index(fault.word, memory.shape)])
            self._found.clear()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                self._injector.run_injector(31 - fault.bit, fault.memory)
            found.append(self._found[-1])
        return np.array(found)


PEERS: tuple[type[Contender], ...] = (PyTorchFi, Mrfi, Seu)

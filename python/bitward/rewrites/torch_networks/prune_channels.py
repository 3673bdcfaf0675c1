# SPDX-License-Identifier: Apache-2.0
"""Iterative channel pruning, as the segmentation papers prune: by each layer's sensitivity, and trained on in between.

(J. Gutierrez-Zaballa et al., "Designing DNNs for a trade-off between robustness and processing performance in embedded
devices", section II-B.) Which channels go together torch-pruning finds (G. Fang et al., "DepGraph: Towards Any
Structural Pruning", CVPR 2023).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bitward.engine.pytorch.cost import cost
from bitward.errors import ConfigError, ModelError
from bitward.rewrites.torch_networks._channels import Channels, cut_copy, with_state
from bitward.rewrites.torch_networks._graph import copied
from bitward.tools import atomic_write, output_directory

RATIOS = tuple(tenth / 10 for tenth in range(1, 10))
Scores = dict[str, float]
Score = Callable[[nn.Module], Scores]
Tune = Callable[[nn.Module], nn.Module]
Sensitivity = dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Round:
    """One round: `share` is what it was to take of the operations, `ratios` what it took of each layer's channels.

    `sensitivity` is how much the worst score fell where of one layer alone 0.1, 0.2 to 0.9 of the channels were gone.
    `cut` are the scores right after, `tuned` those after training on; `is_kept`: these were within what is allowed.
    """

    share: float
    sensitivity: Sensitivity
    ratios: dict[str, float]
    parameters: int
    operations: int
    cut: Scores
    tuned: Scores
    is_kept: bool


@dataclass(frozen=True)
class Pruned:
    """A network of fewer channels, and how it came to be; the parameters, operations and scores it began with."""

    network: nn.Module = field(repr=False, compare=False)
    rounds: tuple[Round, ...]
    parameters: int
    operations: int
    scores: Scores

    @property
    def kept(self) -> Round | None:
        """The last round that was kept, None where none was."""
        return next((each for each in reversed(self.rounds) if each.is_kept), None)


def prune_channels(
    network: nn.Module,
    image_shape: tuple[int, ...],
    score: Score,
    tune: Tune,
    *,
    shares: tuple[float, ...] = (0.5, 0.5),
    allowed: float = 0.015,
    folder: Path | None = None,
) -> Pruned:
    """Round by round the least sensitive channels are gone, while no score falls by more than `allowed` in all.

    A round takes its share of the operations that are left: it measures what each layer's channels matter, by tenths
    and all others untouched, and takes of every layer as many tenths as cost no more than one threshold, the least one
    with which the share is reached. Then `tune` trains the network on and gives it back. A round whose scores are then
    more than `allowed` below those of the network given is not kept: the next one, perhaps of a smaller share, begins
    where it began. `score` gives the scores, larger ones better. With a `folder`, which is of one `score` and `tune`,
    every finished round is a file, and not done again. The channels that the network gives stay. ModelError: nothing
    to prune. ConfigError: shares that are not between 0 and 1.
    """
    for share in shares:
        if not 0 < share < 1:
            raise ConfigError(f"shares must be above 0 and below 1 each, got {share!r}: 0.5 halves the operations")
    best = copied(network)
    Channels(copied(best), image_shape)  # is there something to prune?
    began, first = score(best), cost(best, image_shape)
    store = _Store(folder, best, image_shape, shares, allowed)
    rounds: list[Round] = []
    for number, share in enumerate(shares, start=1):
        found = store.find(number, best)
        if found is None:
            sensitivity = store.sensitivities(best, image_shape, score)
            found = _round(best, image_shape, share, sensitivity, score, tune, began, allowed)
            store.keep(number, *found)
        done, made = found
        rounds.append(done)
        if done.is_kept:
            best = made
    return Pruned(best, tuple(rounds), first.parameters, first.operations, began)


def _round(
    network: nn.Module, image_shape: tuple[int, ...], share: float, sensitivity: Sensitivity, score: Score, tune: Tune,
    began: Scores, allowed: float,
) -> tuple[Round, nn.Module]:  # fmt: skip
    """One round, and its network."""
    ratios = _ratios(network, image_shape, sensitivity, share)
    made = cut_copy(network, image_shape, ratios)
    cut = score(made)
    tuned_network = copied(tune(made))
    tuned = score(tuned_network)
    found = cost(tuned_network, image_shape)
    is_kept = all(tuned[name] >= began[name] - allowed for name in began)
    return Round(share, sensitivity, ratios, found.parameters, found.operations, cut, tuned, is_kept), tuned_network


def sensitivities(network: nn.Module, image_shape: tuple[int, ...], score: Score) -> Sensitivity:
    """By layer: how much the worst score falls where 0.1, 0.2 to 0.9 of its channels alone are gone.

    Tenths that take as many channels as the tenth before fall as much and are not measured again.
    """
    golden = score(network)
    found: Sensitivity = {}
    for layer, count in Channels(copied(network), image_shape).layers.items():
        falls: dict[int, float] = {0: 0.0}
        by_ratio = []
        for ratio in RATIOS:
            gone = min(count - 1, round(ratio * count))
            if gone not in falls:
                now = score(cut_copy(network, image_shape, {layer: ratio}))
                falls[gone] = max(golden[name] - now[name] for name in golden)
            by_ratio.append(falls[gone])
        found[layer] = tuple(by_ratio)
    return found


def allowed_ratios(sensitivity: Sensitivity, threshold: float) -> dict[str, float]:
    """By layer: the largest tenth up to which no tenth costs more than the threshold; layers without one are left out.

    >>> allowed_ratios({"a": (0.0, 0.1, 0.3), "b": (0.2, 0.0, 0.0)}, 0.1)
    {'a': 0.2}
    """
    found = {}
    for layer, falls in sensitivity.items():
        tenths = next((tenth for tenth, fall in enumerate(falls) if fall > threshold), len(falls))
        if tenths:
            found[layer] = RATIOS[tenths - 1]
    return found


def _ratios(
    network: nn.Module, image_shape: tuple[int, ...], sensitivity: Sensitivity, share: float
) -> dict[str, float]:  # fmt: skip
    """Those of the least threshold that takes the share of the operations; of the largest where none does."""
    before = cost(network, image_shape).operations
    thresholds = sorted({fall for falls in sensitivity.values() for fall in falls})
    least, most = 0, len(thresholds) - 1
    while least < most:
        middle = (least + most) // 2
        ratios = allowed_ratios(sensitivity, thresholds[middle])
        if cost(cut_copy(network, image_shape, ratios), image_shape).operations <= (1 - share) * before:
            most = middle
        else:
            least = middle + 1
    return allowed_ratios(sensitivity, thresholds[least])


def _key(network: nn.Module, *facts: Any) -> str:
    """Of the network's parameters and the facts."""
    whole = hashlib.sha256(json.dumps(facts).encode())
    for name, tensor in network.state_dict().items():
        whole.update(name.encode())
        whole.update(tensor.contiguous().numpy().tobytes())
    return whole.hexdigest()[:16]


class _Store:
    """Finished rounds, and sensitivities, in a folder, a file each, found again by what they began with."""

    def __init__(self, folder: Path | None, network: nn.Module, *facts: Any) -> None:
        self._folder, self._start = folder, _key(network, *facts)

    def _path(self, number: int) -> Path | None:
        return None if self._folder is None else self._folder / f"{self._start}-round{number}.pt"

    def sensitivities(self, network: nn.Module, image_shape: tuple[int, ...], score: Score) -> Sensitivity:
        """Measured now, or found: of one network they are measured once."""
        path = None if self._folder is None else self._folder / f"{_key(network, image_shape)}-sensitivities.json"
        if path is not None and path.is_file():
            return {layer: tuple(falls) for layer, falls in json.loads(path.read_text(encoding="utf-8")).items()}
        found = sensitivities(network, image_shape, score)
        if path is not None:
            output_directory(path.parent)
            atomic_write(path, json.dumps(found))
        return found

    def find(self, number: int, network: nn.Module) -> tuple[Round, nn.Module] | None:
        """The finished round, None where it is not there."""
        path = self._path(number)
        if path is None or not path.is_file():
            return None
        saved = torch.load(path, map_location="cpu", weights_only=True)
        facts: dict[str, Any] = saved["round"]
        return Round(**facts), with_state(network, saved["state"])

    def keep(self, number: int, done: Round, network: nn.Module) -> None:
        """The round is a file, whole or absent."""
        path = self._path(number)
        if path is not None:
            output_directory(path.parent)
            data = io.BytesIO()
            torch.save({"round": asdict(done), "state": network.state_dict()}, data)
            atomic_write(path, data.getvalue())


def load_pruned(network: nn.Module, path: Path) -> tuple[Round, nn.Module]:
    """A round that `prune_channels` left in its folder, and its network; `network` is any with the same layers.

    ModelError: no such file, or parameters of another network.
    """
    if not path.is_file():
        raise ModelError(f"a pruned network must be a file, got {path}, which is none: prune it first")
    saved: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return Round(**saved["round"]), with_state(network, saved["state"])

# SPDX-License-Identifier: Apache-2.0
"""The classic float networks of the papers, by name. One file each: `NAME.py` here defines `CLASSIC`, a `Classic`.

They are quantized after training, and attacked in software; parameters are named as in torchvision's models, so that
checkpoints of the usual CIFAR forms load. `width` scales the channels, for training on two cores.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bitward.errors import ModelError, nearest
from bitward.registry import Registry

if TYPE_CHECKING:
    from torch import nn

_REGISTRY = Registry(__name__, "network")
_OTHER_NAMES = (("module.", ""), ("shortcut.", "downsample."), ("linear.", "fc."))
_DOTTED = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")  # of DenseNet's first checkpoints: norm.1, conv.2


@dataclass(frozen=True)
class Classic:
    """`build(classes, channels, width)` gives an untrained network for images of `size` pixels a side.

    It takes floats, (n, channels, size, size), normalised as its training had them, and gives (n, classes) scores.
    Images of other sizes do as well, from `least` pixels a side, of multiples of `multiple`. `recipe` names how it is
    trained (bitward.train). Networks for images that are `labelled` by pixel give (n, classes, height, width) scores.
    """

    name: str
    title: str
    size: int
    build: Callable[[int, int, float], nn.Module]
    least: int = 8
    recipe: str = "classic"
    labelled: Literal["image", "pixel"] = "image"
    multiple: int = 1


def classic_names() -> tuple[str, ...]:
    """The names that `find_classic` knows."""
    return _REGISTRY.names()


def find_classic(name: str) -> Classic:
    """The network of that name; ConfigError names the nearest one when there is none."""
    found: Classic = _REGISTRY.module(name).CLASSIC
    return found


def scaled(channels: int, width: float) -> int:
    """So many channels times `width`, a multiple of 8 where that is more, and 8 at least.

    >>> [scaled(64, width) for width in (1, 0.5, 0.25, 0.1)]
    [64, 32, 16, 8]
    """
    return max(8, round(channels * width / 8) * 8)


def load_weights(network: nn.Module, path: str | Path, *, translate: bool = True) -> None:
    """The network has the weights in the file: a state_dict, or a dict that holds one as "state_dict" or "model".

    Names of the other usual CIFAR forms ("module.", "shortcut", "linear") are translated, or, without `translate`, only
    a "module." before all of them is left out. ModelError where the file
    cannot be read as such, or has other tensors than the network.
    """
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what its readers raise
        raise ModelError(f"{path} must be a checkpoint of torch, got {type(error).__name__}: {error}") from error
    for key in ("state_dict", "model", "net"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict):
        raise ModelError(f"{path} must hold a state_dict, got {type(found).__name__}: save network.state_dict()")
    if translate:
        given = {_translated(name): value for name, value in found.items()}
    else:
        whole = all(name.startswith("module.") for name in found)
        given = {name.removeprefix("module.") if whole else name: value for name, value in found.items()}
    wanted = network.state_dict()
    _check_names(path, given, wanted)
    network.load_state_dict(given, strict=False)  # counters of batches may be missing in old files


def _translated(name: str) -> str:
    for theirs, ours in _OTHER_NAMES:
        if name.startswith(theirs) or f".{theirs}" in name:
            name = name.replace(theirs, ours)
    return _DOTTED.sub(r"\1\2", name)


def _check_names(path: str | Path, given: dict[str, Any], wanted: dict[str, Any]) -> None:
    needed = {name for name in wanted if not name.endswith("num_batches_tracked")}
    missing, strange = sorted(needed - set(given)), sorted(set(given) - set(wanted))
    if missing or strange:
        raise ModelError(
            f"{path} must have the tensors of the network, got none called {missing[0]!r}: {nearest(missing[0], given)}"
            if missing
            else f"{path} must have the tensors of the network alone, got one called {strange[0]!r}: is it another one?"
        )
    for name in sorted(needed):
        if tuple(given[name].shape) != tuple(wanted[name].shape):
            raise ModelError(
                f"tensor {name} of {path} must have shape {tuple(wanted[name].shape)}, got {tuple(given[name].shape)}: "
                "is its width or its number of classes another one?"
            )


__all__ = ["Classic", "classic_names", "find_classic", "load_weights", "scaled"]

# SPDX-License-Identifier: Apache-2.0
"""Networks: quantized torch modules by name. One file each; a file `NAME.py` here defines `NETWORK`, a `Network`.

What a network must be, so that its weights survive the lowering to hardware word by word:
- it takes raw pixels, integers in a float tensor, and scales them by a power of two itself;
- weights are signed and use their whole range, -2^(b-1) included (hardware memories hold every word after an upset);
- names of modules are names of layers, from here to the report ("conv1", "fc").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bitward.registry import Registry

if TYPE_CHECKING:
    from torch import nn

_REGISTRY = Registry(__name__, "network")


@dataclass(frozen=True)
class Network:
    """A recipe for an untrained torch module: `build()` makes one, with weights from torch's current seed.

    `recipe` names how it is trained (bitward.train), `seeds` says with how many seeds unless told otherwise. A network
    that starts from a trained float one names that one's `family` and builds it with `build_float`: members of a family
    have one float network, so it is trained once for all of them. `gammas` are the signs that batch norms may have:
    "both", from the start, or "positive", kept so by training (nothing is left for sign folding to do).
    """

    name: str
    title: str
    dataset: str
    input_shape: tuple[int, ...]
    input_bits: int
    weight_bits: int
    activation_bits: int
    build: Callable[[], nn.Module]
    recipe: str = "digits"
    seeds: int = 5
    gammas: Literal["both", "positive"] = "both"
    family: str = ""
    build_float: Callable[[], nn.Module] | None = None
    notes: str = ""


def network_names() -> tuple[str, ...]:
    """The names that `find_network` knows."""
    return _REGISTRY.names()


def find_network(name: str) -> Network:
    """The network of that name; ConfigError names the nearest one when there is none."""
    network: Network = _REGISTRY.module(name).NETWORK
    return network

# SPDX-License-Identifier: Apache-2.0
"""What is evaluated: a network, the same each time it is made, and the labelled images that it is judged on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch
    from torch import nn

AT_ONCE = 500  # images that go through a network together
DRAWN_WITH = 0  # the seed that draws images from the test set: the same ones for every design and every flow


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained network: `make` (picklable) gives it anew; `weights_sha256` tells it from others.

    `images` are the whole test set as the network takes it, float32 (n, ...), `labels` their classes.
    """

    name: str
    make: Callable[[], nn.Module]
    weights_sha256: str
    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    def some(self, count: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """So many images, drawn once and for all, and their labels; all where there are no more."""
        chosen = self._order[:count]
        return self.images[chosen], self.labels[chosen]

    @cached_property
    def images_sha256(self) -> str:
        """Of the test set, images and labels: other pictures give other figures."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()

    @cached_property
    def _order(self) -> npt.NDArray[np.int64]:
        return np.random.default_rng(DRAWN_WITH).permutation(len(self.images))


@dataclass(frozen=True, eq=False)
class Trained:
    """Makes a network from a builder and the weights it was trained to; one thread, so that workers do not fight."""

    build: Callable[[], nn.Module]
    state: Mapping[str, torch.Tensor]

    def __call__(self) -> nn.Module:
        import torch

        torch.set_num_threads(1)
        network = self.build()
        network.load_state_dict(dict(self.state))
        return network.eval()


def state_sha256(state: Mapping[str, Any]) -> str:
    """The sha256 over the names, shapes and values of a state_dict."""
    digest = hashlib.sha256()
    for name in sorted(state):
        array = state[name].detach().cpu().numpy()
        digest.update(f"{name}{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def accuracy(network: nn.Module, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """The share of images whose largest output is the label's, 0 to 1; the network runs where its parameters are."""
    import torch

    device = next((each.device for each in network.parameters()), torch.device("cpu"))
    right = 0
    with torch.inference_mode():
        for first in range(0, len(images), AT_ONCE):
            part = torch.from_numpy(images[first : first + AT_ONCE]).to(device)
            found = network(part).argmax(dim=1).cpu().numpy()
            right += int((found == labels[first : first + AT_ONCE]).sum())
    return right / len(images)

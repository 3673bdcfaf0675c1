# SPDX-License-Identifier: Apache-2.0
"""Quantized networks of one family: points that are hardware as they are, evaluated from their exported QONNX."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bitward.datasets import Dataset
from bitward.errors import ConfigError
from bitward.explore.design import Point
from bitward.explore.subject import Subject
from bitward.networks import Network, find_network, network_names

if TYPE_CHECKING:
    from torch import nn

    from bitward.engine.pytorch import Choose


def members(name: str) -> dict[int, Network]:
    """The networks of the family that `name` belongs to, by the bits of their weights, ascending; at least itself.

    Of two with equal widths (of other activations, say) the one that `name` is stays, else the first by name.
    """
    asked = find_network(name)
    found = {asked.weight_bits: asked}
    for other in network_names() if asked.family else ():
        network = find_network(other)
        if network.family == asked.family and network.activation_bits == asked.activation_bits:
            found.setdefault(network.weight_bits, network)
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Member:
    """A network of a family as its QONNX file has it."""

    network: Network
    model: Path

    def parts(self, point: Point) -> tuple[nn.Module, Choose]:
        """The network that computes the graph, and how its integers are stored; ModelError where it is no such graph.

        ConfigError where its weights have other widths than the point's.
        """
        import onnx

        from bitward.engine.pytorch import network_of, store

        made, choose = network_of(onnx.load(self.model), point.of)
        manifest, _ = store(made, choose, self.network.name)
        widths = sorted({memory.format.bits for memory in manifest.memories if memory.role == "weight"})
        if widths != [point.bits]:
            raise ConfigError(
                f"{self.model} must have weights of {point.bits} bits, as {self.network.name} has, got {widths}: name "
                "the file of that network"
            )
        return made, choose

    def subject(self, point: Point, data: Dataset) -> tuple[Subject, Choose]:
        """The network at the point with the test images, raw pixels as it takes them; and how it is stored."""
        made, choose = self.parts(point)
        digest = hashlib.sha256(self.model.read_bytes()).hexdigest()
        make = partial(_again, self, point)
        del made
        return Subject(self.network.name, make, digest, data.test_images, data.test_labels), choose


def _again(member: Member, point: Point) -> nn.Module:
    """The network, made anew, on one thread."""
    import torch

    torch.set_num_threads(1)
    return member.parts(point)[0]

# SPDX-License-Identifier: Apache-2.0
"""Bits drawn layer first: every layer equally likely, then every live bit of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.random import PCG64

from bitward.errors import FormatError
from bitward.faults.draw import below
from bitward.faults.fault import Fault
from bitward.faults.faults import Faults, Indices
from bitward.faults.model import Sampler, Trial
from bitward.faults.population import FEW, Population


@dataclass(frozen=True)
class Layers(Sampler):
    """`flips` distinct bits a trial, each of a layer drawn uniformly, then of that layer's live bits.

    The draw of FORTUNE's released code. Theirs may draw a bit twice, as this does with `repeats`: a bit that is drawn
    an even number of times is not hit, and a trial has at most `flips` faults. Without, another bit is drawn. A small
    layer's bits are hit far more often than at the nominal rate: take `Uniform` or `Ber` for upsets per stored bit.
    """

    name: ClassVar[str] = "layers"

    flips: int = 1
    bits: tuple[int, ...] | None = None
    repeats: bool = False
    safe_exponents: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        least = min(layer.size for layer in self._layers)
        if self.repeats and self.flips < 1:
            raise FormatError(f"flips must be 1 or more, got {self.flips}: ask for one")
        if not self.repeats and not 1 <= self.flips <= least:
            raise FormatError(
                f"flips must be 1 to {least}, the live bits of the smallest layer, got {self.flips}: ask for fewer"
            )

    @cached_property
    def _layers(self) -> tuple[Population, ...]:
        """The bits of each layer, in the manifest's order; without those that `bits` leaves none of."""
        chosen = self.manifest.select(self.memories)
        by_layer = {layer: [m for m in chosen if m.layer == layer] for layer in dict.fromkeys(m.layer for m in chosen)}
        highest = {layer: max(m.scheme.stored_bits for m in memories) for layer, memories in by_layer.items()}
        bits = self.bits
        if bits is None:
            return tuple(Population(tuple(each), None, self.safe_exponents) for each in by_layer.values())
        kept = {layer: tuple(bit for bit in bits if bit < highest[layer]) for layer in by_layer}
        return tuple(
            Population(tuple(by_layer[layer]), some, self.safe_exponents) for layer, some in kept.items() if some
        )

    def _hit(self, number: int) -> Trial:
        source = self._stream(number)
        if self.repeats:
            return self._drawn(source)
        hit: dict[Fault, None] = {}
        while len(hit) < self.flips:
            layer = self._layers[int(below(source, len(self._layers), 1)[0])]
            rank = below(source, layer.size, 1)
            hit.update(dict.fromkeys(layer.faults(np.asarray(rank))))
        return tuple(hit)

    def _drawn(self, source: PCG64) -> Trial:
        """The bits that were drawn an odd number of times, layer by layer."""
        counts = np.bincount(below(source, len(self._layers), self.flips), minlength=len(self._layers))
        places: dict[str, tuple[Indices, Indices]] = {}
        for layer, count in zip(self._layers, counts.tolist(), strict=True):
            ranks, times = np.unique(below(source, layer.size, count), return_counts=True)
            places.update(layer.places(ranks[times % 2 == 1]))
        drawn = Faults(places)
        return drawn if len(drawn) > FEW else tuple(drawn)

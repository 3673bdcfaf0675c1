# SPDX-License-Identifier: Apache-2.0
"""The parameter sets of a network: a layer's parameters of one role, as the segmentation papers number them p1, p2 ...

(J. Gutierrez-Zaballa et al., "Evaluating Single Event Upsets in Deep Neural Networks for Semantic Segmentation",
section 4; they leave out batch norm's means and variances.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from bitward.formats import Float32
from bitward.manifest import Manifest, Memory

Kind = Literal[
    "conv kernel", "conv bias", "transposed conv kernel", "transposed conv bias", "dense kernel", "dense bias", "gamma",
    "beta", "mean", "variance", "threshold", "outlier",
]  # fmt: skip
FLOAT_BITS = tuple(range(20, 32))
"""The bits of single precision that the papers try: sign, exponent and the first three of the mantissa."""


@dataclass(frozen=True)
class ParameterSet:
    """One memory of a network: `number` as the papers count them, from 1, in the order of the layers."""

    number: int
    name: str
    layer: str
    kind: Kind
    parameters: int
    bits: tuple[int, ...]  # of a stored word that are tried

    @property
    def is_bias(self) -> bool:
        """Whether a positive value of it can push activations up by itself: biases and betas."""
        return self.kind in ("conv bias", "transposed conv bias", "dense bias", "beta")


def parameter_sets(network: nn.Module, manifest: Manifest) -> tuple[ParameterSet, ...]:
    """A set for each memory of the network, in the manifest's order.

    Of unprotected single precision FLOAT_BITS are tried, of everything else each stored bit.
    """
    modules = dict(network.named_modules())
    return tuple(
        ParameterSet(number, memory.name, memory.layer, _kind(memory, modules[memory.layer]), memory.parameters,
                     tried_bits(memory))
        for number, memory in enumerate(manifest.memories, start=1)
    )  # fmt: skip


def tried_bits(memory: Memory) -> tuple[int, ...]:
    """The stored bits of a memory's words that are tried."""
    is_plain_float = isinstance(memory.format, Float32) and memory.scheme.stored_bits == memory.format.bits
    return FLOAT_BITS if is_plain_float else tuple(range(memory.scheme.stored_bits))


def _kind(memory: Memory, module: nn.Module) -> Kind:
    is_transposed, is_dense = getattr(module, "transposed", False), isinstance(module, nn.Linear)
    if memory.role == "weight":
        return "transposed conv kernel" if is_transposed else "dense kernel" if is_dense else "conv kernel"
    if memory.role == "bias":
        return "transposed conv bias" if is_transposed else "dense bias" if is_dense else "conv bias"
    return memory.role  # gamma, beta, mean, variance, threshold, outlier: a role is a kind

# SPDX-License-Identifier: Apache-2.0
"""Cross-layer equalization: channels of neighbouring layers rescaled so that their weights have ranges alike.

Meant for quantization by tensor (M. Nagel et al., "Data-Free Quantization through Weight Equalization and Bias
Correction", ICCV 2019, section 4.1, equations 3 to 11), and a way to move parameters out of risky ranges.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from bitward.errors import ModelError
from bitward.rewrites.torch_networks._graph import (
    LAYERS,
    NORMS,
    Graph,
    Reader,
    by_input,
    by_output,
    copied,
    is_homogeneous,
    require_activations,
    spread,
)

RULE = "positively homogeneous (ReLU, leaky or not)"
ROUNDS, SETTLED = 40, 1e-3  # passes over all layers at most; scales so near 1 are the last


def equalize_layers(
    network: nn.Module, powers_of_two: bool = False
) -> tuple[nn.Module, dict[str, npt.NDArray[np.float64]]]:
    """(network, {layer: scale of each of its output channels}): weights in and out of each channel have equal ranges.

    What a channel's weights and bias are divided by, all layers that read the channel are multiplied with: s = sqrt(r1
    / r2), r the largest absolute weight before and behind it, over all readers, until no scale changes much. Through
    pooling and concatenation. The function is the same but for rounding; with `powers_of_two` scales are the nearest of
    these and it is the same bit by bit, while nothing underflows. Channels without weights, and layers whose values go
    into sums, other shapes or out of the network stay as they are. ModelError: an activation function that is not
    positively homogeneous (its name is said), a batch norm that is not folded, or groups other than depthwise.
    """
    made = copied(network)
    graph = Graph(made)
    pairs = _pairs(graph)
    total = {name: torch.ones(len(by_output(layer, name)), dtype=torch.float64) for name, layer, _ in pairs}
    for _ in range(ROUNDS):
        moved = 0.0
        for name, layer, readers in pairs:
            scales = _scales(by_output(layer, name), readers, powers_of_two)
            _apply(layer, name, readers, scales)
            total[name] *= scales
            moved = max(moved, float(torch.abs(torch.log(scales)).max()))
        if moved < SETTLED:
            break
    return made, {name: scales.numpy() for name, scales in total.items()}


def _pairs(graph: Graph) -> list[tuple[str, nn.Module, list[Reader]]]:
    """(name, layer, readers) of every layer whose channels may be rescaled."""
    for _, name, _ in graph.calls(NORMS):
        raise ModelError(f"batch norm {name} must be folded before layers are equalized, got it: fold_batch_norm first")
    found = []
    for node, name, layer in graph.calls(LAYERS):
        reach = graph.reach(node)
        require_activations(reach, name, graph, is_homogeneous(graph), RULE)
        if reach.is_whole and reach.readers and not _is_grouped(graph, node):
            found.append((name, layer, reach.readers))
    return found


def _is_grouped(graph: Graph, node: fx.Node) -> bool:
    """A depthwise layer's channels are its inputs': scaling them is left to the layer before it."""
    module = graph.module(node)
    return isinstance(module, nn.Conv2d) and module.groups > 1


@torch.no_grad()
def _scales(weights: torch.Tensor, readers: list[Reader], powers_of_two: bool) -> torch.Tensor:
    before = weights.abs().flatten(1).amax(dim=1).double()
    behind = torch.stack([by_input(each, len(weights)).abs().flatten(1).amax(dim=1) for each in readers])
    after = behind.amax(dim=0).double()
    has_both = (before > 0) & (after > 0)
    scales = torch.where(has_both, torch.sqrt(before / torch.where(has_both, after, 1.0)), 1.0)
    return torch.exp2(torch.round(torch.log2(scales))) if powers_of_two else scales


@torch.no_grad()
def _apply(layer: nn.Module, name: str, readers: list[Reader], scales: torch.Tensor) -> None:
    weights = by_output(layer, name)
    weights.copy_(weights.double() / spread(scales, weights).double())
    bias = layer.bias
    if isinstance(bias, torch.Tensor):
        bias.copy_(bias.double() / scales)
    for reader in readers:
        taken = by_input(reader, len(scales))
        taken.copy_(taken.double() * spread(scales, taken).double())

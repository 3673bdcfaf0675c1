# SPDX-License-Identifier: Apache-2.0
"""What a torch network costs: its parameters, and the operations of one image, counted while one goes through it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
COUNTED = (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)


@dataclass(frozen=True)
class LayerCost:
    """One layer: what it multiplies and accumulates for one image, and what it then adds or scales, value by value."""

    name: str
    macs: int
    elementwise: int


@dataclass(frozen=True)
class Cost:
    """`parameters` are trained ones, `statistics` those of batch norm, which inference reads too; of one image."""

    parameters: int
    statistics: int
    layers: tuple[LayerCost, ...]

    @property
    def macs(self) -> int:
        """Multiplications that are accumulated, in convolutions, transposed convolutions and dense layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def operations(self) -> int:
        """Two for each multiplication that is accumulated, one for each bias added, two for each value normalized.

        Activations, pooling and copies count nothing.
        """
        return sum(2 * layer.macs + layer.elementwise for layer in self.layers)


@torch.inference_mode()
def cost(network: nn.Module, image_shape: tuple[int, ...]) -> Cost:
    """The cost of the network for one image of that shape, (channels, height, width), batch norm not folded.

    The network is left as it was. Its layers are those that an image goes through, in this order, again where it goes
    through one again; zeros that padding adds are multiplied too. On torch's "meta" device nothing is computed.
    """
    found: list[LayerCost] = []
    hooks = [
        module.register_forward_hook(_counter(name, found))
        for name, module in network.named_modules()
        if isinstance(module, (*COUNTED, nn.modules.batchnorm._BatchNorm))
    ]
    was_training = network.training
    device = next((each.device for each in network.parameters()), torch.device("cpu"))
    try:
        network.eval()(torch.zeros(1, *image_shape, device=device))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    parameters = sum(each.numel() for each in network.parameters())
    statistics = sum(each.numel() for each in network.buffers() if each.is_floating_point())
    return Cost(parameters, statistics, tuple(found))


def _counter(name: str, found: list[LayerCost]) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
    def count(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if not isinstance(module, COUNTED):
            found.append(LayerCost(name, 0, 2 * output.numel()))
            return
        taken = inputs[0] if isinstance(module, TRANSPOSED) else output  # each value meets one filter
        per_value = module.weight[0].numel()
        found.append(LayerCost(name, taken.numel() * per_value, output.numel() if module.bias is not None else 0))

    return count

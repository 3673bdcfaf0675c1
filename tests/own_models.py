# SPDX-License-Identifier: Apache-2.0
"""Networks as users bring them: plain torch, and one of Brevitas. Functions that take nothing, in a file of its own."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Plain(nn.Module):
    """Functions instead of modules, a batch norm between, dropout, biases."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(32, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(functional.relu(self.norm(self.conv1(image))), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        scores: torch.Tensor = self.head(functional.dropout(x.flatten(1), 0.1, self.training))
        return scores


class Block(nn.Module):
    """A residual block with a sigmoid inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.conv2(torch.sigmoid(self.conv1(x))))


class Branches(nn.Module):
    """An addition, a concatenation of two branches, average pooling, two blocks of one class, softmax at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block1, self.block2 = nn.Conv2d(1, 4, 3, padding=1), Block(4), Block(4)
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.pool, self.head, self.soft = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 10), nn.Softmax(dim=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.block2(self.block1(torch.relu(self.stem(image))))
        both = torch.cat([torch.relu(self.left(x)), torch.relu(self.right(x))], dim=1)
        scores: torch.Tensor = self.soft(self.head(self.pool(both).flatten(1)))
        return scores


def plain() -> nn.Module:
    """The plain one, with statistics that a trained network could have."""
    torch.manual_seed(5)
    network = Plain()
    with torch.no_grad():
        network.norm.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr]
        network.norm.weight.uniform_(-1, 1)  # both signs
    return network


def branches() -> nn.Module:
    """The branched one."""
    torch.manual_seed(6)
    return Branches()


def brevitas() -> nn.Module:
    """A network that its author quantized: 4-bit weights, 4-bit activations."""
    from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear, QuantReLU

    torch.manual_seed(7)
    return nn.Sequential(
        QuantIdentity(bit_width=8),
        QuantConv2d(1, 4, 3, padding=1, bias=False, weight_bit_width=4),
        QuantReLU(bit_width=4),
        nn.MaxPool2d(4),
        nn.Flatten(),
        QuantLinear(16, 10, bias=True, weight_bit_width=4),
    )


def values_decide() -> nn.Module:
    """A network that torch.fx cannot trace."""

    class Decides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 10)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            flat = image.flatten(1)
            scores: torch.Tensor = self.head(flat if flat.sum() > 0 else -flat)
            return scores

    return Decides()


def five_classes() -> nn.Module:
    """A network for other labels than digits."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))


def three_channels() -> nn.Module:
    """A network for other images than digits."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 10))


def no_network() -> str:
    """Something else."""
    return "network"


def fails() -> nn.Module:
    """The user's own mistake."""
    raise RuntimeError("no such layer")

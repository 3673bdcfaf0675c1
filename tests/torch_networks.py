# SPDX-License-Identifier: Apache-2.0
"""Small torch networks in the styles that people write them in, calibrated on random images."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it


class Residual(nn.Module):
    """Functional style: in-place activations, `out += x`, pooling as a function, x.view(x.size(0), -1)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv1, self.bn1 = nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(12)
        self.conv2, self.bn2 = nn.Conv2d(12, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.shortcut = nn.Sequential(nn.Conv2d(8, 12, 1, stride=2, bias=False), nn.BatchNorm2d(12))
        self.fc = nn.Linear(48, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x), inplace=True)
        out = F.relu_(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        out = F.avg_pool2d(F.relu(out), 4)
        return self.fc(out.view(out.size(0), -1))


class Skip(nn.Module):
    """An encoder and decoder: max pooling, transposed convolution, concatenation; a score for every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Sigmoid())
        self.deep = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(inplace=True))
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.last = nn.Conv2d(12, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        side = self.down(x)
        return self.last(torch.cat([side, self.up(self.deep(side))], dim=1))


class Choosy(nn.Module):
    """It looks at its data: torch.fx cannot follow it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        if x.mean() > 1e6:
            x = x * 0
        return self.fc(x.amax(dim=(2, 3)))


def chain() -> nn.Module:
    """Convolutions with batch norm and pooling, then dense layers."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8), nn.Hardsigmoid(), nn.Flatten(),
        nn.Linear(128, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 5),
    )  # fmt: skip


def depthwise() -> nn.Module:
    """Depthwise and grouped convolutions, odd paddings and dilations, global pooling."""
    return nn.Sequential(
        nn.Conv2d(3, 6, (3, 2), padding=(2, 1), dilation=(2, 1)), nn.ReLU6(), nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.LeakyReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(6, 8, 3, groups=2), nn.Tanh(),
        nn.Conv2d(8, 8, 3, padding="same"), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


NETWORKS = {"chain": chain, "residual": Residual, "skip": Skip, "depthwise": depthwise, "choosy": Choosy}


def calibrated(name: str, seed: int = 0) -> nn.Module:
    """The network with random weights and batch norm statistics, gammas of both signs."""
    torch.manual_seed(seed)
    network = NETWORKS[name]()
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.weight.data.uniform_(-1.5, 1.5)
            module.bias.data.normal_(0, 0.3)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    *_, last = (module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear)))
    with torch.no_grad():  # no class wins by its bias
        scores = network.eval()(images(64, seed=9))
        last.bias -= scores.mean(dim=tuple(axis for axis in range(scores.ndim) if axis != 1))
    return network


def images(count: int = 12, seed: int = 0) -> torch.Tensor:
    """Random images, (count, 3, 16, 16), some parts of them zero."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn((count, 3, 16, 16), generator=generator)
    return values * (torch.rand(values.shape, generator=generator) < 0.7)

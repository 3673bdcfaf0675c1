# SPDX-License-Identifier: Apache-2.0
"""AlexNet for small images, 28x28 or 32x32 (A. Krizhevsky et al., NIPS 2012): five convolutions, three dense layers."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from bitward.classic import Classic, scaled

DENSE = 4096


def build(classes: int = 10, channels: int = 1, width: float = 1.0) -> nn.Module:
    """Untrained: kernels of 3x3 throughout, three poolings by two, which leave 3x3 places of 28x28, 4x4 of 32x32.

    An average over 3x3 places before the dense layers makes both the same network.
    """
    sizes = [scaled(size, width) for size in (64, 192, 384, 256, 256)]
    features: list[nn.Module] = []
    inputs = channels
    for number, outputs in enumerate(sizes):
        features += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
        if number in (0, 1, 4):
            features.append(nn.MaxPool2d(2))
        inputs = outputs
    return classified(features, inputs, 3, classes, scaled(DENSE, width))


def classified(features: list[nn.Module], channels: int, side: int, classes: int, hidden: int) -> nn.Module:
    """The features, their average over side x side places, and three dense layers."""
    classifier = nn.Sequential(
        nn.Dropout(), nn.Linear(channels * side**2, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, hidden),
        nn.ReLU(), nn.Linear(hidden, classes),
    )  # fmt: skip
    pool = nn.AdaptiveAvgPool2d(side)
    return nn.Sequential(OrderedDict(
        features=nn.Sequential(*features), avgpool=pool, flatten=nn.Flatten(), classifier=classifier
    ))  # fmt: skip


CLASSIC = Classic("alexnet", "AlexNet for 28x28 or 32x32 images", 28, build, recipe="classic-plain")

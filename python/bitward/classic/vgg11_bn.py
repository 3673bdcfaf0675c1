# SPDX-License-Identifier: Apache-2.0
"""VGG-11 with batch norm in its usual form for 32x32 images (K. Simonyan, A. Zisserman, ICLR 2015)."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from bitward.classic import Classic, scaled

CHANNELS = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")
DENSE = 4096


def build(classes: int = 10, channels: int = 3, width: float = 1.0) -> nn.Module:
    """Untrained; 28,149,514 parameters at full width for ten classes."""
    features: list[nn.Module] = []
    inputs = channels
    for entry in CHANNELS:
        if isinstance(entry, str):
            features.append(nn.MaxPool2d(2))
            continue
        outputs = scaled(entry, width)
        features += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
        inputs = outputs
    hidden = scaled(DENSE, width)
    classifier = nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(),
        nn.Linear(hidden, classes),
    )  # fmt: skip
    return nn.Sequential(OrderedDict(
        features=nn.Sequential(*features), avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), classifier=classifier
    ))  # fmt: skip


CLASSIC = Classic("vgg11_bn", "VGG-11 with batch norm for 32x32 images", 32, build, least=32)

# SPDX-License-Identifier: Apache-2.0
"""AlexNet for 224x224 images, in its later form of one column (A. Krizhevsky, arXiv:1404.5997): 61,100,840 parameters
with a thousand classes.
"""

from __future__ import annotations

from torch import nn

from bitward.classic import Classic, scaled
from bitward.classic.alexnet import DENSE, classified

LAYERS = (
    (64, 11, 4, 2, True),
    (192, 5, 1, 2, True),
    (384, 3, 1, 1, False),
    (256, 3, 1, 1, False),
    (256, 3, 1, 1, True),
)
"""(outputs, kernel, stride, padding, pooled) of the convolutions."""


def build(classes: int = 1000, channels: int = 3, width: float = 1.0) -> nn.Module:
    """Untrained: five convolutions, an average over 6x6 places, three dense layers."""
    features: list[nn.Module] = []
    inputs = channels
    for full, kernel, stride, padding, is_pooled in LAYERS:
        outputs = scaled(full, width)
        features += [nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.ReLU()]
        features += [nn.MaxPool2d(3, 2)] if is_pooled else []
        inputs = outputs
    return classified(features, inputs, 6, classes, scaled(DENSE, width))


CLASSIC = Classic("imagenet_alexnet", "AlexNet for 224x224 images", 224, build, least=63, recipe="classic-plain")

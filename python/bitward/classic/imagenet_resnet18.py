# SPDX-License-Identifier: Apache-2.0
"""ResNet-18 for 224x224 images: 11,689,512 parameters with a thousand classes."""

from __future__ import annotations

from functools import partial

from bitward.classic import Classic
from bitward.classic._residual import residual
from bitward.classic.resnet18 import Block

CLASSIC = Classic(
    "imagenet_resnet18", "ResNet-18 for 224x224 images", 224, partial(residual, Block, (2, 2, 2, 2)), least=32
)

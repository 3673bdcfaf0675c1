# SPDX-License-Identifier: Apache-2.0
"""ResNet-50 for 224x224 images: 25,557,032 parameters with a thousand classes."""

from __future__ import annotations

from functools import partial

from bitward.classic import Classic
from bitward.classic._residual import Bottleneck, residual

CLASSIC = Classic(
    "imagenet_resnet50", "ResNet-50 for 224x224 images", 224, partial(residual, Bottleneck, (3, 4, 6, 3)), least=32
)

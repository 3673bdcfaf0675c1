# SPDX-License-Identifier: Apache-2.0
"""Weights in a fixed-point format, the same for every layer: what scaling before storage is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from bitward.errors import ModelError
from bitward.rewrites.layers import find_layers, read_weights


@dataclass
class FixedScale(Transformation):
    """Every layer's weights are the nearest integers times `scale`, cut off at the ends of their width.

    A Quant whose scale is the largest weight over 2^(b-1) - 1 is weight scaling already (weight-scaling paper, section
    3: c = t / max|W|, in integers); 8 bits at a scale of 2^-6 are what the paper stores without it, its "Q2.5" from -2
    to 1.984375. Needs models of which no two layers share a scale (`prepare`). ModelError: a scale not above 0, or
    weights that are voted already.
    """

    scale: float

    def __post_init__(self) -> None:
        super().__init__()
        if not self.scale > 0:
            raise ModelError(f"scale must be above 0, got {self.scale:g}: 2^-6 is that of Q2.5")

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for layer in find_layers(model).values():
            read_weights(model, layer)  # refuses what has no integers of its own
            if layer.quantizer is not None:
                model.set_initializer(layer.quantizer.input[1], np.asarray(self.scale, np.float32))
        return model, False

# SPDX-License-Identifier: Apache-2.0
"""The torch engine: faults in the stored parameters of torch networks, at the price of what they change."""

from bitward.engine.pytorch.engine import TorchEngine
from bitward.engine.pytorch.graphs import network_of
from bitward.engine.pytorch.memories import store
from bitward.engine.pytorch.quantized import frozen
from bitward.engine.pytorch.storage import Choose, Storage, as_affine, as_float32, as_format, as_integers

__all__ = [
    "Choose",
    "Storage",
    "TorchEngine",
    "as_affine",
    "as_float32",
    "as_format",
    "as_integers",
    "frozen",
    "network_of",
    "store",
]

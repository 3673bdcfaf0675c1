# SPDX-License-Identifier: Apache-2.0
"""The hardware operators that the engine runs. A new one is one file here, and its name in this list."""

from bitward.engine.ops import matrix, maxpool, padding, thresholding, window, wiring  # noqa: F401 - they register
from bitward.engine.ops._op import OPS, Attributes, Op, StoredOp

__all__ = ["OPS", "Attributes", "Op", "StoredOp"]

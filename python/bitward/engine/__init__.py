# SPDX-License-Identifier: Apache-2.0
"""The engine predicts, bit for bit, what the RTL computes from its stored memory images, faults included.

It runs the hardware graph of a build in exact integer arithmetic and takes parameters from the images alone. numpy and
the onnx protobuf are all it needs; it shares nothing with FINN or the simulator. Who asks for `HardwareEngine` needs
onnx; a board, which asks for the rest alone, does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitward.engine.images import load_images
from bitward.engine.injectable import Injectable

if TYPE_CHECKING:
    from bitward.engine.executor import HardwareEngine

__all__ = ["HardwareEngine", "Injectable", "load_images"]


def __getattr__(name: str) -> Any:
    if name != "HardwareEngine":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bitward.engine.executor import HardwareEngine

    return HardwareEngine

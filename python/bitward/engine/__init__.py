# SPDX-License-Identifier: Apache-2.0
"""The engine predicts, bit for bit, what the RTL computes from its stored memory images, faults included.

It runs the hardware graph of a build in exact integer arithmetic and takes parameters from the images alone. numpy and
the onnx protobuf are all it needs; it shares nothing with FINN or the simulator.
"""

from bitward.engine.executor import HardwareEngine
from bitward.engine.images import load_images
from bitward.engine.injectable import Injectable

__all__ = ["HardwareEngine", "Injectable", "load_images"]

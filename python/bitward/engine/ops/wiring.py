# SPDX-License-Identifier: Apache-2.0
"""Nodes that pass elements on as they are: queues, and converters of how many of them make a beat."""

from __future__ import annotations

from bitward.engine.ops._op import Attributes, builds
from bitward.errors import ModelError
from bitward.manifest import Memory


@builds("StreamingFIFO_rtl")
def queue(attributes: Attributes, memory: Memory | None) -> None:
    """Nothing to compute."""


@builds("StreamingDataWidthConverter_rtl")
def converter(attributes: Attributes, memory: Memory | None) -> None:
    """Nothing to compute; ModelError where the node would pad or crop."""
    given, taken = attributes.size("outShape"), attributes.size("inShape")
    if given != taken:
        raise ModelError(f"{attributes.where} must give the {taken} elements it takes, got {given}; fold by divisors")

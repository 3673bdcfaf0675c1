# SPDX-License-Identifier: Apache-2.0
"""Zeros around an image."""

from __future__ import annotations

from typing import Any

from bitward.errors import ModelError
from bitward.hardware.lowering.constants import settle
from bitward.hardware.lowering.rule import lowers
from bitward.hardware.lowering.walk import Walk, where
from bitward.hardware.lowering.windows import image, pad


@lowers("Pad")
def zeros(walk: Walk, node: Any) -> str:
    """Padding of height and width by zeros."""
    value = settle(walk, image(walk.value(node), node), where(node))
    pads = walk.constant(node.input[1]) if len(node.input) > 1 else None
    amounts = [int(amount) for amount in (pads if pads is not None else walk.attribute(node, "pads", []))]
    filler = walk.constant(node.input[2]) if len(node.input) > 2 else None
    number = float(filler.flat[0]) if filler is not None else walk.attribute(node, "value", 0.0)
    mode = walk.attribute(node, "mode", "constant")
    outside = [amounts[index] for index in (0, 1, 4, 5)] if len(amounts) == 8 else [1]
    if mode != "constant" or number != 0 or any(outside) or min(amounts) < 0:
        raise ModelError(
            f"{where(node)} must pad height and width with zeros, got pads {amounts}, mode {mode}, value {number:g}: "
            "use zeros."
        )
    walk.set(node.output[0], pad(walk, value, (amounts[2], amounts[3], amounts[6], amounts[7])))
    return f"zeros {amounts[2:4] + amounts[6:8]}"

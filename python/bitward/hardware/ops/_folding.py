# SPDX-License-Identifier: Apache-2.0
"""Checks of attributes that several back ends share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bitward.errors import ModelError

MAX_STREAMS = 8  # ports that modules of several streams have


def where(node: Any) -> str:
    """The node in messages."""
    return f"node {node.name} ({node.op_type})"


def checked_simd(node: Any, simd: int, counts: Sequence[int], what: str = "channels") -> int:
    """`simd` divides every one of `counts`; ModelError otherwise."""
    wrong = [count for count in counts if simd < 1 or count % simd != 0]
    if wrong:
        raise ModelError(
            f"{where(node)} must have a SIMD that divides {wrong[0]} {what}, got {simd}: fold by a divisor."
        )
    return simd


def checked_streams(node: Any, channels: Sequence[int]) -> Sequence[int]:
    """The channels of each of 2 to 8 streams, at least one each; ModelError otherwise."""
    if not 2 <= len(channels) <= MAX_STREAMS or min(channels) < 1:
        raise ModelError(
            f"{where(node)} must have 2 to {MAX_STREAMS} streams of at least one channel, got {list(channels)}: "
            "split the node in two."
        )
    return channels


def checked_scale(node: Any, large: int, small: int, what: str) -> int:
    """How many times `large` is `small`, a whole number; ModelError otherwise."""
    if small < 1 or large < 1 or large % small != 0:
        raise ModelError(
            f"{where(node)} must have an output {what} that is a multiple of the input's {small}, got {large}: "
            "scale by a whole number."
        )
    return large // small

# SPDX-License-Identifier: Apache-2.0
"""Lowering: QONNX graphs become graphs of hardware operators, in one walk that always ends.

`values` says what is known of a tensor, `rules` (one file per operator) what becomes of a node, `thresholds` how float
operations before a quantizer become threshold lists, `passes` what is done before, `edges` what the host does.
"""

from __future__ import annotations

from bitward.hardware.lowering.lower import Lowered, lower

__all__ = ["Lowered", "lower"]

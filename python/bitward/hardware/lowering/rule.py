# SPDX-License-Identifier: Apache-2.0
"""The register of lowering rules: one for each operator of QONNX graphs that has hardware."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bitward.hardware.lowering.walk import Walk

Rule = Callable[["Walk", Any], str]
"""Lowers one node of the QONNX graph: sets the values of its outputs, returns what was done in a few words."""

RULES: dict[str, Rule] = {}


def lowers(*op_types: str) -> Callable[[Rule], Rule]:
    """Registers a rule for these op_types."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(op_types, rule))
        return rule

    return register

# SPDX-License-Identifier: Apache-2.0
"""Every abstract hardware node becomes the RTL back end that is registered for it: by a table, never by a guess.

FINN's own choice depends on part, widths and preferences, and falls back to Vitis HLS without a word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from typing import Any

from bitward.errors import ModelError, nearest

ABSTRACT_DOMAIN = "finn.custom_op.fpgadataflow"
RTL_DOMAIN = "finn.custom_op.fpgadataflow.rtl"
# Of FINN's own back ends, those whose RTL is used as it comes; they hold no parameters.
FROM_FINN = ("ConvolutionInputGenerator", "FMPadding")


def back_ends() -> tuple[dict[str, str], dict[str, str]]:
    """(for nodes without parameters, for nodes that hold some): FINN's abstract operator -> back end."""
    from finn.custom_op.fpgadataflow.rtl import custom_op as registered

    import bitward.hardware.ops  # noqa: F401 - registers our back ends
    from bitward.hardware.ops._module import RtlModule
    from bitward.hardware.ops._stored import StoredModule

    ours = {name: made for name, made in registered.items() if issubclass(made, RtlModule)}
    storing = {made.stores: name for name, made in ours.items() if issubclass(made, StoredModule)}
    plain = {name.removesuffix("_rtl"): name for name, made in ours.items() if not issubclass(made, StoredModule)}
    return {**{op: f"{op}_rtl" for op in FROM_FINN}, **plain}, storing


def specialise(model: Any, parameters: Container[str]) -> Any:
    """The abstract nodes of the graph are RTL nodes, those that read an initializer in `parameters` storing ones.

    Those are named anew, by operator and number, counted as FINN counts (`in_order`); the others keep their names, for
    folding goes by them. Raises ModelError for a node that has no RTL.
    """
    plain, storing = back_ends()
    named = Counter(node.op_type for node in model.graph.node if node.domain == RTL_DOMAIN)
    for node in in_order(model):
        if node.domain != ABSTRACT_DOMAIN:
            continue
        table = storing if any(name in parameters for name in node.input) else plain
        if node.op_type not in table:
            raise ModelError(
                f"node {node.name} ({node.op_type}) must be an operator that has RTL"
                f"{' with a memory' if table is storing else ''}, got {node.op_type}; {nearest(node.op_type, table)}"
            )
        node.op_type, node.domain = table[node.op_type], RTL_DOMAIN
        node.name = f"{node.op_type}_{named[node.op_type]}"
        named[node.op_type] += 1
        for attribute in [a for a in node.attribute if a.name == "preferred_impl_style"]:
            node.attribute.remove(attribute)
    return model


def in_order(model: Any) -> list[Any]:
    """The nodes in the order of qonnx's SortGraph, in which FINN numbers them: by the longest path before them."""
    levels: dict[str, int] = {}
    for node in model.graph.node:
        before = [levels.get(each.output[0], 0) for each in model.find_direct_predecessors(node) or []]
        levels[node.output[0]] = 1 + max(before, default=0)
    return sorted(model.graph.node, key=lambda node: levels[node.output[0]])

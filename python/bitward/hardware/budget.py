# SPDX-License-Identifier: Apache-2.0
"""Whether a folded hardware graph fits a board, by estimate, and which folding does; and what memories are made of.

A design that only just fits by these estimates may not fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from typing import Any

from bitward.errors import ConfigError
from bitward.hardware import costs
from bitward.hardware.estimates import Resources, estimate, total
from bitward.hardware.fifos import QUEUE
from bitward.hardware.folding import SLOWEST_CYCLES

Capacity = Mapping[Any, int]


def slowest_node(model: Any) -> tuple[str, int]:
    """(name, cycles an image) of the node that by its own account takes longest: no design can be faster."""
    from qonnx.custom_op.registry import getCustomOp

    cycles = {node.name: int(getCustomOp(node).get_exp_cycles()) for node in model.graph.node}
    name = max(cycles, key=lambda node: cycles[node])
    return name, cycles[name]


def excess(needed: Resources, board: Capacity) -> tuple[str, float, int] | None:
    """(kind, need, have) of the resource that is exceeded by most, or None where all suffice.

    >>> excess({"lut": 50.0, "dsp": 12.0}, {"lut": 100, "dsp": 10})
    ('dsp', 12.0, 10)
    """
    shares = {kind: needed[kind] / board[kind] for kind in needed if needed[kind] > board[kind]}
    if not shares:
        return None
    kind = max(shares, key=lambda each: shares[each])
    return kind, needed[kind], board[kind]


def check(fold: Callable[[int], Any], cycles: int, board: Capacity, clk_mhz: float) -> Any:
    """The graph folded for so many cycles an image; without its queues it fits the board.

    `fold` gives the graph folded for a number of cycles. Raises ConfigError naming the resource, and the best rate that
    fits.
    """
    model = fold(cycles)
    over = _excess_of(model, board)
    if over is None:
        return model
    kind, need, have = over
    smallest = fold(SLOWEST_CYCLES)
    advice = "no folding of it fits: make the model smaller, or its words fewer bits"
    if _excess_of(smallest, board) is None:
        best = _fastest(fold, cycles, slowest_node(smallest)[1], board)
        advice = f"the fastest that fits takes {best} cycles an image: --target-fps {clk_mhz * 1e6 / best:.4g}"
    raise ConfigError(
        f"the design must fit the board, got an estimate of {need:.0f} {kind} where there are {have}: {advice}."
    )


def _excess_of(model: Any, board: Capacity) -> tuple[str, float, int] | None:
    """What nodes take beyond the board; queues aside, whose depths are not known yet."""
    nodes = {name: each for name, each in estimate(model).items() if not name.startswith(QUEUE)}
    return excess(total(nodes), board)


def _fastest(fold: Callable[[int], Any], low: int, high: int, board: Capacity) -> int:
    """The least cycles, within 2 %, whose folding fits; `low` does not, `high` does."""
    while high - low > max(1, high // 50):
        middle = math.isqrt(low * high) if high > 4 * low else (low + high) // 2
        low, high = (low, middle) if _excess_of(fold(middle), board) is None else (middle, high)
    return high


def check_queues(model: Any, board: Capacity) -> Resources:
    """What the design takes, its queues included, which fits the board. Raises ConfigError where it does not."""
    needed = total(estimate(model))
    over = excess(needed, board)
    if over is not None:
        raise ConfigError(
            f"the design with its queues must fit the board, got an estimate of {over[1]:.0f} {over[0]} where there "
            f"are {over[2]}: lower --target-fps."
        )
    return needed


def choose_ram_styles(model: Any, given: Container[str] = ()) -> Any:
    """Memories of window generators, and those that are to be "auto", are of the cheapest style for their shape.

    Those of the nodes in `given` stay as they are. URAM is chosen for window generators alone (and for queues, see
    costs.queue_style): its content is not in the bitstream, so parameters would have to be loaded at every start.
    """
    from qonnx.custom_op.registry import getCustomOp

    for node in model.graph.node:
        op = getCustomOp(node)
        if node.name in given and op.get_nodeattr("ram_style") != "auto":
            continue
        if node.op_type == "ConvolutionInputGenerator_rtl":
            bits = op.get_nodeattr("SIMD") * op.get_input_datatype(0).bitwidth()
            op.set_nodeattr("ram_style", costs.buffer_style(op.get_buffer_depth(), bits))
        elif node.op_type in ("StoredMVAU_rtl", "StoredVVAU_rtl", "StoredBias_rtl"):
            if op.get_nodeattr("ram_style") == "auto":
                op.set_nodeattr("ram_style", costs.memory_style(op.depth(), op.layout().width))
    return model

# SPDX-License-Identifier: Apache-2.0
"""FINN's names of nodes, the attributes that its configuration files set on them, and what becomes of each in bitward.

The names are those that finn-plus 1.6.1 writes into auto_folding_config.json and final hardware configurations.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

CHOSEN = ("PE", "SIMD", "ram_style", "parallel_window")  # attributes that a folding configuration may set
OF_MEMORIES = ("mem_mode", "runtime_writeable_weights", "ram_style_thresholds")
# Kinds that FINN has no RTL of: it calls their nodes KIND_hls_0.
HLS_IN_FINN = (
    "DuplicateStreams", "FMPadding_Pixel", "GlobalAccPool", "LabelSelect", "Pool", "StreamingConcat", "StreamingSplit",
    "UpsampleNearestNeighbour",
)  # fmt: skip


def kind_of(op_type: str) -> str:
    """FINN's kind of a node of the hardware graph; "Bias", which FINN has not, for an adder with a memory.

    >>> kind_of("StoredMVAU_rtl"), kind_of("Pool_rtl"), kind_of("StoredBias_rtl")
    ('MVAU', 'Pool', 'Bias')
    """
    return op_type.removeprefix("Stored").removesuffix("_rtl")


def finn_name(name: str) -> str:
    """What FINN calls the node that is called so in the hardware graph.

    >>> finn_name("StoredMVAU_rtl_0"), finn_name("Pool_rtl_1"), finn_name("StreamingFIFO_rtl_12")
    ('MVAU_rtl_0', 'Pool_hls_1', 'StreamingFIFO_rtl_12')
    """
    op_type, _, number = name.rpartition("_")
    kind = kind_of(op_type)
    return f"{kind}_{'hls' if kind in HLS_IN_FINN else 'rtl'}_{number}"


class Said(Enum):
    """What becomes of an attribute's value."""

    TAKEN = "taken"  # the node gets it, or refuses it by name
    SO = "so already"  # bitward builds it so whatever is said
    LEFT_OUT = "left out"  # it changes no result, and is said
    REFUSED = "refused"


# By attribute: values that are so already, and why others are left out.
_LEFT_OUT: dict[str, tuple[tuple[Any, ...], str]] = {
    "runtime_writeable_weights": ((1,), "memories can always be written over AXI-Lite, which injecting faults needs"),
    "resType": (("auto", "dsp"), "multipliers are DSP slices in open RTL"),
    "mac_resource": (("auto", "dsp"), "multipliers are DSP slices in open RTL"),
    "ram_style_thresholds": (("auto",), "thresholds have nodes of their own here: give those a ram_style"),
    "ram_style_mask": ((), "no unit here has masks"),
    "depth_trigger_uram": ((0,), "give ram_style instead"),
    "depth_trigger_bram": ((0,), "give ram_style instead"),
    "inFIFODepths": ((), "queues are found by measuring in RTL"),
    "outFIFODepths": ((), "queues are found by measuring in RTL"),
    "mem_mode": (("internal_decoupled",), "weights are memories of their own here, which is what faults hit"),
    "impl_style": (("", "rtl"), "all nodes are open RTL"),
    "preferred_impl_style": (("", "rtl"), "all nodes are open RTL"),
}
_REFUSED: dict[str, dict[str, str]] = {
    "mem_mode": dict.fromkeys(
        ("external", "external_mem", "dynamic"),
        "parameters lie in the design's own memories; take 'internal_decoupled'",
    ),
    "impl_style": {"hls": "bitward builds open RTL only; ask for 'rtl', or leave it out"},
    "preferred_impl_style": {"hls": "bitward builds open RTL only; ask for 'rtl', or leave it out"},
}


def said_of(kind: str, key: str, value: Any) -> tuple[Said, str]:
    """What becomes of the value on a node of FINN's kind, and why.

    >>> said_of("MVAU", "PE", 4)
    (<Said.TAKEN: 'taken'>, '')
    >>> said_of("MVAU", "resType", "lut")[0], said_of("MVAU", "mem_mode", "external")[0]
    (<Said.LEFT_OUT: 'left out'>, <Said.REFUSED: 'refused'>)
    """
    if isinstance(value, str) and (why := _REFUSED.get(key, {}).get(value)):
        return Said.REFUSED, why
    if key not in _LEFT_OUT:
        return Said.TAKEN, ""
    already, why = _LEFT_OUT[key]
    return (Said.SO, "") if value in already else (Said.LEFT_OUT, why)

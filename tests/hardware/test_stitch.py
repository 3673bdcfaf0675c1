# SPDX-License-Identifier: Apache-2.0
"""The generated top: windows that Linux can map and a splitter can decode, and neighbours that fit."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitward.errors import ModelError
from bitward.hardware.stitch import (
    COUNTERS,
    REGISTER_BYTES,
    WINDOW_BYTES,
    Link,
    Node,
    Stream,
    counter_registers,
    map_size,
    top,
    windows,
    wiring,
)


def chain(*nodes: Node, bits: int = 8) -> list[Node]:
    """The nodes, one behind the other."""
    return [
        replace(node, inputs=(Link(f"t{at}", bits),), outputs=(Link(f"t{at + 1}", bits),))
        for at, node in enumerate(nodes)
    ]


def nodes_of(address_bits: list[int]) -> list[Node]:
    return chain(*(Node(f"n{index}", "m", {}, (), (), bits) for index, bits in enumerate(address_bits)))


@given(st.lists(st.integers(0, 22), max_size=12))
def test_windows_are_aligned_large_enough_and_apart(address_bits):
    placed = windows(nodes_of(address_bits))
    assert (placed[0].node, placed[0].base, placed[0].size) == ("registers", 0, REGISTER_BYTES)
    assert {window.node for window in placed[1:]} == {f"n{i}" for i, bits in enumerate(address_bits) if bits}
    for window in placed:
        assert window.base % window.size == 0
        least = REGISTER_BYTES if window.node == "registers" else WINDOW_BYTES
        assert window.size >= least and window.size & (window.size - 1) == 0
        if window.node != "registers":
            assert window.size >= 2 ** address_bits[int(window.node[1:])]
    ordered = sorted(placed, key=lambda window: window.base)
    for left, right in zip(ordered, ordered[1:], strict=False):
        assert left.base + left.size <= right.base
    size = map_size(placed)
    assert size & (size - 1) == 0 and size >= max(window.base + window.size for window in placed)
    assert size < 4 * sum(window.size for window in placed)


@pytest.mark.parametrize(
    ("bits", "wire"), [(1, 8), (8, 8), (9, 16), (16, 16), (17, 32), (24, 32), (33, 64), (100, 128)]
)
def test_a_stream_is_as_wide_as_axi_dma_takes(bits, wire):
    assert Stream(bits, 1).wire_bits == wire


def node(name: str, inputs: dict[str, int], outputs: dict[str, int], **more: object) -> Node:
    """A node whose streams are {tensor: bits}."""
    links = (tuple(Link(*item) for item in side.items()) for side in (inputs, outputs))
    return Node(name, "m", {}, *links, **more)


def top_of(nodes: list[Node]) -> str:
    return top(nodes, windows(nodes), Stream(8, 1), Stream(8, 1), 0)


FORK = [
    node("fork", {"x": 8}, {"long": 8, "short": 8}),
    node("work", {"long": 8}, {"done": 16}),
    node("join", {"done": 16, "short": 8}, {"y": 8}),
]


def test_a_graph_is_wired_by_tensor():
    wires = wiring(FORK)
    assert (wires.source, wires.sink) == ("x", "y")
    assert wires.bits == {"x": 8, "long": 8, "short": 8, "done": 16, "y": 8}
    text = top_of(FORK)
    for port, number in (("in0", 3), ("in1", 2), ("out0", 4)):
        for signal, wire in (("VALID", "valid"), ("READY", "ready"), ("DATA", "data")):
            assert f".{port}_V_T{signal}({wire}_{number})" in text.split("i_join (")[1]
    assert ".out1_V_TDATA(data_2)" in text.split("i_fork (")[1].split(");")[0]
    assert "assign valid_0 = s_axis_tvalid;" in text and ".s_axis_tvalid(valid_4)" in text
    assert wiring(FORK[::-1]).bits.keys() == wires.bits.keys()  # in whatever order the nodes are


@pytest.mark.parametrize(
    ("nodes", "sentence"),
    [
        (
            [FORK[0], replace(FORK[1], inputs=(Link("long", 24),)), FORK[2]],
            "^nodes fork and work must have streams of one width, got 8 and 24 bits: choose another folding",
        ),
        (
            [*FORK, node("thief", {"done": 16}, {"z": 8})],
            "^stream done must be among the inputs of one node, got join and thief: duplicate it",
        ),
        (
            [*FORK, node("twin", {"y": 8}, {"done": 16})],
            "^stream done must be among the outputs of one node, got work and twin: duplicate it",
        ),
        (FORK[1:], r"^a design must have one stream in and one out, got \['long', 'short'\] and \['y'\]: join them"),
        (FORK[:2], r"^a design must have one stream in and one out, got \['x'\] and \['short', 'done'\]: join them"),
    ],
    ids=["widths", "two consumers", "two producers", "two sources", "two sinks"],
)
def test_what_cannot_be_wired_is_refused(nodes, sentence):
    with pytest.raises(ModelError, match=sentence):
        top_of(nodes)


def test_the_top_names_what_it_was_given():
    nodes = [
        Node("first", "module_a", {"Width": 4, "File": "a.dat"}, (Link("x", 8),), (Link("a", 16),), 13),
        Node("second", "module_b", {}, (Link("a", 16),), (Link("b", 8),), idle_axilite=5),
        Node("third", "module_c", {}, (Link("b", 8),), (Link("y", 8),), 5, memory="c.weight"),
    ]
    text = top(nodes, windows(nodes), Stream(6, 3), Stream(8, 2), 0xB1)
    assert 'module_a #(.Width(4), .File("a.dat")) i_first (' in text
    assert ".DesignId(32'h000000b1)" in text and ".Beats(2)" in text
    assert text.count(".s_axilite_WSTRB('0)") == 1 and text.count(".s_axilite_AWVALID('0)") == 1
    assert ".s_axilite_AWADDR(awaddr[12:0])" in text and ".s_axilite_AWADDR(awaddr[4:0])" in text
    assert ".corrected_o()" in text and "bitward_counters" not in text
    assert "endmodule" in text.splitlines()[-1]


def test_protected_memories_are_counted():
    """Counters have a window of their own, two registers a memory; those without redundancy have none."""
    nodes = chain(
        Node("plain", "m", {}, (), (), 8, memory="a.weight"),
        Node("voted", "m", {}, (), (), 8, memory="b.weight", counts=True),
        Node("coded", "m", {}, (), (), 8, memory="c.weight", counts=True),
    )
    placed, text = windows(nodes), top_of(nodes)
    at = next(number for number, window in enumerate(placed) if window.node == COUNTERS)
    base = placed[at].base
    assert counter_registers(nodes, placed) == {
        "corrected:b.weight": base,
        "detected:b.weight": base + 4,
        "corrected:c.weight": base + 8,
        "detected:c.weight": base + 12,
    }
    assert "bitward_counters #(.Num(2)) i_counters (" in text
    assert ".s_axilite_ARADDR(araddr[3:0])" in text.split("i_counters (")[1].split(");")[0]  # of four registers
    assert f".s_axilite_RDATA(rdata[{at}])" in text.split("i_counters (")[1].split(");")[0]
    assert ".corrected_o(corrected[1]),\n    .detected_o(detected[1])" in text.split("i_coded (")[1]
    assert counter_registers(nodes[:1], windows(nodes[:1])) == {}


@given(st.lists(st.integers(3, 22), min_size=1, max_size=8))
def test_the_tops_addresses_are_as_wide_as_its_map(address_bits):
    nodes = nodes_of(address_bits)
    text = top(nodes, windows(nodes), Stream(8, 1), Stream(8, 1), 0)
    widths = re.findall(r"logic \[(\d+):0\]\s+(?:s_axilite_A[WR]ADDR|awaddr, araddr)", text)
    assert widths == [str(map_size(windows(nodes)).bit_length() - 2)] * 3

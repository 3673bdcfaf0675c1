# SPDX-License-Identifier: Apache-2.0
"""The generated top: windows that Linux can map and a splitter can decode, and neighbours that fit."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitward.errors import ModelError
from bitward.hardware.stitch import REGISTER_BYTES, WINDOW_BYTES, Node, Stream, map_size, top, windows


def nodes_of(address_bits: list[int]) -> list[Node]:
    return [Node(f"n{index}", "m", {}, 8, 8, bits) for index, bits in enumerate(address_bits)]


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


def test_neighbours_must_have_streams_of_one_width():
    nodes = [Node("a", "m", {}, 8, 16, 0), Node("b", "m", {}, 24, 8, 0)]
    sentence = "^nodes a and b must have streams of one width, got 16 and 24 bits: choose another folding"
    with pytest.raises(ModelError, match=sentence):
        top(nodes, windows(nodes), Stream(8, 1), Stream(8, 1), 0)


def test_the_top_names_what_it_was_given():
    nodes = [
        Node("first", "module_a", {"Width": 4, "File": "a.dat"}, 8, 16, 13),
        Node("second", "module_b", {}, 16, 8, 0, idle_axilite=5),
        Node("third", "module_c", {}, 8, 8, 5, has_strobe=False),
    ]
    text = top(nodes, windows(nodes), Stream(6, 3), Stream(8, 2), 0xB1)
    assert 'module_a #(.Width(4), .File("a.dat")) i_first (' in text
    assert ".DesignId(32'h000000b1)" in text and ".Beats(2)" in text
    assert text.count(".s_axilite_WSTRB(4'hF)") == 1 and text.count(".s_axilite_AWVALID('0)") == 1
    assert ".s_axilite_AWADDR(awaddr[12:0])" in text and ".s_axilite_AWADDR(awaddr[4:0])" in text
    assert "endmodule" in text.splitlines()[-1]


@given(st.lists(st.integers(3, 22), min_size=1, max_size=8))
def test_the_tops_addresses_are_as_wide_as_its_map(address_bits):
    nodes = nodes_of(address_bits)
    text = top(nodes, windows(nodes), Stream(8, 1), Stream(8, 1), 0)
    widths = re.findall(r"logic \[(\d+):0\]\s+(?:s_axilite_A[WR]ADDR|awaddr, araddr)", text)
    assert widths == [str(map_size(windows(nodes)).bit_length() - 2)] * 3

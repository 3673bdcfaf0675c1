# SPDX-License-Identifier: Apache-2.0
"""One SystemVerilog top from a graph of hardware nodes: streams joined, one AXI-Lite map, TLAST at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bitward.errors import ModelError

WINDOW_BYTES = 4096  # least size of a memory's AXI-Lite window
REGISTER_BYTES = 64  # of bitward_registers; an address behind them is answered with DECERR
REGISTERS = {  # byte addresses in bitward_registers, which says what they are
    "magic": 0x0,
    "design_id": 0x4,
    "version": 0x8,
    "images_per_transfer": 0xC,
    "images_sent": 0x10,
    "git_hash": 0x14,
    "build_id": 0x18,
    "git_is_dirty": 0x1C,
}
COUNTERS = "counters"  # the window of bitward_counters


@dataclass(frozen=True)
class Stream:
    """An edge stream: `bits` of payload a beat, `beats` an image; on the wire the next power of two of whole bytes."""

    bits: int
    beats: int

    @property
    def wire_bits(self) -> int:
        """Width of TDATA, one that AXI DMA takes."""
        return max(8, 2 ** math.ceil(math.log2(self.bits)))


@dataclass(frozen=True)
class Link:
    """A stream at a node's port: the tensor that it carries, and its width in bits, padding included."""

    tensor: str
    bits: int


@dataclass(frozen=True)
class Node:
    """A hardware node as the top sees it; `inputs` are its ports in0_V, in1_V, ..., `outputs` out0_V, out1_V, ..."""

    name: str
    module: str
    parameters: dict[str, int | str]
    inputs: tuple[Link, ...]
    outputs: tuple[Link, ...]
    address_bits: int = 0  # of its AXI-Lite port; 0 if it has none
    idle_axilite: int = 0  # address bits of an AXI-Lite port that is tied off
    memory: str = ""  # the manifest's memory that it holds; then it has ports corrected_o and detected_o
    counts: bool = False  # those two are counted


@dataclass(frozen=True)
class Window:
    """Where an AXI-Lite port lies in the map: byte address and size, a power of two. `node` is whose it is."""

    node: str
    base: int
    size: int


def windows(nodes: Sequence[Node]) -> list[Window]:
    """The AXI-Lite map: registers at 0, then counters and every memory, each window aligned to its size.

    >>> windows([Node("a", "m", {}, (), (), 13), Node("b", "m", {}, (), (), 4)])
    [Window(node='registers', base=0, size=64), Window(node='b', base=4096, size=4096), Window(node='a', base=8192, \
size=8192)]
    """
    sized = [(max(WINDOW_BYTES, 2**node.address_bits), node.name) for node in nodes if node.address_bits]
    counted = len(_counted(nodes))
    if counted:
        sized.insert(0, (max(WINDOW_BYTES, 2 ** _counter_bits(counted)), COUNTERS))
    result = [Window("registers", 0, REGISTER_BYTES)]
    at = WINDOW_BYTES
    for size, name in sorted(sized, key=lambda item: item[0]):
        at = -(-at // size) * size
        result.append(Window(name, at, size))
        at += size
    return result


def counter_registers(nodes: Sequence[Node], placed: Sequence[Window]) -> dict[str, int]:
    """Byte addresses of the counters: "corrected:MEMORY", "detected:MEMORY". They count reads of rows, not upsets."""
    base = next((window.base for window in placed if window.node == COUNTERS), 0)
    return {
        f"{what}:{node.memory}": base + 8 * number + 4 * second
        for number, node in enumerate(_counted(nodes))
        for second, what in enumerate(("corrected", "detected"))
    }


def _counted(nodes: Sequence[Node]) -> list[Node]:
    return [node for node in nodes if node.counts]


def _counter_bits(counted: int) -> int:
    """Width of the counters' address."""
    return (8 * counted - 1).bit_length()


def map_size(placed: Sequence[Window]) -> int:
    """Bytes of the whole map, a power of two."""
    return 2 ** math.ceil(math.log2(max(window.base + window.size for window in placed)))


def _literal(value: int | str) -> str:
    """The value in SystemVerilog, where a number without a width has 32 bits.

    >>> _literal(-5), _literal("auto"), _literal(1 << 33)
    ('-5', '"auto"', "34'h200000000")
    """
    if isinstance(value, str):
        return f'"{value}"'
    return str(value) if value.bit_length() < 32 else f"{value.bit_length()}'h{value:x}"


def _parameters(parameters: dict[str, int | str]) -> str:
    if not parameters:
        return ""
    inside = ", ".join(f".{name}({_literal(value)})" for name, value in parameters.items())
    return f" #({inside})"


_AXILITE = (
    ("AWVALID", "awvalid", True),
    ("AWREADY", "awready", False),
    ("AWADDR", "awaddr", True),
    ("WVALID", "wvalid", True),
    ("WREADY", "wready", False),
    ("WDATA", "wdata", True),
    ("BVALID", "bvalid", False),
    ("BREADY", "bready", True),
    ("BRESP", "bresp", False),
    ("ARVALID", "arvalid", True),
    ("ARREADY", "arready", False),
    ("ARADDR", "araddr", True),
    ("RVALID", "rvalid", False),
    ("RREADY", "rready", True),
    ("RDATA", "rdata", False),
    ("RRESP", "rresp", False),
)


def _window_ports(index: int, address_bits: int) -> list[str]:
    ports = []
    for port, signal, _ in _AXILITE:
        if signal in ("awaddr", "araddr"):
            ports.append(f".s_axilite_{port}({signal}[{address_bits - 1}:0])")
        elif signal == "wdata":
            ports.append(f".s_axilite_{port}(wdata)")
        else:
            ports.append(f".s_axilite_{port}({signal}[{index}])")
    return ports


def _idle_ports() -> list[str]:
    ports = [f".s_axilite_{port}({chr(39) + '0' if is_input else ''})" for port, _, is_input in _AXILITE]
    return [*ports, ".s_axilite_WSTRB('0)"]


def _stream_ports(links: Sequence[Link], side: str, number: dict[str, int]) -> list[str]:
    return [
        f".{side}{port}_V_T{signal}({wire}_{number[link.tensor]})"
        for port, link in enumerate(links)
        for signal, wire in (("VALID", "valid"), ("READY", "ready"), ("DATA", "data"))
    ]


def _instance(node: Node, number: dict[str, int], window_index: int | None, counter: int | None) -> str:
    ports = [".ap_clk(ap_clk)", ".ap_rst_n(ap_rst_n)"]
    ports += _stream_ports(node.inputs, "in", number) + _stream_ports(node.outputs, "out", number)
    if window_index is not None:
        ports += _window_ports(window_index, node.address_bits)
    elif node.idle_axilite:
        ports += _idle_ports()
    if node.memory:
        pulses = ("", "") if counter is None else (f"corrected[{counter}]", f"detected[{counter}]")
        ports += [f".corrected_o({pulses[0]})", f".detected_o({pulses[1]})"]
    body = ",\n    ".join(ports)
    return f"  {node.module}{_parameters(node.parameters)} i_{node.name} (\n    {body}\n  );\n"


def _counters(counted: int, window_index: int) -> str:
    """The instance that counts, with the wires of what it counts; nothing where nothing is counted."""
    if not counted:
        return ""
    ports = ",\n    ".join(_window_ports(window_index, _counter_bits(counted)))
    return (
        f"  logic [{counted - 1}:0] corrected, detected;\n\n"
        f"  bitward_counters #(.Num({counted})) i_counters (\n    .ap_clk, .ap_rst_n,\n    {ports},\n"
        "    .corrected_i(corrected), .detected_i(detected)\n  );\n"
    )


@dataclass(frozen=True)
class Wiring:
    """The streams of a graph: widths by tensor, in order of their producers, and the tensors at both ends."""

    bits: dict[str, int]
    source: str
    sink: str


def wiring(nodes: Sequence[Node]) -> Wiring:
    """Which port drives which. Raises ModelError unless each stream has one producer and one consumer of its width.

    One stream, the source, has no producer; one, the sink, no consumer.
    """
    taken = _ends(nodes, "inputs")
    given = _ends(nodes, "outputs")
    for tensor in taken.keys() & given.keys():
        (producer, made), (consumer, wanted) = given[tensor], taken[tensor]
        if made != wanted:
            raise ModelError(
                f"nodes {producer} and {consumer} must have streams of one width, got {made} and {wanted} bits: "
                "choose another folding."
            )
    sources, sinks = [t for t in taken if t not in given], [t for t in given if t not in taken]
    if len(sources) != 1 or len(sinks) != 1:
        raise ModelError(f"a design must have one stream in and one out, got {sources} and {sinks}: join them.")
    widths = {tensor: bits for tensor, (_, bits) in {sources[0]: taken[sources[0]], **given}.items()}
    return Wiring(widths, sources[0], sinks[0])


def _ends(nodes: Sequence[Node], side: Literal["inputs", "outputs"]) -> dict[str, tuple[str, int]]:
    """(node, width) at one end of each stream."""
    ends: dict[str, tuple[str, int]] = {}
    for node in nodes:
        for link in node.inputs if side == "inputs" else node.outputs:
            if link.tensor in ends:
                raise ModelError(
                    f"stream {link.tensor} must be among the {side} of one node, got {ends[link.tensor][0]} and "
                    f"{node.name}: duplicate it."
                )
            ends[link.tensor] = node.name, link.bits
    return ends


def top(nodes: Sequence[Node], placed: Sequence[Window], source: Stream, sink: Stream, design_id: int) -> str:
    """The text of `bitward_top.sv`. Raises ModelError where streams do not fit together (`wiring`).

    Its AXI-Lite addresses are as wide as the map: an interconnect cuts the physical address to an offset in it.
    """
    wires = wiring(nodes)
    number = {tensor: index for index, tensor in enumerate(wires.bits)}
    at = {window.node: index for index, window in enumerate(placed)}
    counter = {node.name: index for index, node in enumerate(_counted(nodes))}
    count, address_bits = len(placed), int(math.log2(map_size(placed)))
    declared = "\n".join(
        f"  logic valid_{index}, ready_{index}; logic [{bits - 1}:0] data_{index};"
        for index, bits in enumerate(wires.bits.values())
    )
    bases = ", ".join(f"32'h{window.base:x}" for window in reversed(placed))
    masks = ", ".join(f"32'h{window.size - 1:x}" for window in reversed(placed))
    instances = "\n".join(_instance(node, number, at.get(node.name), counter.get(node.name)) for node in nodes)
    return _TOP.format(
        address_bits=address_bits, address_top=address_bits - 1, in_top=source.wire_bits - 1,
        out_top=sink.wire_bits - 1, out_bits=sink.wire_bits,
        count=count, count_top=count - 1, wires=declared, bases=bases, masks=masks,
        instances=instances, first=number[wires.source], first_bits=wires.bits[wires.source],
        last=number[wires.sink], beats=sink.beats, payload=sink.bits,
        design_id=f"32'h{design_id:08x}", registers=",\n    ".join(_window_ports(0, 6)),
        counters=_counters(len(counter), at.get(COUNTERS, 0)),
    )  # fmt: skip


_TOP = """\
// SPDX-License-Identifier: Apache-2.0
// Written by bitward build; do not edit.

module bitward_top #(
  parameter bit [31:0] GitHash    = '0,  // what identifies a bitstream: the shell sets them, simulation leaves them 0
  parameter bit [31:0] BuildId    = '0,
  parameter bit        GitIsDirty = '0
) (
  input  logic        ap_clk,
  input  logic        ap_rst_n,

  input  logic        s_axis_tvalid,
  output logic        s_axis_tready,
  input  logic [{in_top}:0] s_axis_tdata,

  output logic        m_axis_tvalid,
  input  logic        m_axis_tready,
  output logic [{out_top}:0] m_axis_tdata,
  output logic        m_axis_tlast,

  input  logic        s_axilite_AWVALID,
  output logic        s_axilite_AWREADY,
  input  logic [{address_top}:0] s_axilite_AWADDR,
  input  logic        s_axilite_WVALID,
  output logic        s_axilite_WREADY,
  input  logic [31:0] s_axilite_WDATA,
  input  logic [3:0]  s_axilite_WSTRB,
  output logic        s_axilite_BVALID,
  input  logic        s_axilite_BREADY,
  output logic [1:0]  s_axilite_BRESP,
  input  logic        s_axilite_ARVALID,
  output logic        s_axilite_ARREADY,
  input  logic [{address_top}:0] s_axilite_ARADDR,
  output logic        s_axilite_RVALID,
  input  logic        s_axilite_RREADY,
  output logic [31:0] s_axilite_RDATA,
  output logic [1:0]  s_axilite_RRESP
);

  // ---- one AXI-Lite map ------------------------------------------------------------------------------
  logic [{count_top}:0]       awvalid, awready, wvalid, wready, bvalid, bready, arvalid, arready, rvalid, rready;
  logic [{count_top}:0][1:0]  bresp, rresp;
  logic [{count_top}:0][31:0] rdata;
  logic [{address_top}:0]       awaddr, araddr;
  logic [31:0]                wdata;

  bitward_axilite_split #(
    .Num({count}), .AddrBits({address_bits}),
    .Base({{{bases}}}),
    .Mask({{{masks}}})
  ) i_split (
    .ap_clk, .ap_rst_n,
    .s_axilite_AWVALID, .s_axilite_AWREADY, .s_axilite_AWADDR,
    .s_axilite_WVALID, .s_axilite_WREADY, .s_axilite_WDATA, .s_axilite_WSTRB,
    .s_axilite_BVALID, .s_axilite_BREADY, .s_axilite_BRESP,
    .s_axilite_ARVALID, .s_axilite_ARREADY, .s_axilite_ARADDR,
    .s_axilite_RVALID, .s_axilite_RREADY, .s_axilite_RDATA, .s_axilite_RRESP,
    .m_awvalid(awvalid), .m_awready(awready), .m_awaddr(awaddr),
    .m_wvalid(wvalid), .m_wready(wready), .m_wdata(wdata),
    .m_bvalid(bvalid), .m_bready(bready), .m_bresp(bresp),
    .m_arvalid(arvalid), .m_arready(arready), .m_araddr(araddr),
    .m_rvalid(rvalid), .m_rready(rready), .m_rdata(rdata), .m_rresp(rresp)
  );

  logic [31:0] images_per_transfer, images_sent;
  logic        rearm;

  bitward_registers #(
    .DesignId({design_id}), .GitHash(GitHash), .BuildId(BuildId), .GitIsDirty(GitIsDirty)
  ) i_registers (
    .ap_clk, .ap_rst_n,
    {registers},
    .images_sent_i(images_sent), .images_per_transfer_o(images_per_transfer), .rearm_o(rearm)
  );

{counters}
  // ---- the streams -----------------------------------------------------------------------------------
{wires}

  assign valid_{first} = s_axis_tvalid;
  assign s_axis_tready = ready_{first};
  assign data_{first} = {first_bits}'(s_axis_tdata);

{instances}
  logic [{out_top}:0] result;
  assign result = {out_bits}'(data_{last}[{payload}-1:0]);

  bitward_tlast #(.Width({out_bits}), .Beats({beats})) i_tlast (
    .ap_clk, .ap_rst_n, .images_i(images_per_transfer), .rearm_i(rearm), .images_sent_o(images_sent),
    .s_axis_tvalid(valid_{last}), .s_axis_tready(ready_{last}), .s_axis_tdata(result),
    .m_axis_tvalid, .m_axis_tready, .m_axis_tdata, .m_axis_tlast
  );

endmodule
"""

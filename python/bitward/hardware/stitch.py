# SPDX-License-Identifier: Apache-2.0
"""One SystemVerilog top from a chain of hardware nodes: streams joined, one AXI-Lite map, TLAST at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bitward.errors import ModelError

WINDOW_BYTES = 4096  # least size of a memory's AXI-Lite window
REGISTER_BYTES = 64  # of bitward_registers; an address behind them is answered with DECERR


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
class Node:
    """A hardware node as the top sees it."""

    name: str
    module: str
    parameters: dict[str, int | str]
    in_bits: int  # padded widths of in0_V and out0_V
    out_bits: int
    address_bits: int  # of its AXI-Lite port; 0 if it has none
    has_strobe: bool = True  # FINN's ports have WSTRB, ours do not need it
    idle_axilite: int = 0  # address bits of an AXI-Lite port that is tied off


@dataclass(frozen=True)
class Window:
    """Where a node's AXI-Lite port lies in the map: byte address and size, a power of two."""

    node: str
    base: int
    size: int


def windows(nodes: Sequence[Node]) -> list[Window]:
    """The AXI-Lite map: registers at 0, then every memory, each window aligned to its size.

    >>> windows([Node("a", "m", {}, 8, 8, 13), Node("b", "m", {}, 8, 8, 4)])
    [Window(node='registers', base=0, size=64), Window(node='b', base=4096, size=4096), Window(node='a', base=8192, \
size=8192)]
    """
    sized = [(max(WINDOW_BYTES, 2**node.address_bits), node.name) for node in nodes if node.address_bits]
    result = [Window("registers", 0, REGISTER_BYTES)]
    at = WINDOW_BYTES
    for size, name in sorted(sized, key=lambda item: item[0]):
        at = -(-at // size) * size
        result.append(Window(name, at, size))
        at += size
    return result


def map_size(placed: Sequence[Window]) -> int:
    """Bytes of the whole map, a power of two."""
    return 2 ** math.ceil(math.log2(max(window.base + window.size for window in placed)))


def _literal(value: int | str) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


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


def _instance(node: Node, index: int, window_index: int | None) -> str:
    ports = [
        ".ap_clk(ap_clk)",
        ".ap_rst_n(ap_rst_n)",
        f".in0_V_TVALID(valid[{index}])",
        f".in0_V_TREADY(ready[{index}])",
        f".in0_V_TDATA(data_{index}[{node.in_bits - 1}:0])",
        f".out0_V_TVALID(valid[{index + 1}])",
        f".out0_V_TREADY(ready[{index + 1}])",
        f".out0_V_TDATA(data_{index + 1})",
    ]
    if window_index is not None:
        ports += _window_ports(window_index, node.address_bits)
        if node.has_strobe:
            ports.append(".s_axilite_WSTRB(4'hF)")
    elif node.idle_axilite:
        ports += _idle_ports()
    body = ",\n    ".join(ports)
    return f"  {node.module}{_parameters(node.parameters)} i_{node.name} (\n    {body}\n  );\n"


def top(nodes: Sequence[Node], placed: Sequence[Window], source: Stream, sink: Stream, design_id: int) -> str:
    """The text of `bitward_top.sv`. Raises ModelError when two neighbours' streams differ in width.

    Its AXI-Lite addresses are as wide as the map: an interconnect cuts the physical address to an offset in it.
    """
    for left, right in zip(nodes, nodes[1:], strict=False):
        if left.out_bits != right.in_bits:
            raise ModelError(
                f"nodes {left.name} and {right.name} must have streams of one width, got {left.out_bits} and "
                f"{right.in_bits} bits: choose another folding."
            )
    at = {window.node: number for number, window in enumerate(placed)}
    count, address_bits = len(placed), int(math.log2(map_size(placed)))
    widths = [nodes[0].in_bits, *(node.out_bits for node in nodes)]
    wires = "\n".join(f"  logic [{width - 1}:0] data_{index};" for index, width in enumerate(widths))
    bases = ", ".join(f"32'h{window.base:x}" for window in reversed(placed))
    masks = ", ".join(f"32'h{window.size - 1:x}" for window in reversed(placed))
    instances = "\n".join(_instance(node, index, at.get(node.name)) for index, node in enumerate(nodes))
    return _TOP.format(
        address_bits=address_bits, address_top=address_bits - 1, in_top=source.wire_bits - 1,
        out_top=sink.wire_bits - 1, out_bits=sink.wire_bits,
        count=count, count_top=count - 1, links=len(nodes), wires=wires, bases=bases, masks=masks,
        instances=instances, first_bits=widths[0], last=len(nodes), beats=sink.beats, payload=sink.bits,
        design_id=f"32'h{design_id:08x}", registers=",\n    ".join(_window_ports(0, 6)),
    )  # fmt: skip


_TOP = """\
// SPDX-License-Identifier: Apache-2.0
// Written by bitward build; do not edit.

module bitward_top (
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

  bitward_registers #(.DesignId({design_id})) i_registers (
    .ap_clk, .ap_rst_n,
    {registers},
    .images_sent_i(images_sent), .images_per_transfer_o(images_per_transfer), .rearm_o(rearm)
  );

  // ---- the chain -------------------------------------------------------------------------------------
  logic [{links}:0] valid, ready;
{wires}

  assign valid[0]      = s_axis_tvalid;
  assign s_axis_tready = ready[0];
  assign data_0        = {first_bits}'(s_axis_tdata);

{instances}
  logic [{out_top}:0] result;
  assign result = {out_bits}'(data_{last}[{payload}-1:0]);

  bitward_tlast #(.Width({out_bits}), .Beats({beats})) i_tlast (
    .ap_clk, .ap_rst_n, .images_i(images_per_transfer), .rearm_i(rearm), .images_sent_o(images_sent),
    .s_axis_tvalid(valid[{last}]), .s_axis_tready(ready[{last}]), .s_axis_tdata(result),
    .m_axis_tvalid, .m_axis_tready, .m_axis_tdata, .m_axis_tlast
  );

endmodule
"""

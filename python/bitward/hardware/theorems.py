# SPDX-License-Identifier: Apache-2.0
"""Theorems about redundancy, each a module `proof` around ours whose output `bad` must never be 1.

Words, upsets, traffic and stalls are its free inputs. Where copies and check bits stand is taken from bitward.schemes
and bitward.layout: the RTL is proven against the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitward.layout import BeatLayout
from bitward.schemes import Tmr

WIDTHS = range(2, 9)  # weights, biases and thresholds of these widths are proven
WIDER = range(9, 33)  # biases and thresholds may be this wide: their votes and read paths are proven
SEARCHED = range(2, 13)  # thresholds of these widths are proven in a stage of the search; wider ones take ABC too long
LANES = (1, 2, 3, 8)
DEPTH = 2  # rows of the memories in proofs: reduced, as every row is treated alike
DIRECT_CODE_BITS = 4  # up to this width a SEC-DED read path is proven against the plain one in one go

MEMORY = ("weights", "voter", "disagree", "secded")  # modules of ours that a memory of stored words is made of


@dataclass(frozen=True)
class Theorem:
    """What is claimed of the modules `modules`; `bench` is the SystemVerilog of `proof`.

    A sequential one has a clock `ap_clk` and starts from reset with memories of zeros. One that does not `hold` is a
    control: it must be refuted.
    """

    name: str
    says: str
    modules: tuple[str, ...]
    bench: str
    holds: bool = True


def votes(lanes: int, bits: int, voted: int) -> Theorem:
    """Whatever upsets leave two copies of every bit alone are masked and counted; two of a bit's copies defeat it."""
    layout = BeatLayout(Tmr(bits, voted), lanes)
    rest, masked, counted, defeated, bits_differ = bits - voted, [], [], [], []
    for lane in range(lanes):
        for bit in range(bits):
            at = [int(layout.position[lane, stored]) for stored in _stored_bits(layout, bit)]
            wrong = f"(read[{lane * bits + bit}] ^ word[{lane * bits + bit}])"
            if bit < rest:
                masked.append(f"{wrong} == flip[{at[0]}]")
                continue
            a, b, c = (f"flip[{position}]" for position in at)
            counted.append(f"{a} | {b} | {c}")
            masked.append(f"{wrong} == ({a} & {b} | {a} & {c} | {b} & {c})")
            defeated.append(f"({a} + {b} + {c} < 2'd2)")
            x, y, z = (f"any_beat[{position}]" for position in at)
            bits_differ.append(f"!({x} == {y} && {y} == {z})")
    stored = _stored(layout, [f"word[{index}]" for index in range(lanes * bits)])
    width = layout.width
    return Theorem(
        f"vote {lanes}x{bits}v{voted}",
        "one upset copy of each bit, at most: read right and counted; two or three: read wrong; a flag: copies differ",
        ("voter", "disagree"),
        f"""
module proof (input logic [{lanes * bits - 1}:0] word, input logic [{width - 1}:0] flip,
              input logic [{width - 1}:0] any_beat, output logic bad);
  wire [{lanes * bits - 1}:0] read;
  wire corrected, differ;
  wire [{width - 1}:0] stored = {stored} ^ flip;
  bitward_voter #(.NumWords({lanes}), .Bits({bits}), .Voted({voted})) i_voter (.stored_i(stored), .word_o(read));
  bitward_disagree #(.NumWords({lanes}), .Bits({bits}), .Voted({voted})) i_counted (
    .stored_i(stored), .corrected_o(corrected));
  bitward_disagree #(.NumWords({lanes}), .Bits({bits}), .Voted({voted})) i_any (
    .stored_i(any_beat), .corrected_o(differ));
  wire right = {" && ".join(masked)};
  wire minor = {" && ".join(defeated)};
  assign bad = !right || (minor && corrected != ({" | ".join(counted)})) || differ != ({" || ".join(bits_differ)});
endmodule
""",
    )


def _stored_bits(layout: BeatLayout, bit: int) -> list[int]:
    """The stored bits that are that bit of the word or a copy of it."""
    scheme = layout.scheme
    return [stored for stored in range(scheme.lane_bits) if scheme.origin(stored)[1] == bit]


def _stored(layout: BeatLayout, word: list[str]) -> str:
    """A row as a concatenation, from the literals of its plain words' bits; padding is 0."""
    scheme, slots = layout.scheme, ["1'b0"] * layout.width
    for lane in range(layout.lanes):
        for stored in range(scheme.lane_bits):
            slots[int(layout.position[lane, stored])] = word[lane * scheme.bits + scheme.origin(stored)[1]]
    if scheme.check_bits:
        for check, bit in zip(check_masks(layout), layout.check_position, strict=True):
            slots[int(bit)] = " ^ ".join(word[at] for at in np.flatnonzero(check)) or "1'b0"
    return "{" + ", ".join(reversed(slots)) + "}"


def codewords(layout: BeatLayout) -> NDArray[np.uint8]:
    """The beats of one plain bit each, shape (plain bits, width): all others are their exclusive ors."""
    bits, count = layout.scheme.bits, layout.scheme.bits * layout.lanes
    unit = np.eye(count, dtype=np.int64).reshape(count, layout.lanes, bits)
    rows = layout.encode((unit << np.arange(bits)).sum(axis=-1).astype(np.uint64))
    octets = np.ascontiguousarray(rows.astype("<u4")).view(np.uint8)
    return np.unpackbits(octets, axis=1, bitorder="little")[:, : layout.width]


def check_masks(layout: BeatLayout) -> NDArray[np.uint8]:
    """Which plain bits each check bit is the parity of, shape (check bits, plain bits)."""
    return codewords(layout)[:, layout.check_position].T


def read_path(layout: BeatLayout, upsets: int = 1, holds: bool = True) -> Theorem:
    """A protected memory gives the words of a plain one, cycle by cycle, whatever is written, read back and stalled.

    What AXI-Lite writes has at most `upsets` upsets: so many copies of each voted bit, or bits of a codeword. The plain
    memory keeps with each row whether it had one: that is when the protected one must raise corrected_o.
    """
    scheme, lanes, width = layout.scheme, layout.lanes, layout.width
    plain = scheme.bits * lanes
    if scheme.check_bits:
        which = [f"at{index}" for index in range(upsets)]
        stored = _stored(layout, [f"word[{at}]" for at in range(plain)])
        flips = " | ".join(f"({width}'(is_upset) << {name})" for name in which) or "'0"
        declared = "".join(f"input logic [{(width - 1).bit_length() - 1}:0] {name}, " for name in which)
        upset = " || ".join(f"(is_upset && {name} < {width})" for name in which) or "1'b0"
        row = f"{stored} ^ ({flips})"
        free = f"input logic is_upset, {declared}"
    else:
        row, free, upset = _tmr_upsets(layout, upsets)
    address = max(2, (DEPTH - 1).bit_length() + 2)
    return Theorem(
        f"read path {_shape(layout)}" + ("" if holds else f", {upsets} upsets"),
        "a protected memory gives a plain one's words in a plain one's cycles, and flags the upset rows it gives",
        MEMORY,
        _READ_PATH.format(
            free=free, plain=plain, top=plain - 1, address=address - 1, row=row, upset=upset, depth=DEPTH,
            parameters=_parameters(layout),
        ),
        holds,
    )  # fmt: skip


def _shape(layout: BeatLayout) -> str:
    scheme = layout.scheme
    return f"{'secded ' if scheme.check_bits else ''}{layout.lanes}x{scheme.bits}" + f"v{scheme.voted}" * (
        scheme.voted > 0
    )


def _tmr_upsets(layout: BeatLayout, upsets: int) -> tuple[str, str, str]:
    """(the row written, its free inputs, whether it has an upset): input `which` names the upset copies of each bit."""
    scheme, lanes = layout.scheme, layout.lanes
    rest, slots = scheme.bits - scheme.voted, ["1'b0"] * layout.width
    for lane in range(lanes):
        for stored in range(scheme.lane_bits):
            copy, bit = scheme.origin(stored)
            text = f"word[{lane * scheme.bits + bit}]"
            if bit >= rest:
                at = 2 * (lane * scheme.voted + bit - rest)
                hit = [f"(which{number}[{at}+:2] == 2'd{copy})" for number in range(upsets)]
                text = f"({text} ^ ({' | '.join(hit)}))"
            slots[int(layout.position[lane, stored])] = text
    count = lanes * scheme.voted
    free = "".join(f"input logic [{2 * count - 1}:0] which{number}, " for number in range(upsets))
    upset = " || ".join(f"which{number}[{2 * at}+:2] != 2'd3" for number in range(upsets) for at in range(count))
    return "{" + ", ".join(reversed(slots)) + "}", free, upset or "1'b0"


_BUS = """\
    .ap_clk, .ap_rst_n,
    .s_axilite_AWVALID(awvalid), .s_axilite_AWREADY(answers_{n}[0]), .s_axilite_AWADDR(awaddr),
    .s_axilite_WVALID(wvalid), .s_axilite_WREADY(answers_{n}[1]), .s_axilite_WDATA({data}),
    .s_axilite_BVALID(answers_{n}[2]), .s_axilite_BREADY(bready), .s_axilite_BRESP(responses_{n}[1:0]),
    .s_axilite_ARVALID(arvalid), .s_axilite_ARREADY(answers_{n}[3]), .s_axilite_ARADDR(araddr),
    .s_axilite_RVALID(answers_{n}[4]), .s_axilite_RREADY(rready), .s_axilite_RDATA(rdata_{n}),
    .s_axilite_RRESP(responses_{n}[3:2])"""
_READ_PATH = (
    """
module proof (
  input logic ap_clk, input logic rst_n, input logic [{top}:0] word, {free}input logic ready,
  input logic awvalid, input logic wvalid, input logic bready, input logic arvalid, input logic rready,
  input logic [{address}:0] awaddr, input logic [{address}:0] araddr, output logic bad
);
  logic started = 1'b0;  // reset comes first
  always_ff @(posedge ap_clk) started <= 1'b1;
  wire ap_rst_n = rst_n && started;
  wire upset = {upset};

  logic [4:0] answers_0, answers_1;
  logic [3:0] responses_0, responses_1;
  logic [31:0] rdata_0, rdata_1;  // not compared: one has copies, the other has none
  logic valid, corrected, detected, plain_valid, take, valid_q;
  logic [{top}:0] read;
  logic [{plain}:0] plain_read, read_q;
  bitward_weights #(.Depth({depth}), {parameters}, .RamStyle("logic")) i_protected (
"""
    + _BUS.replace("{n}", "0").replace("{data}", "32'({row})")
    + """,
    .valid_o(valid), .ready_i(ready), .word_o(read), .corrected_o(corrected), .detected_o(detected)
  );
  bitward_weights #(.Depth({depth}), .Lanes(1), .WeightBits({plain} + 1), .RamStyle("logic")) i_plain (
"""
    + _BUS.replace("{n}", "1").replace("{data}", "32'({{upset, word}})")
    + """,
    .valid_o(plain_valid), .ready_i(take), .word_o(plain_read), .corrected_o(), .detected_o()
  );
  // The register that the decoder of a protected memory ends in.
  assign take = ready || !valid_q;
  always_ff @(posedge ap_clk) valid_q <= ap_rst_n && (take ? plain_valid : valid_q);
  always_ff @(posedge ap_clk) if (take) read_q <= plain_read;

  assign bad = ap_rst_n && (answers_0 != answers_1 || responses_0 != responses_1 || valid != valid_q ||
                            (valid && read != read_q[{top}:0]) ||
                            corrected != (valid && ready && read_q[{plain}]) || detected);
endmodule
"""
)


def decoded_path(layout: BeatLayout) -> Theorem:
    """A protected memory is a plain one of the same stored bits, the decoder and a register, whatever is written."""
    scheme, lanes = layout.scheme, layout.lanes
    shape = f".NumWords({lanes}), .Bits({scheme.bits})"
    decoder = (
        f"bitward_secded #({shape}) i_decoder (.stored_i(row), .word_o(word), .corrected_o(one), .detected_o(two));"
    )
    if scheme.voted:
        decoder = f"""bitward_voter #({shape}, .Voted({scheme.voted})) i_voter (.stored_i(row), .word_o(word));
  bitward_disagree #({shape}, .Voted({scheme.voted})) i_disagree (.stored_i(row), .corrected_o(one));
  assign two = 1'b0;"""
    segments = 2 ** (layout.segments - 1).bit_length()
    return Theorem(
        f"decoded path {_shape(layout)}",
        "a protected memory is a plain memory of its rows, which are read back, then the decoder, then a register",
        MEMORY,
        _DECODED_PATH.format(
            width=layout.width, row_top=layout.width - 1, top=scheme.bits * lanes - 1, depth=DEPTH, decoder=decoder,
            parameters=_parameters(layout), address=max(2, (DEPTH * segments - 1).bit_length() + 2) - 1,
        ),
    )  # fmt: skip


def _parameters(layout: BeatLayout) -> str:
    """The parameters of bitward_weights."""
    scheme, code = layout.scheme, int(layout.scheme.check_bits > 0)
    return f".Lanes({layout.lanes}), .WeightBits({scheme.bits}), .Voted({scheme.voted}), .Secded({code})"


_DECODED_PATH = (
    """
module proof (
  input logic ap_clk, input logic rst_n, input logic [31:0] data, input logic ready,
  input logic awvalid, input logic wvalid, input logic bready, input logic arvalid, input logic rready,
  input logic [{address}:0] awaddr, input logic [{address}:0] araddr, output logic bad
);
  logic started = 1'b0;  // reset comes first
  always_ff @(posedge ap_clk) started <= 1'b1;
  wire ap_rst_n = rst_n && started;

  logic [4:0] answers_0, answers_1;
  logic [3:0] responses_0, responses_1;
  logic [31:0] rdata_0, rdata_1;
  logic valid, corrected, detected, plain_valid, take, valid_q, one, two, one_q, two_q;
  logic [{top}:0] read, word, word_q;
  logic [{row_top}:0] row;
  bitward_weights #(.Depth({depth}), {parameters}, .RamStyle("logic")) i_protected (
"""
    + _BUS.replace("{n}", "0").replace("{data}", "data")
    + """,
    .valid_o(valid), .ready_i(ready), .word_o(read), .corrected_o(corrected), .detected_o(detected)
  );
  bitward_weights #(.Depth({depth}), .Lanes(1), .WeightBits({width}), .RamStyle("logic")) i_plain (
"""
    + _BUS.replace("{n}", "1").replace("{data}", "data")
    + """,
    .valid_o(plain_valid), .ready_i(take), .word_o(row), .corrected_o(), .detected_o()
  );
  {decoder}
  assign take = ready || !valid_q;
  always_ff @(posedge ap_clk) valid_q <= ap_rst_n && (take ? plain_valid : valid_q);
  always_ff @(posedge ap_clk) if (take) {{word_q, one_q, two_q}} <= {{word, one, two}};

  assign bad = ap_rst_n && (answers_0 != answers_1 || responses_0 != responses_1 || rdata_0 != rdata_1 ||
                            valid != valid_q || (valid && read != word_q) ||
                            corrected != (valid && ready && one_q) || detected != (valid && ready && two_q));
endmodule
"""
)


def search_stage(bits: int, upsets: int = 1, holds: bool = True) -> Theorem:
    """A stage of the threshold search with three copies is one with a single copy, whatever is written to it.

    What is written has at most `upsets` upset copies of each bit; `differ_o` rises for the rows that a search uses.
    """
    layout = BeatLayout(Tmr(bits, bits), 1)
    row, free, upset = _tmr_upsets(layout, upsets)
    return Theorem(
        f"search stage 1x{bits}v{bits}" + ("" if holds else f", {upsets} upsets"),
        "a triplicated stage finds what a plain one finds, and when; upset thresholds used are flagged; rows read back",
        ("voter", "disagree", "threshold_copy", "threshold_stage"),
        _SEARCH_STAGE.format(free=free, row=row, upset=upset, bits=bits, top=bits - 1, row_top=layout.width - 1),
        holds,
    )


_STAGE = """\
    .ap_clk, .ap_rst_n, .search_i, .read_i, .fold_i, .lane_i, .found_i, .element_i,
    .search_o(search_{n}), .read_o(read_{n}), .fold_o(fold_{n}), .lane_o(lane_{n}), .found_o(found_{n}),
    .element_o(element_{n}), .write_i, .write_fold_i, .write_lane_i, .write_index_i,"""
_SEARCH_STAGE = (
    """
module proof (
  input logic ap_clk, input logic rst_n, input logic [{top}:0] word, {free}
  input logic search_i, input logic read_i, input logic fold_i, input logic lane_i, input logic [1:0] found_i,
  input logic [{top}:0] element_i, input logic differ_i, input logic [{row_top}:0] row_i,
  input logic write_i, input logic write_fold_i, input logic write_lane_i, input logic [1:0] write_index_i,
  output logic bad
);
  // Two folds, stage 1 of 2: both bits of the address matter; the index 3 is behind the last threshold.
  localparam int unsigned Steps = 3;
  logic started = 1'b0;
  always_ff @(posedge ap_clk) started <= 1'b1;
  wire ap_rst_n = rst_n && started;
  wire [{row_top}:0] row = {row};

  logic search_0, search_1, read_0, read_1, fold_0, fold_1, lane_0, lane_1, differ;
  logic [1:0] found_0, found_1;
  logic [{top}:0] element_0, element_1;
  bitward_threshold_stage #(
    .Stage(1), .Levels(2), .Folds(2), .Steps(Steps), .InBits({bits}), .Bits({bits}), .Voted({bits}), .RamStyle("logic")
  ) i_copies (
"""
    + _STAGE.replace("{n}", "0")
    + """ .stored_i(row),
    .differ_i, .differ_o(differ), .row_i, .row_o
  );
  bitward_threshold_stage #(
    .Stage(1), .Levels(2), .Folds(2), .Steps(Steps), .InBits({bits}), .Bits({bits}), .RamStyle("logic")
  ) i_plain (
"""
    + _STAGE.replace("{n}", "1")
    + """ .stored_i(word),
    .differ_i(1'b0), .differ_o(), .row_i('0), .row_o()
  );

  // What is stored, and which of it has an upset, along the stage's two cycles.
  logic [3:0]              upset_q;
  logic [3:0][{row_top}:0] stored_q;
  logic [{row_top}:0]      there_q, row_q, row_2q, row_o;
  logic [1:0]              at_q;
  logic                    lane_q, used_q, differ_q, differ_2q;
  wire  [1:0]              to = {{write_fold_i, write_index_i[1]}};
  always_ff @(posedge ap_clk) begin
    if (write_i && !write_lane_i && !write_index_i[0]) begin
      upset_q[to]  <= {upset};
      stored_q[to] <= row;
    end
    used_q    <= upset_q[{{fold_i, found_i[1]}}];
    there_q   <= stored_q[{{fold_i, found_i[1]}}];
    at_q      <= found_i;
    lane_q    <= lane_i;
    differ_q  <= differ_i;
    row_q     <= row_i;
    differ_2q <= differ_q || (used_q && 32'(at_q) < Steps);
    row_2q    <= row_q | (!at_q[0] && !lane_q ? there_q : '0);
  end

  assign bad = ap_rst_n && (search_0 != search_1 || read_0 != read_1 || fold_0 != fold_1 || lane_0 != lane_1 ||
                            found_0 != found_1 || element_0 != element_1 || differ != differ_2q ||
                            row_o != row_2q);
endmodule
"""
)

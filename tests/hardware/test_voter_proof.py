# SPDX-License-Identifier: Apache-2.0
"""Proofs with Yosys' SAT solver: what a voter masks, for every word and every upset, and what synthesis makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bitward.errors import ToolError
from bitward.hardware.synthesis import yosys
from bitward.layout import BeatLayout
from bitward.schemes import Tmr

VOTER = Path(__file__).resolve().parents[2] / "hls" / "rtl" / "bitward_voter.sv"
SHAPES = [(1, 2, 1), (1, 4, 1), (1, 4, 4), (2, 4, 1), (3, 4, 2), (8, 4, 1), (12, 8, 2), (24, 4, 1)]
IDS = [f"{words}x{bits}v{voted}" for words, bits, voted in SHAPES]
ONE = "(flip & (flip - 1)) == 0"
MAJORITY = "(a & b) | (a & c) | (b & c)"
FAILED = r"^Yosys must end without an error, got 'ERROR: Called with -verify and proof did fail!'; log: "


def upset_bench(words: int, bits: int, voted: int, assume: str) -> str:
    """A module whose output `ok` says: if the upset `flip` of the stored beat is as assumed, every voted bit read is
    right, and every other bit read is wrong exactly where its own stored bit is upset. Positions: bitward.layout."""
    layout = BeatLayout(Tmr(bits, voted), words)
    rest = bits - voted
    right = []
    slots: dict[int, str] = {}
    for lane in range(words):
        for stored_bit in range(layout.scheme.stored_bits):
            bit = layout.scheme.origin(stored_bit)[1]
            slots[int(layout.position[lane, stored_bit])] = f"word[{lane * bits + bit}]"
        for bit in range(bits):
            plain, position = lane * bits + bit, int(layout.position[lane, bit])
            upset = "1'b0" if bit >= rest else f"flip[{position}]"
            right.append(f"(read[{plain}] ^ word[{plain}]) == {upset}")
    stored = [slots.get(position, "1'b0") for position in reversed(range(layout.width))]
    return f"""
module proof (input logic [{words * bits - 1}:0] word, input logic [{layout.width - 1}:0] flip, output logic ok);
  wire [{layout.width - 1}:0] stored = {{{", ".join(stored)}}};
  wire [{words * bits - 1}:0] read;
  bitward_voter #(.NumWords({words}), .Bits({bits}), .Voted({voted})) i_voter (.stored_i(stored ^ flip), .word_o(read));
  assign ok = !({assume}) || ({" && ".join(right)});
endmodule
"""


_PROVE = """\
read_slang --top proof voter.sv proof.sv
hierarchy -top proof
setattr -mod -unset keep_hierarchy *
flatten
opt
sat -verify -prove ok 1 proof
"""


def prove(folder: Path, shape: tuple[int, int, int], assume: str, voter: str) -> None:
    """`ok` holds for every word and every upset. Raises ToolError where it does not."""
    (folder / "voter.sv").write_text(voter)
    (folder / "proof.sv").write_text(upset_bench(*shape, assume))
    assert "SUCCESS!" in yosys(_PROVE, folder, folder / "proof.log", 120)


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
def test_no_single_upset_reaches_a_voted_bit(shape, tmp_path):
    prove(tmp_path, shape, ONE, VOTER.read_text())


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
def test_no_burst_of_up_to_four_adjacent_bits_reaches_a_voted_bit(shape, tmp_path):
    """Copies stand at least four bits apart, so such a burst hits one copy of any bit."""
    width = BeatLayout(Tmr(*shape[1:]), shape[0]).width
    bursts = " || ".join(f"(flip & ~({width}'hf << {low})) == 0" for low in range(max(1, width - 3)))
    prove(tmp_path, shape, bursts, VOTER.read_text())


@pytest.mark.parametrize("shape", [(1, 4, 1), (8, 4, 1)], ids=["1x4v1", "8x4v1"])
def test_two_upset_copies_of_a_bit_do_reach_it(shape, tmp_path):
    """Negative control: the same proof fails where two copies of the last lane's top bit are upset."""
    words, bits, voted = shape
    layout = BeatLayout(Tmr(bits, voted), words)
    pair = np.sort(layout.position[-1, [bits - 1, bits]])
    with pytest.raises(ToolError, match=FAILED):
        prove(
            tmp_path,
            shape,
            f"flip == (({layout.width}'d1 << {pair[0]}) | ({layout.width}'d1 << {pair[1]}))",
            VOTER.read_text(),
        )


def test_a_voter_that_does_not_vote_fails_the_proof(tmp_path):
    """Negative control: the first copy alone is read."""
    text = VOTER.read_text()
    assert text.count(MAJORITY) == 1
    with pytest.raises(ToolError, match=FAILED):
        prove(tmp_path, (8, 4, 1), ONE, text.replace(MAJORITY, "a"))


_EQUIVALENT = """\
read_slang --top bitward_voter {parameters} gate.sv
synth_xilinx -family xcup -flatten -noiopad -noclkbuf -run begin:check
tee -q -o statistics.json stat -json -tech xilinx
read_verilog -overwrite +/xilinx/cells_sim.v
hierarchy -top bitward_voter
flatten
rename bitward_voter gate
design -stash netlist
read_slang --top bitward_voter {parameters} gold.sv
rename bitward_voter gold
design -copy-from netlist -as gate gate
setattr -mod -unset keep_hierarchy gold gate
miter -equiv -flatten -make_outputs gold gate equal
sat -verify -prove trigger 0 equal
"""


def equivalent(folder: Path, shape: tuple[int, int, int], gate: str) -> dict[str, int]:
    """The synthesised netlist of `gate` computes what bitward_voter says, for every input; its cells by type."""
    (folder / "gold.sv").write_text(VOTER.read_text())
    (folder / "gate.sv").write_text(gate)
    parameters = " ".join(f"-G {k}={v}" for k, v in zip(("NumWords", "Bits", "Voted"), shape, strict=True))
    said = yosys(_EQUIVALENT.format(parameters=parameters), folder, folder / "miter.log", 120)
    assert "SUCCESS!" in said
    (module,) = json.loads((folder / "statistics.json").read_text())["modules"].values()
    return module["num_cells_by_type"]


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
def test_the_netlist_is_the_rtl_and_takes_one_lut3_per_voted_bit(shape, tmp_path):
    words, _, voted = shape
    assert equivalent(tmp_path, shape, VOTER.read_text()) == {"LUT3": words * voted}


def test_another_netlist_fails_the_equivalence_proof(tmp_path):
    """Negative control: AND instead of majority."""
    with pytest.raises(ToolError, match=FAILED):
        equivalent(tmp_path, (8, 4, 1), VOTER.read_text().replace(MAJORITY, "a & b & c"))

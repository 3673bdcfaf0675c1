# SPDX-License-Identifier: Apache-2.0
"""The branch of FINN's matrix-vector unit that only synthesis takes gives what the simulated one gives."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bitward.errors import ToolError
from bitward.hardware import dsp_branch
from bitward.hardware.dsp_branch import MvuShape, compare_branches, dsp_variant, shapes_of
from bitward.hardware.rtllib import library_root
from bitward.tools import resource

PACKED = MvuShape(
    pe=5, simd=3, weight_bits=4, act_bits=4, act_signed=0, acc_bits=14, beats=3
)  # 4 lanes a slice, then 1
SHAPES = [
    PACKED,
    MvuShape(pe=3, simd=2, weight_bits=2, act_bits=2, act_signed=1, acc_bits=10, beats=1),
    MvuShape(pe=2, simd=1, weight_bits=8, act_bits=8, act_signed=0, acc_bits=20, beats=7),
    MvuShape(pe=2, simd=4, weight_bits=3, act_bits=8, act_signed=1, acc_bits=16, beats=4),
]


@pytest.mark.parametrize("shape", [PACKED, *(pytest.param(s, marks=pytest.mark.slow) for s in SHAPES[1:])], ids=str)
def test_the_dsp_branch_equals_the_behavioural_one(shape, tmp_path):
    twins = compare_branches(shape, tmp_path, cycles=6000)
    assert twins.compared > 500
    assert twins.different == 0


def test_a_wrong_slice_is_seen(tmp_path, monkeypatch):
    """Negative control: a pre-adder that adds where the unit means it to subtract."""

    def broken(path: str):
        found = resource(path)
        if not path.endswith("DSP48E2.sv"):
            return found
        text = found.read_text()
        assert "$signed(D) - $signed" in text
        other = tmp_path / "broken.sv"
        other.write_text(text.replace("$signed(D) - $signed", "$signed(D) + $signed"))
        return other

    monkeypatch.setattr(dsp_branch, "resource", broken)
    work = tmp_path / "work"
    work.mkdir()
    twins = compare_branches(PACKED, work, cycles=2000)
    assert 0 < twins.different <= twins.compared


def test_an_unknown_source_is_refused():
    with pytest.raises(ToolError, match=r"^finn-rtllib/mvu/mvu\.sv must choose its branch by VERILATOR in the three"):
        dsp_variant("module mvu; endmodule")


def test_the_variant_takes_the_slices_in_simulation():
    text = dsp_variant((library_root() / "mvu" / "mvu.sv").read_text())
    assert "module mvu_dsp #(" in text and "VERILATOR" not in text.replace("For Verilator", "")


def test_the_shapes_of_a_build_are_listed_once(tmp_path):
    unit = (
        "  bitward_mvau #(.Mw(9), .Mh(8), .Pe(4), .Simd(3), .WeightBits(4), .Voted(1), .ActBits(4), .ActSigned(0), "
        '.AccBits(12), .DspVersion(2), .InitFile("{0}.dat"), .RamStyle("block")) i_{0} (\n'
    )
    (tmp_path / "rtl").mkdir()
    (tmp_path / "rtl" / "bitward_top.sv").write_text(unit.format("A") + unit.format("B"))
    assert shapes_of(tmp_path) == [MvuShape(4, 3, 4, 4, 0, 12, 3)]


@pytest.mark.parametrize("said", ["", "0 0\n", "120 of 120\n"])
def test_twins_that_give_nothing_are_no_result(said, tmp_path, monkeypatch):
    """Nothing compared is not nothing different."""
    monkeypatch.setattr(dsp_branch, "run", lambda *_, **__: SimpleNamespace(stdout=said))
    sentence = rf"^the simulated twins must give results, got '{said.strip()}'; log: {tmp_path}/run\.log$"
    with pytest.raises(ToolError, match=sentence):
        compare_branches(PACKED, tmp_path)

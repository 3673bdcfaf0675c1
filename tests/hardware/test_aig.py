# SPDX-License-Identifier: Apache-2.0
"""And-inverter graphs: a full adder, evaluated against arithmetic, composed, and its claims settled by ABC."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bitward.errors import ToolError
from bitward.hardware import aig
from bitward.hardware.aig import Aig, Composer, abc
from bitward.hardware.synthesis import yosys

ADDER = """
module adder (input logic a, input logic b, input logic c, output logic [1:0] sum);
  assign sum = a + b + c;
endmodule
"""
SCRIPT = "read_slang --top adder adder.sv\ntechmap\nopt\naigmap\nopt_clean\nwrite_aiger -ascii -symbols adder.aag\n"


@pytest.fixture(scope="module")
def adder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adder")
    (folder / "adder.sv").write_text(ADDER)
    yosys(SCRIPT, folder, folder / "log")
    return Aig.read((folder / "adder.aag").read_text())


def test_a_graph_computes_what_the_module_says(adder):
    cases = np.array(list(itertools.product((False, True), repeat=3))).T
    out = adder.evaluate(dict(zip("abc", cases, strict=True)), 8)
    assert np.array_equal(out["sum[0]"] + 2 * out["sum[1]"], cases.sum(axis=0))
    assert not adder.evaluate({}, 1)["sum[1]"].any()  # what is not given is 0


def test_claims_are_proven_or_not(adder, tmp_path):
    """Two adders, the inputs of one turned about: their sums are equal; with one inverted, they are not."""
    for inverted, expected in [(0, True), (1, False)]:
        whole = Composer(3)
        first, second = whole.instance(adder, [2, 4, 6]), whole.instance(adder, [6, 2, 4 ^ inverted])
        whole.bad = [whole.differ(first[name], second[name]) for name in first]
        assert whole.is_never_bad(tmp_path) is expected


def test_an_output_that_is_always_true_is_not_never_bad(tmp_path):
    whole = Composer(1)
    whole.bad = [whole.land(2, 3) ^ 1]
    assert not whole.is_never_bad(tmp_path)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", r"^Yosys must write an AIGER file without latches, got \[\]: check the module\.$"),
        ("aag 1 0 1 0 0\n2 2\n", r"^Yosys must write an AIGER file without latches, got \['aag 1 0 1 0 0'\]:"),
        ("aag 1 1 0 1 0\n2\n2\n", r"^an AIGER file must name its 2 ports and count in order, got aag 1 1 0 1 0\.$"),
        ("aag 1 1 0 1 0\n4\n4\ni0 a\no0 y\n", r"^an AIGER file must name its 2 ports and count in order,"),
    ],
)
def test_other_files_are_refused(text, match):
    with pytest.raises(ToolError, match=match):
        Aig.read(text)


def test_without_pyosys_there_is_no_abc(tmp_path, monkeypatch):
    monkeypatch.setattr(aig, "find_spec", lambda name: None)
    with pytest.raises(
        ToolError, match=r"^this environment must hold the PyPI package pyosys \(Yosys 0\.70\), got none:"
    ):
        abc("help", tmp_path)

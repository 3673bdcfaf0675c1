# SPDX-License-Identifier: Apache-2.0
"""Theorems about redundancy hold, and break where the RTL is broken: some here, all of them in `make proofs`."""

from __future__ import annotations

from pathlib import Path

import pytest

from bitward.errors import ToolError
from bitward.hardware import mutants, proofs
from bitward.hardware.proofs import check, check_code, digests, theorems
from bitward.hardware.theorems import WIDTHS, decoded_path, read_path, search_stage, votes
from bitward.layout import BeatLayout
from bitward.schemes import Secded, Tmr

RTL = Path(__file__).resolve().parents[2] / "hls" / "rtl"
MAJORITY = "(a & b) | (a & c) | (b & c)"
QUICK = [
    votes(1, 2, 1),
    votes(2, 4, 1),
    votes(3, 4, 4),
    votes(8, 8, 2),
    read_path(BeatLayout(Tmr(4, 1), 1)),
    read_path(BeatLayout(Tmr(2, 2), 1)),
    decoded_path(BeatLayout(Secded(4, 1), 1)),
    search_stage(3),
]
CONTROLS = [
    read_path(BeatLayout(Tmr(4, 1), 1), 2, False),
    read_path(BeatLayout(Secded(2, 1), 1), 2, False),
    search_stage(3, 2, False),
]


def edited(module: str, old: str, new: str) -> dict[str, str]:
    """The module with one piece of its text replaced."""
    text = (RTL / f"bitward_{module}.sv").read_text()
    assert text.count(old) == 1
    return {module: text.replace(old, new)}


@pytest.mark.parametrize("theorem", QUICK, ids=lambda theorem: theorem.name)
def test_a_theorem_holds(theorem, tmp_path):
    assert check(theorem, tmp_path).is_proven is True


@pytest.mark.parametrize("theorem", CONTROLS, ids=lambda theorem: theorem.name)
def test_two_upsets_of_a_bit_s_copies_defeat_it(theorem, tmp_path):
    verdict = check(theorem, tmp_path)
    assert (verdict.is_proven, verdict.is_as_it_must_be) == (False, True)


@pytest.mark.parametrize(("lanes", "bits"), [(1, 2), (2, 4), (8, 4)])
def test_a_code_corrects_one_upset_detects_two_and_flags_no_codeword(lanes, bits, tmp_path):
    assert check_code(lanes, bits, tmp_path).is_proven is True


BROKEN = [
    (votes(2, 4, 1), edited("voter", MAJORITY, "a")),  # nothing is voted
    (votes(2, 4, 1), edited("disagree", "|((a ^ b) | (a ^ c))", "|(a ^ b)")),  # one copy is not compared
    (read_path(BeatLayout(Tmr(4, 1), 1)), edited("voter", MAJORITY, "a & b & c")),
    (
        read_path(BeatLayout(Tmr(4, 1), 1)),
        edited("weights", "corrected_o = valid_q && ready_i", "corrected_o = valid_q"),
    ),
    (decoded_path(BeatLayout(Secded(4, 1), 1)), edited("weights", "detected_o  = valid_q &&", "detected_o  =")),
    (search_stage(3), edited("threshold_stage", "differ[p] && in_scope", "differ[p]")),  # counts what it does not use
]


@pytest.mark.parametrize(("theorem", "edits"), BROKEN, ids=lambda value: getattr(value, "name", None))
def test_broken_rtl_is_refuted(theorem, edits, tmp_path):
    verdict = check(theorem, tmp_path, edits)
    assert (verdict.is_proven, verdict.is_as_it_must_be) == (False, False)


@pytest.mark.parametrize(
    "edits",
    [
        edited("secded", "int unsigned n = d + 1;", "int unsigned n = d + 2;"),  # another code than the model's
        edited("secded", "detected_o  = !one &&", "detected_o  = 1'b0 &&"),
        edited("secded", "assign odd = ^stored_i;", "assign odd = ^stored_i[Data-1:0];"),
    ],
    ids=["numbers", "unseen", "parity"],
)
def test_a_broken_decoder_is_refuted(edits, tmp_path):
    assert check_code(2, 4, tmp_path, edits).is_proven is False


def test_every_width_has_its_theorems():
    names = {theorem.name for theorem in theorems()}
    for bits in WIDTHS:
        for lanes in (1, 2, 3, 8):
            assert {f"vote {lanes}x{bits}v{voted}" for voted in range(1, bits + 1)} <= names
            assert (lanes, bits) in proofs.CODES
        assert {f"read path 1x{bits}v{bits}", f"read path 1x{bits}v{bits}, 2 upsets"} <= names
        assert {f"decoded path secded 1x{bits}", f"search stage 1x{bits}v{bits}"} <= names


def test_what_yosys_did_not_write_is_said(tmp_path):
    with pytest.raises(
        ToolError, match=r"^proof\.aig must be an AIGER file with one output, got b'': see the logs beside"
    ):
        proofs.is_never_bad(tmp_path, 1.0)


@pytest.mark.parametrize("name", ["PROOFS.md", "MUTANTS.md"])
def test_the_tables_written_last_hold_nothing_that_must_not_be(name):
    text = (RTL.parent / "formal" / name).read_text()
    assert "**" not in text.replace("2**", "")
    if name == "MUTANTS.md":
        assert int(text.split("| all | ")[1].split(" |")[0]) >= 200
    else:
        assert f"Proven of these files: {digests()}." in text, "RTL has changed since: make proofs"
        rows = [line.split(" | ") for line in text.splitlines() if line.endswith(" s |")]
        assert {row[0].removeprefix("| ") for row in rows} >= {theorem.name for theorem in theorems()}
        assert all(row[2] == ("refuted" if "2 upsets" in row[0] else "proven") for row in rows)


# ---- mutants ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("target", mutants.STATELESS, ids=lambda target: target.module)
def test_mutants_are_killed_or_explained(target, tmp_path):
    found = mutants.kill_on_every_beat(target, tmp_path, 40)
    assert len(found) == 40
    assert all(mutant.killed_by or mutants.reason(mutant) for mutant in found)
    assert sum(mutant.killed_by is not None for mutant in found) >= 36


def test_mutants_of_a_memory_are_refuted_by_its_theorem(tmp_path):
    theorem = decoded_path(BeatLayout(Tmr(2, 1), 4))
    found = mutants.kill_by_theorem("bitward_weights", "i_protected", theorem, 3, tmp_path)
    assert len(found) == 3
    assert all(mutant.killed_by or mutants.reason(mutant) for mutant in found)


def test_at_least_two_hundred_mutants_are_made():
    assert sum(target.count for target in mutants.STATELESS) + sum(count for *_, count in mutants.PROVEN) >= 200


def test_the_table_lists_survivors_and_says_which_are_not_explained():
    killed = mutants.Mutant("bitward_voter", "Tmr", "mutate -mode inv -port A -portbit 3", "", "4 of 8 beats")
    known = mutants.Mutant("bitward_secded", "Secded", "mutate -mode cnot1 -port A", "syndrome != '0", None)
    unknown = mutants.Mutant("bitward_secded", "Secded", "mutate -mode inv -port A", "a | b", None)
    text = mutants.table([killed, known, unknown])
    assert "| bitward_secded | 2 | 0 |\n| all | 3 | 1 |" in text
    assert "- bitward_secded (Secded), `cnot1 A` of `syndrome != '0`: changed only where another bit" in text
    assert "- bitward_secded (Secded), `inv A` of `a | b`: **not explained**" in text
    assert "None." in mutants.table([killed])

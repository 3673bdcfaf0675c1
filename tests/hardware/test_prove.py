# SPDX-License-Identifier: Apache-2.0
"""`make proofs`, cut to a few claims and mutants: the tables hold what was found, and what must not be shows."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from bitward.hardware import mutants, prove
from bitward.hardware.theorems import decoded_path, read_path, votes
from bitward.layout import BeatLayout
from bitward.schemes import Tmr

LAYOUT = BeatLayout(Tmr(2, 2), 1)
CONTROL = read_path(LAYOUT, 2, False)
WRONG = replace(CONTROL, name="a wrong claim", holds=True)
KILLED = mutants.Mutant("bitward_voter", "Tmr", "mutate -mode inv -port A", "a & b", "4 of 8 beats")
SURVIVOR = replace(KILLED, killed_by=None)


@pytest.fixture
def few(monkeypatch):
    """Two claims, and one code; mutants are not made."""
    monkeypatch.setattr(prove, "theorems", lambda: [votes(1, 2, 1), CONTROL])
    monkeypatch.setattr(prove, "CODES", [(1, 2)])
    monkeypatch.setattr(prove, "kill_all", lambda: [KILLED])
    return monkeypatch


def rows(text: str) -> dict[str, str]:
    """How each claim in the table ended."""
    return {row[0]: row[1] for row in re.findall(r"^\| (.*?) \| .* \| (.*?) \| \d+\.\d s \|$", text, re.MULTILINE)}


def test_what_was_proven_and_refuted_is_written(few, tmp_path, capsys):
    assert prove.main(tmp_path) == 0
    text = (tmp_path / "PROOFS.md").read_text()
    assert rows(text) == {"vote 1x2v1": "proven", CONTROL.name: "refuted", "code 1x2": "proven"}
    assert f"Proven of these files: {prove.digests()}." in text
    assert "| bitward_voter | 1 | 1 |" in (tmp_path / "MUTANTS.md").read_text()
    said = capsys.readouterr().out.splitlines()
    assert said == ["[1/3] vote 1x2v1: proven", f"[2/3] {CONTROL.name}: refuted", "[3/3] code 1x2: proven"]


def test_a_claim_that_is_refuted_shows_and_fails(few, tmp_path):
    few.setattr(prove, "theorems", lambda: [votes(1, 2, 1), WRONG])
    assert prove.main(tmp_path) == 1
    found = rows((tmp_path / "PROOFS.md").read_text())
    assert found["a wrong claim"] == "**refuted: must not be**" and found["vote 1x2v1"] == "proven"


def test_a_mutant_that_survives_without_a_reason_fails(few, tmp_path):
    few.setattr(prove, "theorems", lambda: [votes(1, 2, 1)])
    few.setattr(prove, "CODES", [])
    few.setattr(prove, "kill_all", lambda: [KILLED, SURVIVOR])
    assert prove.main(tmp_path) == 1
    assert "| bitward_voter | 2 | 1 |" in (tmp_path / "MUTANTS.md").read_text()


def test_all_mutants_are_those_of_every_module(monkeypatch):
    theorem = decoded_path(BeatLayout(Tmr(2, 1), 4))
    few = replace(mutants.STATELESS[1], count=6)
    monkeypatch.setattr(mutants, "STATELESS", (few,))
    monkeypatch.setattr(mutants, "PROVEN", (("bitward_weights", "i_protected", theorem, 1),))
    said: list[str] = []
    found = mutants.kill_all(said.append)
    assert [mutant.module for mutant in found] == ["bitward_disagree"] * 6 + ["bitward_weights"]
    assert all(mutant.killed_by or mutants.reason(mutant) for mutant in found)
    killed = [sum(mutant.killed_by is not None for mutant in part) for part in (found[:6], found[6:])]
    assert said == [
        f"bitward_disagree: {killed[0]} of 6 mutants killed",
        f"bitward_weights: {killed[1]} of 1 mutants killed",
    ]
    assert killed[0] >= 4

# SPDX-License-Identifier: Apache-2.0
"""The words about a stage: every stage has some, and they are about what it found."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from bitward.flow.stages import STAGES
from bitward.flow.told import WORDS, say, told

TMR = {"name": "tmr", "bits": 4, "voted": 1}
FOUND = [
    ("train", {"seeds": [3], "mean": 0.98765}, "98.77% of test images right"),
    ("train", {"seeds": [0, 1], "mean": 0.5}, "50.00% of test images right, mean of 2 seeds"),
    ("train", {}, ""),
    ("export", {"model": "net.onnx"}, "models/net.onnx (QONNX)"),
    ("harden", {"schemes": {"a": TMR, "b": TMR}, "bias_schemes": {}},
     "the top bit of weights stored three times and voted, in 2 layers"),
    ("harden", {"schemes": {"a": {**TMR, "voted": 2}}, "bias_schemes": {"a": TMR}},
     "the top 2 bits of weights stored three times and voted, in 1 layer; biases of 1 too"),
    ("build", {"plain": {}, "hardened": {}}, "RTL, memories and simulation model: plain and hardened"),
    ("resources", {"plain": {"total": {"lut": 1782}}, "hardened": "not measured"},
     "LUTs by Yosys, not Vivado: plain 1,782, hardened not measured"),
    ("verify", {"images": 9, "equal": 8}, "RTL gives what QONNX gives on 8 of 9 images, plain and hardened"),
    ("measure", {"plain": {"board": "KV260 (virtual)"}}, "plain on KV260 (virtual)"),
    ("inject", {"a": {"faults": 1000}, "b": {"faults": 24},
                "agree": {"targets": ["engine", "rtl"], "equal": 7, "compared": 8}},
     "1,024 trials; engine, rtl agree on 7 of 8 faults"),
    ("overlay-kv260", {"design_id": "0x1"}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "result", "words"), FOUND, ids=lambda value: value if isinstance(value, str) else "")
def test_a_stage_says_what_it_found(stage, result, words):
    assert told(stage, result) == words


def test_every_stage_has_words():
    assert set(WORDS) == {stage.name for stage in STAGES}


def test_the_words_fit_what_stages_really_leave(mlp_run):
    record = json.loads((mlp_run.folder / "stages.json").read_text())
    assert set(record) & set(WORDS)
    for stage in set(record) & set(WORDS):
        assert told(stage, record[stage]["result"]), stage


def test_a_line_is_not_cut_where_output_is_no_terminal():
    written = io.StringIO()
    say(Console(file=written, width=40), "[plain]" + " word" * 30)
    assert written.getvalue() == "[plain]" + " word" * 30 + "\n"

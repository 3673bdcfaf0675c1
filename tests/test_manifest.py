# SPDX-License-Identifier: Apache-2.0
"""The manifest comes back from its file as it went, and a wrong one is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from bitward.errors import BitwardError, FormatError, ManifestError, OutputError
from bitward.formats import Fixed, Float32, Int
from bitward.manifest import Axis, Hardware, Io, Manifest, Memory, StreamTensor
from bitward.schemes import Plain, Tmr

WEIGHT = Memory(
    "fc",
    "fc",
    "fc.weight",
    "weight",
    (4, 2),
    Int(4),
    Tmr(4, 1),
    Hardware(4, 14, 2, "block", 0x100, 4, (Axis(4, 1, 2),), (Axis(2, 1, 1),), 3),
)
BIAS = Memory("fc.bias", "fc", "fc.bias", "bias", (2,), Fixed(8, 6), Plain(8))
IO = Io(
    StreamTensor((4,), "UINT8", 8, 1, 4),
    StreamTensor((2,), "INT16", 16, 1, 2),
    post=({"op": "Mul", "value": np.float32(0.1)},),
)
FULL = Manifest("mlp", 0xB17A4D01, "virtual", 200.0, (WEIGHT, BIAS), IO, {"id": 0, "corrected": 4}, 0x1000)


def changed(edit):
    """The full manifest's text after `edit` changed its parsed JSON in place."""
    data = json.loads(FULL.to_json())
    edit(data)
    return json.dumps(data)


def test_it_comes_back_from_its_file(tmp_path):
    path = tmp_path / "manifest.json"
    FULL.save(path)
    assert Manifest.load(path) == FULL
    assert [item.name for item in tmp_path.iterdir()] == ["manifest.json"]


def test_saved_twice_it_is_the_same_text():
    assert Manifest.from_json(FULL.to_json()).to_json() == FULL.to_json()


def test_a_software_only_manifest_needs_no_hardware():
    memory = Memory("w", "conv", "conv.weight", "weight", (2, 3), Float32(), Plain(32))
    manifest = Manifest("lenet", 0, "none", 0.0, (memory,))
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.population == 6 * 32


def test_population_and_strata_are_those_of_all_memories():
    assert FULL.population == 8 * 6 + 2 * 8
    assert [(s.memory, s.stored_bit, s.size) for s in FULL.strata] == [("fc", bit, 8) for bit in range(6)] + [
        ("fc.bias", bit, 2) for bit in range(8)
    ]


def test_select_keeps_the_manifest_s_order():
    assert [memory.name for memory in FULL.select(["fc.bias", "fc"])] == ["fc", "fc.bias"]
    assert FULL.select(None) == FULL.memories


def drop_key(data):
    del data["memories"][0]["hardware"]["base"]


@pytest.mark.parametrize(
    ("edit", "error", "match"),
    [
        (
            lambda d: d.update(desing="x"),
            ManifestError,
            r"^manifest must have known keys only, got 'desing'; did you mean",
        ),
        (
            lambda d: d["memories"][0]["hardware"].update(widht=3),
            ManifestError,
            r"^manifest\.memories\[0\]\.hardware must have known keys only, got 'widht'; did you mean 'width'\?$",
        ),
        (drop_key, ManifestError, r"^manifest\.memories\[0\]\.hardware must have the key 'base', got \['depth',"),
        (lambda d: d.update(schema=0), ManifestError, r"^manifest must be of schema 1, got 0;"),
        (
            lambda d: d["memories"][0].update(role="wieght"),
            ManifestError,
            r"^manifest\.memories\[0\]\.role must be one of",
        ),
        (
            lambda d: d["memories"][0]["scheme"].update(name="tmrr"),
            FormatError,
            r"^manifest\.memories\[0\]\.scheme\.name must be a known name, got 'tmrr'; did you mean 'tmr'\?$",
        ),
        (
            lambda d: d["memories"][0]["hardware"]["word_axes"][0].update(size="4"),
            ManifestError,
            r"^manifest\.memories\[0\]\.hardware\.word_axes\[0\]\.size must be of type int, got '4';",
        ),
        (lambda d: d["io"]["post"].append({"op": "Sub"}), ManifestError, r"^io\.post must be one of \['Add', "),
    ],
)
def test_a_wrong_file_is_refused(edit, error, match):
    with pytest.raises(error, match=match):
        Manifest.from_json(changed(edit))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: replace(FULL, design_id=1 << 32), r"^design_id must be 32 bits, got 4294967296;"),
        (lambda: replace(FULL, memories=(BIAS, BIAS)), r"^memories must be of different names, got 'fc\.bias' twice;"),
        (
            lambda: replace(FULL, registers={"id": 0, "other": 0x104}),
            r"^register other must be behind memory fc's end at 0x110, got 0x104;",
        ),
        (lambda: replace(FULL, axilite_bytes=0x10C), r"^axilite_bytes must be at least 0x110, got 0x10c;"),
        (
            lambda: FULL.memory("fc.bais"),
            r"^a memory must be one of design mlp, got 'fc\.bais'; did you mean 'fc\.bias'\?$",
        ),
        (
            lambda: FULL.select(["conv"]),
            r"^a memory must be one of design mlp, got 'conv'; known are 'fc', 'fc\.bias'\.$",
        ),
        (lambda: Manifest.from_json("{", "m.json"), r"^m\.json must be JSON, got Expecting property name"),
        (lambda: Manifest.from_json("[]"), r"^manifest must be of schema 1, got \[\];"),
    ],
)
def test_refusals(call, match):
    with pytest.raises(ManifestError, match=match):
        call()


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ManifestError, match=r"^.*none\.json must be a manifest, got .*No such file"):
        Manifest.load(tmp_path / "none.json")


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"^.*manifest\.json must be writable, got No such file or directory;"):
        FULL.save(tmp_path / "no" / "manifest.json")


def test_every_refusal_is_a_bitward_error():
    assert issubclass(ManifestError, BitwardError)
    assert issubclass(FormatError, BitwardError)

# SPDX-License-Identifier: Apache-2.0
"""Proofs of the theorems about redundancy, and the refutation of their controls.

Yosys reads the RTL, ABC proves: property directed reachability for claims about all time (unbounded), SAT sweeping for
claims about one moment.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bitward.errors import ToolError
from bitward.hardware.aig import Aig, Composer, Patterns, abc
from bitward.hardware.rtllib import collect, library_root
from bitward.hardware.synthesis import READ, readable, yosys
from bitward.hardware.theorems import (
    DIRECT_CODE_BITS,
    LANES,
    SEARCHED,
    WIDER,
    WIDTHS,
    Theorem,
    codewords,
    decoded_path,
    read_path,
    search_stage,
    votes,
)
from bitward.layout import BeatLayout
from bitward.schemes import Secded, Tmr
from bitward.tools import resource

MEMSTREAM = ("axi/hdl/axilite.sv", "memstream/hdl/memstream.sv", "memstream/hdl/memstream_axi.sv")
CODES = [(lanes, bits) for lanes in LANES for bits in WIDTHS] + [(24, 4), (16, 8)]

FINISH = """\
flatten
opt -full -nodffe -nosdff
memory_map
opt -full -nodffe -nosdff
dffunmap
setundef -undriven -init -zero
setundef -init -zero
techmap
opt -full -nodffe -nosdff
aigmap
opt_clean
write_aiger -zinit proof.aig
"""
_PREPARE = """\
read_slang --top proof {read} {files} proof.sv
hierarchy -top proof
setattr -mod -unset keep_hierarchy *
proc
"""
_DECODER = """\
read_slang --top bitward_secded -G NumWords={lanes} -G Bits={bits} bitward_secded.sv
proc
opt -full
techmap
opt
aigmap
opt_clean
write_aiger -ascii -symbols decoder.aag
"""


@dataclass(frozen=True)
class Verdict:
    """What became of a claim: `is_proven` (None: neither proven nor refuted), as it must be or not, in `wall_s`."""

    name: str
    says: str
    is_proven: bool | None
    is_as_it_must_be: bool
    wall_s: float


def theorems() -> Iterator[Theorem]:
    """Every theorem and control, at every width that is generated; memories have `DEPTH` rows."""
    for lanes, bits in itertools.product(LANES, WIDTHS):
        for voted in range(1, bits + 1):
            yield votes(lanes, bits, voted)
    for bits in WIDER:
        yield votes(1, bits, bits)
        yield decoded_path(BeatLayout(Tmr(bits, bits), 1))
    for bits in WIDTHS:
        for voted in (1, bits):
            yield read_path(BeatLayout(Tmr(bits, voted), 1))
        yield decoded_path(BeatLayout(Secded(bits, 1), 1))
    for bits in SEARCHED:
        yield search_stage(bits)
    yield read_path(BeatLayout(Tmr(4, 1), 2))
    yield decoded_path(BeatLayout(Secded(4, 8), 8))
    yield decoded_path(BeatLayout(Tmr(2, 1), 4))
    for bits in range(2, DIRECT_CODE_BITS + 1):
        yield read_path(BeatLayout(Secded(bits, 1), 1))
    for bits in WIDTHS:
        yield read_path(BeatLayout(Tmr(bits, bits), 1), 2, False)
        yield search_stage(bits, 2, False)
    yield read_path(BeatLayout(Secded(2, 1), 1), 2, False)


def digests() -> str:
    """What the theorems are about: the modules' files with the beginning of their sha256."""
    names = sorted({module for theorem in theorems() for module in theorem.modules} | {"secded"})
    files = {f"bitward_{name}.sv": resource(f"hls/rtl/bitward_{name}.sv").read_bytes() for name in names}
    return ", ".join(f"`{name}` {hashlib.sha256(text).hexdigest()[:12]}" for name, text in files.items())


def check(theorem: Theorem, folder: Path, edits: Mapping[str, str] | None = None, timeout_s: float = 900.0) -> Verdict:
    """The theorem, tried on the modules of hls/rtl, with the texts in `edits` (by module) instead of theirs.

    Works in the empty folder `folder`. Raises ToolError when Yosys or ABC fails.
    """
    started = time.monotonic()
    names = sources(theorem.modules, folder, edits or {})
    (folder / "proof.sv").write_text(theorem.bench)
    yosys(_PREPARE.format(read=READ, files=" ".join(names)) + FINISH, folder, folder / "yosys.log", timeout_s)
    proven = is_never_bad(folder, timeout_s)
    return Verdict(theorem.name, theorem.says, proven, proven == theorem.holds, time.monotonic() - started)


def is_never_bad(folder: Path, timeout_s: float) -> bool | None:
    """Whether the output of proof.aig is 0 for ever; None where ABC does not know."""
    latches, _ = _header(folder / "proof.aig")
    sweep = "scorr; fraig" if latches else "strash; fraig"
    said = abc(f"read_aiger proof.aig; {sweep}; write_aiger swept.aig; pdr", folder, timeout_s)
    _, bad = _header(folder / "swept.aig")
    if bad in (b"0", b"1"):  # sweeping alone has shown what it is
        return bad == b"0"
    return True if "Property proved" in said else False if "was asserted in frame" in said else None


def _header(path: Path) -> tuple[int, bytes]:
    """(latches, literal of the output) in a binary AIGER file with one output; ToolError where it is none."""
    lines = path.read_bytes().split(b"\n") if path.is_file() else [b""]
    header = lines[0].split()
    if header[:1] != [b"aig"] or header[4] != b"1":
        raise ToolError(
            f"{path.name} must be an AIGER file with one output, got {lines[0]!r}: see the logs beside {path}."
        )
    latches = int(header[3])
    return latches, lines[1 + latches]


def sources(modules: tuple[str, ...], folder: Path, edits: Mapping[str, str]) -> list[str]:
    """The files of these modules, and of FINN's memory where they need it, lie in the folder; their names."""
    names = []
    if "weights" in modules:
        names = collect([library_root() / file for file in MEMSTREAM], folder)
        for name in names:
            (folder / name).write_text(readable(name, (folder / name).read_text()))
    for module in modules:
        text = edits.get(module) or resource(f"hls/rtl/bitward_{module}.sv").read_text()
        (folder / f"bitward_{module}.sv").write_text(text)
    return [*names, *(f"bitward_{module}.sv" for module in modules)]


def check_code(lanes: int, bits: int, folder: Path, edits: Mapping[str, str] | None = None) -> Verdict:
    """The SEC-DED decoder does what it must for every beat of these lanes, in two steps.

    ABC: adding a codeword to any beat adds its word to what is read and leaves the flags alone, for the codeword of
    each bit, so for all. What is left is one beat of each kind: no upset, each one, each two; and every pattern of
    check bits with words of 0, which stands for all beats: they are evaluated, all of them.
    """
    started = time.monotonic()
    sources(("secded",), folder, edits or {})
    yosys(_DECODER.format(lanes=lanes, bits=bits), folder, folder / "yosys.log")
    decoder = Aig.read((folder / "decoder.aag").read_text())
    layout = BeatLayout(Secded(bits, lanes), lanes)
    proven = _reads_upsets(decoder, layout) and _flags_what_is_no_codeword(decoder, layout)
    proven = proven and _is_translated(decoder, layout, folder)
    says = "any one upset of a beat: corrected and counted; any two: detected, left alone; a flag: it is no codeword"
    return Verdict(f"code {lanes}x{bits}", says, proven, proven, time.monotonic() - started)


def decode(decoder: Aig, beats: Patterns) -> tuple[Patterns, Patterns, Patterns]:
    """(plain bits, corrected, detected) of beats, shape (width, cases)."""
    ports = {f"stored_i[{at}]": row for at, row in enumerate(beats)}
    out = decoder.evaluate(ports, beats.shape[1])
    word = np.stack([out[f"word_o[{at}]"] for at in range(len(out) - 2)])
    return word, out["corrected_o"], out["detected_o"]


def _reads_upsets(decoder: Aig, layout: BeatLayout) -> bool:
    """Words of 0 with no, one and two upsets."""
    pairs = np.array([*itertools.combinations_with_replacement(range(layout.width), 2)])
    two = pairs[:, 0] != pairs[:, 1]
    beats = np.zeros((layout.width, len(pairs) + 1), bool)
    beats[pairs[:, 0], np.arange(len(pairs))] = True
    beats[pairs[:, 1], np.arange(len(pairs))] = True
    word, corrected, detected = decode(decoder, beats)
    left = beats[: len(word), :-1] & two  # two upsets stay as they are
    flags = np.array_equal(corrected, [*~two, False]) and np.array_equal(detected, [*two, False])
    return bool(flags and np.array_equal(word[:, :-1], left) and not word[:, -1].any())


def _flags_what_is_no_codeword(decoder: Aig, layout: BeatLayout) -> bool:
    """Every pattern of check bits with words of 0: only the codeword of 0 raises no flag, none raises both."""
    checks = layout.scheme.check_bits
    beats = np.zeros((layout.width, 1 << checks), bool)
    beats[layout.check_position] = np.arange(1 << checks) >> np.arange(checks)[:, None] & 1
    _, corrected, detected = decode(decoder, beats)
    is_codeword = np.arange(1 << checks) == 0
    return bool(np.array_equal(corrected | detected, ~is_codeword) and not (corrected & detected).any())


def _is_translated(decoder: Aig, layout: BeatLayout, folder: Path) -> bool:
    """ABC: for every beat, adding the codeword of a plain bit flips that bit of what is read and nothing else."""
    whole = Composer(layout.width)
    ports = [int(name[len("stored_i[") : -1]) for name in decoder.inputs]
    base = whole.instance(decoder, [2 * (at + 1) for at in ports])
    for bit, codeword in enumerate(codewords(layout)):
        moved = whole.instance(decoder, [2 * (at + 1) ^ int(codeword[at]) for at in ports])
        whole.bad += [whole.differ(base[name], moved[name]) ^ (name == f"word_o[{bit}]") for name in base]
    return whole.is_never_bad(folder)

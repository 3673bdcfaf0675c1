# SPDX-License-Identifier: Apache-2.0
"""Mutants of what reads redundancy, made by Yosys `mutate`: each must be told from the original, or be explained.

Voter, comparison and decoder are evaluated on every beat there is, against bitward.layout: a survivor computes the same
function. Mutants of the stages and memories around them are tried on their theorems, which hold for all time.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bitward.hardware.aig import Aig, Patterns
from bitward.hardware.proofs import FINISH, is_never_bad, sources
from bitward.hardware.synthesis import READ, yosys
from bitward.hardware.theorems import Theorem, decoded_path, search_stage
from bitward.layout import BeatLayout
from bitward.schemes import Secded, Tmr
from bitward.tools import resource

SEED = 1
SELECT = "mutant"  # the input that says which mutant a netlist is; 0: none
SELECT_BITS = 8

_MUTATE = """\
read_slang --top {top} {parameters} {files}
proc
opt -full
mutate -list {count} -seed {seed} -ctrl {select} {bits} 1 -o mutants.ys
script mutants.ys
setattr -mod -unset keep_hierarchy *
flatten
techmap
opt
aigmap
opt_clean
write_aiger -ascii -symbols mutants.aag
"""
_LIST = """\
read_slang --top proof {read} {files} proof.sv
hierarchy -top proof
setattr -mod -unset keep_hierarchy *
proc
opt -full -nodffe -nosdff
mutate -list {count} -seed {seed} -module {module} -o mutants.ys
write_rtlil whole.il
"""
_ONE = "design -reset\nread_rtlil whole.il\n{mutation}\n" + FINISH


@dataclass(frozen=True)
class Mutant:
    """One change of one net, as Yosys names it, and how it was found out (None: it was not).

    `place` is the RTL that the net comes from, `of` the shape or the theorem it was tried with.
    """

    module: str
    of: str
    change: str
    place: str
    killed_by: str | None


@dataclass(frozen=True)
class Beats:
    """A module without state that reads beats of `layout`: its parameters, and what its outputs must be."""

    module: str
    layout: BeatLayout
    count: int

    @property
    def parameters(self) -> dict[str, int]:
        """The module's parameters."""
        scheme = self.layout.scheme
        own = {} if scheme.check_bits else {"Voted": scheme.voted}
        return {"NumWords": self.layout.lanes, "Bits": scheme.bits, **own}

    def expected(self, beats: NDArray[np.uint32]) -> dict[str, NDArray[np.bool_]]:
        """Every output of the module for these beats, by bitward.layout."""
        reading, bits = self.layout.read(beats), self.layout.scheme.bits
        words = reading.words.astype(np.int64)
        read = {f"word_o[{lane * bits + bit}]": words[:, lane] >> bit & 1 == 1 for lane in range(self.layout.lanes)
                for bit in range(bits)}  # fmt: skip
        flags = {"corrected_o": reading.corrected, "detected_o": reading.detected}
        outputs = {"bitward_voter": read, "bitward_disagree": {"corrected_o": reading.corrected}}
        return outputs.get(self.module, read | flags)


SMALL = BeatLayout(Tmr(3, 2), 2)  # 14 bits a row: every row is tried
CODE = BeatLayout(Secded(4, 2), 2)  # 13 bits
STATELESS = (
    Beats("bitward_voter", SMALL, 70),
    Beats("bitward_disagree", SMALL, 40),
    Beats("bitward_secded", CODE, 130),
)
PROVEN = (
    ("bitward_threshold_stage", "i_copies", search_stage(4), 60),
    ("bitward_weights", "i_protected", decoded_path(BeatLayout(Tmr(2, 1), 4)), 30),  # 16 bits a row: no padding
    ("bitward_weights", "i_protected", decoded_path(BeatLayout(Secded(3, 1), 1)), 30),
)
# (of, change, place, why): what is known of mutants that nothing tells from the original; the first three are patterns.
EXPLAINED = (
    (
        "Tmr",
        r"-mode cnot1 -module bitward_disagree .*-port A",
        r"\(a \^ b\) \| \(a \^ c\)",
        "inverted only where another bit differs, which is enough",
    ),
    ("Secded", r"-mode const0 .*-port A", r"\^covered", "this number lacks this check, so the bit is 0 already"),
    ("Secded", r"-mode const[01] .*-port B", r"syndrome == ", "the number it is compared with has this value there"),
    (
        "Secded",
        r"-mode cnot[01] .*-port A",
        r"syndrome == ",
        "where all other bits agree, the controlling bit leaves it",
    ),
    (
        "Secded",
        r"-mode const0 .*-port A -portbit 0 ",
        r"odd \|\| ",
        "odd and not `one`: then the syndrome is not 0 either",
    ),
    ("Secded", r"-mode cnot1", r"syndrome != '0", "changed only where another bit of the syndrome is 1"),
    ("4x2v1", r"-port [rw]data -portbit (1[6-9]|2\d|3[01]) ", "", "above the row's 16 bits: not stored, read as 0"),
    (
        "secded 1x3",
        r"-port [rw]data -portbit ([7-9]|[12]\d|3[01]) ",
        "",
        "above the row's 7 bits: not stored, read as 0",
    ),
    ("path", r"-mode (const0|cnot1) .*-port [br]resp ", "", "the memory always answers OKAY, which is 0"),
    ("path .*v", r"-mode const1", r"valid_q && ready_i && detected_q", "a voter detects nothing: detected_q is 0"),
)


def kill_all(progress: Callable[[str], None] = print) -> list[Mutant]:
    """Every mutant, of every module."""
    found: list[Mutant] = []
    with tempfile.TemporaryDirectory(prefix="bitward-mutants-") as root:
        for beats in STATELESS:
            found += kill_on_every_beat(beats, _folder(root, beats.module))
            progress(_count(found, beats.module))
        for number, (module, instance, theorem, count) in enumerate(PROVEN):
            found += kill_by_theorem(module, instance, theorem, count, _folder(root, str(number)))
            progress(_count(found, module))
    return found


def _folder(root: str, name: str) -> Path:
    folder = Path(root) / name
    folder.mkdir()
    return folder


def _count(found: Sequence[Mutant], module: str) -> str:
    own = [mutant for mutant in found if mutant.module == module]
    return f"{module}: {sum(mutant.killed_by is not None for mutant in own)} of {len(own)} mutants killed"


def kill_on_every_beat(target: Beats, folder: Path, count: int | None = None) -> list[Mutant]:
    """Mutants of a module without state, each evaluated on every beat of its layout."""
    files = sources((target.module.removeprefix("bitward_"),), folder, {})
    parameters = " ".join(f"-G {name}={value}" for name, value in target.parameters.items())
    script = _MUTATE.format(
        top=target.module, parameters=parameters, files=" ".join(files), count=count or target.count, seed=SEED,
        select=SELECT, bits=SELECT_BITS,
    )  # fmt: skip
    yosys(script, folder, folder / "yosys.log")
    graph = Aig.read((folder / "mutants.aag").read_text())
    width = target.layout.width
    beats = np.arange(1 << width, dtype=np.uint32)
    ports: dict[str, Patterns] = {f"stored_i[{bit}]": beats >> bit & 1 == 1 for bit in range(width)}
    expected = target.expected(beats[:, None])
    mutants = []
    for number, change in enumerate(_changes(folder), start=1):
        selected = {f"{SELECT}[{bit}]": np.array(number >> bit & 1 == 1) for bit in range(SELECT_BITS)}
        outputs = graph.evaluate(ports | selected, len(beats))
        wrong = np.zeros(len(beats), bool)
        for name, values in expected.items():
            wrong |= outputs[name] ^ values
        killed = f"{int(wrong.sum())} of {len(beats)} beats" if wrong.any() else None
        mutants.append(Mutant(target.module, str(target.layout.scheme), change, _place(change), killed))
    return mutants


def kill_by_theorem(module: str, instance: str, theorem: Theorem, count: int, folder: Path) -> list[Mutant]:
    """Mutants of that instance in the theorem's bench, each tried on the theorem."""
    files = sources(theorem.modules, folder, {})
    (folder / "proof.sv").write_text(theorem.bench)
    script = _LIST.format(
        read=READ, files=" ".join(files), count=count, seed=SEED,
        module=f"{module}$proof.{instance}",
    )  # fmt: skip
    yosys(script, folder, folder / "list.log")
    mutants = []
    for change in _changes(folder):
        yosys(_ONE.format(mutation=change), folder, folder / "one.log")
        proven = is_never_bad(folder, 120.0)
        killed = "its theorem refuted" if proven is False else None
        mutants.append(Mutant(module, theorem.name, change, _place(change), killed))
    return mutants


def _changes(folder: Path) -> list[str]:
    """The mutations that Yosys chose, one a line."""
    lines = (folder / "mutants.ys").read_text().splitlines()
    return [line for line in lines if line.startswith("mutate ")]


def _place(change: str) -> str:
    """The text of the RTL that the net comes from; "" where Yosys does not say."""
    found = re.search(r"-src (bitward_\w+\.sv):(\d+)\.(\d+)-\2\.(\d+)", change)
    if found is None:
        return ""
    line = resource(f"hls/rtl/{found[1]}").read_text().splitlines()[int(found[2]) - 1]
    return line[int(found[3]) - 1 : int(found[4]) - 1]


def reason(mutant: Mutant) -> str | None:
    """Why the mutant survives; None where that is not known."""
    for of, change, place, why in EXPLAINED:
        if all(map(re.search, (of, change, place), (mutant.of, mutant.change, mutant.place))):
            return why
    return None


def table(mutants: Sequence[Mutant]) -> str:
    """Counts by module, and every survivor."""
    modules = list(dict.fromkeys(mutant.module for mutant in mutants))
    rows = []
    for module in modules:
        own = [mutant for mutant in mutants if mutant.module == module]
        rows.append(f"| {module} | {len(own)} | {sum(mutant.killed_by is not None for mutant in own)} |")
    survivors = [mutant for mutant in mutants if mutant.killed_by is None]
    rows.append(f"| all | {len(mutants)} | {len(mutants) - len(survivors)} |")
    listed = [f"- {m.module} ({m.of}), {_short(m)}: {reason(m) or '**not explained**'}" for m in survivors] or ["None."]
    return "\n".join(
        ["# Mutants", "", "Written by `make proofs`; made by Yosys `mutate`.", "", "| module | mutants | killed |",
         "|---|---|---|", *rows, "", "## Survivors", "", *listed, ""]
    )  # fmt: skip


def _short(mutant: Mutant) -> str:
    """What is changed, and where."""
    kept = re.findall(r"-(?:mode|port|portbit|ctrlbit|wire) (\S+)", mutant.change)
    return f"`{' '.join(kept)}`" + (f" of `{mutant.place}`" if mutant.place else "")

# SPDX-License-Identifier: Apache-2.0
"""`make proofs`: every theorem about redundancy is proven, every control refuted, mutants are killed; tables written.

`python -m bitward.hardware.prove FOLDER` writes FOLDER/PROOFS.md and FOLDER/MUTANTS.md.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from bitward.hardware.mutants import kill_all, reason, table
from bitward.hardware.proofs import CODES, Verdict, check, check_code, digests, theorems
from bitward.hardware.theorems import DEPTH, DIRECT_CODE_BITS, LANES, SEARCHED
from bitward.tools import atomic_write

_HEAD = """\
# Proofs

Written by `make proofs`. Votes are named LANESxBITSvVOTED. What is proven for all time (read paths, search stages) has
memories reduced to {depth} rows (a stage: 4), which start at 0; AXI-Lite traffic, resets and stalls are free. Votes,
codes and lanes are proven as listed: lanes are samples ({lanes}), as every lane is treated alike. Stages of the search
are proven to {searched} bits; wider thresholds rest on the votes, the read paths and simulation. Read paths wider than
{bits} bits (SEC-DED) or 8 bits (votes) are proven in two steps: decoded path, and code or vote. Theorems with two
upsets are controls: they must be refuted.

Proven of these files: {files}.

"""


def _table(verdicts: list[Verdict]) -> str:
    rows = [f"| {v.name} | {v.says} | {_ended(v)} | {v.wall_s:.1f} s |" for v in verdicts]
    return "\n".join(["| theorem | says | ended | time |", "|---|---|---|---|", *rows])


def _ended(verdict: Verdict) -> str:
    how = {True: "proven", False: "refuted", None: "open"}[verdict.is_proven]
    return how if verdict.is_as_it_must_be else f"**{how}: must not be**"


def prove_all(progress: bool = True) -> list[Verdict]:
    """Every theorem, every code and every control."""
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="bitward-proofs-") as root:
        jobs = [*((check, (theorem,)) for theorem in theorems()), *((check_code, code) for code in CODES)]
        for number, (job, arguments) in enumerate(jobs):
            folder = Path(root) / str(number)
            folder.mkdir()
            verdicts.append(job(*arguments, folder))  # type: ignore[operator]
            if progress:
                print(f"[{number + 1}/{len(jobs)}] {verdicts[-1].name}: {_ended(verdicts[-1])}", flush=True)
    return verdicts


def main(folder: Path) -> int:
    """Both tables are written to the folder; 0 where everything is as it must be."""
    verdicts = prove_all()
    head = _HEAD.format(
        depth=DEPTH, bits=DIRECT_CODE_BITS, searched=max(SEARCHED), lanes=", ".join(map(str, LANES)), files=digests()
    )
    atomic_write(folder / "PROOFS.md", head + _table(verdicts) + "\n")
    killed = kill_all()
    atomic_write(folder / "MUTANTS.md", table(killed))
    unexplained = [mutant for mutant in killed if mutant.killed_by is None and reason(mutant) is None]
    return int(bool(unexplained) or not all(verdict.is_as_it_must_be for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

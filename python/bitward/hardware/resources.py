# SPDX-License-Identifier: Apache-2.0
"""Resources of a build's RTL, by Yosys, node by node; and what each protection of its weights would take instead.

Every node of the top is synthesised for itself (small ones side by side in one run), equal nodes once, and counts are
kept in the user's cache by the hash of what was synthesised: a second look is quick. These are Yosys' counts out of
context. They are not Vivado's: nothing is placed, and nothing is optimised across nodes. No clock frequency and no
power follows from them.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from bitward.errors import OutputError
from bitward.hardware import synthesis
from bitward.hardware.elaborated import Unit, cut
from bitward.hardware.synthesis import Resources
from bitward.manifest import Manifest
from bitward.tools import atomic_write, cache_folder, cores, end_commands, output_directory, writing_to

Counts = dict[str, Any]
Progress = Callable[[int, int], None]

ECC_ROWS, ECC_DATA_BITS, ECC_BITS = 512, 64, 72  # a RAMB36E2 with its own SEC-DED (UG573): 64 data bits, 8 check bits

_ELABORATE = """\
read_slang --top {top} {read} primitives.v {files}
techmap -map multiplexers.v
hierarchy -top {top}
write_rtlil design.il
"""
_SYNTHESISE = """\
{read}
setattr -mod -set keep_hierarchy 1 {units}
hierarchy -top {top}
synth_xilinx -family xcup -flatten -noiopad -noclkbuf -uram -run begin:check
tee -q -o {name}.json stat -json -tech xilinx
setattr -mod -unset keep_hierarchy *
setattr -mod -set keep_hierarchy 1 {units}
flatten
blackbox =A:whitebox
write_json {name}.netlist
"""
_SMALL, _BATCH = 60_000, 24  # characters of RTLIL of a unit that is synthesised beside others, and how many at most
_AGAIN_S = 0.05  # after which commands that a thread has begun meanwhile are told to end too
_LOGIC = re.compile(r"LUT\d|INV$|CARRY\d|MUXF\d")  # what stands between registers


def resources(build_dir: Path, progress: Progress | None = None) -> Counts:
    """What the build's RTL takes: `{"tool", "total", "instances": {node: {"module", counts, "voter"}}, "wall_s"}`.

    Counts are the fields of `Resources` and `levels`, the most LUTs, carries and multiplexers in a row between two
    registers (or ports) of the node. A node's counts include its voter's, which stand once more under "voter" (None
    where there is none). `progress` is told (units done, units in all).

    Raises ToolError, with the path of `build_dir`/synthesis.log, when Yosys is not installed, fails, takes too long or
    leaves a cell that is no primitive of the chip.
    """
    return resources_of([build_dir], progress)[0]


def resources_of(build_dirs: Sequence[Path], progress: Progress | None = None) -> list[Counts]:
    """What `resources` says of each build, sooner than one after the other."""
    return _counted([(build_dir, {}) for build_dir in build_dirs], progress)


def compare(build_dir: Path, progress: Progress | None = None) -> dict[str, Counts]:
    """The same design with its weights stored plain, with the MSB voted, with all bits voted, and as SEC-DED beats.

    By name of the protection, each as `resources` gives it; only what holds weights differs. Raises as `resources`.
    """
    found = _counted([(build_dir, values) for values in PROTECTIONS.values()], progress)
    return dict(zip(PROTECTIONS, found, strict=True))


PROTECTIONS: dict[str, dict[str, int | str]] = {
    "plain": {"Voted": 0, "Secded": 0},
    "MSB voter": {"Voted": 1, "Secded": 0},
    "full TMR": {"Voted": "WeightBits", "Secded": 0},
    "SEC-DED": {"Voted": 0, "Secded": 1},
}
"""Parameters of the weight memories' modules; a name stands for that parameter's value."""


def built_in_ecc(manifest: Manifest) -> dict[str, float]:
    """Computed, not synthesised: the weight memories in block RAMs that use their built-in SEC-DED code.

    `{"bram36", "bits", "overhead"}`: blocks of 512 rows of 64 data bits, stored bits of plain words, and 1/8.
    """
    shapes = [
        (memory.format.bits * memory.hardware.lanes, memory.hardware.depth)
        for memory in manifest.memories
        if memory.role == "weight" and memory.hardware is not None
    ]
    blocks = sum(math.ceil(width / ECC_DATA_BITS) * math.ceil(depth / ECC_ROWS) for width, depth in shapes)
    bits = sum(width * depth for width, depth in shapes)
    return {"bram36": blocks, "bits": bits, "overhead": ECC_BITS / ECC_DATA_BITS - 1}


def _counted(jobs: Sequence[tuple[Path, Mapping[str, int | str]]], progress: Progress | None) -> list[Counts]:
    """By job, a build and what is changed in its top: the counts."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bitward-synthesis-") as folder:
        works = [output_directory(Path(folder) / str(number)) for number in range(len(jobs))]
        designs = [_elaborated(*job, work) for job, work in zip(jobs, works, strict=True)]
        logs = {unit.digest: job[0] / synthesis.LOG for job, units in zip(jobs, designs, strict=True) for unit in units}
        found = _synthesised([unit for units in designs for unit in units], works[0], logs, progress)
    wall_s = round(time.monotonic() - started, 1)
    return [_summed(units, found, wall_s) for units in designs]


def _summed(units: Sequence[Unit], found: Mapping[str, Counts], wall_s: float) -> Counts:
    rows = {unit.name: {**found[unit.digest], "module": unit.module} for unit in units}
    total = sum((_resources(row) for row in rows.values()), Resources())
    levels = max(row["levels"] for row in rows.values())
    return {
        "tool": synthesis.LABEL,
        "total": {**asdict(total), "levels": levels},
        "instances": rows,
        "wall_s": wall_s,
    }


def _resources(row: Mapping[str, Any]) -> Resources:
    return Resources(**{name: row[name] for name in asdict(Resources())})


def _elaborated(build_dir: Path, override: Mapping[str, int | str], work: Path) -> list[Unit]:
    rtl, log = build_dir / "rtl", build_dir / synthesis.LOG
    files = synthesis.file_list(rtl)
    synthesis.stage(rtl, files, work)
    if override:
        top = work / f"{synthesis.TOP}.sv"
        top.write_text(overridden(top.read_text(), override))
    with writing_to(log):
        synthesis.yosys(_ELABORATE.format(top=synthesis.TOP, read=synthesis.READ, files=" ".join(files)), work, log)
    return cut((work / "design.il").read_text(), synthesis.TOP)


def overridden(top: str, override: Mapping[str, int | str]) -> str:
    """The top's text with these parameters of its weight memories set; they start empty, as their width differs.

    Where that makes copies or check bits, the pulses of each memory go to counters, as in a build that has them.
    """
    counted: list[str] = []

    def edited(match: re.Match[str]) -> str:
        values = dict(re.findall(r'\.(\w+)\(("[^"]*"|[^()]*)\)', match[2]))
        for name, value in override.items():
            values[name] = values[value] if isinstance(value, str) else str(value)
        values["InitFile"] = '""'
        inside = ", ".join(f".{name}({value})" for name, value in values.items())
        head, body = f"{match[1]} #({inside}) i_", match[3]
        if any(values.get(name, "0") != "0" for name in ("Voted", "Secded")) and ".corrected_o()" in body:
            for pulse in ("corrected", "detected"):
                body = body.replace(f".{pulse}_o()", f".{pulse}_o(counted_{pulse}[{len(counted)}])")
            counted.append(head)
        return head + body

    text = re.sub(r"^(  bitward_(?:mvau|vvau)) #\((.*)\) i_((?:.|\n)*?\n  \);\n)", edited, top, flags=re.MULTILINE)
    return text.replace("endmodule", f"{_counters(len(counted))}endmodule") if counted else text


def _counters(count: int) -> str:
    """Counters of so many memories, their AXI-Lite port on wires of its own."""
    bits = (8 * count - 1).bit_length()
    widths = {"AWADDR": bits, "WDATA": 32, "BRESP": 2, "ARADDR": bits, "RDATA": 32, "RRESP": 2}
    names = ("AWVALID", "AWREADY", "AWADDR", "WVALID", "WREADY", "WDATA", "BVALID", "BREADY", "BRESP", "ARVALID",
             "ARREADY", "ARADDR", "RVALID", "RREADY", "RDATA", "RRESP")  # fmt: skip
    wires = "".join(f"  wire [{widths.get(name, 1) - 1}:0] counted_{name};\n" for name in names)
    ports = ", ".join(f".s_axilite_{name}(counted_{name})" for name in names)
    return (
        f"{wires}  wire [{count - 1}:0] counted_corrected, counted_detected;\n"
        f"  bitward_counters #(.Num({count})) i_counted (.ap_clk, .ap_rst_n, {ports},\n"
        "    .corrected_i(counted_corrected), .detected_i(counted_detected));\n"
    )


def _synthesised(
    units: Sequence[Unit], work: Path, logs: Mapping[str, Path], progress: Progress | None
) -> dict[str, Counts]:
    """Counts by digest, from the cache or from Yosys; `logs`, by digest, is where Yosys' output stays if it fails."""
    different = {unit.digest: unit for unit in units}
    found = {digest: counts for digest in different if (counts := _kept(digest)) is not None}
    missing = sorted((different[digest] for digest in different.keys() - found), key=lambda unit: -len(unit.text))
    jobs: list[Future[dict[str, Counts]]] = []
    with ThreadPoolExecutor(cores()) as pool:
        try:
            jobs += (pool.submit(_synthesise, batch, work, logs[batch[0].digest]) for batch in _batches(missing))
            for job in as_completed(jobs):
                found |= job.result()
                if progress:
                    progress(len(found), len(different))
        except BaseException:
            _end(pool, jobs)
            raise
    return found


def _end(pool: ThreadPoolExecutor, jobs: Sequence[Future[Any]]) -> None:
    """No job is at work any more, and none will be begun."""
    pool.shutdown(wait=False, cancel_futures=True)
    while not all(job.done() for job in jobs):
        end_commands()
        time.sleep(_AGAIN_S)


def _batches(units: Sequence[Unit]) -> list[list[Unit]]:
    """Each large unit by itself; small ones together: starting Yosys and its libraries takes longer than they do."""
    small = [unit for unit in units if len(unit.text) < _SMALL]
    together = [small[at : at + _BATCH] for at in range(0, len(small), _BATCH)]
    return [*together, *([unit] for unit in units if len(unit.text) >= _SMALL)]  # what takes longest first


def _place(digest: str) -> Path:
    key = hashlib.sha256(f"{digest}\n{_SYNTHESISE}\n{synthesis.LABEL}".encode()).hexdigest()
    return cache_folder("synthesis") / f"{key}.json"


def _kept(digest: str) -> Counts | None:
    """What the cache has; None where it has nothing, or something damaged."""
    try:
        counts: Counts = json.loads(_place(digest).read_text())
    except (OSError, json.JSONDecodeError):
        return None
    return counts


def _synthesise(units: Sequence[Unit], work: Path, log: Path) -> dict[str, Counts]:
    """Counts of the units, by digest, which stand side by side in one design; in the cache, where it can be written."""
    name, top = units[0].digest[:16], "side_by_side"
    for unit in units:
        (work / f"{unit.digest[:16]}.il").write_text(unit.distinct)
    cells = "".join(f"  attribute \\keep 1\n  cell \\{unit.top} \\i{at}\n  end\n" for at, unit in enumerate(units))
    (work / f"{name}-top.il").write_text(f"module \\{top}\n{cells}end\n")
    read = [f"read_rtlil -nooverwrite {unit.digest[:16]}.il" for unit in units] + [f"read_rtlil {name}-top.il"]
    names = " ".join(unit.top for unit in units)
    script = _SYNTHESISE.format(name=name, top=top, read="\n".join(read), units=names)
    own = log.with_name(f"{log.stem}-{units[0].name}-{name[:8]}{log.suffix}")
    synthesis.yosys(script, work, own, script_name=f"{name}.ys")
    modules = synthesis.statistics(work / f"{name}.json", own)
    netlists = json.loads((work / f"{name}.netlist").read_text())["modules"]
    own.unlink()  # kept where Yosys failed
    found = {}
    for unit in units:
        counts = {**synthesis.row(modules, unit.top), "levels": levels(netlists[unit.top]["cells"])}
        kept = _place(unit.digest)
        with suppress(OutputError):  # a home folder that cannot be written: it is counted again next time
            atomic_write(output_directory(kept.parent) / kept.name, json.dumps(counts) + "\n")
        found[unit.digest] = counts
    return found


def levels(cells: Mapping[str, Any]) -> int:
    """The most logic cells in a row on any path of a flat netlist (Yosys' JSON); registers and memories end it."""
    driver: dict[int, str] = {}
    inputs: dict[str, list[int]] = {}
    for name, cell in cells.items():
        if _LOGIC.match(cell["type"]):
            ports = cell["connections"].items()
            inputs[name] = [b for port, bits in ports if cell["port_directions"][port] == "input" for b in bits]
            driver.update({b: name for port, bits in ports if cell["port_directions"][port] == "output" for b in bits})
    sources = {name: {driver[bit] for bit in bits if bit in driver} for name, bits in inputs.items()}
    depth: dict[str, int] = {}
    for name in TopologicalSorter(sources).static_order():
        depth[name] = 1 + max((depth[source] for source in sources[name]), default=0)
    return max(depth.values(), default=0)

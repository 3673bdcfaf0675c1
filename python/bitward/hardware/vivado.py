# SPDX-License-Identifier: Apache-2.0
"""Vivado, where it is on PATH: from a prepared shell to a bitstream whose every report was read and found good.

Not yet run on hardware: no Vivado was at hand when this was written. The Tcl is executed under tclsh with stand-ins for
Vivado's commands, and what follows here by a fake tool with canned reports (tests/hardware/test_vivado*.py).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bitward_runtime.bitfile import bit_body

from bitward.errors import BoardError, ToolError
from bitward.hardware import vivado_reports as reports
from bitward.hardware.finn_reports import write_post_synth
from bitward.hardware.handoff import check_handoff
from bitward.hardware.shell import ALLOWED, SCRIPT, Shell
from bitward.tools import atomic_write, find_tool, output_directory, run, writing_to

LOG = "bitward.log"  # all that Vivado said
ARGUMENTS = ("-mode", "batch", "-notrace", "-log", "vivado.log", "-journal", "vivado.jou", "-source", SCRIPT)


def implement(shell: Shell, build_dir: Path) -> Path:
    """The path of the build's `.bit`, with the `.hwh` beside it; its figures are in build.json.

    Nothing is run again where build.json tells of the same inputs and the `.bit` is the one it tells of. Raises
    ToolError where Vivado is not on PATH, fails, leaves something out, warns critically or misses timing; then there
    is no `.bit`.
    """
    done = _known(shell, build_dir)
    if done is not None:
        return done
    vivado = find_tool("vivado")
    if vivado is None:
        raise ToolError(
            f"Vivado must be on PATH to make a KV260 bitstream, got none; RTL, memory contents and Tcl are left in "
            f"{build_dir}: source Vivado's settings64.sh and run the command again, or run {SCRIPT} in "
            f"{shell.folder.name}/ on a machine that has Vivado"
        )
    with writing_to(build_dir):
        for leftover in (shell.folder / "out", shell.folder / "reports", build_dir / "overlay"):
            shutil.rmtree(leftover, ignore_errors=True)
    run([vivado, *ARGUMENTS], cwd=shell.folder, log=shell.folder / LOG)
    record = examine(shell)
    bit = _publish(shell, build_dir / "overlay")
    used = shell.folder / "reports" / "utilization.rpt"
    write_post_synth(build_dir, reports.read_report(used), str(used))
    _keep(build_dir, {**record, "bit": bit.name, "bit_sha256": _sha256(bit)})
    return bit


def examine(shell: Shell) -> dict[str, Any]:
    """What the reports say, for build.json. Raises ToolError for whatever makes the bitstream one not to be used."""
    folder = shell.folder / "reports"
    texts = {name: reports.read_report(folder / f"{name}.rpt") for name in ("utilization", "timing", "power")}
    timing = reports.timing(texts["timing"], str(folder / "timing.rpt"))
    if not timing.is_met:
        raise ToolError(
            f"{folder / 'timing.rpt'} must hold no negative slack at {shell.clock.mhz:g} MHz, got WNS {timing.wns:g} "
            f"ns, WHS {timing.whs:g} ns, WPWS {timing.wpws:g} ns: ask for a slower clock with --clk-mhz"
        )
    _refuse_warnings(shell)
    _check_memories(shell)
    power = reports.power(texts["power"], str(folder / "power.rpt"))
    return {
        "tool": reports.tool_version(texts["utilization"], str(folder / "utilization.rpt")),
        "git": shell.git,
        "build_id": f"0x{shell.build_id:08x}",
        "clk_asked_mhz": shell.clock.asked_mhz,
        "clk_mhz": shell.clock.mhz,
        "clk_divisors": list(shell.clock.divisors),
        "resources": asdict(reports.utilisation(texts["utilization"], str(folder / "utilization.rpt"))),
        "slack_ns": asdict(timing),
        "power_w": {**asdict(power), "source": "estimated by Vivado, not measured"},
    }


def _refuse_warnings(shell: Shell) -> None:
    allowed = reports.allowed_ids(reports.read_report(shell.folder / ALLOWED))
    for log in (shell.folder / LOG, shell.folder / "reports" / "synth_1.log", shell.folder / "reports" / "impl_1.log"):
        found = reports.critical_warnings(reports.read_report(log), allowed)
        if found:
            raise ToolError(
                f"{log} must hold no critical warning, got {len(found)}, the first {found[0][:200]}: mend it, or list "
                f"its id with the reason in board/{shell.board}/{ALLOWED}"
            )


def _check_memories(shell: Shell) -> None:
    """A memory whose file was not found would be zero on the board, and nothing else would say so."""
    log = shell.folder / "reports" / "synth_1.log"
    missing = sorted(set(shell.memory_files) - reports.memories_read(reports.read_report(log)))
    if missing:
        raise ToolError(
            f"{log} must name every memory file as read, got none of {', '.join(missing[:5])} ({len(missing)} of "
            f"{len(shell.memory_files)}): see what synthesis said of $readmem"
        )


def _publish(shell: Shell, out_dir: Path) -> Path:
    """The checked `.bit` and `.hwh` lie in `out_dir`, named by content; the `.bit` last, so that it is never alone."""
    stem = shell.folder / "out" / shell.overlay.name
    bit, handoff = stem.with_suffix(".bit"), stem.with_suffix(".hwh")
    for path in (bit, handoff):
        if not path.is_file():
            raise ToolError(f"Vivado must leave {path.name} in {path.parent}, got none; see {LOG}")
    data, text = bit.read_bytes(), reports.read_report(handoff)
    try:
        bit_body(data)
    except BoardError as error:
        raise ToolError(f"{bit} must be a whole bitstream: {error}") from error
    check_handoff(text, shell.overlay, str(handoff))
    name = f"{shell.overlay.name}-{hashlib.sha256(data).hexdigest()[:12]}"
    output_directory(out_dir)
    atomic_write(out_dir / f"{name}.hwh", text)
    atomic_write(out_dir / f"{name}.bit", data)
    return out_dir / f"{name}.bit"


def _keep(build_dir: Path, record: dict[str, Any]) -> None:
    path = build_dir / "build.json"
    atomic_write(path, json.dumps({**json.loads(path.read_text()), reports.RECORD: record}, indent=1) + "\n")


def _known(shell: Shell, build_dir: Path) -> Path | None:
    """The `.bit` that the same inputs gave before; None where there is none, or another one."""
    record = json.loads((build_dir / "build.json").read_text()).get(reports.RECORD, {})
    if record.get("build_id") != f"0x{shell.build_id:08x}":
        return None
    bit = build_dir / "overlay" / record["bit"]
    is_whole = bit.is_file() and bit.with_suffix(".hwh").is_file() and _sha256(bit) == record["bit_sha256"]
    return bit if is_whole else None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

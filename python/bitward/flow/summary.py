# SPDX-License-Identifier: Apache-2.0
"""`summary.json`: the figures of a run in one place, each measured by a stage of that run."""

from __future__ import annotations

import json
from typing import Any

from bitward.flow.rates import curves
from bitward.flow.run import Run
from bitward.flow.spec import SIDES, Side
from bitward.hardware.build import versions
from bitward.manifest import Manifest
from bitward.tools import atomic_write, git_hash

NOT_MEASURED = "not measured"
INT8_BITS = 8  # the unprotected baseline of the FORTUNE paper

SIMULATED = (
    "The board is virtual: the RTL of the build, compiled by Verilator, behind a PYNQ.remote server on this machine.",
    "Cycles are counted in RTL simulation. No board was timed; frames per second are cycles at the clock asked for.",
    "The multipliers are FINN's behavioural model; Vivado would compile its DSP48E2 branch instead.",
    "Power, timing closure and Vivado's resource counts were not measured.",
)
EXCEPT_MEASURED = (
    "All but the measurement of the build on a board is simulated: the RTL, compiled by Verilator, on this machine.",
    "Cycles are counted in RTL simulation, and frames per second by them are at the clock asked for.",
    *SIMULATED[2:3],
    "Timing closure and Vivado's resource counts are not here: see the build.json of the board's overlay.",
)
"""What is simulated where the flow's build was measured on a real board."""


def summarise(run: Run, results: dict[str, dict[str, Any]], wall_s: dict[str, float]) -> dict[str, Any]:
    """Everything the stages found, as `summary.json` holds it; what no stage measured is "not measured"."""
    builds = {side: _build_record(run, side) for side in SIDES}
    verify, inject = results.get("verify", {}), results.get("inject", {})
    train, export = results.get("train", {}), results.get("export", {})
    summary = {
        "flow": run.flow.name,
        "network": run.flow.network,
        "dataset": run.dataset().name,
        "accuracy": export.get("accuracy", _accuracy_of_the_file(verify)),
        "accuracy_seeds": train.get("accuracy_by_seed", NOT_MEASURED),
        "accuracy_mean": train.get("mean", NOT_MEASURED),
        "images": verify.get("images", NOT_MEASURED),
        "rtl_equal_images": verify.get("equal", NOT_MEASURED),
        "verify": {side: verify.get(side, NOT_MEASURED) for side in SIDES},
        "steady_cycles_per_image": {side: _cycles(builds[side], "steady_per_image") for side in SIDES},
        "latency_cycles": {side: _cycles(builds[side], "latency") for side in SIDES},
        "weight_memory_bits": _memory_bits(run),
        "msb_faults": _msb(inject),
        "targets_agree": {key: inject["agree"][key] for key in ("compared", "equal", "targets")}
        if "agree" in inject
        else NOT_MEASURED,
        "restored_golden": _restored(inject),
        "measured": results.get("measure", NOT_MEASURED),
        "resources": results.get("resources", dict.fromkeys(SIDES, NOT_MEASURED)),
        "ber": _curves(run, inject, builds),
        "campaigns": {name: found for name, found in inject.items() if name not in ("agree", "ber")},
        "wall_s": wall_s,
        "seeds": {"train": train.get("seeds", []), "exported": export.get("seed"), "inject": run.flow.inject.seed},
        "board": builds["hardened"]["board"] if builds["hardened"] else NOT_MEASURED,
        "clk_mhz": run.flow.build.clk_mhz,
        "versions": versions(),
        "git": git_hash(),
        "simulated": list(EXCEPT_MEASURED if _is_on_a_board(results.get("measure", {})) else SIMULATED),
        "settings": run.flow.model_dump(mode="json"),
    }
    atomic_write(run.folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    return summary


def _accuracy_of_the_file(verify: dict[str, Any]) -> Any:
    """Of a model that was not trained here: its QONNX graph's, on the images of the stage `verify`."""
    return verify["plain"]["accuracy"] if "plain" in verify else NOT_MEASURED


def _build_record(run: Run, side: Any) -> dict[str, Any]:
    path = run.build(side) / "build.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def _cycles(record: dict[str, Any], which: str) -> Any:
    return record.get("cycles", {}).get(which, NOT_MEASURED)


def _memory_bits(run: Run) -> Any:
    """Stored bits of all weight memories, padding included; INT8 is the same weights in 8 bits, unprotected."""
    paths = {side: run.build(side) / "manifest.json" for side in SIDES}
    if not all(path.is_file() for path in paths.values()):
        return NOT_MEASURED
    weights = {
        side: [memory for memory in Manifest.load(path).memories if memory.role == "weight"]
        for side, path in paths.items()
    }
    bits: dict[str, int] = {side: sum(memory.depth * memory.width for memory in weights[side]) for side in SIDES}
    return {**bits, "int8": INT8_BITS * sum(memory.parameters for memory in weights["plain"])}


def _curves(run: Run, inject: dict[str, Any], builds: dict[Side, dict[str, Any]]) -> Any:
    if "ber" not in inject:
        return NOT_MEASURED
    return curves(run, inject["ber"], {side: _cycles(builds[side], "steady_per_image") for side in SIDES})


def _msb(inject: dict[str, Any]) -> Any:
    if "msb-plain" not in inject or "msb-hardened" not in inject:
        return NOT_MEASURED
    plain, hardened = inject["msb-plain"], inject["msb-hardened"]
    return {
        "injected": hardened["faults"],
        "injected_plain": plain["faults"],
        "changed_plain": plain["changed"],
        "changed_hardened": hardened["changed"],
        "top1_changed_plain": plain["top1_changed"],
        "top1_changed_hardened": hardened["top1_changed"],
    }


def _is_on_a_board(measured: dict[str, Any]) -> bool:
    """Whether a row of the stage `measure` is of what is not simulated."""
    return any(not row["simulated"] for row in measured.values())


def _restored(inject: dict[str, Any]) -> Any:
    found = [value["restored_golden"] for value in inject.values() if "restored_golden" in value]
    return all(found) if found else NOT_MEASURED

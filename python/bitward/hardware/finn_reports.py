# SPDX-License-Identifier: Apache-2.0
"""A build's figures once more, in files that FINN users know: DIR/report/, by the names and keys of finn-plus 1.6.1.

Nodes have FINN's names (StoredMVAU_rtl_0 is MVAU_rtl_0). Figures are bitward's own: estimates by hardware.estimates,
cycles as simulated in RTL, and what synthesis takes only where Vivado's own report was read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bitward.hardware.estimates import Resources, node_resources
from bitward.hardware.fifos import QUEUE
from bitward.hardware.finn_attributes import CHOSEN, finn_name
from bitward.hardware.finn_config import DEFAULTS
from bitward.hardware.generate import Design
from bitward.hardware.vivado_reports import block_rams, utilisation
from bitward.tools import atomic_write, output_directory

FOLDER = "report"
BRAM_18K_BITS, URAM_BITS = 18 * 1024, 288 * 1024
OF_FINN = {"Thresholding": ("PE",), "LabelSelect": ("PE",)}  # of kinds whose memories FINN has no ram_style for


class Stopwatch:
    """A build's progress, and the seconds of each of its steps: one lasts until the next begins.

    What a step says of itself on the way ("queues: ...") is passed on, and is no step.
    """

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress, self._start, self._step = progress, time.monotonic(), ""
        self._seconds: dict[str, float] = {}

    def __call__(self, said: str) -> None:
        """The build says what it does now."""
        if ":" not in said:
            self._close()
            self._step = f"step_{said.replace(' ', '_').lower()}"
        self._progress(said)

    def seconds(self) -> dict[str, float]:
        """By step, in order, and `total_build_time`; the step in progress ends."""
        self._close()
        steps = {step: round(seconds, 1) for step, seconds in self._seconds.items()}
        return {**steps, "total_build_time": round(sum(steps.values()), 1)}

    def _close(self) -> None:
        now = time.monotonic()
        if self._step:
            self._seconds[self._step] = self._seconds.get(self._step, 0.0) + now - self._start
        self._start = now


def write_reports(build_dir: Path, design: Design, record: Mapping[str, Any], images: int, clock: Stopwatch) -> None:
    """DIR/report holds what FINN's build leaves there, without what only Vivado could say.

    `record` is build.json; `images` were streamed for its cycles. Where nothing was simulated there is no
    rtlsim_performance.json.
    """
    from qonnx.custom_op.registry import getCustomOp

    ops = {finn_name(node.name): getCustomOp(node) for node in design.model.graph.node}
    cycles = {name: int(op.get_exp_cycles()) for name, op in ops.items() if not name.startswith(QUEUE)}
    files: dict[str, Any] = {
        "auto_folding_config.json": _folding(design.folding),
        "estimate_layer_cycles.json": cycles,
        "estimate_layer_resources.json": _resources(design, ops),
        "estimate_network_performance.json": _performance(design.model, cycles, record["clk_mhz"]),
        "fifo_sizing.json": _queues(ops),
        "time_per_step.json": clock.seconds(),
    }
    if isinstance(record["cycles"], Mapping):
        last = next(name for name in reversed(ops) if not name.startswith(QUEUE))
        files["rtlsim_performance.json"] = [_simulated(last, record["cycles"], images, record["clk_mhz"])]
    folder = output_directory(build_dir / FOLDER)
    for name, content in files.items():
        _save(folder / name, content)


def write_post_synth(build_dir: Path, text: str, where: str) -> None:
    """DIR/report/post_synth_resources.json has what Vivado's utilization report says of the whole PL design.

    `text` is the report, `where` its path; ToolError where it is none. Not yet run on hardware.
    """
    used, (wide, narrow) = utilisation(text, where), block_rams(text, where)
    counts = {"LUT": used.lut, "FF": used.ff, "BRAM_36K": wide, "BRAM_18K": narrow, "URAM": used.uram, "DSP": used.dsp}
    _save(output_directory(build_dir / FOLDER) / "post_synth_resources.json", {"(top)": counts})


def _save(path: Path, content: Any) -> None:
    atomic_write(path, json.dumps(content, indent=2) + "\n")


def _folding(folding: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The folding as it was applied, by FINN's names and with attributes that FINN's nodes have; queues apart."""
    result: dict[str, dict[str, Any]] = {DEFAULTS: {}}
    for name, values in folding.items():
        if name == DEFAULTS or name.startswith(QUEUE):
            continue
        called = finn_name(name)
        taken = OF_FINN.get(called.rsplit("_", 2)[0], CHOSEN)
        if kept := {key: value for key, value in values.items() if key in taken}:
            result[called] = kept
    return result


def _resources(design: Design, ops: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    stored = {finn_name(node.name) for node in design.nodes if node.memory}
    held = {memory.name: memory.depth * memory.width for memory in design.memories}
    result: dict[str, dict[str, float]] = {}
    totals: Resources = {}
    in_rams = 0
    for name, op in ops.items():
        if name.startswith(QUEUE):
            continue
        needed = node_resources(op)
        bits = held.get(op.memory_name(), 0) if name in stored else 0
        result[name] = _of_finn(needed, bits)
        in_rams += bits if needed["bram36"] or needed["uram"] else 0
        totals = {kind: totals.get(kind, 0) + count for kind, count in needed.items()}
    return {**result, "total": _of_finn(totals, in_rams)}


def _of_finn(needed: Resources, stored_bits: int) -> dict[str, float]:
    """FINN's keys. An efficiency is the share of RAM blocks that stored bits fill, 1 where there are none of either."""
    brams, urams = 2 * needed["bram36"], needed["uram"]
    return {
        "BRAM_18K": brams,
        "BRAM_efficiency": stored_bits / (brams * BRAM_18K_BITS) if brams and stored_bits else 1,
        "LUT": round(needed["lut"]),
        "URAM": urams,
        "URAM_efficiency": stored_bits / (urams * URAM_BITS) if urams and stored_bits else 1,
        "DSP": needed["dsp"],
    }


def _performance(model: Any, cycles: Mapping[str, int], clk_mhz: float) -> dict[str, Any]:
    """FINN's estimate: the slowest node sets the rate; latency as if no two nodes on the longest path overlapped."""
    slowest = max(cycles, key=lambda name: cycles[name])
    reached: dict[str, int] = {}
    for node in model.graph.node:
        before = [reached[each.name] for each in model.find_direct_predecessors(node) or []]
        reached[node.name] = cycles.get(finn_name(node.name), 0) + max(before, default=0)
    path = max(reached.values())
    return {
        "critical_path_cycles": path,
        "max_cycles": cycles[slowest],
        "max_cycles_node_name": slowest,
        "estimated_throughput_fps": clk_mhz * 1e6 / cycles[slowest],
        "estimated_latency_ns": path * 1000 / clk_mhz,
    }


def _simulated(name: str, cycles: Mapping[str, Any], images: int, clk_mhz: float) -> dict[str, Any]:
    """What was measured in simulated RTL at the design's last node."""
    return {
        "name": name,
        "cycles": cycles["stream"],
        "samples": images,
        "intervals": [cycles["steady_per_image"]],
        "latency_cycles": [cycles["latency"]],
        "throughput_fps": clk_mhz * 1e6 / cycles["steady_per_image"],
    }


def _queues(ops: Mapping[str, Any]) -> dict[str, Any]:
    queues = {name: op for name, op in ops.items() if name.startswith(QUEUE)}
    depths = {name: int(op.get_nodeattr("depth")) for name, op in queues.items()}
    sizes = {name: op.get_instream_width() * depths[name] for name, op in queues.items()}
    effective = {name: op.get_instream_width() * -(-depths[name] // 32) * 32 for name, op in queues.items()}
    return {
        "fifo_depths": depths,
        "fifo_sizes": sizes,
        "fifo_sizes_effective": effective,
        "impl_style": dict.fromkeys(queues, "rtl"),
        "ram_style": {name: op.get_nodeattr("ram_style") for name, op in queues.items()},
        "total_fifo_size_kiB": sum(sizes.values()) / 8 / 1024,
        "total_fifo_size_effective_kiB": sum(effective.values()) / 8 / 1024,
    }

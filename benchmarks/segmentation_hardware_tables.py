# SPDX-License-Identifier: Apache-2.0
"""The tables of segmentation_hardware.py: scenes, frames, and rates beside the papers' DPU."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

MODELS = Path(__file__).resolve().parents[1] / "onnx_models"
CLK_MHZ = 200.0
FRAME = (192, 384)  # the papers' input
LARGE = "large"
RELU, SIGMOID, HARDSIGMOID = "relu", "sigmoid", "hardsigmoid"
ACTIVATIONS = (RELU, SIGMOID, HARDSIGMOID)
DPU = {RELU: (22.68, 8.41), SIGMOID: (0.59, 16.46), HARDSIGMOID: (19.83, 10.35)}
"""Frames a second and operations a frame in billions: the bounded-activation paper's Tables IV and II, KV260, B4096."""
NOT_MEASURED = "not measured"
SIDES, KINDS = ("plain", "hardened"), ("lut", "ff", "bram36", "uram", "dsp")
Result = dict[str, Any]
ALIKE = (1.0, 1.02)  # operations of two networks as a ratio: frames a second are compared in this range only


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def scene_table(summaries: Mapping[str, Result]) -> str:
    """What the flows found on scenes, one column an activation."""
    rows: list[tuple[str, Callable[[Result], str]]] = [
        ("IoU by frequency and by its inverse, by the model's card", iou),
        ("scenes; RTL = QONNX, plain, without / with stalls", lambda s: equal(s, "plain")),
        ("the same, hardened", lambda s: equal(s, "hardened")),
        ("steady cycles a scene, plain / hardened", lambda s: pair(s["steady_cycles_per_image"])),
        ("latency in cycles, plain / hardened", lambda s: pair(s["latency_cycles"])),
        ("weight bits, plain / hardened", lambda s: pair(s["weight_memory_bits"])),
        ("LUT / FF / BRAM36 / URAM / DSP, plain (Yosys)", lambda s: counts(s, "plain")),
        ("LUT / FF / BRAM36 / URAM / DSP, hardened (Yosys)", lambda s: counts(s, "hardened")),
        ("faults alike on engine, RTL and virtual board", agreement),
    ]
    names = list(summaries)
    lines = [[title, *(of(summaries[name]) for name in names)] for title, of in rows]
    return markdown(["", *(f"`roads_unet_{name}`" for name in names)], lines)


def iou(summary: Result) -> str:
    """As the card of the flow's model has it."""
    card = (MODELS / f"{summary['network']}.md").read_text()
    found = re.search(r"^\| IoU of this file, weighted \| ([\d.]+%) by frequency, ([\d.]+%)", card, re.MULTILINE)
    return " / ".join(found.groups()) if found else NOT_MEASURED


def equal(summary: Result, side: str) -> str:
    """Scenes that are equal, of how many."""
    found = summary["verify"][side]
    if not isinstance(found, dict):
        return NOT_MEASURED
    return f"{found['equal']} / {found['equal_with_stalls']} of {summary['images']}"


def pair(values: Any) -> str:
    """Plain and hardened."""
    if not isinstance(values, dict):
        return NOT_MEASURED
    return " / ".join(NOT_MEASURED if isinstance(value := values[side], str) else f"{value:,.0f}" for side in SIDES)


def counts(summary: Result, side: str) -> str:
    """Yosys' counts of a side."""
    found = summary["resources"][side]
    return " / ".join(f"{found['total'][kind]:,g}" for kind in KINDS) if isinstance(found, dict) else NOT_MEASURED


def agreement(summary: Result) -> str:
    """Faults on which all targets agree."""
    found = summary["targets_agree"]
    return f"{found['equal']} of {found['compared']}" if isinstance(found, dict) else NOT_MEASURED


def frame_table(results: Mapping[str, Result]) -> str:
    """What RTL showed of frames, one column a case."""
    rows: list[tuple[str, Callable[[Result], str]]] = [
        ("filters by level, bottom", lambda r: ", ".join(map(str, r["channels"]))),
        ("frame", lambda r: f"{r['size'][0]}x{r['size'][1]}"),
        ("stored", lambda r: "plain" if r["protect"] == "none" else "MSB voters, thresholds in triplicate"),
        ("frames; RTL = QONNX / = engine", lambda r: "{frames}; {equal_qonnx} / {equal_engine}".format(**r["run"])),
        ("cycles from frame to frame", lambda r: ", ".join(f"{each:,}" for each in r["run"]["cycles_between_frames"])),
        ("a scene's steady cycles by pixels, for comparison", lambda r: f"{r['scene_cycles'] * r['larger']:,.0f}"),
        ("latency in cycles", lambda r: f"{r['run']['latency_cycles']:,}"),
        ("sha256 of the RTL but for the design's number", lambda r: f"{r['rtl_sha256'][:12]}..."),
        ("LUT / FF / BRAM36 / URAM / DSP, estimated", lambda r: blocks(r["estimated"])),
        ("queues: Mb; BRAM36 / URAM of those",
         lambda r: f"{r['queues']['bits'] / 1e6:.2f}; {memory(r['queues']['estimated'])}"),
        ("queues at concatenations: beats x bits, BRAM36 / URAM", at_concatenations),
        ("simulated cycles a second", lambda r: f"{r['run']['simulated_cycles_per_s']:,}"),
    ]  # fmt: skip
    lines = [[title, *(of(result) for result in results.values())] for title, of in rows]
    return markdown(["", *(f"`{name}`" for name in results)], lines)


def blocks(needed: Mapping[str, float]) -> str:
    """LUT / FF / BRAM36 / URAM / DSP."""
    return " / ".join(f"{needed[kind]:,.0f}" for kind in KINDS)


def memory(needed: Mapping[str, float]) -> str:
    """Block RAMs and UltraRAMs."""
    return f"{needed['bram36']:g} / {needed['uram']:g}"


def at_concatenations(result: Result) -> str:
    """The deep queues of skip connections."""
    found = [each for each in result["queues"]["at_concatenations"] if each["bram36"] or each["uram"]]
    return "; ".join(f"{each['depth']:,} x {each['bits']}, {memory(each)}" for each in found) or "none in blocks"


def speed(result: Result) -> tuple[float, float]:
    """Frames a second at the assumed clock, by the longest time between two frames, and operations a second, 1e9."""
    fps = CLK_MHZ * 1e6 / max(result["run"]["cycles_between_frames"])
    return fps, fps * result["operations"] / 1e9


def speed_table(results: Mapping[str, Result]) -> str:
    """Rates beside the DPU's, where operations and input are like its own: FPS too; else operations a second alone."""
    rows = []
    for name, result in results.items():
        activation = RELU if name == LARGE else name
        fps, giga = speed(result)
        dpu_fps, dpu_operations = DPU[activation]
        ratio = result["operations"] / 1e9 / dpu_operations
        alike = ALIKE[0] <= ratio <= ALIKE[1] and tuple(result["size"]) == FRAME
        rows.append([
            f"`{name}`", f"{result['operations'] / 1e9:.3f}", f"{fps:.1f}", f"{giga:.1f}",
            f"{dpu_operations:.2f}", f"{dpu_fps:.2f}", f"{dpu_fps * dpu_operations:.1f}",
            f"{fps / dpu_fps:.2f}" if alike else "not comparable", f"{giga / (dpu_fps * dpu_operations):.2f}",
        ])  # fmt: skip
    head = ["", "GOP a frame", "FPS, RTL cycles at 200 MHz", "GOPS/s", "DPU: GOP a frame", "DPU: FPS (measured there)",
            "DPU: GOPS/s", "FPS / DPU's", "GOPS/s / DPU's"]  # fmt: skip
    return markdown(head, rows)

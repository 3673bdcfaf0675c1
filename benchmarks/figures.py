# SPDX-License-Identifier: Apache-2.0
"""Print the figures of runs as the Markdown table of RESULTS.md: `python benchmarks/figures.py runs/digits ...`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """(figure, value) of one run."""
    msb, agree, images = summary["msb_faults"], summary["targets_agree"], summary["images"]
    bits, resources = summary["weight_memory_bits"], summary["resources"]
    both = ("plain", "hardened")
    wall = summary["wall_s"]
    return [
        ("test accuracy, mean of seeds", f"{summary['accuracy_mean']:.2%} of {len(summary['accuracy_seeds'])}"),
        ("test accuracy, exported seed", f"{summary['accuracy']:.2%}"),
        ("images on which RTL equals QONNX, plain and hardened, with and without stalls",
         f"{summary['rtl_equal_images']} of {images}"),
        ("steady cycles per image, plain / hardened", pair(summary["steady_cycles_per_image"], both)),
        ("latency in cycles, plain / hardened", pair(summary["latency_cycles"], both)),
        ("weight memory bits, plain / hardened / INT8", pair(bits, (*both, "int8"))),
        ("single faults in MSBs of the plain weights that changed an output",
         f"{msb['changed_plain']} of {msb['injected_plain']} ({msb['top1_changed_plain']} changed the decision)"),
        ("single faults in voted bits and copies of the hardened weights that changed an output",
         f"{msb['changed_hardened']} of {msb['injected']}"),
        ("faults on which engine, RTL and board agree in every output", f"{agree['equal']} of {agree['compared']}"),
        ("memories golden after every campaign", "yes" if summary["restored_golden"] is True else "no"),
        *[(f"{name} by Yosys, plain / hardened", count(resources, both, key))
          for name, key in (("LUTs", "lut"), ("flip-flops", "ff"), ("block RAMs (36 kb)", "bram36"), ("DSPs", "dsp"))],
        ("seconds per stage", ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in wall.items())),
        ("seconds in all", f"{sum(wall.values()):.0f}"),
    ]  # fmt: skip


def pair(values: Any, keys: tuple[str, ...]) -> str:
    """The values of the keys, slashes between."""
    return " / ".join(f"{values[key]:g}" if isinstance(values[key], (int, float)) else str(values[key]) for key in keys)


def count(resources: dict[str, Any], sides: tuple[str, ...], key: str) -> str:
    """One resource of each side, or that it was not measured."""
    found = [resources[side]["total"][key] if isinstance(resources[side], dict) else "not measured" for side in sides]
    return " / ".join(f"{value:g}" if isinstance(value, (int, float)) else value for value in found)


def main() -> None:
    """One column a run."""
    summaries = [json.loads((Path(folder) / "summary.json").read_text()) for folder in sys.argv[1:]]
    columns = [rows(summary) for summary in summaries]
    print("| | " + " | ".join(f"`{summary['flow']}`" for summary in summaries) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for lines in zip(*columns, strict=True):
        print(f"| {lines[0][0]} | " + " | ".join(value for _, value in lines) + " |")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""The search of a float network's design space: how its weights are quantized and stored."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from bitward.explore.design import Design, Point
from bitward.explore.evaluate import Bench
from bitward.explore.search import Evaluation
from bitward.explore.subject import Subject
from bitward.flow.explorer import Explorer, finish, section_of
from bitward.flow.software import open_software
from bitward.flow.software_spec import SoftwareFlow
from bitward.tools import output_directory


def explore_software(flow: SoftwareFlow, runs: Path, console: Console, data: Path | None) -> dict[str, Any]:
    """The flow's first seed is searched: no seed is chosen by its results."""
    run, section = open_software(flow, runs, console, data), section_of(flow, flow.name)
    explorer = Explorer(output_directory(run.folder / "explore"), console, section, run.device, False)
    subject = run.subjects()[flow.seeds[0]]
    bench, each = partial(_bench, explorer, subject), partial(_evaluated, explorer, subject)
    done, count = explorer.searched(
        range(section.bits[0], section.bits[1] + 1), lambda point: each(_design(flow, point))
    )
    found: dict[Design, Evaluation] = {_design(flow, point): known for point, known in done.evaluations.items()}
    answer = None if done.answer is None else _design(flow, done.answer)
    if answer is not None and section.per_layer:
        answer, more = explorer.layers(answer, bench(answer), each)
        found |= more
        count["by_layer"] = len(more)
    chosen = None if answer is None else _flow_of(flow, answer)
    return finish(explorer, flow, flow.dataset, found, answer, count, chosen)


def _design(flow: SoftwareFlow, point: Point) -> Design:
    section = flow.quantize
    return Design(point, section.format, section.per, section.biases)


def _bench(explorer: Explorer, subject: Subject, design: Design) -> Bench:
    return Bench(subject, design, design.to_dict(), explorer.trials, explorer.rules)


def _evaluated(explorer: Explorer, subject: Subject, design: Design) -> Evaluation:
    return explorer.judge(_bench(explorer, subject, design), str(design))


def _flow_of(flow: SoftwareFlow, design: Design) -> dict[str, Any]:
    """The flow of the answer, as YAML has it: `bitward run` takes it from any folder."""
    told = flow.model_dump(mode="json", exclude={"explore"}, exclude_defaults=True)
    told["name"] = f"{flow.name}-recommended"
    if flow.weights is not None:
        told["weights"] = str(flow.weights.resolve())
    quantize: dict[str, Any] = {"format": design.format, "bits": design.point.bits, "per": design.per}
    quantize |= {"biases": design.biases, "layers": {layer: point.bits for layer, point in design.layers}}
    told["quantize"] = quantize
    told["harden"] = {"scheme": design.point.scheme, "voted": design.point.voted}
    return told

# SPDX-License-Identifier: Apache-2.0
"""The search of a float network's design space: how its weights are quantized and stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from bitward.errors import ConfigError
from bitward.explore.design import REALS, Design, FormatName, Point, widths_of
from bitward.explore.evaluate import Bench
from bitward.explore.scale import By, Scale, scaled_subject
from bitward.explore.search import Evaluation
from bitward.explore.subject import Subject
from bitward.flow.explore_spec import Explore
from bitward.flow.explorer import Explorer, finish, section_of
from bitward.flow.software import SAFE, open_software
from bitward.flow.software_spec import SoftwareFlow
from bitward.tools import output_directory


def explore_software(flow: SoftwareFlow, runs: Path, console: Console, data: Path | None) -> dict[str, Any]:
    """The flow's first seed is searched: no seed is chosen by its results."""
    section = section_of(flow, flow.name)
    if section.per_layer and flow.quantize.scale is not None and flow.quantize.scale.divide == "logits":
        raise ConfigError("explore.per_layer must be false where logits are divided, got true: divide weights")
    run = open_software(flow, runs, console, data)
    explorer = Explorer(output_directory(run.folder / "explore"), console, section, run.device, False)
    subject = run.subjects()[flow.seeds[0]]
    bench, each = partial(_bench, explorer, subject), partial(_evaluated, explorer, subject)
    done, count = explorer.searched(range(section.bits[0], section.bits[1] + 1), kinds(flow, section, explorer), each)
    found: dict[Design, Evaluation] = dict(done.evaluations)
    answer: Design | None = done.answer
    if answer is not None and section.per_layer and len(widths_of(answer.format)) > 1:
        answer, more = explorer.layers(answer, bench(answer), each)
        found |= more
        count["by_layer"] = len(more)
    chosen = None if answer is None else _flow_of(flow, answer)
    return finish(explorer, flow, flow.dataset, found, answer, count, chosen, list(_said(flow, section, answer)))


def _said(flow: SoftwareFlow, section: Explore, answer: Design | None) -> Iterator[str]:
    """What is true of this search alone."""
    if section.safe_exponents:
        yield SAFE
    if section.scaling and set(section.formats or (flow.quantize.format,)) - set(REALS):
        yield "Integers are stored by the range of the weights: that is scaling, an axis of one value there."
    if section.per_layer and answer is not None and len(widths_of(answer.format)) == 1:
        yield f"Words of {answer} have one width: layer by layer there was nothing to take away."


def kinds(flow: SoftwareFlow, section: Explore, explorer: Explorer) -> list[Callable[[int], Design]]:
    """The ways to store weights of any width that the space has: formats x scalings x how words are stored."""
    formats = section.formats or (flow.quantize.format,)
    return [
        partial(_design, flow, form, by, way) for form in formats for by in _scalings(flow, section, form)
        for way in explorer.ways
    ]  # fmt: skip


def _scalings(flow: SoftwareFlow, section: Explore, form: FormatName) -> Iterator[By]:
    """The scalings of a format: those of the section, or of the flow; integers have none."""
    own: By = "none" if flow.quantize.scale is None else flow.quantize.scale.by
    yield from (section.scaling or (own,)) if form in REALS else ("none",)


def _design(flow: SoftwareFlow, form: FormatName, by: By, way: Callable[[int], Point], bits: int) -> Design:
    """The design of that width, or of the one that the format has."""
    widths, section = widths_of(form), flow.quantize
    point = way(bits if bits in widths else widths[0])
    if form not in REALS:
        return Design(point, form, section.per, section.biases)
    given = section.scale
    scale = Scale() if by == "none" else Scale(by, *((given.t, given.divide) if given is not None else ()))
    return Design(point, form, "tensor", section.biases, (), scale, section.beyond)


def _bench(explorer: Explorer, subject: Subject, design: Design) -> Bench:
    subject = scaled_subject(subject, design.scale, design.real)
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
    if design.scale.by != "none":
        quantize["scale"] = asdict(design.scale)
    quantize["beyond"] = design.beyond
    told["quantize"] = quantize
    told["harden"] = {"scheme": design.point.scheme, "voted": design.point.voted}
    return told

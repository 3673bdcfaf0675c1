# SPDX-License-Identifier: Apache-2.0
"""What every search of a design space has: how points are judged and kept, and what is written of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from bitward.campaign.progress import showing
from bitward.errors import ConfigError
from bitward.explore.buildable import buildable
from bitward.explore.design import BASELINE_BITS, Design, Point
from bitward.explore.evaluate import Bench, Rate, Rules
from bitward.explore.ledger import Ledger
from bitward.explore.search import Evaluation, Limits, Search, by_layer, pareto, search, ways
from bitward.explore.text import with_interval
from bitward.flow.explore_spec import Explore
from bitward.hardware.build import versions
from bitward.tools import atomic_write, git_hash

SAID = (
    "Software-only: points are evaluated in PyTorch on a computer. What hardware does with the answer is measured when "
    "it is built; no board and no RTL took part here.",
    "A point is feasible where its accuracy on the whole test set is at least the floor, and the whole 95 % interval "
    "of what it loses, over fault sets on one fixed set of images, is at most the ceiling.",
    "Algorithm 1 of FORTUNE as printed does not narrow its range (line 18); the binary search that its text describes "
    "is what runs here. It supposes that more bits never make a feasible point infeasible.",
    "SEC-DED of a float network is over each weight by itself; in hardware a memory row shares its check bits, which "
    "takes fewer.",
)


@dataclass(frozen=True)
class Explorer:
    """One search: where it is kept, and how a point is judged."""

    folder: Path
    console: Console
    section: Explore
    device: str
    has_quantized_activations: bool

    @property
    def limits(self) -> Limits:
        """What is asked of every point."""
        return Limits(self.section.accuracy_floor, self.section.vulnerability_ceiling)

    @property
    def rules(self) -> Rules:
        """How each point is measured."""
        return Rules(self.section.trials, self.section.images, self.section.seed, device=self.device)

    @property
    def rate(self) -> Rate:
        """What each point is attacked with."""
        return Rate(self.section.ber, self.section.spread, self.section.safe_exponents)

    @property
    def trials(self) -> Path:
        """Where campaigns are kept."""
        return self.folder / "campaigns"

    def judge(self, bench: Bench, name: str) -> Evaluation:
        """What is known of a point; it is attacked only if its accuracy suffices, as Algorithm 1 has it."""
        is_attacked = bench.accuracy >= self.limits.accuracy_floor
        facts = {**bench.identity, "images": bench.subject.images_sha256, "attacked": is_attacked}
        facts |= {"rate": asdict(self.rate), "rules": asdict(self.rules)}
        return Ledger(self.folder / "points").evaluate(name, facts, lambda: self._made(bench, name, is_attacked))

    def _made(self, bench: Bench, name: str, is_attacked: bool) -> Evaluation:
        found = None
        if is_attacked:
            with showing(self.console, f"  {name}") as progress:
                found = bench.vulnerability(self.rate, self.rate.spread, progress)
        bits = bench.bits
        is_buildable, reason = buildable(bench.manifest, bits.stored_bits, self.has_quantized_activations)
        memory = bits.stored_bits / (BASELINE_BITS * bits.parameters)
        return Evaluation(
            name, bench.accuracy, found, bits.parameters, bits.stored_bits, memory, is_buildable, reason
        )  # fmt: skip

    @property
    def ways(self) -> list[Callable[[int], Point]]:
        """How words are stored, as the section has it."""
        return ways(self.section.schemes, self.section.voted)

    def searched(
        self, widths: Sequence[int], kinds: Sequence[Callable[[int], Any]], each: Callable[[Any], Evaluation]
    ) -> tuple[Search, dict[str, Any]]:
        """The search of the kinds, and how many points it took: in its own mode, by halves, and of the whole space."""
        section, remembered = self.section, dict[Any, Evaluation]()

        def known(point: Any) -> Evaluation:
            if point not in remembered:
                remembered[point] = each(point)
                self._tell(remembered[point])
            return remembered[point]

        done = search(section.mode, widths, kinds, known, self.limits)
        count: dict[str, Any] = {
            "mode": section.mode, "evaluated": done.count, "attacked": done.attacked,
            "space": len({way(bits) for way in kinds for bits in widths}), "is_monotone": done.is_monotone,
        }  # fmt: skip
        if section.mode == "exhaustive":
            halves = search("binary", widths, kinds, known, self.limits)
            count |= {"by_halves": halves.count, "same_answer": halves.answer == done.answer}
        return done, count

    def _tell(self, found: Evaluation) -> None:
        lost = "not attacked"
        if found.vulnerability is not None:
            lost = f"{with_interval(found.vulnerability.drop)} points lost"
        verdict = "feasible" if found.is_feasible(self.limits) else "not feasible"
        self.console.print(
            f"{found.name:<16} {found.accuracy:.2%} {lost}, {found.stored_bits:,} bits: {verdict}", soft_wrap=True,
            markup=False,
        )  # fmt: skip

    def layers(self, answer: Design, bench: Bench, each: Callable[[Design], Evaluation]) -> Any:
        """The answer with bits taken away layer by layer, the largest first; and what was evaluated for it."""
        sizes: dict[str, int] = {}
        for memory in bench.manifest.memories:
            sizes[memory.layer] = sizes.get(memory.layer, 0) + memory.population
        order = sorted(sizes, key=lambda layer: -sizes[layer])

        def told(design: Design) -> Evaluation:
            found = each(design)
            self._tell(found)
            return found

        return by_layer(answer, order, self.section.bits[0], told, self.limits)


def row(found: Evaluation, design: Any, front: set[Any], answer: Any, limits: Limits) -> dict[str, Any]:
    """A line of the table, as JSON values."""
    lost = found.vulnerability
    protected = design.point if isinstance(design, Design) else design
    own = {"format": design.format, "scaling": design.scale.by} if isinstance(design, Design) else {}
    return {
        "name": found.name,
        **own,
        "accuracy": found.accuracy,
        "drop": None if lost is None else asdict(lost.drop),
        "flips": None if lost is None else list(lost.flips),
        "parameters": found.parameters,
        "stored_bits": found.stored_bits,
        "memory": found.memory,
        "is_feasible": found.is_feasible(limits),
        "is_protected": protected.scheme != "plain",
        "is_pareto": design in front,
        "is_recommended": design == answer,
        "is_buildable": found.is_buildable,
        "reason": found.reason,
    }


def reason(found: Evaluation | None, limits: Limits, rate: Rate) -> str:
    """Why this is the answer, or why there is none, in a sentence."""
    asked = (
        f"keep {limits.accuracy_floor:.2%} without faults and surely lose at most "
        f"{100 * limits.vulnerability_ceiling:g} points at {rate}"
    )
    if found is None or found.vulnerability is None:
        return f"No point of those evaluated can {asked}: lower the floor, raise the ceiling, or add bits or schemes."
    lost = with_interval(found.vulnerability.drop)
    return (
        f"{found.name} stores the fewest bits of the points that {asked}: {found.stored_bits:,} bits, "
        f"{100 * found.memory:.2f} % of unprotected 8-bit words, {found.accuracy:.2%} without faults, "
        f"points lost {lost}."
    )


def count_text(count: Mapping[str, Any]) -> str:
    """How many evaluations the search took, in words."""
    text = (
        f"{'Binary search' if count['mode'] == 'binary' else 'Whole space'}: {count['evaluated']} of "
        f"{count['space']} points evaluated, {count['attacked']} of them attacked."
    )
    if "by_halves" in count:
        same = "gives the same answer" if count["same_answer"] else "gives another answer"
        text += f" A binary search evaluates {count['by_halves']} and {same}."
    if not count["is_monotone"]:
        text += " Feasible widths lie below infeasible ones of one scheme: a binary search may miss the best here."
    if "by_layer" in count:
        text += f" Layer by layer: {count['by_layer']} more."
    return text


def finish(
    explorer: Explorer, flow: Any, dataset: str, found: Mapping[Any, Evaluation], answer: Any, count: dict[str, Any],
    chosen: dict[str, Any] | None, said: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """search.json, report.html and, where there is an answer, recommended.yaml are in the folder; the search.

    `said` stands on the page beside what is true of every search.
    """
    from bitward.report.software import render_search

    limits, front = explorer.limits, pareto(found)
    why = reason(None if answer is None else found[answer], limits, explorer.rate)
    rows = [row(each, design, front, answer, limits) for design, each in found.items()]
    summary = {
        "kind": "search", "flow": flow.name, "network": flow.network, "dataset": dataset,
        "search": explorer.section.model_dump(mode="json"), "evaluations": count, "evaluations_text": count_text(count),
        "recommended": None if answer is None else found[answer].name, "reason": why,
        "points": sorted(rows, key=lambda each: -each["stored_bits"]), "said": [*SAID, *said],
        "settings": flow.model_dump(mode="json"), "versions": versions(), "git": git_hash(), "device": explorer.device,
    }  # fmt: skip
    target = explorer.folder / "recommended.yaml"
    if chosen is None:
        target.unlink(missing_ok=True)
    else:
        text = yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True, width=100)
        atomic_write(target, f"# Written by bitward explore: {why}\n{text}")
    atomic_write(explorer.folder / "search.json", json.dumps(summary, indent=1) + "\n")
    atomic_write(explorer.folder / "report.html", render_search(summary))
    return summary


def section_of(flow: Any, path: str) -> Explore:
    """The flow's `explore` section; ConfigError where it has none."""
    if flow.explore is None:
        raise ConfigError(
            f"the flow {path} must have a section explore to be searched, got none: explore: {{accuracy_floor: 0.9, "
            "vulnerability_ceiling: 0.03} is a beginning"
        )
    section: Explore = flow.explore
    return section

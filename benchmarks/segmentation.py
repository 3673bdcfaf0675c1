# SPDX-License-Identifier: Apache-2.0
"""Single event upsets in segmentation networks, as two papers have them: run, and printed as tables. Software-only.

    python benchmarks/segmentation.py run [--flows relu sigmoid ...]       flows/segmentation/*.yaml, resumable
    python benchmarks/segmentation.py tables                               what they found, as Markdown
    python benchmarks/segmentation.py protect --flow relu --seed 0         exponent protection PT1 to PT4
    python benchmarks/segmentation.py redundancy --flow relu-int8 --seed 0 biases in triplicate, voted MSBs, both

(J. Gutierrez-Zaballa et al., "Evaluating Single Event Upsets in Deep Neural Networks for Semantic Segmentation", and
"Designing DNNs for a trade-off between robustness and processing performance in embedded devices".)
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import segmentation_tables as tables_of
from rich.console import Console

from bitward.engine.pytorch import Choose
from bitward.explore.text import points, with_interval
from bitward.flow.sensitivity import SensitivityRun, open_sensitivity, run_sensitivity
from bitward.flow.sensitivity_spec import load_sensitivity_flow
from bitward.memory import Role
from bitward.metrics import memory_bits
from bitward.rewrites import PROTECTION_TARGETS
from bitward.schemes import InPlaceSecded, Plain, Scheme, Tmr
from bitward.sensitivity import Study
from bitward.sensitivity.protection import protection
from bitward.sensitivity.several import Several, several_flips
from bitward.tools import atomic_write, output_directory, resource

ENDS = ("", "-folded", "-clipped", "-zeroed", "-int8", "-pruned", "-pruned-int8")  # of flows, behind the activation
RATES = (1e-5, 1e-4, 3e-4, 1e-3)  # flips per stored bit
REPETITIONS = 60
WEIGHT, BIAS = 8, 32  # bits
PROTECTIONS: dict[str, tuple[Scheme, Scheme]] = {
    "none": (Plain(WEIGHT), Plain(BIAS)),
    "biases in triplicate": (Plain(WEIGHT), Tmr(BIAS, BIAS)),
    "voted MSBs of weights": (Tmr(WEIGHT, 1), Plain(BIAS)),
    "both": (Tmr(WEIGHT, 1), Tmr(BIAS, BIAS)),
    "check bits inside the biases": (Plain(WEIGHT), InPlaceSecded(BIAS)),
}


def opened(given: argparse.Namespace, name: str) -> SensitivityRun:
    """A flow of flows/segmentation, or of a YAML file, of the one seed that is asked for where one is."""
    path = Path(name) if name.endswith(".yaml") else resource(f"flows/segmentation/{name}.yaml")
    flow = load_sensitivity_flow(path)
    if getattr(given, "seed", None) is not None:
        flow = flow.model_copy(update={"train": flow.train.model_copy(update={"seeds": (given.seed,)})})
    return open_sensitivity(flow, given.runs, Console(), given.data)


def run_flows(given: argparse.Namespace) -> int:
    """Every flow named, or all."""
    names = given.flows or sorted(path.stem for path in resource("flows/segmentation").glob("*.yaml"))
    for name in names:
        run = opened(given, name)
        run.console.print(f"[b]{run.flow.name}")
        run_sensitivity(run.flow, given.runs, run.console, data=given.data)
    return 0


def read_runs(runs: Path, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The summaries that are there, float first, then folded, integers, pruned; ReLU, Sigmoid, Hard Sigmoid."""
    wanted = names or [f"{name}{end}" for end in ENDS for name in tables_of.ACTIVATIONS]
    paths = [runs / f"seg-{name}" / "summary.json" for name in wanted]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def tables(given: argparse.Namespace) -> int:
    """Every table; 1 where nothing has run yet."""
    found = read_runs(given.runs, given.flows)
    if not found:
        print(f"no summary in {given.runs}: run flows first", file=sys.stderr)
        return 1
    whole = [each for each in found if each["stored_as"].startswith("int8")]
    parts = {
        "Mean error rates": tables_of.means(found),
        "Order of the activations": tables_of.order(found),
        "The papers' claims": tables_of.claims(found),
        "By kind of parameters": tables_of.kinds(found),
        "By bit": tables_of.bits([each for each in found if each not in whole]),
        "What goes with it": tables_of.correlations(found),
        "Equation 2": tables_of.equation_2(found),
        **{f"Bits needed by biases, {tables_of.label(each)}": tables_of.needed(each) for each in whole},
        "Several flips at once": tables_of.several(found),
    }  # fmt: skip
    print("\n".join(f"### {title}\n\n{text}" for title, text in parts.items()))
    return 0


def protect(given: argparse.Namespace) -> int:
    """PT1 to PT4 on one seed of a float flow: what moves, what that changes, upsets of the risky bits."""
    run = opened(given, given.flow)
    study = run.study(given.seed)
    folder = output_directory(run.folder / "protection")
    found: list[dict[str, Any]] = []
    for target in PROTECTION_TARGETS:
        path = folder / f"{target}-seed{given.seed}-{given.per_bit}.json"
        if not path.is_file():
            (made,) = protection(study, [target], given.per_bit)
            atomic_write(path, json.dumps(asdict(made), indent=1) + "\n")
        found.append(json.loads(path.read_text(encoding="utf-8")))
    print(protect_tables(f"{run.flow.network}, {run.flow.stored_as}, seed {given.seed}", found))
    return 0


def protect_tables(title: str, found: Sequence[dict[str, Any]]) -> str:
    """What moved, and the risky bits, as Markdown."""
    moved = tables_of.table(
        ("target", "parameters moved", "global IoU before / after, %", "weighted IoU, %", "pixels changed, %"),
        [
            (row["target"], f"{row['moved']:,}", " / ".join(map(points, row["global_iou"])),
             " / ".join(map(points, row["weighted_iou"])), points(row["changed"], 3))
            for row in found
        ],
    )  # fmt: skip
    risky = tables_of.table(
        ("target, bit", "candidates", "tried", "before: global / weighted IoU, %", "% of pixels [95 %]",
         "after: global / weighted IoU, %", "% of pixels [95 %]"),
        [
            (f"{row['target']}, {bit['bit']}", f"{bit['candidates']:,}", str(bit["before"]["error"]["trials"]),
             *(text for side in ("before", "after") for text in harm_text(bit[side])))
            for row in found for bit in row["bits"]
        ],
    )  # fmt: skip
    return f"#### {title}\n\n{moved}\n{risky}"


def harm_text(harm: dict[str, Any]) -> tuple[str, str]:
    """IoUs and error rate as text."""
    error = harm["error"]
    return (
        f"{points(harm['global_iou'])} / {points(harm['weighted_iou'])}",
        f"{points(error['estimate'])} [{points(error['low'])}, {points(error['high'])}]",
    )


def stored_under(choose: Choose, weights: Scheme, biases: Scheme) -> Choose:
    """Tensors in the same formats, under other schemes."""

    def chosen(name: str, role: Role, tensor: Any) -> Any:
        storage = choose(name, role, tensor)
        return None if storage is None else replace(storage, scheme=weights if role == "weight" else biases)

    return chosen


def redundancy(given: argparse.Namespace) -> int:
    """Each protection of one seed of an int8 flow under equal rates of upsets per stored bit."""
    run = opened(given, given.flow)
    plain = run.study(given.seed)
    rows = []
    for name, schemes in PROTECTIONS.items():
        if (study := under(plain, name, schemes)) is None:
            rows.append((name, "not possible: a bias needs more than 26 bits", *("" for _ in RATES)))
            continue
        bits = memory_bits(study.manifest)["total"]
        found = [flipped(study, max(1, round(rate * bits.stored_bits)), given.repetitions) for rate in RATES]
        cost = f"{bits.stored_bits:,} ({points(bits.overhead - 1)} % more)"
        rows.append((name, cost, *(cell(each) for each in found)))
    head = ("protection", "stored bits", *(f"{rate:g} flips a bit: % of pixels [95 %] (flips)" for rate in RATES))
    print(f"#### {run.flow.network}, seed {given.seed}, {given.repetitions} repetitions\n")
    print(tables_of.table(head, rows))
    return 0


def under(plain: Study, name: str, schemes: tuple[Scheme, Scheme]) -> Study | None:
    """The network under those schemes for weights and biases; None where a bias has no room for check bits."""
    slug = name.replace(" ", "-")
    study = replace(plain, choose=stored_under(plain.choose, *schemes), folder=plain.folder / slug)
    if isinstance(schemes[1], InPlaceSecded):
        biases = [each.name for each in plain.sets if each.kind.endswith("bias")]
        if any(not -(1 << 25) <= value < 1 << 25 for bias in biases for value in plain.integers(bias)):
            return None
    return study


def flipped(study: Study, flips: int, repetitions: int) -> Several:
    """So many flips anywhere in the stored bits, again and again."""
    (found,) = several_flips(study, [flips], repetitions)
    return found


def cell(found: Several) -> str:
    """A mean with its interval, and how many flips that were."""
    return f"{with_interval(found.error)} ({found.flips:,})"


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--data", type=Path, help="where the dataset lies, if it is given by path")
    cases = parser.add_subparsers(dest="case", required=True)
    for name, work in (("run", run_flows), ("tables", tables)):
        case = cases.add_parser(name)
        case.add_argument("--flows", nargs="+", help="stems of flows/segmentation; all without")
        case.set_defaults(work=work)
    for name, one in (("protect", protect), ("redundancy", redundancy)):
        case = cases.add_parser(name)
        case.add_argument("--flow", required=True, help="the stem of one of flows/segmentation, or a YAML file")
        case.add_argument("--seed", type=int, default=0)
        case.set_defaults(work=one)
        if one is protect:
            case.add_argument("--per-bit", type=int, default=100)
        else:
            case.add_argument("--repetitions", type=int, default=REPETITIONS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The case asked for; its exit status."""
    given = _arguments().parse_args(arguments)
    work: Callable[[argparse.Namespace], int] = given.work
    return work(given)


if __name__ == "__main__":
    raise SystemExit(main())

# SPDX-License-Identifier: Apache-2.0
"""The page's tables and checks: every row is text, ready to print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from bitward.campaign.query import flips, has_failed
from bitward.report.figures import Bar, number, sentence, whisker
from bitward.report.heatmap import Column
from bitward.report.load import AGREEING, SIDES, Missing, RunData, Side, Trials
from bitward.report.statistics import Estimate, Stratum, agreement, combine, of_memory

Verdict = Literal["pass", "fail", "open"]
WORST = 5  # faults listed per side
RESOURCES = {
    "lut": "LUT",
    "lutram": "LUT used as memory",
    "srl": "LUT used as shift register",
    "ff": "Flip-flop",
    "bram36": "Block RAM, 36 Kb",
    "uram": "UltraRAM",
    "dsp": "DSP slice",
    "carry": "Carry chain of 8 bits",
    "levels": "Levels of logic between registers, at most",
}


@dataclass(frozen=True)
class Check:
    """Something that must hold for the other figures to mean anything: does it?"""

    name: str
    verdict: Verdict
    says: str


@dataclass(frozen=True)
class MaskedRow:
    """How many flips in a memory pass unnoticed, on either side."""

    memory: str
    role: str
    sides: tuple[tuple[Side, Estimate | None, Markup], ...]

    def says(self, estimate: Estimate | None) -> str:
        """The share with its interval."""
        return sentence(estimate)


@dataclass(frozen=True)
class Worst:
    """The faults of one side that cost most right answers. `golden` is how many images are right without a fault."""

    side: Side
    images: int
    golden: int | None
    rows: tuple[tuple[str, str, str, str], ...]  # fault, bit, right answers, top-1 changed
    histogram: tuple[Bar, ...]


def checks(run: RunData) -> list[Check]:
    """What must hold, and whether it does in this run."""
    found = [_rtl_check(run), _agree_check(run), _restored_check(run), _complete_check(run), _summary_check(run)]
    controls = run.figure("negative_controls")
    if not isinstance(controls, Missing):
        for name, result in controls.items():
            says = str(result)
            fails = says.startswith("fails")
            found.append(Check(f"Negative control: {name.replace('_', ' ')}", "pass" if fails else "fail", says))
    return found


def _counted(name: str, equal: int, of: int, what: str) -> Check:
    return Check(name, "pass" if equal == of else "fail", f"{number(equal)} of {number(of)} {what}")


def _rtl_check(run: RunData) -> Check:
    name = "RTL equals the QONNX network"
    equal, images = run.figure("rtl_equal_images"), run.figure("images")
    for value in (equal, images):
        if isinstance(value, Missing):
            return Check(name, "open", f"not measured: {value.reason}")
    return _counted(name, equal, images, "test images, plain and hardened, also with random stalls")


def _agree_check(run: RunData) -> Check:
    name, found = "Engine, RTL and board agree under faults", agreement(run)
    if isinstance(found, Missing):
        return Check(name, "open", f"not measured: {found.reason}")
    return _counted(name, found.equal, found.compared, "faults with equal outputs for every image on all three")


def _restored_check(run: RunData) -> Check:
    name = "Memories were golden again after every campaign"
    ended = [trials.restored for trials in run.campaigns.values()]
    if not ended or None in ended:
        return Check(name, "open", "not measured: not every campaign has come to its end")
    return _counted(name, sum(map(bool, ended)), len(ended), "campaigns read back every row equal to the built image")


def _complete_check(run: RunData) -> Check:
    name = "Every planned fault was injected"
    cut = [t for t in run.campaigns.values() if not t.is_complete]
    if not run.campaigns:
        return Check(name, "open", "not measured: no campaign has trials")
    if cut:
        parts = (f"{t.name}: {number(t.table.num_rows)} of {number(t.planned)}" for t in cut)
        return Check(name, "open", "stopped early, " + "; ".join(parts))
    total = sum(t.table.num_rows for t in run.campaigns.values())
    return Check(name, "pass", f"{number(total)} trials in {len(run.campaigns)} campaigns")


def _summary_check(run: RunData) -> Check:
    """summary.json was written by a stage, the figures here are counted anew from the trials: they must be equal."""
    name, wrong, compared = "summary.json says what the trials say", [], 0
    for path, counted in _recounted(run):
        claimed = run.figure(*path)
        if not isinstance(claimed, Missing):
            compared += 1
            if claimed != counted:
                wrong.append(f"{'.'.join(path)} is {claimed}, counted {counted}")
    if not compared:
        return Check(name, "open", "not measured: nothing to compare")
    says = "; ".join(wrong) if wrong else f"{compared} figures counted anew from the trials are equal"
    return Check(name, "fail" if wrong else "pass", says)


def _recounted(run: RunData) -> Iterator[tuple[tuple[str, ...], int]]:
    for side, injected in (("plain", "injected_plain"), ("hardened", "injected")):
        trials = run.trials(f"msb-{side}")
        if not isinstance(trials, Missing):
            yield ("msb_faults", injected), trials.table.num_rows
            yield ("msb_faults", f"changed_{side}"), trials.count("outputs_changed")
    for name, trials in run.campaigns.items():
        if name.startswith("ber-"):
            rate, side = name.removeprefix("ber-").rsplit("-", 1)
            yield ("ber", side, "points", rate, "trials_changed"), trials.count("top1_changed")
    found = agreement(run)
    if not isinstance(found, Missing):
        yield ("targets_agree", "compared"), found.compared
        yield ("targets_agree", "equal"), found.equal


def masked_rows(strata: Mapping[Side, Sequence[Stratum] | Missing]) -> list[MaskedRow]:
    """Each memory's share of faults that changed no output value of any image."""
    parts = {side: () if isinstance(found := strata[side], Missing) else found for side in SIDES}
    memories = {part.memory.name: part.memory.role for side in SIDES for part in parts[side]}
    rows = []
    for name, role in memories.items():
        sides: list[tuple[Side, Estimate | None, Markup]] = []
        for side in SIDES:
            changed = combine(of_memory(parts[side], name), "outputs_changed")
            masked = changed.masked if changed else None
            sides.append((side, masked, whisker(masked, side) if masked else Markup()))
        rows.append(MaskedRow(name, role, tuple(sides)))
    return rows


def voted_rows(strata: Mapping[Side, Sequence[Stratum] | Missing]) -> list[dict[str, Any]]:
    """The exhaustive campaign by memory: faults, and how many changed an output value or a top-1 answer."""
    rows: dict[str, dict[str, Any]] = {}
    for side in SIDES:
        parts = strata[side]
        for part in () if isinstance(parts, Missing) else parts:
            if part.tried:
                counts = rows.setdefault(part.memory.name, {}).setdefault(side, [0, 0, 0, 0])
                for at, value in enumerate((part.tried, part.size, part.outputs_changed, part.top1_changed)):
                    counts[at] += value
    return [
        {"memory": name, **{side: tuple(map(number, found[side])) for side in SIDES if side in found}}
        for name, found in rows.items()
    ]


def worst(run: RunData) -> list[Worst | Missing]:
    """The faults that cost most right answers, for each side."""
    return [_worst(side, run.trials(f"strata-{side}")) for side in SIDES]


def _worst(side: Side, trials: Trials | Missing) -> Worst | Missing:
    if isinstance(trials, Missing):
        return trials
    failed = has_failed(trials.table)
    answered = trials.table.filter(pc.invert(failed))
    if not answered.num_rows:
        return Missing(f"no trial of the campaign {trials.name} gave answers")
    if answered["top1_correct"].null_count:
        return Missing(f"the campaign {trials.name} was run without labels")
    table = answered.sort_by([("top1_correct", "ascending"), ("top1_changed", "descending"), ("trial", "ascending")])
    rows = []
    for row in table.slice(0, WORST).to_pylist():
        dead = row["parameter_bit"] is None
        bit = "dead bit" if dead else Column(row["parameter_bit"], row["copy"]).title
        right = f"{row['top1_correct']} of {row['images']}"
        rows.append((f"{row['memory']}:{row['word']}:{row['bit']}", bit, right, number(row["top1_changed"])))
    unharmed = answered.filter(pc.equal(answered["top1_changed"], 0))
    golden = int(unharmed["top1_correct"][0].as_py()) if unharmed.num_rows else None
    return Worst(side, trials.images, golden, tuple(rows), _histogram(side, answered, int(pc.sum(failed).as_py())))


def _histogram(side: Side, answered: pa.Table, failed: int) -> tuple[Bar, ...]:
    """Faults by how many top-1 answers they changed, on a scale that shows a single one beside thousands."""
    bins = (
        (0, 0, "no answer changed"),
        (1, 1, "1 changed"),
        (2, 3, "2 to 3 changed"),
        (4, 7, "4 to 7 changed"),
        (8, 1 << 62, "8 or more changed"),
    )
    changed = answered["top1_changed"]
    inside = [pc.and_(pc.greater_equal(changed, low), pc.less_equal(changed, high)) for low, high, _ in bins]
    counts = {label: int(pc.sum(each).as_py()) for (_, _, label), each in zip(bins, inside, strict=True)}
    if failed:
        counts["failed: no answers"] = failed
    top = max(counts.values()).bit_length()
    return tuple(Bar(label, count.bit_length() / top, side, number(count)) for label, count in counts.items())


def memory_bars(run: RunData) -> list[Bar] | Missing:
    """Weight memory in bits: plain, hardened, and the same weights in unprotected INT8."""
    labels = {"plain": "Plain", "hardened": "Hardened", "int8": "INT8, unprotected"}
    bits = {name: run.figure("weight_memory_bits", name) for name in labels}
    for value in bits.values():
        if isinstance(value, Missing):
            return value
    top = max(bits.values())
    tones = {"plain": "plain", "hardened": "hardened", "int8": "neutral"}
    return [
        Bar(label, bits[name] / top, tones[name], f"{number(bits[name])} bits, {bits[name] / bits['plain']:.2f}x")  # type: ignore[arg-type]
        for name, label in labels.items()
    ]


def memory_rows(run: RunData) -> list[dict[str, str]]:
    """Every memory of both builds: what is stored where, and how many bits it takes."""
    rows = []
    for side in SIDES:
        manifest = run.manifests.get(side)
        for memory in manifest.memories if manifest else ():
            rows.append(
                {
                    "side": side,
                    "memory": memory.name,
                    "role": memory.role,
                    "stored": f"{memory.scheme.bits} bits"
                    + (f", top {memory.scheme.voted} three times" if memory.scheme.voted else "")
                    + (f", {memory.scheme.check_bits} check bits a row" if memory.scheme.check_bits else ""),
                    "rows": f"{number(memory.depth)} x {number(memory.width)}",
                    "ram": memory.hardware.ram_style if memory.hardware else "software only",
                    "bits": number(memory.depth * memory.width),
                    "live": number(memory.population),
                }
            )
    return rows


def cycle_rows(run: RunData) -> list[tuple[str, str, str, str]]:
    """(what, plain, hardened, difference) of cycles and latency."""
    names = {"steady_cycles_per_image": "Cycles per image, steady", "latency_cycles": "Latency of one image, cycles"}
    return [(label, *_compared(run.figure(key, "plain"), run.figure(key, "hardened"))) for key, label in names.items()]


def _compared(plain: Any, hardened: Any) -> tuple[str, str, str]:
    texts = ["not measured" if isinstance(value, Missing) else number(value) for value in (plain, hardened)]
    both = not isinstance(plain, Missing) and not isinstance(hardened, Missing)
    difference = f"{hardened - plain:+,g}" if both and hardened != plain else "0" if both else "–"
    return texts[0], texts[1], difference


def resource_rows(run: RunData) -> tuple[str, list[tuple[str, str, str, str]]] | Missing:
    """Who counted, and (resource, plain, hardened, difference) of what the logic takes."""
    sides = {side: run.figure("resources", side) for side in SIDES}
    for side, value in sides.items():
        if not isinstance(value, Mapping):
            why = "" if isinstance(value, Missing) else f" ({value})"
            return Missing(f"No synthesis was run on the {side} build{why}")
    totals = {side: _counts(value) for side, value in sides.items()}
    kinds = dict.fromkeys([*totals["plain"], *totals["hardened"]])
    rows = [(kind, *_compared(totals["plain"].get(kind, 0), totals["hardened"].get(kind, 0))) for kind in kinds]
    return str(sides["hardened"].get("tool", "tool not recorded")), rows


def _counts(found: Mapping[str, Any]) -> dict[str, float]:
    """The design's primitives by name, and the LUTs that voters take where nodes were counted one by one."""
    total = found.get("total", found)
    counts = {RESOURCES.get(name, name): value for name, value in total.items() if isinstance(value, (int, float))}
    counts.pop("wall_s", None)
    if "instances" in found:
        voters = [node.get("voter") or {} for node in found["instances"].values()]
        counts["LUT in voters"] = sum(voter.get("lut", 0) for voter in voters)
    return counts


def wall_bars(run: RunData) -> list[Bar] | Missing:
    """Seconds of each stage."""
    wall = run.figure("wall_s")
    if isinstance(wall, Missing) or not wall:
        return Missing("summary.json has no wall_s: no stage has run")
    top = max(wall.values()) or 1.0
    return [Bar(stage, seconds / top, "neutral", f"{seconds:,.1f} s") for stage, seconds in wall.items()]


def provenance(run: RunData) -> list[tuple[str, str]]:
    """(what, which): from where every figure comes."""
    rows = [(label, _text(run.figure(key))) for key, label in _PROVENANCE.items()]
    for side in SIDES:
        manifest = run.manifests.get(side)
        rows.append((f"Design id, {side}", f"0x{manifest.design_id:08x}" if manifest else "not built"))
    for name, trials in run.campaigns.items():
        what = f"trials of {flips(trials.table)}" if name.startswith(("model-", "ber-")) else "faults"
        seen = f"{number(trials.table.num_rows)} {what} x {trials.images} images"
        rows.append((f"Campaign {name}", f"{seen}, fingerprint {trials.fingerprint[:12]}"))
    return rows


_PROVENANCE = {
    "git": "Commit",
    "flow": "Flow",
    "network": "Network",
    "dataset": "Data",
    "board": "Board",
    "clk_mhz": "Clock asked for, MHz",
    "seeds": "Seeds",
    "versions": "Versions",
}


def _text(value: Any) -> str:
    if isinstance(value, Missing):
        return "not recorded"
    if isinstance(value, Mapping) and "is_simulated" in value:
        return f"{value.get('name')}, {value.get('part')}" + (", simulated" if value["is_simulated"] else "")
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items() if inner not in (None, [], ()))
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return str(value)


def unmeasured(run: RunData) -> list[str]:
    """What a reader may expect here and will not find, because this run did not measure it."""
    found = []
    if isinstance(resource_rows(run), Missing):
        found.append("Logic resources (LUT, FF, BRAM, DSP): no synthesis was run.")
    absent = [
        name for name in (*(f"msb-{s}" for s in SIDES), *(f"strata-{s}" for s in SIDES)) if name not in run.campaigns
    ]
    absent += [f"agree-{on}" for on in AGREEING if f"agree-{on}" not in run.campaigns]
    if absent:
        found.append(f"Campaigns without trials: {', '.join(absent)}.")
    elsewhere = "Upsets in flip-flops and in the FPGA's configuration memory"
    several = (flips(trials.table) for name, trials in run.campaigns.items() if name.startswith(("model-", "ber-")))
    most = max((each.most for each in several if each), default=1)
    found.append(f"{elsewhere}{'' if most > 1 else ', and of several bits at once,'} were not injected.")
    return found


def worst_line(found: Worst) -> str:
    """Right answers without a fault and under the worst one, on the campaign's images."""
    golden = "not known" if found.golden is None else f"{found.golden} of {found.images} images right"
    lowest = found.rows[0][2] if found.rows else "not measured"
    return f"Without a fault: {golden}. Under the worst fault of the sample: {lowest}."

# SPDX-License-Identifier: Apache-2.0
"""What flips in parameter memories add to a safety case: rates where a FIT per Mb is cited, and what they rest on.

Configuration memory, flip-flops and FIFOs are outside what was injected, so no metric of a whole device (SPFM, LFM,
PMHF) follows from these rows, and none is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bitward.manifest import Manifest, Memory
from bitward.metrics import HOURS_PER_FIT, double_upsets_per_hour, fit, upsets_per_hour
from bitward.report.figures import number, percent
from bitward.report.headline import Duelist
from bitward.report.load import SIDES, Missing, RunData, Side
from bitward.report.statistics import Estimate, Stratum, combine, of_memory

SECONDS_PER_HOUR = 3600.0
NO_RATE = "needs a cited FIT/Mb"


@dataclass(frozen=True)
class Rates:
    """What the flow's `safety` section says: upsets per Mb, where that figure is from, and what scales it."""

    fit_per_mb: float
    source: str
    flux_factor: float = 1.0
    scrub_period_s: float | None = None

    @property
    def here(self) -> float:
        """FIT per Mb where the device is."""
        return self.fit_per_mb * self.flux_factor


@dataclass(frozen=True)
class SafetyRow:
    """A memory of a build, or all of them: flips tried and critical, and rates as text."""

    side: Side
    memory: str
    bits: str
    unprotected: str
    critical: str
    share: str
    method: str
    upset_fit: str
    critical_fit: str
    is_total: bool = False


@dataclass(frozen=True)
class Safety:
    """The section: rows, what protection covered, and what all of it rests on."""

    rows: tuple[SafetyRow, ...]
    coverage: tuple[tuple[str, str], ...]
    assumptions: tuple[tuple[str, str, str], ...]


def rates_of(run: RunData) -> Rates | None:
    """What the run's flow said; None where it said nothing."""
    settings = run.summary.get("settings")
    given = settings.get("safety") if isinstance(settings, Mapping) else None
    return Rates(**given) if isinstance(given, Mapping) else None


def safety(
    run: RunData, sampled: Mapping[Side, Sequence[Stratum] | Missing], duel: Mapping[Side, Duelist | Missing]
) -> Safety | Missing:
    """The section; Missing where no build was sampled over all of its memories."""
    rates, rows = rates_of(run), []
    for side in SIDES:
        parts = sampled[side]
        if isinstance(parts, Missing):
            return parts
        rows += _rows(side, run.manifests[side], parts, rates)
    images = max((t.images for name, t in run.campaigns.items() if name.startswith("strata")), default=0)
    return Safety(tuple(rows), tuple(_coverage(run, duel, rates)), tuple(_assumptions(rates, images)))


def _rows(side: Side, manifest: Manifest, parts: Sequence[Stratum], rates: Rates | None) -> list[SafetyRow]:
    chosen = [(memory.name, [memory], of_memory(parts, memory.name)) for memory in manifest.memories]
    rows = [_row(side, name, memories, found, rates) for name, memories, found in chosen if found]
    return [*rows, _row(side, "all memories", list(manifest.memories), list(parts), rates, is_total=True)]


def _row(
    side: Side, name: str, memories: list[Memory], parts: Sequence[Stratum], rates: Rates | None, is_total: bool = False
) -> SafetyRow:
    bits = sum(memory.population for memory in memories)
    open_bits = sum(part.size for part in parts if not part.is_voted)
    found = combine(parts, "top1_changed")
    upsets = NO_RATE if rates is None else _figure(fit(bits, rates.here))
    return SafetyRow(
        side, name, number(bits), percent(open_bits / bits), _counted(found), _share(found),
        "-" if found is None else found.method, upsets, _critical_fit(found, bits, rates), is_total,
    )  # fmt: skip


def _counted(found: Estimate | None) -> str:
    return "not measured" if found is None else f"{number(found.count)} of {number(found.tried)}"


def _share(found: Estimate | None) -> str:
    if found is None:
        return "not measured"
    return percent(found.value) if found.is_census else f"{percent(found.value)}, up to {percent(found.high)}"


def _critical_fit(found: Estimate | None, bits: int, rates: Rates | None) -> str:
    """Stored bits times FIT per bit times the share of flips that are critical; and with the interval's upper end."""
    if found is None:
        return "not measured"
    if rates is None:
        return NO_RATE
    whole = fit(bits, rates.here)
    text = _figure(whole * found.value)
    return text if found.is_census else f"{text}, up to {_figure(whole * found.high)}"


def _figure(value: float) -> str:
    return f"{value:.3g}"


def _coverage(
    run: RunData, duel: Mapping[Side, Duelist | Missing], rates: Rates | None
) -> list[tuple[str, str]]:  # fmt: skip
    """(what, figure) of the protection."""
    plain, hardened = duel["plain"], duel["hardened"]
    rows = []
    if not isinstance(plain, Missing) and not isinstance(hardened, Missing):
        rows.append((
            "The same bits, plain and hardened",
            f"changed a top-1 answer: {number(plain.top1)} of {number(plain.tried)} flips plain, "
            f"{number(hardened.top1)} of {number(hardened.tried)} hardened (copies included)",
        ))  # fmt: skip
    manifest = run.manifests["hardened"]
    rows.append(("Reads that disagree are counted (latent upsets are seen)", _counters(manifest)))
    rows.append(("Two upsets of one protected group between scrubs", _doubles(manifest, rates)))
    return rows


def _counters(manifest: Manifest) -> str:
    """How many of the bits that have redundancy lie in memories with a counter."""
    protected = [memory for memory in manifest.memories if memory.scheme.stored_bits > memory.scheme.bits]
    counted = [memory for memory in protected if f"corrected:{memory.name}" in manifest.registers]
    if not protected:
        return "no memory has redundancy"
    bits = sum(memory.population for memory in protected)
    share = sum(memory.population for memory in counted) / bits
    return f"{len(counted)} of {len(protected)} memories with redundancy, {percent(share)} of their bits"


def groups_of(memory: Memory) -> list[tuple[int, int]]:
    """(how many, bits each) of the groups of stored bits in which one upset is put right and a second one is not."""
    scheme = memory.scheme
    if scheme.voted:
        return [(memory.parameters * scheme.voted, 3)]
    return [(memory.depth, memory.width)] if scheme.check_bits else []


def _doubles(manifest: Manifest, rates: Rates | None) -> str:
    groups = [group for memory in manifest.memories for group in groups_of(memory)]
    if not groups:
        return "no memory has redundancy"
    if rates is None:
        return NO_RATE
    if rates.scrub_period_s is None:
        return "needs a scrub period: without scrubbing upsets accumulate until the overlay is loaded anew"
    period = rates.scrub_period_s / SECONDS_PER_HOUR
    per_bit = upsets_per_hour(1, rates.here)
    found = sum(double_upsets_per_hour(count, size, per_bit, period) for count, size in groups)
    return f"{_figure(found * HOURS_PER_FIT)} FIT with a scrub pass every {rates.scrub_period_s:g} s"


def _assumptions(rates: Rates | None, images: int) -> list[tuple[str, str, str]]:
    """(what, value, where it is from)."""
    asked = "the flow's section safety"
    if rates is None:
        rows = [("Upsets per Mb", "not given", "a flow's section safety, with a source; none is assumed")]
    else:
        period = "none" if rates.scrub_period_s is None else f"{rates.scrub_period_s:g} s"
        rows = [
            ("Upsets per Mb, where the figure was taken", f"{rates.fit_per_mb:g} FIT", rates.source),
            ("Flux where the device is, to flux there", f"{rates.flux_factor:g}", asked),
            ("Scrub period", period, asked),
        ]
    return [
        *rows,
        ("Critical", f"changes the top-1 answer of one of {images} test images at least", "the campaigns of this run"),
        ("Flips", "one stored bit at a time, every live bit alike, there until it is written again", "this run"),
        ("Upper bounds (up to)", "the upper end of a 95 % interval; a census has none", "bitward.statistics"),
        ("Covered", "memories of weights, thresholds and biases, with their copies and check bits", "the manifest"),
        ("Not covered", "configuration memory, flip-flops, FIFOs, line buffers, the processor", "nothing was injected"),
    ]

# SPDX-License-Identifier: Apache-2.0
"""The figures that a reader sees first, each with what it means and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bitward.report.figures import interval, number, percent
from bitward.report.load import SIDES, Missing, RunData, Side, Trials
from bitward.report.measured import is_on_a_board
from bitward.report.statistics import Stratum, agreement, combine

TONES = {"plain": "Plain", "hardened": "Hardened"}
AGREE_ON = ("software engine", "RTL simulation", "board")


@dataclass(frozen=True)
class Figure:
    """One number of a tile: in whose tone, the number, and its small print."""

    tone: Side | str
    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Tile:
    """One headline: a question, its figures (or why there are none), and a sentence."""

    title: str
    figures: tuple[Figure, ...] | Missing
    note: str = ""


@dataclass(frozen=True)
class Duelist:
    """One side of the comparison that leads the page: `changed` of `tried` faults; `which` and `extent` in words."""

    tried: int
    changed: int
    top1: int
    which: str
    extent: str

    @property
    def share(self) -> float:
        """The share of faults that changed any output value."""
        return self.changed / self.tried


def duel(run: RunData, exhaustive: Mapping[Side, Sequence[Stratum] | Missing]) -> dict[Side, Duelist | Missing]:
    """Faults in voted bits and their copies (plain: in the bits that would be voted) of the weight memories."""
    return {side: _duelist(side, run.trials(f"msb-{side}"), exhaustive[side]) for side in SIDES}


def _duelist(side: Side, trials: Trials | Missing, parts: Sequence[Stratum] | Missing) -> Duelist | Missing:
    if isinstance(trials, Missing):
        return trials
    if isinstance(parts, Missing):
        return parts
    which = "The bits that would be voted, without a vote."
    if side == "hardened":
        unvoted = {part.memory.name for part in parts if part.tried and not part.is_voted}
        which = "The voted bits and both copies of each."
        if unvoted:
            which = f"The voted bits and both copies of each; the same bits, but no voter, in {', '.join(unvoted)}."
    changed, top1 = trials.count("outputs_changed"), trials.count("top1_changed")
    return Duelist(trials.table.num_rows, changed, top1, which, _extent(trials, parts))


def _extent(trials: Trials, parts: Sequence[Stratum]) -> str:
    """Whether these were all the faults there are; claimed only where the trials show it."""
    if not trials.is_complete:
        return f"Stopped early: {number(trials.planned)} faults were planned."
    weights = {part.memory.name for part in parts if part.memory.role == "weight"}
    tried = [part for part in parts if part.tried]
    whole = all(part.tried == part.size for part in parts if part.tried or part.is_voted)
    if whole and weights == {part.memory.name for part in tried}:
        return f"Every such bit of every weight memory was flipped: a census, on {trials.images} images each."
    return f"A sample of these bits, on {trials.images} images each."


def tiles(run: RunData, strata: Mapping[Side, Sequence[Stratum] | Missing]) -> list[Tile]:
    """The headline figures, in the order in which they answer a reader's questions."""
    return [_accuracy(run), _any_bit(run, strata), _cycles(run), _memory(run), _rtl(run), _agree(run)]


def _accuracy(run: RunData) -> Tile:
    title = "How good is the network without faults?"
    accuracy, seeds, images = run.figure("accuracy"), run.figure("accuracy_seeds"), run.figure("images")
    if isinstance(accuracy, Missing):
        return Tile(title, accuracy)
    tested = "top-1 on the test images"
    note = "The share of test images whose largest output is the right class."
    if not isinstance(run.figure("settings", "model"), Missing):  # judged where RTL and QONNX were compared
        tested = "" if isinstance(images, Missing) else f"top-1 on {number(images)} test images"
        note += " The network was trained before this run."
    if not isinstance(seeds, Missing) and seeds:
        mean = sum(seeds) / len(seeds)
        note = (
            f"The exported model is the first seed, by rule. Mean of {len(seeds)} training seeds: {percent(mean, 2)}, "
            f"from {percent(min(seeds), 2)} to {percent(max(seeds), 2)}."
        )
    return Tile(title, (Figure("neutral", "Accuracy", percent(accuracy, 2), tested),), note)


def _any_bit(run: RunData, strata: Mapping[Side, Sequence[Stratum] | Missing]) -> Tile:
    title = "One flip anywhere: does an answer change?"
    figures = []
    images = 0
    for side in SIDES:
        parts = strata[side]
        share = None if isinstance(parts, Missing) else combine(parts, "top1_changed")
        if isinstance(parts, Missing):
            return Tile(title, parts)
        if share is None:
            return Tile(title, Missing(f"the campaign strata-{side} has not come to every memory and bit"))
        images = max(images, run.campaigns[f"strata-{side}"].images)
        figures.append(Figure(side, TONES[side], percent(share.value), interval(share)))
    note = (
        "Share of single-bit faults, over every live bit of every memory (copies included), that changed the top-1 "
        f"answer of at least one of {images} images. Weighted by the size of each memory and bit."
    )
    return Tile(title, tuple(figures), note)


def _cycles(run: RunData) -> Tile:
    title = "How fast is it?"
    figures = []
    clock = run.figure("clk_mhz")
    for side in SIDES:
        cycles = run.figure("steady_cycles_per_image", side)
        if isinstance(cycles, Missing):
            return Tile(title, cycles)
        rate = "" if isinstance(clock, Missing) else f"{frames_per_second(cycles, clock)} at {number(clock)} MHz"
        figures.append(Figure(side, TONES[side], number(cycles), rate))
    extra = run.figure("steady_cycles_per_image", "hardened") - run.figure("steady_cycles_per_image", "plain")
    note = (
        f"Clock cycles from one image to the next; hardening adds {number(extra)}. Cycles measured in RTL simulation; "
        + (
            "what a board took is under Speed and power."
            if is_on_a_board(run)
            else "no board was timed, and whether the clock is reached was not measured."
        )
    )
    return Tile(title, tuple(figures), note)


def frames_per_second(cycles: float, clk_mhz: float) -> str:
    """The rate that a number of cycles means at a clock.

    >>> frames_per_second(199, 200)
    '1,005,025 frames/s'
    """
    return f"{round(clk_mhz * 1e6 / cycles):,} frames/s"


def _memory(run: RunData) -> Tile:
    title = "What does it cost in memory?"
    bits = {name: run.figure("weight_memory_bits", name) for name in (*SIDES, "int8")}
    for value in bits.values():
        if isinstance(value, Missing):
            return Tile(title, value)
    more = bits["hardened"] / bits["plain"] - 1
    figures = (
        Figure("plain", TONES["plain"], number(bits["plain"]), "bits of weights"),
        Figure(
            "hardened",
            TONES["hardened"],
            number(bits["hardened"]),
            f"{percent(abs(more))} {'more' if more >= 0 else 'less'}",
        ),
    )
    return Tile(title, figures, f"The same weights in unprotected INT8 would need {number(bits['int8'])} bits.")


def _rtl(run: RunData) -> Tile:
    title = "Is the hardware the network?"
    equal, images = run.figure("rtl_equal_images"), run.figure("images")
    for value in (equal, images):
        if isinstance(value, Missing):
            return Tile(title, value)
    figures = (Figure("neutral", "Images with equal outputs", f"{number(equal)} of {number(images)}"),)
    return Tile(title, figures, "Integer outputs of the RTL against the exported QONNX graph, image by image.")


def _agree(run: RunData) -> Tile:
    title = "Does a fault mean the same everywhere?"
    found = agreement(run)
    if isinstance(found, Missing):
        return Tile(title, found)
    note = (
        f"The same faults in the hardened build on {', '.join(AGREE_ON[:-1])} and {AGREE_ON[-1]}; equal means the same "
        "outputs for every image. The engine shares no code with the simulator."
    )
    value = f"{number(found.equal)} of {number(found.compared)}"
    return Tile(title, (Figure("neutral", "Faults with equal outputs", value),), note)

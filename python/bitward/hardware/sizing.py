# SPDX-License-Identifier: Apache-2.0
"""How deep queues must be, from what the gauged model of a design shows; and which node holds the others up.

(1) With queues without bounds and a source that never waits, the design runs at the pace of its slowest node, S cycles
an image. (2) With a source that gives an image in S cycles, the most beats that ever lie in each queue are counted.
Queues as deep as that never make a node wait in (2), so S is kept. A source that comes earlier makes no beat come later
(nodes' timing does not depend on data, and a node that gets a beat earlier is not done later), so S is kept with any
source. (3) Queues are made shallower, the dearest first, as long as no more than LOST of the rate is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bitward.errors import ModelError
from bitward.hardware.costs import SRL_BEATS, URAM_SHAPE, memory_luts, queue_style
from bitward.hardware.fifos import LEAST, Queue, safe_depths
from bitward.hardware.fifos import queues as queues_of
from bitward.hardware.gauge import Gauge, GaugedSimulation, Measured
from bitward.hardware.simulate import compile_model
from bitward.tools import output_directory

SPARE = 1  # beats beyond the peak: RAM passes a beat on a cycle later than the gauged queue
LOST = 0.01  # share of the rate that may be given for shallower queues
IMAGES = 6  # in a run: the rate is measured over the second half
WORTH = 300.0  # LUTs, or a block RAM and a half: a queue that costs less is left as it is
RAM_BEATS = 64  # of one bit in a LUT of distributed RAM

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Sizing:
    """Depths by queue name, and how they were found. Cycles are per image in steady state, in the gauged model."""

    depths: dict[str, int]
    unbounded_cycles: float
    cycles: float
    runs: int
    is_finished: bool  # False where the time limit came first
    busy: dict[str, float] = field(default_factory=dict)  # by node (see busy_shares)

    @property
    def bottleneck(self) -> str:
        """The node that sets the pace, "" where it was not measured."""
        return max(self.busy, key=lambda node: self.busy[node], default="")


def cost(depth: int, bits: int) -> float:
    """What a queue costs, in LUTs (memories by costs.memory_luts).

    >>> [cost(2, 8), cost(33, 8), cost(34, 8) > cost(33, 8), cost(514, 36) > cost(513, 36)]
    [4.0, 8, True, True]
    """
    if depth <= LEAST:
        return bits / 2  # flip-flops, of which there are two to a LUT
    return memory_luts(depth - 1, bits, queue_style(depth, bits))


def rounded(depth: int, bits: int) -> int:
    """The deepest queue that costs what one of `depth` costs.

    >>> [rounded(2, 8), rounded(3, 8), rounded(34, 8), rounded(600, 36)]
    [2, 33, 65, 1025]
    >>> rounded(3000, 72)
    4097
    """
    if depth <= LEAST:
        return LEAST
    style = queue_style(depth, bits)
    if style == "srl":
        return SRL_BEATS + 1
    step = {"distributed": RAM_BEATS, "block": 512, "ultra": URAM_SHAPE[0]}[style]
    return -(-(depth - 1) // step) * step + 1


class _Bench:
    """Runs of the gauged model against a clock."""

    def __init__(self, simulation: GaugedSimulation, limit_s: float, progress: Progress) -> None:
        io = simulation.manifest.io
        if io is None:
            raise ModelError("a design must have streams for its queues to be measured, got none.")
        self.io, self.simulation, self.progress = io, simulation, progress
        self.runs, self.start, self.limit_s = 0, time.monotonic(), limit_s
        self.images = np.random.default_rng(0).integers(0, 2 ** (io.input.bits - 1), (2 * IMAGES, *io.input.shape))

    @property
    def spent_s(self) -> float:
        return time.monotonic() - self.start

    @property
    def is_over(self) -> bool:
        return self.spent_s > self.limit_s

    def run(self, depths: Mapping[str, int], pace: float = 0.0, images: int = IMAGES) -> tuple[Measured, float]:
        """What was measured, and cycles per image (infinite where it got stuck)."""
        self.runs += 1
        measured = self.simulation.measure(self.images[:images], depths, pace)
        if measured.streamed is None:
            return measured, float("inf")
        return measured, measured.streamed.steady_cycles(self.io.output.beats)

    def has_time_for(self, images: int) -> bool:
        """One image goes through, to see how long so many would take. Raises ModelError where it gets stuck."""
        before = self.spent_s
        self.simulation.measure(self.images[:1], {})
        return images * (self.spent_s - before) <= self.limit_s


def measured_depths(
    model: Any, work: Path, files: list[str], fixed: Mapping[str, int], limit_s: float, progress: Progress
) -> Sizing:
    """The sizing of a design whose RTL (`files` of `work`/rtl) and manifest are written; a model is compiled for it.

    `limit_s` is for measuring; compiling comes before. Nothing else than the log stays in `work`/sim.
    """
    with _gauged(work, files, progress) as simulation:
        return size_fifos(simulation, queues_of(model), safe_depths(model), fixed, limit_s, progress)


def why_stopped(model: Any, work: Path, files: list[str], progress: Progress) -> str:
    """The sentence that tells why a design comes to a stop with the depths it has, in a model compiled for that."""
    found = queues_of(model)
    depths = {queue.name: queue.depth for queue in found}
    with _gauged(work, files, progress) as simulation:
        measured, _ = _Bench(simulation, 0.0, progress).run(depths)
        return deadlock(measured.gauges, found, depths)


@contextmanager
def _gauged(work: Path, files: list[str], progress: Progress) -> Iterator[GaugedSimulation]:
    progress("compiling the model that measures queues")
    library = compile_model(work / "rtl", files, output_directory(work / "sim"), work / "sim" / "compile.log", True)
    try:
        with GaugedSimulation(work) as simulation:
            yield simulation
    finally:
        library.unlink()


def size_fifos(
    simulation: GaugedSimulation,
    queues: Sequence[Queue],
    safe: Mapping[str, int],
    fixed: Mapping[str, int] | None = None,
    limit_s: float = 180.0,
    progress: Progress = lambda _: None,
) -> Sizing:
    """Depths of the design's queues at which it keeps its rate; `fixed` ones stay as they are.

    Where the time limit comes before anything is known, the depths are the `safe` ones. Raises ModelError, naming the
    skip edge, where the fixed depths make the design stop.
    """
    fixed, bench = dict(fixed or {}), _Bench(simulation, limit_s, progress)
    if not bench.has_time_for(IMAGES + 2):  # two runs: images overlap, and take less than the first by itself
        progress(f"queues: not measured, as that takes longer than {limit_s:g} s; they are as deep as is safe")
        return Sizing({**safe, **fixed}, float("nan"), float("nan"), 0, False)
    measured, unbounded = bench.run(fixed)
    if measured.streamed is None:
        raise ModelError(deadlock(measured.gauges, queues, fixed))
    simulation.quiet_cycles = 2 * measured.cycles
    progress(f"queues: {unbounded:g} cycles an image without bounds")
    paced, _ = bench.run(fixed, pace=unbounded)
    found = {q.name: rounded(paced.gauges[q.name].peak + SPARE, q.bits) for q in queues if q.name not in fixed}
    sizing = Sizing({**found, **fixed}, unbounded, unbounded, bench.runs, True)
    for better in _shrink(bench, queues, sizing, fixed):
        sizing = better
    if bench.is_over:
        progress(f"queues: the time limit of {limit_s:g} s came after {bench.runs} runs; some may be too deep")
    short, _ = bench.run(sizing.depths)
    long, cycles = bench.run(sizing.depths, images=2 * IMAGES)
    busy = busy_shares(queues, short, long)
    return replace(sizing, cycles=cycles, runs=bench.runs, is_finished=not bench.is_over, busy=busy)


def _shrink(bench: _Bench, queues: Sequence[Queue], sizing: Sizing, fixed: Mapping[str, int]) -> Iterator[Sizing]:
    """Ever cheaper depths that keep the rate but for LOST of it."""
    costs = {q.name: cost(sizing.depths[q.name], q.bits) for q in queues}
    free = sorted((q for q in queues if q.name not in fixed and costs[q.name] > WORTH), key=lambda q: -costs[q.name])
    slowest = sizing.unbounded_cycles * (1 + LOST)
    for number, queue in enumerate(free):
        steps = _steps(sizing.depths[queue.name], queue.bits)
        low, high = 0, len(steps)  # the first step at which the rate is kept; `high` is the depth it has
        while low < high and not bench.is_over:
            middle = (low + high) // 2
            depths = {**sizing.depths, queue.name: steps[middle]}
            _, cycles = bench.run(depths)
            if cycles <= slowest:
                high = middle
                sizing = replace(sizing, depths=depths, cycles=cycles, runs=bench.runs)
                yield sizing
            else:
                low = middle + 1
        if steps:
            beats = sizing.depths[queue.name]
            bench.progress(f"queues: {number + 1} of {len(free)}, {queue.name} {beats} deep, {bench.spent_s:.0f} s")


def _steps(depth: int, bits: int) -> list[int]:
    """Depths worth trying, ascending: a register, a LUT's shift register, powers of two; all cheaper than `depth`."""
    powers = [LEAST, SRL_BEATS + 1, *(2**n + 1 for n in range(6, max(7, depth.bit_length())))]
    return sorted({step for step in powers if step < depth and cost(step, bits) < cost(depth, bits)})


def busy_shares(queues: Sequence[Queue], short: Measured, long: Measured) -> dict[str, float]:
    """By node: the share of cycles in which it has all its inputs and is not held up by a full queue behind it.

    Counted between the ends of a shorter and a longer stream of a source that never waits, so that filling the design
    does not count. The node that sets the pace is busy all the time: those before it wait for room, those behind it for
    beats. A node that ignores a beat that lies ready for it counts as busy.
    """
    span = max(1, long.cycles - short.cycles)
    empty: dict[str, float] = {}
    blocked: dict[str, float] = {}
    for queue in queues:
        before, after = short.gauges[queue.name], long.gauges[queue.name]
        empty[queue.consumer] = max(empty.get(queue.consumer, 0.0), (after.empty - before.empty) / span)
        blocked[queue.producer] = max(blocked.get(queue.producer, 0.0), (after.blocked - before.blocked) / span)
    return {node: 1 - empty[node] - blocked[node] for node in empty if node in blocked and node}


def deadlock(gauges: Mapping[str, Gauge], queues: Sequence[Queue], depths: Mapping[str, int]) -> str:
    """The sentence that tells why a design with queues of such depths came to a stop, with the skip edge to blame."""
    full = [q for q in queues if q.name in depths and gauges[q.name].held >= depths[q.name]]
    starved = {q.consumer: q for q in queues if gauges[q.name].held == 0 and q.consumer}
    for queue in full:
        if queue.consumer in starved:
            edge = _upstream(queue, queues)
            return (
                f"{queue} must be deeper than {depths[queue.name]} beats, got a design that stops: it is full while "
                f"{starved[queue.consumer].name}, which {queue.consumer} needs too, is empty. The skip edge that it "
                f"lies on begins at {edge or 'the source'}: leave its depth out to have it found."
            )
    names = ", ".join(f"{q.name} ({depths[q.name]})" for q in full) or "none"
    return f"the design must not come to a stop, got one with full queues {names}: leave depths out to have them found."


def _upstream(queue: Queue, queues: Sequence[Queue]) -> str:
    """The node at which the branch that the queue lies on begins: the next one upstream with several outputs."""
    into: dict[str, list[Queue]] = {}
    outputs: dict[str, int] = {}
    for other in queues:
        into.setdefault(other.consumer, []).append(other)
        outputs[other.producer] = outputs.get(other.producer, 0) + 1
    node = queue.producer
    while node and outputs[node] == 1 and into.get(node):
        node = into[node][0].producer
    return node

# SPDX-License-Identifier: Apache-2.0
"""Depths of queues from the gauged model: enough to keep the rate, no more than that takes, and a deadlock's cause."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import networks_zoo
import numpy as np
import pytest
from qonnx.core.modelwrapper import ModelWrapper

from bitward.errors import ModelError
from bitward.hardware import sizing
from bitward.hardware.build import REGISTERS, build
from bitward.hardware.declare import BuildOptions
from bitward.hardware.fifos import Queue, queues
from bitward.hardware.gauge import Gauge, GaugedSimulation, Measured
from bitward.hardware.simulate import Streamed, compile_model
from bitward.hardware.sizing import busy_shares, cost, deadlock, rounded, size_fifos
from bitward.hardware.stitch import Link, Node, Stream, map_size, top, windows
from bitward.manifest import Io, Manifest, StreamTensor

RTL = Path(__file__).resolve().parents[2] / "hls" / "rtl"
BEATS = 100  # an image
PORTS = "input logic ap_clk, ap_rst_n,"
# Takes an image, then gives it, in BEATS cycles each: the slowest node.
BURST = f"""
module burst ({PORTS} input logic in0_V_TVALID, output logic in0_V_TREADY, input logic [7:0] in0_V_TDATA,
  output logic out0_V_TVALID, input logic out0_V_TREADY, output logic [7:0] out0_V_TDATA);
  logic [7:0] kept[{BEATS}];
  int at;
  logic gives;
  assign in0_V_TREADY = !gives;
  assign out0_V_TVALID = gives;
  assign out0_V_TDATA = kept[at];
  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      at <= 0;
      gives <= 0;
    end else if (gives ? out0_V_TREADY : in0_V_TVALID) begin
      if (!gives) kept[at] <= in0_V_TDATA;
      at <= at == {BEATS - 1} ? 0 : at + 1;
      if (at == {BEATS - 1}) gives <= !gives;
    end
  end
endmodule
"""
JOIN = f"""
module join_two ({PORTS} input logic in0_V_TVALID, in1_V_TVALID, output logic in0_V_TREADY, in1_V_TREADY,
  input logic [7:0] in0_V_TDATA, in1_V_TDATA,
  output logic out0_V_TVALID, input logic out0_V_TREADY, output logic [7:0] out0_V_TDATA);
  assign out0_V_TVALID = in0_V_TVALID && in1_V_TVALID;
  assign in0_V_TREADY = out0_V_TREADY && out0_V_TVALID;
  assign in1_V_TREADY = in0_V_TREADY;
  assign out0_V_TDATA = in0_V_TDATA ^ in1_V_TDATA;
endmodule
"""
NAMES = ("input", "branch", "skip", "late", "output")
QUEUES = [
    Queue("input", 8, BEATS, 2, "", "fork"),
    Queue("branch", 8, BEATS, 2, "fork", "burst"),
    Queue("skip", 8, BEATS, 2, "fork", "join"),
    Queue("late", 8, BEATS, 2, "burst", "join"),
    Queue("output", 8, BEATS, 2, "join", ""),
]


def node(name: str, module: str, inputs: str, outputs: str, **parameters: int) -> Node:
    links = (tuple(Link(tensor, 8) for tensor in tensors.split()) for tensors in (inputs, outputs))
    return Node(name, module, parameters, *links)


@pytest.fixture(scope="module")
def simulation(tmp_path_factory):
    """image -> fork -> burst -> join -> image, and a skip edge from fork to join, with queues on every stream."""
    build = tmp_path_factory.mktemp("gauged")
    for folder in ("rtl", "sim"):
        (build / folder).mkdir()
    nodes = [
        *(node(name, "bitward_fifo", f"{name}_in", f"{name}_out", Bits=8) for name in NAMES),
        node("fork", "bitward_duplicate", "input_out", "branch_in skip_in", Width=8, Num=2),
        node("burst", "burst", "branch_out", "late_in"),
        node("join", "join_two", "late_out skip_out", "output_in"),
    ]
    files = [f"bitward_{name}.sv" for name in ("axilite_split", "registers", "tlast", "fifo", "duplicate")]
    for file in files:
        shutil.copy(RTL / file, build / "rtl")
    (build / "rtl" / "nodes.sv").write_text(BURST + JOIN)
    (build / "rtl" / "bitward_top.sv").write_text(top(nodes, windows(nodes), Stream(8, BEATS), Stream(8, BEATS), 7))
    compile_model(build / "rtl", [*files, "nodes.sv", "bitward_top.sv"], build / "sim", build / "compile.log", True)
    tensor = StreamTensor((BEATS,), "UINT8", 8, 1, BEATS)
    Manifest("fork", 7, "virtual", 200.0, (), Io(tensor, tensor), REGISTERS, map_size(windows(nodes))).save(
        build / "manifest.json"
    )
    with GaugedSimulation(build) as opened:
        yield opened


SAFE = dict.fromkeys(NAMES, BEATS + 2)


def test_depths_keep_the_rate_and_only_the_skip_edge_is_deep(simulation):
    said = []
    found = size_fifos(simulation, QUEUES, SAFE, limit_s=30, progress=said.append)
    assert found.is_finished and found.cycles <= found.unbounded_cycles * 1.01
    assert found.unbounded_cycles == 2 * BEATS
    assert BEATS <= found.depths["skip"] <= rounded(BEATS + 4, 8)
    assert max(depth for name, depth in found.depths.items() if name != "skip") <= rounded(BEATS // 2 + 2, 8)
    assert found.bottleneck == "burst" and found.busy["burst"] > 0.98
    assert said[0] == "queues: 200 cycles an image without bounds"


def test_the_skip_edge_must_hold_an_image(simulation):
    images = np.random.default_rng(0).integers(0, 128, (6, BEATS))
    rates = [
        simulation.measure(images, {"skip": depth}).streamed.steady_cycles(BEATS) for depth in (BEATS + 3, 2 * BEATS)
    ]
    assert rates == [2 * BEATS] * 2
    assert simulation.measure(images, {"skip": BEATS // 2}).streamed is None


def test_a_deadlock_is_told_with_the_skip_edge(simulation):
    simulation.quiet_cycles = 10_000
    sentence = (
        r"^skip \(from fork to join\) must be deeper than 20 beats, got a design that stops: it is full while late, "
        r"which join needs too, is empty\. The skip edge that it lies on begins at fork: leave its depth out to have it"
    )
    with pytest.raises(ModelError, match=sentence):
        size_fifos(simulation, QUEUES, SAFE, {"skip": 20}, limit_s=30)


def test_a_skip_edge_with_nodes_on_it_begins_where_the_branches_part():
    """Also where there is no fork: at the source."""
    queues = [
        *(replace(queue, producer="pre") if queue.producer == "fork" else queue for queue in QUEUES),
        Queue("first", 8, BEATS, 2, "fork", "pre"),
    ]
    queues = [replace(queue, consumer="wait") if queue.name == "skip" else queue for queue in queues]
    queues.append(Queue("waited", 8, BEATS, 2, "wait", "join"))
    gauges = {queue.name: Gauge(3, 0, 3, 1, 1) for queue in queues} | {"waited": Gauge(9, 9, 9, 1, 1)}
    said = deadlock(gauges, queues, {"waited": 9})
    assert said.startswith("waited (from wait to join) must be deeper than 9 beats, ") and "begins at pre: " in said
    alone = [queue for queue in queues if queue.name != "branch"]
    assert "begins at the source: " in deadlock(gauges, alone, {"waited": 9})


class KnownDesign:
    """A design that takes PACE cycles an image where every queue has at least the depth that `needs` says, else more.

    Its clock, in seconds, counts the streams that were measured.
    """

    PACE, PEAK = 200, 5000  # the most that lies in any queue where nothing is bounded

    def __init__(self, needs: dict[str, int]) -> None:
        tensor = StreamTensor((BEATS,), "UINT8", 8, 1, BEATS)
        self.manifest = SimpleNamespace(io=Io(tensor, tensor))
        self.needs, self.runs, self.quiet_cycles = needs, 0, None

    def cycles(self, depths: dict[str, int]) -> float:
        """An image; half a percent more for each queue that is a tenth too shallow, which is little enough for one."""
        short = [max(0, 1 - depths.get(name, self.PEAK) / need) for name, need in self.needs.items()]
        return self.PACE * (1 + sum(0.005 if 0 < share < 0.1 else share for share in short))

    def measure(self, images: np.ndarray, depths: dict[str, int], pace: float = 0.0) -> Measured:
        self.runs += 1
        ends = np.rint(self.cycles(depths) * 1000 * np.arange(1, len(images) + 1)).repeat(BEATS)
        gauges = {name: Gauge(self.PEAK if pace else 0, 0, 1, 0, 0) for name in self.needs}
        return Measured(Streamed(images, ends, ends), gauges, int(ends[-1]))


LADDER = [2, 33, *(2**power + 1 for power in range(6, 13))]


@pytest.mark.parametrize("needs", [
    {"a": 2, "b": 3, "c": 33}, {"a": 34, "b": 700, "c": 129}, {"a": 4096, "b": 4098, "c": 5000},
    {"a": 140, "b": 140, "c": 2}, {"a": 4950, "b": 4200, "c": 2300}])  # fmt: skip
def test_every_dear_queue_is_as_shallow_as_the_rate_allows(needs):
    """Against all depths that are tried, one by one; what costs little stays as it is."""
    bits = {"a": 64, "b": 40, "c": 72, "little": 1}
    design = KnownDesign({**needs, "little": 2})
    queues = [Queue(name, bits[name], BEATS, 2, "", "") for name in bits]
    said: list[str] = []
    found = size_fifos(design, queues, {}, limit_s=1e9, progress=said.append)
    best = {name: rounded(KnownDesign.PEAK + 1, width) for name, width in bits.items()}
    for name in sorted(needs, key=lambda name: -cost(best[name], bits[name])):  # the dearest first
        cheaper = [depth for depth in LADDER if cost(depth, bits[name]) < cost(best[name], bits[name])]
        kept = [depth for depth in cheaper if design.cycles({**best, name: depth}) <= design.PACE * 1.01]
        best[name] = min(kept, default=best[name])
    assert found.depths == best and found.is_finished
    assert found.cycles == pytest.approx(1000 * design.cycles(best))
    assert [line for line in said if line.startswith("queues: 3 of 3, ")] and found.runs <= 4 + 3 * 4


def test_where_time_runs_out_the_rate_is_kept_and_it_is_said(monkeypatch):
    design = KnownDesign({"a": 40, "b": 40, "c": 40})
    monkeypatch.setattr(sizing, "time", SimpleNamespace(monotonic=lambda: design.runs))
    queues = [Queue(name, 64, BEATS, 2, "", "") for name in design.needs]
    said: list[str] = []
    found = size_fifos(design, queues, {}, limit_s=8, progress=said.append)
    assert said[-1] == "queues: the time limit of 8 s came after 8 runs; some may be too deep"
    assert not found.is_finished and design.cycles(found.depths) <= design.PACE * 1.01
    assert max(found.depths.values()) == rounded(KnownDesign.PEAK + 1, 64) and min(found.depths.values()) == 65


def test_a_stop_without_a_join_names_the_full_queues():
    gauges = {name: Gauge(3, 3, 3, 1, 1) for name in NAMES}
    assert deadlock(gauges, QUEUES, {"late": 3}) == (
        "the design must not come to a stop, got one with full queues late (3): leave depths out to have them found."
    )


def test_fixed_depths_stay(simulation):
    found = size_fifos(simulation, QUEUES, SAFE, {"output": 77, "skip": 150}, limit_s=30)
    assert found.depths["output"] == 77 and found.depths["skip"] == 150


def test_without_time_depths_are_the_safe_ones(simulation):
    said = []
    found = size_fifos(simulation, QUEUES, SAFE, {"late": 5}, limit_s=0, progress=said.append)
    assert found.depths == {**SAFE, "late": 5} and not found.is_finished and found.bottleneck == ""
    assert said == ["queues: not measured, as that takes longer than 0 s; they are as deep as is safe"]


def test_gauges_count_what_went_through(simulation):
    images = np.random.default_rng(0).integers(0, 128, (2, BEATS))
    gauges = simulation.measure(images, {}).gauges
    assert set(gauges) == set(NAMES)
    assert all(gauge.passed == 2 * BEATS and gauge.held == 0 for gauge in gauges.values())
    assert gauges["skip"].peak >= BEATS
    tight = simulation.measure(images, {"branch": 2, "input": 2}).gauges
    assert tight["branch"].peak <= 2 and tight["branch"].blocked > 0 == gauges["branch"].blocked


def test_a_design_without_streams_is_refused():
    bare = SimpleNamespace(manifest=SimpleNamespace(io=None))
    with pytest.raises(ModelError, match="^a design must have streams for its queues to be measured, got none"):
        size_fifos(bare, QUEUES, SAFE)


def test_filling_the_design_does_not_count_as_waiting():
    def at(cycles, empty, blocked):
        return Measured(None, {q.name: Gauge(2, 0, 9, blocked, empty) for q in QUEUES}, cycles)

    shares = busy_shares(QUEUES, at(1000, 900, 0), at(2000, 1000, 300))
    assert shares == pytest.approx({"fork": 0.6, "burst": 0.6, "join": 0.6})


@pytest.mark.parametrize("bits", [1, 4, 8, 36, 64])
def test_rounding_up_costs_nothing(bits):
    for depth in (2, 3, 33, 34, 65, 200, 513, 600, 3000):
        assert depth <= rounded(depth, bits)
        assert cost(rounded(depth, bits), bits) == cost(depth, bits)


def test_a_design_whose_depths_are_all_given_is_explained_too(simulation, monkeypatch):
    depths = {**SAFE, "skip": 20}
    given = [replace(queue, depth=depths[queue.name]) for queue in QUEUES]
    monkeypatch.setattr(sizing, "queues_of", lambda model: given)
    monkeypatch.setattr(sizing, "_gauged", lambda *_: nullcontext(simulation))
    simulation.quiet_cycles = 10_000
    sentence = sizing.why_stopped(None, Path(), [], lambda _: None)
    assert sentence.startswith("skip (from fork to join) must be deeper than 20 beats, got a design that stops: it is")


@pytest.mark.slow
def test_a_build_that_stops_names_the_skip_edge(tmp_path):
    network = networks_zoo.build(networks_zoo.residual(), tmp_path / "model.onnx", 1)
    options = BuildOptions("none", target_fps=1e5, fifos="safe")
    build(network.path, tmp_path / "safe", replace(options, simulate=False))
    found = queues(ModelWrapper(str(tmp_path / "safe" / "hardware.onnx")))
    skip = next(q for q in found if q.consumer == "ElementwiseAdd_rtl_0")  # of the block whose skip edge is bare
    with pytest.raises(ModelError, match=rf"^{skip.name} .* must be deeper than 4 beats, .* begins at Duplicate"):
        build(network.path, tmp_path / "deep", replace(options, folding={skip.name: {"depth": 4}}))

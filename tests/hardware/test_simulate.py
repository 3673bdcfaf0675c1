# SPDX-License-Identifier: Apache-2.0
"""The simulator as an instrument: streams, stalls, cycles, AXI responses, and what it says when something is wrong."""

from __future__ import annotations

import ctypes
import os
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from threading import Lock, current_thread
from types import SimpleNamespace

import numpy as np
import pytest
from numpy._core import _multiarray_umath as multiarray

from bitward.errors import BoardError, ToolError
from bitward.hardware.build import REGISTERS
from bitward.hardware.simulate import Simulation, Streamed, _load, _runtime, compile_model
from bitward.hardware.stitch import Link, Node, Stream, map_size, top, windows
from bitward.manifest import Io, Manifest, StreamTensor
from bitward.targets.deadline import DeadlineError
from bitward.tools import find_verilator

RTL = Path(__file__).resolve().parents[2] / "hls" / "rtl"
WAIT = 2000
LOOP = f"""
module slow_loop (
  input  logic ap_clk, ap_rst_n, in0_V_TVALID, out0_V_TREADY,
  input  logic [7:0] in0_V_TDATA,
  output logic in0_V_TREADY, out0_V_TVALID,
  output logic [7:0] out0_V_TDATA
);
  int age;
  always_ff @(posedge ap_clk) age <= !ap_rst_n || !in0_V_TVALID || in0_V_TREADY ? 0 : age + 1;
  assign out0_V_TVALID = in0_V_TVALID && age > {WAIT};
  assign in0_V_TREADY  = out0_V_TVALID && out0_V_TREADY;
  assign out0_V_TDATA  = in0_V_TDATA;
  always @(posedge ap_clk) if (ap_rst_n && out0_V_TVALID) assert (out0_V_TDATA != 8'hEE);
endmodule
"""


@pytest.fixture(scope="module")
def slow_loop(tmp_path_factory) -> Path:
    """A build that passes each beat, an image, on after WAIT cycles; nobody stands at 0x1000. Its path has a space."""
    build = tmp_path_factory.mktemp("slow loop")
    placed = windows([Node("memory", "nobody", {}, (), (), 12)])
    for folder in ("rtl", "sim"):
        (build / folder).mkdir()
    for path in RTL.glob("*.sv"):
        shutil.copy(path, build / "rtl")
    (build / "rtl" / "slow_loop.sv").write_text(LOOP)
    loop = Node("loop", "slow_loop", {}, (Link("x", 8),), (Link("y", 8),))
    text = top([loop], placed, Stream(8, 1), Stream(8, 1), 0xB17A)
    (build / "rtl" / "bitward_top.sv").write_text(text)
    names = ["axilite_split", "registers", "tlast", "top"]
    files = ["slow_loop.sv", *(f"bitward_{name}.sv" for name in names)]
    compile_model(build / "rtl", files, build / "sim", build / "sim" / "compile.log")
    beat = StreamTensor((1,), "UINT8", 8, 1, 1)
    manifest = Manifest("loop", 0xB17A, "virtual", 200.0, (), Io(beat, beat), dict(REGISTERS), map_size(placed))
    manifest.save(build / "manifest.json")
    return build


@pytest.fixture
def build(mlp_run) -> Path:
    return mlp_run.build("hardened")


@pytest.fixture
def images(build) -> np.ndarray:
    io = Manifest.load(build / "manifest.json").io
    return np.random.default_rng(1).integers(0, 256, (12, *io.input.shape))


def test_stalls_change_cycles_and_not_outputs(build, images):
    def took(streamed: Streamed) -> int:
        return int(streamed.out_cycles[-1] - streamed.in_cycles[0])

    with Simulation(build) as simulation:
        smooth = simulation.infer(images)
        for stalls in ((0.5, 0.0), (0.0, 0.5), (0.7, 0.7)):
            stalled = simulation.infer(images, *stalls, seed=3)
            assert np.array_equal(stalled.outputs, smooth.outputs)
            assert took(stalled) > took(smooth)


def test_two_simulations_are_cycle_for_cycle_the_same(build, images):
    with Simulation(build) as first, Simulation(build) as second:
        left, right = (simulation.infer(images, 0.3, 0.3, seed=9) for simulation in (first, second))
        assert np.array_equal(left.out_cycles, right.out_cycles)
        assert first.cycles == second.cycles > 0


def test_a_reset_keeps_memories(build):
    memory = Manifest.load(build / "manifest.json").memory("fc1.weight").hardware
    with Simulation(build) as simulation:
        simulation.axil_write(memory.base, 0x5A)
        for segment in range(1, memory.segments):
            simulation.axil_write(memory.base + 4 * segment, 0)
        simulation.reset()
        assert simulation.axil_read(memory.base) == 0x5A


def test_cycles_are_counted_from_beat_to_beat():
    streamed = Streamed(
        np.zeros((4, 1)), np.array([3, 4], np.uint64), np.array([10, 12, 20, 22, 30, 32, 40, 42], np.uint64)
    )
    assert streamed.latency_cycles(2) == 10
    assert streamed.steady_cycles(2) == 10.0
    short = replace(streamed, out_cycles=streamed.out_cycles[:4])
    with pytest.raises(BoardError, match="^a stream must have at least 4 images to measure a steady rate, got 2"):
        short.steady_cycles(2)


@pytest.mark.parametrize("address", [-4, 0x2000, 0x2000C, 0xA000000C, 1 << 32])
def test_an_address_beyond_the_map_is_refused(slow_loop, address):
    sentence = f"^an AXI-Lite address must lie in the design's map of 0x2000 bytes, got {address:#x}: see the manifest"
    with Simulation(slow_loop) as simulation:
        for access in (simulation.axil_read, lambda at: simulation.axil_write(at, 1)):
            with pytest.raises(BoardError, match=sentence):
                access(address)


def test_an_address_that_is_not_there_is_told(slow_loop):
    with Simulation(slow_loop) as simulation:
        with pytest.raises(BoardError, match="^the AXI-Lite read of 0x40 must be answered OKAY, got DECERR"):
            simulation.axil_read(0x40)


def test_a_read_only_register_is_told(build):
    with Simulation(build) as simulation:
        with pytest.raises(BoardError, match="^the AXI-Lite write to 0x4 must be answered OKAY, got SLVERR"):
            simulation.axil_write(0x4, 1)


def test_a_transfer_that_tlast_ends_early_is_told(build, images):
    io = Manifest.load(build / "manifest.json").io
    with Simulation(build) as simulation:
        register = simulation.manifest.registers["images_per_transfer"]
        simulation.axil_write(register, 3)
        with pytest.raises(
            BoardError, match="^a transfer must be as long as the register images_per_transfer says, got"
        ):
            simulation.stream(io.input.pack(images), len(images) * io.output.image_bytes)


def test_a_design_that_does_not_answer_is_told(build, images, monkeypatch):
    io = Manifest.load(build / "manifest.json").io
    monkeypatch.setattr("bitward.hardware.simulate.QUIET_CYCLES", 5000)
    with Simulation(build) as simulation:
        simulation.axil_write(simulation.manifest.registers["images_per_transfer"], 2)
        with pytest.raises(
            BoardError, match="must answer a stream of .* beats, got nothing in time: the design is stuck"
        ):
            simulation.stream(io.input.pack(images[:1]), 2 * io.output.image_bytes)


def test_a_transfer_that_tlast_does_not_end_is_told(slow_loop):
    with Simulation(slow_loop) as simulation:
        register = simulation.manifest.registers["images_per_transfer"]
        simulation.axil_write(register, 3)
        with pytest.raises(
            BoardError, match="^a transfer must be as long .*, got 2 bytes asked for and no TLAST; write"
        ):
            simulation.stream(b"ab", 2)
        simulation.axil_write(register, 3)  # the two images above are forgotten
        assert simulation.stream(b"abc", 3) == b"abc"


def test_after_a_timeout_nothing_is_taken_until_the_next_call(slow_loop, monkeypatch):
    monkeypatch.setattr("bitward.hardware.simulate.QUIET_CYCLES", WAIT // 2)
    with Simulation(slow_loop) as simulation:
        with pytest.raises(BoardError, match="got nothing in time: the design is stuck"):
            simulation.stream(b"ab", 2)
        start, sent = simulation.cycles, simulation.manifest.registers["images_sent"]
        while simulation.cycles < start + 3 * WAIT:
            assert simulation.axil_read(sent) == 0


@pytest.mark.parametrize("slices", [2, 7, 40])
def test_a_stream_that_is_cut_off_leaves_nothing_in_the_design(build, images, monkeypatch, slices):
    class Cut(Simulation):
        left = slices

        def _call(self, function, *arguments):
            if function is self._library.bitward_go_on:
                self.left -= 1
                if not self.left:
                    raise DeadlineError
            return super()._call(function, *arguments)

    with Simulation(build) as simulation:
        wanted = simulation.infer(images)
    monkeypatch.setattr("bitward.hardware.simulate.SLICE_S", 0.0)  # a few cycles each
    with Cut(build) as simulation:
        with pytest.raises(DeadlineError):
            simulation.infer(images[::-1])
        found = simulation.infer(images)
    assert np.array_equal(found.outputs, wanted.outputs)
    assert np.array_equal(np.diff(found.out_cycles), np.diff(wanted.out_cycles))


class Unfair:
    """A lock that this thread gets when the stream has ended, and no sooner: a stream may take it again and again."""

    def __init__(self, stream: Future[bytes]) -> None:
        self._lock, self._stream, self._last = Lock(), stream, current_thread()

    def __enter__(self) -> None:
        if current_thread() is self._last:
            assert wait([self._stream], 30).done
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_a_simulation_that_another_thread_closes_ends_its_stream_in_a_sentence(slow_loop):
    simulation = Simulation(slow_loop)
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(simulation.stream, bytes(100_000), 100_000)  # minutes
        while simulation.cycles < 10 * WAIT:
            time.sleep(0.01)
        simulation._lock = Unfair(stream)
        simulation.close()
        with pytest.raises(BoardError, match="^the simulation of .* must be open, got a closed one: open it again"):
            stream.result(timeout=30)
    simulation.close()
    for access in (simulation.reset, lambda: simulation.axil_read(0), lambda: simulation.axil_write(0, 0)):
        with pytest.raises(BoardError, match="must be open, got a closed one"):
            access()


def _threads_have_folders() -> bool:
    """Whether the kernel lets a thread have a working directory of its own; some containers refuse it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: ctypes.CDLL(None).unshare(0x200)).result() == 0


@pytest.mark.skipif(not _threads_have_folders(), reason="unshare is refused here")
def test_relative_names_of_other_threads_stay_what_they_are_while_a_model_reads_its_files(build):
    here, seen = os.getcwd(), set()
    with ThreadPoolExecutor(1) as pool:
        opened = pool.submit(lambda: [Simulation(build).close() for _ in range(20)])
        while not opened.done():
            seen.add(os.getcwd())
        opened.result()
    assert seen == {here}


def test_an_assertion_of_the_rtl_that_fails_is_told_with_its_place(slow_loop):
    sentence = (
        r"^the RTL's assertions must hold during a stream of 2 beats, got .*slow_loop\.sv:\d+: assertion failed\.$"
    )
    with Simulation(slow_loop) as simulation, pytest.raises(BoardError, match=sentence):
        simulation.infer(np.array([[1], [0xEE]]))
    with Simulation(slow_loop) as simulation:  # a new one knows nothing of it
        assert simulation.infer(np.array([[1], [0xEF]])).outputs.ravel().tolist() == [1, 0xEF]


def test_a_library_that_lacks_a_function_is_of_an_older_build():
    library = Path(multiarray.__file__)
    sentence = rf"^{library} must have bitward_open, got an older model: run bitward build again\.$"
    with pytest.raises(ToolError, match=sentence):
        _load(library, "0" * 64)


def test_a_library_of_another_design_is_refused_also_where_the_right_one_was_loaded(mlp_run, slow_loop, tmp_path):
    path = tmp_path / "build"
    for build in (slow_loop, mlp_run.build("hardened"), slow_loop):
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(build, path)
        with Simulation(path) as simulation:
            expected = Manifest.load(build / "manifest.json").design_id
            assert simulation.axil_read(simulation.manifest.registers["design_id"]) == expected
    shutil.copyfile(mlp_run.build("hardened") / "sim" / "libmodel.so", path / "sim" / "libmodel.so")
    with pytest.raises(BoardError, match="libmodel.so must simulate the manifest's design 0x0000b17a, got 0x.*: run"):
        Simulation(path)


def test_a_manifest_without_streams_or_rtl_that_is_gone_is_told(build, images, tmp_path):
    copy = Path(shutil.copytree(build, tmp_path / "build"))
    replace(Manifest.load(build / "manifest.json"), io=None).save(copy / "manifest.json")
    with (
        Simulation(copy) as simulation,
        pytest.raises(BoardError, match="^the manifest must describe the design's streams"),
    ):
        simulation.infer(images)
    shutil.rmtree(copy / "rtl")
    with pytest.raises(
        BoardError, match="rtl must be a readable folder of RTL files, got none: run bitward build again"
    ):
        Simulation(copy)


def test_rtl_that_does_not_compile_is_told_with_the_log(tmp_path):
    (tmp_path / "rtl").mkdir()
    (tmp_path / "rtl" / "bitward_top.sv").write_text("module bitward_top; nonsense\n")
    (tmp_path / "sim").mkdir()
    with pytest.raises(
        ToolError, match=f"^verilator_bin must end with exit code 0, .*log: {tmp_path}/sim/log; command line"
    ):
        compile_model(tmp_path / "rtl", ["bitward_top.sv"], tmp_path / "sim", tmp_path / "sim" / "log")
    assert "nonsense" in (tmp_path / "sim" / "log").read_text()


@pytest.fixture
def compiled(monkeypatch):
    """The commands that would have compiled Verilator's run-time library."""
    done = []

    def fake(command, **options):
        if "--version" not in command:
            done.append(command)
            Path(command[command.index("-o") + 1]).write_text("object")
        return SimpleNamespace(stdout="a compiler")

    monkeypatch.setattr("bitward.hardware.simulate.run", fake)
    return done


def test_verilators_library_is_compiled_once_and_kept(compiled, monkeypatch, tmp_path):
    monkeypatch.setattr("bitward.hardware.simulate.cache_folder", lambda name: tmp_path / name)
    include = find_verilator().root / "include"
    first, second = (_runtime(include, "c++", tmp_path, tmp_path / "log") for _ in range(2))
    assert first == second and first.is_relative_to(tmp_path / "verilated") and first.read_text() == "object"
    assert len(compiled) == 1
    assert _runtime(include, "another", tmp_path, tmp_path / "log") != first


def test_verilators_library_is_compiled_anew_where_nothing_can_be_kept(compiled, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr("bitward.hardware.simulate.cache_folder", lambda name: tmp_path / "file" / name)
    made = _runtime(find_verilator().root / "include", "c++", tmp_path, tmp_path / "log")
    assert made.parent == tmp_path and made.read_text() == "object" and len(compiled) == 1

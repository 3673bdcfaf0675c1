# SPDX-License-Identifier: Apache-2.0
"""The simulator as an instrument: streams, stalls, cycles, AXI responses, and what it says when something is wrong."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bitward.errors import BoardError, ToolError
from bitward.hardware.simulate import Simulation, Streamed, compile_model
from bitward.manifest import Manifest


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


@pytest.mark.parametrize("address", [0x7FFFFFFC, 0xFFFFFFF0])
def test_an_address_that_is_not_there_is_told(build, address):
    with (
        Simulation(build) as simulation,
        pytest.raises(BoardError, match="AXI-Lite read of 0x.* must be answered OKAY, got"),
    ):
        simulation.axil_read(address)


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

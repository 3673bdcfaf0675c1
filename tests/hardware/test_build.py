# SPDX-License-Identifier: Apache-2.0
"""Builds of random small networks, one lane and DEPTH = 1 among them: function, words, and every single stored bit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import small_networks
from small_networks import SmallNetwork, export

from bitward.engine.images import load_images
from bitward.errors import ConfigError, ManifestError, ModelError, ToolError
from bitward.faults import every_fault
from bitward.flow.verify import run_qonnx, verify_build
from bitward.hardware import build as build_module
from bitward.hardware.build import build, measure_cycles
from bitward.hardware.declare import BuildOptions
from bitward.hardware.simulate import StuckError
from bitward.manifest import Manifest, Memory, apply_edge
from bitward.rewrites import harden_model
from bitward.schemes import Plain, Tmr
from bitward.targets import Target
from bitward.targets.engine import EngineTarget
from bitward.targets.rtl import RtlTarget
from bitward.words import segments_of

ONE_LANE = {"PE": 1, "SIMD": 1}
RTL_ALONE = BuildOptions("none", simulate=False)  # no Verilator: quick
SMALL = {
    "one lane, msb": (small_networks.dense, BuildOptions("msb", folding={"fc1": ONE_LANE, "fc2": ONE_LANE})),
    "one row, two bits voted": (
        small_networks.convolutional,
        BuildOptions("msb", voted=2, folding={"conv": {"PE": 4, "SIMD": 9}, "fc": {"PE": 3, "SIMD": 16}}),
    ),
    "some lanes, tmr": (
        small_networks.two_convolutions,
        BuildOptions("tmr", folding={"conv1": {"PE": 2, "SIMD": 2}, "conv2": {"PE": 2, "SIMD": 4}, "fc": {"SIMD": 6}}),
    ),
}
Small = tuple[SmallNetwork, Path, BuildOptions]


@pytest.fixture(scope="module", params=list(SMALL))
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Small:
    design, options = SMALL[request.param]
    folder = tmp_path_factory.mktemp("small")
    network = export(design(), folder / "model.onnx", seed=3)
    build(network.path, folder / "build", options)
    return network, folder / "build", options


def image_of(target: Target, memory: Memory) -> np.ndarray:
    """The memory's image, read row by row."""
    return np.stack([segments_of(target.read(memory.name, word), memory.segments) for word in range(memory.depth)])


def test_the_rtl_computes_the_qonnx_also_with_stalls(small):
    network, folder, _ = small
    images = network.images(24)
    expected = run_qonnx(network.path, images)
    assert len(np.unique(expected, axis=0)) > 12  # else equality would say little
    found = verify_build(folder, images, expected, stall=0.4)
    assert (found["equal"], found["equal_with_stalls"]) == (24, 24)


def test_axi_reads_the_golden_images(small):
    _, folder, _ = small
    golden = load_images(folder / "memories.npz")
    with RtlTarget(folder) as target:
        for memory in target.manifest.memories:
            assert np.array_equal(image_of(target, memory), golden[memory.name]), memory.name


def test_weights_in_the_hardware_are_the_exported_ones_with_signs_folded(small):
    network, folder, _ = small
    with RtlTarget(folder) as target:
        for name, integers in network.folded.items():
            memory = target.manifest.memory(f"{name}.weight")
            (read,) = memory.scheme.decode(memory.stored_words(image_of(target, memory)))
            exported = integers if integers.ndim == 4 else integers.T  # torch's dense layers are (out, in)
            assert np.array_equal((read.astype(np.int64) ^ 8) - 8, exported), name


def test_every_single_fault_means_the_same_to_engine_and_rtl(small):
    network, folder, options = small
    manifest = Manifest.load(folder / "manifest.json")
    faults = [fault for memory in manifest.memories for fault in every_fault(manifest, memory.name)]
    assert len(faults) == manifest.population
    images = apply_edge(manifest.io.pre, network.images(2, seed=7)).astype(np.int64)
    changed = {True: 0, False: 0}
    with EngineTarget(folder) as engine, RtlTarget(folder) as rtl:
        golden = rtl.infer(images)
        for fault in faults:
            outputs = []
            for target in (engine, rtl):
                target.inject(fault)
                outputs.append(target.infer(images))
                target.restore(fault)
            assert np.array_equal(*outputs), fault
            memory = manifest.memory(fault.memory)
            stored_bit = int(memory.locate(fault.word, fault.bit).stored_bit)
            changed[stored_bit in memory.scheme.masked_bits] += not np.array_equal(outputs[1], golden)
        assert np.array_equal(rtl.infer(images), golden)
    assert changed[True] == 0
    assert changed[False] > 0


def test_a_build_says_how_it_stores_and_what_it_measured(small):
    _, folder, options = small
    manifest = Manifest.load(folder / "manifest.json")
    scheme = Tmr(4, 4 if options.protect == "tmr" else options.voted)
    assert {memory.scheme for memory in manifest.memories if memory.role == "weight"} == {scheme}
    record = json.loads((folder / "build.json").read_text())
    assert record["cycles"] == measure_cycles(folder)
    assert record["versions"]["finn-plus"] == "1.6.1"
    assert not (folder / "finn").exists() and not (folder / "sim" / "obj").exists()
    assert str(folder.parent) not in "".join(path.read_text() for path in (folder / "rtl").iterdir())


# ---- without compiling: what only the RTL and the memories say -----------------------------------------------------


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> SmallNetwork:
    return export(small_networks.dense(), tmp_path_factory.mktemp("dense") / "dense.onnx", seed=5)


def outputs(folder: Path, network: SmallNetwork) -> np.ndarray:
    with EngineTarget(folder) as engine:
        return engine.infer(apply_edge(engine.manifest.io.pre, network.images(16)).astype(np.int64))


@pytest.mark.parametrize(
    ("protect", "voted", "scheme"),
    [("none", 1, Plain(4)), ("msb", 1, Tmr(4, 1)), ("msb", 2, Tmr(4, 2)), ("tmr", 1, Tmr(4, 4))],
)
def test_protection_changes_storage_and_not_the_function(tmp_path, dense, protect, voted, scheme):
    manifest = build(dense.path, tmp_path / "out", BuildOptions(protect, voted, simulate=False))
    assert [memory.scheme for memory in manifest.memories if memory.role == "weight"] == [scheme] * 2
    build(dense.path, tmp_path / "plain", RTL_ALONE)
    assert np.array_equal(outputs(tmp_path / "out", dense), outputs(tmp_path / "plain", dense))


def test_a_hardened_model_builds_as_it_says_or_as_its_plain_twin(tmp_path, dense):
    harden_model(dense.path, tmp_path / "hardened.onnx", voted=2, layers=["fc1"])
    kept = build(tmp_path / "hardened.onnx", tmp_path / "kept", BuildOptions(simulate=False))
    assert kept.memory("fc1.weight").scheme == Tmr(4, 2)
    assert kept.memory("fc2.weight").scheme == Plain(4)
    twin = build(tmp_path / "hardened.onnx", tmp_path / "twin", RTL_ALONE)
    assert {memory.scheme for memory in twin.memories if memory.role == "weight"} == {Plain(4)}
    assert np.array_equal(outputs(tmp_path / "kept", dense), outputs(tmp_path / "twin", dense))
    with pytest.raises(
        ConfigError, match="^protect must be 'model' or 'none' for a model that is hardened already, got"
    ):
        build(tmp_path / "hardened.onnx", tmp_path / "again", BuildOptions("msb"))


def test_the_same_model_builds_the_same_files(tmp_path, dense):
    options = BuildOptions("msb", simulate=False)
    first, second = (build(dense.path, tmp_path / name, options, name="dense") for name in ("a", "b"))
    assert first == second
    for name in ("rtl", "overlay"):
        files = [{path.name: path.read_bytes() for path in (tmp_path / at / name).iterdir()} for at in ("a", "b")]
        assert files[0] == files[1]
    other = build(dense.path, tmp_path / "c", RTL_ALONE, name="dense")
    assert other.design_id != first.design_id


def test_a_failed_build_leaves_the_earlier_one_and_the_log_that_it_names(tmp_path, dense, monkeypatch):
    out = tmp_path / "out"
    build(dense.path, out, RTL_ALONE)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def refuse(*_):
        raise ToolError("verilator_bin must end with exit code 0, got exit code 1")

    monkeypatch.setattr(build_module, "compile_model", refuse)
    with pytest.raises(ToolError, match="^verilator_bin must end with exit code 0"):
        build(dense.path, out, BuildOptions("msb", fifos="safe"))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"out", ".out.partial"}
    build(dense.path, out, RTL_ALONE)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_one_build_at_a_time_writes_a_folder(tmp_path, dense):
    out = tmp_path / "with a space"
    refused = []

    def second(step):
        with pytest.raises(ConfigError, match="^out must be a folder that one build writes at a time, got .*, where"):
            build(dense.path, out, RTL_ALONE)
        refused.append(step)

    for _ in range(2):  # the first one's lock is gone with it
        build(dense.path, out, RTL_ALONE, progress=second)
    assert refused == ["lowering", "writing RTL"] * 2
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_folder_with_other_files_is_not_built_over(tmp_path, dense):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="^out must be a new folder or an earlier build, got .*, which holds other"):
        build(dense.path, tmp_path, BuildOptions())
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("clk_mhz", [0.0, -1.0, 300.0, 2000.0])
def test_a_clock_that_the_board_has_not_is_refused(tmp_path, dense, clk_mhz):
    with pytest.raises(
        ConfigError, match=r"^clk_mhz must be \d+ MHz divided by a whole number on the virtual KV260, got"
    ):
        build(dense.path, tmp_path / "out", BuildOptions(clk_mhz=clk_mhz))


def test_more_voted_bits_than_a_weight_has_are_refused(tmp_path, dense):
    with pytest.raises(ConfigError, match="^voted must be 1 to 4 for the 4-bit weights of layer 'fc1', got 5"):
        build(dense.path, tmp_path / "out", BuildOptions("msb", voted=5))


def test_a_weight_without_a_negative_is_refused_unless_it_may_saturate(tmp_path, dense):
    from qonnx.core.modelwrapper import ModelWrapper

    model = ModelWrapper(str(dense.path))
    weights = model.get_initializer("fc1.weight").copy()
    weights[0, 1] = -abs(weights).max()  # channel 1 has a negative gamma
    model.set_initializer("fc1.weight", weights)
    model.save(str(tmp_path / "model.onnx"))
    with pytest.raises(
        ModelError, match="^layer 'fc1' must have no weight of -8 where batch norm's scale is negative, got 1"
    ):
        build(tmp_path / "model.onnx", tmp_path / "out", BuildOptions("msb"))
    options = BuildOptions("msb", saturate_signs=True, simulate=False)
    memory = build(tmp_path / "model.onnx", tmp_path / "out", options).memory("fc1.weight")
    assert memory.values(load_images(tmp_path / "out" / "memories.npz")["fc1.weight"])[0][0, 1] > 0


def test_cycles_are_measured_of_designs_with_streams_only(small, tmp_path):
    _, folder, _ = small
    shutil.copytree(folder, tmp_path / "build")
    manifest = replace(Manifest.load(folder / "manifest.json"), io=None)
    manifest.save(tmp_path / "build" / "manifest.json")
    with pytest.raises(ModelError, match="manifest.json must describe the design's streams, got none"):
        measure_cycles(tmp_path / "build")


def test_the_simulated_memories_must_be_those_of_the_manifest(small, tmp_path):
    _, folder, _ = small
    with RtlTarget(folder) as target:
        with pytest.raises(ManifestError, match="^word must be 0 to "):
            target.read(target.manifest.memories[0].name, 10**6)


def test_a_design_whose_rtl_gets_stuck_is_told_why(tmp_path, monkeypatch):
    """The sentence about its queues is the error: what stopped is known from a second model, which has gauges."""
    stuck, asked, said = StuckError("the simulated accelerator must answer"), [], []

    def no_cycles(work):
        raise stuck

    def why(*given):
        asked.append(given[:3])
        given[3]("compiling the model that measures queues")
        return "skip must be deeper than 4 beats, got a design that stops."

    monkeypatch.setattr(build_module, "compile_model", lambda *_: None)
    monkeypatch.setattr(build_module, "measure_cycles", no_cycles)
    monkeypatch.setattr(build_module, "why_stopped", why)
    design = SimpleNamespace(model="the graph")
    with pytest.raises(ModelError, match=r"^skip must be deeper than 4 beats, got a design that stops\.$") as caught:
        build_module._simulated(design, None, ["top.sv"], tmp_path, said.append)
    assert caught.value.__cause__ is stuck and asked == [("the graph", tmp_path, ["top.sv"])]
    steps = ["compiling the Verilator model", "measuring cycles in RTL", "compiling the model that measures queues"]
    assert said == steps


def test_packages_that_are_not_installed_are_said_to_be_so(monkeypatch):
    def version(package):
        if package == "verilator":
            raise PackageNotFoundError(package)
        return "1.2"

    monkeypatch.setattr(build_module, "version", version)
    found = build_module.versions()
    assert found.pop("verilator") == "not installed" and set(found.values()) == {"1.2"}

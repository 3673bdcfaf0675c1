# SPDX-License-Identifier: Apache-2.0
"""Targets on real builds: one meaning of a fault for all of them, and controls that must make the comparison fail."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from bitward.datasets import load_dataset
from bitward.engine.images import load_images
from bitward.engine.ops._op import StoredOp
from bitward.errors import BoardError, ConfigError, ManifestError, ToolError
from bitward.faults import Fault, every_fault, single_bit_stratified
from bitward.flow.attack import Place, agreement_faults, run
from bitward.hardware.simulate import Simulation, compile_model
from bitward.manifest import Manifest, apply_edge
from bitward.targets import Target
from bitward.targets.board import BoardTarget
from bitward.targets.engine import EngineTarget
from bitward.targets.rtl import RtlTarget

VOTED = "assign word_o[l*Bits+Plain+v] = (a & b) | (a & c) | (b & c);"


@pytest.fixture
def hardened(mlp_run, tmp_path) -> Path:
    """A copy of the hardened MLP's build, to be spoilt."""
    return Path(shutil.copytree(mlp_run.build("hardened"), tmp_path / "build"))


def images_for(manifest: Manifest, count: int) -> np.ndarray:
    """Test images as streamed."""
    return apply_edge(manifest.io.pre, load_dataset("digits").test_images[:count]).astype(np.int64)


def under_faults(target: Target, faults: Sequence[Fault], images: np.ndarray) -> np.ndarray:
    """Outputs, shape (faults, images, ...); every fault is restored."""
    outputs = []
    for fault in faults:
        target.inject(fault)
        outputs.append(target.infer(images))
        target.restore(fault)
    return np.stack(outputs)


# ---- the three targets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [EngineTarget, RtlTarget, BoardTarget])
def test_a_target_reads_writes_injects_and_restores(mlp_run, kind):
    build = mlp_run.build("hardened")
    with kind(build) as target:
        memory = target.manifest.memory("fc2.weight")
        before = target.read(memory.name, 3)
        assert before == target.golden(memory.name, 3)
        fault = Fault(memory.name, 3, memory.width - 1)
        target.inject(fault)
        assert target.read(memory.name, 3) == before ^ 1 << (memory.width - 1)
        target.inject(Fault(memory.name, 3, 0))
        target.restore(fault)
        assert target.read(memory.name, 3) == before ^ 1
        target.write(memory.name, 3, before)
        assert target.read(memory.name, 3) == before
        assert target.infer(images_for(target.manifest, 2)[:0]).shape == (0, *target.manifest.io.output.shape)


@pytest.mark.parametrize("kind", [EngineTarget, RtlTarget])
@pytest.mark.parametrize(
    ("memory", "word", "value", "sentence"),
    [
        ("fc9.weight", 0, 0, "^a memory must be one of .*, got 'fc9.weight'; did you mean 'fc"),
        ("fc2.weight", -1, 0, r"^word must be 0 to \d+ in memory fc2.weight, got -1"),
        ("fc2.weight", 10**6, 0, r"^word must be 0 to \d+ in memory fc2.weight, got 1000000"),
        ("fc2.weight", 0, -1, r"^a beat of memory fc2.weight must be \d+ bits, got -0x1; mask it"),
        ("fc2.weight", 0, 1 << 200, r"^a beat of memory fc2.weight must be \d+ bits, got 0x1"),
    ],
)
def test_a_place_that_is_not_there_is_refused(mlp_run, kind, memory, word, value, sentence):
    with kind(mlp_run.build("hardened")) as target, pytest.raises(ManifestError, match=sentence):
        target.write(memory, word, value)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (EngineTarget, "^the engine of .* must be open, got a closed one; call open"),
        (RtlTarget, "^the simulation of .* must be open, got a closed one; call open"),
        (BoardTarget, "^the board of .* must be open, got a closed one; call open"),
    ],
)
def test_a_closed_target_says_so_and_closes_twice(mlp_run, kind, sentence):
    target = kind(mlp_run.build("hardened"))
    target.close()
    with pytest.raises(ConfigError, match=sentence):
        target.read("fc1.weight", 0)


def test_a_write_is_never_seen_late_even_with_one_row(digits_run):
    """conv1 has DEPTH = 1, so its memory reads ahead furthest: without the flush the first images would be stale."""
    build = digits_run.build("hardened")
    memory = Manifest.load(build / "manifest.json").memory("conv1.weight")
    assert memory.depth == 1
    fault = next(iter(every_fault(Manifest.load(build / "manifest.json"), memory.name, [0])))
    with EngineTarget(build) as engine, RtlTarget(build) as rtl:
        images = images_for(engine.manifest, 4)
        for _ in range(3):
            for target in (engine, rtl):
                target.inject(fault)
            faulty = engine.infer(images)
            assert np.array_equal(rtl.infer(images), faulty)
            for target in (engine, rtl):
                target.restore(fault)
            assert np.array_equal(rtl.infer(images), engine.infer(images))
            assert not np.array_equal(faulty, engine.infer(images))


# ---- controls: the comparison must be able to fail -----------------------------------------------------------------


@pytest.fixture(scope="module")
def agreed(mlp_run) -> tuple[list[Fault], np.ndarray, np.ndarray]:
    """40 faults, images, and the outputs of the RTL, which the engine predicts."""
    build = mlp_run.build("hardened")
    manifest = Manifest.load(build / "manifest.json")
    faults = agreement_faults(manifest, load_images(build / "memories.npz"), 40, seed=2)
    images = images_for(manifest, 8)
    with RtlTarget(build) as rtl, EngineTarget(build) as engine:
        outputs = under_faults(rtl, faults, images)
        assert np.array_equal(outputs, under_faults(engine, faults, images))
        assert len(np.unique(outputs.reshape(len(faults), -1), axis=0)) > 5
    return faults, images, outputs


@pytest.fixture
def reversed_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine takes the lanes of every weight memory in the wrong order."""
    right = StoredOp.words
    monkeypatch.setattr(StoredOp, "words", lambda op, image: right(op, image)[:, ::-1])


def test_an_engine_with_a_wrong_map_of_lanes_disagrees(mlp_run, reversed_lanes, agreed):
    faults, images, outputs = agreed
    with EngineTarget(mlp_run.build("hardened")) as engine:
        differ = (under_faults(engine, faults, images) != outputs).any(axis=(1, 2))
    assert differ.all()


def test_a_wrong_map_is_found_by_faults_even_where_the_function_is_right(hardened, reversed_lanes, agreed):
    """The engine's images are written by the same wrong map: without faults it computes what the RTL does."""
    manifest = Manifest.load(hardened / "manifest.json")
    images = load_images(hardened / "memories.npz")
    for memory in manifest.memories:
        rows = memory.layout.unpack(images[memory.name])
        images[memory.name] = memory.layout.pack(rows[:, ::-1])
    np.savez(hardened / "memories.npz", **images)
    faults, streamed, outputs = agreed
    with EngineTarget(hardened) as engine, RtlTarget(hardened) as rtl:
        assert np.array_equal(engine.infer(streamed), rtl.infer(streamed))
        differ = (under_faults(engine, faults, streamed) != outputs).any(axis=(1, 2))
    assert 0 < differ.sum() < len(faults)


def test_faults_placed_by_a_wrong_index_map_disagree(mlp_run, agreed):
    """The same parameters and bits, found by a map whose rows are exchanged: other places, other outputs."""
    build = mlp_run.build("hardened")
    manifest = Manifest.load(build / "manifest.json")
    memory = manifest.memory("fc2.weight")
    first, second = memory.hardware.word_axes
    exchanged = (replace(first, step=1), replace(second, step=first.size))
    wrong = replace(memory, hardware=replace(memory.hardware, word_axes=exchanged))
    faults = single_bit_stratified(manifest, 8, seed=4, memories=[memory.name], bits=range(3))
    placed = []
    for fault in faults:
        at = memory.locate(fault.word, fault.bit)
        word, bit = wrong.places(int(at.index))[int(at.replica), int(at.stored_bit)]
        placed.append(Fault(memory.name, int(word), int(bit)))
    assert placed != faults
    _, images, _ = agreed
    with EngineTarget(build) as engine, RtlTarget(build) as rtl:
        right = under_faults(rtl, faults, images)
        assert np.array_equal(under_faults(engine, faults, images), right)
        assert not np.array_equal(under_faults(engine, placed, images), right)


def test_two_swapped_rows_of_an_image_disagree_and_are_told(hardened, agreed):
    golden = load_images(hardened / "memories.npz")
    image = golden["fc1.weight"]
    assert not np.array_equal(image[0], image[1])
    np.savez(hardened / "memories.npz", **{**golden, "fc1.weight": image[[1, 0, *range(2, len(image))]]})
    faults, images, outputs = agreed
    with EngineTarget(hardened) as engine:
        assert (under_faults(engine, faults, images) != outputs).any(axis=(1, 2)).all()
    raw = load_dataset("digits").test_images[: len(images)]
    ended = run(Place("rtl", hardened), faults[:1], raw, None, hardened.parent / "trials", {})
    assert ended.repaired == ("fc1.weight:0", "fc1.weight:1")  # the RTL's own contents were the right ones


def test_without_its_voter_a_design_is_not_protected_and_not_the_engines(hardened):
    voter = hardened / "rtl" / "bitward_voter.sv"
    assert voter.read_text().count(VOTED) == 1
    voter.write_text(voter.read_text().replace(VOTED, "assign word_o[l*Bits+Plain+v] = a;"))
    compile_model(
        hardened / "rtl", (hardened / "rtl" / "files.f").read_text().split(), hardened / "sim", hardened / "log"
    )
    with EngineTarget(hardened) as engine, RtlTarget(hardened) as rtl:
        images = images_for(engine.manifest, 8)
        golden = engine.infer(images)
        assert np.array_equal(rtl.infer(images), golden)  # nobody notices, as long as no bit flips
        scheme = engine.manifest.memory("fc2.weight").scheme
        for stored_bit in scheme.masked_bits:
            copy, _ = scheme.origin(stored_bit)
            faults = list(every_fault(engine.manifest, "fc2.weight", [stored_bit]))[:40]
            changed = (under_faults(rtl, faults, images) != golden).any(axis=(1, 2)).sum()
            assert (changed > 0) == (copy == 0)
            assert np.array_equal(under_faults(engine, faults, images), np.broadcast_to(golden, (40, *golden.shape)))


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [RtlTarget, BoardTarget])
def test_a_manifest_of_another_design_is_refused_by_the_identification_register(hardened, kind):
    manifest = Manifest.load(hardened / "manifest.json")
    right = f"0x{manifest.design_id:08x}"
    target = kind(hardened)
    target._manifest = replace(manifest, design_id=manifest.design_id ^ 1)
    children = set(psutil.Process().children())
    sentence = f"^the manifest must belong to the loaded overlay .design {right}., got 0x[0-9a-f]{{8}} from .*; use the"
    with pytest.raises(BoardError, match=sentence), target:
        pass
    assert set(psutil.Process().children()) <= children  # no virtual board is left running


def test_an_accelerator_of_somebody_else_is_refused(hardened):
    manifest = Manifest.load(hardened / "manifest.json")
    target = RtlTarget(hardened)
    target._manifest = replace(manifest, registers={"magic": manifest.registers["version"]})
    with pytest.raises(BoardError, match="^the accelerator must be one of bitward's .identification 0x42575444., got"):
        target.open()


def test_a_board_without_an_overlay_or_with_two_is_refused(hardened):
    (bit,) = (hardened / "overlay").glob("*.bit")
    shutil.copyfile(bit, hardened / "overlay" / "other.bit")
    target = BoardTarget(hardened, "127.0.0.1", 1)
    with pytest.raises(BoardError, match="overlay must hold one .bit, got 2; run bitward build --board virtual"):
        target.open()
    target.close()


def test_an_overlay_that_is_not_the_builds_is_refused(hardened):
    (hardened / "rtl" / "bitward_top.sv").write_text("changed after the overlay was made")
    target = BoardTarget(hardened)
    with pytest.raises(BoardError, match="^.*.bit must belong to the build beside it .*, got one of build"), target:
        pass


def test_a_board_that_is_not_there_is_told(hardened, monkeypatch):
    monkeypatch.setattr("bitward.targets.board.OPENED_WITHIN_S", 0.0)
    with pytest.raises(BoardError, match="^the board at 127.0.0.1:1 must answer, got no connection; is its server .*"):
        BoardTarget(hardened, "127.0.0.1", 1).open()


def test_software_only_memories_have_no_address(hardened):
    manifest = Manifest.load(hardened / "manifest.json")
    target = RtlTarget(hardened)
    soft = tuple(replace(memory, hardware=None) for memory in manifest.memories)
    target._manifest = replace(manifest, memories=soft, io=None)
    with pytest.raises(ManifestError, match="^memory fc1.weight must be in hardware, got a software-only one; build"):
        target.read("fc1.weight", 0)
    target._manifest = replace(manifest, io=None)
    with (
        target,
        pytest.raises(ManifestError, match="manifest.json must describe streams, got none; build the model again"),
    ):
        target.infer(np.zeros((1, 64), dtype=np.int64))


def test_a_simulation_needs_its_library_and_rtl(hardened):
    (hardened / "sim" / "libmodel.so").write_bytes(b"no library")
    with pytest.raises(ToolError, match="libmodel.so must load on this machine, got"):
        Simulation(hardened)
    (hardened / "sim" / "libmodel.so").unlink()
    with pytest.raises(BoardError, match="must hold a compiled model .sim/libmodel.so., got none: run bitward build"):
        Simulation(hardened)

# SPDX-License-Identifier: Apache-2.0
"""Networks that are no chains, built: QONNX, engine and RTL agree, with stalls and with faults in either branch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import networks_zoo as zoo
import numpy as np
import onnx
import pytest
from small_networks import SmallNetwork

from bitward.engine.images import load_images
from bitward.errors import BitwardError
from bitward.faults import Fault, single_bit_stratified
from bitward.flow.verify import equal_images, run_qonnx, verify_build
from bitward.hardware.build import build
from bitward.hardware.declare import BuildOptions
from bitward.manifest import Manifest, apply_edge
from bitward.targets.engine import EngineTarget
from bitward.targets.rtl import RtlTarget

IMAGES = 24
Network = tuple[SmallNetwork, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Network:
    """The network, images, and what QONNX makes of them."""
    name = request.param
    exported = zoo.build(zoo.DESIGNS[name](), tmp_path_factory.mktemp(name) / "model.onnx", seed=2)
    images = exported.images(IMAGES)
    expected = run_qonnx(exported.path, images)
    assert len(np.unique(expected, axis=0)) > (1 if name == "top1" else IMAGES // 2)  # else equality would say little
    return exported, images, expected


def mute(graph: onnx.ModelProto, kind: str, port: int) -> None:
    """Negative control: two inputs of the first node of that kind are swapped, or its outputs."""
    node = next(node for node in graph.graph.node if node.op_type == kind)
    ports = node.input if port == 0 else node.output
    ports[0], ports[1] = ports[1], ports[0]


@pytest.mark.parametrize("network", list(zoo.DESIGNS), indirect=True)
def test_the_engine_computes_the_qonnx(network, tmp_path):
    exported, images, expected = network
    out = tmp_path / "build"
    options = BuildOptions("msb", simulate=False)
    manifest = build(exported.path, out, options)
    with EngineTarget(out) as engine:
        integers = engine.infer(apply_edge(manifest.io.pre, images).astype(np.int64))
    assert equal_images(integers, expected, manifest.io.post).all()
    again = build(exported.path, tmp_path / "again", options, name=out.name)
    files = [
        {path.relative_to(folder): path.read_bytes() for path in [*folder.glob("rtl/*"), folder / "hardware.onnx"]}
        for folder in (out, tmp_path / "again")
    ]
    assert replace(again, design=manifest.design) == replace(manifest, design_id=again.design_id)
    assert files[0].keys() == files[1].keys()
    assert [str(name) for name in files[0] if files[0][name] != files[1][name]] in ([], ["rtl/bitward_top.sv"])
    assert str(tmp_path).encode() not in files[0][Path("hardware.onnx")]


BUILDS = [
    ("unet", BuildOptions("secded")),
    ("depthwise", BuildOptions("msb", folding={"deep1": {"PE": 2, "SIMD": 3}})),
    pytest.param("residual", BuildOptions("tmr"), marks=pytest.mark.slow),
    pytest.param("unet_sigmoid", BuildOptions("msb", target_fps=400_000), marks=pytest.mark.slow),
    pytest.param("unet_upsample", BuildOptions("secded", target_fps=400_000), marks=pytest.mark.slow),
    pytest.param("mixed_widths", BuildOptions("msb", bias="tmr"), marks=pytest.mark.slow),
    pytest.param("odd_widths", BuildOptions("msb"), marks=pytest.mark.slow),
    pytest.param("top1", BuildOptions("tmr", bias="tmr"), marks=pytest.mark.slow),
    pytest.param("depthwise", BuildOptions("secded", target_fps=2e6), marks=pytest.mark.slow),
    pytest.param("residual", BuildOptions("none", target_fps=2e6), marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def built(request: pytest.FixtureRequest, network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "build"
    build(network[0].path, out, request.param)
    return out


def ids(value: object) -> str:
    return f"{value.protect}-{value.target_fps:g}" if isinstance(value, BuildOptions) else str(value)


each_build = pytest.mark.parametrize(("network", "built"), BUILDS, indirect=True, scope="module", ids=ids)


@each_build
def test_the_rtl_computes_the_qonnx_with_and_without_stalls(network, built):
    _, images, expected = network
    found = verify_build(built, images, expected, stall=0.4)
    assert (found["equal"], found["equal_with_stalls"]) == (IMAGES, IMAGES)


@each_build
def test_faults_in_every_memory_mean_the_same_to_engine_and_rtl(network, built):
    """One fault per (memory, stored bit), in any branch; masked ones change nothing and are counted."""
    manifest = Manifest.load(built / "manifest.json")
    images = apply_edge(manifest.io.pre, network[1][:3]).astype(np.int64)
    faults = single_bit_stratified(manifest, 1, seed=5)
    changed = 0
    with EngineTarget(built) as engine, RtlTarget(built) as rtl:
        golden = rtl.infer(images)
        assert np.array_equal(golden, engine.infer(images))
        for fault in faults:
            outputs = [faulty(target, fault, images) for target in (engine, rtl)]
            assert np.array_equal(*outputs), fault
            memory = manifest.memory(fault.memory)
            masked = int(memory.locate(fault.word, fault.bit).stored_bit) in memory.scheme.masked_bits
            assert not masked or np.array_equal(outputs[1], golden), fault
            changed += not np.array_equal(outputs[1], golden)
        assert np.array_equal(rtl.infer(images), golden)
    if any(memory.scheme.stored_bits == memory.scheme.bits for memory in manifest.memories):
        assert changed > 0


def faulty(target: EngineTarget | RtlTarget, fault: Fault, images: np.ndarray) -> np.ndarray:
    target.inject(fault)
    outputs = target.infer(images)
    target.restore(fault)
    return outputs


@each_build
def test_counters_count_reads_of_bad_rows_memory_by_memory(network, built):
    """An upset in a redundant bit counts under its memory alone until it is mended; reading clears; two are told."""
    manifest = Manifest.load(built / "manifest.json")
    images = apply_edge(manifest.io.pre, network[1][:2]).astype(np.int64)
    protected = [m for m in manifest.memories if m.scheme.stored_bits > m.scheme.bits]
    registers = {name: at for name, at in manifest.registers.items() if ":" in name}
    assert set(registers) == {f"{what}:{m.name}" for m in protected for what in ("corrected", "detected")}
    with RtlTarget(built) as rtl:

        def counts() -> dict[str, int]:
            return {name: rtl._read_words(at, 1)[0] for name, at in registers.items()}

        rtl.infer(images)
        assert not any(counts().values())
        for memory in protected[:3]:
            word, bit = memory.members(memory.scheme.masked_bits[-1])[0]
            fault = Fault(memory.name, int(word), int(bit))
            faulty(rtl, fault, images)
            read = counts()
            assert read[f"corrected:{memory.name}"] > 0
            assert sum(read.values()) == read[f"corrected:{memory.name}"]
            rtl.infer(images)
            counts()  # what was read ahead before it was mended
            rtl.infer(images)
            assert not any(counts().values())
            if memory.scheme.check_bits:
                other = replace(fault, bit=int(memory.members(0)[0][1]))
                rtl.inject(fault)
                faulty(rtl, other, images)
                assert counts()[f"detected:{memory.name}"] > 0
                rtl.restore(fault)
                rtl.infer(images)
                counts()


@pytest.mark.parametrize("network", ["unet"], indirect=True)
def test_a_graph_wired_otherwise_is_another_network(network, tmp_path):
    """Negative control: with the inputs of the concatenation swapped, the engine refuses or computes something else."""
    exported, images, expected = network
    out = tmp_path / "build"
    manifest = build(exported.path, out, BuildOptions("none", simulate=False))
    graph = onnx.load(out / "hardware.onnx")
    mute(graph, "StreamingConcat_rtl", 0)
    onnx.save(graph, out / "hardware.onnx")
    assert load_images(out / "memories.npz").keys() == {memory.name for memory in manifest.memories}
    try:
        with EngineTarget(out) as engine:
            integers = engine.infer(apply_edge(manifest.io.pre, images).astype(np.int64))
    except BitwardError:
        return
    assert not equal_images(integers, expected, manifest.io.post).all()

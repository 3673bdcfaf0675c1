# SPDX-License-Identifier: Apache-2.0
"""Trials by what they change: every stored bit of small graphs gives what inference of the faulty memories does.

The oracle is another engine that injects, infers and restores, fault by fault; its own oracles are in test_engine.py
and test_engine_ops.py. Memories hold random bits, so that lists are unsorted, check bits are wrong, and sums overflow.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from engine_graphs import graph, manifest, mvau, node, scrambled, thresholding
from onnx import TensorProto, helper

from bitward.engine import HardwareEngine, executor, sparse, spread
from bitward.engine.ops import StoredOp
from bitward.engine.ops.stored_thresholding import StoredThresholding
from bitward.errors import ManifestError
from bitward.faults import Fault
from bitward.formats import Int
from bitward.indexmap import Axis
from bitward.layout import BeatLayout
from bitward.manifest import Hardware, Memory
from bitward.schemes import Plain, Scheme, Secded, Tmr
from bitward.targets.engine import EngineTarget

KINDS = ("flip", "stuck0", "stuck1")


def memory(name: str, depth: int, lanes: int, scheme: Scheme) -> Memory:
    """A memory of that size; one row and a bit of padding more than the layout needs."""
    layout = BeatLayout(scheme.over(lanes), lanes)
    axes = (Axis(depth, 1, lanes),), (Axis(lanes, 1, 1),)
    width = layout.width + 1
    hardware = Hardware(depth, width, lanes, "block", 0, 4 * -(-width // 32), *axes, 0)
    return Memory(name, name, "w", "weight", (depth * lanes,), Int(scheme.bits), layout.scheme, hardware)


def joined(nodes: Sequence[tuple[onnx.NodeProto, str, str]]) -> onnx.ModelProto:
    """The graph of (node, its streams, its results), names split by blanks; the host sends x and receives y."""
    for each, inputs, outputs in nodes:
        each.input[:], each.output[:] = inputs.split(), outputs.split()
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    return helper.make_model(helper.make_graph([each for each, *_ in nodes], "hardware", ends[:1], ends[1:]))


def window(
    name: str, size: int, channels: int, kind: str, kernel: int, stride: int, lanes: int = 0, dilation: int = 1
) -> onnx.NodeProto:
    return node(
        "ConvolutionInputGenerator_rtl", name, IFMDim=[size] * 2, ConvKernelDim=[kernel] * 2, Stride=[stride] * 2,
        Dilation=[dilation] * 2, IFMChannels=channels, SIMD=lanes or channels, depthwise=int(bool(lanes)),
        inputDataType=kind,
    )  # fmt: skip


def chain(scheme: Scheme):
    """Matrix, thresholds, matrix of one row; a queue between."""
    units = [
        mvau("a", 6, 8, 2, 3, outputDataType="INT6"),  # which keeps no sum of any size
        node("StreamingFIFO_rtl", "f"),
        thresholding("b", 8, 4, 5, inputDataType="INT6", weightDataType="INT7", outputDataType="UINT3"),
        mvau("c", 8, 4, 4, 8, inputDataType="UINT3", outputDataType="INT12"),
    ]
    memories = [
        memory("a.weight", 8, 6, scheme), memory("b.threshold", 2 * 4 * 8, 1, Plain(7)),
        memory("c.weight", 1, 32, scheme),
    ]  # fmt: skip
    return graph(units), manifest(memories, ((6,), "UINT4"), ((4,), "INT12"))


def labelled(scheme: Scheme):
    """A matrix and the place of its greatest score."""
    units = [
        mvau("a", 6, 4, 2, 3, outputDataType="INT9"),
        node("LabelSelect_rtl", "label", Labels=4, K=1, inputDataType="INT9", outputDataType="UINT2"),
    ]
    return graph(units), manifest([memory("a.weight", 4, 6, scheme)], ((6,), "UINT4"), ((1,), "UINT2"))


def residual(scheme: Scheme):
    """A convolution whose result forks into a pool and a matrix, which join, and a sum over all pixels.

    A list of thresholds per lane that two channels share, a bias, factors.
    """
    shape = {f"{end}_shape": [1, 2, 2, 4] for end in ("lhs", "rhs", "out")}
    nodes = [
        (node("FMPadding_rtl", "pad", ImgDim=[4, 4], Padding=[1, 1, 1, 1], NumChannels=2, inputDataType="UINT4"),
         "x", "p"),
        (window("slide", 6, 2, "UINT4", 3, 1), "p", "w"),
        (mvau("a", 18, 4, 2, 3, outputDataType="INT9", numInputVectors=[1, 4, 4]), "w", "a"),
        (thresholding("b", 4, 2, 3, inputDataType="INT9", weightDataType="INT9", outputDataType="INT3", ActVal=-1,
                      numInputVectors=[1, 4, 4]), "a", "b"),
        (node("DuplicateStreams_rtl", "fork", NumChannels=4, NumOutputStreams=2, inputDataType="INT3",
              numInputVectors=[1, 4, 4]), "b", "b1 b2"),
        (window("largest", 4, 4, "INT3", 2, 2, 2), "b1", "d"),
        (node("Pool_rtl", "pool", Function="MaxPool", KernelSize=[2, 2], OutImgDims=[2, 2], Channels=4, PE=2,
              InputDataType="INT3", OutputDataType="INT3"), "d", "m"),
        (window("thin", 4, 4, "INT3", 1, 2), "b2", "t"),
        (mvau("c", 4, 4, 1, 4, inputDataType="INT3", outputDataType="INT7", numInputVectors=[1, 2, 2]), "t", "c"),
        (node("ElementwiseAdd_rtl", "sum", lhs_dtype="INT3", rhs_dtype="INT7", out_dtype="INT7", **shape), "m c", "s"),
        (node("StoredBias_rtl", "e", "e.bias", lhs_style="input", rhs_style="const", lhs_dtype="INT7",
              rhs_dtype="INT5", out_dtype="INT7", PE=2, **shape), "s", "e"),
        (node("ElementwiseMul_rtl", "times", lhs_dtype="INT7", rhs_dtype="INT3", out_dtype="INT9", rhs_style="const",
              constants=[1, -2, 3, 1], lhs_shape=[1, 2, 2, 4], rhs_shape=[4], out_shape=[1, 2, 2, 4]), "e", "f"),
        (node("GlobalAccPool_rtl", "all", NumChannels=4, numInputVectors=[1, 2, 2], inputDataType="INT9"), "f", "g"),
        (mvau("h", 4, 3, 3, 2, inputDataType="INT11", outputDataType="INT17"), "g", "y"),
    ]  # fmt: skip
    memories = [
        memory("a.weight", 12, 6, scheme), memory("b.threshold", 8, 1, Plain(9)), memory("c.weight", 4, 4, scheme),
        memory("e.bias", 2, 2, Tmr(5, 5)), memory("h.weight", 2, 6, scheme),
    ]  # fmt: skip
    return joined(nodes), manifest(memories, ((4, 4, 2), "UINT4"), ((3,), "INT17"))


def convolutions(scheme: Scheme):
    """Three convolutions, with eight channels between the first two, and with strides and dilation in the last."""
    sums = {"inputDataType": "INT9", "weightDataType": "INT9", "outputDataType": "UINT2", "numInputVectors": [1, 5, 5]}
    nodes = [
        (mvau("a", 3, 8, 4, 3, outputDataType="INT9", numInputVectors=[1, 5, 5]), "x", "a"),
        (thresholding("b", 8, 4, 3, **sums), "a", "b"),
        (node("FMPadding_rtl", "pad", ImgDim=[5, 5], Padding=[1, 1, 1, 1], NumChannels=8, inputDataType="UINT2"),
         "b", "p"),
        (window("slide", 7, 8, "UINT2", 3, 1), "p", "w"),
        (mvau("c", 72, 3, 1, 24, inputDataType="UINT2", outputDataType="INT9", numInputVectors=[1, 5, 5]), "w", "c"),
        (thresholding("d", 3, 3, 3, **sums), "c", "d"),
        (window("apart", 5, 3, "UINT2", 2, 2, dilation=2), "d", "v"),
        (mvau("e", 12, 4, 2, 6, inputDataType="UINT2", numInputVectors=[1, 2, 2]), "v", "y"),
    ]  # fmt: skip
    memories = [
        memory("a.weight", 2, 12, scheme), memory("b.threshold", 2 * 4 * 4, 1, Plain(9)),
        memory("c.weight", 9, 24, scheme), memory("d.threshold", 4 * 4, 1, Plain(9)), memory("e.weight", 4, 12, scheme),
    ]  # fmt: skip
    return joined(nodes), manifest(memories, ((5, 5, 3), "UINT4"), ((2, 2, 4), "INT16"))


def separable(scheme: Scheme):
    """A depthwise convolution, pixels moved apart, one enlarged branch behind another, and their halves again."""
    kinds = {"inputDataType": "UINT3"}
    nodes = [
        (window("taps", 4, 4, "UINT4", 3, 1, 2), "x", "w"),
        (node("StoredVVAU_rtl", "a", "a.weight", Kernel=[3, 3], Channels=4, PE=2, SIMD=3, Dim=[2, 2], noActivation=1,
              inputDataType="UINT4", weightDataType="INT4", outputDataType="INT8"), "w", "a"),
        (thresholding("b", 4, 2, 7, inputDataType="INT8", weightDataType="INT9", outputDataType="UINT3",
                      numInputVectors=[1, 2, 2]), "a", "b"),
        (node("DuplicateStreams_rtl", "fork", NumChannels=4, NumOutputStreams=2, numInputVectors=[1, 2, 2], **kinds),
         "b", "b1 b2"),
        (node("FMPadding_Pixel_rtl", "apart", ImgDim=[2, 2], Stride=[2, 2], NumChannels=4, **kinds), "b1", "z"),
        (window("whole", 3, 4, "UINT3", 2, 1), "z", "v"),
        (mvau("c", 16, 2, 1, 8, outputDataType="INT10", numInputVectors=[1, 2, 2], **kinds), "v", "c"),
        (node("StreamingConcat_rtl", "cat", ChannelsPerStream=[2, 4], inputDataTypes=["INT10", "UINT3"],
              numInputVectors=[1, 2, 2]), "c b2", "k"),
        (node("UpsampleNearestNeighbour_rtl", "big", HI=2, WI=2, HO=4, WO=4, NumChannels=6, batchSize=1,
              inputDataType="INT10"), "k", "u"),
        (window("means", 4, 6, "INT10", 2, 2, 3), "u", "q"),
        (node("Pool_rtl", "pool", Function="QuantAvgPool", KernelSize=[2, 2], OutImgDims=[2, 2], Channels=6, PE=3,
              InputDataType="INT10", OutputDataType="INT9"), "q", "r"),
        (node("StreamingSplit_rtl", "split", ChannelsPerStream=[3, 3], inputDataType="INT9",
              numInputVectors=[1, 2, 2]), "r", "s1 s2"),
        (node("ElementwiseAdd_rtl", "join", lhs_dtype="INT9", rhs_dtype="INT9", out_dtype="INT9",
              **{f"{end}_shape": [1, 2, 2, 3] for end in ("lhs", "rhs", "out")}), "s2 s1", "y"),
    ]  # fmt: skip
    memories = [
        memory("a.weight", 6, 6, scheme), memory("b.threshold", 2 * 2 * 8, 1, Plain(9)),
        memory("c.weight", 4, 8, scheme),
    ]  # fmt: skip
    return joined(nodes), manifest(memories, ((4, 4, 4), "UINT4"), ((2, 2, 3), "INT9"))


def branches(scheme: Scheme):
    """Two convolutions that stand side by side and come together, with a bias; then their channels in two branches.

    One branch is depthwise; the other holds each channel twice. What the first sends on is narrower than what comes of
    both, and not negative.
    """
    sums = {"weightDataType": "INT9", "numInputVectors": [1, 4, 4]}
    shape = {f"{end}_shape": [1, 4, 4, 2] for end in ("lhs", "out")}
    nodes = [
        (node("DuplicateStreams_rtl", "fork", NumChannels=2, NumOutputStreams=2, inputDataType="UINT4",
              numInputVectors=[1, 4, 4]), "x", "x1 x2"),
        (mvau("a", 2, 2, 1, 2, outputDataType="INT9", numInputVectors=[1, 4, 4]), "x1", "a"),
        (mvau("b", 2, 2, 2, 1, outputDataType="INT9", numInputVectors=[1, 4, 4]), "x2", "b"),
        (thresholding("c", 2, 1, 3, inputDataType="INT9", outputDataType="UINT2", **sums), "a", "c"),
        (node("StoredBias_rtl", "d", "d.bias", lhs_style="input", rhs_style="const", lhs_dtype="INT9",
              rhs_dtype="INT5", out_dtype="INT9", PE=1, rhs_shape=[2], **shape), "b", "d"),
        (node("StreamingConcat_rtl", "side", ChannelsPerStream=[2, 2], inputDataTypes=["UINT2", "INT9"],
              numInputVectors=[1, 4, 4]), "c d", "k"),
        (thresholding("e", 4, 2, 3, inputDataType="INT9", outputDataType="UINT2", **sums), "k", "e"),
        (node("DuplicateStreams_rtl", "three", NumChannels=4, NumOutputStreams=3, inputDataType="UINT2",
              numInputVectors=[1, 4, 4]), "e", "e1 e2 e3"),
        (window("taps", 4, 4, "UINT2", 3, 1, 2), "e1", "w"),
        (node("StoredVVAU_rtl", "f", "f.weight", Kernel=[3, 3], Channels=4, PE=2, SIMD=3, Dim=[2, 2], noActivation=1,
              inputDataType="UINT2", weightDataType="INT4", outputDataType="INT8"), "w", "f"),
        (node("StreamingConcat_rtl", "twice", ChannelsPerStream=[4, 4], inputDataTypes=["UINT2", "UINT2"],
              numInputVectors=[1, 4, 4]), "e2 e3", "t"),
        (window("thin", 4, 8, "UINT2", 1, 2), "t", "v"),
        (mvau("g", 8, 4, 2, 4, inputDataType="UINT2", outputDataType="INT8", numInputVectors=[1, 2, 2]), "v", "g"),
        (node("ElementwiseAdd_rtl", "join", lhs_dtype="INT8", rhs_dtype="INT8", out_dtype="INT9",
              **{f"{end}_shape": [1, 2, 2, 4] for end in ("lhs", "rhs", "out")}), "f g", "y"),
    ]  # fmt: skip
    memories = [
        memory("a.weight", 2, 2, scheme), memory("b.weight", 2, 2, scheme), memory("c.threshold", 2 * 4, 1, Plain(9)),
        memory("d.bias", 2, 1, Tmr(5, 5)), memory("e.threshold", 2 * 2 * 4, 1, Plain(9)),
        memory("f.weight", 6, 6, scheme), memory("g.weight", 4, 8, scheme),
    ]  # fmt: skip
    return joined(nodes), manifest(memories, ((4, 4, 2), "UINT4"), ((2, 2, 4), "INT9"))


NETWORKS = {
    "chain": chain,
    "labelled": labelled,
    "residual": residual,
    "convolutions": convolutions,
    "separable": separable,
    "branches": branches,
}
SCHEMES = {"plain": Plain(4), "msb": Tmr(4, 1), "tmr": Tmr(4, 4), "secded": Secded(4, 1)}


def engines(made, count: int = 2, seed: int = 1) -> list[HardwareEngine]:
    """Engines of one design with random bits in all memories."""
    rng = np.random.default_rng(seed)
    stored = {each.name: scrambled(each, rng) for each in made[1].memories}
    return [HardwareEngine(*made, stored) for _ in range(count)]


def pictures(engine: HardwareEngine, count: int = 7, seed: int = 2):
    return np.random.default_rng(seed).integers(0, 16, (count, *engine.manifest.io.input.shape))


def every_bit(engine: HardwareEngine, kinds=KINDS) -> list[tuple[Fault, ...]]:
    """Every bit of every row, padding too, by itself."""
    return [
        (Fault(each.name, word, bit, kind),)
        for each in engine.manifest.memories
        for word, bit, kind in product(range(each.depth), range(each.width), kinds)
    ]


def naive(engine: HardwareEngine, images, faults) -> np.ndarray:
    for fault in faults:
        engine.inject(fault)
    outputs = engine.infer(images)
    for fault in faults:
        engine.restore(fault)
    return outputs


def assert_equal(quick: HardwareEngine, slow: HardwareEngine, images, trials) -> list[str]:
    """All outcomes equal the naive loop's, and memories stay golden; their paths."""
    golden, paths, changed = slow.infer(images), [], 0
    for faults, (outputs, path, seconds) in zip(trials, quick.outcomes(images, trials), strict=True):
        expected = naive(slow, images, faults)
        assert outputs.dtype == expected.dtype and np.array_equal(outputs, expected), faults
        assert path != "masked" or np.array_equal(outputs, golden), faults
        assert seconds > 0
        changed += not np.array_equal(outputs, golden)
        paths.append(path)
    assert changed > len(trials) // 30  # else this test could not fail
    for each in quick.manifest.memories:
        assert all(quick.read(each.name, word) == quick.golden(each.name, word) for word in range(each.depth))
    assert np.array_equal(quick.infer(images), golden)
    return paths


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_stored_bit_gives_what_the_naive_loop_gives(name, scheme):
    quick, slow = engines(NETWORKS[name](SCHEMES[scheme]))
    kinds = KINDS if scheme == "msb" else ("flip",)
    paths = assert_equal(quick, slow, pictures(quick), every_bit(quick, kinds))
    assert {"masked", "delta"} <= set(paths)


@pytest.mark.parametrize("name", NETWORKS)
def test_whatever_goes_together_is_exact(name, monkeypatch):
    """In parts of one image, of which some are kept; one trial, row or output at a time; all windows; no tables."""
    trials = every_bit(engines(NETWORKS[name](Tmr(4, 1)), 1)[0], ("flip",))
    trials = [trials[at] for at in np.random.default_rng(5).permutation(len(trials))[:150]]
    for place, value, count in (
        (executor, "PART_BYTES", 1), (executor, "KEPT_BYTES", 3000), (executor, "RESULT_BYTES", 1),
        (spread, "NARROW_ELEMENTS", 1), (spread, "WIDE_BYTES", 1), (sparse, "FEW", 0), (sparse, "FEW", 1),
    ):  # fmt: skip
        with monkeypatch.context() as patched:
            patched.setattr(place, value, count)
            quick, slow = engines(NETWORKS[name](Tmr(4, 1)))
            assert_equal(quick, slow, pictures(quick), trials)
    monkeypatch.setattr("bitward.engine.ops.stored_thresholding.TABLE_RESULTS", 0)
    quick, slow = engines(NETWORKS[name](Tmr(4, 1)))
    assert_equal(quick, slow, pictures(quick), trials)


@pytest.mark.parametrize("name", NETWORKS)
def test_several_faults_at_once_are_exact(name):
    """Pairs in one row, bits hit twice, faults in several memories, none at all."""
    quick, slow = engines(NETWORKS[name](Secded(4, 1)))
    rng = np.random.default_rng(6)
    faults = [fault for (fault,) in every_bit(quick)]
    trials = [tuple(faults[at] for at in rng.integers(0, len(faults), rng.integers(0, 6))) for _ in range(150)]
    trials += [(fault, Fault(fault.memory, fault.word, fault.bit)) for fault in faults[:60]]
    trials += [(faults[at], faults[at + 3]) for at in range(0, 300, 5)]
    paths = assert_equal(quick, slow, pictures(quick), trials)
    assert {"masked", "delta", "suffix"} == set(paths)


def test_no_images_and_no_trials_are_fine():
    engine, _ = engines(chain(Plain(4)))
    ((outputs, _, _),) = engine.outcomes(pictures(engine)[:0], every_bit(engine)[:1])
    assert outputs.shape == (0, 4)
    assert list(engine.outcomes(pictures(engine), [])) == []


def test_few_pixels_are_taken_where_they_are_few(monkeypatch):
    """Row by row, where one pixel of 25 is few, both ways are taken."""
    found = []
    monkeypatch.setattr(sparse, "FEW", 0.05)
    monkeypatch.setattr(spread, "WIDE_BYTES", 1)
    way = sparse.few_pixels
    monkeypatch.setattr(spread, "few_pixels", lambda *given: found.append(way(*given)) or found[-1])
    quick, slow = engines(convolutions(Tmr(4, 1)))
    assert_equal(quick, slow, pictures(quick), every_bit(quick, ("flip",))[::7])
    ways = [each is None for each in found]
    assert any(ways) and not all(ways)


def test_a_wrong_operator_is_seen(monkeypatch):
    """Negative control: where a row is read as its neighbour, or a list is taken for sorted, trials differ."""
    quick, slow = engines(chain(Plain(4)))
    trials, images = every_bit(quick, ("flip",)), pictures(quick)
    with monkeypatch.context() as patched:
        entries = StoredOp.entries
        patched.setattr(StoredOp, "entries", lambda op, word, lane: entries(op, (word + 1) % op.memory.depth, lane))
        with pytest.raises(AssertionError):
            assert_equal(quick, slow, images, trials)
    search = StoredThresholding._searched
    monkeypatch.setattr(StoredThresholding, "_searched", lambda op, e, lists: search(op, e, np.sort(lists, axis=1)))
    quick = engines(chain(Plain(4)))[0]
    with pytest.raises(AssertionError):
        assert_equal(quick, slow, images, trials)


# -- refusals and the target -----------------------------------------------------------------------------------------


def test_a_fault_in_no_memory_fails_in_its_turn():
    """What comes before it is given; the memories stay golden."""
    engine, slow = engines(chain(Plain(4)))
    images, right = pictures(engine), (Fault("a.weight", 0, 1),)
    for wrong, message in (
        (Fault("a.weight", 0, 999), r"^bit must be 0 to \d+ in memory a\.weight, got 999; "),
        (Fault("a.weight", 8, 0), r"^word must be 0 to 7 in memory a\.weight, got 8; "),
        (Fault("z.weight", 0, 0), r"^.*z\.weight"),
    ):
        found = engine.outcomes(images, [right, (right[0], wrong), right])
        assert np.array_equal(next(found)[0], naive(slow, images, right))
        with pytest.raises(ManifestError, match=message):
            next(found)
        assert engine.read("a.weight", 0) == engine.golden("a.weight", 0)


def test_memories_with_faults_in_them_are_refused():
    engine, _ = engines(chain(Plain(4)))
    engine.inject(Fault("a.weight", 0, 1))
    message = r"^memories must be golden before trials, got faults in a\.weight; restore them first$"
    with pytest.raises(ManifestError, match=message):
        next(engine.outcomes(pictures(engine), [()]))


def saved(made, folder: Path) -> None:
    """The folder is a build of the design, with the memories that `engines` has."""
    onnx.save(made[0], folder / "hardware.onnx")
    made[1].save(folder / "manifest.json")
    rng = np.random.default_rng(1)
    np.savez(folder / "memories.npz", **{each.name: scrambled(each, rng) for each in made[1].memories})
    (folder / "build.json").write_text('{"protect": "msb", "bias": "none"}')


def test_the_benchmark_compares_with_the_naive_loop(tmp_path):
    saved(residual(Tmr(4, 1)), tmp_path)
    script, result = Path(__file__).parents[1] / "benchmarks" / "hardware_engine.py", tmp_path / "case.json"
    options = ["--faults", "60", "--images", "5", "--turn", "25", "--json", result]
    subprocess.run([sys.executable, script, tmp_path, *options], check=True, capture_output=True)
    found = json.loads(result.read_text())
    assert found["faults"] == found["counted"]["naive loop"] == 60 and sum(found["paths"].values()) == 60
    assert found["faults_with_other_outputs"] == {"naive loop": 0, "prefix kept": 0, "outcomes": 0}
    assert found["compared_faults_that_change_an_output"] > 5 and found["factor"]["naive loop"] == 1
    table = subprocess.run([sys.executable, script, "--table", result], check=True, capture_output=True, text=True)
    assert "| toy, protect msb, bias none (random, uniform) | 60, 5 |" in table.stdout


def test_the_target_gives_what_the_engine_does(tmp_path):
    made = residual(Tmr(4, 1))
    engine, slow = engines(made)
    saved(made, tmp_path)
    images, trials = pictures(engine), every_bit(engine, ("flip",))[::9]
    with EngineTarget(tmp_path) as target:
        for faults, outcome in zip(trials, target.outcomes(images, trials), strict=True):
            assert np.array_equal(outcome.outputs, naive(slow, images, faults)) and outcome.path in executor.PATHS
            assert all(target.read(fault.memory, fault.word) == target.golden(fault.memory, fault.word)
                       for fault in faults)  # fmt: skip


def test_golden_activations_stay_within_their_budget(monkeypatch):
    """Of more images than fit, as many are kept as fit; trials of all are exact all the same."""
    quick, slow = engines(residual(Tmr(4, 1)))
    size = quick._graph.bytes_per_image
    monkeypatch.setattr(executor, "KEPT_BYTES", 3 * size)
    monkeypatch.setattr(executor, "PART_BYTES", size)
    images = pictures(quick, 8)
    assert_equal(quick, slow, images, every_bit(quick, ("flip",))[::31])
    kept = [stream for part in quick._kept for stream in part._streams.values()]
    assert sum(part.count for part in quick._kept) == 3
    assert sum(math.prod(each.shape) * each.itemsize for each in kept) <= 3 * size

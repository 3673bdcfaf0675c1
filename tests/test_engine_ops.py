# SPDX-License-Identifier: Apache-2.0
"""Each operator of the engine against loops that follow the RTL's description, on memories full of random bits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from engine_graphs import graph, manifest, mvau, node, scrambled, thresholding, thresholds, weights, words_of

from bitward.engine import HardwareEngine, executor
from bitward.engine.graph import read_graph
from bitward.errors import ManifestError, ModelError
from bitward.faults import Fault
from bitward.schemes import Plain, Tmr
from bitward.words import segments_of


def signed(word: int, bits: int) -> int:
    return word - (1 << bits) if word >> (bits - 1) else word


# -- the oracles: one beat, one element, one bit at a time -----------------------------------------------------------


def voter(beat: int, lanes: int, bits: int, voted: int) -> list[int]:
    """hls/rtl/bitward_voter.sv: the plain words of one beat."""

    def at(bit: int) -> int:
        return beat >> bit & 1

    plain, copy = bits - voted, lanes * voted
    gap = 0 if voted == 0 or copy >= 4 else 4 - copy
    words = []
    for lane in range(lanes):
        word = 0
        for v in range(voted):
            a, b, c = (at(k * (copy + gap) + lane * voted + v) for k in range(3))
            word |= (a & b | a & c | b & c) << (plain + v)
        for i in range(plain):
            j = lane * plain + i
            word |= at(copy + j if j < gap else 2 * copy + j if j < 2 * gap else 3 * copy + j) << i
        words.append(word)
    return words


def matrix_unit(vector, image, mw, mh, pe, simd, bits, voted, acc_bits):
    """FINN's mvu_vvu_axi: neuron fold by neuron fold, the weight stream in order, an accumulator of acc_bits."""
    beats = [sum(int(segment) << 32 * s for s, segment in enumerate(row)) for row in image]
    stream = iter(voter(beat, pe * simd, bits, voted) for beat in beats)
    out = []
    for _ in range(mh // pe):
        sums = [0] * pe
        for sf in range(mw // simd):
            words = next(stream)
            for p, s in itertools.product(range(pe), range(simd)):
                sums[p] += signed(words[p * simd + s], bits) * int(vector[sf * simd + s])
        out += [signed(total % (1 << acc_bits), acc_bits) for total in sums]
    return out


class Search:
    """hls/rtl/bitward_thresholding.sv: rows {fold, lane, index}, and a search from the top bit of the result down."""

    def __init__(self, bits, steps, pe, is_signed, bias):
        self.bits, self.steps, self.pe, self.signed, self.bias = bits, steps, pe, is_signed, bias
        self.rows = []

    def element(self, fold: int, lane: int, value: int) -> int:
        """The result for an element."""
        levels, lane_bits = self.steps.bit_length(), (self.pe - 1).bit_length()
        found = 0
        for below in reversed(range(levels)):
            index = found | (1 << below) - 1
            word = self.rows[(fold << lane_bits | lane) << levels | index]
            threshold = signed(word, self.bits) if self.signed else word
            found |= int(index < self.steps and threshold <= value) << below
        return found + self.bias


# -- operators against oracles ---------------------------------------------------------------------------------------


def run(nodes, memories, images, source, result, stored):
    design = manifest(memories, source, result)
    return HardwareEngine(graph(nodes), design, stored).infer(images)


@pytest.mark.parametrize(
    ("scheme", "mw", "mh", "pe", "simd", "acc_bits"),
    [
        (Plain(4), 6, 4, 2, 3, 16),
        (Tmr(4, 1), 6, 4, 2, 3, 16),
        (Tmr(4, 1), 6, 4, 1, 1, 16),  # one lane: copies apart by the layout's gaps
        (Tmr(4, 4), 6, 4, 4, 6, 16),  # DEPTH = 1, a beat of 288 bits
        (Tmr(3, 2), 5, 3, 3, 1, 16),
        (Tmr(8, 1), 4, 2, 1, 2, 9),  # the accumulator wraps
    ],
    ids=str,
)
def test_the_matrix_is_read_and_multiplied_as_the_rtl_does(scheme, mw, mh, pe, simd, acc_bits):
    rng = np.random.default_rng(1)
    memory = weights("a", mw, mh, pe, simd, scheme)
    image = scrambled(memory, rng)
    images = rng.integers(0, 16, (5, 2, mw))  # two vectors an image
    kinds = {"weightDataType": f"INT{scheme.bits}", "outputDataType": f"INT{acc_bits}"}
    unit = mvau("a", mw, mh, pe, simd, numInputVectors=[1, 2], **kinds)
    got = run([unit], [memory], images, ((2, mw), "UINT4"), ((2, mh), f"INT{acc_bits}"), {"a.weight": image})
    fold = (mw, mh, pe, simd, scheme.bits, scheme.voted, acc_bits)
    expected = [[matrix_unit(vector, image, *fold) for vector in vectors] for vectors in images]
    assert got.tolist() == expected


@pytest.mark.parametrize("mw", [2, 512, 70000])
def test_sums_are_exact_whatever_their_size(mw):
    """8 bit by 16 bit, then 32 by 32 with all values extreme: float32, float64 and int64 are all taken."""
    for bits, kind, acc_bits in ((8, "INT16", 63), (32, "UINT32", 63)):
        memory = weights("a", mw, 1, 1, 1, Plain(bits))
        low = -(1 << (bits - 1))
        image = memory.image(words_of(np.full((mw, 1), low), bits))
        top = (1 << 15) - 1 if kind == "INT16" else (1 << 32) - 1
        images = np.full((1, mw), top)
        kinds = {"inputDataType": kind, "weightDataType": f"INT{bits}", "outputDataType": f"INT{acc_bits}"}
        unit = mvau("a", mw, 1, 1, 1, **kinds)
        got = run([unit], [memory], images, ((mw,), kind), ((1,), f"INT{acc_bits}"), {"a.weight": image})
        assert int(got[0, 0]) == signed(low * top * mw % (1 << acc_bits), acc_bits)


@pytest.mark.parametrize("lists", ["one", "each"])
@pytest.mark.parametrize(
    ("wi", "wt", "steps", "is_signed", "bias"),
    [
        (6, 7, 7, True, 0),
        (6, 6, 7, False, 0),
        (6, 4, 7, True, 0),  # thresholds narrower than inputs
        (6, 4, 15, False, 0),
        (5, 5, 5, True, 0),  # places in the tree without a threshold
        (5, 5, 6, False, 0),
        (5, 6, 4, True, 0),  # a power of two: one more stage than address bits
        (5, 5, 1, True, 0),
        (6, 6, 7, True, -4),
        (5, 4, 6, True, -3),
        (5, 5, 2, True, 1),
    ],
)
def test_thresholding_searches_as_the_rtl_does(wi, wt, steps, is_signed, bias, lists):
    """Every input value, lists of random bits in every row: unsorted, as upsets leave them."""
    rng = np.random.default_rng([wi, wt, steps])
    channels, pe = 6, 3
    memory = thresholds("a", channels, pe, steps, wt, is_signed, 1 if lists == "one" else channels)
    oracle = Search(wt, steps, pe, is_signed, bias)
    image = scrambled(memory, rng)
    oracle.rows = [int(row[0]) for row in image]
    source, result = f"{'' if is_signed else 'U'}INT{wi}", "INT6"
    values = np.arange(1 << wi) - ((1 << (wi - 1)) if is_signed else 0)
    images = np.repeat(values[:, None], channels, axis=1)
    kinds = {"inputDataType": source, "weightDataType": f"{'' if is_signed else 'U'}INT{wt}", "outputDataType": result}
    unit = thresholding("a", channels, pe, steps, ActVal=bias, **kinds)
    got = run([unit], [memory], images, ((channels,), source), ((channels,), result), {"a.threshold": image})
    folds = 1 if lists == "one" else channels // pe
    for value, outputs in zip(values.tolist(), got.tolist(), strict=True):
        for channel, output in enumerate(outputs):
            assert output == oracle.element(channel // pe % folds, channel % pe, value)


def test_on_sorted_lists_thresholding_counts():
    rng = np.random.default_rng(2)
    tensor = np.sort(rng.integers(-100, 100, (4, 11)), axis=1)
    memory = thresholds("a", 4, 2, 11, 9, True, 4)
    images = rng.integers(-128, 128, (50, 4))
    unit = thresholding("a", 4, 2, 11, inputDataType="INT8", weightDataType="INT9")
    stored = {"a.threshold": memory.image(words_of(tensor, 9))}
    got = run([unit], [memory], images, ((4,), "INT8"), ((4,), "UINT4"), stored)
    assert np.array_equal(got, (tensor <= images[:, :, None]).sum(axis=2))


def test_an_unsorted_list_is_searched_not_counted():
    """Negative control: the upset that tells the two apart."""
    memory = thresholds("a", 1, 1, 3, 8, False, 1)
    stored = {"a.threshold": memory.image(np.array([[10, 20 ^ 128, 30]], np.uint64))}
    unit = thresholding("a", 1, 1, 3, inputDataType="UINT8", weightDataType="UINT8")
    got = run([unit], [memory], np.array([[40]]), ((1,), "UINT8"), ((1,), "UINT4"), stored)
    assert got.tolist() == [[1]]  # 148 is above 40, so only 10 is looked at; two thresholds are not above 40


def windows(image, kernel, stride, dilation, lanes):
    """The stream of a sliding window: position, group of lanes, tap, lane."""
    height, width, channels = image.shape
    (kh, kw), (sh, sw), (dh, dw) = kernel, stride, dilation
    for y in range(0, height - (kh - 1) * dh, sh):
        for x in range(0, width - (kw - 1) * dw, sw):
            for fold, i, j, lane in itertools.product(range(channels // lanes), range(kh), range(kw), range(lanes)):
                yield int(image[y + i * dh, x + j * dw, fold * lanes + lane])


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "mode", "lanes"),
    [
        ((3, 3), (1, 1), (1, 1), {}, 4),
        ((3, 2), (2, 1), (1, 2), {}, 4),
        ((2, 2), (2, 2), (1, 1), {"depthwise": 1}, 2),
        ((2, 2), (2, 2), (1, 1), {"depthwise": 1}, 1),
        ((3, 3), (1, 1), (1, 1), {"parallel_window": 1}, 2),
    ],
)
def test_windows_come_in_the_order_of_the_stream(kernel, stride, dilation, mode, lanes):
    images = np.random.default_rng(3).integers(-8, 8, (3, 6, 7, 4))
    expected = [list(windows(image, kernel, stride, dilation, lanes)) for image in images]
    given = {"IFMDim": [6, 7], "IFMChannels": 4, "ConvKernelDim": kernel, "inputDataType": "INT4"}
    unit = node("ConvolutionInputGenerator_rtl", "swg", SIMD=lanes if mode else 2, Stride=stride, Dilation=dilation,
                **given, **mode)  # fmt: skip
    got = run([unit], [], images, ((6, 7, 4), "INT4"), ((len(expected[0]),), "INT4"), {})
    assert got.tolist() == expected


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_a_depthwise_window_and_a_pool_give_maxima(lanes):
    images = np.random.default_rng(4).integers(-8, 8, (3, 6, 4, 4))
    units = [
        node("ConvolutionInputGenerator_rtl", "swg", IFMDim=[6, 4], IFMChannels=4, ConvKernelDim=[2, 2],
             Stride=[2, 2], Dilation=[1, 1], SIMD=lanes, depthwise=1, inputDataType="INT4"),
        node("StreamingFIFO_rtl", "fifo"),
        node("Pool_rtl", "pool", Channels=4, PE=lanes, KernelSize=[2, 2], OutImgDims=[3, 2], Function="MaxPool",
             InputDataType="INT4"),
    ]  # fmt: skip
    got = run(units, [], images, ((6, 4, 4), "INT4"), ((3, 2, 4), "INT4"), {})
    assert np.array_equal(got, images.reshape(3, 3, 2, 2, 2, 4).max(axis=(2, 4)))


def test_padding_puts_zeros_around():
    images = np.random.default_rng(5).integers(1, 16, (2, 3, 2, 2))
    units = [
        node("StreamingDataWidthConverter_rtl", "dwc", inShape=[1, 3, 2, 2, 1], outShape=[1, 3, 2, 1, 2]),
        node("FMPadding_rtl", "pad", ImgDim=[3, 2], NumChannels=2, Padding=[1, 0, 2, 3], inputDataType="UINT4"),
    ]
    got = run(units, [], images, ((3, 2, 2), "UINT4"), ((6, 5, 2), "UINT4"), {})
    expected = np.zeros((2, 6, 5, 2), int)
    expected[:, 1:4, 0:2] = images
    assert np.array_equal(got, expected)


# -- refusals --------------------------------------------------------------------------------------------------------

SAME = {"inputDataType": "INT4", "weightDataType": "INT4"}
POOL = {
    "Channels": 1,
    "PE": 1,
    "KernelSize": [2, 2],
    "OutImgDims": [1, 1],
    "InputDataType": "UINT4",
    "Function": "MaxPool",
}


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        (node("Softmax", "s"), r"^node s \(Softmax\) must be an operator that the engine models, got Softmax; "),
        (
            node("Pool_rtl", "p", **{**POOL, "Function": "AvgPool"}),
            r"^node p \(Pool_rtl\) must have a Function of MaxPool, AccPool, QuantAvgPool, got AvgPool; ",
        ),
        (
            node("Pool_rtl", "p", **{**POOL, "InputDataType": "BIPOLAR"}),
            r"^InputDataType of node p .* must be INT or UI",
        ),
        (
            node("Pool_rtl", "p", **{**POOL, "KernelSize": 2}),
            r"^node p .* must have the integer list KernelSize, got 2;",
        ),
        (
            node("Pool_rtl", "p", **{**POOL, "Channels": "x"}),
            r"^node p .* must have the integer attribute Channels, got",
        ),
        (
            node("Pool_rtl", "p", **POOL),
            r"^node p must take 8 elements of UINT4 as the host gives them, got 4",
        ),
        (
            node("StreamingDataWidthConverter_rtl", "d", inShape=[6], outShape=[8]),
            r"^node d \(StreamingDataWidthConverter_rtl\) must give the 6 elements it takes, got 8; ",
        ),
        (
            node("StoredThresholding_rtl", "t", NumChannels=1, PE=1, numSteps=1, **SAME, outputDataType="INT4"),
            r"^node t \(StoredThresholding_rtl\) must name its memory in metadata bitward.memory, got none; ",
        ),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else "",
)
def test_what_is_not_modelled_is_refused(unit, message):
    with pytest.raises(ModelError, match=message):
        read_graph(graph([unit]), manifest([], ((8,), "UINT4"), ((8,), "UINT4")))


def test_a_memory_of_another_folding_is_refused():
    design = manifest([weights("a", 8, 4, 1, 1, Plain(4))], ((8,), "UINT4"), ((4,), "INT16"))
    message = r"^memory a\.weight must have 16 rows of 2 words of 4 bits for node a, got 32 of 1 of 4; "
    with pytest.raises(ManifestError, match=message):
        read_graph(graph([mvau("a", 8, 4, 1, 2)]), design)
    design = manifest([thresholds("a", 8, 2, 5, 16, True, 8)], *ENDS)
    with pytest.raises(
        ManifestError, match=r"^memory a\.threshold must have 32 rows, or as many for each of 4 channel "
    ):
        read_graph(graph([thresholding("a", 8, 2, 13)]), design)


ENDS = (((8,), "INT16"), ((8,), "UINT4"))


def test_thresholds_that_give_more_than_their_type_are_refused():
    design = manifest([thresholds("a", 8, 2, 15, 16, True, 8)], *ENDS)
    with pytest.raises(
        ModelError, match=r"^node a \(StoredThresholding_rtl\) must have results 1 to 16 in its type, got UINT4"
    ):
        read_graph(graph([thresholding("a", 8, 2, 15, ActVal=1)]), design)


def test_a_stream_is_taken_once_and_given_once():
    """A fork without a DuplicateStreams, a ring, a stream that nobody takes, and two that reach the host."""
    design = manifest([], ((8,), "UINT4"), ((8,), "UINT4"))
    fork = graph([node("StreamingFIFO_rtl", "a"), node("StreamingFIFO_rtl", "b")])
    fork.graph.node[1].input[0] = "t0"
    message = (
        r"^node b \(StreamingFIFO_rtl\) must take 1 of the streams that are left, t1, and give 1, got \['t0'\] and"
    )
    with pytest.raises(ModelError, match=message):
        read_graph(fork, design)
    ring = graph([node("StreamingFIFO_rtl", "a"), node("StreamingFIFO_rtl", "b")])
    ring.graph.node[0].input[0] = "t2"
    message = (
        r"^node a \(StreamingFIFO_rtl\) must take streams of nodes before it, got \['t2'\] in a ring of nodes; build"
    )
    with pytest.raises(ModelError, match=message):
        read_graph(ring, design)
    two = {"NumChannels": 8, "NumOutputStreams": 2, "inputDataType": "UINT4"}
    left = graph([node("DuplicateStreams_rtl", "a", **two)])
    left.graph.node[0].output[:] = ["t1", "nobody"]
    with pytest.raises(
        ModelError, match=r"^a hardware graph must give one stream, \['t1'\], got \['t1', 'nobody'\]; build"
    ):
        read_graph(left, design)


def test_nothing_to_run_is_refused():
    with pytest.raises(ModelError, match=r"^a hardware graph must have at least one operator, got none; "):
        read_graph(graph([node("StreamingFIFO_rtl", "a")]), manifest([], ((8,), "UINT4"), ((8,), "UINT4")))


# -- graphs ----------------------------------------------------------------------------------------------------------

SUM = {f"{end}_shape": [1, 4] for end in ("lhs", "rhs", "out")}


def fork_and_join() -> tuple[list, list]:
    """x -> duplicate -> (a: matrix, b: matrix of the same size) -> sum -> c: matrix, with nodes out of order."""
    units = [
        node("ElementwiseAdd_rtl", "sum", lhs_dtype="INT10", rhs_dtype="INT10", out_dtype="INT11", **SUM),
        node("StreamingFIFO_rtl", "queue"),
        mvau("c", 4, 3, 1, 4, inputDataType="INT11"),
        mvau("b", 6, 4, 2, 3, outputDataType="INT10"),
        mvau("a", 6, 4, 4, 2, outputDataType="INT10"),
        node("DuplicateStreams_rtl", "fork", NumChannels=6, NumOutputStreams=2, inputDataType="UINT4"),
    ]
    made = graph(units)
    joined = [
        (["a", "q"], ["sum"]), (["b"], ["q"]), (["sum", "cw"], ["y"]), (["x2", "bw"], ["b"]), (["x1", "aw"], ["a"]),
        (["x"], ["x1", "x2"]),
    ]  # fmt: skip
    for each, (inputs, outputs) in zip(made.graph.node, joined, strict=True):
        each.input[:], each.output[:] = inputs, outputs
    made.graph.input[0].name, made.graph.output[0].name = "x", "y"
    memories = [
        weights("a", 6, 4, 4, 2, Tmr(4, 1)),
        weights("b", 6, 4, 2, 3, Plain(4)),
        weights("c", 4, 3, 1, 4, Plain(4)),
    ]
    return made, memories


def test_a_fork_and_a_join_are_run_and_faults_in_either_branch_are_exact():
    """Golden equals numpy; with every single fault, and pairs in both branches, the cache equals a fresh engine."""
    rng = np.random.default_rng(3)
    made, memories = fork_and_join()
    design = manifest(memories, ((6,), "UINT4"), ((3,), "INT16"))
    tensors = {memory.name: rng.integers(-8, 8, memory.shape) for memory in design.memories}
    stored = {memory.name: memory.image(words_of(tensors[memory.name], 4)) for memory in design.memories}
    engine = HardwareEngine(made, design, stored)
    images = rng.integers(0, 16, (30, 6))
    images[::3] = 0  # no fault in a or b changes these
    golden = engine.infer(images)
    expected = (images @ tensors["a.weight"] + images @ tensors["b.weight"]) @ tensors["c.weight"]
    assert np.array_equal(golden, expected)
    faults = [
        Fault(memory.name, word, bit)
        for memory in design.memories
        for word in range(memory.depth)
        for bit in range(memory.width)
    ]
    rng.shuffle(faults)
    changed = 0
    for group in [[fault] for fault in faults] + [faults[at : at + 3] for at in range(0, 60, 3)]:
        for fault in group:
            engine.inject(fault)
        now = {m.name: np.array([segments_of(engine.read(m.name, w), m.segments) for w in range(m.depth)], np.uint32)
               for m in design.memories}  # fmt: skip
        got = engine.infer(images)
        assert np.array_equal(got, HardwareEngine(made, design, now).infer(images)), group
        changed += not np.array_equal(got, golden)
        for fault in group:
            engine.restore(fault)
    assert changed > len(faults) // 2


def test_a_batch_in_parts_is_a_batch(monkeypatch):
    """Whatever fits and is kept: results are those of the whole batch at once, with faults and without."""
    rng = np.random.default_rng(4)
    made, memories = fork_and_join()
    design = manifest(memories, ((6,), "UINT4"), ((3,), "INT16"))
    stored = {memory.name: scrambled(memory, rng) for memory in design.memories}
    images = rng.integers(0, 16, (23, 6))
    whole = HardwareEngine(made, design, stored)
    size = read_graph(made, design).bytes_per_image
    assert size == 6 + 2 * 6 + 2 * (2 * 4) + 2 * 4 + 2 * 3  # bytes of x, its copies, a and b, the sum, and the output
    fault = Fault("b.weight", 1, 3)
    before = whole.infer(images)
    whole.inject(fault)
    after = whole.infer(images)
    for part, kept in ((1, 1), (5 * size, 1), (5 * size, 12 * size), (100 * size, 10 * size), (size, 100 * size)):
        monkeypatch.setattr(executor, "PART_BYTES", part)
        monkeypatch.setattr(executor, "KEPT_BYTES", kept)
        engine = HardwareEngine(made, design, stored)
        assert np.array_equal(engine.infer(images), before)
        engine.inject(fault)
        assert np.array_equal(engine.infer(images), after)
        assert engine.infer(images[:0]).shape == (0, 3)

# SPDX-License-Identifier: Apache-2.0
"""Each operator of the engine against loops that follow the RTL's description, on memories full of random bits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from engine_graphs import graph, manifest, mvau, node, scrambled, thresholding, thresholds, weights, words_of

from bitward.engine import HardwareEngine
from bitward.engine.graph import chain
from bitward.errors import ManifestError, ModelError
from bitward.schemes import Plain, Tmr


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


class ThresholdingAxi:
    """finn-rtllib's thresholding_axi.sv and thresholding.sv: stage memories behind one configuration address."""

    def __init__(self, wi, wt, n, c, pe, is_signed, bias):
        self.wi, self.wt, self.n, self.pe, self.signed, self.bias = wi, wt, n, pe, is_signed, bias
        self.cf = c // pe
        self.m = n.bit_length()  # $clog2(N+1)
        self.o_bits = (
            (n + bias).bit_length() if bias >= 0 else 1 + max(-bias - 1, n + bias).bit_length()
        )  # $clog2(x) = (x-1).bit_length()
        self.memory = {}

    def configure(self, address: int, value: int) -> None:
        """A write: the stage whose pattern the offset matches takes it."""
        n_bits, pe_bits = (self.n - 1).bit_length(), (self.pe - 1).bit_length()
        offset, pe = address & (1 << n_bits) - 1, address >> n_bits & (1 << pe_bits) - 1
        pointer = address >> n_bits + pe_bits << self.m | offset
        for stage in range(self.m):
            sn = self.m - 1 - stage
            if pointer & (1 << sn + 1) - 1 == (1 << sn) - 1:
                self.memory[pe, stage, pointer >> sn + 1] = value

    def element(self, fold: int, pe: int, word: int) -> int:
        """The output word for an input word."""
        value, pointer = self.cast(word), fold << self.m
        for stage in range(self.m):
            sn = self.m - 1 - stage
            reduce = (1 << self.m - stage - 1) + (1 << self.m) - 1 - self.n >> self.m - stage
            prefix = (pointer & (1 << self.m) - 1) >> sn + 1
            scope = reduce == 0 or prefix < (1 << stage) - reduce
            threshold = self.memory.get((pe, stage, pointer >> sn + 1), 0)
            if self.signed:
                compare = signed(threshold, self.wt) <= signed(value, self.wt)
            else:
                compare = threshold <= value
            pointer |= (scope and compare) << sn
        return (pointer & (1 << self.m) - 1) + self.bias & (1 << self.o_bits) - 1

    def cast(self, word: int) -> int:
        """thresholding_axi.sv: widened with the sign, or saturated."""
        if self.wt >= self.wi:
            sign = self.signed and word >> self.wi - 1
            return word | (((1 << self.wt - self.wi) - 1) << self.wi if sign else 0)
        above = word >> self.wt
        if not self.signed:
            return (1 << self.wt) - 1 if above else word
        sign, kept = word >> self.wi - 1, word & (1 << self.wt) - 1
        if above == ((1 << self.wi - self.wt) - 1 if kept >> self.wt - 1 else 0):
            return kept
        return sign << self.wt - 1 | (0 if sign else (1 << self.wt - 1) - 1)


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
        (6, 4, 7, True, 0),  # inputs saturated
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
    oracle = ThresholdingAxi(wi, wt, steps, pe if lists == "one" else channels, pe, is_signed, bias)
    image = scrambled(memory, rng)
    for address, row in enumerate(image):
        oracle.configure(address, int(row[0]))
    source, result = f"{'' if is_signed else 'U'}INT{wi}", "INT6"
    values = np.arange(1 << wi) - ((1 << (wi - 1)) if is_signed else 0)
    images = np.repeat(values[:, None], channels, axis=1)
    kinds = {"inputDataType": source, "weightDataType": f"INT{wt}", "outputDataType": result}
    unit = thresholding("a", channels, pe, steps, ActVal=bias, **kinds)
    got = run([unit], [memory], images, ((channels,), source), ((channels,), result), {"a.threshold": image})
    for value, outputs in zip(values.tolist(), got.tolist(), strict=True):
        for channel, output in enumerate(outputs):
            word = oracle.element(channel // pe % oracle.cf, channel % pe, value % (1 << wi))
            assert output == (signed(word, oracle.o_bits) if bias < 0 else word)


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

POOL = {
    "Channels": 1,
    "PE": 1,
    "KernelSize": [2],
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
            r"^node p \(Pool_rtl\) must have Function = MaxPool, ",
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
            r"^node p must take 8 elements of UINT4 as the stream before it has them, got 4",
        ),
        (
            node("StreamingDataWidthConverter_rtl", "d", inShape=[6], outShape=[8]),
            r"^node d \(StreamingDataWidthConverter_rtl\) must give the 6 elements it takes, got 8; ",
        ),
        (
            node("Thresholding_rtl", "t", NumChannels=1, PE=1, numSteps=1, inputDataType="INT4", outputDataType="INT4"),
            r"^node t \(Thresholding_rtl\) must name its memory in metadata bitward.memory, got none; ",
        ),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else "",
)
def test_what_is_not_modelled_is_refused(unit, message):
    with pytest.raises(ModelError, match=message):
        chain(graph([unit]), manifest([], ((8,), "UINT4"), ((8,), "UINT4")))


def test_a_memory_of_another_folding_is_refused():
    design = manifest([weights("a", 8, 4, 1, 1, Plain(4))], ((8,), "UINT4"), ((4,), "INT16"))
    message = r"^memory a\.weight must have 16 rows of 2 words of 4 bits for node a, got 32 of 1 of 4; "
    with pytest.raises(ManifestError, match=message):
        chain(graph([mvau("a", 8, 4, 1, 2)]), design)
    design = manifest([thresholds("a", 8, 2, 5, 16, True, 8)], *ENDS)
    with pytest.raises(
        ManifestError, match=r"^memory a\.threshold must have 32 rows, or as many for each of 4 channel "
    ):
        chain(graph([thresholding("a", 8, 2, 13)]), design)


ENDS = (((8,), "INT16"), ((8,), "UINT4"))


def test_thresholds_that_give_more_than_their_type_are_refused():
    design = manifest([thresholds("a", 8, 2, 15, 16, True, 8)], *ENDS)
    with pytest.raises(
        ModelError, match=r"^node a \(Thresholding_rtl\) must have results 1 to 16 in its type, got UINT4"
    ):
        chain(graph([thresholding("a", 8, 2, 15, ActVal=1)]), design)


def test_a_fork_is_refused():
    made = graph([node("StreamingFIFO_rtl", "a"), node("StreamingFIFO_rtl", "b")])
    made.graph.node[1].input[0] = "t0"
    with pytest.raises(ModelError, match=r"^node b \(StreamingFIFO_rtl\) must take stream 't1' of the node before it "):
        chain(made, manifest([], ((8,), "UINT4"), ((8,), "UINT4")))


def test_nothing_to_run_is_refused():
    with pytest.raises(ModelError, match=r"^a hardware graph must have at least one operator, got none; "):
        chain(graph([node("StreamingFIFO_rtl", "a")]), manifest([], ((8,), "UINT4"), ((8,), "UINT4")))

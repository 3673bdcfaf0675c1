# SPDX-License-Identifier: Apache-2.0
"""Small hardware graphs by hand, with their manifests and images, for the tests of the engine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from bitward.formats import Int, UInt
from bitward.indexmap import Axis, mvau_axes, radix
from bitward.layout import BeatLayout
from bitward.manifest import Hardware, Io, Manifest, Memory, StreamTensor
from bitward.schemes import Plain, Scheme


def node(op_type: str, name: str, memory: str | None = None, **attributes: Any) -> onnx.NodeProto:
    """A hardware node; `graph` joins it to its neighbours."""
    made = helper.make_node(op_type, ["?"], ["?"], name=name, domain="finn.custom_op.fpgadataflow.rtl", **attributes)
    if memory is not None:
        made.metadata_props.add(key="bitward.memory", value=memory)
    return made


def graph(nodes: Sequence[onnx.NodeProto]) -> onnx.ModelProto:
    """The chain of the nodes; parameters have no initializers, as the engine must not look at them."""
    for at, each in enumerate(nodes):
        each.input[:] = [f"t{at}", *(["parameters"] if each.metadata_props else [])]
        each.output[:] = [f"t{at + 1}"]
    ends = [helper.make_tensor_value_info(f"t{at}", TensorProto.FLOAT, None) for at in (0, len(nodes))]
    return helper.make_model(helper.make_graph(nodes, "hardware", ends[:1], ends[1:]))


def mvau(name: str, mw: int, mh: int, pe: int, simd: int, **more: Any) -> onnx.NodeProto:
    """A StoredMVAU_rtl node with memory NAME.weight."""
    given = {"inputDataType": "UINT4", "weightDataType": "INT4", "outputDataType": "INT16", "noActivation": 1, **more}
    return node("StoredMVAU_rtl", name, f"{name}.weight", MW=mw, MH=mh, PE=pe, SIMD=simd, **given)


def thresholding(name: str, channels: int, pe: int, steps: int, **more: Any) -> onnx.NodeProto:
    """A StoredThresholding_rtl node with memory NAME.threshold."""
    given = {"inputDataType": "INT16", "weightDataType": "INT16", "outputDataType": "UINT4", **more}
    given |= {"NumChannels": channels, "PE": pe, "numSteps": steps}
    return node("StoredThresholding_rtl", name, f"{name}.threshold", **given)


def weights(name: str, mw: int, mh: int, pe: int, simd: int, scheme: Scheme, **more: Any) -> Memory:
    """The memory of `mvau`, its tensor of shape (mw, mh)."""
    layout = BeatLayout(scheme, pe * simd)
    word_axes, lane_axes = mvau_axes(radix((mw, mh), (1,)), radix((mw, mh), (0,)), pe, simd)
    depth = mw * mh // (pe * simd)
    hardware = Hardware(depth, layout.width, pe * simd, "block", 0, 4 * layout.segments, word_axes, lane_axes, 1)
    memory = Memory(f"{name}.weight", name, "w", "weight", (mw, mh), Int(scheme.bits), scheme, hardware)
    return replace(memory, **more)


def thresholds(name: str, channels: int, pe: int, steps: int, bits: int, signed: bool, lists: int) -> Memory:
    """The memory of `thresholding`, for `lists` (1 or channels) lists of `steps` thresholds."""
    index_bits, pe_bits = steps.bit_length(), (pe - 1).bit_length()
    folds = channels // pe if lists > 1 else 1
    axes = (
        Axis(folds, 1 << (index_bits + pe_bits), pe * steps),
        Axis(pe, 1 << index_bits, steps if lists > 1 else 0),
        Axis(steps, 1, 1),
    )
    depth = folds << (index_bits + pe_bits)
    hardware = Hardware(depth, bits, 1, "distributed", 0, 4 * -(-bits // 32), axes, (), 0)
    form = Int(bits) if signed else UInt(bits)
    return Memory(f"{name}.threshold", name, "t", "threshold", (lists, steps), form, Plain(bits), hardware)


def manifest(memories: Sequence[Memory], source: tuple[Any, str], result: tuple[Any, str]) -> Manifest:
    """The manifest of a design: memories one behind the other, streams of (shape, datatype), one element a beat."""
    placed, base = [], 0
    for memory in memories:
        placed.append(replace(memory, hardware=replace(memory.hardware, base=base)))
        base = placed[-1].hardware.end
    ends = [StreamTensor(tuple(shape), datatype, 64, 1, math.prod(shape)) for shape, datatype in (source, result)]
    return Manifest("toy", 1, "virtual", 200.0, tuple(placed), Io(*ends))


def words_of(integers: np.ndarray, bits: int) -> np.ndarray:
    """Two's complement words."""
    return (np.asarray(integers, np.int64) & ((1 << bits) - 1)).astype(np.uint64)


def scrambled(memory: Memory, rng: np.random.Generator) -> np.ndarray:
    """An image of random bits, dead ones included: what no build would write but upsets may approach."""
    beats = [int.from_bytes(rng.bytes(4 * memory.segments), "little") for _ in range(memory.depth)]
    rows = [[beat % (1 << memory.width) >> 32 * s & 0xFFFFFFFF for s in range(memory.segments)] for beat in beats]
    return np.array(rows, np.uint32)

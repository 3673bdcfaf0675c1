# SPDX-License-Identifier: Apache-2.0
"""The injectable memories of a folded hardware graph: where each parameter's stored bits lie and are reached."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitward.errors import ManifestError, ModelError
from bitward.formats import Int, UInt
from bitward.hardware.folding import Choices
from bitward.hardware.lower import Layer
from bitward.hardware.stitch import Window
from bitward.indexmap import Axis, mvau_axes, radix, split_axes
from bitward.layout import BeatLayout
from bitward.manifest import Hardware, Memory
from bitward.schemes import Plain

PREFETCH_WORDS = 8  # FINN's memstream reads ahead this far; what it holds is stale after a write
VOTER_WORDS = 1  # and the voter's register holds one more


def _clog2(number: int) -> int:
    return (number - 1).bit_length()


def row_stride(width: int) -> int:
    """Bytes between two rows on AXI-Lite: segments rounded up to a power of two."""
    return 4 * 2 ** _clog2(-(-width // 32))


def weight_address_bits(depth: int, width: int) -> int:
    """Width of a weight memory's AXI-Lite address."""
    return _clog2(depth * row_stride(width))


def matrix_axes(layer: Layer) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(outputs, inputs) of the layer's weight tensor as digits, in the order in which the matrix unit counts them."""
    shape = layer.weights.shape
    if layer.is_conv:
        return radix(shape, (0,)), radix(shape, (2, 3, 1))
    spatial = layer.flattened or (shape[1] if layer.out_first else shape[0],)
    inputs = list(range(len(spatial)))
    order = [*inputs[1:], inputs[0]] if layer.flattened else inputs
    if layer.out_first:
        full = (shape[0], *spatial)
        return radix(full, (0,)), radix(full, [1 + dim for dim in order])
    full = (*spatial, shape[1])
    return radix(full, (len(spatial),)), radix(full, order)


def matrix(layer: Layer) -> NDArray[np.int64]:
    """The layer's weights as the matrix unit's (MW, MH)."""
    shape = layer.weights.shape
    if layer.is_conv:
        return layer.weights.transpose(2, 3, 1, 0).reshape(-1, shape[0])
    weights = layer.weights.T if layer.out_first else layer.weights
    if layer.flattened:
        return weights.reshape(*layer.flattened, -1).transpose(1, 2, 0, 3).reshape(weights.shape)
    return weights


def foldings(layer: Layer) -> Choices:
    """The PE and SIMD values that cut the layer's weights into rows of a regular map (divisors, digit by digit)."""
    outputs, inputs = matrix_axes(layer)
    return Choices(layer.name, _lane_counts(outputs), _lane_counts(inputs))


def _lane_counts(digits: list[tuple[int, int]]) -> list[int]:
    total = math.prod(size for size, _ in digits)
    counts = []
    for lanes in (count for count in range(1, total + 1) if total % count == 0):
        try:
            split_axes(digits, lanes)
        except ManifestError:
            continue
        counts.append(lanes)
    return counts


def weight_memory(op: Any, layer: Layer, window: Window, words_per_image: int) -> Memory:
    """The weight memory of a StoredMVAU_rtl node. Raises ModelError where lowering changed the layer's weights."""
    scheme, pe, simd = op.scheme(), op.get_nodeattr("PE"), op.get_nodeattr("SIMD")
    width = BeatLayout(scheme, pe * simd).width
    depth = (op.get_nodeattr("MW") // simd) * (op.get_nodeattr("MH") // pe)
    outputs, inputs = matrix_axes(layer)
    word_axes, lane_axes = mvau_axes(outputs, inputs, pe, simd)
    ahead = PREFETCH_WORDS + (VOTER_WORDS if scheme.voted else 0)
    return Memory(
        name=f"{layer.name}.weight",
        layer=layer.name,
        tensor=layer.tensor,
        role="weight",
        shape=tuple(layer.weights.shape),
        format=Int(scheme.bits, float(layer.scale.reshape(-1)[0]) if layer.scale.size == 1 else 1.0),
        scheme=scheme,
        hardware=Hardware(
            depth=depth,
            width=width,
            lanes=pe * simd,
            ram_style=op.get_nodeattr("ram_style"),
            base=window.base,
            word_stride=row_stride(width),
            word_axes=word_axes,
            lane_axes=lane_axes,
            flush_images=math.ceil(ahead / words_per_image),
        ),
    )


def check_survival(op: Any, layer: Layer, matrix_unit: NDArray[Any]) -> None:
    """Weights stand in the matrix unit exactly as exported. Raises ModelError naming the layer if not."""
    if not np.array_equal(matrix(layer), matrix_unit.astype(np.int64)):
        raise ModelError(
            f"layer {layer.name} must reach the hardware with its exported weights, but streamlining changed them "
            f"(node {op.onnx_node.name}): fold negative batch-norm scales into the weights before hardening."
        )


def threshold_address_bits(op: Any) -> int:
    """Width of a threshold memory's AXI-Lite address: {channel fold, PE, threshold, segment, byte}."""
    pe, count = op.get_nodeattr("PE"), op.get_nodeattr("numSteps")
    folds = op.get_nodeattr("NumChannels") // pe
    stride = row_stride(op.get_input_datatype(1).bitwidth())
    return _clog2(folds) + _clog2(pe) + _clog2(count) + _clog2(stride)


def threshold_memory(op: Any, layer: str, tensor: str, shape: Sequence[int], window: Window) -> Memory:
    """The threshold memory of a Thresholding_rtl node: one threshold a row, at {channel fold, PE, threshold}.

    A per-tensor list of shape (1, N) stands once per PE.
    """
    pe, count = op.get_nodeattr("PE"), int(shape[1])
    per_channel = int(shape[0]) > 1
    folds = op.get_nodeattr("NumChannels") // pe if per_channel else 1
    pe_step, fold_step = 2 ** _clog2(count), 2 ** (_clog2(count) + _clog2(pe))
    datatype = op.get_input_datatype(1)
    bits = datatype.bitwidth()
    return Memory(
        name=f"{layer}.threshold",
        layer=layer,
        tensor=tensor,
        role="threshold",
        shape=(int(shape[0]), count),
        format=Int(bits) if datatype.signed() else UInt(bits),
        scheme=Plain(bits),
        hardware=Hardware(
            depth=fold_step * 2 ** _clog2(folds),
            width=bits,
            lanes=1,
            ram_style="distributed",
            base=window.base,
            word_stride=row_stride(bits),
            word_axes=(
                Axis(folds, fold_step, pe * count),
                Axis(pe, pe_step, count if per_channel else 0),
                Axis(count, 1, 1),
            ),
            lane_axes=(),
            flush_images=0,
        ),
    )


def write_hex(image: NDArray[np.uint32], width: int, path: Path) -> None:
    """A memory image is written one row a line, hexadecimal, as $readmemh takes it."""
    digits = -(-width // 4)
    lines = ("".join(f"{segment:08x}" for segment in row[::-1])[-digits:] for row in image)
    path.write_text("".join(f"{line}\n" for line in lines))


def golden_images(memories: Sequence[Memory], parameters: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[Any]]:
    """The image of every memory from its integer parameters (in the tensor's own shape)."""
    images = {}
    for memory in memories:
        words = (parameters[memory.name] & (2**memory.format.bits - 1)).astype(np.uint64)
        images[memory.name] = memory.image(words)
    return images

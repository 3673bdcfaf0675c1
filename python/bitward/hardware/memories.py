# SPDX-License-Identifier: Apache-2.0
"""The injectable memories of a folded hardware graph: where each parameter's stored bits lie and are reached."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitward.errors import ModelError
from bitward.formats import Format, Int, UInt
from bitward.hardware.addresses import row_stride
from bitward.hardware.parameters import Parameter
from bitward.hardware.stitch import Window
from bitward.manifest import Hardware, Memory

if TYPE_CHECKING:
    from bitward.hardware.ops._stored import StoredModule


def memory_of(op: StoredModule, parameter: Parameter, window: Window) -> Memory:
    """The memory of a node that holds `parameter`, its AXI-Lite port at `window`.

    Raises ModelError where the node stores words of another width than the parameter has.
    """
    layout = op.layout()
    if layout.scheme.bits != parameter.bits:
        raise ModelError(
            f"memory {parameter.name} must store words of {parameter.bits} bits, as layer {parameter.layer} has them, "
            f"got {layout.scheme}: harden the model again."
        )
    word_axes, lane_axes = op.axes(parameter)
    return Memory(
        name=parameter.name,
        layer=parameter.layer,
        tensor=parameter.tensor,
        role=parameter.role,
        shape=tuple(parameter.values.shape),
        format=_format(parameter),
        scheme=layout.scheme,
        hardware=Hardware(
            depth=op.depth(),
            width=layout.width,
            lanes=layout.lanes,
            ram_style=op.ram_style(),
            base=window.base,
            word_stride=row_stride(layout.width),
            word_axes=word_axes,
            lane_axes=lane_axes,
            flush_images=math.ceil(op.read_ahead() / op.rows_per_image()),
        ),
        folded=parameter.folded,
    )


def _format(parameter: Parameter) -> Format:
    """How a word becomes a value: scaled where all words have one scale, else an integer."""
    if not parameter.signed:
        return UInt(parameter.bits)
    return Int(parameter.bits, float(parameter.scale.flat[0]) if parameter.scale.size == 1 else 1.0)


def golden_images(memories: Sequence[Memory], parameters: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[Any]]:
    """The image of every memory from its integer parameters (in the tensor's own shape)."""
    images = {}
    for memory in memories:
        words = (parameters[memory.name] & (2**memory.format.bits - 1)).astype(np.uint64)
        images[memory.name] = memory.image(words)
    return images

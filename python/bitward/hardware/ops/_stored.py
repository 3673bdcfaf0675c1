# SPDX-License-Identifier: Apache-2.0
"""What back ends with a parameter memory have in common: rows of stored words, named as their initializer is."""

from __future__ import annotations

import json
from abc import abstractmethod
from math import prod
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bitward.errors import ManifestError
from bitward.hardware.addresses import address_bits
from bitward.hardware.ops._module import RtlModule
from bitward.hardware.parameters import Digits, Parameter
from bitward.indexmap import Axis, split_axes
from bitward.layout import BeatLayout
from bitward.memory import RamStyle as Style
from bitward.schemes import Plain, Scheme, scheme_from_dict

PREFETCH_ROWS = 8  # FINN's memstream reads ahead this far; what it holds is stale after a write
DECODER_ROWS = 1  # and the register behind a voter or decoder holds one more

Axes = tuple[tuple[Axis, ...], tuple[Axis, ...]]


class StoredModule(RtlModule):
    """An operator whose parameters lie in a memory of stored words that AXI-Lite reads and writes.

    To add one: a module with an s_axilite port and outputs corrected_o and detected_o, a class as `RtlModule` says that
    is named "Stored..._rtl", and `stores`, `lanes`, `depth`, `axes` and `rows_per_image`. The second input is the
    initializer with the parameters: its name is the memory's. Row r, lane l of the memory holds what `axes` says.
    """

    stores: ClassVar[str]
    """FINN's abstract operator that becomes this one where its second input is a parameter."""

    def get_nodeattr_types(self) -> dict:
        """Those of an RTL back end; `scheme`, a Scheme as JSON ("" for plain words); the memory's `ram_style`."""
        own = {
            "scheme": ("s", False, ""),
            "ram_style": ("s", False, "block", {"auto", "block", "distributed", "ultra"}),
        }
        return {**RtlModule.get_nodeattr_types(self), **own}

    @abstractmethod
    def lanes(self) -> int:
        """Words of a row."""

    @abstractmethod
    def depth(self) -> int:
        """Rows."""

    @abstractmethod
    def axes(self, parameter: Parameter) -> Axes:
        """(word_axes, lane_axes): where each number of the parameter lies. ManifestError where folding cuts digits."""

    @abstractmethod
    def rows_per_image(self) -> int:
        """Rows that the unit takes from the memory for an image."""

    @classmethod
    def foldings(cls, parameter: Parameter) -> dict[str, list[int]]:
        """The values of each folding attribute for which `axes` exist: divisors that cut no digit."""
        return {"PE": lane_counts(parameter.columns), "SIMD": lane_counts(parameter.rows)}

    def scheme(self) -> Scheme:
        """How words are stored."""
        text = self.get_nodeattr("scheme")
        scheme = scheme_from_dict(json.loads(text)) if text else Plain(self.get_input_datatype(1).bitwidth())
        return scheme.over(self.lanes())

    def layout(self) -> BeatLayout:
        """Where the stored bits of a row lie."""
        return BeatLayout(self.scheme(), self.lanes())

    def memory_name(self) -> str:
        """The memory's name in the manifest."""
        return str(self.onnx_node.input[1])

    def memory_file(self) -> str:
        """Name of the file with the memory's initial content, as its module takes it."""
        return f"{self.memory_name()}.dat"

    def write_contents(self, image: NDArray[np.uint32], folder: Path) -> None:
        """The memory's initial content, `image`, is in the folder, as its module reads it."""
        write_hex(image, self.layout().width, folder / self.memory_file())

    def address_bits(self) -> int:
        """Width of the memory's AXI-Lite address."""
        return address_bits(self.depth(), self.layout().width)

    def read_ahead(self) -> int:
        """Rows that may have been read before a write and are used after it."""
        scheme = self.scheme()
        return PREFETCH_ROWS + (DECODER_ROWS if scheme.voted or scheme.check_bits else 0)

    def ram_style(self) -> Style:
        """What the memory is made of."""
        style: Style = self.get_nodeattr("ram_style")
        return style

    def storage(self) -> dict[str, int | str]:
        """Parameters that every module with weights in a stream of rows takes."""
        scheme = self.scheme()
        return {
            "WeightBits": scheme.bits,
            "Voted": scheme.voted,
            "Secded": int(scheme.check_bits > 0),
            "InitFile": self.memory_file(),
            "RamStyle": self.get_nodeattr("ram_style"),
        }


def write_hex(image: NDArray[np.uint32], width: int, path: Path) -> None:
    """A memory image is written one row a line, hexadecimal, as $readmemh takes it."""
    digits = -(-width // 4)
    lines = ("".join(f"{segment:08x}" for segment in row[::-1])[-digits:] for row in image)
    path.write_text("".join(f"{line}\n" for line in lines))


def lane_counts(digits: Digits) -> list[int]:
    """How many of the digits' numbers a row can hold side by side: divisors of all that have axes.

    >>> lane_counts(((3, 3), (3, 1), (4, 9)))
    [1, 2, 4, 12, 36]
    """

    def fits(lanes: int) -> bool:
        try:
            split_axes(digits, lanes)
        except ManifestError:
            return False
        return True

    total = prod(size for size, _ in digits)
    return [lanes for lanes in range(1, total + 1) if total % lanes == 0 and fits(lanes)]

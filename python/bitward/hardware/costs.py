# SPDX-License-Identifier: Apache-2.0
"""What memories cost on UltraScale+, from their depth and width: the figures that folding and RAM styles are chosen by.

Estimates before synthesis, by the shapes of the primitives (UG573, UG574); `bitward resources` tells what Yosys makes.
"""

from __future__ import annotations

from typing import Literal

RamStyle = Literal["srl", "distributed", "block", "ultra"]

BLOCK_ROWS = 512  # from here on, arrays of thresholds are block RAM (bitward_threshold_stage)
RAMB18_SHAPES = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))  # simple dual port
URAM_SHAPE = (4096, 72)
SRL_BEATS = 32  # of one bit in a LUT
RAM64_LUTS = 8 / 7  # for 64 words of one bit, simple dual port: RAM64M8 holds seven in eight LUTs
LUTS_PER_RAMB18 = 200  # the K26 has 406 LUTs to a half block RAM; half of them are left to logic
LUTS_PER_URAM = 915  # and 1,830 to an UltraRAM


def ramb18(depth: int, bits: int) -> int:
    """Half block RAMs (18 Kb) of a memory of `depth` words.

    >>> [ramb18(512, 36), ramb18(512, 37), ramb18(513, 36), ramb18(2048, 8)]
    [1, 2, 2, 1]
    """
    return min(-(-depth // words) * -(-bits // width) for words, width in RAMB18_SHAPES)


def uram(depth: int, bits: int) -> int:
    """UltraRAM blocks (288 Kb) of a memory of `depth` words."""
    words, width = URAM_SHAPE
    return -(-depth // words) * -(-bits // width)


def lutram_luts(depth: int, bits: int) -> int:
    """LUTs of a memory of `depth` words in distributed RAM, the multiplexers between its 64-word parts included.

    >>> [lutram_luts(64, 7), lutram_luts(512, 4)]
    [8, 49]
    """
    parts = -(-depth // 64)
    return round(bits * (parts * RAM64_LUTS + (parts - 1) / 2.25))


def srl_luts(beats: int, bits: int) -> int:
    """LUTs of a shift register of `beats` that is read at any place, the multiplexers between its parts included."""
    parts = -(-beats // SRL_BEATS)
    return bits * (parts + (parts - 1) // 2)


def memory_luts(depth: int, bits: int, style: RamStyle) -> float:
    """What a memory of `depth` words costs, in LUTs: block and UltraRAM at the rates above.

    >>> [memory_luts(600, 36, style) for style in ("distributed", "block", "ultra")]
    [555, 400, 915]
    """
    if style == "srl":
        return srl_luts(depth, bits)
    if style == "distributed":
        return lutram_luts(depth, bits)
    return LUTS_PER_RAMB18 * ramb18(depth, bits) if style == "block" else LUTS_PER_URAM * uram(depth, bits)


def memory_style(depth: int, bits: int) -> RamStyle:
    """The cheaper of distributed and block RAM for a memory of `depth` words.

    >>> [memory_style(16, 8), memory_style(1024, 36), memory_style(100_000, 64)]
    ['distributed', 'block', 'block']
    """
    return _cheapest(depth, bits, "distributed", "block")


def buffer_style(depth: int, bits: int) -> RamStyle:
    """The cheapest of distributed, block and UltraRAM for `depth` words that are written before they are read.

    Only such memories can be UltraRAM by choice: what lies in it at the start is in no bitstream.

    >>> [buffer_style(16, 8), buffer_style(1024, 36), buffer_style(3000, 72)]
    ['distributed', 'block', 'ultra']
    """
    return _cheapest(depth, bits, "distributed", "block", "ultra")


def _cheapest(depth: int, bits: int, *styles: RamStyle) -> RamStyle:
    return min(styles, key=lambda style: memory_luts(depth, bits, style))


def queue_style(depth: int, bits: int) -> RamStyle:
    """How a queue of `depth` beats, its output register's included, is best stored.

    >>> [queue_style(2, 64), queue_style(33, 8), queue_style(200, 8), queue_style(600, 36), queue_style(4000, 64)]
    ['srl', 'srl', 'distributed', 'block', 'ultra']
    """
    return "srl" if depth - 1 <= SRL_BEATS else buffer_style(depth - 1, bits)

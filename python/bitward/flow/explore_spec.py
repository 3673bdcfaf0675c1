# SPDX-License-Identifier: Apache-2.0
"""The `explore` section of a flow: the space that is searched, and what is asked of its points."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from bitward.explore.design import FormatName
from bitward.explore.scale import By
from bitward.flow.reading import Section

ExploredScheme = Literal["plain", "msb", "tmr", "secded"]


class Explore(Section):
    """Which points there are, how each is judged, and how they are searched (see `bitward.explore`).

    In a flow of a float network `bits` are the weights' widths. In one of a quantized network the widths are those that
    its family has, `bits` leaves some of them out, and `models` says where a member's QONNX file is (a path from the
    flow's own folder; without it beside the flow's `model`, and else it is trained).

    `formats` and `scaling` are axes of float networks: every format with every scaling that it takes, without them the
    flow's own. Integers take none, as their scale is weight scaling already, and formats of one width have that one.
    """

    bits: tuple[int, int] = Field((3, 8), description="least and most bits of a weight")
    schemes: tuple[ExploredScheme, ...] = Field(("plain", "msb"), min_length=1)
    voted: tuple[int, ...] = Field((1,), min_length=1, description="of msb: top bits that are stored three times")
    formats: tuple[FormatName, ...] = Field((), description="of weights; without any, that of the section quantize")
    scaling: tuple[By, ...] = Field((), description="of weights; without any, that of the section quantize")
    ber: float = Field(1e-4, gt=0, le=1, description="flips per stored bit")
    spread: Literal["bits", "layers"] = Field("bits", description="of these flips: uniform over bits, or layer first")
    safe_exponents: bool = Field(False, description="no flip of the most significant bit of exponents")
    accuracy_floor: float = Field(ge=0, le=1, description="least accuracy without faults, 0 to 1")
    vulnerability_ceiling: float = Field(gt=0, le=1, description="most accuracy lost under faults, 0 to 1")
    mode: Literal["binary", "exhaustive"] = "binary"
    per_layer: bool = Field(False, description="take bits away layer by layer from the answer, greedily")
    trials: int = Field(100, ge=2, description="fault sets per point")
    images: int = Field(256, ge=1, description="test images per fault set")
    seed: int = Field(1, ge=0)
    models: dict[str, Path] = Field(default_factory=dict, description="QONNX files of a family's members, by name")

    @field_validator("bits")
    @classmethod
    def _is_a_range(cls, bits: tuple[int, int]) -> tuple[int, int]:
        if not 2 <= bits[0] <= bits[1] <= 16:
            raise ValueError("must be two widths from 2 to 16, the lower one first")
        return bits

    @field_validator("voted")
    @classmethod
    def _are_bits(cls, voted: tuple[int, ...]) -> tuple[int, ...]:
        if min(voted) < 1:
            raise ValueError("must be 1 or more each; plain is a scheme of its own")
        return voted

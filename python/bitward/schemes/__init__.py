# SPDX-License-Identifier: Apache-2.0
"""Schemes: plain words to stored words and back. The golden model of the voters and decoders in RTL.

A scheme says which bits a stored word has, not where they lie in a memory row: that is `bitward.layout`'s business.
A new scheme is one file here, imported below.
"""

from __future__ import annotations

from typing import Any

from bitward.schemes.in_place_secded import InPlaceSecded
from bitward.schemes.plain import Plain
from bitward.schemes.scheme import CHECK, Bits, Flags, Reading, Scheme
from bitward.schemes.secded import Secded
from bitward.schemes.tmr import Tmr


def scheme_from_dict(data: Any, where: str = "scheme") -> Scheme:
    """The scheme that `to_dict` wrote, e.g. `{"name": "tmr", "bits": 4, "voted": 1}`; FormatError otherwise."""
    return Scheme.from_dict(data, where)


__all__ = [
    "CHECK",
    "Bits",
    "Flags",
    "InPlaceSecded",
    "Plain",
    "Reading",
    "Scheme",
    "Secded",
    "Tmr",
    "scheme_from_dict",
]

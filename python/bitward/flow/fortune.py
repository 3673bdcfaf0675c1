# SPDX-License-Identifier: Apache-2.0
"""FORTUNE's two indices with the paper's constants: one home for flows of hardware and for software-only ones."""

from __future__ import annotations

from bitward.metrics import p_drop, rap

P_SINGLE, LIFETIME = 1.33e-24, 1e11  # FORTUNE's: per ns, of a bit; ns, which is 100 s


def indices(stored_bits: int, ber: float, drop: float, memory: float, time: float | None) -> dict[str, float | None]:
    """P_drop and RAP (equations 6 and 7) of an accuracy drop, a share, under a rate.

    `memory` and `time` are ratios to a baseline; without a time there is no RAP.
    """
    return {
        "p_drop": p_drop(stored_bits, ber, drop, P_SINGLE, LIFETIME),
        "rap": None if time is None else rap(drop, memory, time),
    }

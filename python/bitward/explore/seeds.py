# SPDX-License-Identifier: Apache-2.0
"""What training seeds have in common: the mean of their drops, and how sure it is."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitward.statistics import student


def over_seeds(rows: list[dict[str, Any]]) -> dict[tuple[str, float], dict[str, Any]]:
    """The rows of a summary by (spread, rate): the mean drop of the seeds, and its interval between seeds.

    With one seed that interval is the one over its fault sets.
    """
    groups: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["rate"]["spread"], row["rate"]["ber"]), []).append(row)
    found = {}
    for key, group in groups.items():
        drops = [row["drop"]["estimate"] for row in group]
        between = student(drops) if len(group) > 1 else None
        low, high = (between.low, between.high) if between else (group[0]["drop"]["low"], group[0]["drop"]["high"])
        found[key] = {"drop": float(np.mean(drops)), "low": low, "high": high, "seeds": len(group), "rows": group}
    return found

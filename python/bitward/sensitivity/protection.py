# SPDX-License-Identifier: Apache-2.0
"""What exponent protection does for the parameters that it moves: upsets of their risky bits before and after.

(J. Gutierrez-Zaballa et al., "Evaluating Single Event Upsets in Deep Neural Networks for Semantic Segmentation",
section 5.1, tables 13 to 21. Protection: `bitward.rewrites.torch_networks.protect_network`.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.errors import ConfigError
from bitward.faults import Fault
from bitward.formats import Float32
from bitward.rewrites.protect_exponents import MANTISSA_BITS, PROTECTION_TARGETS
from bitward.rewrites.torch_networks import protect_network
from bitward.sensitivity.pixels import classes_of
from bitward.sensitivity.rates import mean_error
from bitward.sensitivity.study import Study, iou_of
from bitward.statistics import Interval

RISKY_BITS = tuple(range(24, 31))
AT_ONCE = 128  # faults that the engine is given together


@dataclass(frozen=True)
class Harm:
    """Means over faults: IoU against the labels, and the share of pixels whose class is not the unprotected one."""

    global_iou: float
    weighted_iou: float
    error: Interval


@dataclass(frozen=True)
class RiskyBit:
    """Upsets of one bit in the `candidates` that it would lift, of which `before.error.trials` were tried.

    The same faults, in the network as it was and in the protected one.
    """

    bit: int
    candidates: int
    before: Harm
    after: Harm


@dataclass(frozen=True)
class Protected:
    """One protection target: how many parameters moved, what that did without faults, and under them."""

    target: str
    moved: int
    global_iou: tuple[float, float]  # before, after
    weighted_iou: tuple[float, float]
    changed: float  # share of pixels whose class is another one, without faults
    bits: tuple[RiskyBit, ...]


def risky_bit(values: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """By single-precision value: the one bit that fills its exponent, or all of it below the leading one; -1: none.

    >>> risky_bit([1.5, 0.49, 1e-19, 0.75]).tolist()
    [30, 24, 29, -1]
    """
    words = np.array(values, dtype=np.float32).view(np.uint32)
    exponent = (words >> np.uint32(MANTISSA_BITS) & np.uint32(0xFF)).astype(np.int64)
    missing = 0x7F ^ (exponent & 0x7F)  # below the leading one
    place = np.log2(np.maximum(missing, 1)).astype(np.int64)
    is_one = (missing == 1 << place) & (place > 0)  # 0x7E is left alone: its neighbours are worse
    return np.where(exponent == 0x7F, 30, np.where((exponent < 0x80) & is_one, MANTISSA_BITS + place, -1))


def protection(
    study: Study, targets: Sequence[str] = tuple(PROTECTION_TARGETS), per_bit: int = 100, seed: int = 1
) -> Iterator[Protected]:
    """Each target in turn; at most `per_bit` of a bit's candidates are drawn, without replacement, with the seed.

    Means and variances of batch norm stay, as in the papers. ConfigError: the network is not in single precision.
    """
    for memory in study.manifest.memories:
        if not isinstance(memory.format, Float32):
            raise ConfigError(
                f"memory {memory.name} must be in single precision to be protected, got {memory.format}: protect the "
                "float network"
            )
    for target in targets:
        yield _protected(study, target, per_bit, seed)


def _protected(study: Study, target: str, per_bit: int, seed: int) -> Protected:
    network, moved = protect_network(study.network, target, statistics=False)
    other = replace(study, network=network, name=f"{study.name}-{target}")
    whole = [iou_of(each.golden, study.labels, study.scores.shape[1], study.ignore) for each in (study, other)]
    random = np.random.default_rng([seed, *target.encode()])
    bits = []
    for bit, places in _candidates(study, other).items():
        chosen = [places[at] for at in random.permutation(len(places))[:per_bit]]
        faults = [Fault(name, word, bit) for name, word in sorted(chosen)]
        bits.append(RiskyBit(bit, len(places), *(_harm(each, study, faults, len(places)) for each in (study, other))))
    return Protected(
        target, sum(moved.values()), (whole[0]["global_iou"], whole[1]["global_iou"]),
        (whole[0]["weighted_iou"], whole[1]["weighted_iou"]), float(np.mean(other.golden != study.golden)), tuple(bits),
    )  # fmt: skip


def _candidates(study: Study, other: Study) -> dict[int, list[tuple[str, int]]]:
    """(memory, word) of what moved, by the risky bit that it had; the most significant bit first."""
    found: dict[int, list[tuple[str, int]]] = {bit: [] for bit in reversed(RISKY_BITS)}
    for memory in study.manifest.memories:
        before, after = study.values(memory.name), other.values(memory.name)
        bits = risky_bit(before)
        for word in np.flatnonzero(before != after):
            found[int(bits[word])].append((memory.name, int(word)))
    return {bit: places for bit, places in found.items() if places}


def _harm(study: Study, reference: Study, faults: Sequence[Fault], population: int) -> Harm:
    """Of each fault by itself, against the reference without faults."""
    rows: list[dict[str, Any]] = []
    for start in range(0, len(faults), AT_ONCE):
        trials = [(fault,) for fault in faults[start : start + AT_ONCE]]
        for scores, _, _ in study.engine.outcomes(study.images, trials):
            maps = classes_of(scores)
            rows.append({
                "error": float(np.mean(maps != reference.golden)),
                **iou_of(maps, study.labels, scores.shape[1], study.ignore),
            })  # fmt: skip
    errors = np.array([row["error"] for row in rows])
    means = {name: float(np.mean([row[name] for row in rows])) for name in ("global_iou", "weighted_iou")}
    return Harm(means["global_iou"], means["weighted_iou"], mean_error(errors, population))

# SPDX-License-Identifier: Apache-2.0
"""What bit errors do to single values: the mean absolute error of stored numbers under a bit error rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bitward.errors import ConfigError
from bitward.formats import Format
from bitward.words import Words, word_dtype

AT_ONCE = 1 << 18  # rounds whose masks are held together


def flip_error(
    values: npt.ArrayLike,
    form: Format,
    ber: float,
    rounds: int,
    scale: float = 1.0,
    safe_bits: Sequence[int] = (),
    seed: int = 0,
) -> npt.NDArray[np.float64]:
    """Mean of |w - w'| by value, shape (n,), over `rounds` draws of upset bits, each bit with probability `ber`.

    A value w is stored as scale*w in the format, and w' is what is read, divided by `scale` again: rounding to the
    format counts, and so does its overflow where it saturates. `safe_bits` are never upset (the exponent's most
    significant bit, say). Each round's upsets are the same for all values. (Weight-scaling paper, equations 3 and 5 and
    figure 2.) NaN is counted as the infinite error that it is. ConfigError for formats above 32 bits, a rate that is
    none, and no rounds.
    """
    if form.bits > 32 or not 0 < ber <= 1 or rounds < 1 or not scale > 0:
        raise ConfigError(
            "flip_error must have a format of at most 32 bits, ber in (0, 1], rounds and scale above 0, got "
            f"{form.bits} bits, {ber}, {rounds}, {scale}: see figure 2 of the weight-scaling paper"
        )
    given = np.asarray(values, dtype=np.float64).reshape(-1)
    stored = form.encode(given * scale)
    random = np.random.default_rng(seed)
    totals = np.zeros(len(given))
    for start in range(0, rounds, AT_ONCE):
        masks = _masks(form.bits, ber, min(AT_ONCE, rounds - start), safe_bits, random)
        for place, word in enumerate(stored):
            with np.errstate(over="ignore", invalid="ignore"):
                apart = np.abs(form.decode(masks ^ word).astype(np.float64) - scale * given[place])
            totals[place] += np.where(np.isnan(apart), np.inf, apart).sum()
    return totals / rounds / scale


def _masks(bits: int, ber: float, count: int, safe: Sequence[int], random: np.random.Generator) -> Words:
    """Words with each bit 1 at probability `ber`, but for those that are safe: positions of the ones, not all bits."""
    masks = np.zeros(count, word_dtype(bits))
    for bit in sorted(set(range(bits)) - set(safe)):
        hits = random.choice(count, random.binomial(count, ber), replace=False, shuffle=False)
        masks[hits] |= masks.dtype.type(1 << bit)
    return masks

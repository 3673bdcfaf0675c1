# SPDX-License-Identifier: Apache-2.0
"""What goes with the error rates of a network: signs of its parameters, values at risk, bits needed, activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bitward.errors import ConfigError
from bitward.formats import Float32, Int
from bitward.sensitivity.rates import Rates
from bitward.sensitivity.sets import Kind, ParameterSet
from bitward.sensitivity.study import Study
from bitward.statistics import Interval, pearson

FLOAT_MSB = (30,)  # the largest bit of the exponent
BIAS_BITS = tuple(range(17, 31))  # of 32-bit biases: those that the SEU paper takes together
AT_ONCE = 32  # images


@dataclass(frozen=True)
class Explained:
    """One parameter set beside the error rate of its most dangerous bits (`error`; None: it has none of them).

    `positive` is the share of values above 0, `risky` that of 1 <= |x| < 2 (what is read, not what is stored: for
    integers it tells nothing). `positive_bits` and `negative_bits` are what its positive and negative integers need in
    two's complement, the sign included; None: single precision, or no such value.
    """

    set: ParameterSet
    error: Interval | None
    positive: float
    risky: float
    positive_bits: int | None
    negative_bits: int | None


def explained(study: Study, rates: Rates) -> tuple[Explained, ...]:
    """Every parameter set of the network."""
    return tuple(_explained(study, rates, found) for found in rates.sets)


def _explained(study: Study, rates: Rates, found: ParameterSet) -> Explained:
    memory = study.manifest.memory(found.name)
    values = study.values(found.name)
    wanted = FLOAT_MSB if isinstance(memory.format, Float32) else BIAS_BITS
    bits = [bit for bit in wanted if (found.name, bit) in rates.cells]
    is_whole = isinstance(memory.format, Int) and found.is_bias
    above, below = needed_bits(study.integers(found.name)) if is_whole else (None, None)
    return Explained(
        found,
        rates.of_set(found.name, bits) if bits else None,
        float(np.mean(values > 0)),
        float(np.mean((np.abs(values) >= 1) & (np.abs(values) < 2))),
        above,
        below,
    )


def needed_bits(integers: Sequence[int]) -> tuple[int | None, int | None]:
    """Bits in two's complement, sign included, of the largest positive and the least negative; None: there is none.

    >>> needed_bits([-25983, 2355, -187, 300, -1494, 923]), needed_bits([5])
    ((13, 16), (4, None))

    The first are the SEU paper's output biases; its Table 11 has 13 and 16 for them.
    """
    above, below = [each for each in integers if each > 0], [each for each in integers if each < 0]
    return (
        max(above).bit_length() + 1 if above else None,
        (~min(below)).bit_length() + 1 if below else None,
    )


def correlation(
    rows: Sequence[Explained], kinds: Sequence[Kind], share: Callable[[Explained], float], confidence: float = 0.95
) -> Interval | None:
    """How a share of the sets of these kinds goes with their error rate; None where it is not defined.

    That is where there are fewer than four of them, or all are alike in one or the other.
    """
    pairs = [(share(row), row.error.estimate) for row in rows if row.set.kind in kinds and row.error is not None]
    try:
        return pearson([left for left, _ in pairs], [right for _, right in pairs], confidence)
    except ConfigError:
        return None


@dataclass(frozen=True)
class Range:
    """The least and the largest value that a module gives on some images."""

    module: str
    kind: str
    low: float
    high: float


@torch.inference_mode()
def activation_ranges(network: nn.Module, images: npt.NDArray[np.float32]) -> tuple[Range, ...]:
    """The range of every innermost module's output on the images (calibration), in the order of the computation."""
    found: dict[str, tuple[str, float, float]] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: Any, output: Tensor) -> None:
            low, high = float(output.min()), float(output.max())
            _, least, most = found.get(name, ("", low, high))
            found[name] = type(module).__name__, min(low, least), max(high, most)

        return hook

    leaves = [(name, module) for name, module in network.named_modules() if name and not list(module.children())]
    handles = [module.register_forward_hook(watch(name)) for name, module in leaves]
    device = next(network.parameters()).device
    try:
        for start in range(0, len(images), AT_ONCE):
            network(torch.from_numpy(images[start : start + AT_ONCE]).to(device))
    finally:
        for handle in handles:
            handle.remove()
    return tuple(Range(name, *values) for name, values in found.items())

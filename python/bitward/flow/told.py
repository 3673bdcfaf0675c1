# SPDX-License-Identifier: Apache-2.0
"""What a stage did, in a few words, for who watches a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console

Result = dict[str, Any]


def say(console: Console, line: str) -> None:
    """The line is on the console as it is: never cut in two where output goes to a file of 80 columns."""
    console.print(line, soft_wrap=True, markup=False, highlight=False)


def told(stage: str, result: Result) -> str:
    """What the stage found, in a few words; "" for a stage that has nothing to tell.

    >>> told("verify", {"images": 360, "equal": 360})
    'RTL gives what QONNX gives on 360 of 360 images, plain and hardened'
    """
    words = WORDS.get(stage)
    return words(result) if words is not None and result else ""


def _train(result: Result) -> str:
    seeds = len(result["seeds"])
    return f"{result['mean']:.2%} of test images right{'' if seeds == 1 else f', mean of {seeds} seeds'}"


def _export(result: Result) -> str:
    return f"models/{result['model']} (QONNX)"


def _harden(result: Result) -> str:
    voted = sorted({scheme["voted"] for scheme in result["schemes"].values()})
    bits = "the top bit" if voted == [1] else f"the top {' or '.join(map(str, voted))} bits"
    biases = f"; biases of {len(result['bias_schemes'])} too" if result["bias_schemes"] else ""
    layers = len(result["schemes"])
    return f"{bits} of weights stored three times and voted, in {layers} layer{'s' if layers > 1 else ''}{biases}"


def _build(result: Result) -> str:
    return f"RTL, memories and simulation model: {' and '.join(result)}"


def _resources(result: Result) -> str:
    counts = [f"{side} {_luts(found)}" for side, found in result.items()]
    return f"LUTs by Yosys, not Vivado: {', '.join(counts)}"


def _luts(found: Any) -> str:
    return f"{found['total']['lut']:,.0f}" if isinstance(found, dict) else str(found)


def _verify(result: Result) -> str:
    return f"RTL gives what QONNX gives on {result['equal']} of {result['images']} images, plain and hardened"


def _measure(result: Result) -> str:
    places = {found["board"] for found in result.values() if isinstance(found, dict)}
    return f"{' and '.join(result)} on {', '.join(sorted(places))}"


def _inject(result: Result) -> str:
    trials = sum(found["faults"] for name, found in result.items() if isinstance(found, dict) and "faults" in found)
    agree = result["agree"]
    places = ", ".join(agree["targets"])
    return f"{trials:,} trials; {places} agree on {agree['equal']} of {agree['compared']} faults"


WORDS: dict[str, Callable[[Result], str]] = {
    "train": _train,
    "export": _export,
    "harden": _harden,
    "build": _build,
    "resources": _resources,
    "verify": _verify,
    "measure": _measure,
    "inject": _inject,
}
"""By stage, the words for what it found."""

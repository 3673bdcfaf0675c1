# SPDX-License-Identifier: Apache-2.0
"""Bit error rates on both builds of a flow of hardware: campaigns on the engine, and what they lost at each rate.

The unit is the fault set, as in software-only flows: a trial hits every stored bit with the rate's probability, and its
value is the accuracy, or the share of changed answers, over one fixed set of images.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bitward.campaign import TrialStore
from bitward.datasets import Dataset
from bitward.explore.evaluate import Rate, measured
from bitward.flow.attack import Place, streamed
from bitward.flow.fortune import indices
from bitward.flow.run import Run
from bitward.flow.spec import SIDES, Side
from bitward.manifest import Manifest
from bitward.metrics import memory_bits
from bitward.statistics import student
from bitward.tools import cores

ALONE_S = 10.0  # a campaign that takes less than this is over before more processes have begun


def campaign_name(side: Side, ber: float) -> str:
    """The folder of a rate's trials.

    >>> campaign_name("plain", 1e-3)
    'ber-0.001-plain'
    """
    return f"ber-{ber:g}-{side}"


def without_faults(place: Place, data: Dataset, images: int, trials: int) -> tuple[int | None, int]:
    """(answers that are right without faults, processes that a campaign of so many trials is worth).

    None where the images have no label each: there is no accuracy then.
    """
    inputs, labels = data.test_images[:images], data.test_labels[:images]
    with place.target() as engine:
        integers = streamed(engine.manifest, inputs)
        started = time.monotonic()
        outputs = engine.infer(integers)
        wall_s = time.monotonic() - started
    right = int((outputs.reshape(len(inputs), -1).argmax(axis=1) == labels).sum()) if data.labelled == "image" else None
    return right, 1 if wall_s * trials < ALONE_S else cores()


def point(folder: Path, ber: float, right: int | None) -> dict[str, Any]:
    """What the campaign in `folder` found of a rate: shares with Student's interval over fault sets."""
    table = TrialStore.load(folder).read()
    images = int(table["images"][0].as_py())
    changed = [images if each is None else each for each in table["top1_changed"].to_pylist()]
    found = measured(folder, Rate(ber), (right or 0) / images).to_dict()
    return {
        "ber": ber,
        "flips": found["flips"],
        "trials": found["trials"],
        "failed": found["failed"],
        "trials_changed": sum(each > 0 for each in changed),
        "drop": None if right is None else found["drop"],
        "changed": asdict(student(np.array(changed) / images, step=1 / images)),
    }


def curves(run: Run, found: Mapping[str, Any], cycles: Mapping[Side, Any]) -> dict[str, Any]:
    """The points of both builds with P_drop and RAP beside them, as `summary.json` holds them.

    The baseline of both overheads is the plain build: its stored bits, and its `cycles` per image.
    """
    manifests = {side: Manifest.load(run.build(side) / "manifest.json") for side in SIDES}
    bits = {side: memory_bits(manifests[side])["total"].stored_bits for side in SIDES}
    timed = all(isinstance(cycles[side], (int, float)) for side in SIDES)
    result: dict[str, Any] = {}
    for side in SIDES:
        memory, slower = bits[side] / bits["plain"], cycles[side] / cycles["plain"] if timed else None
        points = [{**each, **_indices(each, bits[side], memory, slower)} for each in found[side]["points"].values()]
        result[side] = {
            **found[side], "stored_bits": bits[side], "memory": memory, "time": slower,
            "points": {f"{each['ber']:g}": each for each in points},
        }  # fmt: skip
    return result


def _indices(each: Mapping[str, Any], bits: int, memory: float, slower: float | None) -> dict[str, float | None]:
    if each["drop"] is None:
        return {"p_drop": None, "rap": None}
    return indices(bits, each["ber"], each["drop"]["estimate"], memory, slower)

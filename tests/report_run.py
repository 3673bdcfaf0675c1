# SPDX-License-Identifier: Apache-2.0
"""A small run as `bitward run` leaves it: real manifests and trial stores, outcomes drawn with a seed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from bitward.campaign import Trial, TrialStore
from bitward.faults import Fault, every_fault, single_bit_stratified
from bitward.formats import Int
from bitward.manifest import Manifest, Memory
from bitward.schemes import Plain, Tmr

IMAGES = 20
WEIGHTS = {"conv.weight": (6, 4), "fc.weight": (12, 10)}


def manifest(side: str) -> Manifest:
    """Two weight memories, hardened or not, and thresholds that never are."""
    scheme = Tmr(4, 1) if side == "hardened" else Plain(4)
    weights = (Memory(n, n.split(".")[0], n, "weight", shape, Int(4), scheme) for n, shape in WEIGHTS.items())
    thresholds = Memory("conv.threshold", "conv", "conv.T", "threshold", (3, 5), Int(10), Plain(10))
    return Manifest("toy", 0xB17 + (side == "hardened"), "virtual", 200.0, (*weights, thresholds))


def trials(design: Manifest, faults: list[Fault], target: str = "engine", seed: int = 5) -> list[Trial]:
    """Voted bits never change anything, others with a chance that grows with the bit; equal on every target."""
    found = []
    for number, fault in enumerate(faults):
        memory = design.memory(fault.memory)
        at = memory.locate(fault.word, fault.bit)
        key = hashlib.sha256(f"{seed}{memory.role}{at.index}{at.bit}{at.copy}".encode()).digest()
        random = np.random.default_rng(list(key))
        masked = int(at.stored_bit) in memory.scheme.masked_bits
        changed = 0 if masked else int(random.binomial(IMAGES, (int(at.bit) + 1) / 40))
        top1 = int(random.binomial(changed, 0.05))
        found.append(
            Trial(
                number, target, fault.memory, memory.layer, memory.role, fault.word, fault.bit, int(at.index),
                int(at.replica), int(at.stored_bit), int(at.copy), int(at.bit), IMAGES, changed, top1,
                IMAGES - 1 - top1, key.hex() if changed else "same",
            )
        )  # fmt: skip
    return found


def voted_faults(design: Manifest) -> list[Fault]:
    """Every fault in the top bit of a weight, and in its copies where there are some."""
    return [
        fault
        for memory in design.memories
        if memory.role == "weight"
        for fault in every_fault(design, memory.name, memory.scheme.masked_bits or (3,))
    ]


def store(folder: Path, rows: list[Trial], planned: int | None = None, restored: bool = True) -> None:
    """The trials lie in `folder`; the campaign has ended unless more were planned."""
    spec = {"faults": planned or len(rows), "design": folder.name}
    with TrialStore.open(folder, spec) as trial_store:
        trial_store.append(rows)
        if planned is None:
            trial_store.set_result({"restored_golden": restored})


def campaigns() -> dict[str, list[Trial]]:
    """What each campaign of a whole run found."""
    found = {}
    for side in ("plain", "hardened"):
        design = manifest(side)
        found[f"msb-{side}"] = trials(design, voted_faults(design), "rtl")
        found[f"strata-{side}"] = trials(design, single_bit_stratified(design, 20, seed=1))
    hardened = manifest("hardened")
    faults = single_bit_stratified(hardened, 2, seed=2)
    return found | {f"agree-{on}": trials(hardened, faults, on) for on in ("engine", "rtl", "board")}


def summary(found: dict[str, list[Trial]]) -> dict:
    """What flow.summary would say of it."""
    changed = {side: sum(t.outputs_changed > 0 for t in found[f"msb-{side}"]) for side in ("plain", "hardened")}
    return {
        "flow": "toy", "network": "toy_cnn", "dataset": "digits", "accuracy": 0.9725, "accuracy_seeds": [0.97, 0.98],
        "images": 360, "rtl_equal_images": 360, "clk_mhz": 200.0, "git": "0123456789ab",
        "steady_cycles_per_image": {"plain": 199.0, "hardened": 199.0},
        "latency_cycles": {"plain": 541, "hardened": 543},
        "weight_memory_bits": {"plain": 576, "hardened": 864, "int8": 1152},
        "msb_faults": {
            "injected": len(found["msb-hardened"]), "injected_plain": len(found["msb-plain"]),
            "changed_plain": changed["plain"], "changed_hardened": changed["hardened"],
        },
        "targets_agree": {"compared": len(found["agree-rtl"]), "equal": len(found["agree-rtl"])},
        "restored_golden": True, "wall_s": {"train": 12.5, "inject": 3.25}, "seeds": {"train": [0, 1], "inject": 1},
        "resources": {
            side: {
                "tool": "Yosys 0.70, out of context, not Vivado", "total": {"lut": lut, "ff": 900, "bram36": 2.5},
                "instances": {"conv": {"voter": {"lut": lut - 1000}}, "pool": {"voter": None}}, "wall_s": 1.0,
            }
            for side, lut in (("plain", 1000), ("hardened", 1010))
        },
        "versions": {"bitward": "0.1.0"}, "simulated": ["The board is virtual."],
        "board": {"kind": "virtual", "name": "virtual KV260", "part": "xck26", "is_simulated": True},
        "negative_controls": {"wrong_index_map": "fails as it must"},
    }  # fmt: skip


def write_run(folder: Path) -> dict[str, list[Trial]]:
    """`folder` is a whole run; returns what its campaigns found."""
    found = campaigns()
    for side in ("plain", "hardened"):
        build = folder / "build" / side
        build.mkdir(parents=True)
        manifest(side).save(build / "manifest.json")
        (build / "build.json").write_text("{}")
    for name, rows in found.items():
        store(folder / "campaigns" / name, rows)
    (folder / "summary.json").write_text(json.dumps(summary(found)))
    return found

# SPDX-License-Identifier: Apache-2.0
"""A target small enough to be understood at a glance: two dense layers in numpy.

`python toy_target.py STORE WORKERS DELAY_S` runs the toy campaign, for tests that kill it. `python toy_target.py serve
STORE TRIALS DELAY_S` runs it in a fork for each line on its input: it prints the fork's process and, at its end, how
it ended. Python starts once, so that hundreds can be killed in seconds.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

from bitward.campaign import Campaign, TrialStore, run_campaign, session
from bitward.errors import BoardError
from bitward.faults import Ber, Fault, single_bit_stratified
from bitward.formats import Int
from bitward.manifest import Hardware, Manifest, Memory, mvau_axes, radix
from bitward.schemes import Plain, Tmr
from bitward.targets import Target

SHAPE = (6, 4)
WORD_AXES, LANE_AXES = mvau_axes(radix(SHAPE, (1,)), radix(SHAPE, (0,)), pe=2, simd=2)
MANIFEST = Manifest(
    design="toy",
    design_id=0xB17,
    board="virtual",
    clk_mhz=200.0,
    memories=(
        Memory("first", "fc1", "fc1.weight", "weight", SHAPE, Int(4), Plain(4), Hardware(
            depth=6, width=16, lanes=4, ram_style="block", base=0x1000, word_stride=4,
            word_axes=WORD_AXES, lane_axes=LANE_AXES, flush_images=0,
        )),
        Memory("second", "fc2", "fc2.weight", "weight", (4, 3), Int(4), Tmr(4, 1)),
    ),
)  # fmt: skip
RANDOM = np.random.default_rng(7)
GOLDEN = {m.name: m.image(RANDOM.integers(0, 16, m.shape, dtype=np.uint8)) for m in MANIFEST.memories}
IMAGES = RANDOM.integers(0, 16, (5, 6))
FAULTS = single_bit_stratified(MANIFEST, per_stratum=5, seed=3)


def compute(memories: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """The toy network's outputs, shape (n, 3)."""
    first, second = (MANIFEST.memory(name).values(memories[name])[0].astype(np.int64) for name in ("first", "second"))
    return np.maximum(images @ first, 0) @ second


def stumbles(fault: Fault) -> bool:
    """Whether this fault brings a target that "stumbles" down."""
    return fault.memory == "second" and int(MANIFEST.memory("second").locate(fault.word, fault.bit).stored_bit) == 0


class ToyTarget(Target):
    """The toy network, and ways to break it.

    `broken`: "wrong outputs"; "differs" by process; "sticky", a fault stays; "dies" in `second` and never opens again;
    "stumbles" in `second`, where stored bit 0 is hit: it raises, and needs to be opened anew; "hangs" there; is "deaf"
    there, in a call into C that no signal ends.
    """

    manifest = MANIFEST
    is_dead = False  # of the process

    def __init__(self, delay_s: float = 0.0, broken: str = "", leftover: Fault | None = None) -> None:
        self.delay_s, self.broken, self.leftover = delay_s, broken, leftover
        self.memories: dict[str, np.ndarray] = {}
        self.is_down = False

    def open(self) -> None:
        if ToyTarget.is_dead:
            raise BoardError("the board must answer, got nothing: switch it on")
        self.memories = {name: image.copy() for name, image in GOLDEN.items()}
        if self.leftover:
            super().inject(self.leftover)

    def close(self) -> None:
        self.memories = {}

    def golden(self, memory: str, word: int) -> int:
        return int(GOLDEN[memory][word, 0])

    def read(self, memory: str, word: int) -> int:
        return int(self.memories[memory][word, 0])

    def write(self, memory: str, word: int, value: int) -> None:
        self.memories[memory][word, 0] = value

    def inject(self, fault: Fault) -> None:
        super().inject(fault)
        if self.broken == "dies" and fault.memory == "second":
            ToyTarget.is_dead = True
        if self.broken in ("stumbles", "hangs", "deaf") and stumbles(fault):
            self.is_down = True

    def restore(self, fault: Fault) -> None:
        if not (self.broken == "sticky" and fault == FAULTS[4]):
            super().restore(fault)

    def infer(self, images: np.ndarray) -> np.ndarray:
        time.sleep(self.delay_s if not (self.is_down and self.broken == "hangs") else 60)
        if self.is_down and self.broken == "deaf":
            hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
        if self.is_down or ToyTarget.is_dead:
            raise BoardError("the board must answer, got nothing: switch it on")
        wrong = {"wrong outputs": 1, "differs": os.getpid()}.get(self.broken, 0)
        return compute(self.memories, images) + wrong


def campaign(**changes: object) -> Campaign:
    """The toy campaign: `Campaign` with what is given changed."""
    given = {"target": "toy", "manifest": MANIFEST, "golden": GOLDEN, "faults": FAULTS, "images": IMAGES}
    return Campaign(**{**given, "parameters": {"seed": 3}, **changes})


def main(directory: str, workers: str, delay_s: str) -> None:
    toy = campaign()
    with TrialStore.open(Path(directory), toy.spec()) as store:
        run_campaign(toy, partial(ToyTarget, float(delay_s)), store, workers=int(workers), part_trials=3, part_s=0.2)


def long_campaign(trials: int) -> Campaign:
    """A campaign of any length: several bits a trial, drawn without end."""
    return campaign(faults=Ber(MANIFEST, 5, ber=0.02), trials=trials)


def serve(directory: str, trials: str, delay_s: str) -> None:
    ToyTarget.chunk_trials = session.SEND_TRIALS = 10
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                toy = long_campaign(int(trials))
                with TrialStore.open(Path(directory), toy.spec()) as store:
                    run_campaign(toy, partial(ToyTarget, float(delay_s)), store, part_trials=10)
                code = 0
            finally:
                os._exit(code)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        main(*sys.argv[1:])

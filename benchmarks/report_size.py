# SPDX-License-Identifier: Apache-2.0
"""The report of a run with 100,000 trials: seconds to write, size, and time until a browser has opened it.

    python benchmarks/report_size.py runs/digits --trials 100000 --json runs/report_size.json

Designs, summary and builds are those of the RUN given; its campaigns are left out and others made in a folder beside
the JSON: the store's own format and parts, with faults drawn as campaigns draw them, but SYNTHETIC VERDICTS, drawn with
a seed. What the report says of these trials means nothing; how large it is and how long it takes does. Half of the
trials go into each build: single bits, stratified, as many as there are; the rest are of a bit error rate.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bitward.campaign import Trial, TrialStore
from bitward.errors import ToolError
from bitward.faults import Fault, single_bit_stratified
from bitward.manifest import Manifest
from bitward.report import write_report
from bitward.tools import atomic_write, find_tool, output_directory, run

SIDES = ("plain", "hardened")
IMAGES, PART, SEED = 64, 1000, 1
PROBE = """<body><iframe src="{page}" style="width:1280px;height:900px"></iframe><script>
onload = () => {{
  const at = document.querySelector("iframe").contentWindow.performance.timing;
  document.body.textContent = JSON.stringify({{ open_ms: at.loadEventEnd - at.navigationStart }});
}};
</script>"""


def single_trials(design: Manifest, most: int) -> list[Trial]:
    """One trial for each of about `most` stratified faults, with synthetic verdicts."""
    per_stratum = math.ceil(most / sum(len(memory.strata) for memory in design.memories))
    faults = single_bit_stratified(design, per_stratum, SEED)
    while len(faults) < min(most, design.population):
        per_stratum *= 2
        faults = single_bit_stratified(design, per_stratum, SEED)
    random = np.random.default_rng(SEED)
    chosen = sorted(random.choice(len(faults), min(most, len(faults)), replace=False))
    return list(_trials(design, [faults[at] for at in chosen], random))


def _trials(design: Manifest, faults: Sequence[Fault], random: np.random.Generator) -> Iterator[Trial]:
    for number, fault in enumerate(faults):
        memory = design.memory(fault.memory)
        at = memory.locate(fault.word, fault.bit)
        masked = int(at.stored_bit) in memory.scheme.masked_bits
        changed = 0 if masked else int(random.binomial(IMAGES, 0.3))
        top1 = int(random.binomial(changed, 0.05))
        yield Trial(
            number, "engine", fault.memory, memory.layer, memory.role, fault.word, fault.bit, int(at.index),
            int(at.replica), int(at.stored_bit), int(at.copy), int(at.bit), IMAGES, changed, top1, IMAGES - 1 - top1,
            f"{number:064x}",
        )  # fmt: skip


def several_trials(count: int) -> list[Trial]:
    """So many trials of several bits each, with synthetic verdicts."""
    random = np.random.default_rng(SEED)
    nowhere = (None,) * 10  # from the memory to the bit of the parameter
    drawn = zip(random.binomial(IMAGES, 0.5, count), random.poisson(12, count), strict=True)
    return [
        Trial(
            number, "engine", *nowhere, IMAGES, int(changed), int(changed) // 4, IMAGES - 1 - int(changed) // 4,
            f"{number:064x}", flips=int(flips),
        )
        for number, (changed, flips) in enumerate(drawn)
    ]  # fmt: skip


def keep(folder: Path, trials: Sequence[Trial], model: str) -> None:
    """The trials are in a store at `folder`, in parts as campaigns leave them, and the campaign has ended."""
    spec = {"faults": len(trials), "model": {"model": model, "seed": SEED}, "verdicts": "synthetic"}
    with TrialStore.open(folder, spec) as store:
        for first in range(0, len(trials), PART):
            store.append(trials[first : first + PART])
        store.set_result({"restored_golden": True, "trials": len(trials), "ended": "all trials done", "interval": None})


def synthetic_run(source: Path, folder: Path, trials: int) -> int:
    """`folder` is a run with so many trials, at least, on the designs of `source`; how many there are."""
    shutil.rmtree(folder, ignore_errors=True)
    output_directory(folder)
    shutil.copy(source / "summary.json", folder)
    written = 0
    for side in SIDES:
        shutil.copytree(source / "build" / side, folder / "build" / side, ignore=shutil.ignore_patterns("sim", "rtl"))
        most = trials // len(SIDES)
        single = single_trials(Manifest.load(source / "build" / side / "manifest.json"), most)
        keep(folder / "campaigns" / f"strata-{side}", single, "single")
        if len(single) < most:
            keep(folder / "campaigns" / f"model-{side}", several_trials(most - len(single)), "ber")
        written += most
    return written


def opened_ms(page: Path, folder: Path, times: int) -> list[float]:
    """Milliseconds from the beginning of the navigation to the end of the load event, in fresh headless browsers."""
    if not times:
        return []
    path = find_tool("chromium")
    if path is None:
        raise ToolError("chromium must be on PATH to open the page, got none: apt-get install chromium, or --times 0")
    probe = folder / "probe.html"
    atomic_write(probe, PROBE.format(page=page.resolve().as_uri()))
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    found = []
    for _ in range(times):
        command = [path, *options, f"--user-data-dir={folder / 'browser'}", "--dump-dom", probe.resolve().as_uri()]
        text = run(command, timeout_s=120).stdout
        found.append(float(json.loads(re.search(r"\{[^{}]*\}", text[text.index("<body") :])[0])["open_ms"]))  # type: ignore[index]
    shutil.rmtree(folder / "browser", ignore_errors=True)
    return found


def measured(source: Path, folder: Path, trials: int, times: int) -> dict[str, Any]:
    """Seconds to write, bytes, milliseconds to open (the median of so many times)."""
    count = synthetic_run(source, folder, trials)
    seconds = []
    for _ in range(max(1, times)):
        started = time.monotonic()
        page = write_report(folder)
        seconds.append(time.monotonic() - started)
    opened = opened_ms(page, folder, times)
    return {
        "run": str(source),
        "trials": count,
        "verdicts": "synthetic",
        "write_s": round(statistics.median(seconds), 2),
        "html_bytes": page.stat().st_size,
        "open_ms": statistics.median(opened) if opened else "not measured",
        "opened_ms": opened,
    }


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder, with both builds")
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=5, help="how often the page is written and opened; 0: not opened")
    parser.add_argument("--json", type=Path, default=Path("runs/report_size.json"))
    told = parser.parse_args()
    found = measured(told.run, output_directory(told.json.parent) / told.json.stem, told.trials, told.times)
    atomic_write(told.json, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

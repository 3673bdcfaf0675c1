# SPDX-License-Identifier: Apache-2.0
"""The benchmark of single faults runs, and bitward's verdicts are those of the naive loop in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("case", ["small-fp32-layers", "small-int8-uniform"])
def test_a_case_leaves_its_ratios_and_verdict_differences(case, tmp_path):
    script, result = ROOT / "benchmarks" / "fault_injection.py", tmp_path / "case.json"
    options = ["--case", case, "--faults", "40", "--images", "8", "--no-peers", "--json", str(result)]
    subprocess.run([sys.executable, "-W", "ignore", script, *options], check=True, capture_output=True)
    found = json.loads(result.read_text())
    assert found["faults"] == 40 and found["model"] == "random"
    assert set(found["faults_with_other_verdicts"].values()) == {0}
    for each in found["share"].values():
        assert each["low"] <= each["estimate"] <= each["high"]
    assert found["ratios_to_naive"].keys() == {"naive loop", "bitward, exact", "bitward, screened with audit"}
    printed = subprocess.run([sys.executable, script, "--table", result], check=True, capture_output=True, text=True)
    assert f"`{case}` (random)" in printed.stdout and "x, 0 differ" in printed.stdout

# SPDX-License-Identifier: Apache-2.0
"""Every command in README.md works as it stands there; what takes long is run by the shared runs or marked slow."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from shared_runs import ROOT, SHARED_RUNS, turn

from bitward.cli import main
from bitward.cli._main import root
from bitward.datasets import load_dataset

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BITWARD = ".venv/bin/bitward"
# Commands that another test runs in full, by the words that tell them apart.
RUN_ELSEWHERE = {
    "make demo": "test_make_demo_is_the_shared_run",
    "make test": "test_make_targets_are_what_the_readme_says",
    "make bitstream BOARD=virtual": "test_make_bitstream_leaves_an_overlay_that_loads",
    "make bitstream BOARD=kv260": "test_make_bitstream_for_a_kv260_runs_vivado",
    f"{BITWARD} doctor": "test_doctor_passes_here",
    f"{BITWARD} run flows/digits.yaml": "digits_run",
    f"{BITWARD} run flows/digits-mlp.yaml": "mlp_run",
    f"{BITWARD} inject flows/digits.yaml --on rtl": "test_inject_by_hand",
    f"{BITWARD} trials runs/digits/campaigns/strata-plain": "test_trials_by_hand",
    f"{BITWARD} report runs/digits": "test_report_by_hand",
}


def commands() -> list[str]:
    """The command lines of all ```sh blocks, comments removed."""
    blocks = re.findall(r"^```sh\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
    lines = [line.split("  #")[0].split(" # ")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


STEPS = [command for command in commands() if command not in RUN_ELSEWHERE]


def test_the_readme_has_commands():
    assert {"make demo", "make test"} <= set(commands())


def test_every_command_that_is_run_elsewhere_is_in_the_readme():
    assert set(RUN_ELSEWHERE) <= set(commands())


@pytest.mark.parametrize("line", commands())
def test_a_command_is_spelled_as_the_program_spells_it(line):
    words = shlex.split(line)
    if words[0] == "make":
        done = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return
    assert words[0] == BITWARD
    command = root.get_command(click.Context(root), words[1])
    assert command is not None
    command.make_context(words[1], words[2:])  # a usage error for an option or argument that is not there


def recipe(target: str, *variables: str) -> str:
    """The last line that make would run."""
    command = ["make", target, *variables, "--dry-run"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()[-1]


def test_make_targets_are_what_the_readme_says():
    assert recipe("test") == ".venv/bin/python -m pytest -n auto --dist loadfile"
    kv260 = f"{BITWARD} bitstream flows/digits.yaml --board kv260"
    assert recipe("bitstream", "BOARD=kv260") == kv260
    assert recipe("bitstream", "BOARD=kv260", "CLK_MHZ=300") == f"{kv260} --clk-mhz 300"


def test_make_demo_is_the_shared_run(digits_run):
    assert recipe("demo") == f"{BITWARD} run {digits_run.flow.relative_to(ROOT)}"
    assert (digits_run.folder / "report.html").is_file() and (digits_run.folder / "summary.json").is_file()


def test_doctor_passes_here(capsys):
    assert main(["doctor"]) == 0, capsys.readouterr().out


def test_report_by_hand(digits_run, tmp_path, capsys):
    assert main(["report", str(digits_run.folder), "--out", str(tmp_path / "report.html")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_trials_by_hand(digits_run, capsys):
    assert main(["trials", str(digits_run.folder / "campaigns" / "strata-plain")]) == 0
    assert "conv1" in capsys.readouterr().out


def test_inject_by_hand(digits_run, capsys):
    short = ["--per-stratum", "1", "--images", "1", "--restart", "--runs", str(SHARED_RUNS)]
    with turn("digits"):
        assert main(["inject", str(digits_run.flow), "--on", "rtl", *short]) == 0
    assert "memories restored: yes" in capsys.readouterr().out


def test_make_bitstream_leaves_an_overlay_that_loads(mlp_run, tmp_path, capsys):
    """The command behind it, on the smaller network; the folder is what `emulate` and `infer --on board` take."""
    shutil.copytree(mlp_run.folder, tmp_path / "digits-mlp", ignore=shutil.ignore_patterns("campaigns"))
    assert recipe("bitstream", "BOARD=virtual") == f"{BITWARD} bitstream flows/digits.yaml --board virtual"
    assert main(["bitstream", str(mlp_run.flow), "--board", "virtual", "--runs", str(tmp_path)]) == 0
    bit = Path(capsys.readouterr().out.splitlines()[-1])
    assert bit.suffix == ".bit" and bit.with_suffix(".hwh").is_file()
    np.save(tmp_path / "in.npy", load_dataset("digits").test_images[:3])
    given = [str(bit.parent.parent), str(tmp_path / "in.npy"), str(tmp_path / "out.npy"), "--on", "board"]
    assert main(["infer", *given]) == 0
    assert np.load(tmp_path / "out.npy").shape == (3, 10)


def test_python_in_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL):
        exec(block, {})
    assert np.load("inputs.npy").shape == (16, 1, 8, 8)


@pytest.mark.slow
def test_the_steps_by_hand_run_one_after_the_other(tmp_path):
    """From the checkout's root, as far as the commands can tell; nothing is written into the checkout itself."""
    for name in ("onnx_models", "flows", "tests", ".venv"):
        (tmp_path / name).symlink_to(ROOT / name)
    np.save(tmp_path / "inputs.npy", load_dataset("digits").test_images[:8])
    for step in STEPS:
        words = [sys.executable, "-m", "bitward", *shlex.split(step)[1:]]
        if words[3] == "emulate":
            with subprocess.Popen([*words, "--port", "0"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
                assert "simulated" in process.stdout.readline()
                process.send_signal(signal.SIGINT)
            assert process.returncode == 0
        else:
            done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, f"{step}\n{done.stderr}"
    assert np.load(tmp_path / "outputs.npy").shape == (8, 10)

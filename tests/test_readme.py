# SPDX-License-Identifier: Apache-2.0
"""Every command in README.md and the documentation works as it stands there; what takes long is run by the shared runs
or marked slow. Which test runs what stands in documented.py.
"""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import click
import documented
import numpy as np
import pytest
from documented import BITWARD, NOT_RUN, RUN_ELSEWHERE, STEP_PAGES, Line, lines, source_of_test, steps, targets
from shared_runs import ROOT, SHARED_RUNS, turn

from bitward.cli import main
from bitward.cli._main import root
from bitward.datasets import load_dataset

TYPED = [*lines("sh"), *lines("console")]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _name(line: Line) -> str:
    return f"{line.page.stem}: {line.text}"


def test_the_readme_has_commands():
    assert {"make demo", "make test"} <= {line.text for line in TYPED if line.page_name == "README.md"}


def test_the_readme_is_a_front_page():
    assert len(README.splitlines()) <= 120


def test_nothing_is_run_for_a_page_that_no_longer_has_it():
    assert {*RUN_ELSEWHERE, *NOT_RUN} <= {line.text for line in TYPED}


def test_every_line_in_a_block_is_run_or_says_why_not():
    known = {*RUN_ELSEWHERE, *NOT_RUN, *(step for page in STEP_PAGES for step in steps(page))}
    assert [_name(line) for line in TYPED if line.text not in known] == []


@pytest.mark.parametrize("command", RUN_ELSEWHERE)
def test_the_test_that_runs_a_command_is_there_and_is_about_it(command):
    """The test names the subcommand, make's target or the program; of `run`, the fixture of the flow's shared run."""
    source = source_of_test(RUN_ELSEWHERE[command])
    assert source, RUN_ELSEWHERE[command]
    words = shlex.split(command)
    subject = "bitward_board" if "bitward_board" in command else words[0] if words[0] == "bitward-serve" else words[1]
    evidence = {
        "run": r"digits_run|mlp_run|\"run\"", "bitward_board": "board", "bitward-serve": "SERVES", "test": r"\"test\"",
        "import": "import", "check": "check", "bitward": subject,
    }.get(subject, subject)  # fmt: skip
    assert re.search(evidence, source)


@pytest.mark.parametrize("line", [line for line in TYPED if line.text not in NOT_RUN], ids=_name)
def test_a_command_is_spelled_as_the_program_spells_it(line):
    words = shlex.split(line.text)
    if words[0] == "make":
        done = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    elif words[0] == BITWARD:
        command = root.get_command(click.Context(root), words[1])
        assert command is not None
        command.make_context(words[1], words[2:])  # a usage error for an option or argument that is not there
    else:
        assert line.text in RUN_ELSEWHERE


@pytest.mark.parametrize("line", lines("help"), ids=_name)
def test_an_example_behind_help_is_spelled_as_the_program_spells_it(line):
    words = shlex.split(line.text)
    documented.commands()[words[1]].make_context(words[1], words[2:])


@pytest.mark.parametrize("line", lines("sentence"), ids=_name)
def test_a_command_in_a_sentence_is_spelled_as_the_program_spells_it(line):
    words = shlex.split(line.text.removeprefix(".venv/bin/"))
    if words[0] == "make":
        assert words[1] in targets()
        return
    if words[1].isupper():
        return  # bitward COMMAND --help
    command = documented.commands().get(words[1])
    assert command is not None, f"there is no bitward {words[1]}"
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)} | {"--help", "-h"}
    assert {word.split("=")[0] for word in words[2:] if word.startswith("-")} <= known


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


def test_watch_by_hand(digits_run, capsys):
    assert main(["watch", str(digits_run.folder), "--once"]) == 0
    assert "strata-plain" in capsys.readouterr().out


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


@pytest.mark.slow
@pytest.mark.parametrize("page", STEP_PAGES)
def test_the_steps_by_hand_run_one_after_the_other(page, tmp_path):
    """From the checkout's root, as far as the commands can tell; nothing is written into the checkout itself."""
    for name in ("onnx_models", "flows", "tests", ".venv"):
        (tmp_path / name).symlink_to(ROOT / name)
    np.save(tmp_path / "inputs.npy", load_dataset("digits").test_images[:8])
    for step in steps(page):
        words = [sys.executable, "-m", "bitward", *shlex.split(step)[1:]]
        if words[3] == "emulate":
            with subprocess.Popen([*words, "--port", "0"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
                assert "simulated" in process.stdout.readline()
                process.send_signal(signal.SIGINT)
            assert process.returncode == 0
        else:
            done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, f"{step}\n{done.stderr}"
    if page == "docs/guide/steps.md":
        assert np.load(tmp_path / "outputs.npy").shape == (8, 10)

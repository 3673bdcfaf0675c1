# SPDX-License-Identifier: Apache-2.0
"""The root command: quick, lazy, one sentence for every error, the right exit code."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from types import SimpleNamespace

import click
import pytest

from bitward import doctor, tools
from bitward.cli import _main, main
from bitward.errors import BoardError
from bitward.hardware import boards

COMMAND = [sys.executable, "-m", "bitward"]
HEAVY = {"torch", "finn", "qonnx", "onnx", "brevitas", "pyarrow", "sklearn", "scipy", "pandas", "grpc"}


@pytest.fixture
def failing(monkeypatch):
    """`failing(error)` makes `bitward doctor` raise that error."""

    def make(error: BaseException) -> None:
        @click.command()
        def command() -> None:
            raise error

        monkeypatch.setattr(import_module("bitward.cli.doctor"), "command", command)

    return make


def test_help_imports_nothing_heavy_and_lists_every_command():
    script = "import sys; from bitward.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    tops = {name.split(".")[0] for name in done.stderr.split()}
    assert not tops & HEAVY
    for name in _main.root.list_commands(None):
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize("name", _main.root.list_commands(None))
def test_every_command_has_a_summary_and_documents_its_options(name):
    command = _main.root.get_command(click.Context(_main.root), name)
    assert _main._summary(name).endswith(".")
    assert _main._constant(name, "SECTION") in _main.SECTIONS, "or bitward --help leaves the command out"
    commands = [command, *(command.commands.values() if isinstance(command, click.Group) else ())]
    for each in commands:
        assert each.help, f"{each.name} must say what it does"
        undocumented = [p.name for p in each.params if isinstance(p, click.Option) and not p.hidden and not p.help]
        assert undocumented == []


def test_version_is_the_packages(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("bitward 0.")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["docter"], "the command must be one of bitward's, got docter: did you mean doctor?"),
        (["zzz"], "the command must be one of bitward's, got zzz: bitward --help lists them"),
        (["doctor", "--prot", "1"], "No such option"),
        (["doctor", "--port", "70000"], "Invalid value for '--port'"),
        (["infer", "build", "in.npy", "out.npy", "--port", "0"], "Invalid value for '--port'"),
        (["infer", "build", "in.npy", "out.npy", "--port", "70000"], "Invalid value for '--port'"),
    ],
)
def test_wrong_usage_is_exit_2_with_a_suggestion(capsys, given, sentence):
    assert main(given) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    "given", [["docter"], ["doctor", "--prot", "1"], ["run"], ["build", "x.onnx"], ["data", "a", "b"]]
)
def test_wrong_usage_is_one_sentence_that_says_where_more_stands(capsys, given):
    assert main(given) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("bitward: ") and err.endswith("--help says more)\n") and err.count("\n") == 1


def test_without_a_command_there_is_help_and_an_option_is_no_command(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert "Usage: bitward" in out + err and "First steps:" in out + err
    assert main(["--", "-x"]) == 2
    assert "No such option '-x'" in capsys.readouterr().err


def test_help_is_a_word_too(capsys):
    assert main(["help"]) == 0
    listed = capsys.readouterr().out
    assert "First steps:" in listed and all(f"{section}:" in listed for section in _main.SECTIONS)
    assert main(["help", "scrub"]) == 0
    helped = capsys.readouterr().out
    assert main(["scrub", "--help"]) == 0
    assert helped == capsys.readouterr().out and "Usage: bitward scrub" in helped
    assert main(["help", "srcub"]) == 2
    assert "did you mean scrub or run?" in capsys.readouterr().err


@pytest.mark.parametrize("name", _main.root.list_commands(None))
def test_examples_in_the_help_are_spelled_as_the_program_does(name):
    command = _main.root.get_command(click.Context(_main.root), name)
    lines = [line.strip() for line in command.help.splitlines() if line.strip().startswith("bitward ")]
    assert lines or name == "doctor"
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    for line in lines:
        words = shlex.split(line)
        assert words[1] == name
        assert {word for word in words if word.startswith("--")} <= known


def test_no_help_says_integer_range(capsys):
    for name in _main.root.list_commands(None):
        assert main([name, "--help"]) == 0
    said = capsys.readouterr().out
    assert "RANGE" not in said and "INTEGER" not in said and "--voted N" in said and "--ber X" in said


def test_options_stand_under_titles_where_they_are_many(capsys):
    assert main(["inject", "--help"]) == 0
    said = capsys.readouterr().out
    at = [said.index(f"\n{title}:\n") for title in ("Options", "Which faults", "How many, and when to stop", "Board")]
    assert at == sorted(at)
    assert said.index("--ber X") > at[1] and said.index("--tls-ca") > at[3] > said.index("--margin X") > at[2]


def test_a_table_that_goes_to_a_file_is_not_cut(capsys, monkeypatch):
    @click.command()
    def command() -> None:
        _main.session().console.print("a_name_" * 30)

    monkeypatch.setattr(import_module("bitward.cli.doctor"), "command", command)
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == "a_name_" * 30 + "\n"


ERRORS = [
    (BoardError("127.0.0.1:7967 must answer, got nothing: start bitward emulate"), "127.0.0.1:7967 must answer, got"),
    (
        OSError(errno.ENOSPC, "No space left on device", "runs/x"),
        "runs/x must be on a disk with space left, got No space",
    ),
    (OSError(errno.EROFS, "Read-only file system", "runs/x"), "runs/x must be writable, got Read-only file system: "),
    (PermissionError(errno.EACCES, "Permission denied", "runs/x"), "runs/x must be accessible to you, got Permission"),
    (ZeroDivisionError("division by zero"), "internal error, ZeroDivisionError: division by zero (a bug in bitward: "),
]


@pytest.mark.parametrize(("error", "sentence"), ERRORS, ids=lambda value: type(value).__name__)
def test_an_error_is_one_sentence_and_exit_1(capsys, failing, error, sentence):
    failing(error)
    assert main(["doctor"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"bitward: {sentence}")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("given", [["--debug", "doctor"], ["doctor", "--debug"]])
def test_debug_shows_the_traceback(capsys, failing, given):
    failing(BoardError("no board"))
    assert main(given) == 1
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert err.splitlines()[-1] == "bitward: no board"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_is_exit_130(capsys, failing, error):
    failing(error)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "bitward: interrupted\n"


def test_debug_shows_where_an_interrupt_came(capsys, failing):
    failing(KeyboardInterrupt())
    assert main(["doctor", "--debug"]) == 130
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err and "in command" in err
    assert err.endswith("KeyboardInterrupt\nbitward: interrupted\n")


def test_ctrl_c_reaches_a_running_command():
    script = (
        "import sys, time, click\nfrom bitward.cli import main, doctor\n"
        "@click.command()\ndef slow():\n    print('on', flush=True); time.sleep(60)\n"
        "doctor.command = slow\nsys.exit(main(['doctor']))"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b"bitward: interrupted\n"
    assert process.returncode == 130


def test_quiet_silences_progress_and_not_results(monkeypatch, capsys):
    @click.command()
    def command() -> None:
        _main.session().console.print("working")
        click.echo("result")

    monkeypatch.setattr(import_module("bitward.cli.doctor"), "command", command)
    assert main(["--quiet", "doctor"]) == 0
    assert capsys.readouterr().out == "result\n"


def test_a_reader_that_leaves_is_no_error():
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m bitward doctor | head -1"], capture_output=True, text=True, check=True
    )
    assert "PASS" in done.stdout
    assert done.stderr == ""


@pytest.fixture
def machine(monkeypatch):
    """A machine on which every check passes, with `machine(name, finding)` to change one."""
    ok = [doctor.Finding("Python 3.11", "PASS", "3.11.7", "runs bitward"), doctor.Finding("Disk", "PASS", "9 GB", "x")]
    monkeypatch.setattr(doctor, "examine", lambda host, port: iter(ok))
    return ok


def test_doctor_numbers_its_lines_and_passes(machine, capsys):
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        " 1. PASS  Python 3.11: 3.11.7 (runs bitward)",
        " 2. PASS  Disk: 9 GB (x)",
        "This machine can run make demo.",
    ]


def test_doctor_says_what_to_do_and_fails_for_what_is_needed(machine, capsys):
    machine.append(doctor.Finding("make", "FAIL", "not found", "builds", "install make"))
    machine.append(doctor.Finding("Vivado", "SKIP", "not found", "bitstreams", "install Vivado"))
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert " 3. FAIL  make: not found (builds)\n          -> install make\n" in out
    assert " 4. SKIP  Vivado: not found (bitstreams)\n          -> install Vivado\n" in out
    assert out.endswith("This machine lacks: make.\n")


def test_doctor_speaks_json(machine, capsys):
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert report["findings"][0] == {
        "name": "Python 3.11", "status": "PASS", "found": "3.11.7", "purpose": "runs bitward", "advice": ""
    }  # fmt: skip


def test_this_machine_has_what_the_tests_need():
    """The real checks, those of optional tools aside."""
    findings = {finding.name: finding for finding in doctor.examine()}
    for name in ("Python 3.11", "C++ compiler", "make", "Verilator", "Yosys", "FINN+", "Training", "Campaigns"):
        assert findings[name].status == "PASS", findings[name]
    assert all(finding.advice for finding in findings.values() if finding.status != "PASS")
    assert findings["Board"].status == "SKIP"


def test_vivado_is_found_on_path_and_its_version_told(fake_tool):
    fake_tool("vivado", "echo 'vivado v2024.2 (64-bit)'")
    findings = {finding.name: finding for finding in doctor.examine()}
    assert (findings["Vivado"].status, findings["Vivado"].found) == ("PASS", "vivado v2024.2 (64-bit)")


def test_a_machine_with_nothing_on_path_fails_what_is_needed_and_skips_the_rest(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    findings = {finding.name: finding for finding in doctor.examine()}
    assert {findings[name].status for name in ("C++ compiler", "make")} == {"FAIL"}
    assert {findings[name].status for name in ("git", "Vivado", "GPU", "Chromium", "tclsh")} == {"SKIP"}
    assert findings["C++ compiler"].advice.startswith("install g++")


def test_a_tool_that_does_not_run_is_none(fake_tool):
    broken = {name: fake_tool(name, "echo Segmentation fault >&2; exit 139") for name in ("g++", "git", "nvidia-smi")}
    findings = {finding.name: finding for finding in doctor.examine()}
    found = {name: (findings[name].status, findings[name].found) for name in ("C++ compiler", "git", "GPU")}
    assert found == {
        "C++ compiler": ("FAIL", f"{broken['g++']} does not run"),
        "git": ("SKIP", f"{broken['git']} does not run"),
        "GPU": ("SKIP", "not found"),
    }
    assert findings["C++ compiler"].advice.startswith("install g++")


def test_another_python_and_a_package_that_is_missing_fail_with_what_to_do(monkeypatch):
    other = SimpleNamespace(version_info=(3, 12, 4, "final", 0), version="3.12.4 (main)", prefix="/usr")
    monkeypatch.setattr(doctor, "sys", other)
    monkeypatch.setattr(doctor, "version", lambda name: version(name if name != "scikit-learn" else "no-such-package"))
    findings = {finding.name: finding for finding in doctor.examine()}
    python, training = findings["Python 3.11"], findings["Training"]
    assert (python.status, python.found) == ("FAIL", "3.12.4 in /usr")
    assert python.advice == f"install Python 3.11, then {doctor.SETUP}"
    assert (training.status, training.found) == ("FAIL", "no scikit-learn in this environment")
    assert training.advice == doctor.SETUP and not doctor.is_fit(list(findings.values()))


@pytest.mark.parametrize(("is_set_up", "status"), [(False, "FAIL"), (True, "SKIP")])
def test_a_small_disk_fails_only_before_the_environments_are_made(monkeypatch, is_set_up, status):
    monkeypatch.setattr(doctor, "NEEDED_DISK_GB", 1e9)
    monkeypatch.setattr(tools, "is_set_up", lambda: is_set_up)
    found = doctor._disk()
    assert found.status == status
    assert found.advice.startswith("free some")


def test_clang_alone_is_no_compiler_as_make_setup_wants_gcc(monkeypatch, fake_tool):
    monkeypatch.setenv("PATH", str(fake_tool("clang++").parent))
    assert tools.find_tool("c++") is None


def test_a_board_that_listens_passes_and_one_that_does_not_fails():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert list(doctor.examine("127.0.0.1", port))[-1].status == "PASS"
    gone = list(doctor.examine("127.0.0.1", port))[-1]
    assert (gone.status, gone.found) == ("FAIL", f"127.0.0.1:{port}: {os.strerror(errno.ECONNREFUSED)}")


def completed(words: str, at: int) -> list[str]:
    """What the program itself answers a bash whose user pressed tab in the word `at`."""
    asked = {"_BITWARD_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)}
    done = subprocess.run(COMMAND, env={**os.environ, **asked}, capture_output=True, text=True, check=True)
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_tab_completes_commands_flows_and_options():
    assert completed("bitward in", 1) == ["infer", "inject"]
    assert "digits-mlp" in completed("bitward run digits", 2)
    assert completed("bitward inject digits --sched", 3) == ["--scheduler"]
    assert completed("bitward build model.onnx --board ", 4) == boards.board_names()
    assert completed("bitward build model.onnx --board v", 4) == ["virtual"]


@pytest.mark.parametrize("typed", ["help re", "nosuch re", "-- re"])
def test_a_shell_that_completes_is_told_no_help_and_no_mistake(typed):
    assert completed(f"bitward {typed}", 2) == ["report", "resources"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_line_for_the_shell_is_a_script_for_it(shell):
    asked = {**os.environ, "_BITWARD_COMPLETE": f"{shell}_source"}
    said = subprocess.run(COMMAND, env=asked, capture_output=True, text=True, check=True).stdout
    assert f"_BITWARD_COMPLETE={shell}_complete" in said and "Usage:" not in said

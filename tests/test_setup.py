# SPDX-License-Identifier: Apache-2.0
"""The Makefile and .ci/run, with fake Pythons: what they start, when, and what they say when something is missing."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import tomllib
import yaml

from bitward import tools

FAKE_PYTHON = """#!/bin/sh
echo "$0 $*" >> "{log}"
case "$*" in
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  *"-m pip"*) sleep ${{FAKE_PIP_S:-0}}; exit ${{FAKE_PIP:-0}} ;;
  *"-m pytest"*) echo "1 passed in 0.01s" ;;
esac
"""


class Checkout:
    """A copy of the files that `make setup` reads, with a fake Python that logs what it is asked."""

    def __init__(self, repository: Path, folder: Path) -> None:
        self.folder, self.log = folder, folder / "calls"
        for name in ("Makefile", "pyproject.toml", "setup.py", ".ci"):
            source = repository / name
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / name)
        self.python = folder / "python3.11"
        self.python.write_text(FAKE_PYTHON.format(log=self.log))
        self.python.chmod(self.python.stat().st_mode | stat.S_IXUSR)

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "MAKEFLAGS": "", **env}
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)

    def calls(self) -> list[str]:
        """What the fake Pythons were asked since the last look, paths relative to the checkout."""
        if not self.log.exists():
            return []
        lines = [line.replace(f"{self.folder}/", "") for line in self.log.read_text().splitlines()]
        self.log.unlink()
        return [line for line in lines if " -c " not in line]


@pytest.fixture
def checkout(repository, tmp_path):
    return Checkout(repository, tmp_path)


def test_setup_makes_both_environments_once(checkout):
    assert checkout.run("make", "setup").returncode == 0
    pip = "-m pip install -qq --disable-pip-version-check"
    assert checkout.calls() == [
        "python3.11 -m venv .venv",
        f".venv/bin/python {pip} -e .[engine,train,build,dev]",
        f".venv/bin/python {pip} --no-deps finn-plus==1.6.1 hls4ml==1.3.0",
        "python3.11 -m venv .venv-board",
        f".venv-board/bin/python {pip} -e .[board]",
    ]
    again = checkout.run("make", "setup")
    assert (again.returncode, checkout.calls()) == (0, [])


def test_setup_runs_again_when_its_list_changes_and_keeps_the_environments(checkout):
    checkout.run("make", "setup")
    checkout.calls()
    later = (checkout.folder / ".venv" / ".bitward-setup").stat().st_mtime + 10
    os.utime(checkout.folder / "pyproject.toml", (later, later))
    assert checkout.run("make", "setup").returncode == 0
    assert [call.split()[0] for call in checkout.calls()] == [".venv/bin/python"] * 2 + [".venv-board/bin/python"]


def test_a_failed_setup_is_not_taken_for_done(checkout):
    assert checkout.run("make", "setup", FAKE_PIP="1").returncode != 0
    assert checkout.run("make", "setup").returncode == 0
    assert len(checkout.calls()) == 2 + 4


@pytest.mark.parametrize("status", ["0", "1"])
def test_on_a_terminal_setup_shows_how_far_it_is(checkout, status):
    """In two minutes of pip a stranger sees something move; and a failure stays one."""
    terminal, theirs = os.openpty()
    fakes = {"FAKE_PIP_S": "1", "FAKE_PIP": status, "MAKEFLAGS": "", "PATH": f"{checkout.folder}:{os.environ['PATH']}"}
    with subprocess.Popen(["make", "setup"], cwd=checkout.folder, env={**os.environ, **fakes}, stderr=theirs) as making:
        os.close(theirs)
        said = "".join(iter(lambda: _read(terminal), ""))
    os.close(terminal)
    assert (making.returncode != 0) == (status == "1")
    assert re.search(r"\rsetup: \.venv: \d+ of about 2800 MB .*\r\x1b\[K", said), said


def _read(terminal: int) -> str:
    """What was written to a terminal; empty when whoever wrote has ended."""
    try:
        return os.read(terminal, 4096).decode()
    except OSError:  # how Linux says that the other side is closed
        return ""


def test_a_missing_python_is_one_sentence(checkout):
    done = checkout.run("make", "setup", "PYTHON=python3.11-none")
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == (
        "setup: Python 3.11 with venv is needed: install it or name one with make PYTHON=/path/to/python3.11"
    )


@pytest.mark.parametrize("command", [("make",), ("make", "help")])
def test_help_is_the_default_and_names_every_target(checkout, command):
    out = checkout.run(*command).stdout
    assert checkout.calls() == []
    targets = ["help", "setup", "demo", "test", "test-all", "coverage", "lint", "board-check", "board-wheel"]
    targets += ["docs", "proofs", "bitstream", "clean"]
    assert [line.split()[0] for line in out.splitlines()] == targets


def test_coverage_runs_what_make_test_runs(checkout):
    """The same tests, traced; in the other environment too, with the same version of the tracer."""
    checkout.run("make", "test")
    (tested,) = [call for call in checkout.calls() if "-m pytest" in call]
    assert checkout.run("make", "coverage").returncode == 0
    installed, traced = checkout.calls()
    assert installed.startswith(".venv-board/bin/python -m pip install") and "coverage==" in installed
    assert traced.startswith(f"{tested} --cov ") and (checkout.folder / "build" / "coverage").is_dir()


def test_ci_runs_the_tests_and_prints_their_closing_line(checkout):
    for tool in ("tclsh", "chromium"):  # as if installed: nothing is fetched by this test
        (checkout.folder / tool).symlink_to("/bin/true")
    done = checkout.run("bash", ".ci/run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1 passed in 0.01s"


def test_ci_goes_on_where_optional_tools_cannot_be_installed(checkout):
    folder = checkout.folder / "bin"
    folder.mkdir()
    for tool in ("bash", "sh", "make", "dirname", "cat", "test", "mkdir", "cp", "touch", "g++"):
        (folder / tool).symlink_to(shutil.which(tool))
    for name, body in {"id": "echo 0", "apt-get": "exit 100", "python3.11": f'exec "{checkout.python}" "$@"'}.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    done = checkout.run("bash", ".ci/run", PATH=str(folder))
    assert done.returncode == 0, done.stderr
    assert "ci: could not install tcl chromium: tests that need them are skipped" in done.stdout
    assert done.stdout.splitlines()[-1] == "1 passed in 0.01s"


def test_base_dependencies_are_light(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    names = {requirement.split(">")[0] for requirement in project["dependencies"]}
    assert names == {"numpy", "click", "pydantic", "pyyaml", "rich"}
    assert set(project["optional-dependencies"]) == {"engine", "train", "build", "board", "dev", "peers"}


def test_the_container_is_set_up_by_the_same_steps(repository):
    """Its Python is the Makefile's, its packages those that setup and CI ask for, and it makes what a person makes."""
    docker = (repository / "Dockerfile").read_text()
    (python,) = re.findall(r"^PYTHON \?= (\S+)$", (repository / "Makefile").read_text(), flags=re.MULTILINE)
    steps = re.findall(r"^(FROM|RUN|COPY|WORKDIR|CMD) ((?:.*\\\n)*.*)$", docker, flags=re.MULTILINE)
    assert [step for step, _ in steps] == ["FROM", "RUN", "WORKDIR", "COPY", "RUN", "CMD"]
    assert steps[0][1].startswith(f"python:{python.removeprefix('python')}-")
    (packages,) = re.findall(r"apt-get install -y --no-install-recommends ([^\\]+)", steps[1][1])
    optional = re.findall(r"missing\+=\((\S+)\)", (repository / ".ci" / "run").read_text())
    needed = [re.findall(r"apt-get install ([\w+.-]+)", tools.TOOLS[name].advice)[0] for name in ("c++", "make", "git")]
    assert sorted(packages.split()) == sorted([*needed, *optional])
    assert [text for step, text in steps[4:]] == ["make setup", '["make", "demo"]']
    ignored = (repository / ".dockerignore").read_text().split()
    assert {".venv*", "runs", "/build"} <= set(ignored), "environments and runs of the host stay outside"


def test_github_runs_what_our_ci_runs(repository):
    workflow = yaml.safe_load((repository / ".github" / "workflows" / "ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    (python,) = [step["with"]["python-version"] for step in job["steps"] if "python-version" in step.get("with", {})]
    assert f"PYTHON ?= python{python}\n" in (repository / "Makefile").read_text()
    assert (repository / ".ci" / "run").stat().st_mode & stat.S_IXUSR
    assert (repository / ".ci" / "run").read_text().splitlines()[-1] == "exec make test"

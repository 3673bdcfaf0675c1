# SPDX-License-Identifier: Apache-2.0
"""Folders of one process at a time: who holds them, and what looking does not disturb."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bitward import locks
from bitward.errors import OutputError

HOLDING = "import sys; from pathlib import Path; from bitward import locks; it = locks.hold(Path(sys.argv[1])); "


def test_a_folder_is_held_until_it_is_given_back(tmp_path: Path) -> None:
    assert not locks.is_held(tmp_path) and not list(tmp_path.iterdir()), "looking writes nothing"
    held = locks.hold(tmp_path)
    assert held is not None and locks.is_held(tmp_path) and locks.hold(tmp_path) is None
    held.close()
    assert not locks.is_held(tmp_path)


def test_a_process_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    told = f"{HOLDING}print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", told, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        assert locks.is_held(tmp_path) and locks.hold(tmp_path) is None
        other.kill()
        other.wait()
        assert not locks.is_held(tmp_path)


def test_whoever_looks_all_the_time_keeps_nobody_out(tmp_path: Path) -> None:
    """As `bitward watch` does, only more often."""
    locks.hold(tmp_path).close()  # type: ignore[union-attr]
    looking = "import sys; from pathlib import Path; from bitward import locks\nprint('looks', flush=True)\n"
    looking += "while True: locks.is_held(Path(sys.argv[1]))"
    with subprocess.Popen([sys.executable, "-c", looking, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "looks\n"
        for _ in range(200):
            held = locks.hold(tmp_path)
            assert held is not None
            held.close()
        other.kill()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert not locks.is_held(tmp_path / "none")
    with pytest.raises(OutputError, match="^.*none.* must be "):
        locks.hold(tmp_path / "none")

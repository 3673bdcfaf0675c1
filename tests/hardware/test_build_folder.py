# SPDX-License-Identifier: Apache-2.0
"""A build takes the place of an older one whole or not at all; the log of a tool that failed is there to be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from bitward.errors import ToolError
from bitward.hardware.build_folder import replaced


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_build_that_is_cut_off_leaves_the_older_one_and_nothing_else(tmp_path, error):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text("older")
    with pytest.raises(error), replaced(tmp_path / "out") as work:
        (work / "manifest.json").write_text("newer")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "manifest.json").read_text() == "older"


@pytest.mark.parametrize("error", [KeyboardInterrupt, None], ids=["ctrl-C", "kill -9"])
def test_a_build_that_is_cut_off_while_it_takes_its_place_leaves_the_older_one(tmp_path, monkeypatch, error):
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.json").write_text("older")
    if error is None:
        out.rename(tmp_path / ".out.old")
    else:
        real = Path.rename

        def rename(path: Path, target: Path) -> Path:
            done = real(path, target)
            if path == out:
                raise error
            return done

        monkeypatch.setattr(Path, "rename", rename)
        with pytest.raises(error), replaced(out) as work:
            (work / "manifest.json").write_text("newer")
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        monkeypatch.undo()
    with pytest.raises(ValueError, match="^no$"), replaced(out):
        raise ValueError("no")
    assert (out / "manifest.json").read_text() == "older"


def test_the_log_that_a_failed_tool_names_stays_until_the_next_build(tmp_path):
    with pytest.raises(ToolError), replaced(tmp_path / "out") as work:
        (work / "compile.log").write_text("it said: no")
        raise ToolError(f"make must end with exit code 0, got exit code 2; log: {work / 'compile.log'}")
    assert (work / "compile.log").read_text() == "it said: no"
    with replaced(tmp_path / "out") as work:
        assert list(work.iterdir()) == []
        (work / "manifest.json").write_text("newer")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]

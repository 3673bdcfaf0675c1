# SPDX-License-Identifier: Apache-2.0
"""A build takes the place of an older one whole or not at all; the log of a tool that failed is there to be read."""

from __future__ import annotations

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


def test_the_log_that_a_failed_tool_names_stays_until_the_next_build(tmp_path):
    with pytest.raises(ToolError), replaced(tmp_path / "out") as work:
        (work / "compile.log").write_text("it said: no")
        raise ToolError(f"make must end with exit code 0, got exit code 2; log: {work / 'compile.log'}")
    assert (work / "compile.log").read_text() == "it said: no"
    with replaced(tmp_path / "out") as work:
        assert list(work.iterdir()) == []
        (work / "manifest.json").write_text("newer")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]

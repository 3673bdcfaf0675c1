# SPDX-License-Identifier: Apache-2.0
"""Flows in FINN's words: the folding as its file has it or in a file of its own, boards by FINN's names."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from bitward.errors import ConfigError, OutputError
from bitward.flow import load_flow, run_flow

FOLDING = '{"Defaults": {"PE": [2, ["MVAU_rtl"]]}, "MVAU_rtl_0": {"PE": 4, "resType": "lut"}}'


def test_a_folding_file_is_read_from_the_flows_folder(tmp_path: Path) -> None:
    """What it holds is the flow's, so that another content is another build for the cache."""
    folder = tmp_path / "flow"
    folder.mkdir()
    (folder / "folding.json").write_text(FOLDING)
    (folder / "named.yaml").write_text("network: digits_mlp\nbuild: {folding: folding.json}\n")
    (folder / "inside.yaml").write_text(f"network: digits_mlp\nbuild:\n  folding: {FOLDING}\n")
    named, inside = load_flow(folder / "named.yaml"), load_flow(folder / "inside.yaml")
    assert named.build == inside.build
    assert named.build.folding["Defaults"] == {"PE": [2, ["MVAU_rtl"]]}
    (folder / "folding.json").unlink()
    with pytest.raises(
        OutputError, match=r"^build.folding must be a readable JSON or YAML file, got .*folding.json: No "
    ):
        load_flow(folder / "named.yaml")


def test_boards_go_by_finns_words(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text("network: digits_mlp\nbuild: {board: KV260_SOM}\nmeasure: {board: KV260_SOM}\n")
    flow = load_flow(tmp_path / "flow.yaml")
    assert flow.measure is not None and (flow.build.board, flow.measure.board) == ("kv260", "kv260")
    with pytest.raises(
        ConfigError, match=r"^build.board must be a simulated board in a flow, got 'kv260'; build for a "
    ):
        run_flow(flow, tmp_path / "runs", Console(quiet=True))

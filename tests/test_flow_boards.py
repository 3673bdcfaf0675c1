# SPDX-License-Identifier: Apache-2.0
"""The boards of a campaign: how a flow and the command name them, and what they load."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bitward_runtime.connection import Connection, Credentials
from rich.console import Console

from bitward.cli import main
from bitward.errors import ConfigError
from bitward.flow import Flow, attack, load_flow
from bitward.flow.attack import Place, factories
from bitward.flow.boards import connections_of, places_of
from bitward.flow.run import Run

SPEC = {"name": "toy", "network": "digits_mlp"}
HERE = Path("build")


def run_of(folder: Path) -> Run:
    return Run(Flow.model_validate(SPEC), folder, Console(file=StringIO()))


def test_a_flow_names_boards_with_what_they_demand(tmp_path: Path):
    path = tmp_path / "a.yaml"
    path.write_text("network: a\ninject: {hosts: [kria, '[::1]:8000'], tls_ca: ca.pem, token_file: token}")
    found = connections_of(load_flow(path).inject)
    credentials = Credentials(tmp_path / "ca.pem", tmp_path / "token")
    assert found == (Connection("kria", 7967, credentials), Connection("::1", 8000, credentials))
    path.write_text("network: a")
    assert connections_of(load_flow(path).inject) == (Connection(),)
    path.write_text("network: a\ninject: {hosts: []}")
    with pytest.raises(ConfigError, match=r"inject.hosts .*, got \[\]; see"):
        load_flow(path)
    path.write_text("network: a\ninject: {hosts: ['a b']}")
    with pytest.raises(ConfigError, match=r"^--host must be HOST or HOST:PORT .*, got 'a b'"):
        connections_of(load_flow(path).inject)


def test_simulated_boards_load_the_flows_build_and_real_ones_their_own(tmp_path: Path):
    run, at = run_of(tmp_path), (Connection("a"), Connection("b", 8000))
    assert places_of(run, "virtual", "plain", at) == (
        Place("board", run.build("plain"), "a"),
        Place("board", run.build("plain"), "b", 8000),
    )
    run.overlay("kv260").mkdir()
    (run.overlay("kv260") / "manifest.json").touch()
    assert {place.build for place in places_of(run, "kv260", "hardened", at)} == {run.overlay("kv260")}
    with pytest.raises(
        ConfigError, match=r"^the side must be hardened on a kv260, got plain: make bitstream builds no"
    ):
        places_of(run, "kv260", "plain", at)
    with pytest.raises(ConfigError, match=r"'kv26'.*did you mean 'kv260'"):
        places_of(run, "kv26", "plain", at)


def test_one_place_makes_one_target_and_several_boards_are_known_by_name():
    single = factories(Place("engine", HERE), timeout_s=3.0)
    assert callable(single) and callable(factories(Place("board", HERE, "a")))
    assert list(factories(Place("board", HERE, "a"), timeout_s=3.0)) == ["a:7967"]
    boards = factories(Place("board", HERE, "a"), (Place("board", HERE, "a", 8000), Place("board", HERE, "::1")))
    assert list(boards) == ["a:7967", "a:8000", "[::1]:7967"]
    with pytest.raises(
        ConfigError, match=r"^each board must be named once, got a:7967 twice: drop one, or give anothe"
    ):
        factories(Place("board", HERE, "a"), (Place("board", HERE, "b"), Place("board", HERE, "a")))
    with pytest.raises(ConfigError, match=r"^places that share trials must be boards, got engine, board$"):
        factories(Place("engine", HERE), (Place("board", HERE, "a"),))


# ---- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What `bitward inject` asks for, on a run that is there; nothing is run."""
    from bitward import flow as flow_module
    from bitward import manifest as manifest_module
    from bitward.flow import rules, stages

    found: dict[str, Any] = {}

    def attacked(run: Run, name: str, place: Place, *given: Any) -> dict[str, Any]:
        found.update(name=name, places=(place, *given[-1]), images=given[1])
        boards = {"a:7967": 12, "b:1": 3}
        return {"faults": 15, "changed": 4, "top1_changed": 1, "failed": 1, "restored_golden": True, "interval": None,
                "boards": boards, "retried": 2, "set_aside": ["c:1: gone"]}  # fmt: skip

    monkeypatch.setattr(flow_module, "prepare", lambda flow, *_, **__: run_of(tmp_path))
    monkeypatch.setattr(manifest_module.Manifest, "load", lambda path: np)
    monkeypatch.setattr(rules, "model_of", lambda *_: None)
    monkeypatch.setattr(rules, "rules_of", lambda *_: attack.NO_RULES)
    monkeypatch.setattr(stages, "attack_with", attacked)
    return found


@pytest.mark.parametrize(
    ("inject", "options", "hosts"),
    [
        ("", [], [None]),
        ("", ["--host", "a", "--host", "b:1"], ["a", "b"]),
        ("", ["--host", "a,b:1,[::1]:2"], ["a", "b", "::1"]),
        ("inject: {hosts: [c, d]}", [], ["c", "d"]),
        ("inject: {hosts: [c, d]}", ["--host", "a"], ["a"]),
    ],
)
def test_the_command_shares_a_campaign_over_the_boards_it_is_told(tmp_path, asked, capsys, inject, options, hosts):
    path = tmp_path / "toy.yaml"
    path.write_text(f"network: digits_mlp\n{inject}")
    assert main(["inject", str(path), "--on", "board", *options]) == 0
    assert [place.host for place in asked["places"]] == hosts and asked["name"] == "inject-hardened-board"
    said = capsys.readouterr().out
    assert (
        "trials by board: a:7967 12, b:1 3; right at the second attempt: 2, failed twice (DUE): 1; set aside: c:1: gone"
        in said
    )


def test_a_real_board_is_a_kind_with_a_host(tmp_path, asked, capsys):
    path = tmp_path / "toy.yaml"
    path.write_text("network: digits_mlp")
    assert main(["inject", str(path), "--on", "board", "--board", "kv260"]) == 1
    assert "the host of a kv260 must be given, got none" in capsys.readouterr().err
    assert main(["inject", str(path), "--on", "board", "--scheduler", "local"]) == 1
    assert "--scheduler must go with engine or rtl, got board" in capsys.readouterr().err

# SPDX-License-Identifier: Apache-2.0
"""The boards that a flow names, and which of its builds they load."""

from __future__ import annotations

from pathlib import Path

from bitward_runtime.connection import Connection, connection_of

from bitward.errors import ConfigError
from bitward.flow.attack import Place
from bitward.flow.run import Run
from bitward.flow.spec import Inject, Measure, Side
from bitward.hardware.boards import load_board


def connections_of(section: Inject | Measure) -> tuple[Connection, ...]:
    """Where the section's boards are; a virtual one where it names none. ConfigError where they are not well named."""
    hosts = (section.host,) if isinstance(section, Measure) else section.hosts or (None,)
    return tuple(connection_of(host, None, section.tls_ca, section.token_file) for host in hosts)


def places_of(run: Run, board: str, side: Side, connections: tuple[Connection, ...]) -> tuple[Place, ...]:
    """The boards, each with the build that boards of the kind `board` load.

    That is the flow's own where they are simulated, and what `make bitstream` left where they are real. ConfigError
    where it is not there, no host is given for a real board, or the plain design is asked of one.
    """
    return tuple(Place.at(connection, _build(run, board, side, connection)) for connection in connections)


def _build(run: Run, board: str, side: Side, connection: Connection) -> Path:
    if load_board(board).is_simulated:
        return run.build(side)
    if connection.host is None:
        raise ConfigError(f"the host of a {board} must be given, got none: name it as HOST[:PORT]")
    if side != "hardened":
        raise ConfigError(f"the side must be hardened on a {board}, got {side}: make bitstream builds no other")
    if not (run.overlay(board) / "manifest.json").is_file():
        raise ConfigError(
            f"the board must be one that the flow is built for, got {board} and no build in {run.overlay(board)}: run "
            f"make bitstream BOARD={board} first"
        )
    return run.overlay(board)

# SPDX-License-Identifier: Apache-2.0
"""Boards that give up soon, for processes of their own."""

from __future__ import annotations

from pathlib import Path

from bitward.targets import board as board_module
from bitward.targets.board import BoardTarget


def quick_board(build: Path, host: str, port: int) -> BoardTarget:
    """The board at host:port; a server that is gone must be back within a second."""
    board_module.REVIVED_WITHIN_S, board_module.TRY_AGAIN_S = 1.0, 0.1
    return BoardTarget(build, host, port)

# SPDX-License-Identifier: Apache-2.0
"""A build folder with an overlay, a virtual board that emulates it with a fake accelerator, and the agent beside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bitward_runtime.agent_client import AGENT_ARGUMENTS, AgentClient
from bitward_runtime.security import Access
from bitward_runtime.server import Server
from bitward_virtual.board import VirtualBoard
from bitward_virtual.emulate import overlay_of, virtual_board
from fake_accelerator import DESIGN_ID, FakeAccelerator
from small_design import Broken, SmallDesign, make_small_build

from bitward import tools
from bitward.hardware.overlay import Overlay, Window, content_sha256, write_overlay


def make_overlay(**changes: object) -> Overlay:
    fields: dict[str, object] = {
        "name": "digits",
        "design_id": DESIGN_ID,
        "content_sha256": "0" * 64,
        "board": "KV260",
        "part": "xck26-sfvc784-2LV-c",
        "clk_mhz": 200.0,
        "clk_divisor": 5,
        "accelerator": Window(0xA000_0000, 1 << 20),
        "dma": Window(0xAFFF_0000, 1 << 16),
        "in_stream_bits": 8,
        "out_stream_bits": 16,
    }
    return Overlay(**{**fields, **changes})  # type: ignore[arg-type]


def make_build(folder: Path, rtl: str) -> Path:
    """A build folder as far as the virtual board looks into it."""
    (folder / "rtl").mkdir(parents=True)
    (folder / "rtl" / "top.sv").write_text(rtl)
    (folder / "manifest.json").write_text("{}")
    write_overlay(folder / "overlay", make_overlay(content_sha256=content_sha256(folder)))
    return folder


@pytest.fixture
def build(tmp_path: Path) -> Path:
    return make_build(tmp_path / "build", "module top; endmodule")


@pytest.fixture
def bit(build: Path) -> Path:
    return overlay_of(build)


@pytest.fixture
def board(build: Path) -> VirtualBoard:
    return virtual_board(build, lambda _: FakeAccelerator())


@pytest.fixture
def server(board: VirtualBoard) -> Iterator[Server]:
    with Server(board, port=0) as running:
        yield running


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The build of the small design."""
    return make_small_build(tmp_path / "small")


@pytest.fixture
def broken() -> Broken:
    """What goes wrong on the board of `running`."""
    return Broken()


@pytest.fixture
def running(small: Path, broken: Broken) -> Iterator[Server]:
    """A server of the small design."""

    def loaded(_: Path) -> SmallDesign:
        broken.loads += 1
        return SmallDesign(small, broken)

    with Server(virtual_board(small, loaded), port=0) as server:
        yield server


@pytest.fixture
def board_python() -> Path:
    python = tools.board_python()
    if python is None:
        pytest.skip("needs the PYNQ client's environment, .venv-board (make setup)")
    return python


@pytest.fixture
def start_agent(board_python: Path, tmp_path: Path) -> Iterator[Callable[[], AgentClient]]:
    agents: list[AgentClient] = []

    def start() -> AgentClient:
        agents.append(AgentClient(tools.popen([board_python, *AGENT_ARGUMENTS], log=tmp_path / "agent.log")))
        return agents[-1]

    yield start
    for agent in agents:
        agent.close()


def make_tls(folder: Path) -> tuple[Path, Path, Path]:
    """A certificate for 127.0.0.1, its key, and a file with a token."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key, token = (folder / name for name in ("cert.pem", "key.pem", "token"))
    what = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=bitward"]
    where = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    tools.run(["openssl", "req", "-x509", *what, *where], log=folder / "openssl.log")
    token.write_text("0123456789abcdef0123456789abcdef\n")
    return certificate, key, token


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Access:
    """A certificate for 127.0.0.1 and a token."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl, to make a certificate")
    return Access(*make_tls(tmp_path_factory.mktemp("tls")))

# SPDX-License-Identifier: Apache-2.0
"""The stock pynq 4.0 client against the virtual board: overlay, MMIO, DMA, clocks, self-test, and what goes wrong."""

from __future__ import annotations

import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen

import grpc
import numpy as np
import pytest
from bitward_runtime.agent_client import AgentClient
from bitward_runtime.extension_client import ExtensionClient
from bitward_runtime.server import Server
from bitward_virtual.emulate import overlay_of
from conftest import make_build
from fake_accelerator import DEADLOCK, DESIGN_ID, RAM, RAM_WORDS, SLEEP

from bitward import tools
from bitward.errors import BoardError

NO_CONNECTION = "must answer, got no connection; is its server (`bitward emulate`) running, and the port right?"
StartAgent = Callable[[], AgentClient]


@pytest.fixture
def agent(start_agent: StartAgent, server: Server, bit: Path) -> AgentClient:
    agent = start_agent()
    agent.open(server.host, server.port, str(bit))
    return agent


@pytest.fixture
def emulator(build: Path) -> Iterator[tuple[Popen[bytes], int]]:
    """`bitward emulate` of the build, with the fake accelerator, in a process of its own; and its port."""
    process = tools.popen([sys.executable, Path(__file__).parent / "fake_accelerator.py", build])
    ready = process.stdout.readline().decode()
    yield process, int(re.search(r"on 127\.0\.0\.1:(\d+), ctrl-C ends it$", ready)[1])
    process.kill()
    process.wait()


def test_overlay_registers_memories_and_inference(agent: AgentClient):
    assert agent.board == "KV260 (virtual, bitward)" and agent.clk_mhz == pytest.approx(200, rel=1e-4)
    assert agent.read(0, 1).tolist() == [DESIGN_ID]
    words = np.random.default_rng(2).integers(0, 1 << 32, RAM_WORDS, dtype=np.uint32)
    before = agent.read(RAM, RAM_WORDS)
    assert before.tolist() == [at * 0x01010101 for at in range(RAM_WORDS)]
    agent.write(RAM, words)  # many words in one call are all stored
    assert np.array_equal(agent.read(RAM, RAM_WORDS), words)
    agent.write(RAM + 4, words[:1])
    assert agent.read(RAM, 3).tolist() == [words[0], words[0], words[2]]
    for count in (1, 64, 64, 100_000):
        stream = np.random.default_rng(count).integers(0, 200, count, dtype=np.uint8)
        assert agent.infer(stream.tobytes(), count) == (stream + 1).tobytes()


def test_loading_again_restores_the_memories(agent: AgentClient, server: Server, bit: Path):
    agent.write(RAM, np.zeros(4, np.uint32))
    agent.open(server.host, server.port, str(bit))
    assert agent.read(RAM, 2).tolist() == [0, 0x01010101]


def test_too_short_an_answer_is_told(agent: AgentClient):
    with pytest.raises(BoardError, match=r"^the accelerator must stream 8 bytes for 4, got 4; do the overlay and "):
        agent.infer(bytes(4), 8)
    assert agent.infer(bytes(4), 4) == bytes([1] * 4)


def test_errors_come_back_as_the_servers_sentence_and_the_agent_goes_on(agent: AgentClient):
    with pytest.raises(
        BoardError, match=r"^an accelerator address must be 0 or in its RAM, got 0x8; see the manifest$"
    ):
        agent.read(8, 1)
    with pytest.raises(
        BoardError, match=r"^an MMIO access must lie inside its window of 0x100000 bytes at 0xa0000000, "
    ):
        agent.read(1 << 20, 1)
    with pytest.raises(
        BoardError, match=r"^the board at .* could not do it: Unaligned read: offset must be multiple of 4"
    ):
        agent.read(2, 1)
    with pytest.raises(
        BoardError, match=r"^the accelerator must end within 1000 cycles, got none; load the overlay again$"
    ):
        agent.infer(bytes([DEADLOCK]), 1)
    assert agent.infer(b"a", 1) == b"b"


def test_a_foreign_overlay_is_refused(start_agent: StartAgent, server: Server, tmp_path: Path):
    other = overlay_of(make_build(tmp_path / "other", "module other; endmodule"))
    with pytest.raises(
        BoardError, match=r"^this virtual board emulates the overlay of build \w{12} \(digits\), got digits-"
    ):
        start_agent().open(server.host, server.port, str(other))


def test_a_changed_overlay_of_the_same_name_is_sent_again(agent: AgentClient, server: Server, bit: Path):
    data = bytearray(bit.read_bytes())
    data[data.index(b'"content_sha256": "') + 20] ^= 1
    bit.write_bytes(data)
    with pytest.raises(BoardError, match=r"^this virtual board emulates the overlay of build "):
        agent.open(server.host, server.port, str(bit))


def test_a_board_or_overlay_that_is_not_there(start_agent: StartAgent, server: Server, bit: Path, tmp_path: Path):
    agent = start_agent()
    with pytest.raises(BoardError, match=r"^a board must be opened before use, got none; open it first$"):
        agent.read(0, 1)
    with pytest.raises(BoardError, match=r"^the overlay must be a file, got '.*/none\.bit'; build it first$"):
        agent.open(server.host, server.port, str(tmp_path / "none.bit"))
    server.stop()
    with pytest.raises(BoardError, match=rf"^the board at 127\.0\.0\.1:{server.port} {re.escape(NO_CONNECTION)}$"):
        agent.open(server.host, server.port, str(bit))


def test_two_agents_take_turns(start_agent: StartAgent, agent: AgentClient, server: Server, bit: Path):
    second = start_agent()
    opening = threading.Thread(target=second.open, args=(server.host, server.port, str(bit)))
    opening.start()
    for _ in range(20):
        assert agent.read(0, 1).tolist() == [DESIGN_ID]
        time.sleep(0.1)
    assert opening.is_alive()  # the board is held
    agent.close()
    opening.join(5)
    assert not opening.is_alive() and second.read(0, 1).tolist() == [DESIGN_ID]


def test_an_agent_that_closes_gives_the_lease_back(agent: AgentClient, server: Server):
    agent.close()
    with grpc.insecure_channel(f"{server.host}:{server.port}") as channel:
        assert ExtensionClient(channel, "the board").hello().holder == ""


def test_an_agent_that_ended_is_told(start_agent: StartAgent):
    agent = start_agent()
    agent._process.kill()
    with pytest.raises(BoardError, match=r"^the board agent must answer 'read', got its end \(exit status -9\); "):
        agent.read(0, 1)
    agent.close()


def test_the_last_words_of_an_agent_that_ended_are_quoted(tmp_path: Path):
    log = tmp_path / "agent.log"
    for script, said in (("printf 'a\nb\n  c\nError: no d\n' >&2", "b / c / Error: no d"), ("exit 3", "nothing")):
        log.unlink(missing_ok=True)
        agent = AgentClient(tools.popen(["sh", "-c", script], log=log), log=log)
        with pytest.raises(
            BoardError, match=rf"^the board agent must answer 'read', got its end \(exit status \d\); it said: {said}$"
        ):
            agent.read(0, 1)


def test_a_silent_agent_is_ended():
    agent = AgentClient(tools.popen(["sleep", "60"]), answer_within_s=0.05)
    with pytest.raises(
        BoardError, match=r"^the board must answer 'read' within 0\.05 s, got nothing; the agent was ended"
    ):
        agent.read(0, 1)


def test_an_agent_that_does_not_end_with_its_pipes_is_killed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bitward_runtime.agent_client.ENDS_WITHIN_S", 0.05)
    process = tools.popen(["sh", "-c", "exec sleep 60 >&-"])
    with pytest.raises(BoardError, match=r"^the board agent must answer 'read', got its end \(exit status -9\); "):
        AgentClient(process).read(0, 1)
    assert process.poll() == -signal.SIGKILL


def test_an_agent_without_pipes_is_refused():
    process = Popen(["true"])
    with pytest.raises(
        BoardError, match=r"^the board agent must be started with pipes for stdin and stdout, got none; "
    ):
        AgentClient(process).read(0, 1)
    process.wait()


def test_a_server_killed_in_mid_call(start_agent: StartAgent, emulator: tuple[Popen[bytes], int], bit: Path):
    process, port = emulator
    agent = start_agent()
    agent.open("127.0.0.1", port, str(bit))
    threading.Timer(0.5, process.kill).start()
    with pytest.raises(BoardError, match=rf"^the board at 127\.0\.0\.1:{port} must answer, got no connection; "):
        agent.infer(bytes([SLEEP]), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}"], r"^\S+/overlay must hold one \.bit, got 0; run bitward build --board virtual --out \S+\n$"),
        (["{build}", "--token-file", "x"], r"^--tls-cert, --tls-key and --token-file must be given together, got 1 .*"),
        (
            ["{build}", "--audit", "none/x"],
            r"^the audit log none/x must be writable, got No such file or directory; .*\n$",
        ),
        (["{build}", "--host", "0.0.0.0"], r"^the server's host must be a loopback address, got '0\.0\.0\.0': .*\n$"),
    ],
)
def test_what_cannot_be_emulated_is_one_sentence(build: Path, tmp_path: Path, arguments: list[str], message: str):
    log = tmp_path / "log"
    command = [sys.executable, "-m", "bitward_virtual", *(text.format(tmp=tmp_path, build=build) for text in arguments)]
    process = tools.popen(command, log=log, cwd=tmp_path)
    assert process.wait(30) == 1 and re.match(message, log.read_text())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-C", "SIGTERM"])
def test_emulate_ends_cleanly(emulator: tuple[Popen[bytes], int], number: signal.Signals):
    process, _ = emulator
    process.send_signal(number)
    assert process.wait(10) == 0 and process.stdout.read() == b""


@pytest.mark.parametrize(("with_overlay", "count"), [(False, 9), (True, 11)])
def test_pynqs_own_selftest_passes(board_python: Path, server: Server, bit: Path, with_overlay: bool, count: int):
    command = [board_python, "-W", "ignore", "-m", "pynq.remote.selftest", "--ip", server.host, "--port", server.port]
    said = tools.run([*command, *(["--bitstream", bit] if with_overlay else [])]).stdout
    assert f" {count} passed, 0 failed" in said, said

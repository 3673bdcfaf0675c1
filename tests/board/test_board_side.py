# SPDX-License-Identifier: Apache-2.0
"""What a board's server does on its own side for a target: scrub passes, files; boards taken as they are."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bitward_runtime import held
from bitward_runtime.audit import Audit
from bitward_runtime.bitfile import firmware_of
from bitward_runtime.extension_client import ExtensionClient, LostError
from bitward_runtime.rows import read_rows
from bitward_runtime.scrub import scrub_pass
from bitward_runtime.server import Server
from bitward_runtime.upsets import Upsets
from bitward_virtual.emulate import virtual_board
from small_design import DEPTH, ELEMENTS, Broken, SmallDesign, manifest_of

from bitward.cli import main
from bitward.errors import BoardError
from bitward.faults import Fault
from bitward.targets import board as board_module
from bitward.targets._links import ExtensionLink
from bitward.targets.board import BoardTarget

BASE = 0xA000_0000
IMAGES = np.arange(2 * ELEMENTS).reshape(2, ELEMENTS)


@pytest.fixture
def target(small: Path, running: Server) -> Iterator[BoardTarget]:
    with BoardTarget(small, running.host, running.port) as target:
        yield target


class FromHere:
    """The same target, whose passes are made by its reads and writes: the oracle of what its server does."""

    def __init__(self, target: BoardTarget) -> None:
        self.manifest = target.manifest
        self.read, self.write = target.read, target.write


# ---- scrubbing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upsets", [0, 1, 7, 60])
def test_a_servers_pass_finds_and_leaves_what_one_from_here_does(target: BoardTarget, upsets: int):
    def struck() -> Upsets:
        made = Upsets(target, [target.manifest.memory("wide")], seed=upsets)
        made.strike(upsets)
        return made

    made = struck()
    there = scrub_pass(target)
    left_there = read_rows(target, target.manifest.memory("wide"))
    made.restore()
    made = struck()
    here = scrub_pass(FromHere(target))
    assert there.memories == here.memories and there.total.rows == DEPTH and there.seconds > 0
    assert np.array_equal(left_there, read_rows(target, target.manifest.memory("wide")))
    assert 0 < there.memories[0].seconds <= there.seconds
    assert upsets == 0 or there.total.corrected > 0  # negative control: a pass that does nothing is seen
    made.restore()


def test_a_pass_is_one_call_and_what_it_wrote_is_flushed(target: BoardTarget, monkeypatch: Any):
    target.inject(Fault("wide", 2, 7))
    target.infer(IMAGES)
    assert target._flush_images() == 0
    calls: list[str] = []
    ask = ExtensionClient._ask
    monkeypatch.setattr(ExtensionClient, "_ask", lambda self, name, *more: calls.append(name) or ask(self, name, *more))
    assert target.scrub_pass().total.written == 1 and calls == ["scrub"]
    assert target._flush_images() == 1 and target.read("wide", 2) == target.golden("wide", 2)
    assert target.scrub_pass().total.written == 0


def test_named_memories_alone_are_scrubbed(target: BoardTarget):
    client = target._open._client
    text = target.manifest.to_json()
    assert [each.memory for each in client.scrub(text, BASE, ["wide"]).memories] == ["wide"]
    with pytest.raises(BoardError, match=r"^memory narrow must have redundancy to be scrubbed, got none; leave it out"):
        client.scrub(text, BASE, ["narrow"])
    with pytest.raises(BoardError, match=r"^a memory must be one of design small, got 'none'; "):
        client.scrub(text, BASE, ["none"])


def changed(**fields: Any) -> str:
    """The manifest with another place of its memory `wide`."""
    manifest = manifest_of()
    narrow, wide = manifest.memories
    return replace(manifest, memories=(narrow, replace(wide, hardware=replace(wide.hardware, **fields)))).to_json()


@pytest.mark.parametrize(
    ("text", "base", "message"),
    [
        ("", BASE, r"manifest must be JSON, got "),
        ("[]", BASE, r"manifest must be of schema 1, got \[\]; "),
        ('{"schema": 1}', BASE, r"manifest"),
        ("[" * 50_000, BASE, r"(a manifest must describe a design, got maximum recursion|manifest must be JSON, got )"),
        (manifest_of().to_json(), 0x8000_0000, r"an address must be mapped on KV260 \(virtual, bitward\), got 48 by"),
        (manifest_of().to_json(), (1 << 64) - 4, r"an address must be mapped on KV260 \(virtual, bitward\), got 48 by"),
    ],
    ids=["empty", "list", "no design", "deep", "elsewhere", "wrap"],
)
def test_a_manifest_that_cannot_be_is_refused(target: BoardTarget, text: str, base: int, message: str):
    before = read_rows(target, target.manifest.memory("wide"))
    with pytest.raises(BoardError, match=f"^{message}"):
        target._open._client.scrub(text, base)
    assert np.array_equal(before, read_rows(target, target.manifest.memory("wide")))


def test_a_memory_that_no_board_has_is_refused(target: BoardTarget, monkeypatch: Any):
    monkeypatch.setattr(held, "MAX_SCRUB_WORDS", 11)
    with pytest.raises(BoardError, match=r"^a memory must have at most 11 words in rows of at most 65536 bits, got 6"):
        target.scrub_pass()


def test_software_only_memories_are_not_scrubbed_there(target: BoardTarget):
    manifest = manifest_of()
    soft = replace(manifest.memories[1], hardware=None)
    text = replace(manifest, memories=(soft,), io=None).to_json()
    assert target._open._client.scrub(text, BASE).memories == ()
    with pytest.raises(BoardError, match=r"^memory wide must be in hardware, got a software-only one; send the build"):
        target._open._client.scrub(text, BASE, ["wide"])


def test_a_pass_whose_time_is_over_says_how_far_it_came(small: Path, monkeypatch: Any):
    class Slow:
        seconds = 0.0

    board = virtual_board(small, lambda _: SmallDesign(small, Broken()))
    request = held.bitward_pb2.ScrubRequest(manifest=manifest_of().to_json(), base=BASE, memories=["wide", "wide"])
    bit = next((small / "overlay").glob("*.bit"))
    board.program("x.bin", firmware_of(bit.read_bytes()))
    with pytest.raises(BoardError, match=r"^a pass must end in time, got 0 of 2 memories; ask for fewer$"):
        held.scrubbed(board, request, Slow())


def test_rows_are_read_and_written_one_by_one_too(small: Path):
    """What `rows` falls back to is there, and the same."""
    board = virtual_board(small, lambda _: SmallDesign(small, Broken()))
    board.program("x.bin", firmware_of(next((small / "overlay").glob("*.bit")).read_bytes()))
    stored = held.Held(board, manifest_of(), BASE)
    golden = stored.read("wide", 3)
    stored.write("wide", 3, golden ^ 1 << 45)
    assert stored.read("wide", 3) == golden ^ 1 << 45


def test_a_pass_is_in_the_audit_log(small: Path, tmp_path: Path):
    log = Audit(tmp_path / "audit")
    with Server(virtual_board(small, lambda _: SmallDesign(small, Broken())), port=0, audit=log) as server:
        with BoardTarget(small, server.host, server.port) as target:
            target._open._client.scrub(target.manifest.to_json(), BASE, ["wide"])
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    (line,) = [line for line in lines if line["method"] == "/bitward.Board/scrub"]
    assert line["outcome"] == "done" and line["what"]["memories"] == ["wide"] and len(line["what"]["manifest"]) == 100


def test_reports_of_passes_are_the_servers_clock(target: BoardTarget, monkeypatch: Any):
    """Time on the way does not count."""
    ask = ExtensionClient._ask

    def late(self: ExtensionClient, *given: Any) -> Any:
        answer = ask(self, *given)
        time.sleep(0.3)
        return answer

    monkeypatch.setattr(ExtensionClient, "_ask", late)
    assert scrub_pass(target).seconds < 0.25


# ---- a board as it is ------------------------------------------------------------------------------------------------


def test_a_board_is_taken_with_its_upsets_and_scrubbed(small: Path, running: Server, broken: Broken, capsys):
    with BoardTarget(small, running.host, running.port) as target:
        target.inject(Fault("wide", 1, 5))
        upset = target.read("wide", 1)
    where = ["--host", f"{running.host}:{running.port}", "--no-load"]
    with BoardTarget(small, running.host, running.port, load=False) as target:
        assert target.read("wide", 1) == upset != target.golden("wide", 1)
        assert target._flush_images() == 1  # what is in flight is not known
    assert main(["scrub", str(small), *where, "--passes", "2"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^pass 1: 1 words corrected \(1 bits in 1 rows\), 0 detected only, 6 rows in ", out, re.MULTILINE)
    assert re.search(r"^pass 2: 0 words corrected", out, re.MULTILINE)
    assert re.search(r"^wide: 6 rows, 1 words corrected, 0 detected only, 0\.\d+ s a pass$", out, re.MULTILINE)
    with BoardTarget(small, running.host, running.port, load=False) as target:
        assert target.read("wide", 1) == target.golden("wide", 1)
    assert broken.loads == 1


def test_a_board_with_another_overlay_or_none_is_not_taken(small: Path, running: Server, tmp_path: Path, capsys):
    other = BoardTarget(small, running.host, running.port, load=False)
    with pytest.raises(BoardError, match=r"^KV260 \(virtual, bitward\) must have small-\w+.bit loaded to be taken as"):
        other.open()
    other.close()
    assert main(["scrub", str(small), "--no-load"]) == 1
    assert capsys.readouterr().err == (
        "bitward: --no-load must go with a board's --host, got board without: nothing is loaded there yet\n"
    )


def test_a_board_without_the_extension_is_not_taken_and_shows_no_file(target: BoardTarget, monkeypatch: Any):
    link = target._link
    monkeypatch.setattr(target, "_link", object())
    with pytest.raises(BoardError, match=r"^a board that is taken as it is must have bitward's extension, got none; "):
        target._take()
    with pytest.raises(BoardError, match=r"^/proc/version must be read through bitward's extension, got a server wit"):
        target.read_file("/proc/version")
    assert target.scrub_pass() is None
    monkeypatch.setattr(target, "_link", link)
    assert isinstance(link, ExtensionLink) and b"virtual" in target.read_file("/proc/version")


# ---- the build id ----------------------------------------------------------------------------------------------------


def built_by_vivado(build: Path, build_id: str | None) -> None:
    """The build's record says so, and its manifest has the register."""
    record = {} if build_id is None else {"build_id": build_id}
    (build / "build.json").write_text(json.dumps({"implementation": record}))


def test_a_bitstream_of_another_build_is_refused(target: BoardTarget, small: Path, monkeypatch: Any):
    registers = {**target.manifest.registers, "build_id": 0x18}
    monkeypatch.setattr(target, "_manifest", replace(target.manifest, registers=registers))
    read = ExtensionLink.read
    held_id = {0x18: [0x1234ABCD]}
    monkeypatch.setattr(ExtensionLink, "read", lambda self, at, count: held_id.get(at) or read(self, at, count))
    target.identify()  # a build that Vivado did not make says none
    built_by_vivado(small, "0x1234abcd")
    target.identify()
    built_by_vivado(small, "0x1234abce")
    with pytest.raises(BoardError, match=r"^the loaded bitstream must be build 0x1234abce of \S+, got build 0x1234ab"):
        target.identify()
    built_by_vivado(small, None)
    with pytest.raises(BoardError, match=r"^\S+build.json must say the bitstream's build id, got KeyError\('build_id"):
        target.identify()
    (small / "build.json").write_text("no JSON")
    with pytest.raises(BoardError, match=r"^\S+build.json must say the bitstream's build id, got JSONDecodeError"):
        target.identify()


def test_a_manifest_without_the_register_is_asked_for_none(target: BoardTarget, small: Path):
    built_by_vivado(small, "0x1234abcd")
    target.identify()


# ---- a server that starts again --------------------------------------------------------------------------------------


def test_a_server_that_is_starting_is_waited_for(small: Path, broken: Broken, monkeypatch: Any, caplog: Any):
    monkeypatch.setattr(board_module, "TRY_AGAIN_S", 0.1)
    board = virtual_board(small, lambda _: SmallDesign(small, broken))
    with Server(board, port=0) as first:
        host, port = first.host, first.port
    servers: list[Server] = []
    starting = threading.Timer(0.6, lambda: servers.append(Server(board, host, port)))
    starting.start()
    try:
        with BoardTarget(small, host, port) as target:
            assert target.infer(IMAGES).shape == (2, ELEMENTS)
    finally:
        starting.join()
        for server in servers:
            server.stop()
    waits = [record.getMessage() for record in caplog.records if "does not answer yet" in record.getMessage()]
    assert waits == [f"{host}:{port} does not answer yet: asked again for 15 s"]


def test_a_server_that_does_not_come_is_told_after_a_bounded_time(small: Path, running: Server, monkeypatch: Any):
    running.stop()
    monkeypatch.setattr(board_module, "TRY_AGAIN_S", 0.05)
    monkeypatch.setattr(board_module, "OPENED_WITHIN_S", 0.4)
    started = time.monotonic()
    target = BoardTarget(small, running.host, running.port)
    with pytest.raises(LostError, match=r"^the board at \S+ must answer, got no connection; .* \(asked for 0.4 s\)$"):
        target.open()
    target.close()
    assert time.monotonic() - started < 5


def test_what_waiting_does_not_mend_is_told_at_once(small: Path, running: Server, tls: Any, monkeypatch: Any):
    def never(_: float) -> None:
        raise AssertionError("waited")

    monkeypatch.setattr(board_module.time, "sleep", never)
    target = BoardTarget(small, running.host, running.port, board_module.Credentials(tls.certificate, tls.token_file))
    with pytest.raises(BoardError, match=r"^the board at \S+ must serve TLS to be given a token"):
        target.open()
    target.close()

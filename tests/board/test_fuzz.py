# SPDX-License-Identifier: Apache-2.0
"""A short fuzz of the server; and that the fuzz would see a server that accepts too much."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from bitward_runtime.connection import Credentials
from bitward_runtime.lease import Leases
from bitward_runtime.server import Server
from fuzz import Found, Holder, Strangers, fuzz, wild
from fuzz_tls import against, fuzz_tls

from bitward import tools


def test_a_short_fuzz_finds_nothing(tmp_path: Path):
    figures = fuzz(800, 3, tmp_path)
    assert figures["failures"] == [] and figures["wrong"] == 0
    assert figures["requests"] >= 800 and figures["idle_connections"] == 500


def test_a_short_fuzz_over_tls_finds_nothing(tls, tmp_path: Path):
    figures = fuzz_tls(300, 3, tmp_path)
    assert figures["failures"] == [] and figures["wrong"] == 0 and figures["requests"] >= 300
    assert {"UNAUTHENTICATED", "FAILED_PRECONDITION", "UNIMPLEMENTED", "UNAVAILABLE"} <= set(figures["statuses"])
    assert figures["accepted_rightly"] == figures["statuses"]["OK"] > 0


@pytest.mark.parametrize("broken", ["bitward_runtime.guard.check_token", "bitward_runtime.lease.Leases._current"])
def test_a_server_that_takes_any_token_or_fence_is_found_out(board, bit, tls, monkeypatch, broken: str):
    """Negative controls: without the token's check, and without the fence's."""
    with Server(board, port=0, access=tls) as server:
        if broken.endswith("check_token"):
            monkeypatch.setattr(broken, lambda metadata, token: None)
        else:
            monkeypatch.setattr(broken, lambda self, fence: self._lease)
        credentials = Credentials(tls.certificate, tls.token_file)
        figures = against(server.host, server.port, credentials, bit, 150, 3)
    assert figures["wrong"] > 0 and figures["failures"]


def test_a_server_that_serves_everybody_is_found_out(server, bit, monkeypatch):
    """Negative control: without a lease, strangers are accepted, and the holder's memory is not what it wrote."""
    random, found = np.random.default_rng(1), Found()
    holder = Holder(server.host, server.port, bit, found, random)
    strangers = Strangers(f"{server.host}:{server.port}", found, random)
    monkeypatch.setattr(Leases, "_is_free", lambda self: True)
    for _ in range(200):
        strangers.send()
    strangers.end()
    monkeypatch.undo()
    assert any(text.startswith("stranger /bitward.Board/acquire") or "/mmio" in text or "/remote" in text
               for text in found.wrong)  # fmt: skip
    holder.end()


def test_an_oracle_that_is_wrong_is_found_out(server, bit, monkeypatch):
    """Negative control: rows that the server refuses, and should by the oracle's account accept."""
    monkeypatch.setattr(Holder, "_is_right", staticmethod(lambda group: True))
    random, found = np.random.default_rng(1), Found()
    holder = Holder(server.host, server.port, bit, found, random)
    for _ in range(20):
        holder._rows("read")
    holder.end()
    assert found.wrong


def test_the_fuzz_is_a_command(tmp_path: Path):
    said = tools.run([sys.executable, Path(__file__).parent / "fuzz.py", "--help"]).stdout
    assert "--requests" in said


def test_wild_messages_are_messages():
    from bitward_runtime.proto import bitward_pb2

    random = np.random.default_rng(1)
    for _ in range(50):
        bitward_pb2.FlipRequest.FromString(wild(bitward_pb2.FlipRequest.DESCRIPTOR, random))

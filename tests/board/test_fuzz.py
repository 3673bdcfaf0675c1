# SPDX-License-Identifier: Apache-2.0
"""A short fuzz of the server; and that the fuzz would see a server that accepts too much."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from bitward_runtime.lease import Leases
from fuzz import Found, Holder, Strangers, fuzz, wild

from bitward import tools


def test_a_short_fuzz_finds_nothing(tmp_path: Path):
    figures = fuzz(800, 3, tmp_path)
    assert figures["failures"] == [] and figures["wrong"] == 0
    assert figures["requests"] >= 800 and figures["idle_connections"] == 500


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

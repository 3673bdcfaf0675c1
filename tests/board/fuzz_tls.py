# SPDX-License-Identifier: Apache-2.0
"""The fuzz's second phase: a server with TLS and a token, before clients that lack one thing each.

Over TLS without a token, with tokens that are nearly right, with the right token and no lease, an expired one or a
random one; with the right token at services that are not served; and without TLS. Only hello with the right token, and
the holder, are served; the memory stays as the holder left it.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from bitward_runtime.bitfile import firmware_of
from bitward_runtime.extension_client import Credentials, ExtensionClient, Rows
from bitward_runtime.proto import bitward_pb2
from bitward_virtual.emulate import overlay_of
from conftest import make_build, make_tls
from fake_accelerator import RAM, RAM_WORDS
from fuzz import ACCELERATOR, METHODS, Found, garbage, pick, status_of, wild

from bitward import tools

OURS = [method for method in METHODS if method.containing_service.full_name == "bitward.Board"]
FENCED = [each for each in OURS if each.name not in ("hello", "acquire", "renew", "release")]
EXPIRES_S = 0.05


def fuzz_tls(requests: int, seed: int, folder: Path) -> dict[str, Any]:
    """The figures of the phase; `failures` is empty where all is as it should be, `not_run` says why it was not."""
    if shutil.which("openssl") is None:
        return {"not_run": "openssl is not there to make a certificate", "failures": []}
    build = make_build(folder / "build-tls", "module top; endmodule")
    files = make_tls(folder / "tls")
    command = [sys.executable, Path(__file__).parent / "fake_accelerator.py", build, *files]
    process = tools.popen(command, cwd=folder, log=folder / "server-tls.log")
    try:
        ready = process.stdout.readline().decode() if process.stdout else ""
        port = int(ready.rsplit(":", 1)[1].split(",")[0])
        figures = against("127.0.0.1", port, Credentials(files[0], files[2]), overlay_of(build), requests, seed)
        figures["failures"] += [] if process.poll() is None else [f"the TLS server ended with {process.returncode}"]
    finally:
        process.terminate()
        code = process.wait(30)
    if code != 0:
        figures["failures"].append(f"the TLS server ended with {code} when asked to")
    return figures


def against(host: str, port: int, credentials: Credentials, bit: Path, requests: int, seed: int) -> dict[str, Any]:
    """The same for a server that runs."""
    random, found = np.random.default_rng(seed), Found()
    client = ExtensionClient.connect(host, port, credentials)
    words = _prepared(client, bit, random)
    token = credentials.token_file.read_text().strip()
    trusted = grpc.ssl_channel_credentials(credentials.certificate.read_bytes())
    with grpc.secure_channel(f"{host}:{port}", trusted) as secure, grpc.insecure_channel(f"{host}:{port}") as plain:
        while found.requests < requests:
            choice = random.integers(10)
            if choice < 4:
                _without_token(secure, found, random, token)
            elif choice < 8:
                _without_lease(secure, found, random, token, client)
            elif choice < 9:
                _elsewhere(secure, found, random, token)
            else:
                _without_tls(plain, found, random, token)
    connections = garbage(host, port, min(requests // 20, 100), random)
    failures = [f"wrong: {text}" for text in found.wrong[:20]]
    client.acquire("fuzz at the end")
    if not np.array_equal(client.read([Rows(ACCELERATOR + RAM, 4, 1, count=RAM_WORDS)]), words):
        failures.append("the memory differs from what the holder left")
    client.close()
    return {
        "requests": found.requests, "accepted_rightly": found.accepted, "wrong": len(found.wrong),
        "statuses": dict(found.statuses.most_common()), "garbage_connections": connections, "failures": failures,
    }  # fmt: skip


def _prepared(client: ExtensionClient, bit: Path, random: np.random.Generator) -> Any:
    """What the holder wrote before it let its lease expire; the client goes on with that lease's fence."""
    client.acquire("fuzz")
    client.program("fuzz.bin", firmware_of(bit.read_bytes()))
    words = random.integers(0, 1 << 32, RAM_WORDS, dtype=np.uint32)
    client.write([Rows(ACCELERATOR + RAM, 4, 1, count=RAM_WORDS)], words)
    client.release()
    client.acquire("fuzz for a moment", seconds=EXPIRES_S)
    time.sleep(2 * EXPIRES_S)
    return words


def _call(channel: grpc.Channel, path: str, data: bytes, metadata: list[tuple[str, str]]) -> Callable[[], Any]:
    return lambda: list(channel.unary_stream(path)(data, timeout=30, metadata=metadata))


def _path(method: Any) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def _without_token(channel: grpc.Channel, found: Found, random: np.random.Generator, token: str) -> None:
    """Nothing is served, hello included."""
    method = pick(random, OURS)
    near = [f"Bearer {token[:-1]}", f"Bearer {token}0", f"Bearer {token.upper()}", f"bearer {token}", token, "Bearer ",
            f"Bearer {token} ", f"Basic {token}", f"Bearer {random.bytes(16).hex()}", f"Bearer  {token}"]  # fmt: skip
    shown = [[], [("authorization", str(pick(random, near)))], [("authorization", f"Bearer {token}")] * 2,
             [("x-authorization", f"Bearer {token}")]]  # fmt: skip
    metadata = shown[random.integers(len(shown))]
    status = status_of(_call(channel, _path(method), wild(method.input_type, random), metadata))
    found.note(f"{metadata} {method.name}", status, metadata == [("authorization", f"Bearer {token} ")] and None)


def _without_lease(
    channel: grpc.Channel, found: Found, random: np.random.Generator, token: str, late: ExtensionClient
) -> None:
    """The right token: hello is served; calls with a fence that has expired, or is none, are not."""
    metadata = [("authorization", f"Bearer {token}")]
    if random.random() < 0.1:
        found.note("hello", status_of(_call(channel, "/bitward.Board/hello", b"", metadata)), True)
        return
    method = pick(random, FENCED)
    name = method.input_type.name
    fence = int(pick(random, [late.fence, late.fence + 1, late.fence - 1, 0, 1, 2**64 - 1]))
    message = getattr(bitward_pb2, name)()
    if name in ("ReadRequest", "FlipRequest"):  # as the holder would ask: nothing else is wrong with it
        message.rows.add(base=ACCELERATOR + RAM, stride=4, segments=1, count=1)
        if name == "FlipRequest":
            message.flips = b"\1\2\3\4"
    else:
        message.ParseFromString(wild(method.input_type, random))
    message.fence = fence
    status = status_of(_call(channel, _path(method), message.SerializeToString(), metadata))
    found.note(f"{name} of fence {fence}", status, False)


def _elsewhere(channel: grpc.Channel, found: Found, random: np.random.Generator, token: str) -> None:
    """PYNQ.remote's services are not there, whatever is shown."""
    method = pick(random, [each for each in METHODS if each not in OURS])
    metadata = [("authorization", f"Bearer {token}")]
    status = status_of(_call(channel, _path(method), wild(method.input_type, random), metadata))
    found.note(_path(method), status, False)


def _without_tls(channel: grpc.Channel, found: Found, random: np.random.Generator, token: str) -> None:
    """No call reaches the server, the right token or not."""
    method = pick(random, OURS)
    data = wild(method.input_type, random)
    found.note(
        f"plain {method.name}",
        status_of(_call(channel, _path(method), data, [("authorization", f"Bearer {token}")])),
        False,
    )

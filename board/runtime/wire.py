# SPDX-License-Identifier: Apache-2.0
"""Messages on a pipe between `AgentClient` and the agent: two lengths, a JSON header, raw bytes.

4 bytes header length | 4 bytes payload length | header (UTF-8 JSON object) | payload      (lengths big-endian)
"""

from __future__ import annotations

import json
import struct
from typing import IO, Any

LENGTHS = struct.Struct(">II")


def send(stream: IO[bytes], header: dict[str, Any], payload: bytes = b"") -> None:
    """One message is on its way; OSError where the other end is gone."""
    text = json.dumps(header).encode()
    stream.write(LENGTHS.pack(len(text), len(payload)) + text + payload)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """The next message; EOFError where the other end closed, also in the middle of one."""
    header_size, payload_size = LENGTHS.unpack(_exactly(stream, LENGTHS.size))
    return json.loads(_exactly(stream, header_size)), _exactly(stream, payload_size)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise EOFError(f"the other end must send {size} bytes, got {len(data)}")
    return data

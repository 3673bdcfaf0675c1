# SPDX-License-Identifier: Apache-2.0
"""The audit log: one line of JSON for each call that may change the board, done or refused."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bitward.errors import OutputError

MAX_BYTES = 16 << 20  # of a file, before the next is begun
KEPT_FILES = 4  # beside the one that is written: NAME.1 is the latest


class Audit:
    """Lines are appended to `path`, each whole; OutputError where that cannot be."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, kept: int = KEPT_FILES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._kept = kept
        self._lock = threading.Lock()
        with self._sentence():
            self._file = open(path, "ab", buffering=0)

    def record(self, **fields: Any) -> None:
        """One more line: the time in UTC, and the fields."""
        line = json.dumps({"time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), **fields}) + "\n"
        with self._lock, self._sentence():
            if self._file.tell() and self._file.tell() + len(line) > self._max_bytes:
                self._rotate()
            self._file.write(line.encode())

    def close(self) -> None:
        """Nothing more is written."""
        self._file.close()

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self._kept, 0, -1):
            older = self._path if number == 1 else self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        self._file = open(self._path, "ab", buffering=0)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _sentence(self) -> _Sentence:
        return _Sentence(self._path)


class _Sentence:
    """OSErrors inside leave as OutputError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise OutputError(
                f"the audit log {self._path} must be writable, got {error.strerror}; name another file"
            ) from error


def shortened(messages: list[Any]) -> dict[str, Any]:
    """What messages ask for, in few characters: the set fields of the first one, contents as lengths."""
    if not messages:
        return {}
    found = {field.name: _short(value) for field, value in messages[0].ListFields() if field.name != "fence"}
    return {**found, "messages": len(messages)} if len(messages) > 1 else found


def _fields(message: Any) -> dict[str, Any]:
    return {field.name: _short(part) for field, part in message.ListFields()}


def _short(value: Any) -> Any:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, str):
        return value[:100]
    if isinstance(value, (bool, int, float)):
        return value
    groups = [_short(each) if isinstance(each, str) else _fields(each) for each in value[:3]]
    return [*groups, f"{len(value) - 3} more"] if len(value) > 3 else groups

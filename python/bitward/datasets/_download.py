# SPDX-License-Identifier: Apache-2.0
"""Downloads of published files: whole and with the published sum, or not there; a cut-off one goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from bitward.datasets._published import Published, check_sum, hash_of
from bitward.errors import ToolError
from bitward.tools import output_directory, writing_to

TIMEOUT_S = 30
CHUNK = 1 << 18  # bytes
UNFINISHED = ".unfinished"
PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 206, 416
Tell = Callable[[int, int | None], None]


def download(file: Published, folder: Path, tell: Tell = lambda done, total: None) -> Path:
    """The published file is in `folder`, with its sum checked; one that is there already is not fetched again.

    `tell` hears of the bytes there so far and of all (None where the server does not say). What a broken connection
    left is kept, and the next call goes on from there. ToolError: no network, or no such file on the server;
    ConfigError: other bytes than those published; OutputError: a folder that cannot be written.
    """
    target = output_directory(folder) / file.name
    if target.is_file() and hash_of(target) == file.md5:
        return target
    unfinished = target.with_name(target.name + UNFINISHED)
    try:
        _fetch(file, unfinished, tell)
    except (HTTPException, OSError) as error:
        raise ToolError(
            f"{file.url} must be reachable, got {_reason(error)}: call this again, or fetch the file elsewhere and put "
            f"it at {target}"
        ) from error
    found = hash_of(unfinished)
    if found != file.md5:
        unfinished.unlink()
    check_sum(file.url, file.md5, found)
    with writing_to(target):
        os.replace(unfinished, target)
    return target


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"HTTP status {error.code}"
    return str(getattr(error, "reason", "") or error) or type(error).__name__


def _fetch(file: Published, unfinished: Path, tell: Tell) -> None:
    """The rest of the file is behind what is there of it; all of it where the server sends no rest."""
    there = unfinished.stat().st_size if unfinished.is_file() else 0
    request = Request(file.url, headers={"Range": f"bytes={there}-"} if there else {})
    try:
        answer: HTTPResponse = urlopen(request, timeout=TIMEOUT_S)
    except HTTPError as error:
        if error.code != RANGE_NOT_SATISFIABLE or not there:
            raise
        return  # all of it was there: its sum says whether it is the right one
    with answer:
        goes_on = answer.status == PARTIAL_CONTENT
        done = there if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length else None
        _append(answer, unfinished, "ab" if goes_on else "wb", lambda more: tell(done + more, total))
    if total is not None and (size := unfinished.stat().st_size) != total:
        raise ConnectionError(f"{size} of {total} bytes")


def _append(answer: HTTPResponse, path: Path, mode: str, tell: Callable[[int], None]) -> None:
    """The answer's bytes are in the file and on disk; OutputError where the file cannot be written."""
    more = 0
    with writing_to(path):
        file = open(path, mode)
    with file:
        while chunk := answer.read(CHUNK):
            with writing_to(path):
                file.write(chunk)
            more += len(chunk)
            tell(more)
        with writing_to(path):
            file.flush()
            os.fsync(file.fileno())

# SPDX-License-Identifier: Apache-2.0
"""The files a PYNQ.remote client may see: a short allow-list, and nothing it writes ever reaches a disk.

The client programs the PL by writing /lib/firmware/NAME.bin and then that name into the FPGA manager. The bitstream is
kept in memory until then, and dropped once it was used, so that a changed .bit of the same name is always sent again
(the client skips what `exists` says is there). Files in /tmp are scratch in memory, for pynq's self-test.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from bitward.errors import BoardError

from .backend import Backend

MANAGER = "/sys/class/fpga_manager/fpga0"
PYNQ_BOARD = "/proc/device-tree/chosen/pynq_board"
SYSTEM_FILES = ("/proc/version", PYNQ_BOARD, f"{MANAGER}/state", f"{MANAGER}/flags")
SENSOR_FILE = re.compile(r"/sys/class/hwmon/hwmon\d{1,2}/(name|power1_input)", re.ASCII)
BITSTREAM = re.compile(r"\w[\w.-]*\.bin", re.ASCII)
FIRMWARE = re.compile(rf"/lib/firmware/({BITSTREAM.pattern})", re.ASCII)
SCRATCH = re.compile(r"/tmp/\w[\w.-]*", re.ASCII)
MAX_FILE_BYTES = 64 << 20  # a KV260 bitstream has 7.8 MB
MAX_KEPT_FILES = 16


def is_shown(path: str) -> bool:
    """Whether a path is of a system file that every client may read: a short list, and the sensors' figures."""
    return path in SYSTEM_FILES or SENSOR_FILE.fullmatch(path) is not None


def read_shown(backend: Backend, path: str) -> bytes:
    """The content of such a file; BoardError for every other, and for one that the board does not have."""
    if not is_shown(path):
        raise BoardError(
            f"a file to read must be one of {', '.join(SYSTEM_FILES)}, /sys/class/hwmon/hwmonN/name or /power1_input, "
            f"got {path!r}; this server shows no other file"
        )
    return backend.read_file(path)


class RemoteFiles:
    """The client's view of the board's files; every other path does not exist, and is refused."""

    def __init__(self, backend: Backend, program: Callable[[str, bytes], None] | None = None) -> None:
        """`program` loads a bitstream by its name and content; the backend's own where none is given."""
        self._backend = backend
        self._load = program or backend.program
        self._kept: dict[str, bytes] = {}  # firmware not yet used, and scratch
        self._actions: dict[str, Callable[[str], None]] = {
            f"{MANAGER}/flags": self._set_flags,
            f"{MANAGER}/firmware": self._program,
        }

    def forget(self) -> None:
        """No file is kept."""
        self._kept.clear()

    def exists(self, path: str) -> bool:
        """Whether `read` would answer."""
        return path in self._kept or self._is_there(path)

    def read(self, path: str) -> bytes:
        """The content of a system file, or of a file written before."""
        return self._kept[path] if path in self._kept else read_shown(self._backend, path)

    def write(self, path: str, data: bytes) -> None:
        """`data` is kept in memory, or acted on where the path belongs to the FPGA manager."""
        if path in self._actions:
            self._actions[path](data.decode("ascii", "replace").strip())
        elif FIRMWARE.fullmatch(path) or SCRATCH.fullmatch(path):
            self._keep(path, data)
        else:
            raise BoardError(
                f"a file to write must be /lib/firmware/NAME.bin, /tmp/NAME or {MANAGER}/firmware or /flags, "
                f"got {path!r}; this server writes no other file"
            )

    def _is_there(self, path: str) -> bool:
        if path in SYSTEM_FILES:
            return True
        try:
            return is_shown(path) and bool(self._backend.read_file(path))
        except BoardError:
            return False

    def _keep(self, path: str, data: bytes) -> None:
        if len(data) > MAX_FILE_BYTES:
            raise BoardError(
                f"{path} must have at most {MAX_FILE_BYTES} bytes, got {len(data)}; is it a bitstream of this board?"
            )
        self._kept.pop(path, None)
        while len(self._kept) >= MAX_KEPT_FILES:
            del self._kept[next(iter(self._kept))]  # the oldest
        self._kept[path] = data

    def _set_flags(self, flags: str) -> None:
        if flags != "0":
            raise BoardError(f"{MANAGER}/flags must be 0 (a full bitstream), got {flags!r}; load the whole overlay")

    def _program(self, name: str) -> None:
        bitstream = self._kept.pop(f"/lib/firmware/{name}", None)
        if bitstream is None:
            raise BoardError(
                f"/lib/firmware/{name} must be written before the FPGA manager loads it, got no such file; "
                "load the overlay again"
            )
        self._load(name, bitstream)

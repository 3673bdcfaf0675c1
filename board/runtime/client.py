# SPDX-License-Identifier: Apache-2.0
"""A board through the stock, unmodified pynq 4.0 client: registers of the accelerator, and inference over AXI DMA.

Runs where pynq 4.0 is installed (`.venv-board`). The overlay names its blocks `accelerator` and `axi_dma`. Known traps
of the client are kept out here: numpy integers never reach `mmio.write`; words are read one by one, as an answer has 32
bits; whole buffers are synchronised, as slices flush to byte 0; and loading is serialised between processes, because
pynq keeps the metadata of the last overlay in files inside its own package.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pynq
from pynq.pl_server.device import Device
from pynq.pl_server.remote_device import RemoteDevice

from bitward.errors import BoardError

from .extension_client import LEASE_S, LEASE_WITHIN_S, NO_CONNECTION, TRY_EVERY_S, ExtensionClient

RESET = 0x4  # DMACR.Reset, PG021: either channel's bit resets both
UNREACHABLE = "Failed to connect to remote device"  # how pynq begins its RuntimeError


@contextlib.contextmanager
def _sentences(where: str) -> Iterator[None]:
    """Errors of gRPC and pynq leave as BoardError with one sentence."""
    try:
        yield
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAVAILABLE:
            raise BoardError(f"{where} {NO_CONNECTION}") from error
        raise BoardError(error.details()) from error
    except (RuntimeError, OSError, ValueError, MemoryError) as error:
        if str(error).startswith(UNREACHABLE):
            raise BoardError(f"{where} {NO_CONNECTION}") from error
        raise BoardError(f"{where} could not do it: {error}") from error


@contextlib.contextmanager
def _sole_user_of_pynq_state() -> Iterator[None]:
    """No other process of this machine loads an overlay with this pynq meanwhile."""
    folder = os.open(Path(pynq.__file__).parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _check_overlay(bit: str) -> None:
    if not Path(bit).is_file():
        raise BoardError(f"the overlay must be a file, got {bit!r}; build it first")


def _device(host: str, port: int) -> RemoteDevice:
    """pynq's device; its first calls take the lease, so they are made until the board's last holder has left."""
    ends = time.monotonic() + LEASE_WITHIN_S
    while True:
        try:
            return RemoteDevice(0, host, port)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.FAILED_PRECONDITION or time.monotonic() > ends:
                raise
        time.sleep(TRY_EVERY_S)


class PynqBoard:
    """An overlay loaded on the board behind host:port. BoardError, one sentence, where anything fails."""

    def __init__(self, host: str, port: int, bit: str) -> None:
        self._where = f"the board at {host}:{port}"
        _check_overlay(bit)
        self._buffers: dict[tuple[str, int], Any] = {}
        with _sentences(self._where):
            self._device = _device(host, port)
        self._lease: ExtensionClient | None = ExtensionClient(self._device.client.channel, self._where)
        try:
            if self._lease.hello() is None:
                self._lease = None  # another server than bitward's: it knows no lease
            else:
                self._lease.acquire(f"bitward agent {os.getpid()}", LEASE_S, within_s=0)
            self.load(bit)
        except BaseException:
            self.close()
            raise

    def load(self, bit: str) -> None:
        """The overlay `bit` is loaded, anew where it was."""
        _check_overlay(bit)
        with _sentences(self._where), _sole_user_of_pynq_state():
            Device.active_device = self._device
            self._overlay = pynq.Overlay(bit, device=self._device)
            self._registers = self._overlay.accelerator.mmio
            self._dma = self._overlay.axi_dma

    @property
    def name(self) -> str:
        """What the board calls itself; a virtual one says so."""
        return str(self._device.name)

    @property
    def clk_mhz(self) -> float:
        """PL clock 0, from the board's clock registers."""
        with _sentences(self._where):
            return float(pynq.Clocks.fclk0_mhz)

    def read(self, address: int, words: int) -> np.ndarray:
        """The 32-bit words from byte `address` of the accelerator's window on; uint32, shape (words,)."""
        with _sentences(self._where):
            return np.array([self._registers.read(address + 4 * at) for at in range(words)], dtype=np.uint32)

    def write(self, address: int, words: np.ndarray) -> None:
        """`words` (uint32) are written from byte `address` of the accelerator's window on, lowest first."""
        with _sentences(self._where):
            self._registers.write(address, np.asarray(words, dtype="<u4").tobytes())

    def infer(self, stream: bytes, out_bytes: int) -> bytes:
        """What the accelerator streams back for `stream`; all `out_bytes` of it, or BoardError."""
        send, receive = self._dma.sendchannel, self._dma.recvchannel
        try:
            with _sentences(self._where):
                source, sink = self._buffer("in", len(stream)), self._buffer("out", out_bytes)
                source[:] = np.frombuffer(stream, dtype=np.uint8)
                receive.transfer(sink)  # armed first, so that no output waits
                send.transfer(source)
                send.wait()
                receive.wait()
        except BoardError:
            self._reset_dma()
            raise
        if receive.transferred != out_bytes:
            raise BoardError(
                f"the accelerator must stream {out_bytes} bytes for {len(stream)}, got {receive.transferred}; "
                "do the overlay and its manifest belong together?"
            )
        return sink.tobytes()

    def close(self) -> None:
        """The board's buffers and its lease are given back."""
        try:
            with _sentences(self._where):
                while self._buffers:
                    self._buffers.popitem()[1].freebuffer()
        finally:
            if self._lease is not None:
                self._lease.close()  # and with it the channel
            else:
                self._device.client.channel.close()

    def _buffer(self, use: str, size: int) -> Any:
        if (use, size) not in self._buffers:
            for key in [key for key in self._buffers if key[0] == use]:
                self._buffers.pop(key).freebuffer()
            self._buffers[use, size] = pynq.allocate((size,), dtype=np.uint8, target=self._device)
        return self._buffers[use, size]

    def _reset_dma(self) -> None:
        """The next transfer starts afresh; says nothing where the board is gone, the caller reports that already."""
        try:
            self._dma.mmio.write(0, RESET)
            self._dma.sendchannel.start()
            self._dma.recvchannel.start()
        except (grpc.RpcError, RuntimeError) as error:
            print(f"{self._where}: DMA not reset: {error}", file=sys.stderr)

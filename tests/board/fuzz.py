# SPDX-License-Identifier: Apache-2.0
"""Malformed and unauthorised requests against the board server, and what must be true afterwards.

    python tests/board/fuzz.py --requests 200000

A virtual board runs in a process of its own, with an accelerator of 256 words. One client holds it; strangers send
random bytes, random methods, messages of random fields and fences. The holder sends requests that are out of range by
its own account (an oracle that shares no code with the server), and some that are right. Then: no request was accepted
that should not be, none refused that should not be, the memory holds what the right ones made of it, none of the files
that were named exist, and the server says hello within a second beside 500 idle connections and 100 stalled calls.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from bitward_runtime.bitfile import firmware_of
from bitward_runtime.extension_client import ExtensionClient, Keeper, Rows
from bitward_runtime.proto import bitward_pb2, buffer_pb2, mmio_pb2, remote_device_pb2
from bitward_virtual.emulate import overlay_of
from conftest import make_build
from fake_accelerator import RAM, RAM_WORDS, manifest_of_ram
from google.protobuf.message_factory import GetMessageClass

from bitward import tools

ACCELERATOR, DMA, WINDOW = 0xA000_0000, 0xAFFF_0000, 1 << 20
MAPPED = (
    (0xA000_0000, 1 << 20),
    (0xAFFF_0000, 1 << 16),
    (0xAFFE_0000, 1 << 16),
    (0xFF5E_0000, 256),
    (0xFD1A_0000, 256),
)
MANIFEST = manifest_of_ram().to_json()
MOST_WORDS, MOST_GROUPS = 1 << 18, 1024
SERVICES = [
    *bitward_pb2.DESCRIPTOR.services_by_name.values(), *mmio_pb2.DESCRIPTOR.services_by_name.values(),
    *buffer_pb2.DESCRIPTOR.services_by_name.values(), *remote_device_pb2.DESCRIPTOR.services_by_name.values(),
]  # fmt: skip
METHODS = [method for service in SERVICES for method in service.methods]
AT_ONCE = 48  # calls of strangers under way
HEALTH_S, IDLE, STALLED = 1.0, 500, 100


@dataclass
class Found:
    """What the fuzz saw; `wrong` are accepted or refused against the oracle."""

    requests: int = 0
    accepted: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def note(self, what: str, status: str, should_be_accepted: bool | None) -> None:
        """One more request; None: whether it is accepted is all the same."""
        self.requests += 1
        self.statuses[status] += 1
        self.accepted += status == "OK"
        if should_be_accepted is not None and (status == "OK") != should_be_accepted:
            self.wrong.append(f"{what}: {status}")


class Strangers:
    """Clients without a lease: every call of theirs but hello must be refused."""

    def __init__(self, target: str, found: Found, random: np.random.Generator) -> None:
        self._channels = [
            grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)]) for _ in "abcd"
        ]
        self._found = found
        self._random = random
        self._under_way: deque[tuple[str, Any]] = deque()

    def send(self) -> None:
        """One more request; the oldest is waited for where many are under way."""
        random = self._random
        kind = random.integers(4)
        method = METHODS[random.integers(len(METHODS))]
        path = f"/{method.containing_service.full_name}/{method.name}"
        if kind == 0:
            path = f"/{pick(random, ['bitward.Board', 'mmio.Mmio', 'x', ''])}/{random.bytes(4).hex()}"
        data = random.bytes(int(random.integers(200))) if kind <= 1 else wild(method.input_type, random)
        call = self._channels[random.integers(4)].unary_stream(path)
        self._under_way.append((path, call(data, timeout=30)))
        if len(self._under_way) >= AT_ONCE:
            self._wait()

    def end(self) -> None:
        """All have been answered."""
        while self._under_way:
            self._wait()
        for channel in self._channels:
            channel.close()

    def _wait(self) -> None:
        path, call = self._under_way.popleft()
        self._found.note(f"stranger {path}", status_of(lambda: list(call)), path == "/bitward.Board/hello")


def pick(random: np.random.Generator, choices: Sequence[Any]) -> Any:
    """One of them, of its own type: numpy's choice makes floats of what does not fit into 64 bits."""
    return choices[random.integers(len(choices))]


def status_of(call: Callable[[], Any]) -> str:
    """OK, or the name of the gRPC status."""
    try:
        call()
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def wild(kind: Any, random: np.random.Generator) -> bytes:
    """A message of that type with random fields: extremes, and paths and names that should lead nowhere."""
    message = GetMessageClass(kind)()
    for each in kind.fields:
        if random.random() < 0.2:
            continue
        if each.label == each.LABEL_REPEATED:
            for _ in range(random.integers(3)):
                if each.message_type is None:
                    getattr(message, each.name).append(_value(each, random))
                else:
                    getattr(message, each.name).add().ParseFromString(wild(each.message_type, random))
        else:
            setattr(message, each.name, _value(each, random))
    return bytes(message.SerializeToString())


def _value(each: Any, random: np.random.Generator) -> Any:
    if each.type == each.TYPE_STRING:
        return str(pick(random, ["", "1", "../../etc/passwd", "/etc/passwd", "/tmp/../x", "a" * 300, "é\n", "|u1"]))
    if each.type == each.TYPE_BYTES:
        return random.bytes(int(random.integers(64)))
    if each.type == each.TYPE_BOOL:
        return bool(random.integers(2))
    if each.type == each.TYPE_DOUBLE:
        return float(pick(random, [0, -1, 1e300, float("nan"), float("inf")]))
    if each.type in (each.TYPE_INT32,):
        return int(pick(random, [0, -1, 1, 2**31 - 1, -(2**31)]))
    bits = 32 if each.type == each.TYPE_UINT32 else 64
    if random.random() < 0.5:
        return [0, 1, 4, 2 ** (bits - 1), 2**bits - 1][random.integers(5)]
    return int(random.integers(0, 2**bits - 1, dtype=np.uint64))


class Holder:
    """The client that holds the board, and a model of its memory."""

    def __init__(self, host: str, port: int, bit: Path, found: Found, random: np.random.Generator) -> None:
        self.client = ExtensionClient.connect(host, port)
        self.client.acquire("fuzz")
        self._keeper = Keeper(self.client, 2.0)
        self.client.program("fuzz.bin", firmware_of(bit.read_bytes()))
        self._found = found
        self._random = random
        self.words = self.read()
        self.named: set[str] = set()
        self._kept: set[str] = set()

    def read(self) -> Any:
        """The memory as it is."""
        return self.client.read([Rows(ACCELERATOR + RAM, 4, 1, count=RAM_WORDS)])

    def send(self) -> None:
        """One request, right or wrong by the oracle here."""
        choice = self._random.integers(10)
        if self._random.random() < 0.03:
            self._scrub()
        elif choice < 5:
            self._rows(("read", "write", "flip", "check")[self._random.integers(4)])
        elif choice < 8:
            self._registers()
        else:
            self._files()

    def end(self) -> None:
        """The board is given back."""
        self._keeper.close()
        self.client.close()

    def _ask(self, path: str, data: bytes | list[bytes]) -> tuple[str, bytes]:
        channel = self.client._channel
        try:
            parts = data if isinstance(data, list) else [data]
            return "OK", b"".join(channel.stream_stream(path)(iter(parts), timeout=30))
        except grpc.RpcError as error:
            return str(error.code().name), b""

    def _rows(self, name: str) -> None:
        groups = [self._group() for _ in range(self._random.integers(1, 4))]
        right = all(map(self._is_right, groups))
        words = sum(max(len(each.numbers) // 4, each.count) * each.segments for each in groups)
        right &= words <= MOST_WORDS
        data = self._random.bytes(4 * words if right else min(4 * words, 4096)) if name != "read" else b""
        if right and name != "read" and self._random.random() < 0.2:
            data, right = data + b"xyz", False
        fields = {"read": {}, "write": {"words": data}, "check": {"words": data}, "flip": {"flips": data}}[name]
        kind = getattr(bitward_pb2, f"{name.capitalize()}Request")
        request = kind(fence=self.client.fence, rows=groups, **fields)
        if self._random.random() < 0.05:
            request.fence, right = int(self._random.integers(2**63)), False
        status, _ = self._ask(f"/bitward.Board/{name}", request.SerializeToString())
        self._found.note(f"holder {name} {groups}"[:300], status, right)
        if right and status == "OK" and name in ("write", "flip"):
            self._apply(name, groups, np.frombuffer(data, "<u4"))

    def _group(self) -> Any:
        """Rows inside the memory, or wrong in one or more ways, but never in the window beside it."""
        random = self._random
        segments = int(random.integers(1, 5))
        rows = RAM_WORDS // segments
        numbers = random.integers(0, rows, random.integers(1, 20)).astype("<u4").tobytes()
        group = bitward_pb2.Rows(base=ACCELERATOR + RAM, stride=4 * segments, segments=segments, numbers=numbers)
        if random.random() < 0.5:
            return group
        wrong = random.integers(8)
        if wrong == 0:
            group.base = int(pick(random, [0, 3, 2**64 - 4, 2**63, ACCELERATOR + WINDOW, 0x8000_0000, DMA + (1 << 16)]))
        elif wrong == 1:
            group.base += int(random.integers(1, 4))
        elif wrong == 2:
            group.stride = int(pick(random, [0, 1, 2, 4 * segments - 1, 4 * segments + 2]))
        elif wrong == 3:
            group.segments = int(pick(random, [0, 2**31, 2**32 - 1, MOST_WORDS + 1]))
        elif wrong == 4:
            group.numbers = numbers + np.array([2**32 - 1, 2**31], "<u4").tobytes()
        elif wrong == 5:
            group.numbers = numbers + b"\0"
        elif wrong == 6:
            group.count = int(pick(random, [1, 2**32 - 1]))
        else:
            group.numbers, group.count, group.segments, group.stride = b"", 2**32 - 1, 1, 2**32 - 4
        return group

    @staticmethod
    def _is_right(group: Any) -> bool:
        end = ACCELERATOR + RAM + 4 * RAM_WORDS
        if group.segments < 1 or group.stride < 4 * group.segments or group.stride % 4 or group.base % 4:
            return False
        if len(group.numbers) % 4 or bool(group.numbers) == bool(group.count):
            return False
        numbers = np.frombuffer(group.numbers, "<u4").tolist() if group.numbers else [0, group.count - 1]
        reach = [group.base + number * group.stride for number in numbers]
        return min(reach) >= ACCELERATOR + RAM and max(reach) + 4 * group.segments <= end

    def _apply(self, name: str, groups: list[Any], words: Any) -> None:
        at = iter(words.tolist())
        for group in groups:
            for number in np.frombuffer(group.numbers, "<u4").tolist():
                for segment in range(group.segments):
                    place = (group.base - ACCELERATOR - RAM + number * group.stride) // 4 + segment
                    word = next(at)
                    self.words[place] = word if name == "write" else int(self.words[place]) ^ word

    def _registers(self) -> None:
        """A window of the stock service, and a read in it."""
        random = self._random
        base, size = MAPPED[random.integers(len(MAPPED))]
        start = base + [0, 4, 1, size, size - 4, 2**40][random.integers(6)]
        length = [0, 4, 5, size, size + 1, 2**32, 2**64 - start, 2**64 - 1][random.integers(8)]
        inside = any(low <= start and start + length <= low + room for low, room in MAPPED)
        right = start % 4 == 0 and length > 0 and inside
        request = mmio_pb2.GetMmioRequest(base_addr=start, length=length)
        status, answer = self._ask("/mmio.Mmio/get_mmio", request.SerializeToString())
        self._found.note(f"holder get_mmio {start:#x} {length:#x}", status, right)
        if status != "OK":
            return
        key = mmio_pb2.GetMmioResponse.FromString(answer).mmio_id
        offset = [length, length - 3, length - 1, 2**64 - 4, 2**63, 2][random.integers(6)]  # all beyond the end, or odd
        data = random.bytes(4 * int(random.integers(0, 3)))
        write = mmio_pb2.WriteRequest(mmio_id=key, offset=offset, data=data)
        read = mmio_pb2.ReadRequest(mmio_id=key, offset=offset, length=4)
        name, request = ("write", write) if random.random() < 0.5 else ("read", read)
        status, _ = self._ask(f"/mmio.Mmio/{name}", request.SerializeToString())
        self._found.note(f"holder {name} {offset:#x} in {length:#x}", status, False)

    def _files(self) -> None:
        random = self._random
        name = f"fuzz-{random.bytes(6).hex()}"
        path = str(pick(random, [f"/tmp/{name}", f"/lib/firmware/{name}.bin", f"/tmp/../tmp/{name}", f"/etc/{name}",
            f"/lib/firmware/../{name}.bin", f"/tmp/a/{name}", f"{name}", f"/tmp/{name}\n", f"/lib/firmware/{name}.sh",
            f"/tmp/{name}\0", f"//tmp/{name}", f"/sys/class/{name}"]))  # fmt: skip
        self.named.add(path.rstrip("\0\n"))
        right = bool(re.fullmatch(r"/tmp/[\w-]+|/lib/firmware/[\w-]+\.bin", path, re.ASCII))
        request = remote_device_pb2.WriteFileRequest(file_path=path, data=random.bytes(9))
        status, _ = self._ask("/remote_device.RemoteDevice/writefile", request.SerializeToString())
        self._found.note(f"holder writefile {path!r}", status, right)
        path = str(
            pick(random, ["/etc/passwd", "/proc/self/environ", "/proc/version/../self/mem", "/sys", "", path + "x"])
        )
        request = remote_device_pb2.ReadFileRequest(file_path=path)
        status, _ = self._ask("/remote_device.RemoteDevice/readfile", request.SerializeToString())
        self._found.note(f"holder readfile {path!r}", status, False)
        path = str(pick(random, [path, "/proc/version", "/sys/class/hwmon/hwmon0/power1_input", "/proc/version\0"]))
        request = bitward_pb2.FileRequest(fence=self.client.fence, path=path)
        status, _ = self._ask("/bitward.Board/readfile", request.SerializeToString())
        self._found.note(f"holder readfile {path!r}", status, path == "/proc/version")

    def _scrub(self) -> None:
        """A pass over a memory of the design's, or a manifest that is damaged; no pass changes golden rows."""
        random = self._random
        text = bytearray(MANIFEST, "utf-8")
        base, right = ACCELERATOR, True
        if random.random() < 0.3:
            base, right = int(pick(random, [0, 2**64 - 1, 2**63, ACCELERATOR + WINDOW, 0x8000_0000])), False
        if random.random() < 0.7:
            at = int(random.integers(len(text)))
            damage = pick(random, [b"", b"9", b"-", b"e9", b'"', b"[", b"\xff", b"null"])
            text[at : at + int(random.integers(3))] = damage
            right = None  # it may still be one: all that counts then is that nothing breaks
        request = bitward_pb2.ScrubRequest(fence=self.client.fence, base=base, manifest=text.decode("utf-8", "replace"))
        status, _ = self._ask("/bitward.Board/scrub", request.SerializeToString())
        self._found.note(f"holder scrub at {base:#x}", status, right)
        self._found.note("holder scrub must be answered by us", "OK" if status != "UNKNOWN" else status, True)
        self.words = self.read()  # a damaged manifest may name other words of the same memory, which are voted then


def health(host: str, port: int) -> tuple[float, int]:
    """The slowest of 20 hellos in seconds, beside IDLE connections and STALLED calls; and how many connections."""
    sockets = [socket.create_connection((host, port), timeout=10) for _ in range(IDLE)]
    for each in sockets[: IDLE // 5]:
        each.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")  # the preface, and nothing more
    with grpc.insecure_channel(f"{host}:{port}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        never = [channel.stream_unary("/bitward.Board/flip").future(_silence()) for _ in range(STALLED)]
        client = ExtensionClient.connect(host, port)
        slowest = 0.0
        for _ in range(20):
            started = time.perf_counter()
            client.hello(within_s=30)
            slowest = max(slowest, time.perf_counter() - started)
        client.close()
        for call in never:
            call.cancel()
    for each in sockets:
        each.close()
    return slowest, len(sockets)


def _silence() -> Iterator[bytes]:
    time.sleep(20)
    yield b""


def garbage(host: str, port: int, count: int, random: np.random.Generator) -> int:
    """Random bytes instead of HTTP/2, on connections of their own."""
    for _ in range(count):
        with socket.create_connection((host, port), timeout=10) as each:
            each.sendall(random.bytes(int(random.integers(1, 2000))))
    return count


def fuzz(requests: int, seed: int, folder: Path) -> dict[str, Any]:
    """The figures of one fuzz; `failures` is empty where all is as it should be."""
    build = make_build(folder / "build", "module top; endmodule")
    process = tools.popen(
        [sys.executable, Path(__file__).parent / "fake_accelerator.py", build], cwd=folder, log=folder / "server.log"
    )
    try:
        ready = process.stdout.readline().decode() if process.stdout else ""
        port = int(ready.rsplit(":", 1)[1].split(",")[0])
        figures = _against("127.0.0.1", port, build, requests, seed)
        figures["failures"] += [] if process.poll() is None else [f"the server ended with {process.returncode}"]
    finally:
        process.terminate()
        figures_code = process.wait(30)
    if figures_code != 0:
        figures["failures"].append(f"the server ended with {figures_code} when asked to")
    return figures


def _against(host: str, port: int, build: Path, requests: int, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    found = Found()
    holder = Holder(host, port, overlay_of(build), found, random)
    strangers = Strangers(f"{host}:{port}", found, random)
    started = time.perf_counter()
    while found.requests < requests:
        (strangers.send if random.random() < 0.7 else holder.send)()
    strangers.end()
    seconds = time.perf_counter() - started
    connections = garbage(host, port, min(requests // 100, 500), random)
    slowest, idle = health(host, port)
    failures = [f"wrong: {text}" for text in found.wrong[:20]]
    if not np.array_equal(holder.read(), holder.words):
        failures.append("the memory differs from what the accepted writes make of it")
    failures += [f"{path} exists" for path in holder.named if Path(path).exists()]
    if slowest > HEALTH_S:
        failures.append(f"hello took {slowest:.2f} s")
    holder.end()
    return {
        "requests": found.requests, "accepted_rightly": found.accepted, "wrong": len(found.wrong),
        "statuses": dict(found.statuses.most_common()), "garbage_connections": connections,
        "files_named": len(holder.named), "idle_connections": idle, "stalled_calls": STALLED,
        "slowest_hello_s": round(slowest, 4), "seconds": round(seconds, 1), "seed": seed, "failures": failures,
    }  # fmt: skip


def main() -> int:
    """Print the figures as JSON; 1 where something failed."""
    parser = argparse.ArgumentParser(description="Fuzz the board server.")
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    from fuzz_tls import fuzz_tls

    with TemporaryDirectory(prefix="bitward-fuzz-") as folder:
        figures = fuzz(arguments.requests, arguments.seed, Path(folder))
        figures["tls"] = fuzz_tls(max(arguments.requests // 10, 100), arguments.seed, Path(folder))
        figures["failures"] += figures["tls"].pop("failures")
    print(json.dumps(figures, indent=1))
    return 1 if figures["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""A KV260's own board behind the server, over a stand-in for pynq 3.0.1: the virtual one's tests, and its own.

No hardware has seen this. The stand-in is strict where pynq is, and ends the test where pynq would end the process.
"""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_extension
import test_server
from bitward_runtime import serve
from bitward_runtime.agent_client import AgentClient
from bitward_runtime.backend import AddressError
from bitward_runtime.bitfile import firmware_of
from bitward_runtime.extension_client import ExtensionClient
from bitward_runtime.files import MANAGER
from bitward_runtime.handoff import MAX_BYTES, Window, windows_of
from bitward_runtime.kria import CRF, CRL, KriaBoard
from bitward_runtime.measure import Measurement, Plan, lines, measure
from bitward_runtime.server import Server
from bitward_runtime.source import sensor_of, source_of
from bitward_virtual.emulate import overlay_of, virtual_board
from fake_accelerator import DEADLOCK, DESIGN_ID, RAM, RAM_WORDS, FakeAccelerator
from fake_pynq import Machine, make
from small_design import ELEMENTS, Broken, SmallDesign, make_small_build
from test_extension import DMA, at

from bitward.errors import BoardError
from bitward.faults import Fault
from bitward.targets.board import BoardTarget

IMAGES = np.arange(2 * ELEMENTS).reshape(2, ELEMENTS)
POWER = "/sys/class/hwmon/hwmon2/power1_input"
call, connect, client = test_server.call, test_extension.connect, test_extension.client
OF_THE_VIRTUAL_ONE = (
    test_extension.test_a_call_that_cannot_be_logged_does_not_answer_ok,
    test_extension.test_a_call_whose_deadline_passed_while_it_waited_is_never_executed,
    test_extension.test_a_keeper_renews_while_nobody_calls,
    test_extension.test_a_late_write_of_an_expired_holder_is_refused,
    test_extension.test_a_stock_client_is_refused_while_the_board_is_held_and_its_windows_are_gone_after,
    test_extension.test_a_stream_that_is_too_long_is_refused,
    test_extension.test_idle_connections_do_not_keep_hello_waiting,
    test_extension.test_inference_in_one_call_of_many_chunks,
    test_extension.test_messages_that_are_none_are_refused,
    test_extension.test_more_words_than_a_call_may_have_are_split_by_the_client,
    test_extension.test_only_the_holder_is_served,
    test_extension.test_requests_that_cannot_be_are_refused,
    test_extension.test_rows_are_read_written_flipped_and_checked,
    test_extension.test_rows_that_cannot_be_are_refused_before_a_word_is_touched,
    test_server.test_a_large_buffer_survives_the_round_trip_in_chunks,
    test_server.test_buffers_are_limited_in_number,
    test_server.test_copies_outside_a_buffer_are_refused,
    test_server.test_names_of_bitstreams_are_sanitised,
    test_server.test_other_files_are_not_written,
    test_server.test_other_files_do_not_exist_and_are_not_shown,
    test_server.test_partial_bitstreams_are_refused,
    test_server.test_registers_are_read_and_written_in_words,
    test_server.test_scratch_files_stay_in_memory,
    test_server.test_start_and_end_of_a_copy_are_heeded_and_a_copy_is_whole_or_refused,
    test_server.test_writes_that_cannot_be_are_refused,
)
globals().update({test.__name__: test for test in OF_THE_VIRTUAL_ONE})


@pytest.fixture
def machine() -> Machine:
    return Machine(FakeAccelerator)


@pytest.fixture
def board(machine: Machine, bit: Path) -> Iterator[KriaBoard]:
    """The board, its overlay's folder known, an overlay loaded before: buffers need one."""
    board = KriaBoard([bit.parent], make(machine), machine.read_file)
    board.program("first.bin", firmware_of(bit.read_bytes()))
    yield board
    board.close()


# ---- what is its own -------------------------------------------------------------------------------------------------


def test_it_says_what_it_is(client: ExtensionClient):
    hello = client.hello()
    assert hello is not None and hello.board == "ZynqMP SMK-K26 Rev1/B/A" and not hello.is_simulated


def test_a_machine_that_does_not_say_its_model_is_a_kv260(machine: Machine):
    del machine.files["/proc/device-tree/model"]
    board = KriaBoard([], make(machine), machine.read_file)
    assert board.name == "KV260"
    board.close()


def test_before_an_overlay_is_loaded_nothing_is_mapped_and_nothing_allocated(machine: Machine, bit: Path):
    board = KriaBoard([], make(machine), machine.read_file)
    with pytest.raises(
        AddressError, match=r"^an address must be mapped on ZynqMP .* \(no overlay is loaded\), got 4 by"
    ):
        board.read(0xA000_0000)
    with pytest.raises(BoardError, match=r"^pynq must allocate 16 bytes for DMA, got: Overlay is not downloaded; see "):
        board.allocate(16)
    with pytest.raises(
        BoardError, match=r"^x.bin must come with its .hwh, got a bitstream that this server knows none"
    ):
        board.program("x.bin", firmware_of(bit.read_bytes()))
    assert machine.loaded == 0


def test_only_blocks_of_the_overlay_are_mapped(board: KriaBoard):
    for address, size in (
        (0, 4),
        (0x4000_0000, 4),
        (0xA010_0000, 4),
        (0xA000_0000, (1 << 20) + 4),
        (0xFFFF_FFFF_0000, 4),
    ):
        with pytest.raises(AddressError, match=r"^an address must be mapped on ZynqMP \S+ \S+, got \d+ bytes at 0x"):
            board.check(address, size)
    assert board.read(0xA000_0000) == DESIGN_ID
    board.write(0xA000_0000 + RAM, 7)
    assert board.read(0xA000_0000 + RAM) == 7


def test_clock_registers_are_read_and_only_the_pls_are_written(board: KriaBoard, machine: Machine):
    assert board.read(CRL + 0x20) == machine.clocks[CRL].read(0x20)
    board.write(CRL + 0xC0, 1 << 24 | 1 << 16 | 8 << 8)
    assert board.read(CRL + 0xC0) == 0x1010800 and board.read(CRF + 0x60)
    before = dict(machine.clocks[CRL]._values)
    for address in (CRL + 0x20, CRL + 0xD0, CRL + 0xFC, CRF + 0x20, CRF + 0x60):
        with pytest.raises(AddressError, match=r"^a clock register that is written must be one of .*, got 0xf"):
            board.write(address, 0)
    for address in (CRL, CRL + 0x24, CRF):
        with pytest.raises(AddressError, match=r"^a clock register that is read must be one of 0xf\w+, .*, got 0xf"):
            board.read(address)
    assert machine.clocks[CRL]._values == before


def test_a_handoff_that_is_sent_decides_what_is_mapped(machine: Machine, bit: Path):
    board = KriaBoard([], make(machine), machine.read_file)
    handoff = bit.with_suffix(".hwh").read_bytes()
    board.program("x.bin", firmware_of(bit.read_bytes()), handoff)
    assert board.read(0xA000_0000) == DESIGN_ID and board.read(CRL + 0xC0) >> 8 & 63 == 5  # as the .hwh divides
    few = re.sub(rb"<MEMRANGE[^>]*axi_gpio[^>]*>", b"", handoff)
    board.program("x.bin", firmware_of(bit.read_bytes()), few)
    with pytest.raises(AddressError, match=r"^an address must be mapped on "):
        board.read(0xAFFE_0000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            (b'"0xA0000000"', b'"0x0"'),
            r"a block of the PL must lie in whole pages between 0x80000000 and 0xc0000000, got",
        ),
        ((b'"0xAFFFFFFF"', b'"0xFFFFFFFF"'), r"a block of the PL must lie in whole pages .* got axi_dma with 0x500"),
        ((b'"0xA00FFFFF"', b'"0xA00FFFFE"'), r"a block of the PL must lie in whole pages .* got accelerator with 0xf"),
        ((b'"0xA00FFFFF"', b'"0xA0000000"'), r"a block of the PL must lie in whole pages .* got accelerator with 0x1 "),
        ((b'"0xA00FFFFF"', b'"0xAFFEFFFF"'), r"blocks of the PL must not overlap, got accelerator and axi_gpio at "),
        ((b"HIGHVALUE", b"HIGH"), r"a handoff file must be XML whose MEMRANGEs have base and high addresses, got "),
        ((b'"0xA00FFFFF"', b'"many"'), r"a handoff file must be XML whose MEMRANGEs have .* got invalid literal"),
        ((b"</EDKSYSTEM>", b""), r"a handoff file must be XML whose .* got no element found"),
        ((b"<EDKSYSTEM", b"<!DOCTYPE x><EDKSYSTEM"), r"a handoff file must be XML whose .* got a document type, which"),
        ((b"<EDKSYSTEM", b"\xff<EDKSYSTEM"), r"a handoff file must be XML whose .* got 'utf-8' codec can't decode"),
        (
            (b"REGISTER", b"MEMORY"),
            r"a handoff file must list the blocks of the PL, got none; build the overlay again$",
        ),
    ],
)
def test_a_handoff_that_says_what_cannot_be_is_refused(machine: Machine, bit: Path, change: Any, message: str):
    board = KriaBoard([], make(machine), machine.read_file)
    handoff = bit.with_suffix(".hwh").read_bytes()
    assert change[0] in handoff
    with pytest.raises(BoardError, match=f"^{message}"):
        board.program("x.bin", firmware_of(bit.read_bytes()), handoff.replace(*change))
    assert machine.loaded == 0


def test_a_handoff_is_of_bounded_size_and_lists_no_ddr():
    with pytest.raises(
        BoardError, match=r"^a handoff file must have at most 2097152 bytes, got 2097153; send the right"
    ):
        windows_of(bytes(MAX_BYTES + 1))
    text = '<E><MEMRANGE INSTANCE="{}" BASEVALUE="{}" HIGHVALUE="{}" MASTERBUSINTERFACE="{}" MEMTYPE="{}"/>{}</E>'
    ddr = text.format("ddr", "0x0", "0x7FFFFFFF", "M_AXI_MM2S", "MEMORY", "")
    ours = text.format("a", "0x80000000", "0x80000FFF", "M_AXI_HPM0_LPD", "REGISTER", ddr)
    assert windows_of(ours.encode()) == (Window("a", 0x8000_0000, 4096),)


def test_what_pynq_refuses_is_told_and_leaves_nothing_mapped(board: KriaBoard, machine: Machine, bit: Path):
    machine.fails_to_load = "Input/output error"
    with pytest.raises(
        BoardError, match=r"^pynq must load x.bin, got: \[Errno 5\] Input/output error; see the server's"
    ):
        board.program("x.bin", firmware_of(bit.read_bytes()))
    with pytest.raises(AddressError, match=r"\(no overlay is loaded\)"):
        board.read(0xA000_0000)
    assert not list(Path(board._folder.name).iterdir())


def test_a_manager_that_is_not_operating_is_told(machine: Machine, bit: Path, monkeypatch: Any):
    board = KriaBoard([bit.parent], make(machine), machine.read_file)
    configure = machine.configure

    def fail(bitstream: bytes) -> None:
        configure(bitstream)
        machine.files[f"{MANAGER}/state"] = b"write complete error\n"

    monkeypatch.setattr(machine, "configure", fail)
    with pytest.raises(
        BoardError, match=r"^the FPGA manager must be operating after x.bin, got 'write complete error'; "
    ):
        board.program("x.bin", firmware_of(bit.read_bytes()))
    with pytest.raises(AddressError, match=r"\(no overlay is loaded\)"):
        board.read(0xA000_0000)


def test_names_of_clients_do_not_reach_the_disk(board: KriaBoard, machine: Machine, bit: Path, monkeypatch: Any):
    seen: list[str] = []
    pynq: Any = board._pynq
    load = pynq.Overlay
    monkeypatch.setattr(pynq, "Overlay", lambda name: seen.append(name) or load(name))
    bitstream = firmware_of(bit.read_bytes())
    board.program("../../etc/x.bin", bitstream)
    key = hashlib.sha256(bitstream).hexdigest()[:12]
    assert [Path(name).name for name in seen] == [f"bitward-{key}.bin"]


def test_buffers_are_zeroed_and_need_flush_and_invalidate(board: KriaBoard, machine: Machine):
    buffer = board.allocate(64)
    assert buffer.read(0, 64) == bytes(64) == bytes(machine.ddr.view(buffer.address, 64))
    buffer.write(3, b"abc")
    assert bytes(machine.ddr.view(buffer.address, 8)) == bytes(8)  # negative control: the stand-in has a cache
    buffer.flush()
    assert bytes(machine.ddr.view(buffer.address, 8)) == b"\0\0\0abc\0\0"
    machine.ddr.view(buffer.address, 64)[:] = b"z" * 64
    assert buffer.read(3, 3) == b"abc"
    buffer.invalidate()
    assert buffer.read(0, 64) == b"z" * 64
    buffer.free()


def test_inference_goes_through_dma_and_cache(client: ExtensionClient, machine: Machine):
    for count in (1, 64, 64, 5000):
        stream = np.random.default_rng(count).integers(0, 200, count, dtype=np.uint8)
        assert client.infer(DMA, stream.tobytes(), count) == (stream + 1).tobytes()


def test_an_accelerator_that_never_ends_costs_the_call_and_a_reset(client: ExtensionClient, monkeypatch: Any):
    with pytest.raises(
        BoardError, match=r"^the DMA must end in time, got one still busy|^the board at .* must answer 'in"
    ):
        client.infer(DMA, bytes([DEADLOCK, 0, 0, 0]), 4, within_s=0.5)
    for _ in range(50):  # the call that was given up may still hold the board
        try:
            assert client.infer(DMA, bytes(4), 4) == bytes([1] * 4)
            break
        except BoardError:
            continue
    else:
        pytest.fail("the DMA did not start again")


def test_files_of_the_machine_are_read_where_they_are_allowed(client: ExtensionClient, machine: Machine):
    assert client.read_file("/sys/class/hwmon/hwmon2/power1_input") == b"3450000\n"
    assert client.read_file("/proc/device-tree/chosen/pynq_board") == b"ZynqMP SMK-K26 Rev1/B/A\0"
    machine.files["/proc/device-tree/chosen/pynq_board"] = b"KV260\0"
    assert client.read_file("/proc/device-tree/chosen/pynq_board") == b"KV260\0"
    with pytest.raises(
        BoardError, match=r"^/sys/class/hwmon/hwmon7/name must be readable on the board, got No such file"
    ):
        client.read_file("/sys/class/hwmon/hwmon7/name")
    machine.files["/sys/class/hwmon/hwmon2/device"] = b"secret"
    for path in ("/sys/class/hwmon/hwmon2/device", "/etc/shadow", "/sys/class/hwmon/../hwmon/hwmon2/name"):
        with pytest.raises(
            BoardError, match=r"^a file to read must be one of /proc/version, .*this server shows no othe"
        ):
            client.read_file(path)


def test_the_stock_client_loads_reads_and_infers(start_agent: Callable[[], AgentClient], server: Server, bit: Path):
    agent = start_agent()
    agent.open(server.host, server.port, str(bit))
    assert agent.board == "ZynqMP SMK-K26 Rev1/B/A" and agent.clk_mhz == pytest.approx(200, rel=1e-4)
    assert agent.read(0, 1).tolist() == [DESIGN_ID]
    words = np.random.default_rng(2).integers(0, 1 << 32, RAM_WORDS, dtype=np.uint32)
    agent.write(RAM, words)
    assert np.array_equal(agent.read(RAM, RAM_WORDS), words)
    stream = np.random.default_rng(3).integers(0, 200, 5000, dtype=np.uint8)
    assert agent.infer(stream.tobytes(), 5000) == (stream + 1).tobytes()


def test_a_target_is_a_target_on_it_too(tmp_path: Path):
    """A campaign's target, UltraRAM written and verified after each load."""
    small = make_small_build(tmp_path / "small", "ultra")
    broken = Broken()
    broken.zero_at_load = "wide"
    machine = Machine(lambda: SmallDesign(small, broken))
    board = KriaBoard([], make(machine), machine.read_file)
    with Server(board, port=0) as server, BoardTarget(small, server.host, server.port) as target:
        assert not target.is_simulated and target.name == "ZynqMP SMK-K26 Rev1/B/A"
        assert (
            list(target.differing({m.name: target._images.golden_image(m.name) for m in target.manifest.memories}))
            == []
        )
        golden = target.infer(IMAGES)
        target.inject(Fault("wide", 2, 3))
        assert not np.array_equal(target.infer(IMAGES), golden)
        target.restore(Fault("wide", 2, 3))
        assert np.array_equal(target.infer(IMAGES), golden)
    with Server(KriaBoard([], make(machine), machine.read_file), port=0) as server:  # as after a crash of the server
        with BoardTarget(small, server.host, server.port) as target:
            assert np.array_equal(target.infer(IMAGES), golden)
    golden_row = target.golden("wide", 1)
    broken.stuck["wide", 1] = golden_row & -golden_row  # its lowest set bit stays as it was at power-up
    with Server(board, port=0) as server:
        stuck = BoardTarget(small, server.host, server.port)
        with pytest.raises(BoardError, match=r"^UltraRAM wide must hold what was written, got 1 other words; load i"):
            stuck.open()
        stuck.close()


# ---- serving ---------------------------------------------------------------------------------------------------------


def test_what_is_missing_is_one_sentence(tmp_path: Path, machine: Machine, capsys, monkeypatch: Any):
    monkeypatch.setitem(sys.modules, "pynq", None)
    assert serve.main([]) == 1
    assert re.match(
        r"pynq must be there to serve this board, got .*; as root: source /etc/profile", capsys.readouterr().err
    )
    monkeypatch.setitem(sys.modules, "pynq", make(machine))
    assert serve.main(["--overlays", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"{tmp_path} must hold a .bit with its .hwh beside it, got none; name an overlay's folder\n"
    )
    assert serve.main(["--host", "0.0.0.0"]) == 1
    assert capsys.readouterr().err.startswith("the server's host must be a loopback address, got '0.0.0.0': ")
    assert serve.main(["--host", "0.0.0.0", "--tls-cert", "x"]) == 1
    assert capsys.readouterr().err.startswith("--tls-cert, --tls-key and --token-file must be given together, got 1 of")
    machine.is_root = False
    assert serve.main([]) == 1
    assert capsys.readouterr().err.startswith(
        "pynq must map the clock registers (the server must run as root), got: Root permissions required.; see "
    )


def test_one_command_serves_the_board_until_it_is_ended(build: Path, tmp_path: Path):
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]; from fake_pynq import Machine, make;"
        "from fake_accelerator import FakeAccelerator; machine = Machine(FakeAccelerator);"
        "sys.modules['pynq'] = make(machine); from bitward_runtime import kria;"
        "kria.local_files = lambda: machine.read_file;"
        "from bitward_runtime import serve; sys.exit(serve.main(sys.argv[2:]))"
    )
    folder = overlay_of(build).parent
    command = [sys.executable, "-c", code, str(Path(__file__).parent), "--port", "0", "--overlays", str(folder)]
    command += ["--audit", str(tmp_path / "audit")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    ready = process.stdout.readline()
    found = re.fullmatch(r"\S.*: its programmable logic on 127\.0\.0\.1:(\d+), ctrl-C ends it\n", ready)
    assert found, ready
    client = ExtensionClient.connect("127.0.0.1", int(found[1]))
    with client.holding("test"):
        client.program("digits.bin", firmware_of(overlay_of(build).read_bytes()))
        assert client.read([at([2])])[0] == 0x02020202
    client.close()
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=10)[1] == "" and process.returncode == 0
    assert '"method": "/bitward.Board/program"' in (tmp_path / "audit").read_text()


# ---- power over the wire ---------------------------------------------------------------------------------------------

QUICK = Plan(golden_passes=1, warm_up=0, batches=2, transfers=0, idle_s=0.2, busy_s=0.3, period_s=0.01)


@pytest.fixture
def small_machine(tmp_path: Path) -> tuple[Path, Machine]:
    small = make_small_build(tmp_path / "small")
    return small, Machine(lambda: SmallDesign(small, Broken()))


@pytest.fixture
def small_board(small_machine: tuple[Path, Machine]) -> Iterator[BoardTarget]:
    small, machine = small_machine
    board = KriaBoard([], make(machine), machine.read_file)
    with Server(board, port=0) as server, BoardTarget(small, server.host, server.port) as target:
        yield target


def measured(target: BoardTarget) -> Measurement:
    source = source_of(target, "board", target.build_dir)
    return measure(target, IMAGES, source, QUICK, *sensor_of(target, source, "kria"))


def test_power_is_read_over_the_wire_while_the_board_works(
    small_board: BoardTarget, small_machine: tuple[Path, Machine], monkeypatch: Any
):
    _, machine = small_machine
    stream = SmallDesign.stream

    def slow(self: SmallDesign, beats: bytes, out_bytes: int) -> bytes:
        machine.files[POWER] = b"6620000\n"  # while it streams, and never else
        time.sleep(0.15)
        machine.files[POWER] = b"3450000\n"
        return stream(self, beats, out_bytes)

    monkeypatch.setattr(SmallDesign, "stream", slow)
    found = measured(small_board)
    assert found.power is not None and found.why_no_power is None and found.source.says.startswith("measured on ZynqMP")
    assert found.power.idle.value == pytest.approx(3.45) and found.power.idle.samples > 3
    assert 6 < found.power.busy.value <= 6.62  # readings did not wait for the calls that have the board
    assert found.power.energy_j == pytest.approx(found.power.busy.value / found.rate.fps)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, r"^a board must have a sensor ina260 under hwmon, got iwlwifi; power cannot be measured there$"),
        (b"0\n", r"^/sys/class/hwmon/hwmon2/power1_input must be microwatts above 0, got '0'; is the sensor's driver"),
        (b"\n", r"^/sys/class/hwmon/hwmon2/power1_input must be microwatts above 0, got ''; "),
    ],
)
def test_power_that_cannot_be_read_is_not_measured_and_never_0(
    small_board: BoardTarget, small_machine: tuple[Path, Machine], content: bytes | None, why: str
):
    files = small_machine[1].files
    if content is None:
        del files["/sys/class/hwmon/hwmon2/name"]
    else:
        files[POWER] = content
    found = measured(small_board)
    assert found.power is None and re.match(why, found.why_no_power or "")
    assert "power: not measured: " in "\n".join(lines(found)) and "0 W" not in "\n".join(lines(found))
    assert found.row()["busy_w"] is None and ",not measured," in found.to_csv()


def test_a_sensor_that_fails_while_it_is_read_is_counted(
    small_board: BoardTarget, small_machine: tuple[Path, Machine], monkeypatch: Any
):
    source = source_of(small_board, "board", small_board.build_dir)
    sensor, _ = sensor_of(small_board, source, "kria")
    del small_machine[1].files[POWER]
    found = measure(small_board, IMAGES, source, QUICK, sensor)
    assert found.power is None and re.match(r"^the sensor failed: \d+ times idle, \d+ times while", found.why_no_power)


def test_a_simulated_board_has_no_power_whatever_is_in_this_machine(tmp_path: Path):
    small = make_small_build(tmp_path / "small")
    with Server(virtual_board(small, lambda _: SmallDesign(small, Broken())), port=0) as server:
        with BoardTarget(small, server.host, server.port) as target:
            found = measured(target)
            with pytest.raises(
                BoardError, match=r"^/sys/class/hwmon/hwmon2/name must be there to be read, got a simul"
            ):
                target.read_file("/sys/class/hwmon/hwmon2/name")
    assert found.source.is_simulated and found.power is None and found.why_no_power == "simulated board"
    assert "power: not measured: simulated board" in list(lines(found))


def test_only_the_two_signals_end_the_server(monkeypatch: Any):
    """One that a handler hears is written where the server waits, too."""
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    try:
        with serve._Ending() as ending:
            for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM):
                signal.raise_signal(number)
            ending.wait()
            assert heard == [signal.SIGUSR1] * 2
            ending._come.setblocking(False)
            with pytest.raises(BlockingIOError):  # SIGTERM was the last that it read
                ending._come.recv(1)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_signal_at_any_moment_ends_the_server(board: KriaBoard, monkeypatch: Any):
    """The signal comes where the server is about to wait, holding whatever it waits with."""
    said: list[str] = []

    def ready(line: str, flush: bool) -> None:
        said.append(line)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("builtins.print", ready)
    serve.serve(board, "here", port=0)
    serve.serve(board, "here", port=0)
    assert len(said) == 2 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

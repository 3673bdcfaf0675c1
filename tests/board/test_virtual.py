# SPDX-License-Identifier: Apache-2.0
"""The virtual board below its server: DDR, AXI DMA as PG021 has it, clocks, programming."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import bitward_virtual
import pytest
from bitward_runtime.backend import AddressError
from bitward_runtime.bitfile import firmware_of
from bitward_virtual import dma as regs
from bitward_virtual.board import DDR_BASE, DDR_BYTES, VirtualBoard
from bitward_virtual.dma import MM2S, S2MM, AxiDma
from bitward_virtual.emulate import clear_ultra_ram, emulate, overlay_of, virtual_board
from bitward_virtual.memory import CRL_BASE, Ddr
from conftest import make_build
from fake_accelerator import DEADLOCK, DESIGN_ID, RAM, RAM_WORDS, FakeAccelerator

from bitward.errors import BoardError


def as_firmware(bit: Path) -> bytes:
    """What the client makes of a .bit: its body, byte-swapped per word."""
    return firmware_of(bit.read_bytes())


class Bench:
    """A DMA between two buffers and the fake accelerator."""

    def __init__(self) -> None:
        self.ddr = Ddr(DDR_BASE, DDR_BYTES)
        self.source, self.sink = self.ddr.allocate(16), self.ddr.allocate(16)
        self.source.write(0, bytes(range(16)))
        self.dma = AxiDma(self.ddr, FakeAccelerator())

    def start(self, channel: int, address: int, length: int) -> None:
        self.dma.write(channel + regs.DMACR, regs.RUN)
        self.dma.write(channel + regs.ADDRESS, address & 0xFFFFFFFF)
        self.dma.write(channel + regs.ADDRESS_MSB, address >> 32)
        self.dma.write(channel + regs.LENGTH, length)

    def status(self, channel: int) -> int:
        return self.dma.read(channel + regs.DMASR)


@pytest.mark.parametrize("order", [(MM2S, S2MM), (S2MM, MM2S)], ids=["send first", "receive first"])
def test_a_transfer_runs_when_both_lengths_are_written(order: tuple[int, int]):
    bench = Bench()
    assert bench.status(MM2S) == bench.status(S2MM) == regs.HALTED
    for count, channel in enumerate(order):
        address = bench.source.address if channel == MM2S else bench.sink.address
        bench.start(channel, address, 16)
        assert bool(bench.status(order[0]) & regs.IDLE) == (count == 1)
    assert bench.status(MM2S) == bench.status(S2MM) == regs.IDLE | regs.COMPLETE_IRQ
    assert bench.sink.read(0, 16) == bytes(range(1, 17)) and bench.dma.read(S2MM + regs.LENGTH) == 16


def test_a_short_packet_ends_the_receive_and_its_length_is_read_back():
    bench = Bench()
    bench.start(S2MM, bench.sink.address, 16)
    bench.start(MM2S, bench.source.address, 3)
    assert bench.dma.read(S2MM + regs.LENGTH) == 3
    assert bench.sink.read(0, 16) == bytes([1, 2, 3]) + bytes(13)


def test_idle_is_0_before_the_first_transfer_and_when_halted():
    bench = Bench()
    bench.dma.write(MM2S, regs.RUN)
    assert bench.status(MM2S) == 0
    bench.start(S2MM, bench.sink.address, 16)
    bench.start(MM2S, bench.source.address, 16)
    bench.dma.write(MM2S, 0)
    assert bench.status(MM2S) & (regs.IDLE | regs.HALTED) == regs.HALTED


def test_length_has_no_effect_when_halted_or_zero():
    bench = Bench()
    bench.dma.write(MM2S + regs.LENGTH, 16)
    bench.start(MM2S, bench.source.address, 0)
    assert bench.dma.read(MM2S + regs.LENGTH) == 0 and bench.status(MM2S) == 0


def test_interrupt_bits_are_cleared_by_writing_1_and_nothing_else_is():
    bench = Bench()
    bench.start(S2MM, bench.sink.address, 16)
    bench.start(MM2S, bench.source.address, 16)
    bench.dma.write(S2MM + regs.DMASR, 0xFFFFFFFF)
    assert bench.status(S2MM) == regs.IDLE


@pytest.mark.parametrize(("channel", "other"), [(MM2S, S2MM), (S2MM, MM2S)])
def test_an_address_outside_all_buffers_is_a_decode_error_until_reset(channel: int, other: int):
    bench = Bench()
    good = bench.source.address if other == MM2S else bench.sink.address
    bench.start(other, good, 16)
    bench.start(channel, 0x8_0000_0000, 16)
    assert bench.status(channel) == regs.HALTED | regs.DECODE_ERROR | regs.ERROR_IRQ
    bench.dma.write(channel, regs.RUN)
    assert bench.status(channel) & regs.HALTED
    assert bench.dma.read(channel + regs.ADDRESS_MSB) == 8
    bench.dma.write(other, regs.RESET)  # either channel's bit resets both
    assert bench.status(channel) == regs.HALTED and bench.dma.read(channel) == regs.ALWAYS_SET


def test_a_packet_longer_than_the_length_is_an_internal_error(monkeypatch: pytest.MonkeyPatch):
    bench = Bench()
    monkeypatch.setattr(FakeAccelerator, "stream", lambda self, beats, size: bytes(size + 1))
    bench.start(S2MM, bench.sink.address, 8)
    bench.start(MM2S, bench.source.address, 16)
    assert bench.status(S2MM) == regs.HALTED | regs.INTERNAL_ERROR | regs.ERROR_IRQ


def test_a_deadlock_is_told_and_leaves_a_dma_that_can_start_again():
    bench = Bench()
    bench.source.write(0, bytes([DEADLOCK]))
    bench.start(S2MM, bench.sink.address, 16)
    with pytest.raises(BoardError, match=r"^the accelerator must end within 1000 cycles"):
        bench.start(MM2S, bench.source.address, 16)
    assert bench.status(MM2S) == bench.status(S2MM) == regs.HALTED


def test_a_busy_channel_takes_no_length_until_it_is_reset():
    bench = Bench()
    bench.start(S2MM, bench.sink.address, 16)
    with pytest.raises(
        BoardError, match=r"^a DMA channel must be idle before its LENGTH is written, got one that waits"
    ):
        bench.dma.write(S2MM + regs.LENGTH, 8)
    bench.dma.write(S2MM, regs.RESET)
    bench.start(S2MM, bench.sink.address, 8)
    bench.start(MM2S, bench.source.address, 8)
    assert bench.dma.read(S2MM + regs.LENGTH) == 8


@pytest.mark.parametrize(("channel", "multiple"), [(MM2S, 4), (S2MM, 16)])
def test_an_address_that_is_not_aligned_is_refused(channel: int, multiple: int):
    bench = Bench()
    bench.dma = AxiDma(bench.ddr, FakeAccelerator(), in_bytes=4, out_bytes=16)
    address = bench.source.address if channel == MM2S else bench.sink.address
    with pytest.raises(
        BoardError, match=rf"^a DMA address must be a multiple of {multiple} bytes, as the DMA has no re"
    ):
        bench.start(channel, address + multiple // 2, 4)
    bench.start(channel, address, 4)


def test_a_transfer_over_a_buffers_end_is_a_decode_error():
    bench = Bench()
    bench.start(S2MM, bench.sink.address, 16)
    bench.start(MM2S, bench.source.address, 17)
    assert bench.status(MM2S) == regs.HALTED | regs.DECODE_ERROR | regs.ERROR_IRQ


@pytest.mark.parametrize(
    ("control", "clk_mhz"), [(0x01010500, 200), (0x01020A00, 50), (0x01010400, 250), (0x00010500, 0), (0x01010501, 0)]
)
def test_the_clock_that_the_overlay_was_made_for_is_the_fastest(
    board: VirtualBoard, bit: Path, control: int, clk_mhz: float
):
    board.program("digits.bin", as_firmware(bit))
    board.write(CRL_BASE + 0xC0, control)
    buffer = board.allocate(4)
    dma, _ = board.span(0xAFFF_0000, 4)
    for channel in (S2MM, MM2S):
        dma.write(channel + regs.DMACR, regs.RUN)
        dma.write(channel + regs.ADDRESS, buffer.address)
    dma.write(S2MM + regs.LENGTH, 4)
    if 0 < clk_mhz <= 200:
        dma.write(MM2S + regs.LENGTH, 4)
        assert dma.read(MM2S + regs.DMASR) & regs.IDLE
        return
    sentence = (
        rf"^PL clock 0 must run at up to 200 MHz, for which the overlay was made, got {clk_mhz:g} MHz; set it back"
    )
    with pytest.raises(BoardError, match=sentence):
        dma.write(MM2S + regs.LENGTH, 4)


def test_ultra_ram_is_zero_at_the_start():
    memory = SimpleNamespace(hardware=SimpleNamespace(ram_style="ultra", depth=3, segments=2, base=RAM, word_stride=8))
    other = SimpleNamespace(
        hardware=SimpleNamespace(ram_style="block", depth=1, segments=1, base=RAM + 64, word_stride=4)
    )
    accelerator = FakeAccelerator()
    clear_ultra_ram(accelerator, SimpleNamespace(memories=[memory, other, SimpleNamespace(hardware=None)]))
    words = [accelerator.words[RAM + 4 * at] for at in range(RAM_WORDS)]
    assert words[:6] == [0] * 6 and words[6:] == [at * 0x01010101 for at in range(6, RAM_WORDS)]


def test_registers_of_scatter_gather_are_not_there():
    with pytest.raises(AddressError, match=r"^a register of the DMA must be one of simple mode, got offset 0x8; "):
        Bench().dma.read(0x08)


def test_buffers_never_overlap_and_gaps_are_used_again():
    ddr = Ddr(0x1000, 4 * 4096)
    buffers = [ddr.allocate(size) for size in (1, 4097, 4096)]
    assert [buffer.address for buffer in buffers] == [0x1000, 0x2000, 0x4000]
    with pytest.raises(
        BoardError, match=r"^buffers must fit into the virtual board's 0 MiB for DMA, got 1 bytes more; "
    ):
        ddr.allocate(1)
    buffers[1].free()
    assert ddr.allocate(8192).address == 0x2000
    with pytest.raises(AddressError, match=r"^memory must be inside an allocated buffer, got 2 bytes at 0x1000; "):
        ddr.view(0x1000, 2)


def test_programming_maps_the_pl_and_restores_its_memories(board: VirtualBoard, bit: Path):
    with pytest.raises(
        AddressError, match=r"^an address must be mapped on KV260 \(virtual, bitward\) \(no overlay is "
    ):
        board.read(0xA000_0000)
    for _ in range(2):
        board.program("digits.bin", as_firmware(bit))
        assert board.read(0xA000_0000) == DESIGN_ID and board.read(0xA000_1004) == 0x01010101
        board.write(0xA000_1004, 7)
        assert board.read(0xA000_1004) == 7


def test_each_load_has_one_accelerator_of_its_own(build: Path, bit: Path):
    made: list[FakeAccelerator] = []
    board = virtual_board(build, lambda _: made.append(FakeAccelerator()) or made[-1])
    for _ in range(2):
        board.program("digits.bin", as_firmware(bit))
    assert [(one.resets, one.closed) for one in made] == [(1, True), (1, False)]
    board.close()
    assert made[1].closed
    with pytest.raises(AddressError, match=r"^an address must be mapped on .* \(no overlay is loaded\), got 4 bytes "):
        board.read(0xA000_0000)


def test_an_overlay_of_another_build_is_refused(board: VirtualBoard, tmp_path: Path):
    other = overlay_of(make_build(tmp_path / "other", "module other; endmodule"))
    with pytest.raises(
        BoardError, match=r"^this virtual board emulates the overlay of build \w{12} \(digits\), got x\.bin"
    ):
        board.program("x.bin", as_firmware(other))


def test_an_overlay_that_does_not_belong_to_its_folder_is_refused(build: Path):
    (build / "rtl" / "top.sv").write_text("module changed; endmodule")
    with pytest.raises(BoardError, match=r"^digits-\w{12}\.bit must belong to the build beside it "):
        virtual_board(build)


def test_a_folder_without_an_overlay_is_refused(tmp_path: Path):
    with pytest.raises(
        BoardError, match=r"/overlay must hold one \.bit, got 0; run bitward build --board virtual --out "
    ):
        overlay_of(tmp_path)


def test_buffers_are_memory_and_registers_keep_what_is_written(board: VirtualBoard):
    buffer = board.allocate(8)
    board.write(buffer.address + 4, 0x01020304)
    assert buffer.read(0, 8) == bytes(4) + bytes([4, 3, 2, 1]) and board.read(buffer.address + 4) == 0x01020304
    board.write(CRL_BASE + 0xC0, 0x01010500)
    assert board.read(CRL_BASE + 0xC0) == 0x01010500
    with pytest.raises(AddressError, match=r"^a register of CRL_APB must be one that the virtual board models "):
        board.read(CRL_BASE + 4)


def test_the_end_of_a_region_is_its_end(board: VirtualBoard):
    with pytest.raises(AddressError, match=r"^an address must be mapped on .*, got 8 bytes at 0xff5e00fc; "):
        board.check(CRL_BASE + 0xFC, 8)


def test_a_buffer_that_was_freed_is_a_decode_error():
    bench = Bench()
    bench.start(S2MM, bench.sink.address, 16)
    bench.source.free()
    bench.start(MM2S, bench.source.address, 16)
    assert bench.status(MM2S) == regs.HALTED | regs.DECODE_ERROR | regs.ERROR_IRQ
    assert not bench.status(S2MM) & regs.IDLE  # nothing came: it goes on waiting, until it is reset
    bench.dma.write(MM2S, regs.RESET)
    assert bench.status(S2MM) == regs.HALTED


def test_nothing_streams_while_nobody_receives():
    """Back-pressure: a sender waits, is not idle, and takes no other transfer, until the receiver has room."""
    bench = Bench()
    bench.start(MM2S, bench.source.address, 16)
    assert bench.status(MM2S) == 0 and bench.sink.read(0, 16) == bytes(16)
    with pytest.raises(BoardError, match=r"^a DMA channel must be idle before its LENGTH is written, got one that wa"):
        bench.dma.write(MM2S + regs.LENGTH, 4)
    bench.start(S2MM, bench.sink.address, 16)
    assert bench.status(MM2S) & regs.IDLE and bench.sink.read(0, 16) == bytes(range(1, 17))


def test_loading_again_is_a_dma_as_after_power_up_and_ddr_as_it_was(board: VirtualBoard, bit: Path):
    board.program("digits.bin", as_firmware(bit))
    buffer = board.allocate(4)
    buffer.write(0, b"kept")
    board.write(0xAFFF_0000 + regs.DMACR, regs.RUN)
    board.write(0xAFFF_0000 + regs.ADDRESS, buffer.address)
    board.write(0xAFFF_0000 + regs.LENGTH, 4)  # it waits: nobody receives
    board.program("digits.bin", as_firmware(bit))
    assert board.read(0xAFFF_0000 + regs.DMASR) == regs.HALTED and board.read(0xAFFF_0000 + regs.ADDRESS) == 0
    assert buffer.read(0, 4) == b"kept"


def test_a_refused_overlay_leaves_the_loaded_one_as_it_is(board: VirtualBoard, bit: Path):
    board.program("digits.bin", as_firmware(bit))
    board.write(0xA000_0000 + RAM, 77)
    for other in (b"", b"1234", as_firmware(bit)[:-4]):
        with pytest.raises(BoardError, match=r"^(the virtual board must be given a virtual|a virtual overlay m)"):
            board.program("digits.bin", other)
    assert board.read(0xA000_0000 + RAM) == 77


def test_what_is_modelled_refused_and_not_modelled_is_said_of_everything_in_one_place():
    said = bitward_virtual.__doc__ or ""
    rows = re.findall(r"^ {4}(\S[\w -]*?) {2,}(modelled|refused|not) ", said, re.MULTILINE)
    assert [name for name, _ in rows] == [
        "AXI-Lite", "AXI DMA", "streams", "DDR", "clocks", "programming", "reset", "clients", "power"
    ]  # fmt: skip
    known = (
        "decode error", "LENGTH of 0", "not aligned", "outside a buffer", "stalls of a real DDR", "reset of both",
        "one holder at a time", "overlays of another build", "as written",
    )  # fmt: skip
    assert [what for what in known if what not in said] == []


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_the_board_is_closed_when_it_is_served_no_more(build, monkeypatch, error):
    served, closed = [], []

    def serve(board: VirtualBoard, *_: object) -> None:
        served.append(board)
        if error:
            raise error

    monkeypatch.setattr("bitward_virtual.emulate.serve", serve)
    monkeypatch.setattr(VirtualBoard, "close", lambda board: closed.append(board))
    with pytest.raises(error) if error else nullcontext():
        emulate(build, port=0, accelerator=lambda _: FakeAccelerator())
    assert closed == served != []

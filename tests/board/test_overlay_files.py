# SPDX-License-Identifier: Apache-2.0
"""The `.bit` and `.hwh` of the virtual board."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bitward_runtime.bitfile import bit_body
from conftest import make_build, make_overlay

from bitward.errors import BoardError, ConfigError
from bitward.hardware.boards import load_board
from bitward.hardware.overlay import (
    MAGIC,
    Window,
    build_overlay,
    content_sha256,
    read_overlay,
    write_overlay,
)
from bitward.manifest import Io, Manifest, StreamTensor


def test_what_was_written_is_read_back(tmp_path: Path):
    overlay = make_overlay()
    bit, hwh = write_overlay(tmp_path, overlay)
    assert read_overlay(bit_body(bit.read_bytes())) == overlay
    assert bit.stem == hwh.stem and bit.stem.startswith("digits-") and len(bit.stem) == len("digits-") + 12


def manifest(**changes: object) -> Manifest:
    io = Io(StreamTensor((8, 8, 1), "UINT8", 8, 1, 64), StreamTensor((10,), "INT16", 16, 1, 10))
    fields = {"design": "cnn", "design_id": 5, "board": "virtual", "clk_mhz": 250.0, "memories": (), "io": io}
    return Manifest(**{**fields, "axilite_bytes": 1 << 20, **changes})  # type: ignore[arg-type]


def test_a_builds_overlay_is_what_its_manifest_and_board_say(tmp_path: Path):
    build = make_build(tmp_path / "build", "")
    bit, _ = build_overlay(build, manifest(), load_board("virtual"))
    overlay = read_overlay(bit_body(bit.read_bytes()))
    assert overlay.content_sha256 == content_sha256(build) and bit.parent == build / "overlay"
    assert (overlay.clk_divisor, overlay.accelerator, overlay.dma.base) == (
        4,
        Window(0xA000_0000, 1 << 20),
        0xAFFF_0000,
    )
    assert (overlay.name, overlay.design_id, overlay.in_stream_bits, overlay.out_stream_bits) == ("cnn", 5, 8, 16)


def test_a_software_only_design_has_no_overlay(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"^a design with an overlay must have streams and .*, got cnn, which is "):
        build_overlay(tmp_path, manifest(io=None), load_board("virtual"))


def test_equal_content_gives_equal_files_and_any_change_another_name(tmp_path: Path):
    names = [write_overlay(tmp_path, make_overlay())[0].name]
    assert write_overlay(tmp_path, make_overlay())[0].name == names[0]
    changes = ({"content_sha256": "1" * 64}, {"design_id": 1}, {"clk_mhz": 100.0}, {"in_stream_bits": 24})
    names += [write_overlay(tmp_path, make_overlay(**change))[0].name for change in changes]
    assert len(set(names)) == len(names)


def test_the_header_says_its_length_and_holds_no_sync_word(tmp_path: Path):
    data = write_overlay(tmp_path, make_overlay())[0].read_bytes()
    body = bit_body(data)
    assert struct.unpack(">I", data[-len(body) - 4 : -len(body)])[0] == len(body) and len(body) % 4 == 0
    assert body.startswith(MAGIC) and bytes.fromhex("AA995566") not in data


def test_the_address_map_is_in_the_hwh(tmp_path: Path):
    hwh = ElementTree.parse(write_overlay(tmp_path, make_overlay())[1])
    ranges = {at.get("INSTANCE"): (at.get("BASEVALUE"), at.get("HIGHVALUE")) for at in hwh.iter("MEMRANGE")}
    assert ranges == {
        "accelerator": ("0xA0000000", "0xA00FFFFF"),
        "axi_gpio": ("0xAFFE0000", "0xAFFEFFFF"),
        "axi_dma": ("0xAFFF0000", "0xAFFFFFFF"),
    }


def test_a_slow_clock_is_divided_in_two_steps_of_six_bits(tmp_path: Path):
    hwh = ElementTree.parse(write_overlay(tmp_path, make_overlay(clk_mhz=10.0, clk_divisor=100))[1])
    found = {at.get("NAME"): at.get("VALUE") for at in hwh.iter("PARAMETER")}
    register = "PSU__CRL_APB__PL0_REF_CTRL"
    assert (found[f"{register}__DIVISOR0"], found[f"{register}__DIVISOR1"]) == ("50", "2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clk_divisor": 67}, r"^a PL clock's divisor must be a product of two numbers of 1 to 63, got 67: "),
        ({"name": "a b"}, r"^an overlay's name must be letters, .*, got 'a b'; rename it$"),
        ({"in_stream_bits": 12}, r"^a stream at the DMA must have 8 to 1024 bits in whole bytes, got 12; "),
        ({"out_stream_bits": 2048}, r"^a stream at the DMA must have 8 to 1024 bits in whole bytes, got 2048; "),
        ({"accelerator": Window(0xA000_0000, 1 << 28)}, r"^the overlay's address windows must not overlap, got "),
    ],
)
def test_an_overlay_that_cannot_be_is_refused(change: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        make_overlay(**change)


@pytest.mark.parametrize(("base", "size"), [(0xA000_0000, 3 << 12), (0xA000_0000, 1024), (0xA000_1000, 1 << 16)])
def test_a_window_is_a_power_of_two_at_its_multiple(base: int, size: int):
    with pytest.raises(ConfigError, match=r"^an address window must have a power-of-two size of at least 4096 and a "):
        Window(base, size)


def test_a_real_bitstream_is_refused():
    with pytest.raises(
        BoardError, match=r"^the virtual board must be given a virtual overlay, got 8 bytes of something"
    ):
        read_overlay(bytes.fromhex("AA99556600000000"))


def test_a_description_of_another_version_is_refused():
    with pytest.raises(BoardError, match=r"^a virtual overlay must hold this version's description, got "):
        read_overlay(MAGIC + b'{"hwh_sha256": "", "accelerator": {}}')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:20], r"^a \.bit file must have a whole header, got 20 bytes; "),
        (lambda data: data[:-4], r"^a \.bit file must hold the \d+ bytes it announces, got \d+; "),
        (lambda data: data[:13] + b"z" + data[14:], r"^a \.bit header must hold fields a to e, got b'z'; "),
    ],
)
def test_a_damaged_bit_is_refused(tmp_path: Path, damage, message: str):
    data = write_overlay(tmp_path, make_overlay())[0].read_bytes()
    with pytest.raises(BoardError, match=message):
        bit_body(damage(data))


def test_the_content_hash_covers_names_and_content_of_the_rtl(tmp_path: Path):
    build = make_build(tmp_path / "a", "module top; endmodule")
    before = content_sha256(build)
    assert content_sha256(make_build(tmp_path / "b", "module top; endmodule")) == before
    (build / "rtl" / "weights.dat").write_text("0")
    added = content_sha256(build)
    (build / "rtl" / "weights.dat").rename(build / "rtl" / "other.dat")
    assert len({before, added, content_sha256(build)}) == 3


def test_a_folder_without_a_build_is_refused(tmp_path: Path):
    with pytest.raises(BoardError, match=r"must hold a build, got no manifest\.json; run bitward build --out "):
        content_sha256(tmp_path)


def test_overlays_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_overlay().name = "other"  # type: ignore[misc]

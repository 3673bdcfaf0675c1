# SPDX-License-Identifier: Apache-2.0
"""Overlay files of the virtual board: a `.bit` that is none, and the `.hwh` that the stock PYNQ client reads.

The `.bit` has the header of a Xilinx bitstream, because the client parses it, and a body that says what it is: one line
of text and a JSON object, without a sync word, so that no FPGA would take it. The JSON names the build by content hash
and holds the address map; the virtual board decodes addresses from it, as a real one does from its configuration.
Both files are named NAME-<12 hex digits of the .bit's sha256>: a client may not send a `.bit` of a known name again. It
caches metadata by the `.bit` alone, so the `.bit` also holds the hash of its `.hwh`.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from bitward.errors import BoardError, ConfigError
from bitward.hardware.clocks import clock_divisors
from bitward.manifest import Manifest
from bitward.tools import atomic_write, output_directory

if TYPE_CHECKING:
    from bitward.hardware.boards import Board

MAGIC = b"bitward virtual overlay: not an FPGA bitstream\n"
ACCELERATOR = "accelerator"  # instance names: what a user writes after `overlay.`
DMA = "axi_dma"
TOP = "bitward_accelerator"  # the Verilog module to which a block design refers
GPIO = "axi_gpio"
PS = "zynq_ultra_ps_e_0"
GPIO_BYTES = 1 << 16
DMA_LENGTH_BITS = 26  # of the DMA's length registers, the most that PG021 offers


@dataclass(frozen=True)
class Window:
    """Byte addresses [base, base + size), the size a power of two, the base a multiple of it."""

    base: int
    size: int

    def __post_init__(self) -> None:
        if self.size < 4096 or self.size & (self.size - 1) or self.base % self.size:
            raise ConfigError(
                f"an address window must have a power-of-two size of at least 4096 and a base that is its multiple, "
                f"got 0x{self.size:x} at 0x{self.base:x}; change the board's address map"
            )


@dataclass(frozen=True)
class Overlay:
    """What the overlay files of one build say."""

    name: str  # of the design; the files' names begin with it
    design_id: int  # 32 bits, as in the accelerator's identification register
    content_sha256: str  # of the build (`content_sha256`)
    board: str
    part: str
    clk_mhz: float
    clk_divisor: int  # of the PL clock source
    accelerator: Window
    dma: Window
    in_stream_bits: int  # per beat
    out_stream_bits: int

    @property
    def gpio(self) -> Window:
        """The 4-bit AXI GPIO just below the DMA, by which pynq's self-test knows that MMIO works."""
        return Window(self.dma.base - GPIO_BYTES, GPIO_BYTES)

    def __post_init__(self) -> None:
        clock_divisors(self.clk_divisor)
        if not re.fullmatch(r"[A-Za-z][\w-]*", self.name):
            raise ConfigError(
                f"an overlay's name must be letters, digits, - or _, a letter first, got {self.name!r}; rename it"
            )
        windows = sorted((self.accelerator, self.gpio, self.dma), key=lambda window: window.base)
        for first, second in zip(windows, windows[1:], strict=False):
            if first.base + first.size > second.base:
                raise ConfigError(
                    f"the overlay's address windows must not overlap, got 0x{first.size:x} bytes at 0x{first.base:x} "
                    f"and 0x{second.base:x}; change the board's address map, or store fewer bits"
                )
        for bits in (self.in_stream_bits, self.out_stream_bits):
            if bits % 8 or not 8 <= bits <= 1024:
                raise ConfigError(
                    f"a stream at the DMA must have 8 to 1024 bits in whole bytes, got {bits}; fold the edge layer less"
                )


def content_sha256(build_dir: Path) -> str:
    """The hash of a build: of its manifest.json and of every file under rtl/, names included."""
    digest = hashlib.sha256()
    paths = [build_dir / "manifest.json", *sorted(path for path in (build_dir / "rtl").rglob("*") if path.is_file())]
    for path in paths:
        if not path.is_file():
            raise BoardError(f"{build_dir} must hold a build, got no {path.name}; run bitward build --out {build_dir}")
        data = path.read_bytes()
        digest.update(f"{path.relative_to(build_dir).as_posix()}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


def build_overlay(build_dir: Path, manifest: Manifest, board: Board) -> tuple[Path, Path]:
    """The build's overlay files, in its folder `overlay`; manifest.json and rtl/ must be written, as they are hashed.

    ConfigError where the design has no hardware, or the board cannot map its AXI-Lite window.
    """
    return write_overlay(build_dir / "overlay", describe(build_dir, manifest, board))


def describe(build_dir: Path, manifest: Manifest, board: Board) -> Overlay:
    """What an overlay of the build says, for a virtual board or a real one. Raises as `build_overlay` does."""
    if manifest.io is None or manifest.axilite_bytes is None:
        raise ConfigError(
            f"a design with an overlay must have streams and an AXI-Lite window, got {manifest.design}, which is "
            "software-only; build it for hardware first"
        )
    places = board.address_map
    return Overlay(
        name=manifest.design,
        design_id=manifest.design_id,
        content_sha256=content_sha256(build_dir),
        board=board.name,
        part=board.part,
        clk_mhz=manifest.clk_mhz,
        clk_divisor=round(board.pl_clock_source_mhz / manifest.clk_mhz),
        accelerator=Window(places.accelerator.base, max(manifest.axilite_bytes, 4096)),
        dma=Window(places.dma.base, places.dma.size or 0),
        in_stream_bits=manifest.io.input.stream_bits,
        out_stream_bits=manifest.io.output.stream_bits,
    )


def write_overlay(out_dir: Path, overlay: Overlay) -> tuple[Path, Path]:
    """The paths of the `.bit` and the `.hwh`, written into `out_dir`; equal content gives equal names and bytes."""
    hwh = hwh_text(overlay)
    fields = {**asdict(overlay), "hwh_sha256": hashlib.sha256(hwh.encode()).hexdigest()}
    body = MAGIC + json.dumps(fields, indent=1, sort_keys=True).encode() + b"\n"
    body += b"\n" * (-len(body) % 4)  # the FPGA manager takes words
    bit = _bit_header(overlay, len(body)) + body
    stem = f"{overlay.name}-{hashlib.sha256(bit).hexdigest()[:12]}"
    output_directory(out_dir)
    paths = out_dir / f"{stem}.bit", out_dir / f"{stem}.hwh"
    atomic_write(paths[1], hwh)
    atomic_write(paths[0], bit)
    return paths


def read_overlay(body: bytes) -> Overlay:
    """What the body of a virtual `.bit` says; BoardError where it is none."""
    if not body.startswith(MAGIC):
        raise BoardError(
            f"the virtual board must be given a virtual overlay, got {len(body)} bytes of something else; "
            "a real bitstream needs a real board"
        )
    try:
        fields = json.loads(body[len(MAGIC) :])
        del fields["hwh_sha256"]
        for window in ("accelerator", "dma"):
            fields[window] = Window(**fields[window])
        return Overlay(**fields)
    except (ValueError, KeyError, TypeError) as error:
        raise BoardError(
            f"a virtual overlay must hold this version's description, got {error}; build it again"
        ) from error


def _bit_header(overlay: Overlay, length: int) -> bytes:
    """A Xilinx .bit header: a fixed preamble, then lettered fields; no date, so that equal builds are equal files."""
    fields = (
        (b"a", f"{overlay.name};UserID=0X{overlay.design_id:08X};Version=bitward-virtual"),
        (b"b", overlay.part),
        (b"c", "0000/00/00"),
        (b"d", "00:00:00"),
    )
    header = bytes.fromhex("0009 0ff00ff00ff00ff000 0001")
    for letter, text in fields:
        data = text.encode("ascii") + b"\0"
        header += letter + struct.pack(">H", len(data)) + data
    return header + b"e" + struct.pack(">I", length)


def hwh_text(overlay: Overlay) -> str:
    """The least hardware handoff file from which pynq 4.0 finds `accelerator`, `axi_dma` and the PL clocks."""
    root = ElementTree.Element("EDKSYSTEM", {"EDWVERSION": "1.2", "VIVADOVERSION": "none (bitward virtual)"})
    family, _, _ = overlay.part.partition("-")
    ElementTree.SubElement(
        root, "SYSTEMINFO", {"NAME": overlay.name, "ARCH": "zynquplus", "DEVICE": family, "BOARD": overlay.board}
    )
    ElementTree.SubElement(root, "EXTERNALPORTS")
    modules = ElementTree.SubElement(root, "MODULES")
    ps = _module(modules, PS, "zynq_ultra_ps_e", "xilinx.com:ip:zynq_ultra_ps_e:3.5", _ps_parameters(overlay))
    _bus(ps, "M_AXI_HPM0_FPD", "MASTER", "aximm")
    memory_map = ElementTree.SubElement(ps, "MEMORYMAP")
    _memory_range(memory_map, ACCELERATOR, "s_axilite", overlay.accelerator)
    _memory_range(memory_map, DMA, "S_AXI_LITE", overlay.dma)
    _memory_range(memory_map, GPIO, "S_AXI", overlay.gpio)
    accelerator = _module(modules, ACCELERATOR, TOP, f"xilinx.com:module_ref:{TOP}:1.0", {})
    _bus(accelerator, "s_axilite", "SLAVE", "aximm")
    dma = _module(modules, DMA, "axi_dma", "xilinx.com:ip:axi_dma:7.1", dma_parameters(overlay))
    _bus(dma, "S_AXI_LITE", "SLAVE", "aximm")
    gpio = _module(modules, GPIO, "axi_gpio", "xilinx.com:ip:axi_gpio:2.0", {"C_GPIO_WIDTH": "4", "C_ALL_OUTPUTS": "1"})
    _bus(gpio, "S_AXI", "SLAVE", "aximm")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _ps_parameters(overlay: Overlay) -> dict[str, str]:
    parameters = {}
    first, second = clock_divisors(overlay.clk_divisor)
    for clock in range(4):  # the client wants all four described; only PL0 is used
        register = f"PSU__CRL_APB__PL{clock}_REF_CTRL"
        parameters[f"PSU__FPGA_PL{clock}_ENABLE"] = str(int(clock == 0))
        parameters[f"{register}__ACT_FREQMHZ"] = f"{overlay.clk_mhz:g}"
        parameters[f"{register}__DIVISOR0"] = str(first)
        parameters[f"{register}__DIVISOR1"] = str(second)
        parameters[f"{register}__SRCSEL"] = "IOPLL"
    return parameters


def dma_parameters(overlay: Overlay) -> dict[str, str]:
    """The AXI DMA's parameters in a .hwh, in lower case, as the client looks them up.

    Simple mode, both directions, no realignment, no interrupts.
    """
    return {
        "c_include_sg": "0",
        "c_micro_dma": "0",
        "c_sg_length_width": str(DMA_LENGTH_BITS),
        "c_include_mm2s": "1",
        "c_include_mm2s_dre": "0",
        "c_m_axi_mm2s_data_width": str(memory_bits(overlay.in_stream_bits)),
        "c_m_axis_mm2s_tdata_width": str(overlay.in_stream_bits),
        "c_include_s2mm": "1",
        "c_include_s2mm_dre": "0",
        "c_m_axi_s2mm_data_width": str(memory_bits(overlay.out_stream_bits)),
        "c_s_axis_s2mm_tdata_width": str(overlay.out_stream_bits),
    }


def memory_bits(stream_bits: int) -> int:
    """The width of the DMA's memory port: a power of two of at least 32 bits that a stream beat fits into."""
    return max(32, 1 << (stream_bits - 1).bit_length())


def _module(
    modules: ElementTree.Element, instance: str, kind: str, vlnv: str, parameters: dict[str, str]
) -> ElementTree.Element:
    attributes = {"INSTANCE": instance, "FULLNAME": f"/{instance}", "MODTYPE": kind, "VLNV": vlnv}
    module = ElementTree.SubElement(modules, "MODULE", attributes)
    holder = ElementTree.SubElement(module, "PARAMETERS")
    for name, value in parameters.items():
        ElementTree.SubElement(holder, "PARAMETER", {"NAME": name, "VALUE": value})
    return module


def _bus(module: ElementTree.Element, name: str, kind: str, protocol: str) -> None:
    attributes = {"NAME": name, "TYPE": kind, "VLNV": f"xilinx.com:interface:{protocol}:1.0"}
    ElementTree.SubElement(module, "BUSINTERFACE", attributes)


def _memory_range(memory_map: ElementTree.Element, instance: str, interface: str, window: Window) -> None:
    attributes = {
        "ADDRESSBLOCK": "Reg",
        "BASEVALUE": f"0x{window.base:08X}",
        "HIGHVALUE": f"0x{window.base + window.size - 1:08X}",
        "INSTANCE": instance,
        "MASTERBUSINTERFACE": "M_AXI_HPM0_FPD",
        "SLAVEBUSINTERFACE": interface,
        "MEMTYPE": "REGISTER",  # MEMORY would move the block out of ip_dict
    }
    ElementTree.SubElement(memory_map, "MEMRANGE", attributes)

# SPDX-License-Identifier: Apache-2.0
"""Our RTL modules in Verilator against models in Python: words, layouts, numpy and the AXI protocol."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from rtl_bench import Bench, compile_runtime

from bitward.layout import BeatLayout
from bitward.schemes import Tmr

RTL = Path(__file__).resolve().parents[2] / "hls" / "rtl"
OKAY, SLVERR, DECERR = 0, 2, 3
LAST = "m_axis_tlast"


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """`bench(module, parameters)`: a fresh bench of the module."""
    root = tmp_path_factory.mktemp("rtl")
    runtime = compile_runtime(root)
    count = iter(range(1000))

    def make(module: str, **parameters: object) -> Bench:
        return Bench(root / str(next(count)), runtime, [RTL / f"{module}.sv"], module, parameters)

    make.root, make.runtime = root, runtime
    return make


# ---- voter ---------------------------------------------------------------------------------------------
SMALL = [(words, bits, voted) for words in (1, 2, 3, 8) for bits in (2, 4, 8) for voted in range(bits + 1)]
VOTERS = [*SMALL, (24, 4, 1), (96, 4, 1), (5, 16, 3)]
EXHAUSTIVE_BITS = 13


@pytest.fixture(scope="module")
def voters(bench):
    """Every voter of VOTERS side by side, on one input bus: one compilation."""
    layouts = [BeatLayout(Tmr(bits, voted), words) for words, bits, voted in VOTERS]
    ports, cells = [], []
    for index, ((words, bits, voted), layout) in enumerate(zip(VOTERS, layouts, strict=True)):
        ports.append(f"output logic [{words * bits - 1}:0] word_{index}")
        cells.append(
            f"bitward_voter #(.NumWords({words}), .Bits({bits}), .Voted({voted})) i_{index} "
            f"(.stored_i(stored[{layout.width - 1}:0]), .word_o(word_{index}));"
        )
    width = max(layout.width for layout in layouts)
    text = f"module voters (input logic [{width - 1}:0] stored, {', '.join(ports)});\n" + "\n".join(cells)
    top = bench.root / "voters.sv"
    top.write_text(text + "\nendmodule\n")
    return Bench(bench.root / "voters", bench.runtime, [top, RTL / "bitward_voter.sv"], "voters"), layouts, width


@pytest.fixture(scope="module")
def voted(voters):
    """The beats offered, every small one and random wide ones, and what every voter read, as integers."""
    model, layouts, width = voters
    draw = random.Random(1)
    beats = [*range(2**EXHAUSTIVE_BITS), *(draw.getrandbits(width) for _ in range(1000))]
    read: list[list[int]] = [[] for _ in layouts]
    for beat in beats:
        model["stored"] = beat
        model.settle()
        for index, words in enumerate(read):
            words.append(model[f"word_{index}"])
    return beats, read


@pytest.mark.parametrize("index", range(len(VOTERS)), ids=[f"{n}x{b}v{v}" for n, b, v in VOTERS])
def test_a_voter_reads_what_scheme_and_layout_say(voters, voted, index):
    """Exhaustive for beats of up to 13 bits: the first 2**13 beats are all there are."""
    layout, (beats, read) = voters[1][index], voted
    octets = 4 * layout.segments
    mask = 2**layout.width - 1
    raw = b"".join((beat & mask).to_bytes(octets, "little") for beat in beats)
    segments = np.frombuffer(raw, "<u4").reshape(len(beats), layout.segments).astype(np.uint32)
    words = layout.scheme.decode(layout.unpack(segments))
    expected = [sum(int(word) << lane * layout.scheme.bits for lane, word in enumerate(row)) for row in words]
    assert expected == read[index]


def _stream(model, beats, source, sink, data, count, stall, also=(), after=0):
    """Offers `beats` and takes `count` beats, with random pauses on both sides; what comes out holds until taken."""
    draw = random.Random(7)
    case = str.lower if source.islower() else str.upper
    taken, sent, offered = [], 0, False
    held = None
    for _ in range(40 * (len(beats) + count + 10)):
        offered = sent < len(beats) and (offered or draw.random() >= stall)
        model[source + case("VALID")] = int(offered)
        if offered:
            model[source + case(data)] = beats[sent]
        model[sink + case("READY")] = int(draw.random() >= stall)
        model.settle()
        if model[sink + case("VALID")]:
            now = model[sink + case(data)], *(model[port] for port in also)
            assert held is None or held == now, "a beat must hold until it is taken"
            held = None if model[sink + case("READY")] else now
            if model[sink + case("READY")]:
                taken.append(now if also else now[0])
        else:
            assert held is None, "valid must hold until the beat is taken"
        accepted = offered and model[source + case("READY")]
        model.tick()
        sent, offered = sent + bool(accepted), offered and not accepted
        if len(taken) == count and sent == len(beats):
            return taken
    raise AssertionError(f"{len(taken)} of {count} beats came out, {sent} of {len(beats)} went in")


# ---- TLAST ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("beats_per_image", [1, 3])
def test_tlast_closes_each_transfer_of_one_to_five_images(bench, beats_per_image):
    model = bench("bitward_tlast", Width=16, Beats=beats_per_image)
    sent = 0
    for images in (1, 2, 3, 4, 5):
        model["images_i"] = images
        beats = list(range(2 * images * beats_per_image))
        got = _stream(model, beats, "s_axis_t", "m_axis_t", "data", len(beats), stall=0.3, also=("m_axis_tlast",))
        transfer = images * beats_per_image
        assert got == [(beat, int((beat + 1) % transfer == 0)) for beat in beats]
        sent += 2 * images
        assert model["images_sent_o"] == sent


def test_rearming_makes_the_next_image_the_first_of_a_transfer(bench):
    model = bench("bitward_tlast", Width=16, Beats=2)
    model["images_i"] = 3

    def ends(images: int) -> list[int]:
        beats = list(range(2 * images))
        return [last for _, last in _stream(model, beats, "s_axis_t", "m_axis_t", "data", len(beats), 0.3, (LAST,))]

    assert ends(2) == [0, 0, 0, 0]  # a transfer that dies
    model["s_axis_tvalid"], model["rearm_i"] = 0, 1
    model.tick()
    model["rearm_i"] = 0
    assert ends(3) == [0, 0, 0, 0, 0, 1]
    assert model["images_sent_o"] == 5


# ---- AXI-Lite ------------------------------------------------------------------------------------------
class Master:
    """An AXI-Lite master that sends the address `aw_delay` and the data `w_delay` cycles after the start."""

    def __init__(self, model: Bench, each_cycle=lambda: None) -> None:
        self.model, self.each_cycle = model, each_cycle

    def run(self, write=None, read=None, aw_delay=0, w_delay=0, b_delay=0, r_delay=0, strobe=0xF):
        """Both at once if both are given; (bresp, (rdata, rresp)), None for what was not asked."""
        m, done = self.model, {"b": None, "r": None}
        left = {"AW": write is not None, "W": write is not None, "AR": read is not None}
        values = {"AW": write and write[0], "W": write and write[1], "AR": read}
        delays = {"AW": aw_delay, "W": w_delay, "AR": 0}
        port = {"AW": "AWADDR", "W": "WDATA", "AR": "ARADDR"}
        waited = {"B": 0, "R": 0}
        for cycle in range(200):
            for channel in ("AW", "W", "AR"):
                m[f"s_axilite_{channel}VALID"] = int(left[channel] and cycle >= delays[channel])
                if left[channel]:
                    m[f"s_axilite_{port[channel]}"] = values[channel]
            if "s_axilite_WSTRB" in m:
                m["s_axilite_WSTRB"] = strobe
            m.settle()
            for channel, delay in (("B", b_delay), ("R", r_delay)):
                waited[channel] += m[f"s_axilite_{channel}VALID"]
                m[f"s_axilite_{channel}READY"] = int(waited[channel] > delay)
            self.each_cycle()
            m.settle()
            for channel in ("AW", "W", "AR"):
                if m[f"s_axilite_{channel}VALID"] and m[f"s_axilite_{channel}READY"]:
                    left[channel] = False
            if m["s_axilite_BVALID"] and m["s_axilite_BREADY"]:
                done["b"] = m["s_axilite_BRESP"]
            if m["s_axilite_RVALID"] and m["s_axilite_RREADY"]:
                done["r"] = m["s_axilite_RDATA"], m["s_axilite_RRESP"]
            m.tick()
            if (write is None or done["b"] is not None) and (read is None or done["r"] is not None):
                return done["b"], done["r"]
        raise AssertionError("the bus must answer within 200 cycles")


class Windows:
    """What stands behind the splitter: one register file per window, slow at random; it checks what reaches it."""

    def __init__(self, model: Bench, count: int) -> None:
        self.model, self.count, self.draw = model, count, random.Random(3)
        self.stored: list[dict[int, int]] = [{} for _ in range(count)]
        self.address: list[int | None] = [None] * count
        self.data: list[int | None] = [None] * count
        self.b, self.r = [False] * count, [None] * count
        self.seen: list[tuple[str, int, int]] = []

    def cycle(self) -> None:
        m, ready = self.model, self.draw.getrandbits
        for name in ("m_awready", "m_wready", "m_arready"):
            m[name] = ready(self.count)
        m["m_bvalid"] = sum(1 << k for k in range(self.count) if self.b[k])
        m["m_rvalid"] = sum(1 << k for k in range(self.count) if self.r[k] is not None)
        m["m_bresp"] = sum((k % 2 * SLVERR) << 2 * k for k in range(self.count))
        m["m_rresp"] = 0
        m["m_rdata"] = sum((self.r[k] or 0) << 32 * k for k in range(self.count))
        m.settle()
        for k in range(self.count):
            self._window(k)

    def _window(self, k: int) -> None:
        m = self.model

        def both(a: str, b: str) -> bool:
            return bool(m[a] >> k & m[b] >> k & 1)

        if both("m_bvalid", "m_bready"):
            self.b[k] = False
        if both("m_rvalid", "m_rready"):
            self.r[k] = None
        if both("m_awvalid", "m_awready"):
            self.address[k] = m["m_awaddr"]
        if both("m_wvalid", "m_wready"):
            self.data[k] = m["m_wdata"]
        if self.address[k] is not None and self.data[k] is not None:
            self.stored[k][self.address[k]] = self.data[k]
            self.seen.append(("write", k, self.address[k]))
            self.address[k] = self.data[k] = None
            self.b[k] = True
        if both("m_arvalid", "m_arready"):
            self.seen.append(("read", k, m["m_araddr"]))
            self.r[k] = self.stored[k].get(m["m_araddr"], 0xD0000000 + k)


BASES, SIZES = (0x0000, 0x1000, 0x4000), (0x1000, 0x40, 0x4000)


@pytest.fixture(scope="module")
def split(bench):
    def packed(values):
        return f"96'h{sum(value << 32 * k for k, value in enumerate(values)):024x}"

    model = bench(
        "bitward_axilite_split", Num=3, AddrBits=16, Base=packed(BASES), Mask=packed([size - 1 for size in SIZES])
    )
    windows = Windows(model, 3)
    return Master(model, windows.cycle), windows


def test_every_window_gets_its_own_accesses_with_its_own_offset(split):
    master, windows = split
    for k, (base, size) in enumerate(zip(BASES, SIZES, strict=True)):
        for offset in (0, 4, size - 4):
            windows.seen.clear()
            assert master.run(write=(base + offset, 0x1000 + offset)) == (k % 2 * SLVERR, None)
            assert master.run(read=base + offset) == (None, (0x1000 + offset, OKAY))
            assert windows.seen == [("write", k, offset), ("read", k, offset)]


@pytest.mark.parametrize("address", [0x1040, 0x2000, 0x3FFC, 0x8000, 0xFFFC])
def test_an_address_in_no_window_answers_decerr_and_reaches_nothing(split, address):
    master, windows = split
    windows.seen.clear()
    assert master.run(write=(address, 1)) == (DECERR, None)
    assert master.run(read=address) == (None, (0, DECERR))
    assert windows.seen == []


@pytest.mark.parametrize("strobe", range(15))
def test_a_partial_write_is_refused(split, strobe):
    master, windows = split
    windows.seen.clear()
    assert master.run(write=(0x10, 1), strobe=strobe) == (SLVERR, None)
    assert windows.seen == []


@pytest.mark.parametrize(("aw_delay", "w_delay"), [(0, 0), (0, 5), (5, 0), (1, 0), (0, 1)])
@pytest.mark.parametrize("b_delay", [0, 4])
def test_address_and_data_come_in_any_order_and_answers_wait(split, aw_delay, w_delay, b_delay):
    master, windows = split
    value = 1 + aw_delay * 16 + w_delay + b_delay * 256
    delays = {"aw_delay": aw_delay, "w_delay": w_delay, "b_delay": b_delay}
    assert master.run(write=(0x4008, value), **delays) == (OKAY, None)
    assert master.run(read=0x4008, r_delay=b_delay) == (None, (value, OKAY))


def test_a_read_and_a_write_go_at_once(split):
    master, windows = split
    draw = random.Random(5)
    model = {}
    for _ in range(200):
        k, j = draw.randrange(3), draw.randrange(3)
        to, at = BASES[k] + draw.randrange(0, SIZES[k], 4), BASES[j] + draw.randrange(0, SIZES[j], 4)
        if to == at:
            continue  # which of the two comes first is not said
        value = draw.getrandbits(32)
        default = windows.stored[j].get(at - BASES[j], 0xD0000000 + j)
        delays = {name: draw.randrange(4) for name in ("aw_delay", "w_delay", "b_delay", "r_delay")}
        written, (data, _) = master.run(write=(to, value), read=at, **delays)
        assert written == k % 2 * SLVERR
        assert data == model.get(at, default)
        model[to] = value


# ---- registers -----------------------------------------------------------------------------------------
@pytest.fixture
def registers(bench):
    model = bench(
        "bitward_registers", DesignId="32'hcafe0001", GitHash="32'hfeed0002", BuildId="32'hb1d00003", GitIsDirty="1'b1"
    )
    return Master(model), model


def test_registers_identify_the_design_and_count(registers):
    master, model = registers
    model["images_sent_i"] = 41

    def read(offset):
        return master.run(read=offset)[1]

    assert [read(4 * i) for i in range(9)] == [
        (0x42575444, OKAY), (0xCAFE0001, OKAY), (1, OKAY), (1, OKAY), (41, OKAY),
        (0xFEED0002, OKAY), (0xB1D00003, OKAY), (1, OKAY), (0, OKAY),
    ]  # fmt: skip
    assert master.run(write=(0x0C, 5), b_delay=3) == (OKAY, None)
    assert (read(0x0C), model["images_per_transfer_o"]) == ((5, OKAY), 5)
    for offset in (0x00, 0x04, 0x08, 0x10, 0x14, 0x18, 0x1C, 0x20):
        assert master.run(write=(offset, 9)) == (SLVERR, None)
    assert master.run(write=(0x0C, 0)) == (SLVERR, None)  # no images would never end a transfer
    assert master.run(write=(0x0C, 7), read=0x10, w_delay=3, r_delay=2) == (OKAY, (41, OKAY))
    assert (model["images_per_transfer_o"], read(0)) == (7, (0x42575444, OKAY))


def test_each_write_of_images_per_transfer_rearms_once(bench):
    model = bench("bitward_registers")
    pulses = [0]

    def count() -> None:
        pulses[0] += model["rearm_o"]

    master = Master(model, count)
    for write, expected in [((0x0C, 3), 1), ((0x0C, 3), 2), ((0x0C, 0), 2), ((0x10, 3), 2)]:
        master.run(write=write, b_delay=4)
        assert pulses == [expected]
        master.run(read=0x0C)
        assert pulses == [expected]

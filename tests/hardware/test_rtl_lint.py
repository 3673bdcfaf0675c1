# SPDX-License-Identifier: Apache-2.0
"""Every module of hls/rtl elaborates alone, clean under Verilator -Wall; bad parameters stop elaboration."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bitward.errors import ToolError
from bitward.hardware.rtllib import MVAU_FILES, collect, library_root
from bitward.tools import find_verilator, run

RTL = Path(__file__).resolve().parents[2] / "hls" / "rtl"
VOTERS = [(words, bits, voted) for words in (1, 2, 3, 8) for bits in (2, 4, 8) for voted in range(bits + 1)]
MVAUS = [
    {"Voted": 0},
    {"Voted": 4},
    {"Mw": 4, "Simd": 2, "Mh": 4, "Voted": 1},
    {"Mw": 9, "Simd": 3, "Mh": 8, "Pe": 8, "Voted": 1, "AccBits": 12},  # the digits CNN's first layer
    {"Secded": 1},
    {"Mw": 9, "Simd": 3, "Mh": 8, "Pe": 8, "Secded": 1, "AccBits": 12},
]
SECDEDS = [(1, 1), (1, 2), (1, 4), (1, 8), (2, 4), (3, 5), (8, 8), (144, 8)]  # 1x4 is a code with no number free
TWO_WINDOWS = {"Num": 2, "Base": "64'h0000100000000000", "Mask": "64'h00000fff00000fff"}
POOLS = [
    {},
    {"Pe": 3, "Signed": 1, "Taps": 1},
    {"Pe": 4, "Bits": 8, "Taps": 9},
    {"Pe": 3, "Signed": 1, "Taps": 9, "Sum": 1, "OutBits": 8},
    {"Taps": 4, "Sum": 1, "Shift": 2},
    {"Bits": 2, "Taps": 5, "Sum": 1, "OutBits": 16},
]
ACCPOOLS = [
    {},
    {"Channels": 12, "Pe": 3, "Signed": 1, "Pixels": 9, "OutBits": 8},
    {"Channels": 3, "Pe": 3, "Pixels": 1, "OutBits": 4},
]
ELEMENTWISE = [
    {},
    {"Pe": 3, "Bits0": 3, "Signed0": 1, "Bits1": 8, "OutBits": 10},
    {"Multiply": 1, "Pe": 2, "OutBits": 8},
]
CONSTANTS = [
    {},
    {"Channels": 6, "Pe": 2, "Bits": 5, "Signed": 1, "OutBits": 9, "Constants": "54'h123456789abcd"},
    {"Multiply": 1, "Channels": 3, "Pe": 3, "Constants": "15'h7fff"},
]
LABELSELECTS = [
    {},
    {"Pe": 5, "Signed": 1, "OutBits": 4},
    {"Labels": 300, "Pe": 20, "Bits": 17, "OutBits": 9},
    {"Labels": 9, "Pe": 9},
    {"Labels": 1, "OutBits": 1},
]
PROTECTION = ("voter", "disagree", "secded")
BELOW = {
    "mvau": ("weights", *PROTECTION),
    "weights": PROTECTION,
    "vvau": ("weights", *PROTECTION),
}  # beside finn-rtllib
BELOW |= {"bias": ("weights", *PROTECTION), "threshold_stage": ("threshold_copy", *PROTECTION)}
BELOW["thresholding"] = ("threshold_stage", *BELOW["threshold_stage"])
BIASES = [
    {},
    {"Channels": 6, "Pe": 3, "BiasBits": 6, "Voted": 6, "InBits": 3, "InSigned": 0, "OutBits": 7},
    {"Channels": 4, "Pe": 4, "Secded": 1},
]
THRESHOLDINGS = [
    {},
    {"Voted": 16, "RamStyle": '"block"'},
    {"Pe": 3, "Folds": 5, "Steps": 7, "OutBits": 3, "Bits": 9, "InBits": 8, "InSigned": 0, "Signed": 0},
    {"Pe": 2, "Folds": 2, "Steps": 1, "OutBits": 1, "Bits": 3, "InBits": 3, "Voted": 3, "Signed": 0},
    {"Pe": 4, "Folds": 16, "Steps": 255, "OutBits": 8, "Bias": -128, "Bits": 24, "Voted": 24, "InBits": 24},
    {"Steps": 6, "OutBits": 5, "InSigned": 0},
]
VVAUS = [
    {},
    {"Pe": 2, "Simd": 3, "Voted": 4, "AccBits": 6},
    {"Taps": 25, "Simd": 5, "Channels": 6, "Pe": 3, "Secded": 1, "ActBits": 8, "ActSigned": 1, "WeightBits": 8},
    {"Simd": 9, "ActBits": 3},
    {"Taps": 1, "Channels": 1},
]
THREE = {"Num": 3, "Simd": 2, "Channels0": 2, "Channels1": 6, "Channels2": 4}
CONCATS = [
    {},
    {"Num": 8},
    {**THREE, "OutBits": 6, "Signed": 2, "Bits0": 4, "Bits1": 3, "Bits2": 6},
]
PIXELPADS = [
    {},
    {"Height": 1, "Width": 1, "StrideH": 3, "StrideW": 1, "Channels": 6, "Simd": 2},
    {"Height": 5, "Width": 3, "Channels": 6, "Simd": 2, "Bits": 8},
]
UPSAMPLES = [
    {},
    {"Width": 1, "ScaleH": 3, "ScaleW": 1},
    {"Width": 5, "ScaleH": 1, "ScaleW": 3, "Channels": 6, "Simd": 2, "Bits": 8},
]
FIFOS = [
    {},
    {"Bits": 13, "Depth": 34},
    {"Depth": 3, "InRam": 1},
    {"Bits": 9, "Depth": 514, "InRam": 1, "RamStyle": '"distributed"'},
]
CLEAN = [
    *[("voter", {"NumWords": words, "Bits": bits, "Voted": voted}) for words, bits, voted in VOTERS],
    *[("disagree", {"NumWords": words, "Bits": bits, "Voted": voted}) for words, bits, voted in VOTERS],
    *[("secded", {"NumWords": words, "Bits": bits}) for words, bits in SECDEDS],
    *[("counters", {"Num": count}) for count in (1, 2, 3, 8)],
    ("counters", {"Num": 3, "CountBits": 2}),
    *[("mvau", parameters) for parameters in MVAUS],
    ("weights", {}),
    ("weights", {"Voted": 1}),
    ("weights", {"Secded": 1, "Lanes": 8}),
    *[("vvau", parameters) for parameters in VVAUS],
    *[("concat", parameters) for parameters in CONCATS],
    *[("split", parameters) for parameters in ({}, {"Num": 8}, {**THREE, "Bits": 8})],
    *[("pixelpad", parameters) for parameters in PIXELPADS],
    *[("upsample", parameters) for parameters in UPSAMPLES],
    *[("dwc", {"InBits": taken, "OutBits": given}) for taken, given in ((8, 4), (3, 7), (12, 8), (36, 144), (108, 64))],
    *[("bias", parameters) for parameters in BIASES],
    *[("threshold_copy", {"Stage": 3, "Lane": 1, "Depth": depth, "InBlock": int(depth > 1)}) for depth in (1, 512)],
    *[("threshold_stage", {"Stage": stage, "Voted": voted}) for stage in (0, 3) for voted in (0, 16)],
    *[("thresholding", parameters) for parameters in THRESHOLDINGS],
    *[("pool", parameters) for parameters in POOLS],
    *[("accpool", parameters) for parameters in ACCPOOLS],
    *[("fifo", parameters) for parameters in FIFOS],
    *[("duplicate", parameters) for parameters in ({}, {"Num": 8, "Width": 13})],
    *[("elementwise", parameters) for parameters in ELEMENTWISE],
    *[("constant", parameters) for parameters in CONSTANTS],
    *[("labelselect", parameters) for parameters in LABELSELECTS],
    ("tlast", {}),
    ("tlast", {"Width": 96, "Beats": 10}),
    ("registers", {"DesignId": "32'hdeadbeef"}),
    ("axilite_split", {}),
    ("axilite_split", TWO_WINDOWS),
]
REFUSED = [
    ("threshold_copy", {"Depth": 0}, "threshold_copy: Depth and Bits must be at least 1, got 0 and 16"),
    ("bias", {"Pe": 4}, "bitward_bias: Pe must divide Channels, got Channels=2 Pe=4"),
    ("bias", {"OutBits": 0}, "bitward_bias: widths must be at least 1, got InBits=16 BiasBits=8 OutBits=0"),
    ("thresholding", {"Steps": 0}, "bitward_thresholding: Pe, Folds, .* at least 1, got 1, 1, 0, 16, 16"),
    ("thresholding", {"Voted": 3}, "bitward_thresholding: Voted must be 0 or Bits, got Voted=3 Bits=16"),
    ("thresholding", {"OutBits": 3}, "bitward_thresholding: OutBits must be at least the 4 of the search, got 3"),
    (
        "thresholding",
        {"RamStyle": '"ultra"'},
        "bitward_thresholding: RamStyle must be auto, block or distributed, got ul",
    ),
    ("weights", {"Voted": 5}, "bitward_weights: Voted must be 0..WeightBits and .* got 5 of 4, Depth=2 Lanes=1"),
    ("weights", {"Voted": 1, "Secded": 1}, "bitward_weights: Voted must be 0 with Secded, got Voted=1"),
    ("vvau", {"Simd": 2}, "bitward_vvau: Simd must divide Taps and Pe must divide Channels, got Taps=9 Simd=2"),
    ("vvau", {"AccBits": 0}, "bitward_vvau: widths must be at least 1, got WeightBits=4 ActBits=4 AccBits=0"),
    ("concat", {"Num": 1}, "bitward_concat: Num must be 2 to 8, got 1"),
    ("concat", {"Simd": 2}, "bitward_concat: Simd must divide the channels of each stream, got Simd=2 Channels0=1"),
    ("concat", {"Bits1": 5}, "bitward_concat: a stream must have 1 to OutBits=4 bits, got Bits1=5"),
    ("split", {"Num": 9}, "bitward_split: Num must be 2 to 8 and Bits at least 1, got Num=9 Bits=4"),
    ("split", {"Simd": 2}, "bitward_split: Simd must divide the channels of each stream, got Simd=2 Channels0=1"),
    ("pixelpad", {"Width": 0}, "bitward_pixelpad: sizes, strides and Bits must be at least 1, got 2x0 by 2x2, Bits=4"),
    ("pixelpad", {"Simd": 2}, "bitward_pixelpad: Simd must divide Channels, got Simd=2 Channels=1"),
    ("upsample", {"ScaleH": 0}, "bitward_upsample: Width, scales and .* got Width=2, 0x2, Bits=4"),
    ("dwc", {"InBits": 0}, "bitward_dwc: InBits and OutBits must be at least 1, got 0 and 4"),
    ("upsample", {"Simd": 2}, "bitward_upsample: Simd must divide Channels, got Simd=2 Channels=1"),
    ("voter", {"Voted": 5}, "bitward_voter: Voted must be 0..Bits and .*Voted=5"),
    ("voter", {"Bits": 0, "Voted": 0}, "bitward_voter: .* got NumWords=1 Bits=0 Voted=0"),
    ("mvau", {"Mw": 5, "Simd": 2}, "bitward_mvau: Simd must divide Mw and Pe must divide Mh, got Mw=5 Simd=2"),
    ("disagree", {"Voted": 5}, "bitward_disagree: Voted must be 0..Bits and .*Voted=5"),
    ("secded", {"NumWords": 0}, "bitward_secded: NumWords and Bits must be at least 1, got NumWords=0 Bits=4"),
    ("counters", {"Num": 0}, "bitward_counters: Num must be at least 1 and CountBits 1..32, got Num=0 CountBits=32"),
    ("counters", {"CountBits": 33}, "bitward_counters: .* got Num=1 CountBits=33"),
    ("pool", {"Taps": 0}, "bitward_pool: Pe, Bits, Taps and OutBits must be at least 1, got 1, 4, 0, 4"),
    ("pool", {"OutBits": 5}, "bitward_pool: a maximum must have OutBits = Bits = 4 and Shift = 0, got 5 and 0"),
    ("accpool", {"Channels": 5, "Pe": 2}, "bitward_accpool: Pe must divide Channels, got Pe=2 Channels=5"),
    ("accpool", {"Pe": 0}, "bitward_accpool: Pe must divide Channels, got Pe=0 Channels=1"),
    ("accpool", {"OutBits": 3}, "bitward_accpool: Bits and Pixels must be .* and OutBits at least Bits, got 4, 4, 3"),
    ("fifo", {"Depth": 1}, "bitward_fifo: Bits must be at least 1 and Depth at least 2, got 8 and 1"),
    ("fifo", {"Depth": 2, "InRam": 1}, "bitward_fifo: Bits must be at least 1 and Depth at least 3, got 8 and 2"),
    ("duplicate", {"Num": 1}, "bitward_duplicate: Num must be 2 to 8 and Width at least 1, got Num=1 Width=8"),
    ("duplicate", {"Num": 9}, "bitward_duplicate: Num must be 2 to 8 and Width at least 1, got Num=9 Width=8"),
    ("elementwise", {"OutBits": 3}, "bitward_elementwise: Pe, Bits0 and Bits1 must be .* got 1, 4, 4, 3"),
    ("constant", {"Channels": 5, "Pe": 2}, "bitward_constant: Pe must divide Channels, got Pe=2 Channels=5"),
    ("constant", {"OutBits": 3}, "bitward_constant: Bits must be at least 1 and OutBits at least Bits, got 4 and 3"),
    ("labelselect", {"Pe": 3}, "bitward_labelselect: Pe must divide Labels, got Pe=3 Labels=10"),
    ("labelselect", {"OutBits": 3}, "bitward_labelselect: .* and OutBits hold Labels - 1 = 9, got 8 and 3"),
    ("tlast", {"Beats": 0}, "bitward_tlast: Width and Beats must be at least 1, got 8 and 0"),
    ("axilite_split", {"Num": 0}, "bitward_axilite_split: Num must be at least 1"),
    ("axilite_split", TWO_WINDOWS | {"Mask": "64'h00000fff00001fff"}, "windows must not overlap, got 0.1fff and 1000"),
    ("axilite_split", TWO_WINDOWS | {"Mask": "64'h00000fff00000ffe"}, "a size of a power of two .*got 0.ffe"),
    ("axilite_split", TWO_WINDOWS | {"Base": "64'h0000180000000000"}, "a base aligned to it, got 1800.fff"),
]


def _id(value):
    return "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else None


@pytest.fixture(scope="module")
def finn(tmp_path_factory):
    """finn-rtllib as builds use it, for the module that instantiates it."""
    folder = tmp_path_factory.mktemp("lint") / "finn-rtllib"
    folder.mkdir()
    return [folder / name for name in collect([library_root() / file for file in MVAU_FILES], folder)]


def lint(module: str, parameters: dict[str, object], finn: list[Path], log: Path, *options: str) -> None:
    """Verilator has nothing to say about the module. Raises ToolError."""
    verilator = find_verilator()
    names = BELOW.get(module, ())
    waivers = [RTL / f"bitward_{name}.vlt" for name in (module, *names)]
    below = [*(finn if names else []), *(RTL / f"bitward_{name}.sv" for name in names)]
    command = [verilator.binary, "--lint-only", "-Wall", "--no-timing", "--top-module", f"bitward_{module}"]
    values = [f"-G{name}={value}" for name, value in parameters.items()]
    sources = [*filter(Path.exists, waivers), *below, RTL / f"bitward_{module}.sv"]
    run([*command, *options, *values, *sources], env=verilator.environment, log=log)


@pytest.mark.parametrize(("module", "parameters"), CLEAN, ids=_id)
def test_a_module_alone_is_clean(module, parameters, finn, tmp_path):
    lint(module, parameters, finn, tmp_path / "lint.log")


def test_a_queue_that_is_measured_is_clean(finn, tmp_path):
    lint("fifo", {"Bits": 13}, finn, tmp_path / "lint.log", "-DBITWARD_GAUGE")


@pytest.mark.parametrize(("module", "parameters", "says"), REFUSED, ids=_id)
def test_bad_parameters_stop_elaboration(module, parameters, says, finn, tmp_path):
    log = tmp_path / "lint.log"
    with pytest.raises(ToolError, match=r"^verilator_bin must end with exit code 0, got exit code 1"):
        lint(module, parameters, finn, log)
    assert re.search(f"USERERROR.*{says}", log.read_text())


def test_every_module_is_linted():
    assert {path.stem for path in RTL.glob("*.sv")} == {f"bitward_{module}" for module, _ in CLEAN}


def test_every_waiver_gives_its_reason():
    for path in RTL.glob("*.vlt"):
        lines = path.read_text().splitlines()
        assert path.with_suffix(".sv").exists()
        for above, line in zip(lines, lines[1:], strict=False):
            if line.startswith("lint_off"):
                assert above.startswith(("//", "lint_off")), f"{path.name}: {line}"

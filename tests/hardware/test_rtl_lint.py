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
]
TWO_WINDOWS = {"Num": 2, "Base": "64'h0000100000000000", "Mask": "64'h00000fff00000fff"}
MAXPOOLS = [{}, {"Pe": 3, "Signed": 1, "Taps": 1}, {"Pe": 4, "Bits": 8, "Taps": 9}]
CLEAN = [
    *[("voter", {"NumWords": words, "Bits": bits, "Voted": voted}) for words, bits, voted in VOTERS],
    *[("mvau", parameters) for parameters in MVAUS],
    *[("maxpool", parameters) for parameters in MAXPOOLS],
    ("tlast", {}),
    ("tlast", {"Width": 96, "Beats": 10}),
    ("registers", {"DesignId": "32'hdeadbeef"}),
    ("axilite_split", {}),
    ("axilite_split", TWO_WINDOWS),
]
REFUSED = [
    ("voter", {"Voted": 5}, "bitward_voter: Voted must be 0..Bits and .*Voted=5"),
    ("voter", {"Bits": 0, "Voted": 0}, "bitward_voter: .* got NumWords=1 Bits=0 Voted=0"),
    ("mvau", {"Mw": 5, "Simd": 2}, "bitward_mvau: Simd must divide Mw and Pe must divide Mh, got Mw=5 Simd=2"),
    ("mvau", {"Voted": 5}, "bitward_mvau: Voted must be 0..WeightBits, got Voted=5 WeightBits=4"),
    ("maxpool", {"Taps": 0}, "bitward_maxpool: Pe, Bits and Taps must be at least 1, got 1, 4, 0"),
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


def lint(module: str, parameters: dict[str, object], finn: list[Path], log: Path) -> None:
    """Verilator has nothing to say about the module. Raises ToolError."""
    verilator = find_verilator()
    waivers = [RTL / f"bitward_{module}.vlt"]
    below = [*finn, RTL / "bitward_voter.sv"] if module == "mvau" else []
    command = [verilator.binary, "--lint-only", "-Wall", "--no-timing", "--top-module", f"bitward_{module}"]
    values = [f"-G{name}={value}" for name, value in parameters.items()]
    sources = [*filter(Path.exists, waivers), *below, RTL / f"bitward_{module}.sv"]
    run([*command, *values, *sources], env=verilator.environment, log=log)


@pytest.mark.parametrize(("module", "parameters"), CLEAN, ids=_id)
def test_a_module_alone_is_clean(module, parameters, finn, tmp_path):
    lint(module, parameters, finn, tmp_path / "lint.log")


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

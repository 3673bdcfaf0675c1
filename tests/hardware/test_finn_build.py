# SPDX-License-Identifier: Apache-2.0
"""`bitward build --finn-config`: FINN's DataflowBuildConfig gives what the command line does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import small_networks
from small_networks import SmallNetwork, export

from bitward.cli import main
from bitward.errors import ConfigError
from bitward.hardware.boards import board_kind
from bitward.hardware.finn_build import PRODUCTS, WITHOUT_CHOICE, read_build
from bitward.manifest import Manifest

GOOD = """
output_dir: OUT
synth_clk_period_ns: 4.0
target_fps: 1000
board: KV260_SOM
shell_flow_type: vivado_zynq
folding_config_file: folding.json
specialize_layers_config_file: special.json
generate_outputs: [estimate_reports]
verify_steps: [finn_onnx_python]
save_intermediate_models: true
"""


@pytest.fixture
def network(tmp_path: Path) -> SmallNetwork:
    return export(small_networks.dense(), tmp_path / "dense.onnx", seed=5)


def written(tmp_path: Path, text: str, name: str = "build.yaml") -> Path:
    (tmp_path / name).write_text(text.replace("OUT", str(tmp_path / "out")))
    return tmp_path / name


def test_a_build_is_made_as_finns_configuration_says(
    network: SmallNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = written(tmp_path, GOOD)
    (tmp_path / "folding.json").write_text('{"Defaults": {}, "MVAU_hls_0": {"PE": 3, "resType": "lut"}}')
    (tmp_path / "special.json").write_text('{"Defaults": {}, "MVAU_0": {"preferred_impl_style": "rtl"}}')
    assert main(["build", str(network.path), "--finn-config", str(config)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "verify_steps left out: a flow compares RTL with QONNX in its stage verify" in said
    assert "save_intermediate_models left out: bitward has no such choice" in said
    assert "FINN's names: MVAU_hls_0 is fc1" in said
    assert 'resType "lut" of MVAU_hls_0 left out: multipliers are DSP slices in open RTL' in said
    record = json.loads((tmp_path / "out" / "build.json").read_text())
    manifest = Manifest.load(tmp_path / "out" / "manifest.json")
    assert (manifest.board, manifest.clk_mhz, record["target_fps"]) == ("kv260", 250, 1000)
    assert (record["folding"]["StoredMVAU_rtl_0"]["PE"], record["cycles"]) == (3, "not measured")
    given = ["--out", str(tmp_path / "mine"), "--board", "virtual", "--clk-mhz", "100"]
    assert main(["build", str(network.path), "--finn-config", str(config), *given]) == 0  # the command line wins
    manifest = Manifest.load(tmp_path / "mine" / "manifest.json")
    assert (manifest.board, manifest.clk_mhz) == ("virtual", 100)


def test_the_model_may_stand_in_the_file_and_units_in_hls_are_refused(
    network: SmallNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = written(tmp_path, f"model_path: {network.path}\n{GOOD}")
    (tmp_path / "folding.json").write_text("{}")
    (tmp_path / "special.json").write_text('{"MVAU_1": {"preferred_impl_style": "hls"}}')
    assert main(["build", "--finn-config", str(config)]) == 1
    assert "specialize of fc2 (MVAU_1): preferred_impl_style must not be 'hls', got it: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_json_is_taken_too_and_finns_own_clock_is_the_default(tmp_path: Path) -> None:
    """10 ns, as DataflowBuildConfig has it; paths of node configurations go from the file's folder, as in FINN."""
    path = tmp_path / "build.json"
    path.write_text(
        json.dumps({"folding_config_file": "f.json", "fpga_part": "xck26-sfvc784-2LV-c", "output_dir": "o"})
    )
    found = read_build(path)
    assert found.options == {"clk_mhz": 100.0, "folding": str(tmp_path / "f.json"), "board": "kv260", "out": "o"}
    assert found.notes == []


def test_what_finn_itself_reads_is_read_alike(tmp_path: Path) -> None:
    """FINN's own reader is the oracle of the keys and of the paths."""
    from finn.builder.build_dataflow_config import DataflowBuildConfig

    path = written(tmp_path, GOOD)
    (tmp_path / "folding.json").write_text("{}")
    theirs, ours = DataflowBuildConfig.construct_from(path), read_build(path)
    assert Path(ours.options["folding"]) == theirs.folding_config_file
    assert Path(ours.options["specialize"]) == theirs.specialize_layers_config_file
    assert ours.options["clk_mhz"] == 1000 / theirs.synth_clk_period_ns
    assert ours.options["out"] == str(theirs.output_dir) and ours.options["target_fps"] == theirs.target_fps


@pytest.mark.parametrize("key", sorted(WITHOUT_CHOICE))
def test_what_bitward_has_no_choice_of_is_said_once(key: str, tmp_path: Path) -> None:
    already, why = WITHOUT_CHOICE[key]
    asked = {"steps": ["step_streamline"]}.get(key, False if already is True else "something")
    assert read_build(written(tmp_path, json.dumps({key: asked}))).notes == [f"{key} left out: {why}"]
    assert read_build(written(tmp_path, json.dumps({key: already}))).notes == []


@pytest.mark.parametrize("product", sorted(PRODUCTS))
def test_products_that_a_build_does_not_leave_say_where_they_come_from(product: str, tmp_path: Path) -> None:
    found = read_build(written(tmp_path, json.dumps({"generate_outputs": ["estimate_reports", product]})))
    assert found.notes == [f"{product} left out: {PRODUCTS[product]}"] and "simulate" not in found.options


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "targetfps: 5",
            r"--finn-config must have only keys that FINN has, got 'targetfps' in .*; did you mean 'target_",
        ),
        ("target_fps: fast", "target_fps must be a number, got 'fast' in "),
        ("synth_clk_period_ns: 0", "synth_clk_period_ns must be a number above 0, got 0 in "),
        ("board: U250", "board must be one of kv260, virtual .or KV260_SOM for kv260, xck26-.*, got 'U250'"),
        ("{board: virtual, fpga_part: xck26-sfvc784-2LV-c}", "fpga_part must be that of the board, got xck26-.* with "),
        (
            "shell_flow_type: vitis_alveo",
            "shell_flow_type must be vivado_zynq, got 'vitis_alveo': bitward builds for a",
        ),
        ("generate_outputs: [bit]", "generate_outputs must be a list of estimate_reports, .*, got .'bit'.. *"),
        ("[1]", "--finn-config must map names to values, got a list in "),
    ],
)
def test_what_cannot_be_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="^" + sentence):
        read_build(written(tmp_path, text))


def test_a_board_goes_by_finns_word_and_by_its_part() -> None:
    assert {board_kind(name) for name in ("kv260", "KV260_SOM", "xck26-sfvc784-2LV-c")} == {"kv260"}
    with pytest.raises(ConfigError, match=r"^board must be one of kv260, virtual \(or KV260_SOM for kv260, "):
        board_kind("Pynq-Z1")

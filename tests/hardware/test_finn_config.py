# SPDX-License-Identifier: Apache-2.0
"""FINN's folding and specialisation files: each form is taken as FINN takes it, said to be left out, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bitward.errors import ConfigError, OutputError
from bitward.hardware.declare import BuildOptions, declare
from bitward.hardware.finn_attributes import HLS_IN_FINN, finn_name
from bitward.hardware.finn_config import (
    HardwareNode,
    Translated,
    check_specialisation,
    finn_kinds,
    queue_depths,
    read_config,
    translate,
)
from bitward.hardware.finn_session import finn_session
from bitward.hardware.generate import _folding as applied
from bitward.hardware.generate import fold_graph, translated
from bitward.hardware.lowering import Lowered, lower
from bitward.tools import resource

MVAU = frozenset({"PE", "SIMD", "ram_style"})
WINDOW = frozenset({"SIMD", "ram_style", "parallel_window"})
NODES = (
    HardwareNode("StoredThresholding_rtl_0", "Thresholding", frozenset({"PE", "ram_style"}), "", "input.threshold"),
    HardwareNode("FMPadding_rtl_0", "FMPadding", frozenset({"SIMD"})),
    HardwareNode("ConvolutionInputGenerator_rtl_0", "ConvolutionInputGenerator", WINDOW),
    HardwareNode("StoredMVAU_rtl_0", "MVAU", MVAU, "conv1", "conv1.weight"),
    HardwareNode("ConvolutionInputGenerator_rtl_1", "ConvolutionInputGenerator", WINDOW, is_pooled=True),
    HardwareNode("Pool_rtl_0", "Pool", frozenset({"PE"})),
    HardwareNode("ConvolutionInputGenerator_rtl_2", "ConvolutionInputGenerator", WINDOW),
    HardwareNode("StoredMVAU_rtl_1", "MVAU", MVAU, "conv2", "conv2.weight"),
)


def given(config: dict) -> Translated:
    return translate(config, NODES)


@pytest.mark.parametrize(
    ("name", "node", "users"),
    [
        ("conv1", "StoredMVAU_rtl_0", None),
        ("conv1.weight", "StoredMVAU_rtl_0", None),
        ("StoredMVAU_rtl_0", "StoredMVAU_rtl_0", None),
        ("MVAU_rtl_0", "StoredMVAU_rtl_0", "conv1"),
        ("MVAU_hls_1", "StoredMVAU_rtl_1", "conv2"),
        ("MVAU_1", "StoredMVAU_rtl_1", "conv2"),
        ("Thresholding_rtl_0", "StoredThresholding_rtl_0", "input.threshold"),
        ("Pool_hls_0", "Pool_rtl_0", None),
        ("Pool_rtl_0", "Pool_rtl_0", None),
    ],
)
def test_a_node_is_found_by_each_of_its_names(name: str, node: str, users: str | None) -> None:
    found = given({"Defaults": {}, name: {"PE": 2}})
    assert found.overrides == {node: {"PE": 2}}
    assert found.names == ({} if users is None else {name: users})
    assert found.notes == []


def test_where_finn_mixes_rtl_and_hls_the_files_order_tells_them_apart() -> None:
    """FINN numbers MVAU_rtl and MVAU_hls apart: both are 0 here, and only the order says which is which."""
    found = given({"MVAU_hls_0": {"PE": 2}, "MVAU_rtl_0": {"PE": 4}})
    assert found.names == {"MVAU_hls_0": "conv1", "MVAU_rtl_0": "conv2"}
    assert found.overrides == {"StoredMVAU_rtl_0": {"PE": 2}, "StoredMVAU_rtl_1": {"PE": 4}}
    few = {"MVAU_hls_0": {"PE": 2}, "MVAU_rtl_0": {"PE": 4}, "MVAU_rtl_1": {"PE": 1}}
    message = (
        r"^folding must name all 2 MVAU nodes where some are _rtl and some _hls, which FINN numbers apart, got 3: name "
        r"layers instead \(conv1, conv2, "
    )
    with pytest.raises(ConfigError, match=message):
        given(few)


def test_window_generators_are_counted_as_finns_graph_has_them() -> None:
    """With StreamingMaxPool FINN pools without one, so that its number 1 is another than with Pool."""
    generator = {"ConvolutionInputGenerator_rtl_1": {"SIMD": 2}}
    assert set(given(generator).overrides) == {"ConvolutionInputGenerator_rtl_1"}
    found = given({**generator, "StreamingMaxPool_hls_0": {"PE": 1}})
    assert set(found.overrides) == {"ConvolutionInputGenerator_rtl_2"}
    assert found.notes == ["what was given of StreamingMaxPool_hls_0 left out: the design has no StreamingMaxPool"]


@pytest.mark.parametrize(
    ("defaults", "overrides"),
    [
        ({"PE": [2, ["MVAU_rtl", "VVAU_rtl"]]}, {"StoredMVAU_rtl_0": {"PE": 2}, "StoredMVAU_rtl_1": {"PE": 2}}),
        ({"PE": [2, ["MVAU_hls"]]}, {"StoredMVAU_rtl_0": {"PE": 2}, "StoredMVAU_rtl_1": {"PE": 2}}),
        ({"PE": [2, "Pool_hls"]}, {"Pool_rtl_0": {"PE": 2}}),
        ({"SIMD": [1, ["FMPadding"], 3, ["MVAU"]]}, {"FMPadding_rtl_0": {"SIMD": 1}, "StoredMVAU_rtl_0": {"SIMD": 3},
                                                     "StoredMVAU_rtl_1": {"SIMD": 3}}),
        ({"parallel_window": [1, "all"]}, {f"ConvolutionInputGenerator_rtl_{n}": {"parallel_window": 1}
                                           for n in range(3)}),
        ({"resType": ["dsp", ["MVAU_rtl"]]}, {}),
        ({"PE": [2, ["LayerNorm"]]}, {}),
        ({}, {}),
    ],
)  # fmt: skip
def test_defaults_are_for_all_nodes_of_a_kind(defaults: dict, overrides: dict) -> None:
    found = given({"Defaults": defaults})
    assert (found.overrides, found.notes) == (overrides, [])


def test_a_value_that_only_finn_has_is_the_next_that_is_as_fast_and_is_said() -> None:
    """SIMD 12 of 72 cuts pixels of 8 channels in two, which no index map has. By the layer's own name it is refused."""
    node = HardwareNode("StoredMVAU_rtl_0", "MVAU", MVAU, "conv", "conv.weight", choices={"SIMD": [1, 2, 4, 8, 24, 72]})
    found = translate({"MVAU_rtl_0": {"SIMD": 12}}, [node])
    assert found.overrides == {"StoredMVAU_rtl_0": {"SIMD": 24}}
    assert found.notes == ["SIMD 12 of MVAU_rtl_0 is 24 here: a row holds whole pixels or parts of one"]
    for name, value in (("MVAU_rtl_0", 8), ("MVAU_rtl_0", 7), ("MVAU_rtl_0", 144), ("MVAU_rtl_0", True), ("conv", 12)):
        found = translate({name: {"SIMD": value}}, [node])
        assert (found.overrides, found.notes) == ({"StoredMVAU_rtl_0": {"SIMD": value}}, [])  # taken, or refused later


def test_what_is_said_of_a_node_wins_over_defaults() -> None:
    found = given({"Defaults": {"PE": [2, ["MVAU"]]}, "MVAU_rtl_1": {"PE": 4}})
    assert found.overrides == {"StoredMVAU_rtl_0": {"PE": 2}, "StoredMVAU_rtl_1": {"PE": 4}}


@pytest.mark.parametrize(
    ("values", "left_out"),
    [
        ({"runtime_writeable_weights": 1, "mem_mode": "internal_decoupled", "resType": "auto", "ram_style_thresholds":
          "auto", "impl_style": "rtl", "preferred_impl_style": ""}, []),
        ({"resType": "lut"}, ["multipliers are DSP slices in open RTL"]),
        ({"mac_resource": "lut"}, ["multipliers are DSP slices in open RTL"]),
        ({"mem_mode": "internal_embedded"}, ["weights are memories of their own here, which is what faults hit"]),
        ({"runtime_writeable_weights": 0},
         ["memories can always be written over AXI-Lite, which injecting faults needs"]),
        ({"ram_style_thresholds": "block"}, ["thresholds have nodes of their own here: give those a ram_style"]),
        ({"depth_trigger_uram": 64}, ["give ram_style instead"]),
        ({"impl_style": "vivado"}, ["all nodes are open RTL"]),
        ({"inFIFODepths": [4]}, ["queues are found by measuring in RTL"]),
        ({"parallel_window": 0}, ["here a MVAU has none"]),
    ],
)  # fmt: skip
def test_what_bitward_decides_itself_is_left_out_with_a_sentence(values: dict, left_out: list[str]) -> None:
    found = given({"MVAU_rtl_0": {"PE": 2, **values}})
    (key, value), *_ = values.items()
    notes = [f"{key} {json.dumps(value)} of MVAU_rtl_0 left out: {why}" for why in left_out]
    assert (found.overrides, found.notes) == ({"StoredMVAU_rtl_0": {"PE": 2}}, notes)


def test_queues_of_finns_graph_are_left_out_and_bitwards_own_are_kept() -> None:
    finns = {f"StreamingFIFO_rtl_{n}": {"depth": 32, "ram_style": "auto", "impl_style": "rtl"} for n in range(9)}
    found = given({**finns, "StreamingFIFO_rtl_9": {"depth": 16}, "StreamingFIFO_3": {"depth": 2}})
    assert found.queues == {"StreamingFIFO_rtl_9": {"depth": 16}}
    assert found.notes == [
        "depths of StreamingFIFO_rtl_0, StreamingFIFO_rtl_1, StreamingFIFO_rtl_2, StreamingFIFO_rtl_3, "
        "StreamingFIFO_rtl_4, 5 more left out: queues of FINN's graph; here they are found by measuring in RTL"
    ]
    assert queue_depths({**finns, "StreamingFIFO_rtl_9": {"depth": 16}}) == {"StreamingFIFO_rtl_9": 16}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"MVAU_rtl_2": {"PE": 1}}, "folding must name a layer or node .*, got 'MVAU_rtl_2'; did you mean 'MVAU_rtl_"),
        ({"MVUA_rtl_0": {"PE": 1}}, "folding must name a layer or node .*, got 'MVUA_rtl_0'; did you mean 'MVAU_rtl_"),
        ({"conv3": {"PE": 1}}, "folding must name a layer or node .*, got 'conv3'; did you mean 'conv"),
        ({"MVAU_rtl_0": 3}, r'folding of MVAU_rtl_0 must map attributes to values, as {"PE": 2}, got 3'),
        ({"MVAU_rtl_0": {"PE": 2}, "conv1": {"PE": 4}}, "folding of conv1 must give PE once, got 2 and 4: the file has "
         "two names for one node"),
        ({"MVAU_rtl_0": {"mem_mode": "external"}}, r"folding of conv1 \(MVAU_rtl_0\): mem_mode must not be 'external', "
         "got it: parameters lie in the design's own memories"),
        ({"MVAU_rtl_0": {"impl_style": "hls"}}, r"folding of conv1 \(MVAU_rtl_0\): impl_style must not be 'hls', got "
         "it: bitward builds open RTL only; ask for 'rtl'"),
        ({"Defaults": 3}, "Defaults must map attributes to .value, operators., got 3"),
        ({"Defaults": {"PE": 3}}, "Defaults for PE must be .value, operators or \"all\"., as .*, got 3"),
        ({"Defaults": {"PE": [2]}}, "Defaults for PE must be .value, operators or \"all\"., as .*, got .2."),
        ({"Defaults": {"PE": [2, ["MVUA"]]}}, "Defaults for PE must name operators that FINN has, got 'MVUA'; did you "
         "mean 'MVAU'"),
        ({"Defaults": {"PE": [2, ["MVAU_rtl"], 4, ["MVAU_hls"]]}}, r"Defaults for PE must give MVAU one value, got "
         r"\[2, 4\]: RTL and HLS are one kind here"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_the_files_own_names(config: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match="^" + sentence):
        given(config)


def test_a_specialisation_asks_for_nothing_but_rtl() -> None:
    def check(config: dict) -> Translated:
        found = translate(config, NODES, "specialize")
        check_specialisation(found)
        return found

    asked = {
        "Defaults": {"preferred_impl_style": ["rtl", ["MVAU", "Thresholding"]]},
        "MVAU_0": {"preferred_impl_style": ""},
    }
    assert check(asked).names == {"MVAU_0": "conv1"} and check({}).notes == []
    for hls, who in (
        ({"MVAU_1": {"preferred_impl_style": "hls"}}, r"conv2 \(MVAU_1\)"),
        ({"Defaults": {"preferred_impl_style": ["hls", "all"]}}, "Defaults for Thresholding"),
    ):
        with pytest.raises(ConfigError, match=f"^specialize of {who}: preferred_impl_style must not be 'hls', got it: "
                           "bitward builds open RTL only; ask for 'rtl', or leave it out"):  # fmt: skip
            check(hls)
    with pytest.raises(ConfigError, match=r"^specialize of conv1 \(MVAU_0\) must give preferred_impl_style alone, got "
                       "'PE': that belongs into --folding"):  # fmt: skip
        check({"MVAU_0": {"PE": 2}})


def test_files_are_json_or_yaml_and_anything_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text('{\n\t"MVAU_rtl_0": {"PE": 2}\n}')  # tabs, which YAML has not
    (tmp_path / "f.yaml").write_text("MVAU_rtl_0: {PE: 2}")
    assert read_config(tmp_path / "f.json", "--folding") == read_config(tmp_path / "f.yaml", "--folding")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(
        OutputError, match=r"^--folding must be a readable JSON or YAML file, got .*binary.json: no text"
    ):
        read_config(tmp_path / "binary.json", "--folding")
    with pytest.raises(ConfigError, match=r"^--folding must be YAML, got .*bad.yaml: "):
        read_config(tmp_path / "bad.yaml", "--folding")


def test_names_are_those_that_the_installed_finn_gives() -> None:
    """Its own classes, looked up in the files that it ships: kinds here are kinds there, with RTL or without."""
    import finn.custom_op.fpgadataflow as registered

    files = "\n".join(path.read_text() for path in (Path(registered.__file__).parent / "rtl").glob("*.py"))
    for kind in ("MVAU", "VVAU", "Thresholding", "ConvolutionInputGenerator", "FMPadding", "StreamingFIFO"):
        assert kind in finn_kinds() and f"class {kind}_rtl(" in files
    for kind in HLS_IN_FINN:
        assert kind in finn_kinds() and f"class {kind}_rtl(" not in files
        assert finn_name(f"{kind}_rtl_3") == f"{kind}_hls_3"


def test_a_file_as_finn_writes_it_folds_the_design(lowered: Lowered) -> None:
    """With FINN's own names, defaults and extras; what is asked for is what the design has, also at a slow target."""
    config = json.loads("""{"Defaults": {"resType": ["lut", ["MVAU_hls"]]},
      "MVAU_hls_0": {"PE": 4, "SIMD": 6, "ram_style": "auto", "resType": "lut", "mem_mode": "internal_decoupled",
                     "runtime_writeable_weights": 0},
      "ConvolutionInputGenerator_rtl_0": {"SIMD": 1, "parallel_window": 0, "ram_style": "block"},
      "MVAU_hls_1": {"PE": 3, "SIMD": 8, "ram_style": "distributed"}}""")
    folded = applied(fold_graph(lowered, {}, 10**9, config, "block"))
    assert {key: folded["StoredMVAU_rtl_0"][key] for key in ("PE", "SIMD")} == {"PE": 4, "SIMD": 6}
    assert folded["StoredMVAU_rtl_1"] == {"PE": 3, "SIMD": 8, "ram_style": "distributed"}
    assert folded["ConvolutionInputGenerator_rtl_0"]["parallel_window"] == 0
    assert applied(fold_graph(lowered, {}, 100, config, "block"))["ConvolutionInputGenerator_rtl_0"]["SIMD"] == 1
    assert {"MVAU_hls_0": "conv1", "MVAU_hls_1": "conv2"}.items() <= translated(lowered, config).names.items()


HW_ATTRS = ["PE", "SIMD", "parallel_window", "ram_style", "depth", "impl_style", "resType", "mem_mode",
            "runtime_writeable_weights", "depth_trigger_uram", "depth_trigger_bram"]  # fmt: skip


def test_a_file_that_finn_itself_wrote_names_the_layers_that_it_means(tmp_path: Path) -> None:
    """A network with branches through FINN's own specialisation, folding and writer; names are held by initializers."""
    from finn.transformation.fpgadataflow.set_folding import SetFolding
    from finn.transformation.fpgadataflow.specialize_layers import SpecializeLayers
    from finn.util.config import extract_model_config_to_json
    from qonnx.custom_op.registry import getCustomOp
    from qonnx.transformation.general import GiveUniqueNodeNames

    with finn_session(tmp_path / "finn"):
        lowered = lower(declare(resource("onnx_models/resnet8_cifar.onnx"), BuildOptions("none"))[0])
        model = lowered.model.transform(SpecializeLayers("xck26-sfvc784-2LV-c")).transform(GiveUniqueNodeNames())
        model = model.transform(SetFolding(200_000, mvau_wwidth_max=1000)).transform(GiveUniqueNodeNames())
        extract_model_config_to_json(model, tmp_path / "auto_folding_config.json", HW_ATTRS)
        config = read_config(tmp_path / "auto_folding_config.json", "--folding")
        found = translated(lowered, config)
        folded = applied(fold_graph(lowered, {}, 10**9, config, "block"))
    memories = {node.name: node.input[1] for node in model.graph.node if node.name.startswith(("MVAU", "Thresholding"))}
    means = {name: lowered.parameters[memory] for name, memory in memories.items()}
    wanted = {name: each.layer if each.role == "weight" else each.name for name, each in means.items()}
    assert {name: found.names[name] for name in wanted} == wanted
    assert len(wanted) > 15 and "block2.shortcut.conv" in found.names.values()
    units = {name: getCustomOp(model.get_node_from_name(name)) for name, each in means.items() if each.role == "weight"}
    ours = sorted(values["PE"] * values["SIMD"] for name, values in folded.items() if name.startswith("StoredMVAU"))
    theirs = sorted(op.get_nodeattr("PE") * op.get_nodeattr("SIMD") for op in units.values())
    assert np.all(np.array(ours) >= theirs) and np.all(np.array(ours) <= 2 * np.array(theirs))
    assert all(" is " in note and note.startswith("SIMD ") for note in found.notes)


def test_a_value_that_does_not_divide_is_refused_by_the_layers_name_and_finns(lowered: Lowered) -> None:
    with pytest.raises(ConfigError, match=r"^folding of conv1 \(MVAU_rtl_0\): PE must be one of 1, 2, 4, got 3"):
        fold_graph(lowered, {}, 1000, {"MVAU_rtl_0": {"PE": 3}}, "block")
    with pytest.raises(ConfigError, match=r"^folding of conv1 \(MVAU_rtl_0\): ram_style must not be 'ultra' for param"):
        fold_graph(lowered, {}, 1000, {"MVAU_rtl_0": {"ram_style": "ultra"}}, "block")

# SPDX-License-Identifier: Apache-2.0
"""U-Nets at the size of frames: the same weights on larger images, deeper queues, and rates beside a DPU's."""

from __future__ import annotations

import argparse
import json

import networks_zoo
import numpy as np
import pytest
import torch
from benchmark_scripts import imported

from bitward.classic._hsi_unet import hsi_unet
from bitward.engine.pytorch.cost import cost
from bitward.errors import ConfigError
from bitward.hardware.build import build
from bitward.hardware.declare import BuildOptions
from bitward.networks import find_network
from bitward.networks._unet import FLOAT, ROADS, Shape, UNet
from bitward.qonnx_ops.execute import execute_images
from bitward.rewrites import load_model, save_model

SCENE, FRAME = (8, 16), (16, 32)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def benchmark(repository):
    with imported(repository, "segmentation_hardware") as module:
        yield module


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """(torch network, QONNX) of a U-Net of one level for scenes of 8x16 pixels of one band."""
    design = (1, *SCENE), networks_zoo.UNet("sigmoid", transposed=True)
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    networks_zoo.build(design, path)
    return design[1].eval(), path


# ---- networks -------------------------------------------------------------------------------------------------------


def test_the_network_has_the_form_of_the_papers():
    """As many multiplications as theirs at the same filters, levels, bands and classes."""
    with torch.device("meta"):
        ours, theirs = UNet(FLOAT, torch.nn.ReLU, ROADS), hsi_unet(25, 6, filters=8, depth=3)
        assert cost(ours, (25, 32, 64)).macs == cost(theirs, (25, 32, 64)).macs


@pytest.mark.parametrize("channels", [(4, 6), (2, 4, 6), (2, 3, 4, 5, 6)])
def test_any_depth_and_filters_give_scores_of_every_pixel(channels):
    network = UNet(FLOAT, torch.nn.Sigmoid, Shape(channels, bands=3, classes=5)).eval()
    side = 2 ** (len(channels) - 1)
    assert network(torch.zeros(2, 3, side, 3 * side)).shape == (2, 5, side, 3 * side)


def test_pixels_of_eight_bits_feed_the_first_layer_of_road_networks_alone():
    kinds = [type(find_network(name).build().quant).__name__ for name in ("roads_unet_relu", "unet_relu")]
    assert kinds == ["Identity", "QuantIdentity"]


# ---- frames ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [SCENE, FRAME, (8, 48)])
def test_a_resized_graph_computes_what_the_network_does(benchmark, tiny, size):
    network, path = tiny
    images = np.random.default_rng(0).integers(0, 256, (3, 1, *size)).astype(np.float32)
    found = execute_images(benchmark.resized(load_model(path), *size), images)
    expected = network(torch.from_numpy(images)).detach().numpy()
    assert found.shape == expected.shape == (3, 3, *size)
    assert np.allclose(found, expected, atol=1e-5)


def test_queues_and_buffers_of_frames_hold_longer_rows(benchmark):
    scene = {
        "Defaults": {},
        "StreamingFIFO_rtl_0": {"depth": 2, "between": ["", "A"]},
        "StreamingFIFO_rtl_1": {"depth": 513, "between": ["A", "B"]},
        "ConvolutionInputGenerator_rtl_0": {"SIMD": 4, "ram_style": "distributed"},
        "StoredMVAU_rtl_0": {"PE": 2, "ram_style": "block"},
        "StoredThresholding_rtl_0": {"PE": 1, "ram_style": "auto"},
    }
    found = benchmark.for_frames(scene, 6)
    assert [found[f"StreamingFIFO_rtl_{n}"]["depth"] for n in (0, 1)] == [2, 6 * 512 + 1]
    assert (found["ConvolutionInputGenerator_rtl_0"], found["StoredMVAU_rtl_0"]) == ({"SIMD": 4}, {"PE": 2})
    name = "StoredThresholding_rtl_0"
    assert found[name] == scene[name] and scene["StreamingFIFO_rtl_1"]["depth"] == 513


def test_designs_that_differ_in_number_alone_have_one_digest(benchmark, tmp_path):
    texts = {"one": ("ab12cd34", "x"), "number": ("00000000", "x"), "text": ("ab12cd34", "y")}
    for name, (number, rest) in texts.items():
        rtl = tmp_path / name / "rtl"
        rtl.mkdir(parents=True)
        (rtl / "files.f").write_text("a.sv\nb.sv\n")
        (rtl / "a.sv").write_text(rest)
        (rtl / "b.sv").write_text(f"bitward_registers #(.DesignId(32'h{number})) i_registers ();")
    one, number, text = (benchmark.rtl_digest(tmp_path / name) for name in texts)
    assert one == number != text


def test_sizes_that_make_no_sense_are_refused(benchmark):
    with pytest.raises(ConfigError, match=r"^--size must be rows x columns, got '192': 192x384 is the papers'$"):
        benchmark.sizes_of("192", 2)
    with pytest.raises(ConfigError, match=r"^--frames must be at least 2 for a time between them, got 1: leave it"):
        benchmark.sizes_of("192x384", 1)
    with pytest.raises(ConfigError, match=r"^a frame must be a multiple of 64 columns wide, got 100: give other"):
        _ = benchmark.Sizes(frame=(192, 100)).wider
    assert benchmark.sizes_of("192x384", 2) == benchmark.Sizes() and benchmark.Sizes().wider == 6


def test_frames_ask_for_the_flow_first(benchmark, tmp_path):
    arguments = argparse.Namespace(out=tmp_path / "out", runs=tmp_path, force=False)
    asked = rf"^{tmp_path} must hold the run of the flow, got no .*: bitward run flows/roads_unet_relu\.yaml first$"
    with pytest.raises(ConfigError, match=asked):
        benchmark.scene_of("relu", arguments)


@pytest.mark.slow
def test_a_frame_goes_through_the_rtl_of_the_scenes_folding(benchmark, tiny, tmp_path):
    """The whole way of a case, on a U-Net of one level: bit-exact frames at the scene's pace."""
    sizes = benchmark.Sizes(SCENE, FRAME)
    options = BuildOptions(protect="msb", bias="tmr", target_fps=20_000)
    build(tiny[1], tmp_path / "scene", options)
    scene = json.loads((tmp_path / "scene" / "build.json").read_text())
    record = benchmark.frame_design(tiny[1], scene, options, tmp_path / "case", sizes, force=False)
    images = np.random.default_rng(1).integers(0, 256, (4, 1, *FRAME)).astype(np.float32)
    found = benchmark.run(tmp_path / "case" / "frame.onnx", tmp_path / "case" / "frame", images)
    assert (found["equal_qonnx"], found["equal_engine"], record["cycles"]) == (4, 4, "not measured")
    assert max(found["cycles_between_frames"]) <= 1.1 * scene["cycles"]["steady_per_image"] * sizes.larger
    held = benchmark.queue_memory(tmp_path / "case" / "frame")
    assert len(held["at_concatenations"]) == 2 and held["bits"] > 0


# ---- rates ----------------------------------------------------------------------------------------------------------


def result(case, cycles, operations, size=FRAME):
    return {
        "case": case, "size": list(size), "channels": [8, 16], "operations": operations, "protect": "none",
        "scene_cycles": 100.0, "larger": 4.0, "estimated": dict.fromkeys(("lut", "ff", "bram36", "uram", "dsp"), 1.0),
        "rtl_sha256": "0123456789abcdef", "queues": {"bits": 2_000_000, "estimated": {"bram36": 3.0, "uram": 1.0},
                   "at_concatenations": [{"depth": 5000, "bits": 4, "bram36": 2.5, "uram": 0.0}]},
        "run": {"frames": 3, "equal_qonnx": 3, "equal_engine": 2, "latency_cycles": 7, "simulated_cycles_per_s": 9,
                "cycles_between_frames": cycles},
    }  # fmt: skip


def test_frames_a_second_are_compared_at_equal_operations_and_input_alone(benchmark):
    large = result("large", [4_000_000, 3_999_999], 8_410_000_000, (192, 384))
    small = result("relu", [1_000_000], 1_560_674_304, (192, 384))
    lines = benchmark.speed_table({"relu": small, "large": large}).splitlines()
    assert lines[2].endswith("| 1.561 | 200.0 | 312.1 | 8.41 | 22.68 | 190.7 | not comparable | 1.64 |")
    assert lines[3].endswith("| 8.410 | 50.0 | 420.5 | 8.41 | 22.68 | 190.7 | 2.20 | 2.20 |")
    other = benchmark.speed_table({"large": large | {"size": [96, 192]}}).splitlines()[2]
    assert "not comparable" in other


def test_the_large_network_has_at_least_the_dpus_operations_and_at_most_a_fiftieth_more(benchmark):
    done = benchmark.operations(benchmark.LARGE_SHAPE, (192, 384))
    assert 8.41e9 <= done <= 1.02 * 8.41e9 and done == 8_425_930_752
    assert benchmark.operations(ROADS, (192, 384)) == 36 * benchmark.operations(ROADS, (32, 64))


def test_tables_show_what_differs(benchmark):
    text = benchmark.frame_table({"relu": result("relu", [1000, 1001], 10**9)})
    assert "| 3; 3 / 2 |" in text and "| 1,000, 1,001 |" in text and "| 5,000 x 4, 2.5 / 0 |" in text
    summary = {
        "network": "roads_unet_relu", "images": 50, "weight_memory_bits": {"plain": 1, "hardened": 2},
        "verify": {side: {"equal": 50, "equal_with_stalls": 49} for side in ("plain", "hardened")},
        "steady_cycles_per_image": {"plain": 38000.0, "hardened": "not measured"}, "latency_cycles": "not measured",
        "resources": dict.fromkeys(("plain", "hardened"), "not measured"),
        "targets_agree": {"compared": 40, "equal": 39},
    }  # fmt: skip
    text = benchmark.scene_table({"relu": summary})
    assert "| 50 / 49 of 50 |" in text and "| 38,000 / not measured |" in text and "| 39 of 40 |" in text
    assert "93." in text.splitlines()[2]  # the card's IoU


def test_the_untrained_network_is_a_qonnx_that_builds(benchmark, tmp_path):
    """Its skip connections take all channels of a pixel in a beat."""
    shape = Shape((2, 4), bands=3, classes=3)
    benchmark.untrained(shape, (8, 8), tmp_path / "net.onnx")
    save_model(benchmark.resized(load_model(tmp_path / "net.onnx"), 16, 8), tmp_path / "frame.onnx")
    folding = benchmark.wide_skips(shape)
    options = BuildOptions(target_fps=10_000, folding=folding, simulate=False)
    build(tmp_path / "frame.onnx", tmp_path / "built", options)
    widths = [each["bits"] for each in benchmark.queue_memory(tmp_path / "built")["at_concatenations"]]
    assert widths == [8, 8] and folding["StreamingConcat_rtl_0"] == {"SIMD": 2}

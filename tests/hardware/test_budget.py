# SPDX-License-Identifier: Apache-2.0
"""A design's estimate: what follows from shapes is exact, what does not fit is refused with the best that does."""

from __future__ import annotations

import json

import networks_zoo
import pytest
from node_bench import hardware_op
from qonnx.custom_op.registry import getCustomOp

from bitward.errors import ConfigError
from bitward.hardware import budget
from bitward.hardware.boards import load_board
from bitward.hardware.declare import BuildOptions, declare
from bitward.hardware.estimates import estimate, in_luts, node_resources, total
from bitward.hardware.finn_session import finn_session
from bitward.hardware.generate import fold_graph
from bitward.hardware.lowering import lower
from bitward.schemes import Tmr

K26 = load_board("virtual").resources


@pytest.fixture(scope="module")
def fold(tmp_path_factory):
    folder = tmp_path_factory.mktemp("budget")
    network = networks_zoo.build(networks_zoo.unet(), folder / "model.onnx")
    with finn_session(folder / "finn"):
        model, _ = declare(network.path, BuildOptions("none"))
        lowered = lower(model)
        yield lambda cycles: fold_graph(lowered, {}, cycles, None, "block")


def matrix_unit(pe, simd, bits=4, rows=64, style="block", scheme=""):
    return hardware_op(
        "StoredMVAU_rtl", stored="w", MW=simd * rows, MH=pe, PE=pe, SIMD=simd, inputDataType="UINT4",
        weightDataType=f"INT{bits}", outputDataType="INT20", noActivation=1, ram_style=style, scheme=scheme,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pe", "simd", "bits", "dsp"), [(1, 1, 4, 1), (4, 3, 4, 3), (5, 3, 4, 6), (2, 8, 8, 8), (4, 8, 8, 16)]
)
def test_slices_hold_as_many_weights_as_finns_unit_packs(pe, simd, bits, dsp):
    """With 27 bits, a guard bit and lanes of weight and activation bits less one: 4 weights of 4 bits, 2 of 8."""
    assert node_resources(matrix_unit(pe, simd, bits))["dsp"] == dsp


def test_memories_are_counted_in_blocks_of_their_shapes():
    assert node_resources(matrix_unit(1, 9, rows=512))["bram36"] == 0.5  # 512 rows of 36 bits
    assert node_resources(matrix_unit(2, 9, rows=513))["bram36"] == 2.0  # 72 bits wide, 1,024 rows of 18
    assert node_resources(matrix_unit(2, 9, rows=513, style="ultra"))["uram"] == 1
    assert node_resources(matrix_unit(1, 1, rows=64, style="distributed"))["bram36"] == 0
    voted = matrix_unit(1, 9, rows=512, scheme=json.dumps(Tmr(4, 4).to_dict()))
    assert node_resources(voted)["bram36"] == 1.5  # three copies


@pytest.mark.parametrize("rows", [16, 64, 4096])
def test_a_memory_whose_style_is_open_costs_what_the_cheaper_one_does(rows):
    block, distributed, either = (
        node_resources(matrix_unit(1, 9, rows=rows, style=style)) for style in ("block", "distributed", "auto")
    )
    is_deep = rows == 4096  # 36 bits of them: 4.5 block RAMs, or thousands of LUTs
    assert either == (block if is_deep else distributed) and block != distributed
    assert in_luts(either) == min(in_luts(block), in_luts(distributed))


def test_a_voted_bit_is_a_lut():
    plain, voted = matrix_unit(4, 4), matrix_unit(4, 4, scheme=json.dumps(Tmr(4, 1).to_dict()))
    assert node_resources(voted)["lut"] - node_resources(plain)["lut"] == 16


def test_a_faster_folding_takes_more(fold):
    slow, fast = (total(estimate(fold(cycles))) for cycles in (10**6, 300))
    assert fast["lut"] > slow["lut"] and fast["dsp"] > slow["dsp"]
    assert budget.excess(fast, K26) is None


def test_every_node_is_estimated(fold):
    model = fold(2000)
    estimates = estimate(model)
    assert set(estimates) == {node.name for node in model.graph.node}
    assert all(each["lut"] > 0 for each in estimates.values())


def test_a_design_that_does_not_fit_is_refused_with_the_fastest_that_does(fold):
    small = {**K26, "dsp": 8}
    with pytest.raises(
        ConfigError,
        match=r"^the design must fit the board, got an estimate of \d+ dsp where there are 8: the fastest that fits "
        r"takes (\d+) cycles an image: --target-fps \d+",
    ) as refused:
        budget.check(fold, 300, small, 200.0)
    cycles = int(str(refused.value).split("takes ")[1].split()[0])
    assert budget.check(fold, cycles, small, 200.0) is not None
    with pytest.raises(ConfigError):
        budget.check(fold, int(cycles / 1.05), small, 200.0)


def test_a_design_that_never_fits_is_refused(fold):
    with pytest.raises(ConfigError, match=r"where there are 1: no folding of it fits: make the model smaller, or its"):
        budget.check(fold, 300, {**K26, "dsp": 1}, 200.0)


def test_queues_count_once_their_depths_are_known(fold):
    model = fold(2000)
    assert budget.check_queues(model, K26)["dsp"] > 0
    queue = next(node for node in model.graph.node if node.op_type == "StreamingFIFO_rtl")
    getCustomOp(queue).set_nodeattr("depth", 10**7)
    with pytest.raises(
        ConfigError,
        match=r"^the design with its queues must fit the board, got an estimate of \d+ bram36 where there are 144: ",
    ):
        budget.check_queues(model, K26)
    assert budget.check(lambda _: model, 2000, K26, 200.0) is model


def test_ram_styles_follow_shapes(fold):
    model = fold(2000)
    windows = [node for node in model.graph.node if node.op_type == "ConvolutionInputGenerator_rtl"]
    assert {getCustomOp(node).get_nodeattr("ram_style") for node in windows} == {"distributed"}
    unit = next(node for node in model.graph.node if node.op_type == "StoredMVAU_rtl")
    getCustomOp(unit).set_nodeattr("ram_style", "auto")
    for node in windows:
        getCustomOp(node).set_nodeattr("ram_style", "ultra")
    budget.choose_ram_styles(model, {windows[0].name})
    assert getCustomOp(windows[0]).get_nodeattr("ram_style") == "ultra"
    styles = {getCustomOp(node).get_nodeattr("ram_style") for node in (*windows[1:], unit)}
    assert styles <= {"block", "distributed"}


def test_the_slowest_node_is_named(fold):
    model = fold(2000)
    name, cycles = budget.slowest_node(model)
    assert cycles == max(getCustomOp(node).get_exp_cycles() for node in model.graph.node) <= 2000
    assert name in {node.name for node in model.graph.node}

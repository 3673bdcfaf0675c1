# SPDX-License-Identifier: Apache-2.0
"""Folding: the target is met by every node that can meet it, overrides win, and what cannot be is refused."""

from __future__ import annotations

import pytest
import small_networks
from qonnx.custom_op.registry import getCustomOp
from small_networks import export

from bitward.errors import ConfigError
from bitward.hardware import memories as mem
from bitward.hardware.boards import load_board
from bitward.hardware.build import BuildOptions, declare
from bitward.hardware.finn_session import finn_session
from bitward.hardware.folding import SLOWEST_CYCLES, target_cycles
from bitward.hardware.generate import fold_graph
from bitward.hardware.lower import Lowered, lower

PART = load_board("virtual").part


@pytest.fixture(scope="module")
def lowered(tmp_path_factory: pytest.TempPathFactory) -> Lowered:
    folder = tmp_path_factory.mktemp("folding")
    network = export(small_networks.two_convolutions(), folder / "model.onnx", seed=1)
    with finn_session(folder / "finn"):
        model, _ = declare(network.path, BuildOptions("none"))
        return lower(model, str(folder / "finn"))


def folded(lowered: Lowered, cycles: int, overrides: dict | None = None) -> list:
    """The nodes of the folded graph as FINN's operators."""
    import copy

    from qonnx.core.modelwrapper import ModelWrapper

    fresh = Lowered(ModelWrapper(copy.deepcopy(lowered.model.model)), lowered.pre, lowered.post, lowered.layers)
    return [getCustomOp(node) for node in fold_graph(fresh, {}, PART, cycles, overrides, "block").graph.node]


def matrix_units(ops: list) -> list:
    return [op for op in ops if op.onnx_node.op_type == "StoredMVAU_rtl"]


@pytest.mark.parametrize(
    ("fps", "clk_mhz", "cycles"),
    [(1e6, 200, 200), (200e6, 200, 1), (3, 100, 33_333_333), (1e-310, 200, SLOWEST_CYCLES)],
)
def test_a_rate_is_so_many_cycles(fps, clk_mhz, cycles):
    assert target_cycles(fps, clk_mhz) == cycles


@pytest.mark.parametrize("fps", [0, -1, 200_000_001, float("nan"), float("inf")])
def test_a_rate_that_no_clock_reaches_is_refused(fps):
    with pytest.raises(
        ConfigError, match=r"^target_fps must be above 0 and at most one image a clock cycle .200000000., "
    ):
        target_cycles(fps, 200)


@pytest.mark.parametrize("cycles", [400, 100, 60, 10**9])
def test_every_node_meets_the_target_with_the_fewest_multipliers(lowered, cycles):
    ops = folded(lowered, cycles)
    for unit, layer in zip(matrix_units(ops), lowered.layers, strict=True):
        vectors = unit.get_exp_cycles() // (
            (unit.get_nodeattr("MW") // unit.get_nodeattr("SIMD"))
            * (unit.get_nodeattr("MH") // unit.get_nodeattr("PE"))
        )
        mine = unit.get_nodeattr("PE") * unit.get_nodeattr("SIMD")
        assert unit.get_exp_cycles() <= cycles
        choices = mem.foldings(layer)
        for fewer in (pe * simd for pe in choices.pes for simd in choices.simds if pe * simd < mine):
            assert unit.get_nodeattr("MW") * unit.get_nodeattr("MH") // fewer * vectors > cycles
    for op in ops:
        if op.onnx_node.op_type == "Thresholding_rtl":
            assert op.get_exp_cycles() <= cycles
    if cycles == 10**9:
        assert {(op.get_nodeattr("PE"), op.get_nodeattr("SIMD")) for op in matrix_units(ops)} == {(1, 1)}


def test_one_cycle_folds_everything_out(lowered):
    for unit in matrix_units(folded(lowered, 1)):
        assert (unit.get_nodeattr("PE"), unit.get_nodeattr("SIMD")) == (
            unit.get_nodeattr("MH"),
            unit.get_nodeattr("MW"),
        )


def test_an_override_wins_by_the_layers_name(lowered):
    first, second, third = matrix_units(folded(lowered, 10**9, {"conv2": {"PE": 3, "SIMD": 8, "ram_style": "ultra"}}))
    assert [second.get_nodeattr(name) for name in ("PE", "SIMD", "ram_style")] == [3, 8, "ultra"]
    assert [first.get_nodeattr("PE"), third.get_nodeattr("PE"), third.get_nodeattr("ram_style")] == [1, 1, "block"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"conv3": {"PE": 1}}, "^folding must name a layer or node .*, got 'conv3'; did you mean 'conv"),
        ({"conv1": {"PES": 1}}, "^folding of conv1 must set attributes of its node, got 'PES'; did you mean 'PE'"),
        ({"conv1": {"PE": 3}}, "^folding of conv1: PE must be one of 1, 2, 4, got 3"),
        (
            {"fc": {"SIMD": 9}},
            "^folding of fc: SIMD must be one of 1, 2, 3, 6, 12, 24, got 9|^folding of fc: SIMD must be one",
        ),
        ({"fc": {"SIMD": 2.0}}, "^folding of fc: SIMD must be of type int, got 2.0"),
        ({"fc": {"SIMD": True}}, "^folding of fc: SIMD must be of type int, got True"),
        ({"Thresholding_rtl_0": {"PE": 7}}, "^folding of Thresholding_rtl_0 must divide its channels, got {'PE': 7}"),
        ({"fc": None}, "^folding of fc must map attributes to values, .*got None"),
    ],
)
def test_an_override_that_cannot_be_is_refused(lowered, overrides, sentence):
    with pytest.raises(ConfigError, match=sentence):
        folded(lowered, 1000, overrides)


def test_the_choices_of_a_layer_are_what_cuts_its_digits(lowered):
    conv, _, dense = (mem.foldings(layer) for layer in lowered.layers)
    assert (conv.pes, conv.simds) == ([1, 2, 4], [1, 2, 6, 18])  # (kh, kw, ic) = (3, 3, 2): from the last digit up
    assert (dense.layer, dense.pes) == ("fc", [1, 2])

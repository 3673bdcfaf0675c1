# SPDX-License-Identifier: Apache-2.0
"""Folding: the target is met by every node that can meet it, overrides win, and what cannot be is refused."""

from __future__ import annotations

import networks_zoo
import numpy as np
import pytest
from node_bench import hardware_op
from onnx import TensorProto, helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp
from qonnx.util.basic import qonnx_make_model

from bitward.errors import ConfigError, ModelError
from bitward.hardware.budget import slowest_node
from bitward.hardware.declare import BuildOptions, declare, hardened_biases, memory_schemes
from bitward.hardware.fifos import queues
from bitward.hardware.finn_session import finn_session
from bitward.hardware.folding import SLOWEST_CYCLES, Choices, _fold_unit, set_folding, target_cycles
from bitward.hardware.generate import _folding as applied
from bitward.hardware.generate import fold_graph
from bitward.hardware.lowering import Lowered, lower
from bitward.hardware.specialise import RTL_DOMAIN
from bitward.schemes import Plain
from bitward.tools import resource

ONNX_MODELS = resource("onnx_models")


def graph(lowered: Lowered, cycles: int, overrides: dict | None = None) -> ModelWrapper:
    return fold_graph(lowered, {}, cycles, overrides, "block")


def folded(lowered: Lowered, cycles: int, overrides: dict | None = None) -> list:
    """The nodes of the folded graph as FINN's operators."""
    return [getCustomOp(node) for node in graph(lowered, cycles, overrides).graph.node]


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
    for unit in matrix_units(ops):
        vectors = unit.get_exp_cycles() // (
            (unit.get_nodeattr("MW") // unit.get_nodeattr("SIMD"))
            * (unit.get_nodeattr("MH") // unit.get_nodeattr("PE"))
        )
        mine = unit.get_nodeattr("PE") * unit.get_nodeattr("SIMD")
        assert unit.get_exp_cycles() <= cycles
        choices = unit.foldings(lowered.parameters[unit.memory_name()])
        for fewer in (pe * simd for pe in choices["PE"] for simd in choices["SIMD"] if pe * simd < mine):
            assert unit.get_nodeattr("MW") * unit.get_nodeattr("MH") // fewer * vectors > cycles
    for op in ops:
        if op.onnx_node.op_type == "StoredThresholding_rtl":
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
    first, second, third = matrix_units(
        folded(lowered, 10**9, {"conv2": {"PE": 3, "SIMD": 8, "ram_style": "distributed"}})
    )
    assert [second.get_nodeattr(name) for name in ("PE", "SIMD", "ram_style")] == [3, 8, "distributed"]
    assert [first.get_nodeattr("PE"), third.get_nodeattr("PE"), third.get_nodeattr("ram_style")] == [1, 1, "block"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"conv3": {"PE": 1}}, "^folding must name a layer or node .*, got 'conv3'; did you mean 'conv"),
        ({"conv1": {"PES": 1}}, "^folding of conv1 must set what its node lets choose, got 'PES'; did you mean 'PE'"),
        ({"conv1": {"PE": 3}}, "^folding of conv1: PE must be one of 1, 2, 4, got 3"),
        (
            {"fc": {"SIMD": 9}},
            "^folding of fc: SIMD must be one of 1, 2, 3, 6, 12, 24, got 9|^folding of fc: SIMD must be one",
        ),
        ({"fc": {"SIMD": 2.0}}, "^folding of fc: SIMD must be of type int, got 2.0"),
        ({"fc": {"SIMD": True}}, "^folding of fc: SIMD must be of type int, got True"),
        ({"conv1.threshold": {"PE": 3}}, r"^folding of conv1\.threshold: PE must be one of 1, 2, 4, got 3"),
        (
            {"ConvolutionInputGenerator_rtl_1": {"SIMD": 3}},
            "^folding of ConvolutionInputGenerator_rtl_1 must divide its channels, got {'SIMD': 3}",
        ),
        (
            {"conv1": {"ram_style": "ultra"}},
            "^folding of conv1: ram_style must not be 'ultra' for parameters, got it: ",
        ),
        (
            {"conv1.threshold": {"ram_style": "logic"}},
            r"^folding of conv1\.threshold: ram_style must be one of auto, block, distributed, got 'logic'",
        ),
        ({"fc": None}, "^folding of fc must map attributes to values, .*got None"),
    ],
)
def test_an_override_that_cannot_be_is_refused(lowered, overrides, sentence):
    with pytest.raises(ConfigError, match=sentence):
        folded(lowered, 1000, overrides)


@pytest.mark.parametrize("style", ["block", "distributed"])
def test_thresholds_lie_in_the_memories_that_are_asked_for(lowered, style):
    held = [name for name, parameter in lowered.parameters.items() if parameter.role == "threshold"]
    ops = folded(lowered, 10**9, {name: {"ram_style": style} for name in held})
    found = [op.ram_style() for op in ops if op.onnx_node.op_type == "StoredThresholding_rtl"]
    assert found == [style] * len(held) and held


def test_a_protected_layer_without_weights_in_hardware_is_refused(lowered):
    sentence = (
        "^protected layers must be weight layers that the model's output depends on, got aux, head: remove their "
    )
    with pytest.raises(ModelError, match=sentence):
        memory_schemes(lowered, {"head": Plain(4), "conv1": Plain(4), "aux": Plain(4)}, [], "threshold")


def test_a_memory_or_a_node_can_be_named_too(lowered):
    ops = folded(lowered, 10**9, {"conv1.threshold": {"PE": 2}, "StreamingFIFO_rtl_0": {"depth": 7}})
    named = {op.onnx_node.input[1]: op for op in ops if op.onnx_node.op_type == "StoredThresholding_rtl"}
    assert named["conv1.threshold"].get_nodeattr("PE") == 2
    assert next(op for op in ops if op.onnx_node.name == "StreamingFIFO_rtl_0").get_nodeattr("depth") == 7


def test_a_folding_as_it_was_applied_folds_the_same(lowered):
    """What build.json records, queue depths included, is a configuration: a build from it is the same build."""
    given = {"conv2": {"PE": 3, "ram_style": "distributed"}, "StreamingFIFO_rtl_2": {"depth": 40}}
    first = applied(graph(lowered, 100, given))
    assert first == applied(graph(lowered, 10**9, first)) != applied(graph(lowered, 10**9))
    queue = first["StreamingFIFO_rtl_2"]
    assert queue["depth"] == 40
    other = {"StreamingFIFO_rtl_2": {**queue, "between": queue["between"][::-1]}}
    with pytest.raises(
        ConfigError, match="^folding of StreamingFIFO_rtl_2 must be of the queue between .* and .*, got "
    ):
        graph(lowered, 100, other)


def test_a_folding_of_a_network_with_branches_holds_for_its_hardened_twin(tmp_path):
    """Its nodes, queues included, have one name whoever asks: depths measured for one are right for the other."""
    with finn_session(tmp_path / "finn"):
        sides = []
        for options in (BuildOptions("none"), BuildOptions("msb", bias="tmr")):
            model, schemes = declare(ONNX_MODELS / "resnet8_cifar.onnx", options)
            found = lower(model)
            sides.append((found, memory_schemes(found, schemes, hardened_biases(model, options), "threshold")))
        (plain, plain_schemes), (hardened, hardened_schemes) = sides
        first = fold_graph(plain, plain_schemes, 40_000, None, "block")
        given = applied(first)
        again = fold_graph(plain, plain_schemes, 10**9, given, "block")
        twin = fold_graph(hardened, hardened_schemes, 10**9, given, "block")
    assert queues(first) == queues(again) == queues(twin)
    assert len(queues(first)) > 60


@pytest.mark.parametrize("values", [{}, {"depth": 2.0}, {"depth": True}, {"between": []}, 7])
def test_a_queue_is_given_its_depth_alone(lowered, values):
    message = r'^folding of StreamingFIFO_rtl_2 must give its depth, as \{"depth": 16\}, got '
    with pytest.raises(ConfigError, match=message):
        folded(lowered, 100, {"StreamingFIFO_rtl_2": values})


@pytest.mark.parametrize("constants", [[3], list(range(8))], ids=["one for all", "one a channel"])
def test_constants_are_no_channels_to_fold(constants):
    """A node with a constant folds as its stream does: here, to a beat a pixel."""
    shape = {"lhs_shape": [1, 4, 8], "rhs_shape": [len(constants)], "out_shape": [1, 4, 8], "rhs_style": "const"}
    types = {"lhs_dtype": "UINT4", "rhs_dtype": "UINT3", "out_dtype": "UINT5"}
    node = helper.make_node(
        "ElementwiseAdd_rtl", ["x", "c"], ["y"], name="sum", domain=RTL_DOMAIN, backend="fpgadataflow", **shape, **types
    )
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 8]) for name in "xy"]
    model = ModelWrapper(qonnx_make_model(helper.make_graph([node], "sum", ends[:1], ends[1:])))
    model.set_initializer("c", np.array(constants, np.float32))
    set_folding(model, {}, 4)
    assert getCustomOp(model.graph.node[0]).get_nodeattr("PE") == 8


@pytest.fixture(scope="module")
def depthwise(tmp_path_factory: pytest.TempPathFactory) -> Lowered:
    folder = tmp_path_factory.mktemp("depthwise")
    network = networks_zoo.build(networks_zoo.depthwise(), folder / "model.onnx")
    with finn_session(folder / "finn"):
        model, _ = declare(network.path, BuildOptions("none"))
        return lower(model)


def test_a_window_generator_that_goes_by_its_consumer_keeps_no_other_width(depthwise):
    """Asked for what the node behind it takes, it has that; asked for anything else, the node is named that says so."""
    model = graph(depthwise, 10**9)
    generator = next(node for node in model.graph.node if node.op_type == "ConvolutionInputGenerator_rtl"
                     and getCustomOp(node).get_nodeattr("depthwise"))  # fmt: skip
    most = getCustomOp(generator).get_nodeattr("IFMChannels")
    sentence = (
        rf"^folding of {generator.name}: SIMD must go with the node behind it, which asks for 1, got {most}: fold that "
        r"one, or leave this out\.$"
    )
    with pytest.raises(ConfigError, match=sentence):
        graph(depthwise, 10**9, {generator.name: {"SIMD": most}})
    kept = graph(depthwise, 10**9, {generator.name: {"SIMD": 1}})
    assert applied(kept)[generator.name]["SIMD"] == 1


@pytest.mark.parametrize("cycles", [200, 300, 500, 1000])
def test_window_generators_that_go_by_their_consumer_meet_the_target(depthwise, cycles):
    """They send as many channels a beat as pooling or the depthwise unit takes, and are slower than it is."""
    assert slowest_node(fold_graph(depthwise, {}, cycles, None, "block"))[1] <= cycles


@pytest.mark.parametrize(("bits", "lanes", "best"), [(4, 4, (4, 1)), (4, 8, (4, 2)), (8, 4, (2, 2)), (8, 2, (2, 1))])
def test_of_equal_lanes_the_folding_with_the_fewest_dsp_slices_is_taken(bits, lanes, best):
    """A slice multiplies one input by 4 weights of 4 bits, or by 2 of 8."""
    op = hardware_op(
        "StoredMVAU_rtl", stored="w", MW=16, MH=16, PE=1, SIMD=1, inputDataType=f"UINT{bits}",
        weightDataType=f"INT{bits}", outputDataType="INT20", noActivation=1, ram_style="block",
    )  # fmt: skip
    choices = Choices("w", "", {"PE": [1, 2, 4, 8, 16], "SIMD": [1, 2, 4, 8, 16]})
    _fold_unit(op, choices, 256 // lanes)
    assert (op.get_nodeattr("PE"), op.get_nodeattr("SIMD")) == best

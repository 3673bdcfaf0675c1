# SPDX-License-Identifier: Apache-2.0
"""Sums and products of two streams, or of a stream and constants: RTL, back end and engine against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from node_bench import PART, NodeBench, draw, engine_op, hardware_op
from onnx import TensorProto, helper
from qonnx.core.modelwrapper import ModelWrapper

from bitward.errors import ModelError

IMAGES = 4
JOINS = {  # operation, shape, PE, types of both streams and of the result
    "sum_unsigned": ("Add", [1, 2, 2, 3], 1, "UINT4", "UINT4", "UINT5"),
    "sum_signed": ("Add", [1, 2, 1, 6], 3, "INT4", "INT4", "INT5"),
    "sum_of_widths": ("Add", [1, 1, 2, 4], 2, "INT3", "INT8", "INT9"),
    "sum_of_signs": ("Add", [1, 5], 5, "UINT8", "INT3", "INT10"),
    "sum_of_signs_swapped": ("Add", [1, 5], 1, "INT3", "UINT8", "INT10"),
    "product": ("Mul", [1, 2, 1, 4], 2, "UINT4", "INT3", "INT7"),
}
CONSTANTS = {  # operation, shape, PE, types of the stream and of the result, constants
    "plus_each": ("Add", [1, 2, 2, 3], 1, "UINT4", "INT8", [-100, 0, 112]),
    "plus_each_lanes": ("Add", [1, 1, 3, 6], 3, "INT16", "INT17", [-32768, 5, -1, 0, 32767, 77]),
    "plus_each_at_once": ("Add", [1, 4], 4, "INT4", "INT6", [-20, 20, 1, 0]),
    "plus_one_for_all": ("Add", [1, 2, 2, 4], 2, "INT4", "INT8", [-33]),
    "times_each": ("Mul", [1, 2, 1, 4], 2, "INT5", "INT12", [-127, 127, 1, 0]),
    "times_one_for_all": ("Mul", [1, 3], 3, "UINT4", "UINT8", [17]),
}


def join(operation, shape, pe, lhs, rhs, out, **more):
    types = {"lhs_dtype": lhs, "rhs_dtype": rhs, "out_dtype": out}
    shapes = {"lhs_shape": shape, "rhs_shape": shape, "out_shape": shape, **more}
    return hardware_op(f"Elementwise{operation}_rtl", inputs=2, PE=pe, **types, **shapes)


def constant(operation, shape, pe, source, out, constants, **more):
    types = {"lhs_dtype": source, "rhs_dtype": "INT32", "out_dtype": out}
    shapes = {"lhs_shape": shape, "rhs_shape": [len(constants)], "out_shape": shape, "rhs_style": "const", **more}
    return hardware_op(f"Elementwise{operation}_rtl", PE=pe, constants=constants, **types, **shapes)


@pytest.fixture(scope="module")
def bench(tmp_path_factory, verilated_runtime):
    joins = {label: join(*case) for label, case in JOINS.items()}
    constants = {label: constant(*case) for label, case in CONSTANTS.items()}
    return NodeBench(tmp_path_factory.mktemp("elementwise"), verilated_runtime, joins | constants)


def expected(label, streams):
    if label in JOINS:
        return streams[0] * streams[1] if JOINS[label][0] == "Mul" else streams[0] + streams[1]
    operation, shape, *_, constants = CONSTANTS[label]
    vectors = streams[0].reshape(len(streams[0]), -1, shape[-1])
    each = np.array(constants)
    return (vectors * each if operation == "Mul" else vectors + each).reshape(len(vectors), -1)


@pytest.mark.parametrize("label", [*JOINS, *CONSTANTS])
def test_results_are_numpys_under_random_stalls(bench, label):
    streams = draw(np.random.default_rng(3), bench.ops[label], IMAGES)
    wanted = expected(label, streams)
    assert np.array_equal(bench.run(label, streams, stall=0.4).streams[0], wanted)
    assert np.array_equal(engine_op(bench.ops[label]).apply(tuple(streams), None)[0], wanted)


@pytest.mark.parametrize("label", JOINS)
@pytest.mark.parametrize("ends", [("min", "min"), ("min", "max"), ("max", "min"), ("max", "max")], ids="-".join)
def test_extreme_results_are_exact(bench, label, ends):
    op = bench.ops[label]
    types = op.get_input_datatype(0), op.get_input_datatype(1)
    size = 1, int(np.prod(op.get_normal_input_shape(0)))
    streams = [np.full(size, int(getattr(kind, end)())) for kind, end in zip(types, ends, strict=True)]
    assert np.array_equal(bench.run(label, streams).streams[0], expected(label, streams))


@pytest.mark.parametrize("label", [*JOINS, *CONSTANTS])
def test_a_beat_leaves_every_cycle_also_between_images(bench, label):
    op = bench.ops[label]
    outcome = bench.run(label, draw(np.random.default_rng(4), op, IMAGES))
    assert outcome.steady(IMAGES) == [op.get_exp_cycles()] * (IMAGES - 1)
    assert outcome.at[0] == list(range(1, len(outcome.at[0]) + 1))


@pytest.mark.parametrize("label", [*JOINS, *CONSTANTS])
def test_engine_and_back_end_agree_on_counts_and_types(bench, label):
    op = bench.ops[label]
    modelled = engine_op(op)
    ends = [
        (int(np.prod(op.get_normal_input_shape(i))), op.get_input_datatype(i).name)
        for i in range(len(op.onnx_node.input))
    ]
    assert [(end.count, str(end.type)) for end in modelled.sources] == ends
    (result,) = modelled.results
    assert (result.count, str(result.type)) == (int(np.prod(op.out_shape)), op.get_output_datatype().name)


def with_initializer(values, shape=(1, 3)):
    """A model of one node that adds a constant, as a lowering leaves it, and the node's back end."""
    from qonnx.custom_op.registry import getCustomOp

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("in0", "out0")]
    node = constant("Add", list(shape), 1, "UINT4", "INT8", [0, 0, 0]).onnx_node
    del node.attribute[[a.name for a in node.attribute].index("constants")]
    node.input.append("c")
    initializer = helper.make_tensor("c", TensorProto.FLOAT, [len(values)], values)
    model = ModelWrapper(helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], [initializer])))
    return model, getCustomOp(model.graph.node[0])


def test_constants_are_taken_from_the_initializer_when_the_rtl_is_generated():
    model, op = with_initializer([3.0, -4.0, 5.0])
    with pytest.raises(
        ModelError, match=r"^node dut \(ElementwiseAdd_rtl\) must hold its constants, got none: generate "
    ):
        op.parameters(PART)
    op.generate_hdl(model, PART, 5.0)
    assert op.get_nodeattr("gen_top_module") == op.module == "bitward_constant"
    assert op.parameters(PART)["Constants"] == 3 | 0xFC << 8 | 5 << 16
    assert (op.get_instream_width_padded(0), op.get_instream_width_padded(1)) == (8, 0)  # the constant is no stream
    assert len(engine_op(op).sources) == 1
    context = {"in0": np.array([[1.0, 2.0, 15.0]], np.float32), "c": np.array([3.0, -4.0, 5.0], np.float32)}
    op.execute_node(context, None)
    assert np.array_equal(context["out0"], [[4, -2, 20]])


def test_a_fraction_is_refused():
    model, op = with_initializer([3.0, 0.5, 5.0])
    with pytest.raises(
        ModelError, match=r"^node dut \(ElementwiseAdd_rtl\) must have integer constants, got 0\.5: leave "
    ):
        op.generate_hdl(model, PART, 5.0)


@pytest.mark.parametrize(
    ("op", "says"),
    [
        (
            lambda: join("Add", [1, 2], 1, "UINT4", "UINT4", "UINT4"),
            r"have an out_dtype that holds 0 to 30, got UINT4: widen it\.$",
        ),
        (
            lambda: constant("Mul", [1, 2], 1, "INT4", "INT6", [-3, 5]),
            r"have an out_dtype that holds -40 to 35, got INT6: widen it\.$",
        ),
        (
            lambda: join("Add", [1, 4], 1, "INT4", "INT4", "INT5", rhs_shape=[1, 1]),
            r"join two streams of one shape, .* one for each of its 4 channels, got \[1, 4\] and \[1, 1\]: bring ",
        ),
        (
            lambda: constant("Add", [1, 4], 1, "INT4", "INT8", [1, 2]),
            r"join two streams of one shape, .* one for each of its 4 channels, got \[1, 4\] and \[2\]: bring ",
        ),
        (
            lambda: join("Add", [1, 4], 1, "INT4", "INT4", "INT5", lhs_style="const"),
            r"have its constant on the right, got lhs_style const: swap the operands\.$",
        ),
    ],
    ids=["sum_too_wide", "product_too_wide", "broadcast", "constants_of_no_axis", "constant_on_the_left"],
)
def test_what_the_module_has_not_is_refused(op, says):
    with pytest.raises(ModelError, match=rf"^node dut \(Elementwise(Add|Mul)_rtl\) must {says}"):
        op().parameters(PART)


@pytest.mark.parametrize(
    ("op", "says"),
    [
        (
            lambda: join("Add", [1, 4], 1, "INT4", "INT4", "INT5", rhs_shape=[1, 2]),
            r"join streams of 4 elements, got 4 and 2; build again$",
        ),
        (
            lambda: constant("Add", [1, 4], 1, "INT4", "INT8", [1, 2]),
            r"have one constant or one for each of its 4 channels, got 2; build again$",
        ),
    ],
    ids=["streams", "constants"],
)
def test_the_engine_refuses_what_does_not_fit(op, says):
    with pytest.raises(ModelError, match=rf"^node dut \(ElementwiseAdd_rtl\) must {says}"):
        engine_op(op())

# SPDX-License-Identifier: Apache-2.0
"""FINN's converters and queues fit between our back ends, whatever the folding; FINN and engine agree on the whole."""

from __future__ import annotations

import numpy as np
import pytest
from engine_graphs import manifest
from node_bench import PART
from onnx import TensorProto, helper
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx

from bitward.engine import HardwareEngine

DOMAIN = "finn.custom_op.fpgadataflow.rtl"
SIZE, CHANNELS = (1, 4, 4, 8), 8


def unit(op_type, name, inputs, outputs, **attributes):
    return helper.make_node(op_type, inputs, outputs, name=name, domain=DOMAIN, backend="fpgadataflow", **attributes)


def fork_and_join():
    """(x + constants) + x, summed over all pixels, and the place of the greatest sum: each node of another folding."""
    import bitward.hardware.ops  # noqa: F401 - registers our back ends

    vectors, shape = list(SIZE[:-1]), list(SIZE)
    nodes = [
        unit("DuplicateStreams_rtl", "fork", ["x"], ["a", "b"], NumOutputStreams=2, NumChannels=CHANNELS, PE=2,
             numInputVectors=vectors, inputDataType="UINT4"),
        unit("ElementwiseAdd_rtl", "plus", ["a", "c"], ["d"], PE=4, lhs_shape=shape, rhs_shape=[CHANNELS],
             out_shape=shape, lhs_dtype="UINT4", rhs_dtype="INT4", out_dtype="INT6", rhs_style="const"),
        unit("ElementwiseAdd_rtl", "join", ["d", "b"], ["e"], PE=8, lhs_shape=shape, rhs_shape=shape, out_shape=shape,
             lhs_dtype="INT6", rhs_dtype="UINT4", out_dtype="INT7"),
        unit("GlobalAccPool_rtl", "pool", ["e"], ["s"], NumChannels=CHANNELS, PE=4, numInputVectors=vectors,
             inputDataType="INT7"),
        unit("LabelSelect_rtl", "top", ["s"], ["y"], Labels=CHANNELS, PE=1, K=1, numInputVectors=[1, 1, 1],
             inputDataType="INT11", outputDataType="UINT8"),
    ]  # fmt: skip
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in (("x", SIZE), ("y", (1,) * 4))
    ]
    inner = {"a": SIZE, "b": SIZE, "d": SIZE, "e": SIZE, "s": (1, 1, 1, CHANNELS)}
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in inner.items()]
    constants = np.array([-8, 7, 0, 1, -1, 5, -6, 2], np.float32)
    initializer = helper.make_tensor("c", TensorProto.FLOAT, [CHANNELS], constants)
    model = ModelWrapper(
        helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], [initializer], value_info=infos))
    )
    for name, datatype in {"x": "UINT4", "a": "UINT4", "b": "UINT4", "c": "INT4", "d": "INT6", "e": "INT7"}.items():
        model.set_tensor_datatype(name, DataType[datatype])
    return model, constants


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    """The graph, and the same with converters and queues."""
    from finn.transformation.fpgadataflow.insert_dwc import InsertDWC
    from finn.transformation.fpgadataflow.insert_fifo import InsertFIFO
    from qonnx.transformation.infer_datatypes import InferDataTypes

    from bitward.hardware.finn_session import finn_session

    model, constants = fork_and_join()
    with finn_session(tmp_path_factory.mktemp("finn")):
        model = model.transform(InferDataTypes())
        yield model, model.transform(InsertDWC()).transform(InsertFIFO(create_shallow_fifos=True)), constants


def test_what_joins_the_nodes_does_not_change_what_they_compute(joined):
    plain, whole, constants = joined
    for seed in range(5):
        x = np.random.default_rng(seed).integers(0, 16, SIZE)
        sums = (2 * x + constants.astype(int)).reshape(-1, CHANNELS).sum(axis=0)
        for model in (plain, whole):
            result = execute_onnx(model, {model.graph.input[0].name: x.astype(np.float32)})
            assert int(next(iter(result.values())).item()) == int(sums.argmax())


def test_the_engine_runs_the_whole_as_numpy_does(joined):
    """As a build leaves it: RTL generated, so that the constants are attributes; initializers are not looked at."""
    from finn.transformation.fpgadataflow.prepare_ip import PrepareIP
    from finn.transformation.fpgadataflow.specialize_layers import SpecializeLayers
    from qonnx.transformation.general import GiveUniqueNodeNames

    _, model, constants = joined
    model = model.transform(SpecializeLayers(PART)).transform(GiveUniqueNodeNames()).transform(PrepareIP(PART, 5.0))
    del model.graph.initializer[:]
    engine = HardwareEngine(model.model, manifest([], (SIZE[1:], "UINT4"), ((1, 1, 1), "UINT8")), {})
    images = np.random.default_rng(9).integers(0, 16, (20, *SIZE[1:]))
    sums = (2 * images + constants.astype(int)).sum(axis=(1, 2))
    assert len(np.unique(sums.argmax(axis=1))) > 1
    assert np.array_equal(engine.infer(images).reshape(-1), sums.argmax(axis=1))


def test_every_stream_has_one_width_on_both_sides(joined):
    from finn.util.basic import getHWCustomOp

    _, model, _ = joined
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("StreamingDataWidthConverter") == 5  # fork to plus, fork to join, plus to join, pool, top
    assert kinds.count("StreamingFIFO") == 12  # between all, before the first and behind the last
    for node in model.graph.node:
        for output, tensor in enumerate(node.output):
            (consumer,) = model.find_consumers(tensor) or (None,)
            if consumer is not None:
                width = getHWCustomOp(node).get_outstream_width_padded(output)
                at = list(consumer.input).index(tensor)
                assert width == getHWCustomOp(consumer).get_instream_width_padded(at), (node.name, consumer.name)
                shape = getHWCustomOp(node).get_folded_output_shape(output)
                assert shape[-1] == getHWCustomOp(consumer).get_folded_input_shape(at)[-1]

# SPDX-License-Identifier: Apache-2.0
"""Queues in the graph: one on every stream, of the stream's width, as deep as given, and none that is not there."""

from __future__ import annotations

import copy

import networks_zoo
import pytest
from qonnx.core.modelwrapper import ModelWrapper

from bitward.errors import ConfigError
from bitward.hardware.declare import BuildOptions, declare
from bitward.hardware.fifos import LEAST, QUEUE, queues, safe_depths, set_depths
from bitward.hardware.finn_session import finn_session
from bitward.hardware.generate import fold_graph
from bitward.hardware.lowering import lower


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fifos")
    network = networks_zoo.build(networks_zoo.residual(), folder / "model.onnx")
    with finn_session(folder / "finn"):
        model, _ = declare(network.path, BuildOptions("none"))
        return fold_graph(lower(model), {}, 2000, None, "block")


@pytest.fixture
def model(graph):
    return ModelWrapper(copy.deepcopy(graph.model))


def streams(model) -> int:
    """Streams between nodes that are no queues, and the two ends."""
    nodes = [node for node in model.graph.node if node.op_type != QUEUE]
    return 1 + sum(len(node.output) for node in nodes)


def test_every_stream_has_one_queue(model):
    found = queues(model)
    assert len(found) == streams(model) == len({queue.name for queue in found})
    assert [queue.name for queue in found] == [f"{QUEUE}_{number}" for number in range(len(found))]
    assert [q.producer for q in found].count("") == [q.consumer for q in found].count("") == 1
    assert not any(QUEUE in queue.producer + queue.consumer for queue in found)


def test_nodes_stand_behind_what_they_need(model):
    known = {tensor.name for tensor in model.graph.input} | {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        assert set(node.input) <= known
        known |= set(node.output)
    assert {tensor.name for tensor in model.graph.output} <= known


def test_a_queue_says_where_it_stands(model):
    first, last = queues(model)[0], next(queue for queue in queues(model) if queue.consumer == "")
    assert str(first) == f"{first.name} (from the source to {first.consumer})"
    assert str(last) == f"{last.name} (from {last.producer} to the sink)"


def test_safe_depths_hold_an_image_where_branches_meet(model):
    found = queues(model)
    inputs = [queue.consumer for queue in found]
    safe = safe_depths(model)
    for queue in found:
        if queue.consumer and inputs.count(queue.consumer) > 1:
            assert safe[queue.name] == queue.beats + LEAST
        assert safe[queue.name] >= LEAST


def test_depths_are_set_by_name(model):
    set_depths(model, {f"{QUEUE}_1": 77, f"{QUEUE}_4": 5})
    depths = [queue.depth for queue in queues(model)]
    assert depths[1] == 77 and depths[4] == 5


def test_a_queue_that_is_not_there_and_a_depth_that_cannot_be_are_refused(model):
    with pytest.raises(ConfigError, match=f"^folding must name a queue of the design, got '{QUEUE}_999'; "):
        set_depths(model, {f"{QUEUE}_999": 4})
    with pytest.raises(ConfigError, match=f"^folding of {QUEUE}_1: depth must be at least 2, got 1: leave it out to"):
        set_depths(model, {f"{QUEUE}_1": 1})

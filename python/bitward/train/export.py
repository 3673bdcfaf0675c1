# SPDX-License-Identifier: Apache-2.0
"""Trained networks to cleaned QONNX files, with a card beside each.

The file keeps batch norm as it was trained, negative gammas included: folding is the first step of hardening and of
building, for this model as for anybody's. Layers keep the names of their torch modules.
"""

from __future__ import annotations

from pathlib import Path

import torch
from brevitas.export import export_qonnx
from onnx import NodeProto
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.util.cleanup import cleanup_model
from torch import nn

from bitward.datasets import load_dataset
from bitward.errors import ModelError
from bitward.networks import Network, find_network
from bitward.qonnx_ops.execute import execute_images
from bitward.rewrites import MAC_OPS, find_layers, mark_layer, name_layers
from bitward.tools import atomic_write, output_directory
from bitward.train._stage import predict
from bitward.train.card import Answers, card
from bitward.train.recipe import TrainingRun
from bitward.train.training import restore

# Share of the largest output. Torch and onnxruntime add floats in different orders (1e-6); one wrong level of one
# activation shows as 1e-3. Top-1 is no criterion: outputs are integers times a scale, and only rounding tells equal
# ones apart.
ROUNDING = 1e-4
COMPARED = 500  # of the first test images


def export_run(run: TrainingRun, directory: Path, data: Path | None = None) -> Path:
    """NAME.onnx and NAME.md of the run's first seed are in `directory`; it answers as torch does on test images.

    ModelError when it does not; OutputError when the folder cannot be written.
    """
    network, dataset = find_network(run.network), load_dataset(run.dataset, data)
    trained = restore(run.exported)
    model = to_qonnx(trained, network)
    expected = predict(trained, dataset.test_images)
    found = execute_images(model, dataset.test_images[:COMPARED])
    same = expected[: len(found)]
    worst = float(abs(same - found).max())
    if not worst <= ROUNDING * abs(same).max():
        raise ModelError(
            f"the exported {network.name} must answer as torch does on every test image, got outputs that differ by "
            f"{worst:.3g}: this is a fault of the exporter, report it"
        )
    file = model.model.SerializeToString(deterministic=True)
    path = output_directory(directory) / f"{network.name}.onnx"
    atomic_write(path, file)
    text = card(run, network, dataset, model, file, Answers(same, found, expected))
    atomic_write(path.with_suffix(".md"), text)
    return path


def to_qonnx(trained: nn.Module, network: Network) -> ModelWrapper:
    """The network, in evaluation mode, as a cleaned QONNX: batches of one, integer input, layers named as in torch."""
    return qonnx_of(trained, network.name, network.input_shape, network.input_bits)


def qonnx_of(trained: nn.Module, name: str, shape: tuple[int, ...], pixel_bits: int) -> ModelWrapper:
    """A Brevitas network that takes raw pixels of that shape, as a cleaned QONNX of that name."""
    # The TorchScript exporter: it names nodes after modules, and FINN knows the graphs it writes.
    proto = export_qonnx(trained.eval(), args=torch.zeros(1, *shape), export_path=None, dynamo=False)
    makers = {tensor: node for node in proto.graph.node for tensor in node.output}
    for node in proto.graph.node:
        if node.op_type in MAC_OPS:  # marked now, as cleaning up renames and sorts
            mark_layer(node, _module_name(node, makers))
    model = cleanup_model(ModelWrapper(proto))
    name_layers(model, list(find_layers(model)))
    model.set_tensor_datatype(model.graph.input[0].name, DataType[f"UINT{pixel_bits}"])
    model.graph.name = name
    return model


def _module_name(node: NodeProto, makers: dict[str, NodeProto]) -> str:
    """The torch module of a layer: that of its weights, e.g. "block1.conv1" of "block1.conv1.weight"."""
    tensor = node.input[1]
    while tensor in makers:
        tensor = makers[tensor].input[0]
    return tensor.removesuffix(".weight")

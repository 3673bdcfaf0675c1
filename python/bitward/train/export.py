# SPDX-License-Identifier: Apache-2.0
"""Trained networks to cleaned QONNX files, with a card beside each.

The file keeps batch norm as it was trained, negative gammas included: folding is the first step of hardening and of
building, for this model as for anybody's. Layers keep the names of their torch modules.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from brevitas.export import export_qonnx
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.util.cleanup import cleanup_model
from torch import nn

from bitward.datasets import load_dataset
from bitward.errors import ModelError
from bitward.networks import Network, find_network
from bitward.rewrites import MAC_OPS, name_layers
from bitward.tools import atomic_write, output_directory
from bitward.train.card import card
from bitward.train.recipe import TrainingRun
from bitward.train.training import predict, restore

# Share of the largest output. Torch and onnxruntime add floats in different orders (1e-6); one wrong level of one
# activation shows as 1e-3. Top-1 is no criterion: outputs are integers times a scale, and only rounding tells equal
# ones apart.
ROUNDING = 1e-4


def export_run(run: TrainingRun, directory: Path) -> Path:
    """NAME.onnx and NAME.md of the run's first seed are in `directory`; it answers as torch does on every test image.

    ModelError when it does not; OutputError when the folder cannot be written.
    """
    network, dataset = find_network(run.network), load_dataset(run.dataset)
    trained = restore(run.exported)
    model = to_qonnx(trained, network)
    expected = predict(trained, dataset.test_images)
    found = execute(model, dataset.test_images)
    worst = float(abs(expected - found).max())
    if not worst <= ROUNDING * abs(expected).max():
        raise ModelError(
            f"the exported {network.name} must answer as torch does on every test image, got outputs that differ by "
            f"{worst:.3g}: this is a fault of the exporter, report it"
        )
    data = model.model.SerializeToString(deterministic=True)
    path = output_directory(directory) / f"{network.name}.onnx"
    atomic_write(path, data)
    same = int((expected.argmax(axis=1) == found.argmax(axis=1)).sum())
    equality = f"top-1 on {same} of {len(found)} test images; outputs within {worst:.2g}"
    text = card(run, network, dataset, model, data, equality)
    atomic_write(path.with_suffix(".md"), text)
    return path


def to_qonnx(trained: nn.Module, network: Network) -> ModelWrapper:
    """The network, in evaluation mode, as a cleaned QONNX: batches of one, integer input, layers named as in torch."""
    # The TorchScript exporter: it names nodes after modules, and FINN knows the graphs it writes.
    proto = export_qonnx(trained.eval(), args=torch.zeros(1, *network.input_shape), export_path=None, dynamo=False)
    macs = [node.name for node in proto.graph.node if node.op_type in MAC_OPS]  # e.g. "/conv1/Conv"
    names = [name.strip("/").rsplit("/", 1)[0].replace("/", ".") for name in macs]
    model = cleanup_model(ModelWrapper(proto))
    name_layers(model, names)
    model.set_tensor_datatype(model.graph.input[0].name, DataType[f"UINT{network.input_bits}"])
    model.graph.name = network.name
    return model


def execute(model: ModelWrapper, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The outputs of qonnx's executor, one image after the other, stacked: shape (n, classes)."""
    name, result = model.graph.input[0].name, model.graph.output[0].name
    outputs = [execute_onnx(model, {name: image[np.newaxis]})[result][0] for image in images]
    return np.stack(outputs)

# SPDX-License-Identifier: Apache-2.0
"""Post-training integer quantization: weights and activations of 8 bits, biases of 32, all arithmetic in integers.

The scheme is TensorFlow Lite's, which the segmentation papers use (B. Jacob et al., CVPR 2018, sections 2.1 to 2.4):
weights symmetric, biases in steps of the input's scale times the weights', activations affine, by ranges on given
images. Factors between grids have 22 bits here, not 31.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from bitward.engine.pytorch import Choose, Storage
from bitward.errors import ConfigError, ModelError
from bitward.formats import Int
from bitward.memory import Role
from bitward.rewrites.torch_networks._graph import CONCATENATIONS, LAYERS, Graph, by_output, spread
from bitward.rewrites.torch_networks._integers import Dequantize, Grid, QuantizeImages, Requantize
from bitward.rewrites.torch_networks.fold_batch_norm import fold_batch_norm
from bitward.schemes import InPlaceSecded, Plain, Scheme

AT_ONCE = 32  # images
WEIGHT_BITS, BIAS_BITS = 8, 32
LARGEST_WEIGHT = 127
WHOLE_IN_FLOAT = 1 << 24  # float32 has every whole number up to it
BOUNDED: dict[type[nn.Module], int] = {
    nn.Sigmoid: 256,
    nn.Hardsigmoid: 255,
}  # steps from 0 to 1; Lite's sigmoid has scale 1/256
SAME = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.MaxPool2d, nn.Flatten)
Biases = Literal["int32", "in-place", "minimal"]


@dataclass(frozen=True)
class Quantized:
    """A network of integers, as torch computes it, and how its parameters are stored.

    It takes images as the float network does, and gives the scores that its integers stand for. Weights and biases
    hold whole numbers. `weight_scales` and `bias_scales` say, by layer, what one of them stands for (one number, or
    one a channel), `grids` what the integers of a value do, by the name of the layer before (the images': "images").
    `largest_sums` are the largest sums that a layer can come to, by its weights and its input's grid: the arithmetic
    equals that of integers, bit by bit, where they are below 2^24 (`is_exact`), on a CPU (TF32 of GPUs has fewer bits).
    """

    network: nn.Module
    weight_scales: dict[str, npt.NDArray[np.float64]]
    bias_scales: dict[str, npt.NDArray[np.float64]]
    grids: dict[str, Grid]
    largest_sums: dict[str, int]
    bias_bits: dict[str, int]

    @property
    def is_exact(self) -> bool:
        """Are all sums such that float32 has them exactly?"""
        return max(self.largest_sums.values()) <= WHOLE_IN_FLOAT

    def stored(self, biases: Biases = "int32", weights: Callable[[int], Scheme] = Plain) -> Choose:
        """How its tensors are stored: weights in 8 bits, under the scheme made for them; and biases.

        "int32": 32 bits, plain. "in-place": 32 bits under InPlaceSecded, which takes values of 26. "minimal": as many
        bits as the widest bias of the layer needs (`bias_bits`), plain: the honest baseline of "in-place".
        ConfigError: another way to store biases.
        """
        if biases not in ("int32", "in-place", "minimal"):
            raise ConfigError(f"biases must be int32, in-place or minimal, got {biases!r}: int32 is what Lite stores")

        def choose(name: str, role: Role, tensor: torch.Tensor) -> Storage | None:
            layer, _, kind = name.rpartition(".")
            if layer not in self.weight_scales or kind not in ("weight", "bias"):
                return None
            if kind == "weight":
                return Storage(Int(WEIGHT_BITS), weights(WEIGHT_BITS))
            bits = self.bias_bits[layer] if biases == "minimal" else BIAS_BITS
            return Storage(Int(bits), InPlaceSecded(bits) if biases == "in-place" else Plain(bits))

        return choose


def quantize_int8(network: nn.Module, images: npt.NDArray[Any], per_channel: bool = False) -> Quantized:
    """The network in integers, its batch norms folded before: weights int8, biases int32, activations int8.

    Ranges of activations are those on the images, which the network takes as they are. Scales of weights are by tensor,
    or by output channel. Layers: convolutions, transposed ones and dense ones; behind each an activation (ReLU, or
    Sigmoid and Hardsigmoid, which become tables of 256 integers) or none; maximum pooling, concatenation and
    flattening; what is concatenated is brought to one grid first. Sums do not wrap around at 32 bits. ModelError:
    anything else, or values that are not finite. ConfigError: no images.
    """
    if not len(images):
        raise ConfigError("images must be at least one, got none: give some that the network was trained on")
    made, _ = fold_batch_norm(network)
    graph = Graph(made)
    return _Writer(fx.GraphModule(made, graph.graph), graph, per_channel).written(images)


class _Writer:
    """The float network as a graph of nodes, which becomes one of integers."""

    def __init__(self, module: fx.GraphModule, graph: Graph, per_channel: bool) -> None:
        self._module, self._source, self._per_channel = module, graph, per_channel
        self._ranges: dict[str, tuple[float, float]] = {}
        self._held: dict[fx.Node, Grid] = {}  # what the integers of a node's value stand for
        self._sums: dict[fx.Node, npt.NDArray[np.float64]] = {}  # what one of a layer's sums stands for
        self._layers: dict[fx.Node, str] = {}
        self._scales: dict[str, dict[str, Any]] = {"weight": {}, "bias": {}, "grid": {}, "sum": {}, "bits": {}}

    def written(self, images: npt.NDArray[Any]) -> Quantized:
        nodes = list(self._module.graph.nodes)
        self._ranges = _ranges(self._module, images)
        for node in nodes:
            self._write(node)
        self._module.graph.lint()
        self._module.delete_all_unused_submodules()
        self._module.recompile()
        found = self._scales
        return Quantized(
            self._module.eval().requires_grad_(False), found["weight"], found["bias"], found["grid"], found["sum"],
            found["bits"],
        )  # fmt: skip

    def _write(self, node: fx.Node) -> None:
        module = self._source.module(node)
        if node.op == "placeholder":
            grid = Grid.over(*self._ranges[node.name])
            self._insert(node, QuantizeImages(grid), "images_to_int8", grid)
            self._scales["grid"]["images"] = grid
        elif isinstance(module, LAYERS):
            self._layer(node, module)
        elif module is not None and (type(module) is nn.ReLU or type(module) in BOUNDED):
            self._activation(node, type(module))
        elif node.op == "call_function" and node.target in CONCATENATIONS:
            self._concatenation(node)
        elif node.op == "output":
            self._output(node)
        elif isinstance(module, SAME) or module is None and node.target in (torch.flatten, "flatten"):
            self._same(node)
        else:
            raise self._refusal(node)

    def _layer(self, node: fx.Node, layer: Any) -> None:
        """Its parameters are whole numbers; its sums are brought to a grid by what reads them, or right here."""
        name, grid = str(node.target), self._held[node.all_input_nodes[0]]
        scales = _quantize_weights(layer, name, self._per_channel)
        steps = grid.scale * scales
        self._scales["weight"][name], self._scales["bias"][name] = scales, steps
        self._scales["bits"][name] = _quantize_biases(layer, steps)
        self._scales["sum"][name] = _largest_sum(layer, name, grid)
        self._sums[node], self._layers[node] = steps, name
        if len(node.users) == 1 and self._is_fused(next(iter(node.users))):
            return
        self._requantize(node, self._target(node))

    def _is_fused(self, reader: fx.Node) -> bool:
        """Does an activation read the sums, perhaps behind what changes nothing?"""
        module = self._source.module(reader)
        if isinstance(module, (nn.Identity, nn.Dropout, nn.Dropout2d)) and len(reader.users) == 1:
            return self._is_fused(next(iter(reader.users)))
        return type(module) is nn.ReLU or type(module) in BOUNDED

    def _target(self, node: fx.Node) -> Grid:
        """The grid of a value: that of the concatenation that alone reads it, or its own."""
        (reader,) = node.users if len(node.users) == 1 else (None,)
        is_read_so = reader is not None and reader.op == "call_function" and reader.target in CONCATENATIONS
        return Grid.over(*self._ranges[reader.name if is_read_so and reader is not None else node.name])

    def _requantize(self, node: fx.Node, grid: Grid, table: list[int] | None = None, held: Grid | None = None) -> None:
        """Behind the node its sums are integers of that grid; with a table, `held` is what its entries are of."""
        layer = self._layers[node]
        factors = (self._sums[node] / grid.scale).tolist()
        self._insert(node, Requantize(factors, grid, table), f"{layer.replace('.', '_')}_to_int8", held or grid)
        self._scales["grid"][layer] = held or grid

    def _activation(self, node: fx.Node, kind: type[nn.Module]) -> None:
        """The node is one that brings the sums of the layer before it to the grid of the activation's values."""
        before = node.all_input_nodes[0]
        if before not in self._sums:
            raise self._refusal(node, "stand right behind a layer")
        self._sums[node], self._layers[node] = self._sums[before], self._layers[before]
        if kind is nn.ReLU:
            self._requantize(node, Grid.over(0.0, self._ranges[node.name][1]))
        else:
            grid, steps = Grid.over(*self._ranges[before.name]), BOUNDED[kind]
            numbers = torch.arange(grid.low, grid.high + 1, dtype=torch.float64) * grid.scale
            table = torch.floor(kind()(numbers) * steps + 0.5).clamp(0, 255)
            self._requantize(node, grid, [int(each) for each in table.tolist()], Grid(1 / steps, -128))
        node.replace_all_uses_with(before)
        self._module.graph.erase_node(node)

    def _concatenation(self, node: fx.Node) -> None:
        """Everything that is concatenated has one grid."""
        grid = Grid.over(*self._ranges[node.name])
        for place, each in enumerate(node.all_input_nodes):
            held = self._held[each]
            if held == grid:
                continue
            with self._module.graph.inserting_before(node):
                factor = Requantize([held.scale / grid.scale], grid)
                node.replace_input_with(each, self._call(factor, f"{node.name}_{place}_to_int8", each))
        self._held[node] = grid

    def _output(self, node: fx.Node) -> None:
        given = node.args[0]
        if not isinstance(given, fx.Node):
            raise self._refusal(node, "be one tensor")
        with self._module.graph.inserting_before(node):
            node.replace_input_with(given, self._call(Dequantize(self._held[given]), "scores", given))

    def _same(self, node: fx.Node) -> None:
        """Its values are of the grid of what it takes, or sums as those are."""
        before = node.all_input_nodes[0]
        if before in self._held:
            self._held[node] = self._held[before]
        else:
            self._sums[node], self._layers[node] = self._sums[before], self._layers[before]

    def _refusal(self, node: fx.Node, rule: str = "") -> ModelError:
        module = self._source.module(node)
        kind = type(module).__name__ if module is not None else str(node.target)
        rule = rule or "be a layer, ReLU, Sigmoid, Hardsigmoid, MaxPool2d, Flatten or a concatenation, all as modules"
        return ModelError(f"step {self._source.name(node)} must {rule} to be quantized, got {kind}: write it otherwise")

    def _insert(self, node: fx.Node, module: nn.Module, name: str, grid: Grid) -> None:
        """What reads the node reads the module behind it."""
        readers = list(node.users)
        with self._module.graph.inserting_after(node):
            made = self._call(module, name, node)
        for reader in readers:
            reader.replace_input_with(node, made)
        self._held[made] = self._held[node] = grid

    def _call(self, module: nn.Module, name: str, given: fx.Node) -> fx.Node:
        self._module.add_submodule(name, module)
        return self._module.graph.call_module(name, (given,))


@torch.inference_mode()
def _ranges(module: fx.GraphModule, images: npt.NDArray[Any]) -> dict[str, tuple[float, float]]:
    """(lowest, highest value) of every node on the images."""
    found: dict[str, tuple[float, float]] = {}

    class _Watcher(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, torch.Tensor):
                low, high = float(value.min()), float(value.max())
                before = found.get(n.name, (low, high))
                found[n.name] = min(low, before[0]), max(high, before[1])
            return value

    for start in range(0, len(images), AT_ONCE):
        _Watcher(module).run(torch.from_numpy(np.asarray(images[start : start + AT_ONCE], dtype=np.float32)))
    for name, bounds in found.items():
        if not np.all(np.isfinite(bounds)):
            raise ModelError(f"values of {name} must be finite on the images, got {bounds}: look for a bad training")
    return found


@torch.no_grad()
def _quantize_weights(layer: Any, name: str, per_channel: bool) -> npt.NDArray[np.float64]:
    """The layer's weights are integers from -127 to 127; what one stands for: one number, or one a channel."""
    weights = by_output(layer, name)
    largest = weights.abs().double().flatten(1).amax(dim=1)
    largest = largest if per_channel else largest.amax(dim=0, keepdim=True)
    scales = torch.where(largest > 0, largest / LARGEST_WEIGHT, torch.ones_like(largest))
    whole = torch.round(weights.double() / spread(scales, weights).double())
    weights.copy_(whole.clamp(-LARGEST_WEIGHT, LARGEST_WEIGHT))
    return scales.numpy()


@torch.no_grad()
def _quantize_biases(layer: Any, steps: npt.NDArray[np.float64]) -> int:
    """The layer's biases are integers of 32 bits, those beyond 2^24 of 24 significant bits; how many the widest needs.

    1 where there are none.
    """
    if layer.bias is None:
        return 1
    whole = torch.round(layer.bias.double() / torch.from_numpy(steps))
    limit = 2.0 ** (BIAS_BITS - 1)
    layer.bias.copy_(whole.clamp(-limit, limit - 128))  # the greatest number of float32 below the limit
    return max(_bits_of(int(each)) for each in layer.bias.double().tolist())


def _bits_of(value: int) -> int:
    """How many bits it needs in two's complement."""
    return (value if value >= 0 else ~value).bit_length() + 1


def _largest_sum(layer: Any, name: str, grid: Grid) -> int:
    """No sum of the layer, and no part of one, is larger."""
    sums = by_output(layer, name).double().abs().flatten(1).sum(dim=1) * max(abs(grid.low), abs(grid.high))
    return int((sums if layer.bias is None else sums + layer.bias.double().abs()).max())

# SPDX-License-Identifier: Apache-2.0
"""Which layers read what a layer gives, and what stands between: a torch network as torch.fx sees it."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from bitward.errors import ModelError

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
HOMOGENEOUS_MODULES = (nn.ReLU, nn.LeakyReLU, nn.PReLU)
HOMOGENEOUS_FUNCTIONS: tuple[Any, ...] = (F.relu, F.relu_, F.leaky_relu, torch.relu, "relu", "relu_")
RECTIFIERS: tuple[Any, ...] = (nn.ReLU, F.relu, F.relu_, torch.relu, "relu", "relu_")
LINEAR_MODULES = (
    nn.Identity, nn.Dropout, nn.Dropout2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Upsample,
)  # fmt: skip
LINEAR_FUNCTIONS: tuple[Any, ...] = (F.avg_pool2d, F.adaptive_avg_pool2d, F.dropout, F.interpolate, "contiguous")
LARGEST_MODULES = (nn.MaxPool2d, nn.AdaptiveMaxPool2d)
LARGEST_FUNCTIONS: tuple[Any, ...] = (F.max_pool2d, F.adaptive_max_pool2d, torch.max_pool2d)
CONCATENATIONS: tuple[Any, ...] = (torch.cat, torch.concat)
SHAPES: tuple[Any, ...] = (
    torch.flatten, "flatten", "view", torch.reshape, "reshape", "size", "mean", torch.mean, getattr, operator.getitem,
    torch.chunk, "chunk", torch.split, "split", torch.transpose, "transpose", torch.permute, "permute",
)  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """A layer, and the first of its input channels that are those of the value it reads."""

    name: str
    module: nn.Module
    offset: int


@dataclass
class Reach:
    """Where a value goes, channel by channel: layers that read it, and the activation functions on the way.

    `is_whole`: it goes nowhere else (into a sum, another shape, or out of the network).
    """

    readers: list[Reader] = field(default_factory=list)
    activations: list[tuple[str, fx.Node]] = field(default_factory=list)
    is_whole: bool = True


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        is_known = hasattr(m, "treats_channels_alike") and not isinstance(m, nn.Sequential)
        return is_known or super().is_leaf_module(m, module_qualified_name)


class Graph:
    """The layers of a network, in the order in which images go through them."""

    def __init__(self, network: nn.Module) -> None:
        """ModelError where torch.fx cannot follow the network, or a layer with parameters is used twice."""
        self.modules = dict(network.named_modules())
        try:
            self.graph = _Tracer().trace(network)
        except (fx.proxy.TraceError, TypeError, NotImplementedError) as error:
            raise ModelError(f"a network must be one that torch.fx follows, got {error}: see its documentation") from (
                error
            )
        seen: set[int] = set()
        for node, _, module in self.calls((*LAYERS, *NORMS)):
            if id(module) in seen or module.weight is not None and id(module.weight) in seen:
                raise ModelError(f"layer {node.target} must be used once, got twice: give each place its own layer")
            seen.update((id(module), id(module.weight)))

    def calls(self, kinds: tuple[type[nn.Module], ...]) -> Iterator[tuple[fx.Node, str, Any]]:
        """(node, name, module) of every module of those kinds."""
        for node in self.graph.nodes:
            module = self.module(node)
            if isinstance(module, kinds):
                yield node, str(node.target), module

    def module(self, node: Any) -> nn.Module | None:
        """What the node calls; None where that is no module."""
        return self.modules[str(node.target)] if isinstance(node, fx.Node) and node.op == "call_module" else None

    def is_one(self, node: fx.Node, modules: tuple[type[nn.Module], ...], functions: tuple[Any, ...]) -> bool:
        """Does it call one of these?"""
        module = self.module(node)
        if module is not None:  # its name may be that of a function which it is not
            return type(module) in modules
        return node.op.startswith("call_") and node.target in functions

    def name(self, node: fx.Node) -> str:
        """What a user calls it: the module's name, or that of its place in the code."""
        return str(node.target) if node.op == "call_module" else node.name

    def reach(self, node: fx.Node, offset: int = 0) -> Reach:
        """Where the node's value goes, through activations, pooling and concatenation."""
        found = Reach()
        for user in node.users:
            self._go(node, user, offset, found)
        return found

    def _go(self, node: fx.Node, user: fx.Node, offset: int, found: Reach) -> None:
        module = self.module(user)
        if isinstance(module, LAYERS):
            found.readers.append(Reader(str(user.target), module, offset))
            return
        if self._concatenates(user):
            for ahead in _aheads(user, node):
                self._further(user, offset + sum(self._channels(each) for each in ahead), found)
            return
        if self.is_one(user, (*LINEAR_MODULES, *LARGEST_MODULES), (*LINEAR_FUNCTIONS, *LARGEST_FUNCTIONS)):
            pass
        elif user.op == "output" or len(user.all_input_nodes) != 1 or self._reshapes(user) or isinstance(module, NORMS):
            found.is_whole = False
            return
        else:
            found.activations.append((self.name(user), user))
        self._further(user, offset, found)

    def _further(self, node: fx.Node, offset: int, found: Reach) -> None:
        further = self.reach(node, offset)
        found.readers += further.readers
        found.activations += further.activations
        found.is_whole = found.is_whole and further.is_whole

    def _channels(self, node: fx.Node) -> int:
        module = self.module(node)
        if isinstance(module, LAYERS):
            return outputs_of(module)
        if isinstance(module, NORMS):
            return module.num_features
        if self._concatenates(node):
            return sum(self._channels(each) for each in _parts(node))
        if node.all_input_nodes and not self._reshapes(node):
            return self._channels(node.all_input_nodes[0])
        what = "another shape" if node.all_input_nodes else "an input"
        raise ModelError(f"value {node.name} must have a known number of channels to be concatenated, got {what}")

    def _concatenates(self, node: fx.Node) -> bool:
        """Does it put channels behind one another?"""
        return self.module(node) is None and node.target in CONCATENATIONS and _axis(node) == 1

    def _reshapes(self, node: fx.Node) -> bool:
        """May its channels be others than those of what it takes?"""
        module = self.module(node)
        return node.target in SHAPES if module is None else isinstance(module, nn.Flatten)


def copied(network: nn.Module) -> nn.Module:
    """A network of its own with the same layers, in evaluation mode, on the CPU."""
    return copy.deepcopy(network).cpu().eval().requires_grad_(False)


def outputs_of(module: nn.Module) -> int:
    """How many channels a layer gives."""
    return int(module.out_features if isinstance(module, nn.Linear) else module.out_channels)  # type: ignore[arg-type]


def by_output(module: Any, name: str) -> Tensor:
    """The weights as a view with the layer's output channels first."""
    if isinstance(module, nn.ConvTranspose2d):
        _require_one_group(module, name)
        return module.weight.detach().transpose(0, 1)
    weights: Tensor = module.weight.detach()
    return weights


def by_input(reader: Reader, channels: int) -> Tensor:
    """The weights that read those channels, as a view with the input channels first."""
    module: Any = reader.module
    if isinstance(module, nn.ConvTranspose2d):
        _require_one_group(module, reader.name)
        weights: Tensor = module.weight.detach()
    elif isinstance(module, nn.Conv2d) and module.groups == module.in_channels == module.out_channels:
        weights = module.weight.detach()  # depthwise: one filter a channel
    else:
        if isinstance(module, nn.Conv2d):
            _require_one_group(module, reader.name)
        weights = module.weight.detach().transpose(0, 1)
    return weights[reader.offset : reader.offset + channels]


def spread(scales: Tensor, weights: Tensor) -> Tensor:
    """One factor a channel, for weights whose first axis are channels."""
    return scales.reshape(-1, *[1] * (weights.ndim - 1)).to(weights.dtype)


def require_activations(reach: Reach, layer: str, graph: Graph, allowed: Callable[[fx.Node], bool], rule: str) -> None:
    """Every activation function behind the layer is allowed; ModelError names the first that is not."""
    for name, node in reach.activations:
        if not allowed(node):
            module = graph.module(node)
            kind = type(module).__name__ if module is not None else str(node.target)
            raise ModelError(
                f"activation {name} behind layer {layer} must be {rule}, got {kind}: leave this rewrite out"
            )


def is_homogeneous(graph: Graph) -> Callable[[fx.Node], bool]:
    """Is f(s x) = s f(x) for s > 0?"""
    return lambda node: graph.is_one(node, HOMOGENEOUS_MODULES, HOMOGENEOUS_FUNCTIONS)


def _require_one_group(module: Any, name: str) -> None:
    if module.groups != 1:
        raise ModelError(
            f"layer {name} must have one group to be rescaled, got {module.groups}: leave this rewrite out"
        )


def _axis(node: fx.Node) -> Any:
    return node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)


def _aheads(node: fx.Node, value: fx.Node) -> list[list[fx.Node]]:
    """The values that a concatenation puts before this one, for each place that it has there."""
    given = _parts(node)
    return [given[:place] for place, each in enumerate(given) if each is value]


def _parts(node: fx.Node) -> list[fx.Node]:
    """The values that are concatenated, one as often as it stands there."""
    given: Any = node.args[0] if node.args else node.kwargs["tensors"]
    return list(given)

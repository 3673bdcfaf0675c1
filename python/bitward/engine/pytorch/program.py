# SPDX-License-Identifier: Apache-2.0
"""A torch network as a list of steps, traced by torch.fx: what a fault at one of them can reach is known."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from bitward.engine.pytorch.layers import Convolution, Norm, TransposedConvolution
from bitward.engine.pytorch.pools import simple_pool
from bitward.engine.pytorch.rules import Activation, Add, Channelwise, Concat, Flatten, MaxPool, Rule, Whole
from bitward.errors import ModelError

CHANNELWISE_MODULES: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.SiLU, nn.GELU,
    nn.ELU, nn.Softplus, nn.Identity, nn.Dropout, nn.Dropout2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d, nn.Upsample,
)  # fmt: skip
CHANNELWISE_FUNCTIONS: tuple[Callable[..., Any], ...] = (
    F.relu, F.relu6, F.leaky_relu, F.hardtanh, F.hardsigmoid, F.hardswish, F.silu, F.gelu, F.elu, F.softplus, F.dropout,
    F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d, F.interpolate, torch.relu, torch.sigmoid,
    torch.tanh,
)  # fmt: skip
CHANNELWISE_METHODS = ("relu", "sigmoid", "tanh", "clamp", "contiguous")
RISING: dict[Any, Callable[[Tensor], Tensor] | None] = {
    nn.ReLU: torch.relu_, F.relu: torch.relu_, torch.relu: torch.relu_, "relu": torch.relu_,
    nn.Sigmoid: torch.sigmoid_, torch.sigmoid: torch.sigmoid_, "sigmoid": torch.sigmoid_,
    nn.Tanh: torch.tanh_, torch.tanh: torch.tanh_, "tanh": torch.tanh_,
    nn.ReLU6: None, F.relu6: None, nn.Hardtanh: None, nn.Hardsigmoid: None, F.hardtanh: None, F.hardsigmoid: None,
}  # fmt: skip
"""Activations that never fall, and what computes them in place."""
LAYERS: dict[type[nn.Module], type[Rule]] = {
    nn.Conv2d: Convolution, nn.Linear: Convolution, nn.BatchNorm2d: Norm, nn.BatchNorm1d: Norm,
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One operation: the values, by name, that it takes, the one it gives, and the layers whose parameters it reads."""

    name: str
    rule: Rule
    inputs: tuple[str, ...]
    layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Program:
    """Steps in an order in which each follows those whose values it takes; `source` is what the user gives."""

    steps: tuple[Step, ...]
    source: str
    sink: str

    def index_of(self, layer: str) -> list[int]:
        """The steps that read parameters of the layer, or of a part of it."""
        return [
            index
            for index, step in enumerate(self.steps)
            if any(each in ("", layer) or layer.startswith(f"{each}.") for each in step.layers)
        ]

    def takers(self, name: str) -> list[str]:
        """The steps, by name, that take the value; the user is one of them for the last."""
        return [step.name for step in self.steps for each in step.inputs if each == name] + (
            ["user"] if name == self.sink else []
        )

    @property
    def is_continuous(self) -> bool:
        """Do small changes of values stay small? They may not where values are quantized, or nobody knows."""
        return all(step.rule.is_continuous for step in self.steps)

    def last_use(self) -> dict[str, int]:
        """By value: the last step that takes it."""
        uses = {name: index for index, step in enumerate(self.steps) for name in step.inputs}
        return {**uses, self.sink: len(self.steps)}


class _Tracer(fx.Tracer):
    """Torch's own layers, those of Brevitas, and those that say how they treat channels are steps.

    Other modules are looked into.
    """

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, (nn.Sequential, nn.ModuleList)):
            return False
        is_known = type(m).__module__.split(".")[0] in ("torch", "brevitas")
        return is_known or getattr(m, "treats_channels_alike", None) is not None


def trace(network: nn.Module) -> Program:
    """The network's steps. Where torch.fx cannot follow its code, it is one step: right, and slow."""
    try:
        graph = _Tracer().trace(network)
        return _program(graph, dict(network.named_modules()))
    except (fx.proxy.TraceError, TypeError, NotImplementedError, _Unclear):
        return as_one_step(network)


class _Unclear(Exception):
    """The graph has a form that steps do not have: several inputs or outputs, values that no image is behind."""


def _program(graph: fx.Graph, modules: dict[str, nn.Module]) -> Program:
    sources = [node for node in graph.nodes if node.op == "placeholder"]
    outputs = next(node for node in graph.nodes if node.op == "output").args[0]
    if len(sources) != 1 or not isinstance(outputs, fx.Node):
        raise _Unclear
    steps = []
    for node in graph.nodes:
        if node.op not in ("placeholder", "output"):
            steps.append(_step(node, modules))
    program = Program(tuple(steps), sources[0].name, outputs.name)
    wanted = _needed(program)
    needed = tuple(step for step in steps if step.name in wanted)
    if not all(step.inputs for step in needed):  # a parameter that the network's own code reads
        raise _Unclear
    return Program(needed, program.source, program.sink)


def _needed(program: Program) -> set[str]:
    wanted = {program.sink}
    for step in reversed(program.steps):
        if step.name in wanted:
            wanted.update(step.inputs)
    return wanted


def _step(node: fx.Node, modules: dict[str, nn.Module]) -> Step:
    inputs = tuple(each.name for each in node.all_input_nodes)
    if node.op == "call_module":
        module = modules[str(node.target)]
        return Step(node.name, _rule_of(module), inputs, (str(node.target),))
    rule = _function_rule(node)
    return Step(node.name, rule, inputs[:1] if isinstance(rule, Flatten) else inputs)


def _rule_of(module: nn.Module) -> Rule:
    if getattr(module, "inplace", False):
        module = copy.copy(module)  # golden values must stay, and the network's own module computes as it did
        setattr(module, "inplace", False)  # noqa: B010 - not an attribute of every module
    if module._forward_hooks or module._forward_pre_hooks:
        return Whole(module)  # they may do anything
    for kind, rule in LAYERS.items():
        if type(module) is kind:
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and module.running_mean is None:
                return Whole(module)
            made: Rule = rule(module)  # type: ignore[call-arg]
            return made
    if type(module) is nn.ConvTranspose2d and module.groups == 1:
        return TransposedConvolution(module)
    if type(module) is nn.Flatten and module.start_dim == 1 and module.end_dim == -1:
        return Flatten()
    if type(module) is nn.MaxPool2d and (pool := simple_pool(module)) is not None:
        return MaxPool(pool, True)
    if type(module) in RISING:
        return Activation(module, True, RISING[type(module)])
    if type(module) in CHANNELWISE_MODULES:
        return Channelwise(module, True)
    return Channelwise(module) if getattr(module, "treats_channels_alike", False) else Whole(module)


def _function_rule(node: fx.Node) -> Rule:
    tensors, target = node.all_input_nodes, node.target
    if target in (operator.add, torch.add, "add", operator.iadd) and len(tensors) == 2 and not node.kwargs:
        return Add()
    if target in (torch.cat, torch.concat) and _axis(node) == 1:
        return Concat()
    if _flattens(node):
        return Flatten()
    function: Callable[..., Any] = _bound(node)
    first = node.args[0] if node.args else None
    if len(tensors) == 1 and first is tensors[0]:
        scalar = target in (operator.add, operator.mul, operator.sub, operator.truediv, "mul", "add", "sub", "div")
        if target in RISING:
            return Activation(function, True, RISING[target])
        if target in CHANNELWISE_FUNCTIONS or target in CHANNELWISE_METHODS or scalar:
            return Channelwise(function, True)
    return Whole(function)


def _axis(node: fx.Node) -> Any:
    return node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)


def _flattens(node: fx.Node) -> bool:
    """Is it x.flatten(1), x.view(n, -1) or the like, whatever the way that n is written?"""
    if node.target in (torch.flatten, "flatten"):
        given: dict[str, Any] = {**dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)), **node.kwargs}
        return (given.get("start_dim", 0), given.get("end_dim", -1)) == (1, -1)
    if node.target in ("view", "reshape") and len(node.args) == 3 and node.args[2] == -1:
        size = node.args[1]
        return isinstance(size, fx.Node) and size.target in ("size", getattr, operator.getitem)
    return False


def _bound(node: fx.Node) -> Callable[..., Tensor]:
    """The node's function of its tensors alone, which it leaves as they are."""
    names = [each.name for each in node.all_input_nodes]
    is_method = node.op == "call_method"
    works_in_place = node.kwargs.get("inplace") or any(argument is True for argument in node.args[1:])
    works_in_place = works_in_place or str(getattr(node.target, "__name__", node.target)).rstrip("2d").endswith("_")

    def run(*tensors: Any) -> Any:
        given = dict(zip(names, tensors, strict=True))
        if works_in_place:
            given[names[0]] = given[names[0]].clone()
        args = fx.node.map_arg(node.args, lambda each: given[each.name])
        kwargs = fx.node.map_arg(node.kwargs, lambda each: given[each.name])
        if is_method:
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    return run


def execute(program: Program, images: Tensor, kept: Container[str] | None = None) -> dict[str, Tensor]:
    """The golden values, by name, of all steps, or of those whose names are in `kept`."""
    values: dict[str, Any] = {program.source: images}
    last_use = program.last_use()
    for index, step in enumerate(program.steps):
        step.rule.prepare()
        values[step.name] = step.rule.run_golden(*(values[name] for name in step.inputs))
        for name in step.inputs:
            if kept is not None and last_use[name] <= index and name not in kept:
                values.pop(name, None)
    return values


def pair_of(images: Tensor) -> Tensor:
    """Two of the images that differ, to try a network with: made up where there are fewer."""
    return torch.cat([images[:2], images[:1] / 2, images.new_zeros((2, *images.shape[1:]))])[:2]


def own(images: Tensor) -> Tensor:
    """The images in memory of their own, in torch's usual order: a network may work in place."""
    return images.clone(memory_format=torch.contiguous_format)


def checked(program: Program, network: nn.Module, pair: Tensor) -> Program:
    """The program if its steps compute what the network does, image by image; else the network as one step.

    `pair` are two images (`pair_of`). ModelError where the network gives no tensor, not the same one each time, or
    where what it makes of an image depends on those beside it: no fault could be told from that.
    """
    expected = network(own(pair))
    if not isinstance(expected, Tensor):
        raise ModelError(f"a network must give one tensor, got {type(expected).__name__}: wrap it to give the scores")
    if not _same(network(own(pair)), expected):
        raise ModelError("a network must give the same outputs each time, got others: leave dropout to training")
    if not _same(network(own(pair[[1, 1]]))[1:], expected[1:]):
        raise ModelError(
            "a network must treat each image by itself, got one that mixes the images of a batch: "
            "give batch norm statistics of its own"
        )
    values = execute(program, pair)
    is_separate = all(isinstance(each, Tensor) and each.ndim and len(each) == len(pair) for each in values.values())
    if not is_separate or not _same(values[program.sink], expected):
        return as_one_step(network)
    return program if _same(execute(program, pair[1:])[program.sink], expected[1:]) else as_one_step(network)


def _same(values: Tensor, expected: Tensor) -> bool:
    """Are they equal but for rounding?"""
    return values.shape == expected.shape and torch.allclose(values, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


def as_one_step(network: nn.Module) -> Program:
    """The network as it is."""
    whole = Whole(lambda images: network(own(images)))
    return Program((Step("network", whole, ("images",), ("",)),), "images", "network")

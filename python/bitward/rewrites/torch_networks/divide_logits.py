# SPDX-License-Identifier: Apache-2.0
"""Weight scaling with one division for the whole network: layers compute with scaled weights, logits are divided.

Where every step lets a positive factor through, f(s*x) = s*f(x), the factors of the layers add up to one at the end.
Biases are scaled by what their layer's outputs are scaled by, and batch norms take the factor away again: both are part
of the network, and nothing is divided while it runs. (Weight-scaling paper, figure 4, which leaves them unsaid.)
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from bitward.errors import ConfigError, ModelError
from bitward.formats import Format
from bitward.rewrites.weight_scaling import WeightScaling

WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
HOMOGENEOUS_MODULES = (
    nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.Flatten, nn.Dropout, nn.Dropout2d, nn.Identity,
    nn.Upsample,
)  # fmt: skip
HOMOGENEOUS: tuple[Any, ...] = (
    F.relu, F.leaky_relu, torch.relu, F.max_pool1d, F.max_pool2d, F.avg_pool1d, F.avg_pool2d, F.adaptive_avg_pool1d,
    F.adaptive_avg_pool2d, F.adaptive_max_pool2d, F.dropout, F.interpolate, F.pad, torch.flatten, torch.mean,
    operator.getitem, getattr, "relu", "flatten", "view", "reshape", "mean", "size", "contiguous", "permute",
)  # fmt: skip
JOINS: tuple[Any, ...] = (operator.add, operator.iadd, torch.add, torch.cat, torch.concat, "add", "add_")


@dataclass(frozen=True)
class Divided:
    """A network with scaled weights: `factors` of its layers by name; its logits are divided by `divisor`."""

    network: nn.Module
    factors: Mapping[str, float]
    divisor: float


def divide_logits(network: nn.Module, scaling: WeightScaling, form: Format) -> Divided:
    """The same function, computed with weights scaled for a format, and one division at the end; a new network.

    The given one, in evaluation mode, is left as it is. ModelError names the layer that lets no factor through, a layer
    that is used twice, and a sum of two tensors that are scaled differently; ConfigError for factors by channel.
    """
    if scaling.per_channel:
        raise ConfigError("scaling must be by layer where logits are divided, got per_channel: divide weights instead")
    own = copy.deepcopy(network).eval()
    graph = fx.Tracer().trace(own)
    scales = _Scales(dict(own.named_modules()), scaling, form)
    for node in graph.nodes:
        scales.enter(node)
    output = next(node for node in graph.nodes if node.op == "output")
    divisor = scales.of[output]
    with graph.inserting_before(output):
        logits = output.args[0]
        output.args = (graph.call_function(operator.truediv, (logits, divisor)),)
    return Divided(fx.GraphModule(own, graph), scales.factors, divisor)


class _Scales:
    """By how much each value of a graph is larger than it was; layers are scaled on the way."""

    def __init__(self, modules: dict[str, nn.Module], scaling: WeightScaling, form: Format) -> None:
        self._modules, self._scaling, self._form = modules, scaling, form
        self.of: dict[fx.Node, float] = {}
        self.factors: dict[str, float] = {}
        self._norms: dict[str, float] = {}  # what each takes away

    def enter(self, node: fx.Node) -> None:
        """The node's scale is known, and its layer, if it has one, does as it says."""
        module = self._modules.get(str(node.target)) if node.op == "call_module" else None
        before = {self.of[each] for each in node.all_input_nodes if each in self.of}
        if node.op in ("placeholder", "get_attr"):
            self.of[node] = 1.0
        elif isinstance(module, WEIGHTED):
            self.of[node] = self._scaled(str(node.target), module, *before)
        elif isinstance(module, NORMS) and module.running_mean is not None:
            self.of[node] = self._taken_away(str(node.target), module, *before)
        elif len(before) > 1:
            raise ModelError(
                f"{node.name} must have inputs of one scale to have logits divided, got {sorted(before)}: divide "
                "weights instead"
            )
        elif before <= {1.0} or self._is_homogeneous(node, module):
            self.of[node] = next(iter(before), 1.0)
        else:
            what = type(module).__name__ if module is not None else getattr(node.target, "__name__", node.target)
            raise ModelError(
                f"{node.target if module is not None else node.name} must let a positive factor through to have logits "
                f"divided, got {what}: divide weights instead"
            )

    def _is_homogeneous(self, node: fx.Node, module: nn.Module | None) -> bool:
        if module is not None:
            return isinstance(module, HOMOGENEOUS_MODULES)
        if node.op == "output":
            return True
        if node.target in JOINS:  # of tensors alone: a constant is not scaled
            return len(node.all_input_nodes) > 1
        return node.target in HOMOGENEOUS

    @torch.no_grad()
    def _scaled(self, name: str, module: Any, before: float) -> float:
        if name in self.factors:
            raise ModelError(f"{name} must be used once to have its weights scaled, got two uses: divide weights")
        factor = float(self._scaling.factors(module.weight.numpy(), self._form).reshape(()))
        self.factors[name] = factor
        module.weight.mul_(factor)
        if module.bias is not None:
            module.bias.mul_(factor * before)
        return factor * before

    @torch.no_grad()
    def _taken_away(self, name: str, module: Any, before: float) -> float:
        if name in self._norms and {before, self._norms[name]} != {1.0}:
            raise ModelError(f"{name} must be used once to take a scale away, got two uses: divide weights")
        self._norms[name] = before
        module.running_mean.mul_(before)
        module.running_var.mul_(before**2)
        module.eps *= before**2
        return 1.0

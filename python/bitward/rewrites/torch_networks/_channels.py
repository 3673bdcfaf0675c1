# SPDX-License-Identifier: Apache-2.0
"""Channels of a torch network that come and go together, and networks of fewer channels from their parameters alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch_pruning
from torch import nn

from bitward.errors import ModelError
from bitward.rewrites.torch_networks._graph import LAYERS, NORMS, copied

IMPORTANCE = torch_pruning.importance.GroupMagnitudeImportance(p=2)


class Channels:
    """The groups of channels of one network, each named by the layer that gives them; what is cut is cut in place.

    A channel of a group is a filter of its layer, an entry of the norms behind it, and what the layers that read it
    multiply it with; where values are added, the filters of several layers.
    """

    def __init__(self, network: nn.Module, image_shape: tuple[int, ...]) -> None:
        """ModelError where no layer's channels may go: those of the outputs stay."""
        network.requires_grad_(True)  # torch-pruning follows gradients
        zeros = torch.zeros(1, *image_shape)
        self._groups = torch_pruning.DependencyGraph().build_dependency(network, example_inputs=zeros)
        self._modules = dict(network.named_modules())
        names = {id(module): name for name, module in self._modules.items()}
        stay = [module for module in self._modules.values() if isinstance(module, LAYERS) and self._gives(module)]
        self.layers: dict[str, int] = {}
        for group in self._groups.get_all_groups(ignored_layers=stay, root_module_types=list(LAYERS)):
            self.layers[names[id(group[0].dep.target.module)]] = len(group[0].idxs)
        self.layers = {name: self.layers[name] for name in self._modules if name in self.layers}
        if not self.layers:
            raise ModelError("a network must have layers behind which others come, got none: nothing can be pruned")

    def _gives(self, layer: nn.Module) -> bool:
        """Are the layer's channels those that the network gives?"""
        group = self._groups.get_pruning_group(layer, _cut_outputs(layer), [0])
        readers = (dep.handler for dep, _ in group.items)
        return not any("in_channels" in handler.__name__ for handler in readers)

    def cut(self, shares: Mapping[str, float]) -> None:
        """Of each layer's channels that share is gone: those of the least norm, but never all."""
        for name, share in shares.items():
            count = self.layers[name]
            gone = min(count - 1, round(share * count))
            if gone < 1:
                continue
            layer = self._modules[name]
            whole = self._groups.get_pruning_group(layer, _cut_outputs(layer), list(range(count)))
            order = torch.argsort(IMPORTANCE(whole), stable=True)[:gone].tolist()
            self._groups.get_pruning_group(layer, _cut_outputs(layer), sorted(order)).prune()
            self.layers[name] = count - gone


def _cut_outputs(layer: nn.Module) -> Any:
    return torch_pruning.prune_linear_out_channels if isinstance(layer, nn.Linear) else (
        torch_pruning.prune_conv_out_channels
    )  # fmt: skip


def cut_copy(network: nn.Module, image_shape: tuple[int, ...], shares: Mapping[str, float]) -> nn.Module:
    """A network of its own without those shares of its layers' channels."""
    made = copied(network)
    Channels(made, image_shape).cut(shares)
    return made.requires_grad_(False)


def with_state(network: nn.Module, state: Mapping[str, torch.Tensor]) -> nn.Module:
    """A network of its own with those parameters, of as many channels as they have.

    `network` is the same before its channels were cut; `state` is torch's state_dict. ModelError: names that are not
    the network's, or shapes that no cutting of channels makes.
    """
    made = copy.deepcopy(network)
    wanted = {name for name, _ in made.state_dict().items()}
    if wanted != set(state):
        odd = sorted(wanted ^ set(state))[0]
        raise ModelError(f"parameters must be those of the network, got {odd!r} in one of them alone: take its own")
    for name, layer in _sized(made):
        shape = tuple(state[f"{name}.weight" if name else "weight"].shape)
        if len(shape) != layer.weight.ndim or shape[2:] != tuple(layer.weight.shape[2:]):
            raise ModelError(
                f"weights of {name} must be of shape {tuple(layer.weight.shape)} but for channels, got {shape}: take "
                "those of the same network"
            )
        _resize(layer, shape)
    for name, tensor in state.items():
        parent, _, last = name.rpartition(".")
        module = made.get_submodule(parent)
        held = getattr(module, last)
        is_parameter = isinstance(held, nn.Parameter)
        fresh = tensor.detach().clone()
        setattr(module, last, nn.Parameter(fresh, requires_grad=False) if is_parameter else fresh)
    return made.eval()


def _sized(network: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in network.named_modules():
        if isinstance(module, (*LAYERS, *NORMS)) and module.weight is not None:
            yield name, module


def _resize(layer: Any, shape: tuple[int, ...]) -> None:
    """The layer says that its weights are of that shape."""
    if isinstance(layer, NORMS):
        layer.num_features = shape[0]
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = shape
    elif isinstance(layer, nn.ConvTranspose2d):
        layer.in_channels, layer.out_channels = shape[0], shape[1] * layer.groups
    else:
        if layer.groups > 1:
            layer.groups = shape[0] if layer.groups == layer.out_channels else layer.groups
        layer.out_channels, layer.in_channels = shape[0], shape[1] * layer.groups

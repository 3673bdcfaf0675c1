# SPDX-License-Identifier: Apache-2.0
"""Brevitas networks for the torch engine: their weights become the integers that they are, in plain torch layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from bitward.engine.pytorch.storage import Choose, Storage
from bitward.errors import ModelError
from bitward.formats import Int, UInt
from bitward.memory import Role
from bitward.schemes import Plain, Scheme

KINDS: tuple[type[nn.Module], ...] = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def frozen(network: nn.Module, scheme: Callable[[int], Scheme] = Plain) -> tuple[nn.Module, Choose]:
    """The network with plain layers in the place of Brevitas' weight layers, and how their weights are stored.

    The function is the same: each weight is its integer times its scale. Biases that Brevitas quantizes are rounded
    once. `scheme` is made for the bits of each layer. ModelError for layers that quantize their inputs or outputs
    themselves, for weights with a zero point, and for biases whose scale is that of sums. `network` is changed and in
    evaluation mode.
    """
    network.eval()
    storages: dict[str, Storage] = {}
    for name, module in list(network.named_modules()):
        if type(module).__module__.split(".")[0] != "brevitas":
            continue
        if hasattr(module, "weight_quant"):
            plain, storage = _plain(name, module, scheme)
            storages[f"{name}.weight"] = storage
            _put(network, name, plain)
        elif hasattr(module, "act_quant"):
            setattr(module, "treats_channels_alike", _is_one_scale(module))  # noqa: B010 - not an attribute of torch's

    def choose(name: str, role: Role, tensor: torch.Tensor) -> Storage | None:
        return storages.get(name)

    return network, choose


def _plain(name: str, module: Any, scheme: Callable[[int], Scheme]) -> tuple[nn.Module, Storage]:
    kind = next((kind for kind in KINDS if isinstance(module, kind)), None)
    if kind is None or module.input_quant.is_quant_enabled or module.output_quant.is_quant_enabled:
        raise ModelError(
            f"layer {name} must be a convolution or dense layer that quantizes its weights alone, got "
            f"{type(module).__name__}: quantize activations in modules of their own (QuantIdentity)."
        )
    with torch.no_grad():
        weight = module.quant_weight()
        if not torch.all(weight.zero_point == 0):
            raise ModelError(f"layer {name} must have weights without a zero point, got one: quantize symmetrically.")
        made = _layer(kind, module)
        made.weight.copy_(weight.value)
        if module.bias is not None:
            made.bias.copy_(_biases(name, module, weight))
        bits = int(weight.bit_width)
        form = Int(bits) if bool(weight.signed) else UInt(bits)
        scale = weight.scale.detach().double().cpu().numpy()
    return made, Storage(form, scheme(bits), np.broadcast_to(scale, tuple(made.weight.shape)))


def _biases(name: str, module: Any, weight: Any) -> torch.Tensor:
    """The layer's biases as it adds them."""
    if not module.bias_quant.is_quant_enabled:
        return cast(torch.Tensor, module.bias)
    if module.bias_quant.requires_input_scale:
        raise ModelError(
            f"layer {name} must have biases with a scale of their own, or in floating point, got a quantizer that "
            "needs its input's scale: quantize them with Int8BiasPerTensorFloatInternalScaling, or leave them."
        )
    biases = module.bias_quant(module.bias, module.weight, weight)
    return cast(torch.Tensor, getattr(biases, "value", biases))


def _layer(kind: type[nn.Module], module: Any) -> Any:
    """An empty layer of torch's own kind, of the same shape."""
    has_bias = module.bias is not None
    if kind is nn.Linear:
        return nn.Linear(module.in_features, module.out_features, has_bias)
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    options = {name: getattr(module, name) for name in names}
    if kind is nn.ConvTranspose2d:
        options["output_padding"] = module.output_padding
    return kind(**options, bias=has_bias)


def _is_one_scale(module: Any) -> bool:
    """Does the activation treat all channels alike?"""
    if not module.act_quant.is_quant_enabled:
        return True
    scale = module.act_quant.scale()
    return bool(scale is not None and scale.numel() == 1)


def _put(network: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, layer.eval())

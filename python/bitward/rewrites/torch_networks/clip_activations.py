# SPDX-License-Identifier: Apache-2.0
"""Activations kept in the range that they had on given images: what a fault drives out of it comes back.

Ranger bounds them (Z. Chen et al., "A Low-cost Fault Corrector for Deep Neural Networks through Range Restriction",
DSN 2021), ClipAct makes what is outside 0 (L.-H. Hoang et al., "FT-ClipAct", DATE 2020).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bitward.errors import ConfigError, ModelError
from bitward.rewrites.torch_networks._graph import copied

Outside = Literal["bound", "zero"]
ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.SiLU, nn.GELU,
    nn.ELU, nn.Softplus,
)  # fmt: skip
AT_ONCE = 32  # images


class Clipped(nn.Module):
    """An activation function, its values from `low` to `high`.

    What is outside becomes the bound that it passed (`outside` "bound", and NaN the lower one), or 0 ("zero", NaN too).
    The bounds are part of the code, not of the parameters: faults do not hit them.
    """

    treats_channels_alike = True  # for the torch engine

    def __init__(self, function: nn.Module, low: float, high: float, outside: Outside) -> None:
        super().__init__()
        self.function, self.low, self.high, self.outside = function, low, high, outside

    def forward(self, values: Tensor) -> Tensor:
        """Values in range."""
        values = self.function(values)
        if self.outside == "zero":
            return torch.where((values >= self.low) & (values <= self.high), values, 0.0)
        return torch.nan_to_num(values, nan=self.low, posinf=self.high, neginf=self.low).clamp(self.low, self.high)

    def extra_repr(self) -> str:
        """The bounds, as torch prints them."""
        return f"{self.low:g} to {self.high:g}, outside: {self.outside}"


def clip_activations(
    network: nn.Module, images: npt.NDArray[Any], outside: Outside = "bound"
) -> tuple[nn.Module, dict[str, tuple[float, float]]]:
    """(network, {activation: (lowest, highest value on the images)}): every activation module stays in its range.

    The ranges are those of all channels and images together, as the network takes images. On these the function is the
    same bit by bit; on others values beyond the ranges are clipped: measure it with `drift`. It costs two comparisons
    a value. ModelError: no activation modules (functions called by name cannot be replaced), one that is used by none
    of the images, or values that are not finite. ConfigError: no images, or another `outside`.
    """
    if outside not in ("bound", "zero"):
        raise ConfigError(f"outside must be 'bound' or 'zero', got {outside!r}: Ranger's is 'bound', ClipAct's 'zero'")
    if not len(images):
        raise ConfigError("images must be at least one, got none: give some that the network was trained on")
    made = copied(network)
    found = {name: module for name, module in made.named_modules() if type(module) in ACTIVATIONS}
    if not found:
        raise ModelError("a network must have activations that are modules of torch, got none: write them as modules")
    ranges = _ranges(made, found, images)
    for name, module in found.items():
        parent, _, last = name.rpartition(".")
        setattr(made.get_submodule(parent), last, Clipped(module, *ranges[name], outside))
    return made, ranges


@torch.inference_mode()
def _ranges(
    network: nn.Module, activations: dict[str, nn.Module], images: npt.NDArray[Any]
) -> dict[str, tuple[float, float]]:
    ranges: dict[str, tuple[float, float]] = {}

    def measure(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            low, high = float(output.min()), float(output.max())
            before = ranges.get(name, (low, high))
            ranges[name] = min(low, before[0]), max(high, before[1])

        return hook

    hooks = [module.register_forward_hook(measure(name)) for name, module in activations.items()]
    for start in range(0, len(images), AT_ONCE):
        network(torch.from_numpy(np.asarray(images[start : start + AT_ONCE], dtype=np.float32)))
    for each in hooks:
        each.remove()
    for name in activations:
        bounds = ranges.get(name)
        if bounds is None or not np.all(np.isfinite(bounds)):
            raise ModelError(
                f"activation {name} must have finite values on the images, got {bounds or 'no value'}: is it in use?"
            )
    return ranges

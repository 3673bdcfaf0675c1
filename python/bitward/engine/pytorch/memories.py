# SPDX-License-Identifier: Apache-2.0
"""The memories of a torch network: which tensors are one, and how each is stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from bitward.engine.pytorch.outliers import CoveredTensor
from bitward.engine.pytorch.storage import Choose, Indices, Storage, StoredTensor, as_float32
from bitward.errors import ConfigError
from bitward.faults import Fault, Faults
from bitward.manifest import Manifest, Memory
from bitward.memory import Role

NORMS = (nn.modules.batchnorm._BatchNorm,)
NORM_ROLES: dict[str, Role] = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "variance"}


def tensors_of(network: nn.Module) -> Iterator[tuple[str, str, Role, torch.Tensor]]:
    """(name, layer, role, tensor) of every parameter that inference reads, batch norm's statistics included."""
    for layer, module in network.named_modules():
        held = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
        for name, tensor in held.items():
            role = NORM_ROLES.get(name) if isinstance(module, NORMS) else _role(name, tensor)
            if role is not None and tensor.is_floating_point() and tensor.numel():
                yield f"{layer}.{name}" if layer else name, layer, role, tensor


def _role(name: str, tensor: torch.Tensor) -> Role | None:
    if name == "bias":
        return "bias"
    if name == "threshold":
        return "threshold"
    return "weight" if name == "weight" and tensor.ndim > 1 else None


def stored_in(memory: Memory, tensor: torch.Tensor, storage: Storage) -> list[StoredTensor]:
    """The memory of a tensor, and those of its list of outliers where it has some."""
    if storage.beyond in ("keep", "clamp"):
        return [StoredTensor(memory, tensor, storage)]
    covered = CoveredTensor(memory, tensor, storage)
    return [covered, *covered.lists]


def store(
    network: nn.Module, choose: Choose = as_float32, design: str = "network"
) -> tuple[Manifest, list[StoredTensor]]:
    """The memories of a network, as `choose` says; its tensors hold what is read from them.

    ConfigError where no tensor is one. A tensor that two layers share is one memory.
    """
    found: list[StoredTensor] = []
    seen: set[int] = set()
    for name, layer, role, tensor in tensors_of(network):
        storage = choose(name, role, tensor)
        if storage is None or tensor.data_ptr() in seen:
            continue
        seen.add(tensor.data_ptr())
        memory = Memory(name, layer, name, role, tuple(tensor.shape), storage.format, storage.scheme)
        if not tensor.is_contiguous() or tensor.dtype != torch.float32:
            raise ConfigError(
                f"tensor {name} must be contiguous and of float32 to be a memory, got {tensor.dtype}: convert it"
            )
        found += stored_in(memory, tensor, storage)
    if not found:
        raise ConfigError("a network must have a tensor that is a memory, got none: choose formats for its roles")
    return Manifest(design, 0, "none", 0.0, tuple(each.memory for each in found)), found


def by_memory(faults: Sequence[Fault]) -> dict[str, tuple[Indices, Indices, list[str]]]:
    """(words, bits, kinds) of the faults in each memory."""
    if isinstance(faults, Faults):
        return {name: (words, bits, [faults.kind] * len(words)) for name, (words, bits) in faults.places.items()}
    groups: dict[str, list[Fault]] = {}
    for fault in faults:
        groups.setdefault(fault.memory, []).append(fault)
    return {
        name: (
            np.array([fault.word for fault in group], dtype=np.int64),
            np.array([fault.bit for fault in group], dtype=np.int64),
            [fault.kind for fault in group],
        )
        for name, group in groups.items()
    }

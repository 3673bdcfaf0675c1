# SPDX-License-Identifier: Apache-2.0
"""A small U-Net that nobody trained, with statistics of its own; images for it; the naive way to try a fault."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch

from bitward.classic._hsi_unet import hsi_unet
from bitward.engine.pytorch import as_float32
from bitward.faults import Fault
from bitward.sensitivity import Study

BANDS, CLASSES, SIDE = 3, 4, 8


def network(activation: str = "relu", seed: int = 0) -> torch.nn.Module:
    """One level, two filters; batch norm has statistics, gammas on both sides of 1 and betas of both signs."""
    torch.manual_seed(seed)
    made = hsi_unet(BANDS, CLASSES, filters=2, depth=1, activation=activation)
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.6)
                module.bias.uniform_(-0.5, 0.5)
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.2, 1.5)
    return made.eval().requires_grad_(False)


def images(count: int = 2) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((count, BANDS, SIDE, SIDE)).astype(np.float32)


def study(folder: Path, activation: str = "relu", choose=as_float32, made: torch.nn.Module | None = None) -> Study:
    """The network in single precision, judged on two images."""
    labels = np.random.default_rng(4).integers(0, CLASSES, (2, SIDE, SIDE))
    return Study("tiny", made or network(activation), images(), labels, folder, choose, ignore=0)


def classes(made: torch.nn.Module, given: np.ndarray) -> np.ndarray:
    """The class of each pixel, -1 where a score is no number, by torch alone."""
    with torch.inference_mode():
        scores = made(torch.from_numpy(given))
    found = scores.argmax(dim=1)
    found[torch.isnan(scores).any(dim=1)] = -1
    return found.numpy()


def naive_error(made: torch.nn.Module, given: np.ndarray, fault: Fault) -> float:
    """The share of pixels whose class changes where one bit of a float32 parameter is flipped, in a copy."""
    faulty = copy.deepcopy(made)
    tensor = faulty.get_parameter(fault.memory) if fault.memory in dict(faulty.named_parameters()) else (
        faulty.get_buffer(fault.memory)
    )  # fmt: skip
    flat = tensor.detach().numpy().reshape(-1)
    flat.view(np.uint32)[fault.word] ^= np.uint32(1 << fault.bit)
    return float(np.mean(classes(faulty, given) != classes(made, given)))

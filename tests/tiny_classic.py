# SPDX-License-Identifier: Apache-2.0
"""A small AlexNet for the 8x8 digits, trained in a second, for whatever needs a float network that knows something."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from bitward.classic import find_classic
from bitward.datasets import load_dataset, normalised
from bitward.explore.subject import Subject, Trained, state_sha256

WIDTH = 0.0625
EPOCHS, BATCH = 12, 64


def build() -> torch.nn.Module:
    return find_classic("alexnet").build(10, 1, WIDTH)


def trained(seed: int = 0) -> dict[str, torch.Tensor]:
    """The weights after some epochs, the same each time."""
    data = load_dataset("digits")
    images, labels = torch.from_numpy(normalised(data, data.train_images)), torch.from_numpy(data.train_labels)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = build().train()
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(network(images[part]), labels[part]).backward()
            optimizer.step()
    torch.set_num_threads(threads)
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def subject(seed: int = 0) -> Subject:
    """The trained network and the test digits."""
    data, state = load_dataset("digits"), trained(seed)
    images = normalised(data, data.test_images)
    return Subject("alexnet", Trained(partial(build), state), state_sha256(state), images, data.test_labels)


def weights(path: Path, seed: int = 0) -> Path:
    """The trained weights in a file."""
    torch.save(trained(seed), path)
    return path

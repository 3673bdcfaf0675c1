# SPDX-License-Identifier: Apache-2.0
"""Tiny folders and archives of pictures, as datasets given by path are."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def pixels(seed: int, shape: tuple[int, ...] = (6, 5, 3)) -> np.ndarray:
    """A smooth random picture: JPEG keeps it nearly."""
    low, high = np.random.default_rng(seed).integers(0, 256, (2, shape[-1] if len(shape) == 3 else 1))
    ramp = np.linspace(low, high, shape[0])[:, None, :]
    return np.broadcast_to(ramp, (*shape[:2], ramp.shape[-1])).astype(np.uint8).reshape(shape)


def picture_folder(
    root: Path, classes: tuple[str, ...] = ("ant", "bee"), train: int = 3, test: int = 2, kind: str = "png",
    shape: tuple[int, ...] = (6, 5, 3),
) -> Path:  # fmt: skip
    """`root` holds that many pictures per class in train/ and test/."""
    seed = 0
    for part, count in (("train", train), ("test", test)):
        for label in classes:
            (root / part / label).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(pixels(seed, shape)).save(root / part / label / f"{number:04}.{kind}")
                seed += 1
    return root


def archive(root: Path, path: Path, top: str = "") -> Path:
    """A .tar.gz of the folder's contents, below the folder `top` if one is given."""
    with tarfile.open(path, "w:gz") as packed:
        packed.add(root, arcname=top or ".")
    return path

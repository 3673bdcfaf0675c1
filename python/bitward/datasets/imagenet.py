# SPDX-License-Identifier: Apache-2.0
"""ImageNet's pictures in class folders, as the public checkpoints take them.

Folders are named by WordNet's numbers (n01440764 and so on), whose order is the order of the checkpoints' classes.
Pictures are cut to one size before, 224 x 224 usually; `train` may hold one picture a class where nothing is trained.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bitward.datasets import Dataset
from bitward.datasets._image_folder import image_folder

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what the checkpoints were trained with


def load(data: Path | None = None) -> Dataset:
    """The pictures in `data` (or where BITWARD_DATA says)."""
    return replace(image_folder("imagenet", "ImageNet's pictures, given by path", data), mean=MEAN, deviation=DEVIATION)

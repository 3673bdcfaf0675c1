# SPDX-License-Identifier: Apache-2.0
"""Your own pictures: any size, any number of classes, in folders (`_image_folder` says how they lie)."""

from __future__ import annotations

from pathlib import Path

from bitward.datasets import Dataset
from bitward.datasets._image_folder import image_folder


def load(data: Path | None = None) -> Dataset:
    """The pictures in `data` (or where BITWARD_DATA says)."""
    return image_folder("images", "pictures given by path", data)

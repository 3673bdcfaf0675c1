# SPDX-License-Identifier: Apache-2.0
"""Your own pictures for segmentation: PART/images/NAME.png (or .jpg) and PART/masks/NAME.png, PART train and test.

A mask is a grey or palette picture of its image's size that holds the number of each pixel's class; 255 is unlabelled,
which counts nothing. All images have one size.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bitward.datasets import Dataset, Examples, data_root
from bitward.datasets._segmentation import Map
from bitward.errors import ConfigError

PICTURES = (".jpg", ".jpeg", ".png")
IGNORE = 255
LIE = "a folder with train/images, train/masks, test/images and test/masks"


def load(data: Path | None = None) -> Dataset:
    """The pictures and masks in `data` (or where BITWARD_DATA says); classes are 0 to the largest number in a mask.

    ConfigError: folders or masks that are missing, files that are no pictures, or pictures of different sizes.
    """
    root = data_root("image_masks", data)
    pairs = {part: _pairs(root, part) for part in ("train", "test")}
    masks = [_mask(mask) for part in pairs.values() for _, mask in part]
    labelled = [int(mask[mask != IGNORE].max()) for mask in masks if np.any(mask != IGNORE)]
    if not labelled:
        raise ConfigError(f"{root} must have masks with a labelled pixel, got {IGNORE} alone: number classes from 0")
    shape = _image(pairs["train"][0][0]).shape
    train, test = (partial(_examples, pairs[part], shape) for part in ("train", "test"))
    return Dataset(
        name="image_masks",
        source="pictures and masks given by path",
        split=f"{len(pairs['train'])} train, {len(pairs['test'])} test, as in the source",
        classes=max(labelled) + 1,
        pixel_bits=8,
        image_shape=shape,
        train=train,
        test=test,
        labelled="pixel",
        by_path=True,
        ignore=IGNORE,
    )


def _pairs(root: Path, part: str) -> list[tuple[Path, Path]]:
    folder = root / part
    images = sorted(path for path in folder.glob("images/*") if path.suffix.lower() in PICTURES)
    if not images:
        raise ConfigError(f"{folder}/images must have pictures *.png or *.jpg, got none: give --data {LIE}")
    pairs = [(image, folder / "masks" / f"{image.stem}.png") for image in images]
    for _, mask in pairs:
        if not mask.is_file():
            raise ConfigError(f"{mask} must be the mask of a picture, got none there: add it, or remove the picture")
    return pairs


def _pixels(path: Path, modes: tuple[str, ...], otherwise: str) -> npt.NDArray[np.uint8]:
    """The picture as it is where it has one of those modes, else converted."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return np.asarray(picture if picture.mode in modes else picture.convert(otherwise))
    except (UnidentifiedImageError, OSError) as error:
        raise ConfigError(f"{path} must be a whole picture, got other bytes: remove it, or get it again") from error


def _image(path: Path) -> npt.NDArray[np.uint8]:
    """Channels, height, width: three channels, or one for a grey picture."""
    pixels = _pixels(path, ("L", "RGB"), "RGB")
    return pixels[np.newaxis] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _mask(path: Path) -> Map:
    """Height, width."""
    pixels = _pixels(path, ("L", "P", "RGB", "RGBA", "1"), "RGB")
    if pixels.ndim != 2 or pixels.dtype != np.uint8:
        raise ConfigError(
            f"{path} must hold one class number a pixel, got a picture in colours or of one bit: save it in mode L or P"
        )
    return pixels.astype(np.int64)


def _examples(pairs: list[tuple[Path, Path]], shape: tuple[int, ...]) -> Examples:
    images, labels = [], []
    for path, mask in pairs:
        images.append(_image(path))
        labels.append(_mask(mask))
        if images[-1].shape != shape or labels[-1].shape != shape[1:]:
            raise ConfigError(
                f"{path} and its mask must be of shape {'x'.join(map(str, shape))} as the first picture is, got "
                f"{'x'.join(map(str, images[-1].shape))} and {'x'.join(map(str, labels[-1].shape))}: scale them alike"
            )
    return Examples(np.stack(images), np.stack(labels))

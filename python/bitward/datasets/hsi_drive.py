# SPDX-License-Identifier: Apache-2.0
"""HSI-Drive v2.0: 25-band cubes of road scenes, given by path. Untested on the real files.

The files come from ipaccess.ehu.eus/HSI-Drive, by a password that its authors send. What is read is the Python version
as the preparation guide of mmsegmentation describes it: HSIDrive20/images/PART/NAME.npy, float cubes of height x width
x 25, HSIDrive20/annotations/PART/NAME.png, the number of each pixel's material, with PART one of training, validation
and test, and the lists PART_filenames.txt. Materials are numbered 0 (unlabelled) to 10, as in the authors' projects
there. (J. Gutierrez-Zaballa et al., "HSI-Drive v2.0", IEEE SSCI 2023.)
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bitward.datasets import Dataset, Examples, data_root
from bitward.datasets._road_spectra import BANDS, CLASS_NAMES
from bitward.datasets._segmentation import Map, patches
from bitward.errors import ConfigError

HEIGHT, WIDTH = 192, 384
FOLDER = "HSIDrive20"
PARTS = {"train": ("training",), "test": ("test",)}
MATERIALS = (
    "unlabelled", "road", "road marks", "vegetation", "painted metal", "sky", "concrete, stone or brick",
    "pedestrian or cyclist", "water", "unpainted metal", "glass or transparent plastic",
)  # fmt: skip
OF_FIVE = np.array([0, 1, 2, 3, 5, 4, 5, 5, 5, 5, 5])  # material -> label of CLASS_NAMES
PIXEL_BITS = 16
UNTESTED = "the reader of HSI-Drive v2.0 is untested on the real files: compare some frames with the data set's own"
LIE = f"the folder {FOLDER} with images/training/*.npy and annotations/training/*.png, and likewise for test"
Size = tuple[int, int]


def load(data: Path | None = None) -> Dataset:
    """Full frames, cut to the middle 192x384 pixels, five classes and unlabelled; see `hsi_drive`."""
    return hsi_drive(data)


def hsi_drive(
    data: Path | None = None,
    frame: Size = (HEIGHT, WIDTH),
    patch: Size | None = None,
    step: Size | None = None,
    five_classes: bool = True,
    with_validation: bool = False,
) -> Dataset:
    """The frames in `data` (or where BITWARD_DATA says), cut to their middle `frame`; the training part in patches.

    Without `patch` training images are whole frames as well; `step` is the patch's size unless given. Test images are
    always frames. Reflectance 0 to 1 becomes 0 to 65535, and is cut off there. With `five_classes` the ten materials
    are road, road marks, vegetation, sky and others. With `with_validation` the validation part is trained on too. It
    warns that it was never tested on the real files. ConfigError: files that are missing or of other forms.
    """
    warnings.warn(UNTESTED, stacklevel=2)
    root = _root(data)
    pairs = {part: [pair for name in names for pair in _pairs(root, name)] for part, names in PARTS.items()}
    if with_validation:
        pairs["train"] += _pairs(root, "validation")
    names = CLASS_NAMES if five_classes else MATERIALS
    reader = _Reader(root, frame, five_classes)
    size = patch or frame
    return Dataset(
        name="hsi_drive",
        source="HSI-Drive v2.0 (J. Gutierrez-Zaballa et al., 2023), given by path; reader untested on the real files",
        split=f"{len(pairs['train'])} train, {len(pairs['test'])} test frames, as in the source",
        classes=len(names),
        pixel_bits=PIXEL_BITS,
        image_shape=(BANDS, *size),
        train=partial(reader.examples, pairs["train"], patch, step or patch),
        test=partial(reader.examples, pairs["test"], None, None),
        labelled="pixel",
        by_path=True,
        ignore=0,
        class_names=names,
    )


def _root(data: Path | None) -> Path:
    base = data_root("hsi_drive", data)
    for root in (base, base / FOLDER):
        if (root / "images").is_dir() and (root / "annotations").is_dir():
            return root
    raise ConfigError(f"{base} must have the folders images and annotations, got none of that: give --data {LIE}")


def _pairs(root: Path, part: str) -> list[tuple[Path, Path]]:
    """(cube, label map) of every frame of the part: those that its list names, or else all, sorted."""
    images, maps = root / "images" / part, root / "annotations" / part
    listed = root / f"{part}_filenames.txt"
    if listed.is_file():
        lines = listed.read_text(encoding="utf-8").splitlines()
        names = [Path(line.strip()).stem for line in lines if line.strip()]
    else:
        names = sorted(path.stem for path in images.glob("*.npy"))
    if not names:
        raise ConfigError(f"{images} must have cubes *.npy, got none: give --data {LIE}")
    found = [(images / f"{name}.npy", maps / f"{name}.png") for name in names]
    for path in (path for pair in found for path in pair):
        if not path.is_file():
            raise ConfigError(f"{path} must be a file of HSI-Drive, got none there: {LIE}")
    return found


@dataclass(frozen=True)
class _Reader:
    """How frames are cut and labelled."""

    root: Path
    frame: Size
    five_classes: bool

    def examples(self, pairs: list[tuple[Path, Path]], patch: Size | None, step: Size | None) -> Examples:
        """Frames, or their patches, of all the pairs."""
        found = [each for pair in pairs for each in self._windows(*pair, patch, step)]
        if not found:
            raise ConfigError(f"{self.root} must have frames with a labelled pixel, got none: are these label maps?")
        images, labels = zip(*found, strict=True)
        return Examples(np.stack(images), np.stack(labels))

    def _windows(
        self, cube: Path, labels: Path, patch: Size | None, step: Size | None
    ) -> Iterator[tuple[npt.NDArray[np.float32], Map]]:
        image, classes = self._image(cube), self._labels(labels)
        if image.shape[1:] != classes.shape:
            raise ConfigError(
                f"{labels} must be of the size of its cube, {image.shape[1]}x{image.shape[2]}, got "
                f"{classes.shape[0]}x{classes.shape[1]}: are they of one frame?"
            )
        if any(side < wanted for side, wanted in zip(classes.shape, self.frame, strict=True)):
            raise ConfigError(
                f"{cube} must be at least {self.frame[0]}x{self.frame[1]} pixels, got {classes.shape[0]}x"
                f"{classes.shape[1]}: ask for a smaller frame"
            )
        top, left = ((side - wanted) // 2 for side, wanted in zip(classes.shape, self.frame, strict=True))
        rows, columns = slice(top, top + self.frame[0]), slice(left, left + self.frame[1])
        image, classes = image[:, rows, columns], classes[rows, columns]
        if patch is None or step is None:
            yield image, classes
        else:
            yield from patches(image, classes, patch, step, 0)

    def _image(self, path: Path) -> npt.NDArray[np.float32]:
        """(bands, height, width), whole numbers 0 to 65535."""
        try:
            cube = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise ConfigError(f"{path} must be an array of numpy's, got other bytes: get it again") from error
        if cube.ndim != 3 or BANDS not in (cube.shape[0], cube.shape[-1]):
            raise ConfigError(f"{path} must be a cube of {BANDS} bands, got shape {cube.shape}: is it another file?")
        if cube.dtype.kind != "f" or not np.all(np.isfinite(cube)):
            raise ConfigError(f"{path} must hold finite reflectances in floating point, got {cube.dtype}: convert it")
        bands_first = cube.transpose(2, 0, 1) if cube.shape[-1] == BANDS else cube
        top = 2**PIXEL_BITS - 1
        return np.clip(np.rint(bands_first.astype(np.float32) * top), 0, top)

    def _labels(self, path: Path) -> Map:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as picture:
                materials = np.asarray(picture)
        except (UnidentifiedImageError, OSError) as error:
            raise ConfigError(f"{path} must be a PNG picture, got other bytes: get it again") from error
        if materials.ndim != 2 or materials.dtype.kind != "u" or materials.max() >= len(MATERIALS):
            raise ConfigError(
                f"{path} must hold materials 0 to {len(MATERIALS) - 1}, got {materials.dtype} of shape "
                f"{materials.shape} up to {materials.max()}: is it a picture of the labels in colours?"
            )
        return (OF_FIVE[materials] if self.five_classes else materials).astype(np.int64)

# SPDX-License-Identifier: Apache-2.0
"""Labelled pictures from a folder or an archive: `train/CLASS/*` and `test/CLASS/*`, JPEG or PNG, all of one size.

An archive (.tar, .tar.gz, .tgz) is read where it lies; nothing is unpacked to disk.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from bitward.datasets import PICTURES_LIE, Dataset, Examples, data_root
from bitward.errors import ConfigError
from bitward.tools import cores

PARTS = ("train", "test")
PICTURES = (".jpg", ".jpeg", ".png")
ARCHIVES = (".tar", ".tar.gz", ".tgz")
ADVICE = f"give --data, or set BITWARD_DATA to, {PICTURES_LIE}"


@dataclass(frozen=True, eq=False)
class Picture:
    """One file: its part, class and path below the root, and how to get its bytes."""

    part: str
    label: str
    path: str
    read: Callable[[], bytes] = field(repr=False)


def image_folder(name: str, source: str, data: Path | None) -> Dataset:
    """The dataset in `data`, or, without one, in the folder that BITWARD_DATA names; see `find` for what is looked for.

    Classes are the folders' names, sorted; images of a part are in the order of class and file name. ConfigError: no
    data, no such folders, other classes in the parts, pictures of different sizes, or files that are no pictures.
    """
    root = find(name, data)
    pictures = _pictures(root)
    classes = sorted({picture.label for picture in pictures["train"]})
    if others := {picture.label for picture in pictures["test"]} ^ set(classes):
        raise ConfigError(
            f"{root} must have the same classes in train and test, got {sorted(others)[0]!r} in one of them: add its "
            "folder to the other"
        )
    shape = _decode(pictures["train"][0], root).shape
    train, test = (partial(_examples, pictures[part], classes, shape, root) for part in PARTS)
    return Dataset(
        name=name,
        source=source,
        split=f"{len(pictures['train'])} train, {len(pictures['test'])} test, {len(classes)} classes, as in the source",
        classes=len(classes),
        pixel_bits=8,
        image_shape=shape,
        train=train,
        test=test,
        by_path=True,
    )


def find(name: str, data: Path | None) -> Path:
    """The folder or archive with the pictures: `data` itself, or NAME, or the one archive NAME*, in the folder `data`.

    Without `data`, the folder that BITWARD_DATA names is `data`.
    """
    base = data_root(name, data)
    if base.is_file() and base.name.endswith(ARCHIVES):
        return base
    if not base.is_dir():
        kind = "another file" if base.exists() else "nothing there"
        raise ConfigError(f"{base} must be a folder or an archive ({', '.join(ARCHIVES)}), got {kind}: {ADVICE}")
    if all((base / part).is_dir() for part in PARTS):
        return base
    if (base / name).is_dir():
        return find(name, base / name)
    archives = [path for path in sorted(base.glob(f"{name}*")) if path.is_file() and path.name.endswith(ARCHIVES)]
    if len(archives) != 1:
        listed = ", ".join(path.name for path in archives) or "none"
        raise ConfigError(
            f"{base} must have the folders train and test, a folder {name}, or one archive {name}*.tar.gz, got "
            f"{listed}: {ADVICE}"
        )
    return archives[0]


def _pictures(root: Path) -> dict[str, list[Picture]]:
    """The pictures of each part, sorted; ConfigError where a part has none."""
    found: dict[str, list[Picture]] = {part: [] for part in PARTS}
    for picture in _in_archive(root, root.stat().st_mtime_ns) if root.is_file() else _in_folder(root):
        found[picture.part].append(picture)
    for part, pictures in found.items():
        if not pictures:
            raise ConfigError(f"{root} must have pictures in {part}/CLASS/, got none: name them *.jpg or *.png")
        pictures.sort(key=lambda picture: (picture.label, picture.path))
    return found


def _in_folder(root: Path) -> Iterator[Picture]:
    for path in root.rglob("*"):
        if placed := _placed(path.relative_to(root).as_posix()):
            yield Picture(*placed, path.read_bytes)


@lru_cache(maxsize=2)
def _in_archive(root: Path, mtime_ns: int) -> tuple[Picture, ...]:
    """Every picture of an archive, with its bytes in memory; kept for as long as the archive does not change."""
    found = []
    with opened(root) as archive:
        for member in archive:
            if member.isfile() and (placed := _placed(member.name)) and (file := archive.extractfile(member)):
                found.append(Picture(*placed, partial(bytes, file.read())))
    return tuple(found)


@contextmanager
def opened(root: Path) -> Iterator[tarfile.TarFile]:
    """The archive, to be read in the body; ConfigError where that finds it damaged, or no archive at all."""
    try:
        with tarfile.open(root, "r:*") as archive:
            yield archive
    except (tarfile.TarError, EOFError, OSError) as error:
        found = (
            "no archive" if isinstance(error, tarfile.ReadError) and "\n" in str(error) else f"a damaged one ({error})"
        )
        raise ConfigError(f"{root} must be a whole tar archive, got {found}: get it again") from error


def _placed(path: str) -> tuple[str, str, str] | None:
    """(part, class, path) of a picture; None for any other file. The parts may lie below one folder."""
    pure = PurePosixPath(path)
    if len(pure.parts) < 3 or pure.suffix.lower() not in PICTURES or pure.name.startswith("."):
        return None
    part, label = pure.parts[-3:-1]
    return (part, label, path) if part in PARTS and len(pure.parts) <= 4 else None


def _decode(picture: Picture, root: Path) -> npt.NDArray[np.uint8]:
    """Channels, height, width: three channels, or one for a grey picture."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(picture.read())) as image:
            pixels = np.asarray(image if image.mode == "L" else image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise ConfigError(
            f"{root}: {picture.path} must be a whole JPEG or PNG picture, got other bytes: remove it, or get it again"
        ) from error
    return pixels[np.newaxis] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _examples(pictures: list[Picture], classes: list[str], shape: tuple[int, ...], root: Path) -> Examples:
    with ThreadPoolExecutor(cores()) as pool:
        decoded = list(pool.map(lambda picture: _decode(picture, root), pictures))
    for picture, pixels in zip(pictures, decoded, strict=True):
        if pixels.shape != shape:
            raise ConfigError(
                f"{root}: {picture.path} must be of shape {'x'.join(map(str, shape))} as the first picture is, got "
                f"{'x'.join(map(str, pixels.shape))}: scale them alike"
            )
    number = {label: index for index, label in enumerate(classes)}
    return Examples(np.stack(decoded), np.array([number[picture.label] for picture in pictures], dtype=np.int64))

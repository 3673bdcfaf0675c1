# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 as its author published it: five training batches and one test batch, as Python pickles or binary.

Pickles are read by an unpickler that makes numpy arrays, bytes and plain values only: a file cannot run code.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bitward.datasets import Dataset, Examples
from bitward.datasets._image_folder import ARCHIVES, opened
from bitward.datasets._published import Published, check_sum, published_as
from bitward.errors import ConfigError

SOURCE = "https://www.cs.toronto.edu/~kriz/"
PYTHON, BINARY = (
    Published(name, f"{SOURCE}{name}", md5)
    for name, md5 in (
        ("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
        ("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
    )
)
FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin")
SUMS = {  # of the pickles; the binary batches have none that was published
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
TRAIN, TEST = tuple(SUMS)[:-1], tuple(SUMS)[-1:]
SHAPE, CLASSES = (3, 32, 32), 10
RECORD = 1 + 3 * 32 * 32  # bytes of the binary version: a label, then the red, green and blue plane
LOOKED_AT = 10  # members of an archive that tell what is in it
Kind = Literal["python", "binary"]


def find_batches(base: Path) -> tuple[Path, Kind] | None:
    """The archive or folder of batches that `base` is or holds, and which version; None where there is none."""
    for place in (base, *(base / name for name in (*FOLDERS, PYTHON.name, BINARY.name)), base / "cifar10"):
        if place.is_dir():
            kind = _kind(path.name for path in place.iterdir())
        elif place.is_file() and place.name.endswith(ARCHIVES):
            kind = _kind_of_archive(place)
        else:
            continue
        if kind:
            return place, kind
    if base.name != "cifar10" and (base / "cifar10").is_dir():
        return find_batches(base / "cifar10")
    return None


def _kind(names: Iterable[str]) -> Kind | None:
    known = set(names)
    if known & {f"{name}.bin" for name in SUMS}:
        return "binary"
    return "python" if known & set(SUMS) else None


def _kind_of_archive(path: Path) -> Kind | None:
    """What its first batch says; None too where it is no archive: whoever reads pictures from it will say so."""
    try:
        with opened(path) as archive:
            kinds = (_kind([PurePosixPath(member.name).name]) for member in islice(archive, LOOKED_AT))
            return next(filter(None, kinds), None)
    except ConfigError:
        return None


def batches(root: Path, kind: Kind) -> Dataset:
    """The dataset in the batches of the folder or archive `root`.

    Images are in the order of the batches. ConfigError: a batch is missing, is damaged, or has not the published sum.
    """
    return Dataset(
        name="cifar10",
        source=f"CIFAR-10 (A. Krizhevsky, 2009), the {kind} version",
        split="50000 train, 10000 test, 10 classes, as in the source",
        classes=CLASSES,
        pixel_bits=8,
        image_shape=SHAPE,
        train=partial(_examples, root, kind, TRAIN),
        test=partial(_examples, root, kind, TEST),
        by_path=True,
    )


def _examples(root: Path, kind: Kind, wanted: tuple[str, ...]) -> Examples:
    names = wanted if kind == "python" else tuple(f"{name}.bin" for name in wanted)
    found = _files(root, names)
    read = _read_pickle if kind == "python" else _read_binary
    parts = [read(f"{root}: {name}", name, found[name]) for name in names]
    return Examples(np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts]))


def _files(root: Path, names: tuple[str, ...]) -> Mapping[str, bytes]:
    """The bytes of the batches; ConfigError where one is not there."""
    found = _in_archive(root, names) if root.is_file() else _in_folder(root, names)
    if missing := [name for name in names if name not in found]:
        raise ConfigError(f"{root} must have the batch {missing[0]}, got none: get it again from {SOURCE}cifar.html")
    return found


def _in_folder(root: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    return {name: (root / name).read_bytes() for name in names if (root / name).is_file()}


def _in_archive(root: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    if file := published_as(root, (PYTHON, BINARY)):
        file.check(root)
    found = {}
    with opened(root) as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            if name in names and member.isfile() and (content := archive.extractfile(member)):
                found[name] = content.read()
    return found


class _Plain(pickle.Unpickler):
    """Makes numpy arrays, bytes and plain values; refuses every other name."""

    _ALLOWED = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): lambda text, encoding: text.encode(encoding),  # how Python 3 pickles bytes for Python 2
    }

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle may call."""
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name}") from None


def _read_pickle(where: str, name: str, data: bytes) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    check_sum(where, SUMS[name], hashlib.md5(data, usedforsecurity=False).hexdigest())
    return unpickled(where, data)


def unpickled(where: str, data: bytes) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images and labels of a pickled batch; ConfigError where it holds anything but arrays and plain values."""
    try:
        batch = _Plain(io.BytesIO(data), encoding="bytes").load()
        images = np.asarray(batch[b"data"], dtype=np.uint8).reshape(-1, *SHAPE)
        labels = np.asarray(batch[b"labels"], dtype=np.int64)
    except Exception as error:  # an unpickler raises what the bytes make it raise
        raise ConfigError(
            f"{where} must be a pickle of numpy arrays and plain values, data and labels, got {type(error).__name__}: "
            f"{error}: get it again from {SOURCE}cifar.html"
        ) from error
    return _checked(where, images, labels)


def _read_binary(where: str, name: str, data: bytes) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    if not data or len(data) % RECORD:
        raise ConfigError(
            f"{where} must be records of {RECORD} bytes, got {len(data)} bytes: get it again from {SOURCE}cifar.html"
        )
    records = np.frombuffer(data, dtype=np.uint8).reshape(-1, RECORD)
    return _checked(where, records[:, 1:].reshape(-1, *SHAPE), records[:, 0].astype(np.int64))


def _checked(
    where: str, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    if len(images) != len(labels) or labels.min() < 0 or labels.max() >= CLASSES:
        raise ConfigError(
            f"{where} must have a label from 0 to {CLASSES - 1} for each image, got {len(images)} images and "
            f"{len(labels)} labels, {labels.min()} to {labels.max()}: get it again from {SOURCE}cifar.html"
        )
    return images, labels

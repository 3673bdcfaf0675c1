# SPDX-License-Identifier: Apache-2.0
"""Datasets as their authors published them are read, and checked by their sums."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from fashion_files import clothes, fashion_files, idx, is_fashion
from picture_folders import archive, picture_folder

from bitward.datasets import _cifar_batches, fashion_mnist, load_dataset, published_files
from bitward.datasets._published import Published, hash_of
from bitward.errors import ConfigError

BATCHES = (*_cifar_batches.TRAIN, *_cifar_batches.TEST)
COUNT = 4  # images of a batch


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch, tmp_path):
    monkeypatch.delenv("BITWARD_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def md5(data):
    return hashlib.md5(data).hexdigest()


# ---- CIFAR-10 -------------------------------------------------------------------------------------------------------


def batch(number):
    """Images (COUNT, 3072), and labels, of one batch."""
    random = np.random.default_rng(number)
    return random.integers(0, 256, (COUNT, 3072), dtype=np.uint8), random.integers(0, 10, COUNT)


def pickled(number):
    """As the author's files: protocol 2, keys and names in bytes."""
    images, labels = batch(number)
    return pickle.dumps({b"data": images, b"labels": labels.tolist(), b"batch_label": b"a batch"}, protocol=2)


def binary(number):
    images, labels = batch(number)
    return b"".join(bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True))


@pytest.fixture
def python_batches(tmp_path, monkeypatch):
    """A folder of pickles, and their sums as if published."""
    folder = tmp_path / "python" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for number, name in enumerate(BATCHES):
        (folder / name).write_bytes(pickled(number))
        monkeypatch.setitem(_cifar_batches.SUMS, name, md5(pickled(number)))
    (folder / "batches.meta").write_bytes(b"")
    return folder


@pytest.fixture
def binary_batches(tmp_path):
    folder = tmp_path / "binary" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for number, name in enumerate(BATCHES):
        (folder / f"{name}.bin").write_bytes(binary(number))
    return folder


def is_cifar(dataset):
    """It holds the images and labels of `batch`, in order."""
    parts = [batch(number) for number in range(6)]
    images = [images.reshape(COUNT, 3, 32, 32) for images, _ in parts]
    assert np.array_equal(dataset.train_images, np.concatenate(images[:5]))
    assert np.array_equal(dataset.test_images, images[5]) and dataset.test_images.dtype == np.float32
    assert dataset.train_labels.tolist() == np.concatenate([labels for _, labels in parts[:5]]).tolist()
    assert dataset.train_labels.dtype == np.int64 and dataset.test_labels.tolist() == parts[5][1].tolist()
    assert (dataset.name, dataset.classes, dataset.image_shape) == ("cifar10", 10, (3, 32, 32))


def test_both_versions_are_the_same_images_wherever_they_lie(python_batches, binary_batches, tmp_path, monkeypatch):
    packed = archive(python_batches, tmp_path / "mine.tar.gz", "cifar-10-batches-py")
    packed_binary = archive(binary_batches, tmp_path / "mine-bin.tgz", "cifar-10-batches-bin")
    places = (python_batches, python_batches.parent, binary_batches, binary_batches.parent, packed, packed_binary)
    for place in places:
        dataset = load_dataset("cifar10", place)
        is_cifar(dataset)
        assert dataset.mean == (0.4914, 0.4822, 0.4465)
    assert len({load_dataset("cifar10", place).digest for place in places}) == 1
    shutil.copytree(python_batches, tmp_path / "base" / "cifar10" / "cifar-10-batches-py")
    is_cifar(load_dataset("cifar10", tmp_path / "base"))
    monkeypatch.setenv("BITWARD_DATA", str(tmp_path / "base"))
    is_cifar(load_dataset("cifar10"))


def test_pictures_in_folders_still_are_cifar10(tmp_path):
    """And have the numbers of classes that the author gave them: his names are in alphabetical order."""
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    folder = picture_folder(tmp_path / "cifar10", names, train=1, test=1, shape=(32, 32, 3))
    for place in (folder, tmp_path, archive(folder, tmp_path / "p.tar.gz", "cifar10")):
        dataset = load_dataset("cifar10", place)
        assert dataset.test_labels.tolist() == list(range(10)) and dataset.deviation == (0.2471, 0.2435, 0.2616)


def test_a_published_archive_has_its_sum(python_batches, tmp_path, monkeypatch):
    packed = archive(python_batches, tmp_path / "cifar-10-python.tar.gz", "cifar-10-batches-py")
    published = _cifar_batches.PYTHON.md5
    sentence = f"^{re.escape(str(packed))} must have the published md5 sum {published}, got {md5(packed.read_bytes())}:"
    with pytest.raises(ConfigError, match=sentence):
        _ = load_dataset("cifar10", tmp_path).train_images
    right = Published(packed.name, "", md5(packed.read_bytes()))
    monkeypatch.setattr(_cifar_batches, "PYTHON", right)
    is_cifar(load_dataset("cifar10", tmp_path))


def test_a_batch_has_its_sum(python_batches):
    changed = bytearray((python_batches / "data_batch_3").read_bytes())
    changed[500] ^= 1
    (python_batches / "data_batch_3").write_bytes(changed)
    wanted = _cifar_batches.SUMS["data_batch_3"]
    with pytest.raises(ConfigError, match=rf"^.*: data_batch_3 must have the published md5 sum {wanted}, got "):
        _ = load_dataset("cifar10", python_batches).train_images
    assert len(load_dataset("cifar10", python_batches).test_images) == COUNT  # the other part is as published


class Evil:
    """Runs code where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("evil",)


@pytest.mark.parametrize("protocol", [2, 5])
def test_a_pickle_cannot_run_code(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps({b"data": Evil(), b"labels": []}, protocol=protocol)
    pickle.loads(data)
    assert Path("evil").is_dir(), "it would"
    Path("evil").rmdir()
    with pytest.raises(
        ConfigError, match=r"^it must be a pickle of numpy arrays .*, got UnpicklingError: posix\.mkdir"
    ):
        _cifar_batches.unpickled("it", data)
    assert not Path("evil").exists()


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_arrays_of_every_usual_protocol_are_read(protocol):
    images, labels = batch(0)
    found = _cifar_batches.unpickled("it", pickle.dumps({b"data": images, b"labels": labels.tolist()}, protocol))
    assert np.array_equal(found[0].reshape(COUNT, -1), images) and found[1].tolist() == labels.tolist()


@pytest.mark.parametrize(
    "data", [b"", b"no pickle", pickle.dumps(7), pickle.dumps({b"data": [[1, 2]], b"labels": [1]})]
)
def test_other_bytes_are_no_batch(data):
    with pytest.raises(
        ConfigError, match=r"^it must be a pickle of numpy arrays and plain values, data and labels, got"
    ):
        _cifar_batches.unpickled("it", data)


def test_labels_are_classes_one_for_each_image():
    images, labels = batch(0)[0], batch(0)[1].tolist()
    for wrong in ([*labels[:-1], 10], [*labels[:-1], -1], labels[:-1]):
        with pytest.raises(ConfigError, match=r"^it must have a label from 0 to 9 for each image, got 4 images and "):
            _cifar_batches.unpickled("it", pickle.dumps({b"data": images, b"labels": wrong}))


def test_a_batch_that_is_missing_is_said(python_batches, binary_batches):
    (python_batches / "data_batch_2").unlink()
    with pytest.raises(ConfigError, match=r"^.*-py must have the batch data_batch_2, got none: get it again from http"):
        _ = load_dataset("cifar10", python_batches).train_images
    (binary_batches / "test_batch.bin").unlink()
    with pytest.raises(ConfigError, match=r"^.*-bin must have the batch test_batch\.bin, got none: get it again"):
        _ = load_dataset("cifar10", binary_batches).test_images


@pytest.mark.parametrize("size", [0, 100, 3073 + 1])
def test_binary_batches_are_whole_records(binary_batches, size):
    (binary_batches / "test_batch.bin").write_bytes(bytes(size))
    with pytest.raises(
        ConfigError, match=rf"^.*: test_batch\.bin must be records of 3073 bytes, got {size} bytes: get"
    ):
        _ = load_dataset("cifar10", binary_batches).test_images


def test_a_cut_off_archive_is_said(python_batches, tmp_path):
    packed = tmp_path / "mine.tar"
    with tarfile.open(packed, "w") as made:
        made.add(python_batches, "cifar-10-batches-py")
    packed.write_bytes(packed.read_bytes()[:30_000])
    with pytest.raises(
        ConfigError, match=r"^.*/mine\.tar must be a whole tar archive, got a damaged one \(.*\): get it"
    ):
        _ = load_dataset("cifar10", packed).train_images
    assert load_dataset("cifar10", packed).source.endswith("the python version"), "its first batch says what it is"


# ---- Fashion-MNIST --------------------------------------------------------------------------------------------------


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    """The four files, gzipped, their sums as if published."""
    monkeypatch.setattr(fashion_mnist, "DOWNLOADS", fashion_files(tmp_path / "fashion"))
    return tmp_path / "fashion"


def test_idx_files_gzipped_or_not(fashion, tmp_path, monkeypatch):
    is_fashion(load_dataset("fashion_mnist", fashion))
    plain = tmp_path / "base" / "FashionMNIST" / "raw"
    plain.mkdir(parents=True)
    for path in fashion.iterdir():
        (plain / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    is_fashion(load_dataset("fashion_mnist", tmp_path / "base"))
    monkeypatch.setenv("BITWARD_DATA", str(tmp_path / "base"))
    is_fashion(load_dataset("fashion_mnist"))


def test_a_gzipped_file_has_its_sum(fashion):
    path = fashion / "t10k-labels-idx1-ubyte.gz"
    published = hash_of(path)
    path.write_bytes(gzip.compress(idx(clothes("t10k")[1][::-1].copy())))
    sentence = (
        rf"^.*/t10k-labels-idx1-ubyte\.gz must have the published md5 sum {published}, got {hash_of(path)}: it is"
    )
    with pytest.raises(ConfigError, match=sentence):
        _ = load_dataset("fashion_mnist", fashion).test_images


def test_files_that_are_not_there_are_said(fashion, tmp_path):
    with pytest.raises(
        ConfigError, match=r"^the images of 'fashion_mnist' must be given, got no path: give --data, .*"
    ):
        load_dataset("fashion_mnist")
    with pytest.raises(
        ConfigError, match=r"^.* must be or have a folder with train-images-idx3-ubyte\.gz and its like"
    ):
        load_dataset("fashion_mnist", tmp_path / "none")
    (fashion / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(
        ConfigError, match=r"^.* must have t10k-labels-idx1-ubyte\.gz, gzipped or not, got none: run bit"
    ):
        _ = load_dataset("fashion_mnist", fashion).test_images


def plainly(fashion, name, data):
    """The file is there as those bytes, not gzipped."""
    (fashion / f"{name}.gz").unlink()
    (fashion / name).write_bytes(data)


@pytest.mark.parametrize("cut", [0, 3, 10, 100])
def test_an_idx_file_is_whole(fashion, cut):
    plainly(fashion, "t10k-images-idx3-ubyte", idx(clothes("t10k")[0])[:cut])
    sentence = (
        rf"^.*/t10k-images-idx3-ubyte must be a whole IDX file of unsigned bytes, got {cut} bytes that begin with"
    )
    with pytest.raises(ConfigError, match=sentence):
        _ = load_dataset("fashion_mnist", fashion).test_images


def test_pictures_have_a_label_each(fashion):
    plainly(fashion, "t10k-labels-idx1-ubyte", idx(np.array([1, 2], dtype=np.uint8)))
    with pytest.raises(
        ConfigError, match=r"^.* must have 28x28 pictures with a label from 0 to 9 each, got t10k images"
    ):
        _ = load_dataset("fashion_mnist", fashion).test_images


def test_a_damaged_gzip_file_is_said(fashion, monkeypatch):
    path = fashion / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:50])
    monkeypatch.setattr(fashion_mnist, "published_as", lambda *_: None)  # it would be refused by its sum already
    with pytest.raises(ConfigError, match=r"^.*/t10k-images-idx3-ubyte\.gz must be a whole gzip file, got a damaged"):
        _ = load_dataset("fashion_mnist", fashion).test_images


def test_the_sums_are_those_that_were_published():
    """As on cs.toronto.edu/~kriz/cifar.html and in the readme of zalandoresearch/fashion-mnist."""
    sums = {file.name: file.md5 for name in ("cifar10", "fashion_mnist") for file in published_files(name)}
    assert sums["cifar-10-python.tar.gz"] == "c58f30108f718f92721af3b95e74349a"
    assert sums["t10k-images-idx3-ubyte.gz"] == "bef4ecab320f06d8554ea6380940ec79" and len(sums) == 5

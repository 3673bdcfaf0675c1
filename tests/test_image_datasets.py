# SPDX-License-Identifier: Apache-2.0
"""Pictures given by path: folders and archives are read alike, and whatever is wrong with them is said."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from picture_folders import archive, picture_folder, pixels
from PIL import Image

from bitward.datasets import load_dataset, normalised
from bitward.datasets._image_folder import find
from bitward.errors import ConfigError


@pytest.fixture(autouse=True)
def without_the_variable(monkeypatch, tmp_path):
    monkeypatch.delenv("BITWARD_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    return picture_folder(tmp_path / "pictures")


def test_classes_are_folders_and_images_are_in_order(folder):
    dataset = load_dataset("images", folder)
    assert (dataset.classes, dataset.image_shape, dataset.pixel_bits, dataset.labelled) == (2, (3, 6, 5), 8, "image")
    assert dataset.split == "6 train, 4 test, 2 classes, as in the source"
    assert dataset.train_labels.tolist() == [0, 0, 0, 1, 1, 1] and dataset.test_labels.tolist() == [0, 0, 1, 1]
    assert dataset.train_images.dtype == np.uint8 and dataset.test_images.dtype == np.float32
    expected = [pixels(seed).transpose(2, 0, 1) for seed in range(10)]
    assert np.array_equal(np.concatenate([dataset.train_images, dataset.test_images]), np.stack(expected))


@pytest.mark.parametrize("top", ["", "cifar"])
def test_an_archive_is_the_folder_it_was_made_of(folder, tmp_path, top):
    packed = archive(folder, tmp_path / "pictures.tar.gz", top)
    before = sorted(tmp_path.rglob("*"))
    assert load_dataset("images", packed).digest == load_dataset("images", folder).digest
    assert sorted(tmp_path.rglob("*")) == before  # nothing is unpacked


def test_a_changed_archive_is_read_again(folder, tmp_path):
    packed = archive(folder, tmp_path / "pictures.tgz")
    assert len(load_dataset("images", packed).train_images) == 6
    (folder / "train" / "ant" / "0000.png").unlink()
    archive(folder, packed)
    assert len(load_dataset("images", packed).train_images) == 5


def test_jpeg_and_grey_pictures(tmp_path):
    jpeg = load_dataset("images", picture_folder(tmp_path / "jpeg", kind="jpg"))
    assert np.abs(jpeg.train_images[0].astype(int) - pixels(0).transpose(2, 0, 1)).max() < 24
    grey = load_dataset("images", picture_folder(tmp_path / "grey", shape=(6, 5)))
    assert grey.image_shape == (1, 6, 5) and np.array_equal(grey.test_images[0, 0], pixels(6, (6, 5)))


def test_the_digest_tells_labels_and_pixels_apart(folder, tmp_path):
    first = load_dataset("images", folder).digest
    shutil.copytree(folder, tmp_path / "other")
    one = tmp_path / "other" / "test" / "bee" / "0000.png"
    Image.fromarray(pixels(77)).save(one)
    assert load_dataset("images", tmp_path / "other").digest != first


def test_cifar10_has_its_shape_and_classes(tmp_path, folder):
    names = tuple("abcdefghij")
    right = picture_folder(tmp_path / "right", names, train=1, test=1, shape=(32, 32, 3))
    dataset = load_dataset("cifar10", right)
    assert (dataset.name, dataset.image_shape, dataset.classes) == ("cifar10", (3, 32, 32), 10)
    message = "cifar10 must have 3x32x32 pictures in 10 classes, got 3x6x5 in 2: use the dataset 'images'"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load_dataset("cifar10", folder)


# ---- where it is looked for ----------------------------------------------------------------------------------------


def test_the_place_may_be_the_pictures_or_a_folder_of_datasets(folder, tmp_path, monkeypatch):
    base = tmp_path / "base"
    shutil.copytree(folder, base / "images")
    packed = archive(folder, base / "cifar10-jpeg.tar.gz")
    assert find("images", base) == base / "images"
    assert find("cifar10", base) == packed == find("cifar10", packed)
    assert find("images", folder) == folder
    monkeypatch.setenv("BITWARD_DATA", str(base))
    assert find("cifar10", None) == packed
    assert find("images", folder) == folder  # what is given comes first


ADVICE = (
    r": give --data, or set BITWARD_DATA to, a folder or \.tar\.gz with train/CLASS/\*\.jpg and test/CLASS/\*\.jpg$"
)


def test_a_place_that_is_none_is_said(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"^the images of 'images' must be given, got no path" + ADVICE):
        load_dataset("images")
    with pytest.raises(
        ConfigError, match=r"^.*/none must be a folder or an archive \(.*\), got nothing there" + ADVICE
    ):
        load_dataset("images", tmp_path / "none")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(
        ConfigError, match=r"^.*/a\.txt must be a folder or an archive \(.*\), got another file" + ADVICE
    ):
        load_dataset("images", tmp_path / "a.txt")
    rule = r" must have the folders train and test, a folder cifar10, or one archive cifar10\*\.tar\.gz, got "
    with pytest.raises(ConfigError, match=rf"^.*{rule}none" + ADVICE):
        load_dataset("cifar10", tmp_path)
    for name in ("cifar10-a.tar", "cifar10-b.tgz"):
        archive(folder, tmp_path / name)
    with pytest.raises(ConfigError, match=rf"^.*{rule}cifar10-a\.tar, cifar10-b\.tgz" + ADVICE):
        load_dataset("cifar10", tmp_path)


# ---- what is wrong in it -------------------------------------------------------------------------------------------


def test_a_part_without_pictures_is_said(folder):
    shutil.rmtree(folder / "test" / "ant")
    shutil.rmtree(folder / "test" / "bee")
    with pytest.raises(
        ConfigError, match=r"^.*/pictures must have pictures in test/CLASS/, got none: name them \*\.jpg"
    ):
        load_dataset("images", folder)


def test_classes_of_one_part_alone_are_said(folder):
    shutil.rmtree(folder / "test" / "bee")
    with pytest.raises(
        ConfigError, match=r"^.* must have the same classes in train and test, got 'bee' in one of them"
    ):
        load_dataset("images", folder)


def test_pictures_of_different_sizes_are_said(folder):
    Image.fromarray(pixels(0, (6, 6, 3))).save(folder / "train" / "bee" / "0001.png")
    sentence = (
        r"^.*: .*train/bee/0001\.png must be of shape 3x6x5 as the first picture is, got 3x6x6: scale them alike$"
    )
    with pytest.raises(ConfigError, match=sentence):
        _ = load_dataset("images", folder).train_images


def test_a_file_that_is_no_picture_is_said(folder):
    (folder / "train" / "ant" / "0001.png").write_bytes(b"no picture")
    with pytest.raises(
        ConfigError, match=r"^.*ant/0001\.png must be a whole JPEG or PNG picture, got other bytes: remove"
    ):
        _ = load_dataset("images", folder).train_images


def test_a_picture_that_is_cut_off_is_said(folder):
    path = folder / "train" / "ant" / "0001.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ConfigError, match=r"^.*ant/0001\.png must be a whole JPEG or PNG picture"):
        _ = load_dataset("images", folder).train_images


def test_a_damaged_archive_is_said(folder, tmp_path):
    packed = archive(folder, tmp_path / "pictures.tar.gz")
    packed.write_bytes(packed.read_bytes()[:200])
    with pytest.raises(
        ConfigError, match=r"^.*/pictures\.tar\.gz must be a whole tar archive, got a damaged one \(.*\):"
    ):
        load_dataset("images", packed)


def test_other_files_are_no_matter(folder):
    (folder / "train" / "ant" / "readme.txt").write_text("")
    (folder / "train" / ".hidden.png").write_text("")
    (folder / "other" / "ant").mkdir(parents=True)
    (folder / "other" / "ant" / "1.png").write_text("")
    assert len(load_dataset("images", folder).train_images) == 6


def test_imagenet_is_class_folders_with_the_checkpoints_mean_and_deviation(tmp_path):
    folder = picture_folder(tmp_path / "cut", ("n01440764", "n01443537"), train=1, test=2)
    dataset, plain = load_dataset("imagenet", folder), load_dataset("images", folder)
    assert (dataset.name, dataset.classes, dataset.by_path) == ("imagenet", 2, True)
    assert np.array_equal(dataset.test_images, plain.test_images)
    pixels = dataset.test_images.astype(np.float64) / 255
    expected = (pixels - np.array([0.485, 0.456, 0.406]).reshape(3, 1, 1)) / np.array([[[0.229]], [[0.224]], [[0.225]]])
    assert np.allclose(normalised(dataset, dataset.test_images), expected, atol=1e-6)

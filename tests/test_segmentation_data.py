# SPDX-License-Identifier: Apache-2.0
"""Data with a class per pixel from files: HSI-Drive v2.0 (on files written here), pictures with masks, patches."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bitward.datasets import class_weights, load_dataset
from bitward.datasets._segmentation import corners, patches
from bitward.datasets.hsi_drive import hsi_drive
from bitward.errors import ConfigError

UNTESTED = "^the reader of HSI-Drive v2.0 is untested on the real files: "

# ---- weights and patches --------------------------------------------------------------------------------------------


def test_rare_classes_weigh_more_and_unlabelled_pixels_nothing():
    labels = np.array([[0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 3]])
    assert class_weights(labels, 5, ignore=0).tolist() == [0, 1, 0.5, 2, 0]
    assert class_weights(labels, 4).tolist() == [0.75, 1.5, 0.75, 3]
    assert class_weights([0, 1, 1, 255], 2, ignore=255).tolist() == [1.5, 0.75]
    with pytest.raises(ConfigError, match=r"^labels must hold a class of 0 to 1 that counts, got none: give other"):
        class_weights([0, 0], 2, ignore=0)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_patches_cover_a_side_and_stay_in_it(size, patch, step):
    if patch > size:
        return
    found = corners(size, patch, step)
    covered = {pixel for start in found for pixel in range(start, start + patch)}
    assert covered <= set(range(size)) and found == sorted(set(found))
    if step <= patch:
        assert covered == set(range(size))


@pytest.mark.parametrize(("patch", "step"), [(0, 1), (11, 1), (4, 0)])
def test_patches_that_cannot_be(patch, step):
    with pytest.raises(ConfigError, match=rf"^patches must be of 1 to 10 pixels, .* got {patch} at steps of {step}: "):
        corners(10, patch, step)


def test_patches_are_windows_with_a_labelled_pixel():
    image = np.arange(2 * 6 * 8, dtype=np.float32).reshape(2, 6, 8)
    labels = np.zeros((6, 8), np.int64)
    labels[5, 7] = 3
    ((window, part),) = patches(image, labels, (3, 4), (3, 4), ignore=0)
    assert np.array_equal(window, image[:, 3:, 4:]) and np.array_equal(part, labels[3:, 4:])
    assert len(list(patches(image, labels, (3, 4), (3, 4), ignore=None))) == 4


# ---- HSI-Drive ------------------------------------------------------------------------------------------------------


def write_frames(root, part, count, seed, size=(40, 50), bands_last=True):
    random = np.random.default_rng(seed)
    cubes, maps = [], []
    for number in range(count):
        cube = random.uniform(0, 1.1, (*size, 25)).astype(np.float32)
        materials = random.integers(0, 11, size).astype(np.uint8)
        for kind in ("images", "annotations"):
            (root / kind / part).mkdir(parents=True, exist_ok=True)
        np.save(root / "images" / part / f"nf{number}.npy", cube if bands_last else cube.transpose(2, 0, 1))
        Image.fromarray(materials).save(root / "annotations" / part / f"nf{number}.png")
        cubes.append(cube)
        maps.append(materials)
    return cubes, maps


@pytest.fixture
def drive(tmp_path):
    """A small HSIDrive20 as the preparation guide says, below a folder; its test cubes and maps."""
    root = tmp_path / "HSIDrive20"
    write_frames(root, "training", 3, 0)
    write_frames(root, "validation", 2, 1, bands_last=False)
    return tmp_path, *write_frames(root, "test", 2, 2)


def test_frames_are_cut_to_their_middle_and_materials_to_five_classes(drive):
    data, cubes, maps = drive
    with pytest.warns(UserWarning, match=UNTESTED):
        found = hsi_drive(data, frame=(32, 32))
    assert (found.name, found.classes, found.ignore, found.image_shape) == ("hsi_drive", 6, 0, (25, 32, 32))
    assert "untested on the real files" in found.source and found.split == "3 train, 2 test frames, as in the source"
    assert found.train_images.shape == (3, 25, 32, 32)
    expected = np.clip(np.rint(cubes[1].transpose(2, 0, 1) * np.float32(65535)), 0, 65535)[:, 4:36, 9:41]
    assert np.array_equal(found.test_images[1], expected) and found.test_images.max() == 65535
    class_of = {0: 0, 1: 1, 2: 2, 3: 3, 5: 4}  # unlabelled, road, road marks, vegetation, sky; all else others
    by_hand = [[class_of.get(int(material), 5) for material in row] for row in maps[1][4:36, 9:41]]
    assert found.test_labels[1].tolist() == by_hand


def test_patches_ten_materials_and_validation(drive):
    with pytest.warns(UserWarning, match=UNTESTED):
        found = hsi_drive(
            drive[0] / "HSIDrive20", (32, 48), patch=(16, 16), step=(8, 16), five_classes=False, with_validation=True
        )
    assert found.train_images.shape == (5 * 3 * 3, 25, 16, 16) and found.image_shape == (25, 16, 16)
    assert found.test_images.shape == (2, 25, 32, 48) and found.classes == 11
    assert found.class_names[9] == "unpainted metal" and np.array_equal(found.test_labels[0], drive[2][0][4:36, 1:49])


def test_lists_say_which_frames_and_in_which_order(drive):
    root = drive[0] / "HSIDrive20"
    (root / "training_filenames.txt").write_text("nf2.npy\nnf0\n\n")
    with pytest.warns(UserWarning, match=UNTESTED):
        listed, frames = hsi_drive(root, (40, 50)), [np.load(root / f"images/training/nf{n}.npy") for n in (2, 0)]
    expected = np.clip(np.rint(frames[1].transpose(2, 0, 1) * np.float32(65535)), 0, 65535)
    assert len(listed.train_images) == 2 and np.array_equal(listed.train_images[1], expected)


def test_the_registry_has_the_frames_of_the_papers(tmp_path):
    write_frames(tmp_path, "training", 1, 0, size=(192, 400))
    write_frames(tmp_path, "test", 1, 1, size=(208, 384))
    with pytest.warns(UserWarning, match=UNTESTED):
        found = load_dataset("hsi_drive", tmp_path)
    assert found.test_images.shape == found.train_images.shape == (1, 25, 192, 384) and found.by_path


def spoil(root, what):
    cube, labels = root / "images/test/nf0.npy", root / "annotations/test/nf0.png"
    good = np.load(cube)
    actions = {
        "no folders": lambda: (root / "images").rename(root / "pictures"),
        "no cubes": lambda: [path.unlink() for path in (root / "images/test").iterdir()],
        "no map": labels.unlink,
        "bytes": lambda: cube.write_bytes(b"nothing"),
        "bands": lambda: np.save(cube, good[..., :24]),
        "integers": lambda: np.save(cube, (good * 100).astype(np.int32)),
        "nan": lambda: np.save(cube, np.where(good > 0.5, np.nan, good)),
        "size": lambda: Image.fromarray(np.zeros((9, 9), np.uint8)).save(labels),
        "small": lambda: (np.save(cube, good[:20]), Image.fromarray(np.ones((20, 50), np.uint8)).save(labels)),
        "colours": lambda: Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(labels),
        "materials": lambda: Image.fromarray(np.full((40, 50), 11, np.uint8)).save(labels),
        "picture": lambda: labels.write_bytes(b"nothing"),
    }
    actions[what]()


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("no folders", "must have the folders images and annotations, got none of that: give --data the folder"),
        ("no cubes", r"must have cubes \*\.npy, got none: give --data the folder HSIDrive20 with"),
        ("no map", "must be a file of HSI-Drive, got none there: the folder HSIDrive20 with"),
        ("bytes", "must be an array of numpy's, got other bytes: get it again"),
        ("bands", r"must be a cube of 25 bands, got shape \(40, 50, 24\): is it another file"),
        ("integers", "must hold finite reflectances in floating point, got int32: convert it"),
        ("nan", "must hold finite reflectances in floating point, got float32: convert it"),
        ("size", "must be of the size of its cube, 40x50, got 9x9: are they of one frame"),
        ("small", "must be at least 32x32 pixels, got 20x50: ask for a smaller frame"),
        ("colours", r"must hold materials 0 to 10, got uint8 of shape \(40, 50, 3\) up to 0: is it a picture"),
        ("materials", r"must hold materials 0 to 10, got uint8 of shape \(40, 50\) up to 11: is it a picture"),
        ("picture", "must be a PNG picture, got other bytes: get it again"),
    ],
)
def test_files_that_are_not_as_they_should_be(drive, what, sentence):
    root = drive[0] / "HSIDrive20"
    spoil(root, what)
    with (
        pytest.warns(UserWarning, match=UNTESTED),
        pytest.raises(ConfigError, match=f"^{re.escape(str(root))}.* {sentence}"),
    ):
        _ = hsi_drive(root, (32, 32)).test_images


def test_frames_without_a_label_make_no_patches(drive):
    root = drive[0] / "HSIDrive20"
    for path in (root / "annotations/training").iterdir():
        Image.fromarray(np.zeros((40, 50), np.uint8)).save(path)
    with (
        pytest.warns(UserWarning, match=UNTESTED),
        pytest.raises(ConfigError, match="must have frames with a labelled"),
    ):
        _ = hsi_drive(root, (32, 32), patch=(16, 16)).train_images


# ---- pictures with masks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "lie"),
    [("hsi_drive", "the folder HSIDrive20 with images/training"), ("image_masks", "a folder with train/im")],
)
def test_without_a_path_it_is_said_what_to_give(name, lie, monkeypatch):
    monkeypatch.delenv("BITWARD_DATA", raising=False)
    sentence = f"^the images of '{name}' must be given, got no path: give --data, or set BITWARD_DATA to, {lie}"
    with warnings.catch_warnings(), pytest.raises(ConfigError, match=sentence):
        warnings.simplefilter("ignore")
        load_dataset(name)


def write_masks(root, part, count, mode="RGB", size=(24, 16)):
    """Random pictures of (height, width) and masks of classes 0 to 2 with a corner that is unlabelled."""
    random = np.random.default_rng(len(part))
    for kind in ("images", "masks"):
        (root / part / kind).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        shape = (*size, 3) if mode == "RGB" else size
        pixels, mask = random.integers(0, 256, shape, dtype=np.uint8), random.integers(0, 3, size, dtype=np.uint8)
        mask[:2, :2] = 255
        Image.fromarray(pixels).save(root / part / "images" / f"p{number}.png")
        picture = Image.fromarray(mask)
        if number % 2:
            picture = picture.convert("P")
            picture.putdata(mask.reshape(-1).tolist())
        picture.save(root / part / "masks" / f"p{number}.png")


@pytest.fixture
def masks(tmp_path):
    write_masks(tmp_path, "train", 4)
    write_masks(tmp_path, "test", 2)
    return tmp_path


def test_pictures_and_masks_grey_or_by_palette(masks):
    found = load_dataset("image_masks", masks)
    assert (found.classes, found.ignore, found.image_shape) == (3, 255, (3, 24, 16))
    assert (found.labelled, found.by_path, found.split) == ("pixel", True, "4 train, 2 test, as in the source")
    for number in range(2):
        pixels = np.asarray(Image.open(masks / f"test/images/p{number}.png"))
        assert np.array_equal(found.test_images[number], pixels.transpose(2, 0, 1))
        assert np.all(found.test_labels[number][:2, :2] == 255) and set(np.unique(found.test_labels)) == {0, 1, 2, 255}
    assert found.train_images.shape == (4, 3, 24, 16) and found.train_images.dtype == np.uint8


def test_grey_pictures_have_one_channel(tmp_path):
    for part in ("train", "test"):
        write_masks(tmp_path, part, 1, mode="L")
    assert load_dataset("image_masks", tmp_path).train_images.shape == (1, 1, 24, 16)


def test_masks_that_are_not_as_they_should_be(masks):
    def refused(sentence):
        with pytest.raises(ConfigError, match=f"^{re.escape(str(masks))}.* {sentence}"):
            _ = load_dataset("image_masks", masks).test_images

    mask, image = masks / "test/masks/p0.png", masks / "test/images/p0.png"
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(mask)
    refused("and its mask must be of shape 3x24x16 as the first picture is, got 3x24x16 and 9x9: scale them alike")
    Image.fromarray(np.zeros((24, 16, 3), np.uint8)).save(mask)
    refused("must hold one class number a pixel, got a picture in colours or of one bit: save it in mode L or P")
    mask.write_bytes(b"nothing")
    refused("must be a whole picture, got other bytes: remove it, or get it again")
    mask.unlink()
    refused("must be the mask of a picture, got none there: add it, or remove the picture")
    for path in (*masks.glob("*/masks/*"), mask):
        Image.fromarray(np.full((24, 16), 255, np.uint8)).save(path)
    refused("must have masks with a labelled pixel, got 255 alone: number classes from 0")
    for path in image.parent.iterdir():
        path.unlink()
    refused(r"must have pictures \*\.png or \*\.jpg, got none: give --data a folder with train/images")

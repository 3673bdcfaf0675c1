# SPDX-License-Identifier: Apache-2.0
"""Synthetic hyperspectral road scenes: drawn by formula, with the bands and classes of driving data sets.

Figures on it tell about networks and their faults, not about roads.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bitward.datasets import Dataset, Examples
from bitward.datasets._road_spectra import BANDS, CENTRED, CLASS_NAMES, LABEL_OF, MATERIALS, NUMBER, UNLABELLED
from bitward.errors import ConfigError

HEIGHT, WIDTH = 32, 64
TRAIN_SCENES, TEST_SCENES = 480, 120
SEEDS = {"train": 0, "test": 1}
FINE = 2  # scenes are drawn so many times finer, both ways: pixels at edges are mixtures
SATURATED = 255
MEAN, DEVIATION = 0.37, 0.215  # of the training pixels as 0 to 1
EDGES_UNLABELLED = 0.5  # share of the pixels at edges that nobody labelled
Random = np.random.Generator
Map = npt.NDArray[np.int64]
_MEANS = np.stack([material.mean for material in MATERIALS])
_SPREADS = np.array([(material.level, material.tilt) for material in MATERIALS])


def load(data: Path | None = None) -> Dataset:
    """480 training and 120 test scenes of 32x64 pixels. `data` is not looked at."""
    return road_scenes()


def road_scenes(
    height: int = HEIGHT, width: int = WIDTH, train: int = TRAIN_SCENES, test: int = TEST_SCENES
) -> Dataset:
    """Scenes of that size, 25 bands of 8 bits, with a class per pixel: `CLASS_NAMES`, of which 0 counts nothing.

    Road and marks in perspective, vegetation, sky, and as others buildings, cars, poles and pavements. Spectra vary
    within a class from object to object and from pixel to pixel; scenes differ in illumination (level, colour, gradient
    and shadows), pixels at edges are mixtures, and the sensor adds noise and saturates. Of pixels at edges every second
    one is unlabelled, of the others some patches. The same every time, by size and part. ConfigError: fewer than 16
    pixels a side, or no scene.
    """
    for name, value, least in (("height", height, 16), ("width", width, 16), ("train", train, 1), ("test", test, 1)):
        if value < least:
            raise ConfigError(f"{name} of road scenes must be at least {least}, got {value}: the default is larger")
    usual = (height, width, train, test) == (HEIGHT, WIDTH, TRAIN_SCENES, TEST_SCENES)
    return Dataset(
        name="synthetic_hsi_roads" + ("" if usual else f"-{height}x{width}-{train}-{test}"),
        source="synthetic: hyperspectral road scenes drawn by formula, 25 bands from 600 to 975 nm",
        split=f"{train} train, {test} test, seeds {SEEDS['train']}, {SEEDS['test']}",
        classes=len(CLASS_NAMES),
        pixel_bits=8,
        image_shape=(BANDS, height, width),
        train=partial(_scenes, "train", train, height, width),
        test=partial(_scenes, "test", test, height, width),
        labelled="pixel",
        mean=(MEAN,),
        deviation=(DEVIATION,),
        ignore=UNLABELLED,
        class_names=CLASS_NAMES,
    )


def _scenes(part: str, count: int, height: int, width: int) -> Examples:
    random = np.random.default_rng([SEEDS[part], height, width])
    images = np.empty((count, BANDS, height, width), np.uint8)
    labels = np.empty((count, height, width), np.int64)
    for number in range(count):
        scene = _Scene(random, FINE * height, FINE * width)
        scene.draw()
        images[number], labels[number] = scene.image(), scene.labels()
    return Examples(images, labels)


class _Scene:
    """One scene, drawn on a fine canvas: a material by cell, the number of its object, and the light on it."""

    def __init__(self, random: Random, height: int, width: int) -> None:
        self.random, self.height, self.width = random, height, width
        self.rows, self.columns = np.mgrid[0:height, 0:width].astype(np.float32)
        self.material: Map = np.zeros((height, width), np.int64)
        self.object: Map = np.zeros((height, width), np.int64)
        self.light = np.ones((height, width), np.float32)
        self._objects = 0

    def _one_of(self, *names: str) -> int:
        return NUMBER[names[self.random.integers(len(names))]]

    def _put(self, where: npt.NDArray[np.bool_], material: int) -> None:
        self._objects += 1
        self.material[where], self.object[where] = material, self._objects

    def draw(self) -> None:
        """Sky, ground, things that stand, road and what is on it, and shadows, in this order."""
        horizon = self.height * self.random.uniform(0.3, 0.5)
        vanishing = self.width * self.random.uniform(0.35, 0.65)
        self._put(self.rows < horizon, self._one_of("clear sky", "clouds"))
        for side in (self.columns < vanishing, self.columns >= vanishing):
            self._put(side & (self.rows >= horizon), self._one_of("grass", "dry grass", "concrete"))
        for _ in range(self.random.integers(0, 4)):
            self._building(horizon)
        for _ in range(self.random.integers(1, 5)):
            self._tree(horizon)
        self._road(horizon, vanishing)
        for _ in range(self.random.integers(0, 3)):
            self._car(horizon, vanishing)
        for _ in range(self.random.integers(0, 3)):
            self._pole(horizon)
        self._shine(horizon)

    def _box(self, left: float, right: float, top: float, bottom: float) -> npt.NDArray[np.bool_]:
        across = (self.columns >= left) & (self.columns < right)
        return np.asarray(across & (self.rows >= top) & (self.rows < bottom))

    def _building(self, horizon: float) -> None:
        left, size = self.random.uniform(-0.1, 0.9) * self.width, self.random.uniform(0.1, 0.35) * self.width
        top = horizon * self.random.uniform(0.1, 0.8)
        bottom = horizon + self.random.uniform(0, 0.1) * self.height
        self._put(self._box(left, left + size, top, bottom), self._one_of("brick", "concrete", "bright paint"))
        panes = (self.columns % 8 < 3) & (self.rows % 7 < 3)
        self._put(self._box(left + 2, left + size - 2, top + 2, horizon) & panes, NUMBER["glass"])

    def _tree(self, horizon: float) -> None:
        centre = self.random.uniform(0, self.width), horizon * self.random.uniform(0.5, 1.2)
        across, up = self.random.uniform(0.05, 0.18) * self.width, self.random.uniform(0.1, 0.3) * self.height
        ragged = 1 + 0.25 * self._texture(6)
        round_ = ((self.columns - centre[0]) / across) ** 2 + ((self.rows - centre[1]) / up) ** 2
        self._put(round_ < ragged, self._one_of("leaves", "leaves", "grass"))

    def _road(self, horizon: float, vanishing: float) -> None:
        near = np.clip((self.rows - horizon) / (self.height - horizon), 1e-3, 1)
        left = vanishing + near * (self.width * self.random.uniform(-0.25, 0.3) - vanishing)
        right = vanishing + near * (self.width * self.random.uniform(0.7, 1.25) - vanishing)
        place = (self.columns - left) / np.maximum(right - left, 1e-3)  # 0 to 1 across the road
        on_road = (self.rows >= horizon) & (place >= 0) & (place <= 1)
        self._put(on_road, self._one_of("asphalt", "asphalt", "worn asphalt"))
        paint = self._one_of("paint", "paint", "worn paint")
        half = self.random.uniform(0.012, 0.022)
        dashes = (1 / near * self.random.uniform(2, 4) + self.random.uniform(0, 1)) % 1 < 0.55
        for at, lies in ((0.05, True), (0.5, dashes), (0.95, True)):
            self._put(on_road & (np.abs(place - at) < half) & lies, paint)
        if self.random.random() < 0.3:
            far = self.random.uniform(0.4, 0.8)
            stripes = (place * 12 % 1 < 0.5) & (np.abs(near - far) < 0.05 + 0.05 * far)
            self._put(on_road & stripes, paint)

    def _car(self, horizon: float, vanishing: float) -> None:
        near = self.random.uniform(0.15, 0.8)
        bottom = horizon + near * (self.height - horizon)
        size = near * self.random.uniform(0.25, 0.4) * self.width
        left = vanishing + near * (self.random.uniform(0.1, 0.9) * self.width - vanishing) - size / 2
        top = bottom - size * self.random.uniform(0.6, 0.9)
        self._put(self._box(left, left + size, top, bottom), self._one_of("dark paint", "bright paint"))
        window = self._box(left + size / 6, left + size * 5 / 6, top, top + (bottom - top) / 3)
        self._put(window, NUMBER["glass"])

    def _pole(self, horizon: float) -> None:
        left, foot = self.random.uniform(0, self.width), horizon + self.random.uniform(0, 0.3) * self.height
        tall, thick = self.random.uniform(0.2, 0.6) * self.height, self.random.uniform(1.5, 4)
        self._put(self._box(left, left + thick, foot - tall, foot), self._one_of("cloth", "dark paint", "concrete"))

    def _shine(self, horizon: float) -> None:
        slope, turn = self.random.uniform(0, 0.35), self.random.uniform(0, 2 * np.pi)
        along = np.cos(turn) * self.columns / self.width + np.sin(turn) * self.rows / self.height
        self.light *= (1 + slope * (along - along.mean())).astype(np.float32)
        if self.random.random() < 0.6:
            start = self.random.uniform(-0.2, 0.9) * self.width
            lean = start + self.random.uniform(-0.6, 0.6) * self.rows
            in_shadow = (self.columns > lean) & (self.columns < lean + self.random.uniform(0.1, 0.4) * self.width)
            self.light[in_shadow & (self.rows > horizon)] *= self.random.uniform(0.3, 0.6)

    def _texture(self, cell: int) -> npt.NDArray[np.float32]:
        """Noise of mean 0 and deviation 1 in cells of that many fine pixels."""
        coarse = self.random.standard_normal((self.height // cell + 1, self.width // cell + 1)).astype(np.float32)
        return coarse.repeat(cell, 0).repeat(cell, 1)[: self.height, : self.width]

    def image(self) -> npt.NDArray[np.uint8]:
        """What the camera sees, (bands, height / FINE, width / FINE)."""
        of_object = self.random.standard_normal((2, self._objects + 1)).astype(np.float32)[:, self.object]
        noise = 0.5 * self._texture(3), self.random.standard_normal(self.material.shape).astype(np.float32)
        spread = _SPREADS.astype(np.float32)[self.material]
        level = np.exp(spread[..., 0] * (0.8 * of_object[0] + 0.35 * noise[0] + 0.2 * noise[1]))
        tilt = spread[..., 1] * (of_object[1] + 0.5 * self._texture(4)) + self.random.uniform(-0.25, 0.25)
        brightness = self.light * level
        spectra = _MEANS[self.material] * brightness[..., None]
        spectra = spectra * (1 + tilt[..., None] * CENTRED.astype(np.float32))
        shape = (self.height // FINE, FINE, self.width // FINE, FINE, BANDS)
        return self._sensed(spectra.reshape(shape).mean(axis=(1, 3)))

    def _sensed(self, light: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Exposed for the scene, band by band a little unlike, with shot and read noise, and saturated."""
        exposure = self.random.uniform(0.55, 0.95) / float(np.quantile(light, 0.97))
        gains = 1 + 0.03 * self.random.standard_normal(BANDS).astype(np.float32)
        level = light * (exposure * gains)
        noise = np.asarray(self.random.standard_normal(level.shape), np.float32)
        level = level + noise * np.sqrt(0.0004 + 0.002 * np.maximum(level, 0))
        counts: npt.NDArray[np.uint8] = np.clip(np.rint(level * SATURATED), 0, SATURATED).astype(np.uint8)
        return counts.transpose(2, 0, 1)

    def labels(self) -> Map:
        """The class of most of a pixel; 0 where nobody labelled it."""
        classes = LABEL_OF[self.material].reshape(self.height // FINE, FINE, self.width // FINE, FINE)
        cells = classes.transpose(0, 2, 1, 3).reshape(self.height // FINE, self.width // FINE, FINE * FINE)
        counts = (cells[..., None] == np.arange(len(CLASS_NAMES))).sum(axis=2)
        found: Map = counts.argmax(axis=-1)
        is_mixed = counts.max(axis=-1) < FINE * FINE
        found[is_mixed & (self.random.random(found.shape) < EDGES_UNLABELLED)] = UNLABELLED
        for _ in range(self.random.integers(0, 3)):
            top, left = self.random.integers(found.shape[0]), self.random.integers(found.shape[1])
            found[top : top + found.shape[0] // 5, left : left + found.shape[1] // 6] = UNLABELLED
        return found

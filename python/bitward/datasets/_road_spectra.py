# SPDX-License-Identifier: Apache-2.0
"""Spectra of what stands beside roads, 600 to 975 nm in 25 bands: shapes as they are known, drawn by formula.

Vegetation has the red edge near 715 nm and the first water band near 970 nm, asphalt and concrete are nearly flat, sky
falls with wavelength, paint of marks is bright and flat. None of these numbers was measured for bitward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Spectrum = npt.NDArray[np.float32]
BANDS = 25
FIRST_NM, LAST_NM = 600.0, 975.0
WAVELENGTHS = np.linspace(FIRST_NM, LAST_NM, BANDS)
CENTRED = (WAVELENGTHS - WAVELENGTHS.mean()) / (LAST_NM - FIRST_NM)  # -0.5 to 0.5

UNLABELLED, ROAD, MARKS, VEGETATION, SKY, OTHERS = range(6)
CLASS_NAMES = ("unlabelled", "road", "road marks", "vegetation", "sky", "others")


@dataclass(frozen=True)
class Material:
    """One thing of a class: its mean reflectance by band, and how far that varies from object to object.

    `tilt` is the spread of a factor that rises or falls with wavelength, `level` that of the brightness.
    """

    name: str
    label: int
    mean: Spectrum
    level: float
    tilt: float


def _step(at_nm: float, width_nm: float) -> npt.NDArray[np.float64]:
    """0 to 1, half way up at a wavelength."""
    return 1 / (1 + np.exp(-(WAVELENGTHS - at_nm) / width_nm))


def _dip(at_nm: float, width_nm: float, depth: float) -> npt.NDArray[np.float64]:
    """1, and 1 - depth at a wavelength."""
    return 1 - depth * np.exp(-(((WAVELENGTHS - at_nm) / width_nm) ** 2))


def _line(middle: float, rise: float) -> npt.NDArray[np.float64]:
    """A straight line with that value in the middle and that rise from end to end."""
    return middle + rise * CENTRED


def _material(name: str, label: int, mean: npt.NDArray[np.float64], level: float, tilt: float) -> Material:
    return Material(name, label, mean.astype(np.float32), level, tilt)


_ASPHALT, _PAINT = _line(0.13, 0.02), _line(0.52, 0.02)
MATERIALS = (
    _material("asphalt", ROAD, _ASPHALT, 0.2, 0.1),
    _material("worn asphalt", ROAD, _line(0.2, 0.04), 0.2, 0.1),
    _material("paint", MARKS, _PAINT, 0.15, 0.06),
    _material("worn paint", MARKS, 0.45 * _PAINT + 0.55 * _ASPHALT, 0.2, 0.1),
    _material("leaves", VEGETATION, (0.06 + 0.4 * _step(715, 12)) * _dip(970, 35, 0.12), 0.3, 0.1),
    _material("grass", VEGETATION, (0.09 + 0.33 * _step(718, 14)) * _dip(970, 35, 0.1), 0.25, 0.1),
    _material("dry grass", VEGETATION, 0.17 + 0.17 * _step(705, 45), 0.25, 0.15),
    _material("clear sky", SKY, 0.55 * (FIRST_NM / WAVELENGTHS) ** 2.2, 0.25, 0.1),
    _material("clouds", SKY, 0.72 * (FIRST_NM / WAVELENGTHS) ** 0.6, 0.2, 0.06),
    _material("concrete", OTHERS, _line(0.29, 0.06), 0.25, 0.12),
    _material("brick", OTHERS, 0.14 + 0.2 * _step(660, 70), 0.25, 0.12),
    _material("glass", OTHERS, 0.06 + 0.2 * (FIRST_NM / WAVELENGTHS) ** 1.5, 0.5, 0.2),
    _material("dark paint", OTHERS, _line(0.08, 0.03), 0.5, 0.35),
    _material("bright paint", OTHERS, _line(0.48, -0.02), 0.3, 0.3),
    _material("cloth", OTHERS, 0.1 + 0.3 * _step(700, 30), 0.4, 0.3),
)
NUMBER = {material.name: number for number, material in enumerate(MATERIALS)}
LABEL_OF = np.array([material.label for material in MATERIALS])

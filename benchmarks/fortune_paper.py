# SPDX-License-Identifier: Apache-2.0
"""What FORTUNE prints (S. Nazari et al.): Table I, Table II, and what its networks are called here."""

from __future__ import annotations

from dataclasses import dataclass

BERS = (1e-5, 3e-5, 1e-4, 3e-4)


@dataclass(frozen=True)
class Printed:
    """A row of Table II: stored bits, execution time in per cent, vulnerability in points and P_drop at each of `BERS`.

    `accuracy` is Table I's, in per cent, of the same width without protection (the paper has none of P-3-bit's own).
    """

    memory: int
    time: float
    vulnerability: tuple[float, float, float, float]
    p_drop: tuple[float, float, float, float]


ACCURACY = {  # Table I: per cent, by flow
    "vgg11": {8: 92.41, 5: 92.19, 4: 92.18, 3: 89.83},
    "resnet18": {8: 93.06, 5: 92.81, 4: 92.66, 3: 90.84},
    "alexnet": {8: 95.32, 5: 95.46, 4: 94.91, 3: 93.26},
    "inception": {8: 93.70, 5: 93.24, 4: 92.03, 3: 80.71},
}
TABLE_II = {  # by network and row, as the flow files name them
    ("vgg11", "8bit"): Printed(
        225_064_448, 100, (5.62, 22.30, 62.40, 74.52), (0.05021, 0.15063, 0.50210, 1.50630)
    ),
    ("vgg11", "p5"): Printed(
        196_931_392, 141.72, (1.11, 5.23, 28.33, 68.73), (0.03545, 0.10635, 0.35450, 1.06352)
    ),
    ("vgg11", "p4"): Printed(
        168_798_336, 141.72, (1.45, 6.01, 28.19, 67.99), (0.02576, 0.07730, 0.25766, 0.77300)
    ),
    ("vgg11", "p3"): Printed(
        140_665_280, 141.72, (1.49, 5.35, 34.20, 67.13), (0.01766, 0.05300, 0.17668, 0.53005)
    ),
    ("resnet18", "8bit"): Printed(
        66_991_616, 100, (0.18, 1.85, 14.64, 32.29), (0.00192, 0.00578, 0.01927, 0.05782)
    ),
    ("resnet18", "p5"): Printed(
        58_617_664, 119.54, (0.16, 0.81, 3.54, 18.77), (0.00085, 0.00257, 0.00858, 0.02574)
    ),
    ("resnet18", "p4"): Printed(
        50_243_712, 119.54, (0.24, 0.66, 2.63, 18.34), (0.00061, 0.00184, 0.00615, 0.01847)
    ),
    ("resnet18", "p3"): Printed(
        41_869_760, 119.54, (0.25, 0.79, 3.74, 21.89), (0.00051, 0.00153, 0.00510, 0.01531)
    ),
    ("alexnet", "8bit"): Printed(
        466_316_032, 100, (0.00, 0.49, 3.14, 30.71), (0.08882, 0.26647, 0.88823, 2.66470)
    ),
    ("alexnet", "p5"): Printed(
        408_026_528, 102.94, (0.14, 0.04, 0.48, 4.73), (0.01047, 0.03143, 0.10478, 0.31446)
    ),
    ("alexnet", "p4"): Printed(
        349_737_024, 102.94, (0.19, 0.10, 0.52, 5.30), (0.00862, 0.02587, 0.08624, 0.25872)
    ),
    ("alexnet", "p3"): Printed(
        291_447_520, 102.94, (0.27, 0.58, 2.62, 13.58), (0.01534, 0.04603, 0.15344, 0.46033)
    ),
    ("inception", "8bit"): Printed(
        173_011_456, 100, (0.09, 0.16, 0.45, 1.43), (0.00057, 0.00171, 0.00571, 0.01715)
    ),
    ("inception", "p5"): Printed(
        151_234_496, 291.73, (0.00, 0.02, 0.02, 0.19), (0.00006, 0.00018, 0.00060, 0.00180)
    ),
    ("inception", "p4"): Printed(
        129_758_592, 291.73, (0.01, 0.05, 0.08, 0.14), (0.00003, 0.00009, 0.00033, 0.00099)
    ),
}  # fmt: skip

# SPDX-License-Identifier: Apache-2.0
"""What the segmentation papers print of compressed U-Nets, on HSI-Drive v2.0 at full size; their "MB" are Mb.

SEU paper: J. Gutierrez-Zaballa et al., "Evaluating Single Event Upsets in Deep Neural Networks for Semantic
Segmentation", Tables 1 to 3. Bounded-activation paper: the same, "Designing DNNs for a trade-off between robustness and
processing performance in embedded devices", Tables I to III.
"""

from __future__ import annotations

CLASSES = ("road", "marks", "vegetation", "sky", "others", "global", "weighted")
IOU = {
    "SEU paper, ReLU, float": (97.84, 88.30, 94.15, 93.38, 77.38, 94.67, 88.40),
    "SEU paper, ReLU, pruned": (97.75, 88.53, 93.61, 93.75, 76.86, 94.48, 88.48),
    "SEU paper, ReLU, int8": (97.79, 88.12, 93.59, 92.10, 77.37, 94.44, 88.24),
    "SEU paper, ReLU, pruned int8": (97.75, 88.61, 93.47, 92.65, 76.92, 94.39, 88.55),
    "bounded paper, ReLU, float": (97.84, 87.99, 94.23, 92.83, 78.12, 94.71, 88.54),
    "bounded paper, Sigmoid, float": (96.94, 82.88, 92.53, 89.47, 76.38, 93.32, 84.75),
    "bounded paper, Hard Sigmoid, float": (96.32, 83.43, 92.39, 85.17, 69.07, 92.02, 82.69),
    "bounded paper, ReLU, pruned int8": (97.72, 88.15, 93.85, 92.45, 77.38, 94.47, 88.37),
    "bounded paper, Sigmoid, pruned int8": (96.01, 82.73, 88.94, 82.82, 65.73, 90.67, 80.96),
    "bounded paper, Hard Sigmoid, pruned int8": (96.74, 81.07, 90.76, 82.05, 69.95, 91.80, 80.72),
}
WHOLE = (31.13, 34.59)  # million parameters, thousand million operations
PRUNED = {"relu": (0.32, 8.41), "sigmoid": (1.38, 16.46), "hardsigmoid": (1.47, 10.35)}
BITS = {"float": 32, "int8": 8}


def quality() -> list[str]:
    """The papers' IoU, in %, as a Markdown table."""
    rows = [f"| {name} | {' | '.join(f'{value:.2f}' for value in values)} |" for name, values in IOU.items()]
    return [f"| | {' | '.join(CLASSES)} |", "|" + "---|" * (len(CLASSES) + 1), *rows, ""]


def shares(activation: str, form: str) -> tuple[str, str, str]:
    """What is left of (parameters, operations, memory) in the bounded-activation paper, in %; "-" of what it has not.

    Its memory counts 8 bits a parameter after quantization, biases too.

    >>> shares("relu", "pruned")
    ('1.0', '24.3', '1.0')
    """
    if form not in ("float", "int8", "pruned", "pruned int8"):
        return ("-", "-", "-")
    parameters, operations = PRUNED[activation] if form.startswith("pruned") else WHOLE
    memory = parameters / WHOLE[0] * BITS["int8" if form.endswith("int8") else "float"] / BITS["float"]
    found = (parameters / WHOLE[0], operations / WHOLE[1], memory)
    return (f"{100 * found[0]:.1f}", f"{100 * found[1]:.1f}", f"{100 * found[2]:.1f}")

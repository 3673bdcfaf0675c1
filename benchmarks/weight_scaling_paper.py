# SPDX-License-Identifier: Apache-2.0
"""What the weight-scaling paper prints (N. Fuengfusin, H. Tamukoh): Tables I and II, in per cent."""

from __future__ import annotations

FORMATS = {"fp32": "FP32", "fp16": "FP16", "q25": "Q2.5"}  # as flow files name them
NETWORKS = {"alexnet": "AlexNet", "resnet18": "ResNet18", "resnet50": "ResNet50", "densenet169": "DenseNet169"}
TABLE_I = {  # Top-1 without bit flips, by network and format
    ("alexnet", "fp32"): 56.55, ("alexnet", "fp16"): 56.55, ("alexnet", "q25"): 51.24,
    ("resnet18", "fp32"): 69.76, ("resnet18", "fp16"): 69.75, ("resnet18", "q25"): 66.87,
    ("resnet50", "fp32"): 76.15, ("resnet50", "fp16"): 76.15, ("resnet50", "q25"): 72.26,
    ("densenet169", "fp32"): 75.59, ("densenet169", "fp16"): 75.6, ("densenet169", "q25"): 71.81,
}  # fmt: skip
TABLE_II = {  # (mean, standard deviation) of Top-1 over 10 rounds at t = 1, and at the best t: 1.9999, of Q2.5 1.97
    ("alexnet", "fp32"): ((2.68, 1.44), (34.26, 5.27)), ("resnet18", "fp32"): ((14.78, 7.04), (53.29, 4.62)),
    ("resnet50", "fp32"): ((4.83, 4.01), (53.78, 9.30)), ("densenet169", "fp32"): ((7.02, 4.45), (56.67, 4.67)),
    ("alexnet", "fp16"): ((2.83, 1.27), (32.40, 4.72)), ("resnet18", "fp16"): ((23.48, 5.80), (56.34, 3.00)),
    ("resnet50", "fp16"): ((4.43, 4.33), (59.87, 4.62)), ("densenet169", "fp16"): ((3.85, 2.08), (58.59, 6.57)),
    ("alexnet", "q25"): ((6.35, 3.46), (38.18, 4.35)), ("resnet18", "q25"): ((32.59, 10.28), (63.88, 2.20)),
    ("resnet50", "q25"): ((14.38, 6.02), (68.80, 2.55)), ("densenet169", "q25"): ((16.02, 8.97), (67.97, 3.45)),
}  # fmt: skip
GAIN = {"fp32": 42.17, "fp16": 43.15, "q25": 42.37}
"""What scaling gains on average over the networks, in points, as the paper's text has it."""

# SPDX-License-Identifier: Apache-2.0
"""Metrics: what a fault did to outputs, how often it does so, and what that means for a device.

    bitward.metrics.decisions      top-1 classes: accuracy, changed images, accuracy drop, masked / tolerable / critical
    bitward.metrics.segmentation   maps of classes: changed pixels, IoU
    bitward.metrics.logits         how far outputs moved
    bitward.metrics.flip_error     what bit errors do to single stored numbers
    bitward.metrics.shares         Wilson's interval, Leveugle's sample size
    bitward.metrics.reliability    memory bits, FIT, upsets per hour, double upsets, P_drop, RAP

Shares are fractions, 0 to 1, never percent. numpy alone: all of this runs on the board.
"""

from bitward.metrics.decisions import (
    Severity,
    accuracy_drop,
    changed_outputs,
    changed_top1,
    is_critical,
    severity,
    top1,
    top1_accuracy,
    top1_change_rate,
)
from bitward.metrics.flip_error import flip_error
from bitward.metrics.logits import LogitDistance, logit_distance
from bitward.metrics.reliability import (
    HOURS_PER_FIT,
    MemoryBits,
    double_upsets_per_hour,
    fit,
    memory_bits,
    p_drop,
    rap,
    upsets_per_hour,
)
from bitward.metrics.segmentation import (
    class_frequencies,
    global_iou,
    iou_per_class,
    mean_iou,
    pixel_change_rate,
    weighted_iou,
)
from bitward.metrics.shares import Share, sample_size, wilson

__all__ = [
    "HOURS_PER_FIT",
    "LogitDistance",
    "MemoryBits",
    "Severity",
    "Share",
    "accuracy_drop",
    "changed_outputs",
    "changed_top1",
    "class_frequencies",
    "double_upsets_per_hour",
    "fit",
    "flip_error",
    "global_iou",
    "iou_per_class",
    "is_critical",
    "logit_distance",
    "mean_iou",
    "memory_bits",
    "p_drop",
    "pixel_change_rate",
    "rap",
    "sample_size",
    "severity",
    "top1",
    "top1_accuracy",
    "top1_change_rate",
    "upsets_per_hour",
    "weighted_iou",
    "wilson",
]

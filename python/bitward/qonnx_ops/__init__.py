# SPDX-License-Identifier: Apache-2.0
"""Our own ONNX operators, in the domain `bitward.qonnx_ops`; qonnx's executor finds them here by the domain's name.

One file each. A graph that uses one executes wherever bitward is installed, without being told.
"""

from __future__ import annotations

from qonnx.custom_op.base import CustomOp

from bitward.qonnx_ops.bias_tmr import BiasTmr
from bitward.qonnx_ops.msb_voter import MsbVoter

DOMAIN = "bitward.qonnx_ops"

# The name that qonnx's registry looks for.
custom_op: dict[str, type[CustomOp]] = {"BiasTmr": BiasTmr, "MsbVoter": MsbVoter}

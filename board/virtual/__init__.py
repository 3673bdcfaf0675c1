# SPDX-License-Identifier: Apache-2.0
"""The virtual KV260: DDR buffers, AXI DMA, clock registers and an accelerator, behind the PYNQ.remote server.

`VirtualBoard` is a `bitward_runtime.backend.Backend`; its accelerator is anything that keeps `accelerator.Accelerator`,
as a rule the build's RTL compiled by Verilator. Nothing of it is hardware, and wherever it has a name it says so.
"""

from .accelerator import Accelerator
from .board import VirtualBoard

__all__ = ["Accelerator", "VirtualBoard"]

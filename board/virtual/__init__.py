# SPDX-License-Identifier: Apache-2.0
"""The virtual KV260: DDR buffers, AXI DMA, clock registers and an accelerator, behind the PYNQ.remote server.

`VirtualBoard` is a `bitward_runtime.backend.Backend`; its accelerator is anything that keeps `accelerator.Accelerator`,
as a rule the build's RTL compiled by Verilator. Nothing of it is hardware, and wherever it has a name it says so.

What it models as PG021, UG1087 and PYNQ have it, what it refuses in a sentence, and what is not modelled:

    AXI-Lite     modelled   each access goes through the RTL; error responses are errors
                 refused    unmapped addresses
                 not        the time an access takes
    AXI DMA      modelled   simple mode: run, idle, halted, reset of both channels, complete and error bits; LENGTH of 0
                            or of a halted channel has no effect; decode error outside buffers; internal error of an
                            overrun
                 refused    addresses that are not aligned, LENGTH of a busy channel, registers of scatter-gather
                 not        interrupts, keyhole, bandwidth; a transfer over a buffer's end is a decode error, where
                            hardware would reach its neighbour
    streams      modelled   order, TLAST, deadlock within a bound of cycles
                 refused    transfers of another length than the images'
                 not        stalls of a real DDR: the DMA is always ready (tests of the RTL stall both sides at random)
    DDR          modelled   buffers at page-aligned addresses, zeroed
                 refused    everything outside a buffer
                 not        caches: flush and invalidate do nothing
    clocks       modelled   PLL and PL clock registers, as written
                 refused    transfers with PL clock 0 off, or faster than the overlay was made for
                 not        timing: no violation is ever seen, simulated cycles take no time of the clock
    programming  modelled   memories as the bitstream has them, UltraRAM zero; the FPGA manager's files
                 refused    partial bitstreams, overlays of another build
                 not        configuration memory, its upsets and readback; the time it takes
    reset        modelled   at each load; memories keep their content
                 not        reset lines of the PS and by GPIO
    clients      modelled   one holder at a time, by lease
    power        not        no hwmon file exists: not measured
"""

from .accelerator import Accelerator
from .board import VirtualBoard

__all__ = ["Accelerator", "VirtualBoard"]

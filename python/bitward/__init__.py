# SPDX-License-Identifier: Apache-2.0
"""bitward: quantized networks on FPGAs, hardened against bit flips in their parameter memories, and attacked to see.

A parameter lives in memory as a stored word; faults hit stored words; protection is a property of how words are
stored and read. The lowest floors (`words`, `formats`, `schemes`, `layout`, `manifest`, `faults`, `metrics`) need numpy
alone and run on the board.
"""

__version__ = "0.1.0"

# SPDX-License-Identifier: Apache-2.0
"""The PYNQ.remote messages: our own .proto files, and what `python -m bitward_runtime.proto.generate` makes of them.

They carry the wire names of pynq 4.0's stubs, so one process imports these or pynq's, never both.
"""

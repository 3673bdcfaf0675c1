# SPDX-License-Identifier: Apache-2.0
"""The messages on the wire: our own .proto files, and what `python -m bitward_runtime.proto.generate` makes of them.

Those of PYNQ.remote carry the wire names of pynq 4.0's stubs, so one process imports these or pynq's, never both;
`bitward` is the extension's alone, and goes with either.
"""

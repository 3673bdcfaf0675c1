# SPDX-License-Identifier: Apache-2.0
"""From a QONNX graph to RTL, a Verilator model, resource counts and overlay files."""

# SPDX-License-Identifier: Apache-2.0
"""What every RTL back end of ours has in common: a node is one parameterised module of hls/rtl."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from finn.custom_op.fpgadataflow.rtlbackend import RTLBackend

Parameter = int | str


class RtlModule(RTLBackend):
    """An operator that is one module of `hls/rtl`, instantiated with parameters.

    To add one: write `hls/rtl/bitward_X.sv` with ports ap_clk, ap_rst_n, in<i>_V, out<i>_V (and s_axilite if it holds
    parameters), subclass FINN's abstract operator X and this class as `X_rtl`, decorate it with
    `register_custom_op`, and give `module` and `parameters`. Op names must not contain "_v".
    """

    module: str

    @abstractmethod
    def parameters(self, fpgapart: str) -> dict[str, Parameter]:
        """The module's parameters by name, for that part; strings are quoted."""

    def generate_hdl(self, model: Any, fpgapart: str, clk: float) -> None:
        """Nothing is generated: the node is an instance of its module."""
        directory = self.get_nodeattr("code_gen_dir_ipgen")
        self.set_nodeattr("gen_top_module", self.module)
        self.set_nodeattr("ipgen_path", directory)
        self.set_nodeattr("ip_path", directory)

    def get_rtl_file_list(self, abspath: bool = False) -> list[str]:
        """No generated files: the module comes from `hls/rtl`."""
        return []

    def code_generation_ipi(self) -> list[str]:
        """No IP Integrator cell: bitward writes one RTL top that is packaged whole."""
        return []

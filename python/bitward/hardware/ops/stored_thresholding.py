# SPDX-License-Identifier: Apache-2.0
"""A thresholding unit whose thresholds lie in memory as stored words of a Scheme."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from finn.custom_op.fpgadataflow.rtl import register_custom_op
from finn.custom_op.fpgadataflow.thresholding import Thresholding
from numpy.typing import NDArray

from bitward.errors import ModelError
from bitward.hardware.costs import BLOCK_ROWS
from bitward.hardware.ops._folding import where
from bitward.hardware.ops._module import Parameter
from bitward.hardware.ops._stored import Axes, StoredModule, lane_counts, write_hex
from bitward.hardware.parameters import Parameter as Tensor
from bitward.indexmap import Axis, split_axes
from bitward.memory import RamStyle


@register_custom_op
class StoredThresholding_rtl(StoredModule, Thresholding):  # noqa: N801 - FINN finds back ends by this spelling
    """`bitward_thresholding`: memories of stored words -> read registers -> voters -> comparators, in a binary search.

    A row of the memory is one threshold of one lane, {channel fold, lane, index}, lane and index of whole bits. The
    search reads them one by one at addresses of its own, so every lane and stage has its own array, and one list for
    all channels (attribute `lists` = 1) stands once a lane. `ram_style` "auto" makes arrays of 512 rows and more block
    RAM and the others distributed: a list is cut by stages, lanes and copies, and most of these arrays would leave a
    block RAM all but empty (a search of 15 thresholds in 4 lanes and 3 copies has 48 of them).
    """

    module = "bitward_thresholding"
    stores: ClassVar[str] = "Thresholding"

    def get_nodeattr_types(self) -> dict:
        """FINN's Thresholding attributes, those of a stored module, and `lists`: 1, or 0 for one a channel."""
        own = {"lists": ("i", False, 0, {0, 1}), "ram_style": ("s", False, "auto", {"auto", "block", "distributed"})}
        return {**Thresholding.get_nodeattr_types(self), **StoredModule.get_nodeattr_types(self), **own}

    def execute_node(self, context: dict, graph: object) -> None:
        """Count thresholds in numpy, as FINN's abstract operator does."""
        Thresholding.execute_node(self, context, graph)

    def generate_hdl(self, model: Any, fpgapart: str, clk: float) -> None:
        """The node is an instance of its module; whether channels share a list is taken from the initializer."""
        lists = model.get_initializer(self.onnx_node.input[1]).shape[0]
        self.set_nodeattr("lists", int(lists == 1))
        super().generate_hdl(model, fpgapart, clk)

    def folds(self) -> int:
        """Lists that a lane holds."""
        return 1 if self.get_nodeattr("lists") else self.get_nodeattr("NumChannels") // self.get_nodeattr("PE")

    def index_bits(self) -> int:
        """Address bits of a threshold in its list: also the stages of the search."""
        return int(self.get_nodeattr("numSteps")).bit_length()

    def lane_bits(self) -> int:
        """Address bits of a lane."""
        return int(self.get_nodeattr("PE") - 1).bit_length()

    def lanes(self) -> int:
        """A row is one stored threshold, whatever the lane that reads it."""
        return 1

    def depth(self) -> int:
        """Rows, those of lanes and indices that do not exist included."""
        return self.folds() << self.lane_bits() + self.index_bits()

    def axes(self, parameter: Tensor) -> Axes:
        """The map of a threshold tensor (channels or 1, thresholds)."""
        lanes = self.get_nodeattr("PE")
        is_shared = all(stride == 0 for _, stride in parameter.columns)
        folds_of, lanes_of = split_axes([(lanes, 0)] if is_shared else parameter.columns, lanes)
        index_of, _ = split_axes(parameter.rows, 1)
        index, lane = self.index_bits(), self.lane_bits()
        rows = (
            *(Axis(axis.size, axis.step << index + lane, axis.stride) for axis in folds_of),
            *(Axis(axis.size, axis.step << index, axis.stride) for axis in lanes_of),
            *index_of,
        )
        return rows, ()

    @classmethod
    def foldings(cls, parameter: Tensor) -> dict[str, list[int]]:
        """Channels a beat; a list's thresholds are searched, not folded."""
        return {"PE": lane_counts(parameter.columns)}

    def memory_file(self) -> str:
        """The stem of the names of the files, one a stage of the search and lane."""
        return self.memory_name()

    def write_contents(self, image: NDArray[np.uint32], folder: Path) -> None:
        """Each array's content, the plain thresholds of its stage and lane, is in a file of its own."""
        layout, levels = self.layout(), self.index_bits()
        words = layout.decode(image[:, : layout.segments])[:, 0]
        folds = words.reshape(self.folds(), 1 << self.lane_bits(), 1 << levels)
        for stage in range(levels):
            places = (np.arange(1 << stage) << levels - stage) + (1 << levels - 1 - stage) - 1
            for lane in range(self.get_nodeattr("PE")):
                held = folds[:, lane, places].reshape(-1).astype("<u8").view("<u4").reshape(-1, 2)
                write_hex(held, layout.scheme.bits, folder / f"{self.memory_file()}_{stage}_{lane}.dat")

    def ram_style(self) -> RamStyle:
        """What the arrays are made of; "mixed" where they differ."""
        style: str = self.get_nodeattr("ram_style")
        if style != "auto":
            return "block" if style == "block" else "distributed"
        deep = {self.folds() << stage >= BLOCK_ROWS for stage in range(self.index_bits())}
        return "mixed" if len(deep) == 2 else "block" if True in deep else "distributed"

    def rows_per_image(self) -> int:
        """Beats: a search reads rows anew for each."""
        return int(self.get_exp_cycles())

    def read_ahead(self) -> int:
        """None: no threshold is read before the element that it is compared with."""
        return 0

    def parameters(self, fpgapart: str) -> dict[str, Parameter]:
        """Parameters of `bitward_thresholding`. Raises ModelError for what the module has not."""
        source, threshold, result = (self.get_input_datatype(0), self.get_input_datatype(1), self.get_output_datatype())
        steps, bias, scheme = self.get_nodeattr("numSteps"), self.get_nodeattr("ActVal"), self.scheme()
        if scheme.check_bits or scheme.voted not in (0, scheme.bits):
            raise ModelError(
                f"{where(self.onnx_node)} must store thresholds plain or with all their bits voted, got {scheme}: "
                "protect thresholds by full TMR, or leave them plain."
            )
        if not (result.is_integer() and result.min() <= bias and bias + steps <= result.max()):
            raise ModelError(
                f"{where(self.onnx_node)} must have results {bias} to {bias + steps} in its type, got {result.name}: "
                "widen it."
            )
        return {
            "Pe": self.get_nodeattr("PE"),
            "Folds": self.folds(),
            "Steps": steps,
            "InBits": source.bitwidth(),
            "InSigned": int(source.signed()),
            "Bits": scheme.bits,
            "Signed": int(threshold.signed()),
            "Voted": scheme.voted,
            "OutBits": result.bitwidth(),
            "Bias": bias,
            "InitFile": self.memory_file(),
            "RamStyle": self.get_nodeattr("ram_style"),
        }

# SPDX-License-Identifier: Apache-2.0
"""LabelSelect_rtl: the place of each vector's greatest element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitward.engine.datatypes import Stream
from bitward.engine.ops._op import Attributes, Parameters, Unary, builds
from bitward.manifest import Memory


@dataclass(frozen=True)
class LabelSelect(Unary):
    """Vectors of `labels` scores become the place of the greatest, the first where several are greatest."""

    labels: int
    forgets: ClassVar[bool] = True

    def run(self, stream: Stream, parameters: Parameters | None) -> Stream:
        places = stream.reshape(-1, self.labels).argmax(axis=1)
        return places.astype(self.result.dtype).reshape(len(stream), self.outputs)


@builds("LabelSelect_rtl")
def label_select(attributes: Attributes, memory: Memory | None) -> LabelSelect:
    """The operator of a LabelSelect_rtl node; ModelError for more than one label a vector."""
    attributes.require("K", 1, default=1)
    labels, vectors = attributes.number("Labels"), attributes.size("numInputVectors", (1,))
    return LabelSelect(
        node=attributes.node,
        inputs=vectors * labels,
        outputs=vectors,
        source=attributes.type("inputDataType"),
        result=attributes.type("outputDataType"),
        labels=labels,
    )

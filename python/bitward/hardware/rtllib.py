# SPDX-License-Identifier: Apache-2.0
"""The RTL files of a build, gathered in one folder: FINN's library as installed (mended where it must be) and ours.

Nothing of FINN's is kept in this repository. A mend is a few replacements on the installed file, tied to that file's
sha256, so that an update of FINN+ is refused until somebody has looked at it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bitward.errors import ToolError


@dataclass(frozen=True)
class Mend:
    """Replacements on one file of finn-rtllib, and why."""

    file: str
    sha256: str
    reason: str
    replacements: tuple[tuple[str, str], ...]

    def apply(self, text: str) -> str:
        """The mended text. Raises ToolError when the text is not the one this was written for."""
        digest = hashlib.sha256(text.encode()).hexdigest()
        if digest != self.sha256:
            raise ToolError(
                f"finn-rtllib/{self.file} must have sha256 {self.sha256[:12]}..., got {digest[:12]}...: install the "
                "finn-plus version that pyproject.toml and the Makefile name, or review the mend for the new file."
            )
        for old, new in self.replacements:
            text = text.replace(old, new, 1)
        return text


_LEAF_TYPE = "typedef int unsigned  leaf_load_t[2*N-1];"
_TREE = "uwire [SUM_WIDTH-1:0]  sum0;"

MENDS = (
    Mend(
        "mvu/mvu_vvu_axi.sv",
        "f4c91ae7cbb2887c92b034c2364481e9d40e31313bbd1aff82491c1350388dab",
        "with one input beat per dot product (MW = SIMD) the output queue is too short and results are lost",
        (("MAX_IN_FLIGHT = CORE_PIPELINE_DEPTH;", "MAX_IN_FLIGHT = CORE_PIPELINE_DEPTH + 4;"),),
    ),
    Mend(
        "mvu/add_multi.sv",
        "245c88f80677355afd487f9cb69d71b85c4873eceae5bb828b1dcac43ca71f94",
        "Verilator takes no constant function with an unpacked result inside a generate block",
        (
            (_LEAF_TYPE, "typedef bit [2*N-2:0][31:0]  leaf_load_t;"),
            ("function leaf_load_t init_leaf_loads();", "function automatic leaf_load_t init_leaf_loads();"),
        ),
    ),
    Mend(
        "fifo/hdl/fifo.sv",
        "88ad786a5885c7994c7e2d26e1ef2ffdf688310e941feaa0651332da49ec58c4",
        "Verilator takes no unpacked struct as the type of a constant",
        (
            ("typedef struct {\n\t\tint unsigned  lo;", "typedef struct packed {\n\t\tint unsigned  lo;"),
            (
                "automatic abits_t  abits = '{ lo: $clog2(DEPTH_REQ), hi: 0 };",
                "automatic abits_t  abits;\n\t\tabits.lo = $clog2(DEPTH_REQ);\n\t\tabits.hi = 0;",
            ),
        ),
    ),
    Mend(
        "dwc/hdl/dwc_axi.sv",
        "42f1594aad22a1ed1b20cf33975550c9c8f6d3759222a6e05cde535c2fbdeb23",
        "vectors of IBITS*OBITS elements make simulators unroll tens of thousands of functions; the lcm does the same",
        (
            (".N(IBITS * OBITS)", ".N(IBITS / bitward_gcd(IBITS, OBITS) * OBITS)"),
            (
                "\tvpc #(",
                "\tfunction automatic int unsigned bitward_gcd(input int unsigned a, input int unsigned b);\n"
                "\t\treturn b == 0 ? a : bitward_gcd(b, a % b);\n\tendfunction\n\tvpc #(",
            ),
        ),
    ),
)


def _hoist_leaf_function(text: str) -> str:
    """add_multi's constant function stands before its generate block instead of inside it."""
    start, end = text.index("typedef bit [2*N-2:0]"), text.index("localparam leaf_load_t")
    block = text[start:end]
    return text.replace(block, "", 1).replace(_TREE, block + "\n\t" + _TREE, 1)


def mended(file: str, text: str) -> str:
    """The text of `file` of finn-rtllib (path below finn-rtllib), mended if it must be."""
    for mend in MENDS:
        if mend.file == file:
            text = mend.apply(text)
            return _hoist_leaf_function(text) if file == "mvu/add_multi.sv" else text
    return text


# What FINN's file lists leave out for a matrix-vector unit with its own memory.
MVAU_FILES = (
    "axi/hdl/axilite.sv",
    "memstream/hdl/memstream.sv",
    "memstream/hdl/memstream_axi.sv",
    "mvu/mvu_pkg.sv",
    "mvu/mvu_vvu_axi.sv",
    "mvu/replay_buffer.sv",
    "mvu/mvu.sv",
    "mvu/mvu_vvu_8sx9_dsp58.sv",
    "mvu/add_multi.sv",
)


def library_root() -> Path:
    """finn-rtllib of the installed FINN+."""
    import finn

    for place in finn.__path__:
        if (root := Path(place) / "finn-rtllib").is_dir():
            return root
    raise ToolError("finn-plus must carry finn-rtllib, got none: install finn-plus 1.6.1 with make setup.")


def collect(files: Iterable[Path], out: Path) -> list[str]:
    """All source files are copied to `out` (mended); their names in compile order, packages first.

    Raises ToolError when two files of one name differ.
    """
    root = library_root()
    names: dict[str, str] = {}
    for path in files:
        resolved = path.resolve()
        text = resolved.read_text()
        if resolved.is_relative_to(root.resolve()):
            text = mended(str(resolved.relative_to(root.resolve())), text)
        if names.get(path.name, text) != text:
            raise ToolError(f"RTL file names must be unique in a build, got two different files named {path.name}.")
        names[path.name] = text
    for name, text in names.items():
        (out / name).write_text(text)
    return sorted(names, key=lambda name: (not name.endswith("_pkg.sv"), name))

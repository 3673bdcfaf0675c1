# SPDX-License-Identifier: Apache-2.0
"""Generate the `*_pb2.py` beside the .proto files, or in the folder named on the command line.

Needs grpcio-tools 1.64.0 (a requirement of pynq 4.0, so `.venv-board` has it): protoc 26.1, whose output runs with
protobuf 5.26 and later.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = ("mmio", "buffer", "remote_device", "bitward")
HEADER = "# SPDX-License-Identifier: Apache-2.0\n# ruff: noqa\n# fmt: off\n# mypy: ignore-errors\n"


def generate(out: Path) -> list[Path]:
    """Write `NAME_pb2.py` for each of NAMES into `out`; exits where protoc refuses a file."""
    from grpc_tools import protoc

    for name in NAMES:
        if protoc.main(["protoc", f"-I{HERE}", f"--python_out={out}", f"{name}.proto"]) != 0:
            raise SystemExit(f"{name}.proto must be valid for protoc, see its message above; mend the file")
    made = [out / f"{name}_pb2.py" for name in NAMES]
    for path in made:
        path.write_text(HEADER + path.read_text(encoding="utf-8"), encoding="utf-8")
    return made


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)

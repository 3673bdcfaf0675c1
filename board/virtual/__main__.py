# SPDX-License-Identifier: Apache-2.0
"""`python -m bitward_virtual DIR [--port 7967] [--host 127.0.0.1]`; `bitward emulate` is the same."""

import argparse
import sys
from pathlib import Path

from bitward_runtime.server import DEFAULT_HOST, DEFAULT_PORT

from bitward.errors import BitwardError

from .emulate import emulate


def main() -> int:
    """Emulate; 1 and one sentence where that cannot be."""
    parser = argparse.ArgumentParser(prog="bitward_virtual", description="The virtual KV260, for any PYNQ client.")
    parser.add_argument("build_dir", type=Path, help="a folder that bitward build left")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 picks a free one")
    parser.add_argument("--host", default=DEFAULT_HOST, help="a loopback address")
    arguments = parser.parse_args()
    try:
        emulate(arguments.build_dir, arguments.port, arguments.host)
    except BitwardError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""`python -m bitward_virtual DIR [--port 7967] [--host 127.0.0.1] ...`; `bitward emulate` is the same."""

import argparse
import sys
from pathlib import Path

from bitward_runtime.serve import add_serving

from bitward.errors import BitwardError

from .emulate import access_of, emulate


def main() -> int:
    """Emulate; 1 and one sentence where that cannot be."""
    parser = argparse.ArgumentParser(prog="bitward_virtual", description="The virtual KV260, for any PYNQ client.")
    parser.add_argument("build_dir", type=Path, help="a folder that bitward build left")
    add_serving(parser)
    arguments = parser.parse_args()
    try:
        access = access_of(arguments.tls_cert, arguments.tls_key, arguments.token_file)
        emulate(arguments.build_dir, arguments.port, arguments.host, access=access, audit=arguments.audit)
    except BitwardError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

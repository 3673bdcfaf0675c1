# SPDX-License-Identifier: Apache-2.0
"""`python -m bitward_virtual DIR [--port 7967] [--host 127.0.0.1] ...`; `bitward emulate` is the same."""

import argparse
import sys
from pathlib import Path

from bitward_runtime.server import DEFAULT_HOST, DEFAULT_PORT

from bitward.errors import BitwardError

from .emulate import access_of, emulate


def main() -> int:
    """Emulate; 1 and one sentence where that cannot be."""
    parser = argparse.ArgumentParser(prog="bitward_virtual", description="The virtual KV260, for any PYNQ client.")
    parser.add_argument("build_dir", type=Path, help="a folder that bitward build left")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 picks a free one")
    parser.add_argument("--host", default=DEFAULT_HOST, help="a loopback address, unless TLS and a token are given")
    parser.add_argument("--tls-cert", type=Path, help="certificate chain (PEM); with it only the extension is served")
    parser.add_argument("--tls-key", type=Path, help="its private key (PEM)")
    parser.add_argument("--token-file", type=Path, help="holds the token that each call must carry")
    parser.add_argument("--audit", type=Path, help="log of the calls that may change the board (default: none)")
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

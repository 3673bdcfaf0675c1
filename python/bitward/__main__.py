# SPDX-License-Identifier: Apache-2.0
"""`python -m bitward` is the command `bitward`."""

import sys

from bitward.cli import main

if __name__ == "__main__":
    sys.exit(main())

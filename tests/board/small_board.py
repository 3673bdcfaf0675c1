# SPDX-License-Identifier: Apache-2.0
"""`bitward emulate` with the small design instead of a simulation: DIR [CERTIFICATE KEY TOKEN-FILE], on a free port."""

from __future__ import annotations

import sys
from pathlib import Path

from bitward_virtual.emulate import access_of, emulate
from small_design import Broken, SmallDesign

if __name__ == "__main__":
    build, *tls = map(Path, sys.argv[1:])
    access = access_of(*tls) if tls else None
    emulate(build, port=0, accelerator=lambda folder: SmallDesign(folder, Broken()), access=access)

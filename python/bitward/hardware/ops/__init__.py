# SPDX-License-Identifier: Apache-2.0
"""RTL back ends of our own, registered with FINN+: importing this package makes them known.

One file per operator. A back end subclasses FINN's abstract operator and `RtlModule`, whose docstring says how.
"""

import pkgutil
from importlib import import_module

for _found in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_found.name}")

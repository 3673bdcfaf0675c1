# SPDX-License-Identifier: Apache-2.0
"""RTL back ends of our own, registered with FINN+: importing this package makes them known.

One file per operator. A back end subclasses FINN's abstract operator and `RtlModule`, whose docstring says how.
"""

from bitward.hardware.ops.pool import Pool_rtl
from bitward.hardware.ops.stored_mvau import StoredMVAU_rtl

__all__ = ["Pool_rtl", "StoredMVAU_rtl"]

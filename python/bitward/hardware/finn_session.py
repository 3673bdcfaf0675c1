# SPDX-License-Identifier: Apache-2.0
"""FINN+ used as a library: told where to write, and silent about what it does on the way."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bitward.tools import finn_environment


@contextmanager
def finn_session(directory: Path) -> Iterator[None]:
    """Inside, FINN generates its code below `directory`; its warnings are kept back, its errors are not."""
    with finn_environment(directory), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from finn.util.settings import initialize_dummy_settings

        initialize_dummy_settings()  # FINN reads its environment once per process otherwise
        logger = logging.getLogger("finn_logger")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)

# SPDX-License-Identifier: Apache-2.0
"""What tests of the lowering share."""

from __future__ import annotations

import pytest

from bitward.hardware.finn_session import finn_session


@pytest.fixture
def session(tmp_path):
    """A folder for models; FINN has its own meanwhile."""
    with finn_session(tmp_path / "finn"):
        yield tmp_path

# SPDX-License-Identifier: Apache-2.0
"""Lists the packages, because pyproject.toml cannot search three roots; everything else stands there."""

from setuptools import find_packages, setup

ROOTS = {"bitward": "python/bitward", "bitward_runtime": "board/runtime", "bitward_virtual": "board/virtual"}

setup(
    packages=[name for top, path in ROOTS.items() for name in (top, *(f"{top}.{sub}" for sub in find_packages(path)))]
)

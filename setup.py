# SPDX-License-Identifier: Apache-2.0
"""Lists the packages, because pyproject.toml cannot search three roots, and puts into wheels what is no Python: RTL,
Tcl, boards, notebooks, flows and models, below bitward/_files. Everything else stands in pyproject.toml.
"""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOTS = {"bitward": "python/bitward", "bitward_runtime": "board/runtime", "bitward_virtual": "board/virtual"}
FILES = ("hls", "board/kv260", "board/virtual/board.yaml", "board/notebooks", "flows", "onnx_models")


class BuildWithFiles(build_py):
    """As setuptools', and FILES go where bitward.tools.resource looks for them; editable installs have the checkout."""

    def run(self) -> None:
        if self.editable_mode:
            super().run()
            return
        shutil.rmtree(self.build_lib, ignore_errors=True)  # what an earlier build left would come along
        super().run()
        for name in FILES:
            source, target = Path(name), Path(self.build_lib) / "bitward" / "_files" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, target)


setup(
    packages=[name for top, path in ROOTS.items() for name in (top, *(f"{top}.{sub}" for sub in find_packages(path)))],
    cmdclass={"build_py": BuildWithFiles},
)

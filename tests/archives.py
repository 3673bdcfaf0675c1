# SPDX-License-Identifier: Apache-2.0
"""Archives as setuptools builds them, from a copy of the checkout: builders leave folders beside what they build."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from shared_runs import ROOT

PARTS = (
    "pyproject.toml", "setup.py", "MANIFEST.in", "LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md",
    "Dockerfile", ".dockerignore", ".gitignore", "Makefile", ".ci", ".github", "python", "board", "hls", "flows",
    "onnx_models", "docs", "tests", "benchmarks",
)  # fmt: skip


def copy_checkout(folder: Path) -> Path:
    """The folder holds what archives are built from."""
    for name in PARTS:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(path, folder / name)
    return folder


def built(source: Path, out: Path, kind: str = "wheel") -> Path:
    """The archive that setuptools makes of a folder, as pip asks it: a wheel or an sdist."""
    done = build(source, out, kind)
    assert done.returncode == 0, done.stderr[-2000:]
    return out / done.stdout.splitlines()[-1]


def build(source: Path, out: Path, kind: str) -> subprocess.CompletedProcess[str]:
    """What came of asking for it."""
    script = f"from setuptools.build_meta import build_{kind}; print(build_{kind}({str(out)!r}))"
    return subprocess.run([sys.executable, "-c", script], cwd=source, capture_output=True, text=True)


def members(wheel: Path) -> dict[str, bytes]:
    """Every file of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}

# SPDX-License-Identifier: Apache-2.0
"""finn-rtllib is taken from the installed wheel and mended only where it is the file that somebody looked at."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from bitward.errors import ToolError
from bitward.hardware import rtllib
from bitward.hardware.rtllib import MENDS, MVAU_FILES, collect, library_root, mended


@pytest.mark.parametrize("mend", MENDS, ids=lambda mend: mend.file)
def test_every_mend_is_for_the_installed_file_and_changes_it(mend):
    text = (library_root() / mend.file).read_text()
    assert hashlib.sha256(text.encode()).hexdigest() == mend.sha256
    for old, _ in mend.replacements:
        assert text.count(old) >= 1, f"{mend.file} must hold {old!r}"
    after = mended(mend.file, text)
    assert after != text
    for _, new in mend.replacements:
        assert new.split("\n")[0] in after
    assert mend.reason


@pytest.mark.parametrize("mend", MENDS, ids=lambda mend: mend.file)
def test_another_version_of_a_file_is_refused(mend):
    text = (library_root() / mend.file).read_text() + " "
    with pytest.raises(
        ToolError, match=f"^finn-rtllib/{mend.file} must have sha256 {mend.sha256[:12]}..., got [0-9a-f]+"
    ):
        mended(mend.file, text)


def test_files_without_a_mend_stay_as_they_are():
    assert mended("axi/hdl/axilite.sv", "anything") == "anything"


def test_files_are_copied_packages_first_and_mended(tmp_path):
    names = collect([library_root() / file for file in MVAU_FILES], tmp_path)
    assert names[0] == "mvu_pkg.sv"
    assert sorted(names) == sorted(file.rsplit("/", 1)[-1] for file in MVAU_FILES)
    assert "MAX_IN_FLIGHT = CORE_PIPELINE_DEPTH + 4;" in (tmp_path / "mvu_vvu_axi.sv").read_text()


def test_two_different_files_of_one_name_are_refused(tmp_path):
    for folder, text in (("a", "module x; endmodule"), ("b", "module y; endmodule")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.sv").write_text(text)
    with pytest.raises(
        ToolError, match="^RTL file names must be unique in a build, got two different files named x.sv"
    ):
        collect([tmp_path / "a" / "x.sv", tmp_path / "b" / "x.sv"], tmp_path)
    (tmp_path / "b" / "x.sv").write_text("module x; endmodule")
    assert collect([tmp_path / "a" / "x.sv", tmp_path / "b" / "x.sv"], tmp_path) == ["x.sv"]


def test_a_finn_without_its_library_is_refused(tmp_path, monkeypatch):
    import finn

    monkeypatch.setattr(finn, "__path__", [str(tmp_path)])
    with pytest.raises(ToolError, match="^finn-plus must carry finn-rtllib, got none: install finn-plus 1.6.1"):
        rtllib.library_root()


def test_a_mend_says_which_file_it_is_for():
    mend = replace(MENDS[0], sha256="0" * 64)
    with pytest.raises(ToolError, match="must have sha256 000000000000..., got"):
        mend.apply("text")

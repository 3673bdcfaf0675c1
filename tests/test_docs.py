# SPDX-License-Identifier: Apache-2.0
"""The documentation: it builds without a warning, its Python runs, and nothing that one can set is missing from it."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import documented
import pytest
import test_floors
from documented import DOCS, KINDS, PAGES, blocks, keys
from shared_runs import ROOT

from bitward.cli import main

TUTORIAL = DOCS / "tutorial.md"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda path: path.stem)
def test_python_in_the_pages_runs(page: Path, tmp_path: Path) -> None:
    script = "\n".join(blocks(page, "python"))
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_images_for_the_steps_are_made_as_the_page_has_it(tmp_path: Path) -> None:
    import numpy as np

    (script,) = blocks(DOCS / "guide" / "steps.md", "python")
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    assert np.load(tmp_path / "inputs.npy").shape == (16, 1, 8, 8)


def _tutorial(folder: Path) -> list[str]:
    """The tutorial's network lies in the folder; its commands."""
    (folder / "mine.py").write_text(blocks(TUTORIAL, "python")[0])
    return [line for block in blocks(TUTORIAL, "sh") for line in block.splitlines()]


def test_the_tutorial_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Its network, its import and its check."""
    monkeypatch.chdir(tmp_path)
    steps = _tutorial(tmp_path)
    assert [shlex.split(step)[1] for step in steps] == ["import", "check"]
    for step in steps:
        assert main(shlex.split(step)[1:]) == 0
    said = capsys.readouterr().out
    right = re.search(r"(\d+\.\d+)% right on the test images", said)
    assert right is not None and float(right[1]) > 90
    assert (tmp_path / "mine" / "mine.yaml").is_file() and "every layer can be hardened and built" in said


@pytest.mark.slow
def test_the_tutorial_ends_in_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flow that its import left, whole."""
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(_tutorial(tmp_path)[0])[1:]) == 0
    assert main(["run", "mine/mine.yaml"]) == 0
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()


def test_every_option_says_what_it_is() -> None:
    assert [f"bitward {name} {option.opts[0]}" for name, option in documented.options() if not option.help] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_of_a_flow_is_documented_with_its_default(kind: str) -> None:
    """A row for each key, in their order, its default and all words that it takes on it; and no row for another."""
    text = (DOCS / "guide" / "flows.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {kind}\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    rows = {
        key: (default, says) for key, default, says in re.findall(r"^\| `(.+?)` \| `(.+?)` \| (.+) \|$", section, re.M)
    }
    expected = keys(KINDS[kind])
    assert list(rows) == list(expected)
    assert {key: rows[key][0] for key in rows} == {key: each.default for key, each in expected.items()}
    missing = [
        f"{key}: {word}" for key, each in expected.items() for word in each.words if f"`{word}`" not in rows[key][1]
    ]
    assert missing == []


def test_every_target_and_variable_of_make_is_documented() -> None:
    text = (DOCS / "guide" / "make.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `make ([a-z-]+)` \|", text, flags=re.MULTILINE)
    assert sorted(rows) == sorted(documented.targets())
    variables = re.findall(r"^([A-Z]+) *\?=", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert variables and [name for name in (*variables, "CLK_MHZ") if not re.search(rf"`[^`]*{name}\b", text)] == []


def test_the_figures_are_counted() -> None:
    """`python tests/documented.py` prints them."""
    counts = documented.counts()
    assert int(counts["options"].split(",")[0]) > 100 and int(counts["commands"].split(",")[0]) >= 20


def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    words = ["-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path / "html"), "-d", str(tmp_path / "trees")]
    words += ["-D", "extensions=myst_parser,sphinx.ext.autodoc"]  # without viewcode's pages, which take as long again
    done = subprocess.run([sys.executable, "-m", "sphinx", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    html = tmp_path / "html"
    page = (html / "commands.html").read_text(encoding="utf-8")
    assert all(f"bitward {name}" in page for name in documented.commands())
    for name, option in documented.options():
        part = page.partition(f'id="bitward-{name}"')[2].partition("</section>")[0]
        assert any(spelling in part for spelling in option.opts), f"bitward {name} {option.opts}"
    _check_links(html)
    reference = "".join(path.read_text(encoding="utf-8") for path in (html / "reference").glob("*.html"))
    names = [f"{module}.{name}" for module, listed in _public().items() for name in listed]
    assert len(names) > 200
    assert [name for name in names if f'id="{name}"' not in reference] == []


def _public() -> dict[str, list[str]]:
    """The names that each module lists in `__all__`, without importing it."""
    found = {}
    roots = {"bitward": "python/bitward", "bitward_runtime": "board/runtime", "bitward_virtual": "board/virtual"}
    for top, folder in roots.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                    module = ".".join((top, *parts)).removesuffix(".__init__")
                    found[module] = list(ast.literal_eval(node.value))
    return found


def _check_links(html: Path) -> None:
    """What pages link to among themselves is there, places within pages too."""
    pages = {path.resolve(): path.read_text(encoding="utf-8") for path in html.rglob("*.html")}
    places = {path: set(re.findall(r'id="([^"]+)"', text)) for path, text in pages.items()}
    for page, text in pages.items():
        if "_modules" in page.parts:
            continue  # those are viewcode's own
        for target, place in set(re.findall(r'href="([^"#:]+\.html)(?:#([^"]*))?"', text)):
            path = (page.parent / target).resolve()
            assert path in pages and (not place or place in places[path]), f"{page.name}: {target}#{place}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_files_that_a_page_links_to_are_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = [link.partition("#")[0].replace("\\_", "_") for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    generated = {DOCS / "commands.md"}
    wanted = [page.parent / link for link in links if link and "://" not in link]
    assert [str(path) for path in wanted if not path.exists() and path.resolve() not in generated] == []


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """docs/draw.py."""
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module("draw")


def test_the_architecture_is_drawn_from_the_code_as_it_is(draw: ModuleType) -> None:
    stale = [path.name for path, text in draw.drawn() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "python docs/draw.py draws the architecture anew"


def test_the_architecture_has_every_package_and_every_import(draw: ModuleType) -> None:
    """Its arrows reach all that the files import, and nothing else; the imports are read by test_floors' own reader."""
    house = draw.read_house()
    assert {name for name in test_floors.HEIGHT if not name.startswith("__")} | set(draw.BESIDE) == set(house.says)
    for path in test_floors.FILES:
        here = path.relative_to(test_floors.PACKAGE).with_suffix("").parts[0]
        tops = {name.split(".")[1] for name, _ in test_floors._imported(path) if name.startswith("bitward.")}
        if here in house.imports:
            assert (tops & set(house.says)) - {here} <= house.imports[here]
    for name, below in house.imports.items():
        assert below <= _reached(draw.arrows(house), name)
        assert all(house.height[name] >= house.height[target] for target in below)
    assert all(f">{name}</text>" in draw.svg(house) for name in house.says)


def _reached(arrows: list[tuple[str, str]], name: str) -> set[str]:
    known, todo = set(), {name}
    while todo:
        todo = {target for source, target in arrows if source in todo} - known
        known |= todo
    return known


def test_an_import_that_is_not_drawn_is_seen(draw: ModuleType) -> None:
    """Negative control of the freshness: one import more, and the page is stale."""
    house = draw.read_house()
    more = replace(house, imports={**house.imports, "words": house.imports["words"] | {"registry"}})
    assert draw.svg(more) != draw.svg(house) and draw.table(more) != draw.table(house)


@pytest.mark.parametrize("picture", ["architecture.svg", "concepts.svg"])
def test_pictures_say_in_words_what_they_show(picture: str) -> None:
    root = ElementTree.parse(DOCS / picture).getroot()
    told = {child.tag.rpartition("}")[2]: child.text or "" for child in root}
    assert root.get("role") == "img" and len(told["title"]) > 10 and len(told["desc"]) > 200


def test_figures_of_the_four_papers_stand_where_the_page_says() -> None:
    """Each number of the column "here" is in the section, file or test that the row names."""
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| [^|]+ \| [^|]* \| ([^|]+) \| [^|]* \| \[[^]]*\]\(([^)]+)\)(?:: ([\w ]+))? \|$", _papers(), re.M
    )
    assert len(rows) >= 20
    for here, link, section in rows:
        if section:
            (text,) = re.findall(rf"^## {section}.*?(?=^## |\Z)", results, flags=re.MULTILINE | re.DOTALL)
        else:
            text = (DOCS / link).read_text(encoding="utf-8")
        for number in re.findall(r"\d[\d,]*(?:\.\d+)?", here):
            if len(number) > 2:
                assert number.rstrip(",") in text, f"{here}: {number} is not in {link} {section}"


def _papers() -> str:
    return (DOCS / "papers.md").read_text(encoding="utf-8")


def test_what_has_not_run_says_so_wherever_it_stands() -> None:
    marker = "not yet run on hardware"
    for page in ("README.md", "docs/guide/boards.md", "docs/guide/measuring.md", "docs/hardware.md", "docs/tutorial.md",
                 "docs/papers.md", "docs/concepts.svg", "board/README.md"):  # fmt: skip
        text = " ".join(re.sub(r"<[^>]*>", " ", (ROOT / page).read_text(encoding="utf-8")).split())
        assert marker in text, page

# SPDX-License-Identifier: Apache-2.0
"""Draws the architecture page from the code: floors from pyproject.toml, packages and imports from the sources.

`python docs/draw.py` writes docs/architecture.svg and the table in docs/architecture.md; building the documentation
does so too, and a test holds both to the code. An arrow is an import that no longer way of arrows already says.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import tomllib

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
PACKAGE = ROOT / "python" / "bitward"
BESIDE = {"bitward_runtime": ROOT / "board" / "runtime", "bitward_virtual": ROOT / "board" / "virtual"}
BEGIN, END = "<!-- drawn by docs/draw.py -->\n", "<!-- to here -->\n"
WIDTH, ROW, BOX, LEFT, TOP = 1060, 92, 30, 56, 20
FONT = "font-family='DejaVu Sans,Verdana,sans-serif'"


@dataclass(frozen=True)
class House:
    """The floors, lowest first, each with its packages; what each package imports of the others; what each is."""

    floors: tuple[tuple[str, ...], ...]
    on_the_board: int
    imports: dict[str, frozenset[str]]
    says: dict[str, str]

    @property
    def height(self) -> dict[str, int]:
        """The floor that each package is on."""
        return {name: floor for floor, names in enumerate(self.floors) for name in names}


def read_house() -> House:
    """The house as the code has it. What stands beside it, the board's packages, is one floor above all it imports."""
    drawn = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["bitward"]
    floors = [[name for name in floor if not name.startswith("__")] for floor in drawn["floors"]]
    places = {name: _place(name) for floor in floors for name in floor} | BESIDE
    imports = {name: frozenset(_imported(path, places) - {name}) for name, path in places.items()}
    height = {name: at for at, floor in enumerate(floors) for name in floor}
    for name in BESIDE:
        height[name] = 1 + max(height[below] for below in imports[name] if below in height)
        floors[height[name]].append(name)
    says = {name: _first_line(path) for name, path in places.items()}
    return House(tuple(map(tuple, floors)), drawn["floors-on-the-board"], imports, says)


def _place(name: str) -> Path:
    return PACKAGE / name if (PACKAGE / name).is_dir() else PACKAGE / f"{name}.py"


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def _first_line(path: Path) -> str:
    file = path if path.is_file() else path / "__init__.py"
    return (
        (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n\n")[0].replace("\n", " ")
    )


def _imported(path: Path, places: dict[str, Path]) -> set[str]:
    """The packages whose names stand in any import of the files, inside functions too."""
    names: set[str] = set()
    for file in _files(path):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    ours = {name.split(".")[1] for name in names if name.startswith("bitward.")}
    return ours & set(places) | {name.split(".")[0] for name in names} & set(BESIDE)


def arrows(house: House) -> list[tuple[str, str]]:
    """The imports that no way over other packages says already."""
    reach = {name: _reach(house, name) for name in house.imports}
    found = []
    for name, below in house.imports.items():
        for target in sorted(below):
            others = {other for other in below if other not in reach[target] and name not in reach[other]}
            if not any(target in reach[other] for other in others - {target}):
                found.append((name, target))
    return found


def _reach(house: House, name: str) -> set[str]:
    """All that a package imports, directly or not."""
    known: set[str] = set()
    todo = set(house.imports[name])
    while todo:
        known |= todo
        todo = {below for each in todo for below in house.imports[each]} - known
    return known


def _order(house: House, lines: list[tuple[str, str]]) -> list[list[str]]:
    """Packages of each floor from left to right, near to what they are joined with."""
    order = [list(floor) for floor in house.floors]
    for _ in range(8):
        at = {name: (index + 0.5) / len(row) for row in order for index, name in enumerate(row)}
        for row in order:
            joined = {name: [at[b if a == name else a] for a, b in lines if name in (a, b)] for name in row}
            row.sort(key=lambda name: (sum(joined[name]) / len(joined[name]) if joined[name] else 0.5, name))
    return order


def _boxes(order: list[list[str]]) -> dict[str, tuple[float, float, float]]:
    """Left edge, top edge and width of each package's box; the lowest floor is at the bottom."""
    found = {}
    for floor, names in enumerate(order):
        widths = [22 + 8.4 * len(name) for name in names]
        gap = (WIDTH - LEFT - 20 - sum(widths)) / (len(names) + 1)
        left = LEFT + gap
        for name, width in zip(names, widths, strict=True):
            found[name] = (left, TOP + (len(order) - 1 - floor) * ROW, width)
            left += width + gap
    return found


def svg(house: House) -> str:
    """The picture: floors with their packages, arrows down to what they import, the board's floors shaded."""
    lines = arrows(house)
    boxes = _boxes(_order(house, lines))
    tall = TOP + (len(house.floors) - 1) * ROW + BOX + 40
    shade = TOP + (len(house.floors) - house.on_the_board) * ROW - 22
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {tall}' role='img' aria-labelledby='t d'>",
        "<title id='t'>The floors of bitward</title>",
        f"<desc id='d'>{escape(in_words(house))}</desc>",
        f"<rect width='{WIDTH}' height='{tall}' rx='8' fill='#ffffff'/>",
        f"<rect x='{LEFT - 16}' y='{shade}' width='{WIDTH - LEFT + 6}' height='{tall - shade - 8}' rx='8' "
        "fill='#eef3f8'/>",
        f"<text x='{LEFT}' y='{tall - 18}' {FONT} font-size='13' fill='#334155'>shaded: numpy alone; these floors run "
        "on the board too</text>",
        *(_arrow(boxes, house, *line) for line in lines),
        *(_box(boxes, name, house.says[name], name in BESIDE) for name in boxes),
        *(
            f"<text x='14' y='{TOP + (len(house.floors) - 1 - floor) * ROW + 20}' {FONT} font-size='13' "
            f"fill='#64748b'>{floor}</text>"
            for floor in range(len(house.floors))
        ),
    ]
    return "\n".join([*parts, "</svg>", ""])


def _arrow(boxes: dict[str, tuple[float, float, float]], house: House, name: str, target: str) -> str:
    left, top, width = boxes[name]
    to_left, to_top, to_width = boxes[target]
    x, to_x = left + width / 2, to_left + to_width / 2
    if top == to_top:  # a neighbour on the same floor: below both
        path = f"M{x:.0f},{top + BOX} C{x:.0f},{top + BOX + 26} {to_x:.0f},{top + BOX + 26} {to_x:.0f},{top + BOX + 3}"
    else:
        bend = (to_top - top - BOX) / 2
        path = f"M{x:.0f},{top + BOX} C{x:.0f},{top + BOX + bend:.0f} "
        path += f"{to_x:.0f},{to_top - bend:.0f} {to_x:.0f},{to_top - 4}"
    tip = to_top - 4 if top != to_top else to_top + BOX + 3
    side = -5 if top != to_top else 5
    head = f"M{to_x - 3.5:.1f},{tip + side} L{to_x:.0f},{tip} L{to_x + 3.5:.1f},{tip + side}"
    return f"<path d='{path} {head}' fill='none' stroke='#94a3b8' stroke-width='1.2'/>"


def _box(boxes: dict[str, tuple[float, float, float]], name: str, says: str, is_beside: bool) -> str:
    left, top, width = boxes[name]
    dashes = " stroke-dasharray='5 3'" if is_beside else ""
    return (
        f"<g><title>{escape(says)}</title><rect x='{left:.0f}' y='{top}' width='{width:.0f}' height='{BOX}' rx='5' "
        f"fill='#ffffff' stroke='#1e3a5f' stroke-width='1.4'{dashes}/><text x='{left + width / 2:.0f}' y='{top + 20}' "
        f"{FONT} font-size='13.5' fill='#0f172a' text-anchor='middle'>{name}</text></g>"
    )


def in_words(house: House) -> str:
    """The same for those who do not see the picture."""
    floors = [f"floor {floor}: {', '.join(names)}" for floor, names in enumerate(house.floors)]
    return f"From the lowest floor up, each importing only from its own floor and those below it. {'; '.join(floors)}."


def table(house: House) -> str:
    """The packages from the lowest floor up: what each is, and what it imports of the others."""
    rows = ["| floor | package | what it is | imports |", "|---|---|---|---|"]
    for name, floor in sorted(house.height.items(), key=lambda item: (item[1], item[0])):
        below = ", ".join(sorted(house.imports[name])) or "nothing of ours"
        rows.append(f"| {floor} | `{name}` | {_plain(house.says[name])} | {below} |")
    return "\n".join(rows) + "\n"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<")


def drawn() -> Iterator[tuple[Path, str]]:
    """Each file, and the text that it must hold."""
    house = read_house()
    yield DOCS / "architecture.svg", svg(house)
    page = DOCS / "architecture.md"
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    yield page, f"{before}{BEGIN}{table(house)}{END}{rest.split(END)[1]}"


def main() -> None:
    """Both files are as the code is; what is already so is not written."""
    for path, text in drawn():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

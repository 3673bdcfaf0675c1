# SPDX-License-Identifier: Apache-2.0
"""Builds bitward-board from the checkout: the runtime, bitward's lowest floors, and what a board's own client imports.

Nothing is copied into the repository: modules go from where they lie into the wheel. `pip wheel ./board` builds in this
folder, as pip does since 21.3; there is no sdist, as half of the files lie outside it.
"""

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

import tomllib
from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel
from setuptools.command.sdist import sdist
from setuptools.errors import SetupError

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
PACKAGES = {"bitward": CHECKOUT / "python" / "bitward", "bitward_runtime": HERE / "runtime",
            "bitward_virtual": HERE / "virtual"}  # fmt: skip
NOTEBOOKS_NEED = "bitward.targets.board"  # what bitward_runtime.notebook imports by name
NO_MODULES = {"bitward_runtime.proto.generate"}  # makes the *_pb2 files, on a host
FILES = {  # in the wheel: patterns in the checkout
    "bitward_runtime/notebooks": ("board/notebooks/*.ipynb",),
    "bitward_runtime/overlays": ("board/overlays/*.bit", "board/overlays/*.hwh", "board/overlays/README.md"),
    "bitward_runtime": ("LICENSE",),
    "bitward/_files/board/kv260": ("board/kv260/board.yaml",),
}


def file_of(module: str) -> Path | None:
    """The file of a module of ours; None for any other name."""
    top, *rest = module.split(".")
    if top not in PACKAGES:
        return None
    path = PACKAGES[top].joinpath(*rest)
    found = (path / "__init__.py", path.with_suffix(".py"))
    return next((each for each in found if each.is_file()), None)


def modules_below(name: str) -> Iterator[str]:
    """A module, or a package and all that is in it."""
    path = file_of(name)
    if path is None:
        raise SetupError(f"{name} must be a module of this checkout, got no such file: build from a whole checkout.")
    yield name
    if path.name == "__init__.py":
        for below in path.parent.rglob("*.py"):
            yield ".".join((name, *below.relative_to(path.parent).with_suffix("").parts)).removesuffix(".__init__")


def imported_at_once(module: str) -> Iterator[str]:
    """The names that a module imports when it is imported, and the packages above it."""
    path = file_of(module)
    if path is None:
        return
    yield module.rpartition(".")[0]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in _outside_functions(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            stem = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            name = ".".join([*stem, *([node.module] if node.module else [])])
            yield from (name, *(f"{name}.{alias.name}" for alias in node.names))


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if not (isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")):
            yield child
            yield from _outside_functions(child)


def board_modules() -> list[str]:
    """Every module that goes onto the board: the runtime, the lowest floors, and what these import at once."""
    tool = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["bitward"]
    floors = [name for floor in tool["floors"][: tool["floors-on-the-board"]] for name in floor if name != "__init__"]
    todo = [name for floor in floors for name in modules_below(f"bitward.{floor}")]
    todo += [*modules_below("bitward_runtime"), NOTEBOOKS_NEED]
    known: set[str] = set()
    while todo:
        name = todo.pop()
        if name not in known | NO_MODULES and file_of(name) is not None:
            known.add(name)
            todo += imported_at_once(name)
    return sorted(known)


class BuildBoard(build_py):
    """The modules and files of the board, from the checkout into an empty folder."""

    def run(self) -> None:
        shutil.rmtree(self.build_lib, ignore_errors=True)  # modules that are no more would come along
        for source, target in self.files().items():
            path = Path(self.build_lib) / target
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, path)

    @staticmethod
    def files() -> dict[Path, str]:
        """Every file of the checkout that goes along, and its place in the wheel."""
        found: dict[Path, str] = {}
        for module in board_modules():
            path = file_of(module)
            if path is not None:
                top = module.partition(".")[0]
                found[path] = f"{top}/{path.relative_to(PACKAGES[top])}"
        for folder, patterns in FILES.items():
            found.update({path: f"{folder}/{path.name}" for each in patterns for path in sorted(CHECKOUT.glob(each))})
        return found

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [str(Path(self.build_lib) / target) for target in self.files().values()]

    def get_source_files(self) -> list[str]:
        return []


class NoSdist(sdist):
    """Refused: an archive of this folder alone could not be built."""

    def run(self) -> None:
        raise SetupError("bitward-board must be built as a wheel, got sdist: run make board-wheel in a checkout.")


class NotEditable(editable_wheel):
    """Refused: half of the modules lie elsewhere."""

    def run(self) -> None:
        raise SetupError(
            "bitward-board must be built as a wheel, got an editable install: install the checkout itself."
        )


def version() -> str:
    """bitward's, from its `__init__`."""
    tree = ast.parse((PACKAGES["bitward"] / "__init__.py").read_text(encoding="utf-8"))
    found = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    return str(ast.literal_eval(found["__version__"]))


if __name__ == "__main__":
    build = CHECKOUT / "build" / "board-wheel"  # which git ignores; this folder stays clean
    build.mkdir(parents=True, exist_ok=True)
    setup(
        version=version(),
        packages=sorted(PACKAGES),
        package_dir={name: str(Path("..", path.relative_to(CHECKOUT))) for name, path in PACKAGES.items()},
        cmdclass={"build_py": BuildBoard, "sdist": NoSdist, "editable_wheel": NotEditable},
        options={"build": {"build_base": str(build)}, "egg_info": {"egg_base": str(build)}},
    )

# SPDX-License-Identifier: Apache-2.0
"""What README.md and docs/ tell people to type, and which test runs each of it. `python tests/documented.py` counts.

- A line of a ```sh block is run: by the test that RUN_ELSEWHERE names, or, one after the other, by
  test_readme.py::test_the_steps_by_hand_run_one_after_the_other.
- A line of a ```console block is run by the test that RUN_ELSEWHERE names, or NOT_RUN says why none can.
- A ```python block is run, all of a page's together (test_docs.py).
- Commands in sentences are spelled as the program spells them: commands, options, make's targets. Examples behind
  --help are parsed as the program parses them.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from pydantic import BaseModel
from shared_runs import ROOT

from bitward.cli._main import root
from bitward.flow.sensitivity_spec import SensitivityFlow
from bitward.flow.software_spec import SoftwareFlow
from bitward.flow.spec import Flow

DOCS = ROOT / "docs"
GENERATED = ("commands.md",)
PAGES = (ROOT / "README.md", *sorted(path for path in DOCS.rglob("*.md") if path.name not in GENERATED))
BITWARD = ".venv/bin/bitward"
STEP_PAGES = ("README.md", "docs/guide/networks.md", "docs/guide/steps.md")
PROMPTS = ("$ ", "host$   ", "kria#   ")
RUN_ELSEWHERE = {
    "make demo": "test_readme.py::test_make_demo_is_the_shared_run",
    "make test": "test_readme.py::test_make_targets_are_what_the_readme_says",
    "make board-wheel": "board/test_board_wheel.py::test_make_builds_it_without_an_index",
    "make bitstream BOARD=virtual": "test_readme.py::test_make_bitstream_leaves_an_overlay_that_loads",
    "make bitstream BOARD=kv260": "hardware/test_vivado_command.py::test_make_bitstream_for_a_kv260_runs_vivado",
    f"{BITWARD} doctor": "test_readme.py::test_doctor_passes_here",
    f"{BITWARD} run flows/digits.yaml": "test_readme.py::test_make_demo_is_the_shared_run",
    f"{BITWARD} run digits --shipped --to verify": (
        "test_flow_shipped.py::test_every_image_of_the_shipped_model_is_equal"
    ),
    f"{BITWARD} run flows/digits-mlp.yaml": "test_readme.py::test_make_bitstream_leaves_an_overlay_that_loads",
    f"{BITWARD} inject flows/digits.yaml --on rtl": "test_readme.py::test_inject_by_hand",
    f"{BITWARD} trials runs/digits/campaigns/strata-plain": "test_readme.py::test_trials_by_hand",
    f"{BITWARD} report runs/digits": "test_readme.py::test_report_by_hand",
    f"{BITWARD} watch runs/digits --once": "test_readme.py::test_watch_by_hand",
    f"{BITWARD} import mine.py:build --dataset digits --bits 4 --epochs 60 --name mine --out mine": (
        "test_docs.py::test_the_tutorial_does_what_it_says"
    ),
    f"{BITWARD} check mine/mine.onnx": "test_docs.py::test_the_tutorial_does_what_it_says",
    f"{BITWARD} run mine/mine.yaml": "test_docs.py::test_the_tutorial_ends_in_a_report",
    "python3 -m pip install bitward_board-0.1.0-py3-none-any.whl": (
        "board/test_board_wheel.py::test_every_module_imports_with_numpy_grpcio_and_protobuf_alone"
    ),
    "bitward-serve --overlays .": (
        "board/test_board_wheel.py::test_a_notebook_on_the_board_reaches_the_server_beside_it"
    ),
}
NOT_RUN = {
    "git clone REPOSITORY bitward && cd bitward": "where the repository lies is the reader's to know",
    "scp build/bitward_board-0.1.0-py3-none-any.whl runs/digits/overlay-kv260/overlay/* root@kria:": "needs a KV260",
    "source /etc/profile.d/pynq_venv.sh": "needs a KV260",
    "ssh -N -L 7967:127.0.0.1:7967 root@kria &": "needs a KV260",
    f"{BITWARD} measure runs/digits/overlay-kv260 --host 127.0.0.1": "needs a KV260; test_kria.py measures a stand-in",
}


@dataclass(frozen=True)
class Line:
    """A command as a page has it, its comment removed."""

    page: Path
    kind: str  # sh, console, sentence or help
    text: str

    @property
    def page_name(self) -> str:
        """The page's path from the repository's root."""
        return str(self.page.relative_to(ROOT))


def blocks(page: Path, kind: str) -> list[str]:
    """The text of the fenced blocks of a kind."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}[^\n]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def command_of(line: str) -> str:
    """A line without its comment."""
    return line.split("  #")[0].split(" # ")[0].strip()


def _in_blocks(page: Path, kind: str) -> Iterator[Line]:
    for block in blocks(page, kind):
        for line in block.splitlines():
            prompt = next((prompt for prompt in PROMPTS if line.startswith(prompt)), "")
            if (text := command_of(line.removeprefix(prompt))) and not text.startswith("#"):
                yield Line(page, kind, text)


def _in_sentences(page: Path) -> Iterator[Line]:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for found in re.findall(r"`((?:\.venv/bin/)?bitward [a-zA-Z][^`]*|make [a-z][^`]*)`", text):
        yield Line(page, "sentence", " ".join(found.split()))


def _in_help() -> Iterator[Line]:
    """The examples that commands print behind --help, which the commands page has."""
    for command in commands().values():
        for found in re.findall(r"^ +(bitward [a-z].*)$", command.help or "", flags=re.MULTILINE):
            yield Line(DOCS / "commands.md", "help", command_of(found))


def lines(kind: str) -> list[Line]:
    """Every line of a kind, in the order of pages."""
    if kind == "help":
        return list(_in_help())
    if kind == "sentence":
        return [line for page in PAGES for line in _in_sentences(page)]
    return [line for page in PAGES for line in _in_blocks(page, kind)]


def steps(page_name: str) -> list[str]:
    """The lines of a page's ```sh blocks that no other test runs."""
    return [line.text for line in lines("sh") if line.page_name == page_name and line.text not in RUN_ELSEWHERE]


def source_of_test(place: str) -> str:
    """The text of a test function, "FILE::NAME" below tests/; "" where there is none."""
    file, _, name = place.partition("::")
    path = ROOT / "tests" / file
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8")
    functions = (node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef))
    return next((ast.get_source_segment(text, node) or "" for node in functions if node.name == name), "")


def commands() -> dict[str, click.Command]:
    """Every command of the program, by name."""
    context = click.Context(root)
    found = {name: root.get_command(context, name) for name in root.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def options() -> list[tuple[str, click.Option]]:
    """Every option of every command that its help shows."""
    return [
        (name, option)
        for name, command in commands().items()
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden
    ]


def targets() -> dict[str, str]:
    """The Makefile's targets that `make help` lists, and what it says of each."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z-]+):.*## +(.*)$", text, flags=re.MULTILINE))


KINDS: dict[str, type[BaseModel]] = {"Flow": Flow, "SoftwareFlow": SoftwareFlow, "SensitivityFlow": SensitivityFlow}


@dataclass(frozen=True)
class Key:
    """What a page must say of a flow's key: its default as YAML has it, and the words that it may be."""

    default: str
    words: tuple[str, ...]


def keys(model: type[BaseModel], prefix: str = "") -> dict[str, Key]:
    """Every key of a kind of flow by its dotted path."""
    found: dict[str, Key] = {}
    for name, field in model.model_fields.items():
        kinds: tuple[Any, ...] = (field.annotation, *get_args(field.annotation))
        section = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if section is not None:
            found |= keys(section, f"{prefix}{name}.")
        else:
            default = "required" if field.is_required() else field.get_default(call_default_factory=True)
            found[prefix + name] = Key(written(default), tuple(_words(field.annotation)))
    return found


def _words(annotation: Any) -> Iterator[str]:
    """The strings that a type allows one by one, at any depth."""
    if get_origin(annotation) is Literal:
        yield from (word for word in get_args(annotation) if isinstance(word, str))
    else:
        for part in get_args(annotation):
            yield from _words(part)


def written(value: Any) -> str:
    """A default as YAML has it, in short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(written, value))}]"
    if value is None or value in ("", {}):
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def named_in_tests(option: str) -> bool:
    """Whether a test passes the option."""
    return option in _words_of_tests()


def _words_of_tests(cache: dict[str, set[str]] = {}) -> set[str]:  # noqa: B006  read once
    if not cache:
        paths = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__).resolve()]
        cache["all"] = {word for path in paths for word in re.findall(r"--?[a-z][a-z-]*", path.read_text("utf-8"))}
        documented = [line.text for kind in ("sh", "console") for line in lines(kind)]
        cache["all"] |= {word.split("=")[0] for text in documented for word in shlex.split(text) if word[:1] == "-"}
    return cache["all"]


def counts() -> dict[str, str]:
    """The figures: what is documented, and how much of it tests execute or check."""
    typed = [*lines("sh"), *lines("console")]
    not_run = [line for line in typed if line.kind == "console" and line.text in NOT_RUN]
    snippets = [block for page in PAGES for block in blocks(page, "python")]
    flow_keys = [key for kind in KINDS.values() for key in keys(kind)]
    passed = [option for _, option in options() if any(map(named_in_tests, (*option.opts, *option.secondary_opts)))]
    return {
        "pages": str(len(PAGES)),
        "command lines in blocks": f"{len(typed)}, {len(typed) - len(not_run)} executed, {len(not_run)} need a board",
        "Python snippets": f"{len(snippets)}, all executed",
        "commands in sentences": f"{len(lines('sentence'))}, spelling checked",
        "examples in --help": f"{len(lines('help'))}, parsed as the program parses them",
        "commands": f"{len(commands())}, all on the commands page",
        "options": f"{len(options())}, all on the commands page; {len(passed)} named by a test or an executed line",
        "flow keys": f"{len(flow_keys)}, all in docs/guide/flows.md with their defaults",
        "make targets": f"{len(targets())}, all in docs/guide/make.md",
    }


if __name__ == "__main__":
    for what, count in counts().items():
        print(f"{what:24} {count}")

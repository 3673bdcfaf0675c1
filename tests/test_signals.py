# SPDX-License-Identifier: Apache-2.0
"""A signal's exception is raised where it leaves no lock held and somebody hears it; else soon afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from typing import Any

import pytest

from bitward.cli._ending import Ending
from bitward.targets.deadline import DeadlineError, deadline

SOON_S = 1.0


def inside(package: str, text: str) -> Callable[..., Any]:
    """A function `call(did)` of a module of that package."""
    names: dict[str, Any] = {"__name__": f"{package}.module", "os": os, "signal": signal, "time": time}
    exec("def call(did):\n" + "".join(f"    {line}\n" for line in text.splitlines()), names)
    return names["call"]


TELLING = "os.kill(os.getpid(), signal.SIGTERM)\nfor _ in range(1000):\n    pass\ndid.append('whole')"


@pytest.fixture(autouse=True)
def unhandled() -> Iterator[None]:
    """SIGTERM is heard as a shell's command hears it, whoever listens to it else."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def cut_off(call: Callable[[], Any]) -> None:
    """The call, or what follows it soon, is cut off by a KeyboardInterrupt."""
    with pytest.raises(KeyboardInterrupt), Ending() as ending:
        call()
        time.sleep(SOON_S)
    assert ending.told
    assert ending.exit_code == 143


@pytest.mark.parametrize("package", ["grpc", "threading", "concurrent", "logging"])
def test_code_that_holds_locks_is_not_cut_in_two(package):
    did: list[str] = []
    cut_off(lambda: inside(package, TELLING)(did))
    assert did == ["whole"]


def test_code_that_is_called_by_what_holds_locks_is_not_cut_in_two():
    did: list[str] = []
    cut_off(lambda: inside("grpc", "did.append(did.pop()(did))")([inside("bitward", TELLING)]))
    cut_off(lambda: inside("bitward", TELLING)(did))
    assert did == []  # by itself it is


def test_a_library_in_c_is_loaded_whole(monkeypatch):
    did: list[str] = []
    monkeypatch.setattr("_imp.create_dynamic", lambda _: inside("bitward", TELLING)(did))
    loader = ExtensionFileLoader("library", "/library.so")
    cut_off(lambda: loader.create_module(ModuleSpec("library", loader)))
    assert did == ["whole"]


def test_waiting_is_cut_off_at_once():
    thread = threading.Thread(target=time.sleep, args=(SOON_S,))
    thread.start()
    for wait in (threading.Event().wait, thread.join):
        started = time.monotonic()
        killer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM))
        killer.start()
        cut_off(wait)
        assert time.monotonic() - started < SOON_S / 2
        killer.join()
    thread.join()


def test_a_destructor_is_not_cut_in_two():
    did: list[str] = []

    class Closing:
        def __del__(self) -> None:
            inside("bitward", TELLING)(did)

    cut_off(lambda: Closing() and None)
    assert did == ["whole"]


def test_where_nobody_hears_it_the_exception_is_raised_again(capsys):
    class Thing:
        pass

    thing = Thing()
    reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    things = [thing]
    del thing
    cut_off(things.clear)
    assert reference() is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("caught", ["", " BaseException"])
def test_where_it_is_swallowed_the_exception_is_raised_again(caught):
    did: list[str] = []
    text = f"try:\n    {TELLING.splitlines()[0]}\n    time.sleep(60)\nexcept{caught}:\n    did.append('swallowed')"
    cut_off(lambda: inside("brevitas", text)(did))
    assert did == ["swallowed"]


def test_while_it_is_on_its_way_the_exception_is_not_raised_again():
    did: list[str] = []

    def clean_up() -> None:
        try:
            inside("bitward", TELLING)(did)
        finally:
            time.sleep(0.2)
            did.append("cleaned up")

    cut_off(clean_up)
    assert did == ["cleaned up"]


def test_every_signal_has_patience_with_code_that_holds_locks(monkeypatch):
    monkeypatch.setattr("bitward.cli._ending.PATIENCE_S", 0.2)
    did: list[str] = []

    def clean_up() -> None:
        try:
            inside("bitward", TELLING)(did)
        finally:
            time.sleep(0.3)
            inside("grpc", TELLING)(did)
            time.sleep(SOON_S)

    cut_off(clean_up)
    assert did == ["whole"]


def test_once_it_is_heard_no_signal_raises_anything():
    with Ending() as ending:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        ending.heard()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
    assert ending.exit_code == 143


def test_a_signal_within_a_text_that_is_executed_gives_its_exit_code(tmp_path):
    (tmp_path / "told.py").write_text(
        "import sys, click\nfrom bitward.cli import doctor, main\n"
        "@click.command()\ndef command():\n    exec('import os; os.kill(os.getpid(), 15)')\n"
        "doctor.command = command\nsys.exit(main(['doctor']))\n"
    )
    told = subprocess.run([sys.executable, "-m", "told"], cwd=tmp_path, capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (143, "bitward: interrupted\n")


def test_what_is_ignored_besides_is_told_as_ever(monkeypatch):
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)

    class Failing:
        def __del__(self) -> None:
            raise ValueError("in a destructor")

    with Ending():
        Failing()
    assert [each.exc_type for each in told] == [ValueError]
    assert sys.unraisablehook == told.append


def test_code_that_holds_locks_for_long_is_cut_off_all_the_same(monkeypatch):
    monkeypatch.setattr("bitward.cli._ending.PATIENCE_S", 0.2)
    did: list[str] = []
    started = time.monotonic()
    cut_off(lambda: inside("grpc", TELLING.replace("did.", "time.sleep(60)\ndid."))(did))
    assert did == []
    assert 0.2 <= time.monotonic() - started < 30


def test_a_signal_that_finds_no_place_before_the_end_is_none():
    text = (
        "import os, signal, sys\nfrom bitward.cli._ending import Ending\n"
        "names = {'__name__': 'grpc', 'os': os, 'signal': signal}\n"
        "exec('def call():\\n    os.kill(os.getpid(), signal.SIGTERM)\\n    ending.__exit__(None, None, None)',\n"
        "     names)\n"
        "with Ending() as names['ending']:\n    names['call']()\n"
        "import time; time.sleep(0.3); print('ended')"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


def test_a_deadline_does_not_cut_code_that_holds_locks_in_two(monkeypatch):
    did: list[str] = []
    busy = "ends = time.monotonic() + 0.2\nwhile time.monotonic() < ends:\n    pass\ndid.append('whole')"
    with pytest.raises(DeadlineError), deadline(0.05):
        inside("grpc", busy)(did)
        time.sleep(SOON_S)
    assert did == ["whole"]
    monkeypatch.setattr("bitward.targets.deadline.PATIENCE_S", 0.02)
    with pytest.raises(DeadlineError), deadline(0.05):
        inside("grpc", busy)(did)
    assert did == ["whole"]

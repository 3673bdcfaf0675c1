# SPDX-License-Identifier: Apache-2.0
"""Where a board is, and who may use it: the options, TLS and tokens from the command line to the server and back."""

from __future__ import annotations

import json
import pickle
import re
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import click
import numpy as np
import pytest
from bitward_runtime.connection import Connection, Credentials, connection_of
from bitward_runtime.diagnosis import trusted, why_not
from bitward_runtime.extension_client import ExtensionClient, LostError
from bitward_runtime.security import Access
from bitward_runtime.server import Server
from bitward_virtual.board import VirtualBoard
from click.testing import CliRunner
from small_design import ELEMENTS, make_small_build

from bitward import tools
from bitward.cli import main
from bitward.cli._board import board_options
from bitward.errors import BoardError, ConfigError
from bitward.faults import Fault
from bitward.flow.attack import Place
from bitward.targets.board import BoardTarget

HERE = Path(__file__).parent
CA, TOKEN = Path("ca.pem"), Path("token")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None,), Connection(None, 7967)),
        ((None, 8000), Connection(None, 8000)),
        (("kria",), Connection("kria", 7967)),
        (("kria.lab-2.example:8000",), Connection("kria.lab-2.example", 8000)),
        (("10.0.0.2", 8000), Connection("10.0.0.2", 8000)),
        (("10.0.0.2:8000", 8000), Connection("10.0.0.2", 8000)),
        (("::1",), Connection("::1", 7967)),
        (("fe80::2%eth0",), None),
        (("[fe80::2%eth0]:9",), Connection("fe80::2%eth0", 9)),
        (("[::1]",), Connection("::1", 7967)),
        (("[::1]:8000",), Connection("::1", 8000)),
        (("kria", None, CA, TOKEN), Connection("kria", 7967, Credentials(CA, TOKEN))),
    ],
)
def test_what_names_a_board(given, expected):
    if expected is None:
        with pytest.raises(ConfigError, match=r"^--host must be HOST or HOST:PORT"):
            connection_of(*given)
        return
    found = connection_of(*given)
    assert found == expected
    assert pickle.loads(pickle.dumps(found)) == found  # it goes to workers


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("kria:0",), r"--host must be HOST or HOST:PORT with a port of 1 to 65535, got 'kria:0': write \[::1\]:7967"),
        (("kria:65536",), r"--host must be .* got 'kria:65536': "),
        (("kria:http",), r"--host must be .* got 'kria:http': "),
        (("http://kria",), r"--host must be .* got 'http://kria': "),
        (("kria", 1, None, None, "kria:2"), r"the board's port must be given once, got 2 by --host and 1 by --port: "),
        (("",), r"--host must be .* got '': "),
        (("kria", None, CA), r"--tls-ca and --token-file must be given together, got ca.pem alone: a server that"),
        (("kria", None, None, TOKEN), r"--tls-ca and --token-file must be given together, got token alone: a server"),
        ((None, None, CA, TOKEN), r"--tls-ca and --token-file must go with --host, got no host: name the board's$"),
    ],
)
def test_what_names_none_is_refused(given, message):
    where, rest = (given[4], given[1:4]) if len(given) == 5 else (given[0], given[1:])
    with pytest.raises(ConfigError, match=f"^{message}"):
        connection_of(where, *rest)


def test_the_options_give_one_board_or_several():
    seen: dict[str, Any] = {}

    @click.command()
    @board_options()
    def one(connection: Connection) -> None:
        seen["one"] = connection

    @click.command()
    @board_options(many=True)
    def several(connections: tuple[Connection, ...]) -> None:
        seen["several"] = connections

    runner = CliRunner()
    assert runner.invoke(one, ["--host", "a:1", "--tls-ca", "ca.pem", "--token-file", "token"]).exit_code == 0
    assert seen["one"] == Connection("a", 1, Credentials(CA, TOKEN))
    assert runner.invoke(several, ["--host", "a:1", "--host", "b", "--port", "1"]).exit_code == 0
    assert seen["several"] == (Connection("a", 1), Connection("b", 1))
    assert runner.invoke(several, []).exit_code == 0 and seen["several"] == (Connection(),)
    assert [str(each) for each in (Connection(), Connection("a", 1), Connection("::1"))] == [
        "a virtual board", "a:1", "[::1]:7967",
    ]  # fmt: skip


# ---- TLS and tokens, from command to server --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small_build(tmp_path_factory.mktemp("small") / "build")


@pytest.fixture(scope="module")
def emulator(small: Path, tls: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Popen[bytes], int]]:
    """A server process of `emulate`, with TLS and a token."""
    log = tmp_path_factory.mktemp("log") / "log"
    command = [sys.executable, HERE / "small_board.py", small, tls.certificate, tls.key, tls.token_file]
    process = tools.popen(command, log=log)
    assert process.stdout is not None
    ready = process.stdout.readline().decode()
    found = re.search(r"127\.0\.0\.1:(\d+)", ready)
    assert found, ready + log.read_text()
    yield process, int(found[1])
    process.terminate()
    process.wait(10)
    process.stdout.close()


@pytest.fixture
def shown(emulator: tuple[Popen[bytes], int], tls: Access) -> list[str]:
    """The options of a client that may."""
    where = f"127.0.0.1:{emulator[1]}"
    return ["--host", where, "--tls-ca", str(tls.certificate), "--token-file", str(tls.token_file)]


def test_scrub_and_infer_go_over_tls(small: Path, shown: list[str], tmp_path: Path, capsys):
    assert main(["scrub", str(small), *shown, "--upsets", "3", "--passes", "2"]) == 0
    assert "upsets: 6 made" in capsys.readouterr().out
    images = np.arange(2 * ELEMENTS).reshape(2, ELEMENTS)
    np.save(tmp_path / "in.npy", images)
    given = [str(small), str(tmp_path / "in.npy"), str(tmp_path / "out.npy")]
    assert main(["infer", *given, "--on", "board", *shown]) == 0
    with BoardTarget(small, "127.0.0.1", *_last(shown)) as target:
        assert np.array_equal(np.load(tmp_path / "out.npy"), target.infer(images))


def _last(shown: list[str]) -> tuple[int, Credentials]:
    found = connection_of(shown[1], None, Path(shown[3]), Path(shown[5]))
    assert found.credentials is not None
    return found.port, found.credentials


def test_a_campaigns_place_has_the_credentials(small: Path, shown: list[str]):
    port, credentials = _last(shown)
    place = pickle.loads(pickle.dumps(Place("board", small, "127.0.0.1", port, credentials)))
    with place.target() as target:
        golden = target.read("narrow", 0)
        target.inject(Fault("narrow", 0, 5))
        assert target.read("narrow", 0) == golden ^ 1 << 5
        target.restore(Fault("narrow", 0, 5))


def refused(small: Path, options: list[str], capsys: Any) -> str:
    assert main(["scrub", str(small), *options]) == 1
    return capsys.readouterr().err


def test_a_wrong_token_is_refused_in_a_sentence(small: Path, shown: list[str], tmp_path: Path, capsys):
    wrong = tmp_path / "token"
    wrong.write_text("fedcba9876543210fedcba9876543210\n")
    error = refused(small, [*shown[:4], "--token-file", str(wrong)], capsys)
    assert error == ("bitward: a call must carry the server's token, got none or a wrong one; pass the token file\n")


def test_a_missing_or_foreign_certificate_is_told(small: Path, shown: list[str], tls: Access, tmp_path: Path, capsys):
    none = str(tmp_path / "none.pem")
    error = refused(small, [*shown[:2], "--tls-ca", none, *shown[4:]], capsys)
    assert error == f"bitward: {none} must be a readable file, got No such file or directory; name the right one\n"
    key = ["--tls-ca", str(tls.key)]
    error = refused(small, [*shown[:2], *key, *shown[4:]], capsys)
    assert error.startswith(f"bitward: {tls.key} must hold the certificate of the board's server or of its authority, ")
    other = self_signed(tmp_path, "IP:127.0.0.1")
    error = refused(small, [*shown[:2], "--tls-ca", str(other), *shown[4:]], capsys)
    assert re.match(
        rf"bitward: the board at \S+ must show a certificate that {other} vouches for, got another \(.+\); "
        r"name the right one by --tls-ca, and the host as the certificate has it\n$",
        error,
    )


def test_a_host_that_the_certificate_does_not_name_is_told(small: Path, shown: list[str], capsys):
    error = refused(small, ["--host", shown[1].replace("127.0.0.1", "localhost"), *shown[2:]], capsys)
    assert "must show a certificate that " in error and "ostname mismatch" in error


def self_signed(folder: Path, name: str) -> Path:
    certificate, key = folder / "other.pem", folder / "other.key"
    what = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=other"]
    where = ["-addext", f"subjectAltName={name}", "-keyout", key, "-out", certificate]
    tools.run(["openssl", "req", "-x509", *what, *where], log=folder / "openssl.log")
    return certificate


def test_a_client_without_tls_before_a_server_with_it(small: Path, shown: list[str], capsys):
    error = refused(small, shown[:2], capsys)
    assert re.match(
        r"bitward: the board at \S+ must be spoken to over TLS, got a client without; give its certificate "
        r"and the token \(--tls-ca, --token-file\)\n$",
        error,
    )


def test_a_client_with_tls_before_a_server_without(board: VirtualBoard, small: Path, tls: Access, capsys):
    with Server(board, port=0) as server:
        credentials = ["--tls-ca", str(tls.certificate), "--token-file", str(tls.token_file)]
        error = refused(small, ["--host", f"127.0.0.1:{server.port}", *credentials], capsys)
    assert re.match(
        r"bitward: the board at \S+ must serve TLS to be given a token, got a server without; leave ",
        error,
    )


def test_a_token_is_never_sent_in_plain(tls: Access):
    """A listener that is no TLS server sees a ClientHello and nothing of the token."""
    seen = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)

        def listen() -> None:
            for _ in range(2):
                try:
                    connection, _peer = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(1)
                    seen.extend(connection.recv(65536))

        thread = threading.Thread(target=listen)
        thread.start()
        credentials = Credentials(tls.certificate, tls.token_file)
        client = ExtensionClient.connect("127.0.0.1", listener.getsockname()[1], credentials)
        with pytest.raises(BoardError, match=r"^the board at \S+ must "):
            client.hello(within_s=2)
        client.close()
        thread.join()
    assert seen and tls.token() not in seen.decode("latin-1")


def test_a_server_that_is_not_there_is_lost_not_misspoken(tls: Access):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for credentials in (None, Credentials(tls.certificate, tls.token_file)):
        client = ExtensionClient.connect("127.0.0.1", port, credentials)
        with pytest.raises(LostError, match=r"^the board at \S+ must answer, got no connection; is its server"):
            client.hello()
        client.close()
        assert why_not("the board", Connection("127.0.0.1", port, credentials)) is None
    assert why_not("the board", Connection()) is None


def test_certificates_to_trust_are_pem(tls: Access, tmp_path: Path):
    assert trusted(tls.certificate) == tls.certificate.read_bytes()
    empty = tmp_path / "empty.pem"
    for content in (b"", b"\xff\x00", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        empty.write_bytes(content)
        with pytest.raises(BoardError, match=r"^\S+/empty.pem must hold the certificate of the board's server or of "):
            trusted(empty)


def test_a_simulated_board_behind_tls_is_measured(mlp_run, tls: Access, tmp_path: Path, capsys):
    """RTL behind `bitward emulate` with TLS, measured by the command."""
    build = mlp_run.build("hardened")
    given = ["--tls-cert", tls.certificate, "--tls-key", tls.key, "--token-file", tls.token_file]
    process = tools.popen([sys.executable, "-m", "bitward", "emulate", build, "--port", "0", *given],
                          log=tmp_path / "log")  # fmt: skip
    assert process.stdout is not None
    try:
        found = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline().decode())
        assert found, (tmp_path / "log").read_text()
        shown = ["--host", found[0], "--tls-ca", str(tls.certificate), "--token-file", str(tls.token_file)]
        short = ["--images", "2", "--batches", "1", "--passes", "1", "--transfers", "0"]
        assert main(["measure", str(build), *shown, *short, "--out", str(tmp_path / "m.json")]) == 0
        assert "power: not measured: " in capsys.readouterr().out
        assert json.loads((tmp_path / "m.json").read_text())["golden"]["differing"] == 0
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()

# SPDX-License-Identifier: Apache-2.0
"""Published files are downloaded whole and checked, from a server on this machine."""

from __future__ import annotations

import hashlib
import io
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from fashion_files import fashion_files, is_fashion

from bitward.cli import main
from bitward.datasets import fashion_mnist, load_dataset
from bitward.datasets._download import download
from bitward.datasets._published import Published
from bitward.errors import ConfigError, OutputError, ToolError


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch, tmp_path):
    monkeypatch.delenv("BITWARD_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


def md5(data):
    return hashlib.md5(data).hexdigest()


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    """The four files, gzipped, their sums as if published."""
    monkeypatch.setattr(fashion_mnist, "DOWNLOADS", fashion_files(tmp_path / "fashion"))
    return tmp_path / "fashion"


CONTENT = np.random.default_rng(0).integers(0, 256, 700_000, dtype=np.uint8).tobytes()


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT at any path but /none; the class's attributes say how well."""

    ranges = True
    cut_at: int | None = None
    asked: list

    def do_GET(self):
        if self.path == "/none":
            self.send_error(404)
            return
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if self.ranges else 0
        self.asked.append(start)
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : self.cut_at])

    def log_message(self, *_):
        """Nothing is printed."""


@pytest.fixture
def server():
    """A local HTTP server, and its handler's class."""
    handler = type("Handler", (Server,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        thread = threading.Thread(target=partial(served.serve_forever, poll_interval=0.01))
        thread.start()
        handler.url = f"http://127.0.0.1:{served.server_port}"
        yield handler
        served.shutdown()
        thread.join()


def published(server, name="file.bin", sum_=None):
    return Published(name, f"{server.url}/{name}", sum_ or md5(CONTENT))


def test_a_file_is_fetched_once(server, tmp_path):
    told = []
    path = download(published(server), tmp_path / "new", lambda *said: told.append(said))
    assert path == tmp_path / "new" / "file.bin" and path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT)) and len(told) > 1
    assert download(published(server), tmp_path / "new") == path and server.asked == [0]
    path.write_bytes(b"damaged")
    assert download(published(server), tmp_path / "new").read_bytes() == CONTENT and server.asked == [0, 0]
    assert [each.name for each in path.parent.iterdir()] == ["file.bin"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_was_cut_off_goes_on(server, tmp_path, ranges):
    server.ranges, server.cut_at = ranges, 300_000
    sentence = rf"^{server.url}/file\.bin must be reachable, got 300000 of 700000 bytes: call this again, or fetch the "
    with pytest.raises(ToolError, match=sentence + rf"file elsewhere and put it at {tmp_path}/file\.bin$"):
        download(published(server), tmp_path)
    assert not (tmp_path / "file.bin").exists()
    server.cut_at = None
    told = []
    path = download(published(server), tmp_path, lambda *said: told.append(said))
    assert path.read_bytes() == CONTENT and server.asked == [0, 300_000 if ranges else 0]
    assert told[-1] == (len(CONTENT), len(CONTENT)) and (told[0][0] > 300_000) == ranges


def test_a_whole_file_that_was_not_renamed_is_taken(server, tmp_path):
    (tmp_path / "file.bin.unfinished").write_bytes(CONTENT)
    assert download(published(server), tmp_path).read_bytes() == CONTENT and server.asked == [len(CONTENT)]


def test_other_bytes_than_the_published_are_refused(server, tmp_path):
    wrong = "0" * 32
    sentence = rf"^{server.url}/file\.bin must have the published md5 sum {wrong}, got {md5(CONTENT)}: it is damaged or"
    with pytest.raises(ConfigError, match=sentence):
        download(published(server, sum_=wrong), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_server_that_cannot_be_reached_is_said(server, tmp_path):
    with pytest.raises(ToolError, match=rf"^{server.url}/none must be reachable, got HTTP status 404: call this again"):
        download(published(server, "none"), tmp_path)
    nowhere = Published("file.bin", "http://127.0.0.1:9/file.bin", "")
    with pytest.raises(
        ToolError, match=r"^http://127\.0\.0\.1:9/file\.bin must be reachable, got .*refused: call this"
    ):
        download(nowhere, tmp_path)


def test_a_folder_that_cannot_be_written_is_said(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"^.*/file/below must be "):
        download(published(server), tmp_path / "file" / "below")


def test_bitward_data_downloads_what_load_dataset_finds(fashion, tmp_path, monkeypatch, capsys):
    """As typed: into bitward's cache, where the dataset is found without being told."""
    monkeypatch.setattr("bitward.datasets._download.urlopen", partial(from_folder, fashion))
    assert main(["data", "fashion_mnist"]) == 0
    lines = capsys.readouterr().out.split()
    assert lines[0] == str(tmp_path / "cache/bitward/data/fashion_mnist/train-images-idx3-ubyte.gz") and len(lines) == 4
    is_fashion(load_dataset("fashion_mnist"))
    assert main(["data", "fashion_mnist", "--to", str(tmp_path / "to")]) == 0
    is_fashion(load_dataset("fashion_mnist", tmp_path / "to"))
    monkeypatch.setenv("BITWARD_DATA", str(tmp_path / "to"))
    assert main(["data", "fashion_mnist"]) == 0
    assert (tmp_path / "to" / "fashion_mnist" / "t10k-labels-idx1-ubyte.gz").is_file()


class Answer(io.BytesIO):
    """What a server answers."""

    status = 200
    headers: dict = {}  # of unknown length


def from_folder(folder, request, timeout):
    return Answer((folder / request.full_url.rsplit("/", 1)[1]).read_bytes())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["digits"], "dataset must be one that is published as files, got 'digits', which has none: use it as is"),
        (["cifar"], "dataset must be a known name, got 'cifar'; did you mean 'cifar10'?"),
        (["fashion_mnist"], "http://127.0.0.1:9/train-images-idx3-ubyte.gz must be reachable, got "),
    ],
)
def test_what_cannot_be_downloaded_is_said(fashion, arguments, sentence, capsys):
    assert main(["data", *arguments]) == 1
    assert f"bitward: {sentence}" in capsys.readouterr().err

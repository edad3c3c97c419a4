"""The server is on this machine's loopback and misbehaves by path: /cut/x, /missing/x, /page/x, ..."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from metalearn_cli.datasets import Download
from metalearn_cli.errors import DataError, RunError
from metalearn_cli.storage.downloads import fetch

CONTENT = np.random.default_rng(0).bytes(700_000)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        way, ranged = self.path.split("/")[1], self.headers.get("Range")
        self.server.asked.append((way, ranged))
        if way == "missing":
            self.send_error(404)
            return
        start = int(ranged.removeprefix("bytes=").removesuffix("-")) if ranged and way != "whole" else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        body = {"wrong": CONTENT[::-1], "long": CONTENT + CONTENT}.get(way, CONTENT)[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "text/html; charset=utf-8" if way == "page" else "application/zip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if way == "cut" else body)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def asked(server, monkeypatch):
    """(way, Range header) of each request of this test."""
    monkeypatch.setenv("no_proxy", "*")
    server.asked = []
    return server.asked


@pytest.fixture
def official(server, asked):
    def described(*ways: str) -> Download:
        urls = tuple(f"http://127.0.0.1:{server.server_port}/{way}/x.zip" for way in ways)
        return Download("x.zip", urls, f"sha256:{hashlib.sha256(CONTENT).hexdigest()}", len(CONTENT))

    return described


def silent(_label, _done, _total):
    pass


def test_a_file_comes_with_its_progress(official, tmp_path):
    moved = []
    path = fetch(official("good"), tmp_path / "new", lambda _label, *numbers: moved.append(numbers))
    assert path == tmp_path / "new" / "x.zip"
    assert path.read_bytes() == CONTENT
    assert len(moved) > 1
    assert moved == sorted(moved)
    assert moved[-1] == (len(CONTENT), len(CONTENT))


def test_only_the_file_is_left(official, tmp_path):
    fetch(official("good"), tmp_path, silent)
    assert [file.name for file in tmp_path.iterdir()] == ["x.zip"]


def test_a_file_that_is_there_is_not_fetched_again(official, tmp_path, asked):
    (tmp_path / "x.zip").write_bytes(CONTENT)
    assert fetch(official("good"), tmp_path, silent).read_bytes() == CONTENT
    assert asked == []


@pytest.mark.parametrize("old", [b"short", CONTENT[::-1]])
def test_another_file_of_that_name_is_replaced(official, tmp_path, old):
    (tmp_path / "x.zip").write_bytes(old)
    assert fetch(official("good"), tmp_path, silent).read_bytes() == CONTENT


def test_the_next_mirror_goes_on_where_the_connection_was_cut(official, tmp_path, asked):
    assert fetch(official("cut", "good"), tmp_path, silent).read_bytes() == CONTENT
    assert asked == [("cut", None), ("good", f"bytes={len(CONTENT) // 2}-")]


def test_the_next_call_goes_on_where_the_last_was_cut(official, tmp_path, asked):
    with pytest.raises(DataError, match="the connection ended after 350,000 of 700,000 bytes; the next try goes on"):
        fetch(official("cut"), tmp_path, silent)
    assert not (tmp_path / "x.zip").exists()
    assert fetch(official("good"), tmp_path, silent).read_bytes() == CONTENT
    assert asked[-1] == ("good", f"bytes={len(CONTENT) // 2}-")


def test_a_server_that_cannot_resume_starts_anew(official, tmp_path):
    (tmp_path / "x.zip.part").write_bytes(CONTENT[:1000])
    assert fetch(official("whole"), tmp_path, silent).read_bytes() == CONTENT


@pytest.mark.parametrize("size", [len(CONTENT), len(CONTENT) + 1])
def test_a_part_that_is_no_shorter_than_the_file_is_fetched_anew(official, tmp_path, size):
    (tmp_path / "x.zip.part").write_bytes(bytes(size))
    assert fetch(official("good"), tmp_path, silent).read_bytes() == CONTENT


def test_a_part_of_another_file_is_found_out_and_fetched_anew(official, tmp_path):
    (tmp_path / "x.zip.part").write_bytes(bytes(1000))
    assert fetch(official("good", "good"), tmp_path, silent).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("missing", "HTTP Error 404"),
        ("page", "a web page came instead of the file"),
        ("wrong", "what came has another size or checksum than the official file"),
        ("long", "what came has another size or checksum than the official file"),
    ],
)
def test_a_mirror_that_gives_something_else_is_followed_by_the_next(official, tmp_path, way, reason):
    with pytest.raises(DataError, match=rf"x\.zip could not be downloaded \(http.*/{way}/x\.zip: {reason}"):
        fetch(official(way), tmp_path, silent)
    assert list(tmp_path.iterdir()) == []
    assert fetch(official(way, "good"), tmp_path, silent).read_bytes() == CONTENT


def test_no_more_is_taken_from_a_mirror_than_the_file_is_long(official, tmp_path):
    taken = []
    with pytest.raises(DataError, match="another size"):
        fetch(official("long"), tmp_path, lambda _label, done, _total: taken.append(done))
    assert max(taken) <= len(CONTENT)


def test_when_no_mirror_has_it_every_reason_is_given(official, tmp_path):
    with pytest.raises(DataError, match=r"missing/x\.zip: .*404.*; .*page/x\.zip: a web page"):
        fetch(official("missing", "page"), tmp_path, silent)


def test_a_server_that_is_not_there_is_one_clear_error(server, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(DataError, match=r"x\.zip could not be downloaded .*refused"):
        fetch(Download("x.zip", ("http://127.0.0.1:1/x.zip",), "md5:", 1), tmp_path, silent)


def test_a_folder_that_cannot_be_made_is_an_error_of_the_disk(official, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="a file stands where a folder is needed"):
        fetch(official("good"), tmp_path / "file" / "below", silent)

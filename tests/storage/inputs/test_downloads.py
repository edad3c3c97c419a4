"""The server is on this machine's loopback and misbehaves by path: /cut/x, /missing/x, /page/x, ..."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from metalearn_cli.datasets import Download, Listing
from metalearn_cli.errors import DataError, RunError
from metalearn_cli.storage.inputs.downloads import fetch, fetch_offer

CONTENT = np.random.default_rng(0).bytes(700_000)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        way, ranged = self.path.split("/")[1], self.headers.get("Range")
        self.server.asked.append((way, ranged))
        if way == "missing":
            self.send_error(404)
            return
        if way.startswith("list") and "/resolve/" not in self.path:
            self.answer_json(way)
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

    def answer_json(self, way):
        """What the two hosts list, each with the files "a.bin" and "b.txt"."""
        here, sha = f"http://127.0.0.1:{self.server.server_port}", hashlib.sha256(CONTENT).hexdigest()
        md5 = hashlib.md5(CONTENT).hexdigest()
        zenodo = [
            {"key": name, "size": len(CONTENT), "checksum": f"md5:{md5}", "links": {"self": f"{here}/good/{name}"}}
            for name in ("b.txt", "a.bin")
        ]
        hub = [
            {"type": "directory", "path": "data", "size": 0},
            {"type": "file", "path": "data/a.bin", "size": 130, "lfs": {"oid": sha, "size": len(CONTENT)}},
            {"type": "file", "path": "README.md", "size": 3},
        ]
        odd = [{"key": "../a.bin", "size": 1, "checksum": "md5:", "links": {"self": ""}}]
        bodies = {
            "list-zenodo": {"files": zenodo},
            "list-hub": hub,
            "list-odd": {"files": odd},
            "list-nothing": {"files": []},
        }
        body = json.dumps(bodies[way]).encode() if way in bodies else b"<html>moved</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

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


def listing(server, way, host="zenodo", wanted=r".*a\.bin"):
    return Listing(host, f"http://127.0.0.1:{server.server_port}/{way}/tree/main", wanted)


def test_a_zenodo_record_gives_the_files_that_are_wanted_with_its_checksums(server, asked, tmp_path):
    found = fetch_offer([listing(server, "list-zenodo")], tmp_path, silent)
    assert (found / "a.bin").read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["a.bin"]


def test_a_repository_of_the_hub_gives_its_large_files(server, asked, tmp_path):
    hub = Listing("huggingface", f"http://127.0.0.1:{server.server_port}/list-hub/tree/main", r"data/.*")
    found = fetch_offer([hub], tmp_path, silent)
    assert (found / "data" / "a.bin").read_bytes() == CONTENT
    assert asked[-1] == ("list-hub", None)  # .../list-hub/resolve/main/data/a.bin


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("missing", "lists no files .*404"),
        ("list-page", "lists no files"),
        ("list-hub", "lists no files"),
        ("list-odd", "lists no files .*the name"),
        ("list-nothing", "no longer lists"),
    ],
)
def test_a_listing_that_is_none_is_followed_by_the_next_offer(server, official, tmp_path, way, reason):
    with pytest.raises(DataError, match=reason):
        fetch_offer([listing(server, way)], tmp_path, silent)
    found = fetch_offer([listing(server, way), (official("good"),)], tmp_path, silent)
    assert (found / "x.zip").read_bytes() == CONTENT


def test_the_reasons_of_all_offers_are_given(server, official, tmp_path):
    with pytest.raises(DataError, match=r"lists no files.*; x\.zip could not be downloaded"):
        fetch_offer([listing(server, "missing"), (official("missing"),)], tmp_path, silent)


def test_of_an_offer_that_breaks_off_nothing_gets_among_the_next(server, official, tmp_path):
    first = (official("good"), official("missing")._replace(file="y.zip"))
    found = fetch_offer([first, (official("good"),)], tmp_path, silent)
    assert [file.name for file in found.iterdir()] == ["x.zip"]
    assert found != tmp_path


def test_a_size_that_nobody_tells_is_the_servers(official, tmp_path):
    moved = []
    unknown = official("good")._replace(size=None)
    assert fetch(unknown, tmp_path, lambda *one: moved.append(one)).read_bytes() == CONTENT
    assert moved[-1][1:] == (len(CONTENT), len(CONTENT))


def test_a_cut_file_of_unknown_size_goes_on_too(official, tmp_path, asked):
    unknown = official("cut", "good")._replace(size=None)
    assert fetch(unknown, tmp_path, silent).read_bytes() == CONTENT
    assert asked[-1] == ("good", f"bytes={len(CONTENT) // 2}-")


def test_a_part_of_unknown_size_that_is_too_long_is_fetched_anew(official, tmp_path):
    (tmp_path / "x.zip.part").write_bytes(bytes(len(CONTENT) + 1))
    assert fetch(official("good", "good")._replace(size=None), tmp_path, silent).read_bytes() == CONTENT


def test_a_part_that_is_the_whole_file_is_not_fetched_again(official, tmp_path, asked):
    (tmp_path / "x.zip.part").write_bytes(CONTENT)
    assert fetch(official("good"), tmp_path, silent).read_bytes() == CONTENT
    assert asked == []


def test_md5_is_a_checksum_too(official, tmp_path):
    right = official("good")._replace(checksum=f"md5:{hashlib.md5(CONTENT).hexdigest()}")
    assert fetch(right, tmp_path, silent).read_bytes() == CONTENT
    with pytest.raises(DataError, match="another size or checksum"):
        fetch(official("good")._replace(file="z.zip", checksum="md5:" + "0" * 32), tmp_path, silent)


@pytest.mark.parametrize("way", ["good", "whole"])
def test_a_link_in_the_place_of_what_is_received_is_refused(official, tmp_path, way):
    precious, folder = tmp_path / "precious", tmp_path / "downloads"
    precious.write_bytes(b"the only copy")
    folder.mkdir()
    (folder / "x.zip.part").symlink_to(precious)
    with pytest.raises(RunError, match=r"x\.zip\.part: cannot be written: a symbolic link stands there"):
        fetch(official(way), folder, silent)
    assert precious.read_bytes() == b"the only copy"


def test_a_link_in_the_place_of_a_finished_file_is_replaced(official, tmp_path):
    precious = tmp_path / "precious"
    precious.write_bytes(b"the only copy")
    (tmp_path / "x.zip").symlink_to(precious)
    assert fetch(official("good"), tmp_path, silent).read_bytes() == CONTENT
    assert precious.read_bytes() == b"the only copy"


def test_no_folder_of_downloads_leads_elsewhere(official, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "data").symlink_to(tmp_path / "elsewhere")
    below = official("good")._replace(file="data/x.zip")
    with pytest.raises(RunError, match="a symbolic link stands there"):
        fetch(below, tmp_path / "downloads", silent)
    assert not list((tmp_path / "elsewhere").iterdir())

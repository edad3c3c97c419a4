"""Downloads official files from their mirrors. A broken download is continued, and a file gets its name only after its
checksum was found right.
"""

import hashlib
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

from metalearn_cli.datasets import Download, Listing, Offer
from metalearn_cli.errors import DataError
from metalearn_cli.storage.files.atomic import disk_errors, make_folder, open_to_write

_SECONDS = 30  # without an answer
_PIECE = 1 << 18  # bytes
_MOST_LISTED = 16 << 20  # bytes
_NOTHING_BEYOND = 416  # HTTP status for a range that starts behind the end of the file

Progress = Callable[[str, int, int], None]
"""`progress(label, done, total)` is called whenever a part of the work is done."""


def fetch_offer(offers: Sequence[Offer], folder: Path, progress: Progress) -> Path:
    """Download all files of the first offer that works, into a folder of their own below `folder`; return that folder.

    Raises DataError, with a reason for each offer, if none works; RunError if the disk refuses.
    """
    reasons = []
    for number, offer in enumerate(offers):
        below = folder / str(number) if number else folder
        try:
            for download in _files(offer):
                fetch(download, below, progress)
            return below
        except _UnavailableError as error:
            reasons.append(str(error))
    raise DataError("; ".join(reasons))


def fetch(download: Download, folder: Path, progress: Progress) -> Path:
    """Download a file into `folder`, check its checksum, and return its path; a file that exists is not fetched again.

    Raises DataError, with a reason for each mirror, if no mirror gives it; RunError if the disk refuses.
    """
    target = folder / download.file
    with disk_errors(folder):
        make_folder(target.parent, folder)
        if target.is_file() and _is_right(target, download):
            return target
        part = target.with_name(target.name + ".part")
        if part.is_file() and _is_right(part, download):
            part.replace(target)
            return target
        reasons = []
        for url in download.urls:
            try:
                _receive(url, part, download, progress)
                part.replace(target)
                return target
            except _REFUSALS as error:
                reasons.append(f"{url}: {error}")
    raise _UnavailableError(f"{download.file} could not be downloaded ({'; '.join(reasons)})")


class _UnavailableError(DataError):
    """No mirror gives a file, or a host does not list its files."""


class _WrongAnswerError(Exception):
    """A mirror answered with something other than the file."""


_REFUSALS = (_WrongAnswerError, urllib.error.URLError, HTTPException, TimeoutError, ConnectionError)


def _files(offer: Offer) -> Sequence[Download]:
    if not isinstance(offer, Listing):
        return offer
    try:
        with urllib.request.urlopen(offer.url, timeout=_SECONDS) as answer:
            listed = json.loads(answer.read(_MOST_LISTED))
        found = _in_zenodo(listed) if offer.host == "zenodo" else _in_hub(listed, offer.url)
    except (*_REFUSALS, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _UnavailableError(f"{offer.url} lists no files ({type(error).__name__}: {error})") from error
    wanted = [download for download in found if re.fullmatch(offer.wanted, download.file)]
    if not wanted:
        raise _UnavailableError(f"{offer.url} no longer lists {offer.wanted}")
    return sorted(wanted)


def _in_zenodo(listed: Any) -> list[Download]:
    """The files of a record, as Zenodo's REST API lists them."""
    return [
        Download(_plain(file["key"]), (file["links"]["self"],), file["checksum"], int(file["size"]))
        for file in listed["files"]
    ]


def _in_hub(listed: Any, url: str) -> list[Download]:
    """The large files of a repository, as the tree endpoint of the Hugging Face hub lists them."""
    base = url.split("/tree/")[0].replace("/api/datasets/", "/datasets/") + "/resolve/main/"
    return [
        Download(_plain(file["path"]), (base + urllib.parse.quote(file["path"]),), f"sha256:{file['lfs']['oid']}",
                 int(file["lfs"]["size"]))
        for file in listed
        if file["type"] == "file" and "lfs" in file
    ]  # fmt: skip


def _plain(name: str) -> str:
    """The listed name, after a check that it cannot leave its folder."""
    if name.startswith("/") or ".." in name.split("/") or not name.isprintable():
        raise ValueError(f"the name {name!r}")
    return name


def _receive(url: str, part: Path, download: Download, progress: Progress) -> None:
    have = part.stat().st_size if part.exists() else 0
    if download.size is not None and have >= download.size:
        have = 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        opened = urllib.request.urlopen(request, timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == _NOTHING_BEYOND and have:
            part.unlink()  # it is as long as the file or longer, but its checksum is wrong
        raise
    with opened as answer:
        if "text/html" in answer.headers.get("Content-Type", ""):  # a login page, or a page about an outage
            raise _WrongAnswerError("a web page came instead of the file")
        if answer.status != 206:  # this mirror ignores the range and sends the whole file
            have = 0
        length = answer.headers.get("Content-Length", "")
        expected = download.size or (have + int(length) if length.isdecimal() else None)
        with os.fdopen(open_to_write(part, os.O_WRONLY | os.O_APPEND), "ab") as file:
            file.truncate(have)
            while piece := answer.read(_PIECE):
                have += len(piece)
                if expected is not None and have > expected:
                    break
                file.write(piece)
                progress(f"downloading {download.file}", have, expected or have)
    if expected is not None and have < expected:
        raise _WrongAnswerError(
            f"the connection ended after {have:,} of {expected:,} bytes; the next try goes on there"
        )
    if not _is_right(part, download):
        part.unlink()
        raise _WrongAnswerError("what came has another size or checksum than the official file")


def _is_right(path: Path, download: Download) -> bool:
    if download.size is not None and path.stat().st_size != download.size:
        return False
    kind, _, expected = download.checksum.partition(":")
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest() == expected

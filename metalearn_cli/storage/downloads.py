"""Official files, fetched from their mirrors: resumed where they stopped, and never there before they are right."""

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from metalearn_cli.datasets import Download
from metalearn_cli.errors import DataError
from metalearn_cli.storage.atomic import disk_errors

_SECONDS = 30
_PIECE = 1 << 18


def fetch(download: Download, folder: Path, progress: Callable[[int, int], None]) -> Path:
    """The file in `folder`, of the right size and SHA-256; one that is there already is not fetched again.

    Raises DataError, with a reason for each mirror and what to do by hand, if none gives it.
    """
    target = folder / download.file
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if target.is_file() and _is_right(target, download):
            return target
        part = target.with_name(target.name + ".part")
        reasons = []
        for url in download.urls:
            try:
                _receive(url, part, download, progress)
                part.replace(target)
                return target
            except (_WrongAnswerError, urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
                reasons.append(f"{url}: {error}")
    raise DataError(
        f"{download.file} could not be downloaded ({'; '.join(reasons)}); "
        f"fetch it by hand and give its folder with --source"
    )


class _WrongAnswerError(Exception):
    """A mirror answered with something else than the file."""


def _receive(url: str, part: Path, download: Download, progress: Callable[[int, int], None]) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have >= download.size:
        have = 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
        if "text/html" in answer.headers.get("Content-Type", ""):
            raise _WrongAnswerError("a web page came instead of the file")
        if answer.status != 206:
            have = 0
        with part.open("ab" if have else "wb") as file:
            while piece := answer.read(_PIECE):
                have += len(piece)
                if have > download.size:
                    break
                file.write(piece)
                progress(have, download.size)
    if have < download.size:
        raise _WrongAnswerError(
            f"the connection ended after {have:,} of {download.size:,} bytes; the next try goes on there"
        )
    if not _is_right(part, download):
        part.unlink()
        raise _WrongAnswerError("what came has another size or checksum than the official file")


def _is_right(path: Path, download: Download) -> bool:
    if path.stat().st_size != download.size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == download.sha256

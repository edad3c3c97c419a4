"""Fingerprints, by which a later call sees whether files have changed."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

_MOST_HASHED = 4 << 30  # bytes


def checksum(file: Path) -> str:
    """The file's name and SHA-256; for a very large file, its name and size."""
    if (size := file.stat().st_size) > _MOST_HASHED:  # the SHA-256 of ImageNet's archive would take minutes
        return f"{file.name} of {size:,} bytes"
    with file.open("rb") as opened:
        return f"{file.name} sha256 {hashlib.file_digest(opened, 'sha256').hexdigest()}"


def source_fingerprint(path: Path, files: Iterable[str], members: Iterable[str]) -> str:
    """A digest of names, sizes and times of files; an interrupted `prepare` continues only if it is the same."""
    digest = hashlib.sha256(str(path.resolve()).encode())
    for file in sorted(files):
        state = os.stat(file)  # noqa: PTH116 (a Path for each of a million files takes longer)
        digest.update(f"{file}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    for member in sorted(members):
        digest.update(member.encode())
    return digest.hexdigest()

"""The checks of every prepared folder: a manifest of the known format, and an array that is as it was written."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from metalearn_cli.errors import DataError, RunError, reason
from metalearn_cli.storage.files.atomic import write_file
from metalearn_cli.storage.files.reading import content_of, require_plain
from metalearn_cli.storage.prepared.rows import Rows

_READ_ALWAYS = 64 << 20  # an array of so many bytes is read in a tenth of a second
AGAIN = "prepare the dataset again with --force"

Opened = TypeVar("Opened", bound=Rows)


def manifest_fields(path: Path, kind: str, known: int) -> dict[str, Any]:
    """The fields of the manifest at `path`, of format `known`, before anything else in it is checked.

    Raises DataError if there is none (the message calls it a prepared `kind`), if it is no JSON, or of another format.
    """
    try:
        fields = json.loads(content_of(path))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path.parent}: no prepared {kind} there") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path}: damaged; {AGAIN}") from None
    found = fields.get("format") if isinstance(fields, dict) else None
    if found != known:
        raise DataError(f"{path}: has format {found!r}, this metalearn reads {known}; prepare again with --force")
    return dict(fields)


def opened_rows(opener: Callable[[Path], Opened], path: Path, shape: tuple[int, ...], size: int) -> Opened:
    """The array in the file `path`, opened by `opener`.

    Raises DataError if the file is missing or damaged, or has not the `shape` and `size` (bytes) of its manifest.
    """
    try:
        rows = opener(require_plain(path))
    except FileNotFoundError:
        raise DataError(f"{path}: is missing; {AGAIN}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # numpy raises ValueError, EOFError and tokenizer errors here
        raise DataError(f"{path}: damaged ({reason(error)}); {AGAIN}") from error
    if rows.shape != shape or rows.bytes != size:
        there, told = f"{rows.dtype} {rows.shape}", f"{rows.dtype} {shape}"
        raise DataError(f"{path}: holds {there}, the manifest says {told}; {AGAIN}")
    return rows


def require_checked(
    path: Path, rows: Rows, sha256: str, progress: Callable[[str, int, int], None], cure: str = AGAIN,
    contents: str = "pictures",
) -> None:  # fmt: skip
    """Raise DataError, with the `cure`, if the array in the file `path` is not as it was written.

    An array of up to 64 MiB is compared with its checksum each time. A larger one is compared once, and again if its
    file is another one or was written to. Only `require_sum` finds bytes that decay on the disk after that.
    """
    stamp, state = path.parent / ".checked", f"{sha256} {rows.stamp}"
    large = rows.bytes > _READ_ALWAYS
    if not large or not _says(stamp, state):
        require_sum(path, rows, sha256, progress, cure, contents=contents)
        if large:
            with suppress(RunError):  # without permission to write the stamp, the array is compared each time
                write_file(stamp, state.encode())


def require_sum(
    path: Path, rows: Rows, sha256: str, progress: Callable[[str, int, int], None], cure: str = AGAIN,
    contents: str = "pictures",
) -> None:  # fmt: skip
    """Compare every byte of the file `path` with the checksum. Raise DataError, with the `cure`, if they differ."""
    found = rows.sha256(lambda done: progress(f"checking {contents}", done, rows.bytes))
    if found != sha256:
        raise DataError(f"{path}: is not as it was written; {cure}")


def _says(path: Path, text: str) -> bool:
    try:
        return content_of(path) == text.encode()
    except OSError:
        return False


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

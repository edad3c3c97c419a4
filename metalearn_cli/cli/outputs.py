"""Checks of the files that a command will write, made before the work begins."""

import os
from collections.abc import Sequence
from pathlib import Path

from metalearn_cli.errors import ConfigError
from metalearn_cli.storage.files.delivery import is_stream


def require_writable(option: str, path: Path, example: str, checkpoints: Sequence[Path]) -> None:
    """Raise ConfigError if the file cannot be written, or would replace one of `checkpoints`, a device or a link."""
    if path.is_dir() or not path.name:
        raise ConfigError(f"{option} {path}: is a folder, expected a file name such as {example}")
    if not path.parent.is_dir():
        raise ConfigError(f"{option} {path}: the folder {path.parent} does not exist")
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"{option} {path}: no permission to write there")
    if path.is_symlink():
        raise ConfigError(f"{option} {path}: is a symbolic link; name the file that it leads to, {path.readlink()}")
    if path.exists() and not path.is_file():
        raise ConfigError(f"{option} {path}: is a pipe or a device, expected a file name such as {example}")
    if path.exists() and any(source.exists() and path.samefile(source) for source in checkpoints):
        raise ConfigError(f"{option} {path}: is the checkpoint itself, which would be lost; choose another name")


def require_receiver(option: str, path: Path, example: str, checkpoints: Sequence[Path]) -> None:
    """Raise ConfigError as `require_writable` does, but allow a pipe, a terminal and other devices."""
    if not is_stream(path):
        require_writable(option, path, example, checkpoints)


def require_figures(folder: Path | None) -> None:
    """Raise ConfigError if the folder of `--figures` cannot be made, or if matplotlib is missing."""
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--figures {folder}: is a file, expected a folder")
    place = folder if folder.exists() else folder.parent
    if not place.is_dir():
        raise ConfigError(f"--figures {folder}: the folder {place} does not exist")
    if not os.access(place, os.W_OK):
        raise ConfigError(f"--figures {folder}: no permission to write there")
    from metalearn_cli.report.charts import require_matplotlib

    require_matplotlib("--figures")


def require_page(path: Path, checkpoints: Sequence[Path], charts: bool) -> None:
    """Raise ConfigError if the page of `--report` cannot be written or has a suffix that is no page's.

    With `charts` also if matplotlib is missing.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--report {path}: has the suffix {path.suffix!r}, expected a page such as report.html")
    require_receiver("--report", path, "report.html", checkpoints)
    if charts:
        from metalearn_cli.report.charts import require_matplotlib

        require_matplotlib("--report")

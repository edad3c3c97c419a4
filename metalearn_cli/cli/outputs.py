"""Where a command's files go: found out before the work, not after it."""

import os
from collections.abc import Sequence
from pathlib import Path

from metalearn_cli.errors import ConfigError
from metalearn_cli.storage.files.delivery import is_stream


def require_writable(option: str, path: Path, example: str, checkpoints: Sequence[Path]) -> None:
    """Raise ConfigError if no file can be written there, or if it would take the place of something else.

    That is a checkpoint that is read, a device, or a link that leads to another file.
    """
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
    if path.exists() and any(one.exists() and path.samefile(one) for one in checkpoints):
        raise ConfigError(f"{option} {path}: is the checkpoint itself, which would be lost; choose another name")


def require_receiver(option: str, path: Path, example: str, checkpoints: Sequence[Path]) -> None:
    """The same for what may also go into a pipe, or to a terminal or another device."""
    if not is_stream(path):
        require_writable(option, path, example, checkpoints)


def require_figures(folder: Path | None) -> None:
    """The same for `--figures`: raise ConfigError where no folder is or can be made, and where nothing draws."""
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
    """The same for `--report`: raise ConfigError also for another suffix, and where nothing draws its `charts`."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--report {path}: has the suffix {path.suffix!r}, expected a page such as report.html")
    require_receiver("--report", path, "report.html", checkpoints)
    if charts:
        from metalearn_cli.report.charts import require_matplotlib

        require_matplotlib("--report")

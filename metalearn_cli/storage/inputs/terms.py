"""Remembers which terms of use were accepted, so that `prepare` asks only once."""

import json
from pathlib import Path

from metalearn_cli.storage.files.atomic import disk_errors, write_file
from metalearn_cli.storage.files.reading import content_of

_FILE = "accepted-terms.json"


def accepted(data_dir: Path, terms: str) -> bool:
    """Whether exactly these terms were accepted for this data folder."""
    return terms in _all(data_dir)


def accept(data_dir: Path, terms: str) -> None:
    """Remember that these terms were accepted. Raises RunError if the disk refuses."""
    with disk_errors(data_dir):
        data_dir.mkdir(parents=True, exist_ok=True)
    write_file(data_dir / _FILE, json.dumps([*_all(data_dir), terms], indent=1).encode())


def _all(data_dir: Path) -> list[str]:
    try:
        found = json.loads(content_of(data_dir / _FILE))
    except (OSError, ValueError):
        return []
    return [text for text in found if isinstance(text, str)] if isinstance(found, list) else []

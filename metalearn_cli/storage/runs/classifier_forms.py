"""The file forms of a classifier, by suffix."""

from pathlib import Path

from metalearn_cli.errors import ConfigError

FORMS = {".pt": "for metalearn", ".safetensors": "weights for any program", ".pt2": "a program for torch alone"}
"""The contents of a classifier's file, by suffix."""


def require_form(path: Path) -> None:
    """Raise ConfigError unless the suffix is one of FORMS."""
    if path.suffix not in FORMS:
        known = ", ".join(f"{suffix} ({what})" for suffix, what in FORMS.items())
        raise ConfigError(f"{path}: ends in {path.suffix or 'no suffix'!r}, expected one of {known}")

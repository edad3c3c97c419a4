"""The tree of expected errors.

MetalearnError                the user can fix it: one line on stderr, exit code 2
├── ConfigError               an experiment file, a --set or an option
├── DataError                 a dataset, an archive, a picture
├── CheckpointError           a checkpoint or an adapted classifier
│   └── DamagedError          it is not what was written: cut, changed, or never one
├── RunError                  a run folder: in use, of another experiment, not writable
├── DeviceError               no such device, or out of memory
└── DivergedError             a loss, a gradient or an adapted learner is not finite: exit code 4
"""

import unicodedata
from collections.abc import Sequence

_LONGEST_REASON = 200
_LONGEST_LINE = 1500  # about twenty lines of a terminal
_JOINERS = "\u200c\u200d"  # they make one sign of several, as in emoji and in Persian


class MetalearnError(Exception):
    """An error that the user can fix; `str(error)` is one line on what was wrong and what would be right."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        # A name in the message may hold control characters; several mistakes in one file are a line each.
        super().__init__("\n".join(_within(line) for line in printable(message).split("\n")))


class ConfigError(MetalearnError):
    """An experiment file, a `--set` or an option asks for something that cannot be."""


class DataError(MetalearnError):
    """A dataset, an archive or a picture is missing, damaged or too small."""

    def __init__(self, message: str) -> None:
        super().__init__(message.replace("\n", r"\n"))  # always one line


class CheckpointError(MetalearnError):
    """A checkpoint cannot be read, or does not fit what is asked of it."""


class DamagedError(CheckpointError):
    """A file that should be a checkpoint is cut, changed, or was never one."""


class RunError(MetalearnError):
    """A run folder cannot be used as asked."""


class DeviceError(MetalearnError):
    """The device asked for is not there, or has too little memory."""


class DivergedError(MetalearnError):
    """A loss or a gradient of a run is not finite, whose last good checkpoint is kept; or an adaptation diverged."""

    exit_code = 4


def printable(text: str) -> str:
    """The text with control characters written as escapes, because a terminal would obey them or not show them.

    Line breaks, spaces of any width and joiners stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or _is_shown(c) else c.encode("unicode_escape").decode() for c in text)


def _is_shown(character: str) -> bool:
    return character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs"


def _within(line: str) -> str:
    """The line, without its middle if it is very long: its beginning has the file and the key, its end the remedy."""
    end = _LONGEST_LINE // 3
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - end - 5]} ... {line[-end:]}"


def some_of(words: Sequence[str], most: int) -> str:
    """The first `most` words for a message, and the number of all others.

    >>> some_of(["a", "b", "c", "d"], 3), some_of(["a", "b"], 3)
    ('a, b, c and 1 more', 'a, b')
    """
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def can_be_a_name(text: str) -> bool:
    """Whether the text can be the name of a file or class: it is valid Unicode without control characters."""
    return text.isprintable() or not any(unicodedata.category(c) in ("Cc", "Cs") for c in text)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory, the host's or a GPU's, is used up."""
    # torch raises a plain RuntimeError for the host's memory and its own type, not imported here, for a GPU's.
    signs = ("allocate memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


def reason(error: Exception) -> str:
    """The message of another library's error in one line, cut if it is long; without a message, the error's type."""
    return " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__

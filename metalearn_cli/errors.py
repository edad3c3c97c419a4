"""Every expected failure of metalearn, in one tree.

MetalearnError                the user can mend it: one line on stderr, exit code 2
├── ConfigError               an experiment file, a --set or an option
├── DataError                 a dataset, an archive, a picture
├── CheckpointError           a checkpoint or an adapted classifier
├── RunError                  a run folder: in use, of another experiment, not writable
├── DeviceError               no such device, or out of memory
└── DivergedError             a loss or a gradient is not finite: exit code 4
"""

_LONGEST_REASON = 200


class MetalearnError(Exception):
    """The user can mend this; `str(error)` is one line that says what was wrong and what would be right."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        # A name in it may hold what a terminal would obey; several mistakes in one file are a line each.
        super().__init__("\n".join(map(printable, message.split("\n"))))


class ConfigError(MetalearnError):
    """An experiment file, a `--set` or an option asks for something that cannot be."""


class DataError(MetalearnError):
    """A dataset, an archive or a picture is missing, damaged or too small."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class CheckpointError(MetalearnError):
    """A checkpoint cannot be read, or does not fit what is asked of it."""


class RunError(MetalearnError):
    """A run folder cannot be used as asked."""


class DeviceError(MetalearnError):
    """The device asked for is not there, or has too little memory."""


class DivergedError(MetalearnError):
    """A loss or a gradient is not finite; the last good checkpoint is kept."""

    exit_code = 4


def printable(text: str) -> str:
    """`text` with escapes in the place of line breaks, control codes and the like."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def reason(error: Exception) -> str:
    """What another library's error says, as the end of a line."""
    return " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__

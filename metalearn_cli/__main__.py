"""`python -m metalearn_cli`, and the `metalearn` command: exit codes and one-line errors live here."""

import signal
import sys
import traceback
from types import FrameType
from typing import NoReturn

from metalearn_cli.errors import MetalearnError


def main() -> NoReturn:
    """Run the command line; never returns."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        from metalearn_cli.cli import app

        code = app(standalone_mode=False)
    except MetalearnError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except Exception as error:
        # Typer's own exceptions, which cannot be imported by name across its versions.
        if type(error).__name__ == "Abort":
            _fail("interrupted", 130)
        if isinstance(message := getattr(error, "format_message", lambda: None)(), str):
            _fail(f"{message} (metalearn --help, metalearn COMMAND --help)", 2)
        if _is_out_of_memory(error):
            _fail("out of memory; try --set execution.chunk=1, a smaller outer.meta_batch_size or fewer queries", 2)
        traceback.print_exc()
        _fail("this is a fault in metalearn; please report it with the lines above", 1)
    sys.exit(code if isinstance(code, int) else 0)


def _is_out_of_memory(error: Exception) -> bool:
    # torch raises a plain RuntimeError for the host's memory and its own type, not imported here, for a GPU's.
    return isinstance(error, MemoryError) or "allocate memory" in str(error) or "out of memory" in str(error)


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    # As an exception, so that temporary files go the way they go for any other failure.
    sys.exit(143)


def _fail(message: str, code: int) -> NoReturn:
    for line in message.splitlines():
        print(f"error: {line}", file=sys.stderr)  # noqa: T201
    sys.exit(code)


if __name__ == "__main__":
    main()

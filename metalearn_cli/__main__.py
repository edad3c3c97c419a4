"""`python -m metalearn_cli`, and the `metalearn` command: exit codes and one-line errors live here."""

import signal
import sys
import traceback
from types import FrameType

from metalearn_cli.errors import MetalearnError


def main() -> None:
    """Run the command line; never returns."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        from metalearn_cli.cli import app

        app()
    except MetalearnError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except Exception as error:
        if _is_out_of_memory(error):
            _fail("out of memory; try --set execution.chunk=1, a smaller outer.meta_batch_size or fewer queries", 2)
        traceback.print_exc()
        _fail("this is a fault in metalearn; please report it with the lines above", 1)


def _is_out_of_memory(error: Exception) -> bool:
    # torch raises a plain RuntimeError for the host's memory and its own type, not imported here, for a GPU's.
    return isinstance(error, MemoryError) or "allocate memory" in str(error) or "out of memory" in str(error)


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    # As an exception, so that temporary files go the way they go for any other failure.
    sys.exit(143)


def _fail(message: str, code: int) -> None:
    for line in message.splitlines():
        print(f"error: {line}", file=sys.stderr)  # noqa: T201
    sys.exit(code)


if __name__ == "__main__":
    main()

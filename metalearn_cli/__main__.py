"""`python -m metalearn_cli`, and the `metalearn` command: exit codes and one-line errors live here."""

import sys

# `python -m` looks for every module in the folder where it runs, before all others: a file that came with pictures may
# have any name. The command `metalearn` does not, and this package may lie there itself.
if __name__ == "__main__" and not sys.flags.safe_path and not __file__.startswith(sys.path[0]):
    sys.path.pop(0)

import atexit
import errno
import io
import os
import signal
import threading
import traceback
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from metalearn_cli.errors import MetalearnError, is_out_of_memory, printable

_AGAIN_AFTER_SECONDS = 5.0
_AGAIN_IN_A_CALLBACK_SECONDS = 0.01
_OUTPUT_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SYSTEM_REFUSED = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOENT, errno.ENOSYS)
_MOST_DIGITS, _SHOWN = 4, 20
_NO_THREAD = "can't start new thread"
_BY_SIGNAL = 128
_CLOSED_PIPE = _BY_SIGNAL + 13  # as if SIGPIPE had ended the process


def main() -> NoReturn:
    """Run the command line; never returns."""
    stopped_by: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        # As an exception, so that temporary files go the way they go for any other failure. A library that is being
        # imported may swallow it, so it comes again until the process has ended.
        if number != getattr(signal, "SIGALRM", None):
            stopped_by.append(number)
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, stop)
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_AFTER_SECONDS)
        raise KeyboardInterrupt

    _look_for_no_module_here()
    _say_nothing_of_a_swallowed_stop()
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, stop)
    _open_streams()
    _forget_strange_sizes()
    _require_a_folder()
    try:
        from metalearn_cli.cli import app

        code = app(standalone_mode=False)
    except MetalearnError as error:
        _fail(str(error), error.exit_code)
    except BaseException as error:
        # A library that was being imported may have turned the signal into an error of its own.
        if stopped_by or isinstance(error, KeyboardInterrupt):
            _fail("interrupted", _BY_SIGNAL + (stopped_by or [signal.SIGINT])[0])
        _fail_by(error)
    if stopped_by:  # typer has taken the exception and answers 130 for every signal
        _fail("interrupted", _BY_SIGNAL + stopped_by[0])
    _leave(code if isinstance(code, int) else 0)


def _fail_by(error: BaseException) -> NoReturn:
    """End the process with one line on an error of the command, and the exit code that belongs to it."""
    if isinstance(error, SystemExit):
        # typer and rich exit with code 1 if nobody reads the pipe any more; here 1 means a fault of metalearn.
        if isinstance(error.__context__, BrokenPipeError):
            _leave(_CLOSED_PIPE)
        raise error
    # Typer's own exceptions cannot be imported by name across its versions.
    if isinstance(message := getattr(error, "format_message", lambda: None)(), str):
        _fail(f"{message} (metalearn --help, metalearn COMMAND --help)", 2)
    if isinstance(error, OSError) and (error.filename is not None or error.errno in _OUTPUT_REFUSED):
        _fail(f"{error.filename or 'output'}: {error.strerror or error}", 2)
    if isinstance(error, OSError) and error.errno in _SYSTEM_REFUSED:
        _fail(f"the system refused: {error.strerror or error} (ulimit -a, TMPDIR)", 2)
    if _NO_THREAD in str(error):
        _fail("the system refused another thread or process; raise the limit (ulimit -u)", 2)
    if is_out_of_memory(error):
        _fail("out of memory; try --set execution.chunk=1, a smaller outer.meta_batch_size or fewer queries", 2)
    traceback.print_exception(error)
    _fail("this is a fault in metalearn; please report it with the lines above", 1)


def _look_for_no_module_here() -> None:
    """Take the current folder out of Python's module path, for this process and for all that it starts.

    An empty entry in PYTHONPATH also means that folder, such as in `$PYTHONPATH:/more` if the variable was not set.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if len(entries) > 1 and "" in entries:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, entries))
        with suppress(OSError):
            here = os.getcwd()  # noqa: PTH109 (a string, as in the path)
            sys.path[:] = [entry for entry in sys.path if entry not in ("", here)]


def _say_nothing_of_a_swallowed_stop() -> None:
    """Raise an interruption once more if it came inside a finaliser or a callback, where Python only prints it."""
    report = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs", /) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            report(unraisable)
        elif hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_IN_A_CALLBACK_SECONDS)

    sys.unraisablehook = hook


def _open_streams() -> None:
    """Make stdout and stderr writable for any character, also if the caller closed them.

    A closed descriptor 0, 1 or 2 is opened on /dev/null. Otherwise a file that is opened later would get its number,
    and lines that a library prints would go into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 (as long-lived as the process)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _forget_strange_sizes() -> None:
    """Remove COLUMNS, LINES and TERMINAL_WIDTH from the environment if they are no size that a terminal can have."""
    for name in ("COLUMNS", "LINES", "TERMINAL_WIDTH"):
        value = os.environ.get(name, "")
        if value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS and int(value):
            continue
        if os.environ.pop(name, ""):
            _say(f"warning: {name} is {value[:_SHOWN]!r}, expected a number of columns or lines; it is not used")


def _require_a_folder() -> None:
    """End the process if the current folder no longer exists; torch's libraries would end it with another message."""
    try:
        os.getcwd()  # noqa: PTH109
    except OSError:
        _fail("the folder where this command runs is gone, or may not be read; change to another", 2)


def _fail(message: str, code: int) -> NoReturn:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)
    for line in printable(message).splitlines():
        _say(f"error: {line}")
    _leave(code)


def _say(line: str) -> None:
    with suppress(OSError):  # nobody may be there to read it
        print(printable(line), file=sys.stderr)  # noqa: T201


def _leave(code: int) -> NoReturn:
    """Flush the streams and end the process.

    Where torch was imported, the process ends without Python taking all modules apart, which takes 0.3 s; what
    libraries registered for the end is done, and Python waits as ever for a thread that still runs. A process of
    torchrun does not wait for that, because torch's threads may outlive the objects they use.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:  # a closed pipe, a full disk: Python would try again at the end and complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if not code and not isinstance(error, BrokenPipeError):
                _fail(f"output: {error.strerror}", 2)
            code = code or _CLOSED_PIPE
    # The same after a signal: if it came during an import, Python may remember it and end as if nobody had caught it.
    if os.environ.get("WORLD_SIZE", "") not in ("", "1") or code > _BY_SIGNAL:
        os._exit(code)
    others_run = any(not thread.daemon and thread is not threading.main_thread() for thread in threading.enumerate())
    if "torch" in sys.modules and not others_run:
        atexit._run_exitfuncs()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()

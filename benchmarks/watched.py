"""A `metalearn` command that notes where its seconds go: `python -m benchmarks.watched FILE STARTED eval ...`.

FILE gets them as JSON, by the names of the functions below; `started` is the time from STARTED (seconds since 1970,
when the caller started this process) to the first of them.
"""

import atexit
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

seconds: dict[str, float] = {}


def noted(name: str, function: Callable[..., Any], started: float) -> Callable[..., Any]:
    """The same function, whose seconds are added up under a name."""

    def call(*given: Any, **named: Any) -> Any:
        begun = time.time()
        seconds.setdefault("started", begun - started)
        result = function(*given, **named)
        seconds[name] = seconds.get(name, 0.0) + time.time() - begun
        return result

    return call


def main() -> None:
    """The command."""
    path, started, arguments = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    from metalearn_cli.__main__ import main as command
    from metalearn_cli.cli import pages
    from metalearn_cli.runtime.use import measurement

    watched: list[tuple[Any, str]] = [
        (measurement, "evaluate"), (measurement, "scores_of"), (measurement, "answered_alone"),
        (pages, "write_training_page"),
    ]  # fmt: skip
    for owner, name in watched:
        setattr(owner, name, noted(name, getattr(owner, name), started))
    score = measurement.scores_of

    def scores_of(learner: Any, runner: Any, meta: Any, sampler: Any, *given: Any, **named: Any) -> Any:
        return score(learner, runner, meta, noted("drawing", sampler, started), *given, **named)

    measurement.scores_of = scores_of
    sys.argv = ["metalearn", *arguments]
    # The command ends the process itself, after what is registered for the end.
    atexit.register(lambda: path.write_text(json.dumps(seconds)))
    command()


if __name__ == "__main__":
    main()

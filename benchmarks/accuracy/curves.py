"""Time to accuracy: how many core-minutes of training went by until a validation first reached a level."""

from collections.abc import Iterator, Mapping

from benchmarks.accuracy.results import Result, elsewhere
from benchmarks.accuracy.rows import Row, Table

LEVELS = (95, 97, 98)
_NOTE = """Core-minutes of training until a validation first reached an accuracy: {val_episodes} tasks of validation
classes, {queries} queries of each class, transductive statistics. A run was validated {times} times, evenly, so it may
have been there up to one part in {times} of its length earlier; its core-minutes are spread evenly over its iterations,
validations included. Runs that were trained on the validation classes too are left out."""


def reached(result: Result, level: float) -> float | None:
    """Core-minutes until the first validation with at least `level` percent; None if there was none."""
    there = (at_minute(result, iteration) for iteration, accuracy in result["curve"] if 100 * accuracy >= level)
    return next(there, None)


def at_minute(result: Result, iteration: int) -> float:
    """Core-minutes from the beginning to an iteration, as if all took the same time."""
    return float(result["core_seconds"]) * iteration / result["iterations"] / 60


def best(result: Result) -> float:
    """The best validation accuracy in percent."""
    return 100 * max(accuracy for _, accuracy in result["curve"])


def compared(table: Table, measured: Mapping[Row, Result]) -> dict[Row, Result]:
    """The runs whose times to an accuracy are compared.

    Left out are photos, which no run brings to the lowest level, and runs whose validation is on trained classes.
    """
    return {
        row: result
        for row, result in measured.items()
        if not row.searched and _drawings(table, row) and not result["experiment"]["dataset"].get("trainval")
    }


def times(table: Table, measured: Mapping[Row, Result]) -> Iterator[str]:
    """The section of a page, without its heading."""
    runs = compared(table, measured)
    there = {row: result for row, result in runs.items() if reached(result, LEVELS[0]) is not None}
    validation = table.source["domains"]["omniglot"]["set"]["eval"]
    yield from (_NOTE.format(**validation, times=table.source["validations"]), "")
    yield f"| run | seed | {' | '.join(f'{level} %' for level in LEVELS)} | whole run | best validation, % |"
    yield "|---" * (len(LEVELS) + 4) + "|"
    places = {setting: place for place, setting in enumerate(_settings(table))}
    for row in sorted(there, key=lambda row: (places[row.setting], row.variant, reached(there[row], LEVELS[0]), row)):
        result = there[row]
        spent = [reached(result, level) for level in LEVELS]
        cells = ["-" if until is None else f"{until:.1f}" for until in spent]
        whole = f"{result['core_seconds'] / 60:.1f} | {best(result):.2f}"
        yield f"| {_called(table, row, result)} | {row.seed} | {' | '.join(cells)} | {whole} |"
    never = [
        f"{_called(table, row, runs[row])}, seed {row.seed} ({best(runs[row]):.1f})" for row in runs if row not in there
    ]
    if never:
        yield ""
        yield f"Never at {LEVELS[0]} % in a validation (the best, %): {'; '.join(sorted(never))}."


def _settings(table: Table) -> list[str]:
    return [setting for domain in table.source["domains"].values() for setting in domain["settings"]]


def _drawings(table: Table, row: Row) -> bool:
    return "prepare" not in table.domain(row.setting)


def _called(table: Table, row: Row, result: Result) -> str:
    """Setting and learner; with what the row has otherwise: the shots of its validations, the processor."""
    shots, processor = result["experiment"]["task"]["shots"], elsewhere(table, result)
    other = "" if shots == table.setting(row.setting)["task.shots"] else f", validated with {shots} shots"
    other += f", on {processor}" if processor else ""
    return f"{row.setting}: {table.said(row.line, row.setting)['label']}{other}"

"""`metalearn eval`: accuracy on test tasks before and after every inner step."""

import math
import shlex
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metalearn_cli.cli import families, pages, promising, tables, testing_page
from metalearn_cli.cli.options import Device, Figures, Json, Overrides, Quiet, Verbose
from metalearn_cli.cli.outputs import require_figures, require_page
from metalearn_cli.cli.presence import require_checkpoint
from metalearn_cli.errors import ConfigError

if TYPE_CHECKING:
    from metalearn_cli.runtime.use.measurement import Result
    from metalearn_cli.runtime.use.seeds import Spread


def evaluate(
    checkpoints: Annotated[
        list[Path],
        typer.Option(
            "--checkpoint", metavar="FILE|DIR", help="A checkpoint, or a folder: an ensemble; repeat to compare."
        ),
    ],
    overrides: Overrides = None,
    split: Annotated[str, typer.Option(help="test or val.")] = "test",
    episodes: Annotated[int | None, typer.Option(min=2, help="How many tasks; default the experiment's.")] = None,
    until_ci: Annotated[float | None, typer.Option(help="Stop when the half-width is below this fraction.")] = None,
    min_accuracy: Annotated[float | None, typer.Option(help="Exit 3 if the interval's lower end is below.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page of curves, classes and episodes.")
    ] = None,
    figures: Figures = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure checkpoints on test tasks.

    Episode i is the same for every checkpoint, so several can be compared.
    """
    _check(split, {"--until-ci": until_ci, "--min-accuracy": min_accuracy})
    if report is not None:
        require_page(report, checkpoints, charts=True)
    require_figures(figures)
    for path in checkpoints:
        require_checkpoint(path)
    with tables.loading(quiet):
        from metalearn_cli.runtime.use import measurement
    made = pages.Made(pages.command(), time.monotonic(), quiet, figures)
    results = []
    for path in checkpoints:
        started = time.monotonic()
        with tables.bar(quiet) as progress:
            stages, say = tables.Stages(progress), partial(tables.warn, above=progress)
            stages(f"measuring {path}", 0, 1)
            tested = measurement.evaluate(
                path, overrides or [], split=split, episodes=episodes, until_ci=until_ci, device=device,
                progress=stages, say=say,
            )  # fmt: skip
        _warn_of_lost(path, tested)
        results.append((tested, _fields(path, tested, time.monotonic() - started)))
        if not json:
            _print(path, tested, len(checkpoints) > 1, verbose)
            promising.print_tables([*families.family_tables(tested), *promising.promise_tables(tested)])
    _tell(checkpoints, results, report, json, made)
    every = [tested for tested, _ in results]
    usable = [tested.accuracy or tested.subject.table is not None for tested in every]
    single = [
        path for path, tested, known in zip(checkpoints, every, usable, strict=True) if known and not tested.members
    ]
    if single:
        table = every[0].subject.table
        given = "DIR" if table is None else table.noun.file
        use = f"metalearn finetune --checkpoint {shlex.quote(str(single[0]))}"
        tables.hint(f"{use} --support {given} --query {given}", quiet)
    _gate(min_accuracy, every)


def _check(split: str, fractions: dict[str, float | None]) -> None:
    if split not in ("test", "val"):
        raise ConfigError(f"--split: found {split!r}, expected test or val")
    for option, fraction in fractions.items():
        if fraction is not None and not 0 < fraction <= 1:
            raise ConfigError(f"{option}: found {fraction}, expected a fraction between 0 and 1, such as 0.95 for 95 %")


def _tell(
    checkpoints: list[Path], results: "list[tuple[Result, dict[str, Any]]]", report: Path | None, json: bool,
    made: pages.Made,
) -> None:  # fmt: skip
    """Compare the checkpoints: on the page, if one was asked for, and as text or JSON."""
    from metalearn_cli.runtime.use.seeds import over_seeds

    every = [tested for tested, _ in results]
    compared, spread = [_paired(every[0], other) for other in every[1:]], over_seeds(every)
    names = list(map(tables.named, checkpoints, every))
    warnings = [
        f"{name} was measured otherwise than {names[0]}, so their difference is one of protocols, too: "
        f"{'; '.join(unlike)}"
        for name, row in zip(names[1:], compared, strict=True)
        if (unlike := row["unlike"])
    ]
    for warning in warnings:
        tables.warn(warning)
    if report is not None or made.figures is not None:
        notes = [
            line for line in (_line(spread, every[0].accuracy, "±"), *(f"Warning: {one}." for one in warnings)) if line
        ]
        testing_page.write_testing_page(report, checkpoints, every, compared, notes, made=made)
    if json:
        several: dict[str, Any] = {"checkpoints": [fields for _, fields in results], "paired": compared}
        several["over_seeds"] = spread and spread._asdict()
        one = results[0][1] if len(results) == 1 else several
        tables.print_json(one | {"report": report and str(report), "figures": made.figures and str(made.figures)})
    else:
        _print_paired(names, compared, every[0].accuracy)
        written = [f"{name} {path}" for name, path in (("report", report), ("figures", made.figures)) if path]
        for line in (_line(spread, every[0].accuracy, tables.plus_minus()), *written):
            if line:
                tables.console(stderr=False).print(line, markup=False)


def _fields(path: Path, tested: "Result", seconds: float) -> dict[str, Any]:
    protocol = tested.protocol
    key = "accuracy" if tested.accuracy else "mse"
    rows = tables.steps_fields(tested.steps, tested.accuracy, tested.explained)
    return {
        "checkpoint": str(path), "ensemble": _ensemble(tested), "dataset": protocol.dataset, "split": protocol.part,
        "ways": protocol.ways, "shots": protocol.shots, "queries": protocol.queries, "episodes": tested.episodes,
        "statistics": protocol.statistics, "inner_steps": protocol.inner_steps,
        "algorithm": tested.algorithm, "second_order": tested.second_order, "fingerprint": tested.fingerprint,
        "chance": 1 / protocol.ways if tested.accuracy else None, "per_step": rows, key: rows[-1][key],
        "ci95": rows[-1]["ci95"], "not_finite": tested.lost,
        "promises": promising.promise_fields(tested.promises),
        "worth": promising.worth_fields(tested.worth), "seconds": seconds, **families.family_fields(tested),
    }  # fmt: skip


def _warn_of_lost(path: Path, tested: "Result") -> None:
    """Warn of episodes in which the adaptation diverged, with their number and how they are counted."""
    if tested.lost:
        counted = "such answers count as wrong" if tested.accuracy else "so their mean is no number; see the median"
        where = f"in {tested.lost} of {tested.episodes} episodes answers after the last inner step are not finite"
        tables.warn(f"{path}: {where}; {counted}")


def _ensemble(tested: "Result") -> dict[str, Any] | None:
    """Fields for JSON that describe an ensemble; None for a single checkpoint."""
    files = [str(path) for path in tested.members]
    return {"label": tested.label, "averaged": tested.averaged, "checkpoints": files} if files else None


def _print(path: Path, tested: "Result", several: bool, verbose: bool) -> None:
    out = tables.console(stderr=False)
    title = f"{path}\n{tables.measurement_title(tested)}" if several else tables.measurement_title(tested)
    out.print(tables.steps_table(title, tested.steps, tested.accuracy, tested.explained))
    if verbose:
        out.print(f"{path}, episodes {tested.fingerprint}", markup=False)
        for member in tested.members:
            out.print(f"{member}, one of the {tested.label}", markup=False)


def _paired(first: "Result", other: "Result") -> dict[str, Any]:
    """Fields for JSON: the mean of (other - first) over their common episodes, its 95 % half-width, their number, and
    how the two protocols differ, because a difference of protocols is part of the result.
    """
    from metalearn_cli.runtime.run.protocol import unlike

    if first.stream != other.stream:
        told = f"{first.protocol}, and {other.protocol}"
        raise ConfigError(f"the checkpoints were measured on different episodes: {told}; measure each by itself")
    common = min(first.episodes, other.episodes)
    difference = (other.scores[:common] - first.scores[:common]).double()
    return {
        "difference": float(difference.mean()),
        "ci95": 1.96 * float(difference.std()) / math.sqrt(common),
        "episodes": common,
        "unlike": unlike(first.protocol, other.protocol, first.algorithm == other.algorithm),
    }


def _print_paired(names: list[str], compared: list[dict[str, Any]], accuracy: bool) -> None:
    out = tables.console(stderr=False)
    for name, row in zip(names[1:], compared, strict=True):
        sign = tables.plus_minus()
        if not math.isfinite(row["ci95"]):
            out.print(f"{name} against {names[0]}: the difference is no number, as answers are not finite")
            continue
        apart = f"{row['difference']:+.4g} {sign} {row['ci95']:.2g} in mean squared error"
        if accuracy:
            apart = f"{100 * row['difference']:+.2f} {sign} {100 * row['ci95']:.2f} points"
        out.print(f"{name} against {names[0]}, {row['episodes']:.0f} same episodes: {apart}", markup=False)


def _line(spread: "Spread | None", accuracy: bool, plus_minus: str) -> str | None:
    """A line on the spread over seeds; None if there is none."""
    if spread is None:
        return None
    scale, unit = (100, " %") if accuracy else (1, "")
    seeds = ", ".join(map(str, spread.seeds))
    if not math.isfinite(spread.std):
        return f"over seeds {seeds}: no mean, as one of them has answers that are not finite"
    shown = f"{scale * spread.mean:.4g} {plus_minus} {scale * spread.std:.2g}{unit}"
    within = f"{scale * spread.ci95:.2g}{unit}"
    return f"over seeds {seeds}: {shown} (standard deviation over seeds; interval within a run {within})"


def _gate(least: float | None, results: "list[Result]") -> None:
    for tested in results if least is not None else []:
        if not tested.accuracy:
            raise ConfigError("--min-accuracy: this checkpoint is measured in squared error, not in accuracy")
        lower = tested.steps[-1].score - tested.steps[-1].ci95
        if least is not None and lower < least:
            message = f"accuracy is at least {100 * lower:.2f} % (95 % interval), {100 * least:.2f} % was asked"
            tables.console(stderr=True).print(f"error: {message}", markup=False)
            raise typer.Exit(3)

"""`metalearn train`: an experiment from its file to checkpoints."""

import shlex
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from metalearn_cli.cli import banner, pages, tables
from metalearn_cli.cli.options import Config, Device, Figures, Json, Overrides, Quiet, Verbose, seconds_in
from metalearn_cli.cli.outputs import require_figures
from metalearn_cli.cli.presence import run_to_resume
from metalearn_cli.cli.stopping import Stopper
from metalearn_cli.runtime.machine import ranks
from metalearn_cli.version import own_version

if TYPE_CHECKING:
    from metalearn_cli.cli.screen import Screen
    from metalearn_cli.cli.summary import Outcome
    from metalearn_cli.experiment import Experiment

EPILOG = (
    "CONFIG is a path or the name of a config that ships with metalearn: quickstart, sinusoid, omniglot/5way1shot, "
    "...; with --resume the folder of a run will do. `metalearn train list` prints all names; `metalearn train NAME "
    "--dry-run > mine.yaml` copies one."
)


def train(
    config: Config,
    overrides: Overrides = None,
    run_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the run goes; default runs/<name>.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that is there.")] = False,
    max_time: Annotated[str | None, typer.Option(metavar="TIME", help="Stop cleanly after 90s, 55m, 2h.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the experiment, prove the gradient, stop.")] = False,
    figures: Figures = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Meta-train a learner.

    Validation picks the best checkpoint; the test split is never touched.
    """
    from metalearn_cli import experiment as experiments

    if config == "list" and not Path(config).exists():
        if json:
            tables.print_json({"configs": list(experiments.shipped())})
        else:
            print("\n".join(experiments.shipped()))  # noqa: T201
        return
    quiet = quiet or not ranks.leads()
    config, run_dir = run_to_resume(config, run_dir, resume)
    require_figures(figures)
    started, seconds = time.monotonic(), seconds_in(max_time)
    if not quiet and (Path(config).exists() or config in experiments.shipped()):
        tables.console(stderr=True).print(f"metalearn {own_version()}: train {config}")
    with tables.loading(quiet):
        experiment = experiments.read_experiment(config, overrides or [])
        from metalearn_cli.runtime.run import training  # noqa: F401  (torch comes with it, if it has not come before)
    again = [config, *(part for one in overrides or [] for part in ("--set", one))]
    again += ["--run-dir", str(run_dir)] if run_dir else []
    again += ["--figures", str(figures)] if figures else []
    call = TrainCall(
        shlex.join(again), json=json, quiet=quiet, verbose=verbose, started=started, figures=figures, seconds=seconds
    )
    if dry_run:
        from metalearn_cli.cli.dry_run import dry_run as tell

        tell(experiment, device, call.again, json, quiet)
        return
    folder = run_dir or Path("runs") / experiment.name
    _run(experiment, folder, resume, device, call)


class TrainCall(NamedTuple):
    """The options of the command on which its output depends."""

    again: str
    json: bool
    quiet: bool
    verbose: bool
    started: float
    figures: Path | None
    seconds: float | None = None


def _run(experiment: "Experiment", path: Path, resume: bool, device: str, call: TrainCall) -> None:
    """Train to the end or to a stop, print a row for each report, and then the result."""
    from metalearn_cli.cli.screen import Screen
    from metalearn_cli.runtime.run import procedure

    stopper, leads = Stopper(call.seconds, call.started), ranks.leads()
    try:
        with Screen(call.quiet, call.verbose, stopper) as screen:
            for report in procedure.train(experiment, path, resume=resume, device=device, watch=screen.watch()):
                screen.report(report)
        if leads:
            _tell(screen, stopper, call)
    except KeyboardInterrupt:
        raise typer.Exit(128 + (stopper.signal or signal.SIGINT)) from None


def _tell(screen: "Screen", stopper: Stopper, call: TrainCall) -> None:
    """Write the report page, and print the result of the run."""
    from metalearn_cli.cli import promising, summary
    from metalearn_cli.runtime.run import training

    session, state = screen.session, screen.state
    made = pages.Made(f"metalearn train {call.again}", call.started, call.quiet, call.figures)
    worth = promising.worth_of_run(session, state, stopper, call.quiet)
    page, not_on_it = pages.write_training_page(session, banner.run_title(session), made, stopper, worth)
    missing = [f"the validation of iteration {state.iteration}"] if training.report_is_due(session, state) else []
    drawn = call.figures if page is not None else None
    outcome = summary.Outcome(
        session,
        state.iteration,
        screen.reports[-1:],
        made.seconds,
        page,
        figures=drawn,
        left_out=[*missing, *not_on_it],
        promised=screen.promised,
        calibrating_took=screen.calibrating_took,
        worth=worth,
    )
    _finish(outcome, screen.came_from, state.reported, stopper, call)


def _finish(outcome: "Outcome", came_from: int | None, reported: int, stopper: Stopper, call: TrainCall) -> None:
    from metalearn_cli.cli import summary

    try:
        if call.json:
            tables.print_json(summary.outcome_fields(outcome) | {"resumed_from": came_from})
        else:
            summary.show(outcome)
        quiet = call.quiet and stopper.signal is None
        if outcome.left_out and not call.quiet:
            why = "--max-time is over" if stopper.signal is None else "it was stopped"
            tables.console(stderr=True).print(f"left out, as {why}: {'; '.join(outcome.left_out)}; --resume makes it")
        if reported < outcome.session.experiment.outer.iterations:
            tables.hint(f"metalearn train {call.again} --resume", quiet)
        else:
            tables.hint(f"metalearn eval --checkpoint {shlex.quote(str(outcome.checkpoint))}", quiet)
    finally:  # also where nobody reads the result any more
        if stopper.signal is not None:
            raise typer.Exit(128 + stopper.signal)

"""`metalearn train`: an experiment from its file to checkpoints."""

import shlex
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from metalearn_cli.cli import tables
from metalearn_cli.cli.options import Config, Device, Json, Overrides, Quiet, Verbose, seconds_in
from metalearn_cli.cli.stopping import Stopper

if TYPE_CHECKING:
    from torch import device

    from metalearn_cli.experiment import Experiment
    from metalearn_cli.runtime.distributed import Group
    from metalearn_cli.runtime.state import State
    from metalearn_cli.runtime.training import Report, Session
    from metalearn_cli.storage.sinks import Sink

EPILOG = (
    "CONFIG is a path or the name of a config that ships with metalearn: quickstart, sinusoid, omniglot/5way1shot, "
    "... `metalearn train list` prints all names; `metalearn train NAME --dry-run > mine.yaml` copies one."
)


def train(
    config: Config,
    overrides: Overrides = None,
    run_dir: Annotated[Path | None, typer.Option(help="Where the run goes; default runs/<name>.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that is there.")] = False,
    max_time: Annotated[str | None, typer.Option(help="Stop cleanly after 90s, 55m, 2h.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the experiment, prove the gradient, stop.")] = False,
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
    started, seconds = time.monotonic(), seconds_in(max_time)
    experiment = experiments.load(config, overrides or [])
    if dry_run:
        _dry_run(experiment, device, json, quiet)
        return
    folder = run_dir or Path("runs") / experiment.name
    again = [config, *(part for one in overrides or [] for part in ("--set", one))]
    again += ["--run-dir", str(folder)] if run_dir else []
    call = Call(shlex.join(again), json, quiet, verbose, started)
    _run(experiment, folder, resume, device, Stopper(seconds), call)


class Call(NamedTuple):
    """How the command was called, as far as what it prints depends on it."""

    again: str
    json: bool
    quiet: bool
    verbose: bool
    started: float


def _run(experiment: "Experiment", path: Path, resume: bool, device: str, stopper: Stopper, call: Call) -> None:
    from metalearn_cli.runtime import assembly, distributed

    place = distributed.own_device(assembly.device_named(device))
    with distributed.joined(place) as group:
        if not group.leads:
            call = call._replace(json=False, quiet=True)
        _run_in(group, place, experiment, path, resume, stopper, call)


def _run_in(
    group: "Group", place: "device", experiment: "Experiment", path: Path, resume: bool, stopper: Stopper, call: Call
) -> None:
    from metalearn_cli.experiment import to_yaml
    from metalearn_cli.runtime import assembly, card, training, watching
    from metalearn_cli.storage import preparation, runs, sinks

    openers = sinks.found(experiment.sinks)
    with group.leader_first(), tables.bar(call.quiet) as progress:
        data = assembly.open_data(experiment, preparation.data_folder(None), tables.Stages(progress))
    with runs.opened(path, resume) if group.leads else nullcontext(runs.RunFolder(path)) as folder:
        session = training.open_session(experiment, folder, data, place, group)
        state = training.start(session, resume)
        came_from = state.iteration if resume and folder.last.exists() else None
        if group.leads:
            folder.keep_config(to_yaml(experiment))
        if not call.quiet:
            lines = [_title(experiment, session.learner.second_order, place, group.size)]
            lines += [f"{session.plan}, data {data.sha256[:16]}"] if call.verbose else []
            tables.console(stderr=True).print("\n".join(lines), markup=False)
        run = sinks.Run(folder.path, experiment.name, sinks.settings_of(experiment)) if group.leads else None
        with sinks.opened(openers, run, _warn) as receivers:
            watching.show_episode(session, state.iteration, receivers)
            reports = _reports(session, state, receivers, stopper, call.quiet)
            watching.tell_result(state, reports, receivers)
    if group.leads:
        card.write_card(session, _warn)
        _finish(session, reports, state.iteration, came_from, stopper, call)


def _warn(text: str) -> None:
    tables.console(stderr=True).print(f"warning: {text}", markup=False)


def _reports(session: "Session", state: "State", sinks: "list[Sink]", stopper: Stopper, quiet: bool) -> "list[Report]":
    """Train to the end or to a stop, printing a row for each report."""
    from metalearn_cli.runtime import assembly, execution, training

    experiment = session.experiment
    reports: list[Report] = []
    steps = assembly.evaluation_steps(experiment, session.validator)
    accuracy = session.data.interface.tells_classes_apart
    lines = tables.ReportLines(steps, accuracy, state.iteration, experiment.outer.iterations)
    with execution.running(session.plan) as runner, tables.bar(quiet) as progress:
        shown = progress.add_task("training", total=experiment.outer.iterations, completed=state.iteration)
        watch = training.Watch(sinks, stopper, lambda iteration: progress.update(shown, completed=iteration))
        for report in training.train(session, runner, state, watch):
            if not quiet:
                text = lines.row(report) if reports else f"{lines.header()}\n{lines.row(report)}"
                progress.console.print(text, markup=False)
            reports.append(report)
    return reports


def _finish(
    session: "Session", reports: "list[Report]", iteration: int, came_from: int | None, stopper: Stopper, call: Call
) -> None:
    experiment, folder = session.experiment, session.folder
    last = reports[-1] if reports else None
    if call.json:
        tables.print_json(_fields(session, last, iteration) | {
            "seconds": time.monotonic() - call.started, "resumed_from": came_from
        })  # fmt: skip
    elif last is not None:
        out = tables.console(stderr=False)
        out.print(tables.steps_table(_protocol(session), last.val, session.data.interface.tells_classes_apart))
        best = f"best checkpoint {folder.best}" if folder.best.exists() else f"no validation was finite; {folder.last}"
        out.print(f"after {last.iteration} iterations; {best}", markup=False)
    quiet = call.quiet and stopper.signal is None
    if iteration < experiment.outer.iterations:
        tables.hint(f"metalearn train {call.again} --resume   (stopped after {iteration} iterations)", quiet)
    else:
        checkpoint = folder.best if folder.best.exists() else folder.last
        tables.hint(f"metalearn eval --checkpoint {shlex.quote(str(checkpoint))}", quiet)
    if stopper.signal is not None:
        raise typer.Exit(128 + stopper.signal)


def _protocol(session: "Session") -> str:
    from metalearn_cli.runtime import assembly

    experiment = session.experiment
    return tables.protocol(
        (experiment.algorithm.name, session.validator.second_order),
        (experiment.dataset.name, "val"),
        assembly.evaluation_spec(experiment),
        session.data.interface.tells_classes_apart,
        experiment.eval.val_episodes,
        assembly.evaluation_statistics(experiment),
    )


def _fields(session: "Session", last: "Report | None", iteration: int) -> dict[str, Any]:
    val = None
    if last is not None:
        accuracy = session.data.interface.tells_classes_apart
        steps = tables.steps_fields(last.val, accuracy)
        val = {"per_step": steps} | {
            key: value for key, value in steps[-1].items() if key in ("accuracy", "mse", "ci95")
        }
    return {
        "run_dir": str(session.folder.path),
        "checkpoint": str(session.folder.best) if session.folder.best.exists() else None,
        "last_checkpoint": str(session.folder.last),
        "iterations": iteration,
        "algorithm": session.experiment.algorithm.name,
        "second_order": session.learner.second_order,
        "device": str(session.device),
        "val": val,
        "tasks_per_second": last.tasks_per_second if last else None,
    }


def _dry_run(experiment: "Experiment", device: str, json: bool, quiet: bool) -> None:
    """Everything but the training: the resolved experiment on stdout, what it would do on stderr."""
    from metalearn_cli.experiment import to_yaml
    from metalearn_cli.runtime import assembly, proof, training
    from metalearn_cli.storage import preparation, runs, sinks

    sinks.found(experiment.sinks)
    if not json:
        print(to_yaml(experiment), end="")  # noqa: T201
    place = assembly.device_named(device)
    with tables.bar(quiet) as progress:
        data = assembly.open_data(experiment, preparation.data_folder(None), tables.Stages(progress))
    session = training.open_session(experiment, runs.RunFolder(Path("runs") / experiment.name), data, place)
    second_order, outer = session.learner.second_order, experiment.outer
    parameters = sum(value.numel() for value in session.learner.init().params.values())
    proved = proof.prove(experiment, data.interface, place)
    if json:
        tables.print_json({
            "experiment": experiment.model_dump(mode="json"), "device": str(place), "parameters": parameters,
            "tasks": outer.iterations * outer.meta_batch_size, "data_sha256": data.sha256,
            "second_order": second_order,
            "proof": {"task_parallel_error": proved.parallel, "finite_difference_error": proved.order},
        })  # fmt: skip
        return
    if quiet:
        return
    exact = (
        f"{tables.order(second_order).removeprefix(', ') or 'exact'}, finite differences agree to {proved.order:.0e}"
    )
    found = f"first order, {proved.order:.0%} off the true one" if second_order is False else exact
    lines = [
        _title(experiment, second_order, place),
        f"parameters     {parameters:,}",
        f"tasks          {outer.iterations * outer.meta_batch_size:,} in {outer.iterations:,} meta-batches",
        f"data           {data.sha256[:16]}",
        f"task-parallel  equals one task at a time to {proved.parallel:.0e} (float64)",
        f"meta-gradient  {found} (float64)",
    ]
    tables.console(stderr=True).print("\n".join(lines), markup=False)


def _title(experiment: "Experiment", second_order: bool | None, device: object, processes: int = 1) -> str:
    task = experiment.task
    size = f"{task.ways}-way {task.shots}-shot" if task.ways > 1 else f"{task.shots}-shot"
    return (
        f"{experiment.algorithm.name}{tables.order(second_order)}; {experiment.backbone.name} on {device}"
        f"{f' in {processes} processes' if processes > 1 else ''}\n"
        f"{experiment.dataset.name}, {size}, {task.queries} queries, {task.statistics} statistics"
    )

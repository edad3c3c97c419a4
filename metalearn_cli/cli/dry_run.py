"""`metalearn train --dry-run`: print the experiment, check the gradient, and measure how long the run would take."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metalearn_cli.cli import banner, tables

if TYPE_CHECKING:
    from metalearn_cli.experiment import Experiment
    from metalearn_cli.runtime.run.forecast import Forecast
    from metalearn_cli.runtime.run.gradient_proof import Proof
    from metalearn_cli.runtime.run.session import Session


def dry_run(experiment: "Experiment", device: str, again: str, json: bool, quiet: bool) -> None:
    """Print the resolved experiment on stdout; on stderr what the run would do and the result of the gradient check."""
    from metalearn_cli.experiment import to_yaml
    from metalearn_cli.runtime.run import assembly, forecast, gradient_proof, settings_without_effect
    from metalearn_cli.runtime.run.session import session_for
    from metalearn_cli.storage.runs import sinks

    sinks.sink_openers(experiment.sinks)
    if not json:
        print(to_yaml(experiment), end="")  # noqa: T201
    place = assembly.device_named(device)
    with tables.bar(quiet) as progress:
        stages, say = tables.Stages(progress), partial(tables.warn, above=progress)
        session = session_for(experiment, Path("runs") / experiment.name, device=place, progress=stages, say=say)
        stages("timing a few iterations", 0, 1)
        expected = forecast.forecast(session)  # before the proof, whose memory is not the run's
        proved = gradient_proof.prove(
            experiment, session.data.interface, place, lambda part: stages(f"proof: {part}", 0, 1)
        )
    settings_without_effect.tell(session, tables.warn)
    if json:
        tables.print_json(_fields(session, proved, expected))
    elif not quiet:
        tables.console(stderr=True).print("\n".join(_lines(session, proved, expected)))
        tables.hint(f"metalearn train {again}", quiet=False)


def _fields(session: "Session", proved: "Proof", expected: "Forecast") -> dict[str, Any]:
    from metalearn_cli.cli import summary

    experiment, outer = session.experiment, session.experiment.outer
    return {
        "experiment": experiment.model_dump(mode="json"),
        "device": str(session.device),
        "parameters": _parameters(session),
        "tasks": outer.iterations * outer.meta_batch_size,
        "data_sha256": session.data.sha256,
        "second_order": session.learner.traits.second_order,
        "proof": {
            "task_parallel_error": proved.parallel,
            "evaluation_error": proved.evaluation,
            "finite_difference_error": proved.order,
            "mode": proved.plan.mode,
            "inputs": list(proved.shape),
        },
        "forecast": summary.forecast_fields(expected),
    }


def _lines(session: "Session", proved: "Proof", expected: "Forecast") -> list[str]:
    from metalearn_cli.cli import summary

    outer = session.experiment.outer
    return [
        *banner.banner_lines(session),
        f"parameters     {_parameters(session):,}",
        f"tasks          {outer.iterations * outer.meta_batch_size:,} in {outer.iterations:,} meta-batches",
        f"data           {session.data.sha256[:16]}",
        *_proved(session, proved),
        *summary.forecast_lines(expected),
    ]


def _parameters(session: "Session") -> int:
    return sum(value.numel() for value in session.learner.init().params.values())


def _proved(session: "Session", proved: "Proof") -> list[str]:
    """The lines on the three errors of a proof."""
    second_order = session.learner.traits.second_order
    parallel = f"task-parallel  equals one task at a time to {proved.parallel:.0e} (float64)"
    if proved.plan.mode == "loop":
        parallel = "tasks run      one at a time, as plain modules (execution.mode=loop)"
    same = f"training loss  is that of evaluation after the same steps to {proved.evaluation or 0:.0e} (float64)"
    found = (
        f"{tables.order(second_order).removeprefix(', ') or 'exact'}, finite differences agree to {proved.order:.0e}"
    )
    if second_order is False:
        found = f"first order, {proved.order:.0%} off the true one"
    # The baselines train without tasks, so their training loss has no counterpart in evaluation.
    return [parallel, *([] if proved.evaluation is None else [same]), f"meta-gradient  {found} (float64)"]

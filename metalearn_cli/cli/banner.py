"""The lines that `train` prints before a run begins."""

from typing import TYPE_CHECKING

from metalearn_cli.cli import tables

if TYPE_CHECKING:
    from metalearn_cli.runtime.run.session import Session


def run_title(session: "Session") -> str:
    """A line with the algorithm, the order of its meta-gradient, the network, and the device."""
    experiment, processes, second_order = session.experiment, session.group.size, session.learner.traits.second_order
    return (
        f"{experiment.algorithm.name}{tables.order(second_order)}; {experiment.backbone.name} on "
        f"{session.device}{f' in {processes} processes' if processes > 1 else ''}"
    )


def banner_lines(session: "Session") -> list[str]:
    """The title, a line on the training tasks, and a line on the validations."""
    trained, measured = session.trained, session.measured
    rows = [("training", trained.tasks), ("", trained.how), ("validation", measured.tasks), ("", measured.how)]
    view = session.data.interface.view
    rows = rows if view is None else [("features", f"{session.data.interface.input_shape[0]}, {view.told}"), *rows]
    return [run_title(session), *(f"{name:<12}{told}" for name, told in rows)]


def extent(session: "Session", iteration: int) -> str:
    """A line with the number of iterations, the one at which this call begins, and the run folder."""
    outer = session.experiment.outer
    begin = f", from iteration {iteration:,}" if iteration else ""
    return f"{outer.iterations:,} iterations of {outer.meta_batch_size} tasks{begin}, into {session.folder.path}"

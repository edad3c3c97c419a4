"""Gives the sinks of a run a picture of its tasks at the start and its result at the end.

Legend: W ways, S shots, Q queries of a class, C channels.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metalearn_cli.core.tasks import Task
from metalearn_cli.datasets import Preprocessing
from metalearn_cli.runtime.data.interface import shown_as
from metalearn_cli.runtime.data.pixels import pictures_of_inputs
from metalearn_cli.runtime.run.assembly import evaluation_spec
from metalearn_cli.runtime.run.state import State
from metalearn_cli.storage.runs.sinks import Sink

if TYPE_CHECKING:
    from metalearn_cli.runtime.run.reports import Report
    from metalearn_cli.runtime.run.session import Session

_GAP = 2  # pixels
_GREY = 128


def show_episode(session: "Session", iteration: int, sinks: Sequence[Sink]) -> None:
    """Send every sink the pictures of the first validation task, as the network reads them."""
    data, seed = session.data, session.experiment.eval.seed
    spec = evaluation_spec(session.experiment)
    shown = shown_as(data, data.interface.preprocessing, "val", spec, seed)
    seen, pictures = shown["seen"], shown["pictures"]
    if seen is None or not sinks:
        return
    task = (pictures or data.sampler("val", spec, seed))(0, [0])
    pixels = task_picture(task, spec.ways, seen)
    for sink in sinks:
        sink.picture(iteration, "val/episode", pixels)


def tell_result(state: State, last: "Report", sinks: Sequence[Sink]) -> None:
    """Send every sink the numbers of the run's last report, and the best validation score of the whole run."""
    metrics = {"result/iterations": float(last.iteration), "result/val": last.val[-1].score, "result/loss": last.loss}
    if state.best is not None:
        metrics["result/best val"] = state.best
    for sink in sinks:
        sink.result(metrics)


def task_picture(task: Task, ways: int, seen: Preprocessing) -> NDArray[np.uint8]:
    """The first task of a batch as one RGB picture: a row for each class, its S shots, a gap, its Q queries."""

    def rows(inputs: Tensor) -> NDArray[np.uint8]:
        pixels = pictures_of_inputs(inputs[0], seen)
        by_class = pixels.reshape(ways, -1, *pixels.shape[1:])
        # [W, N, H, W', C] -> [W, H, N, W', C] -> one row of N pictures for each class, which are W' wide.
        return by_class.swapaxes(1, 2).reshape(ways * seen.height, -1, seen.channels)

    support, query = rows(task.support.inputs), rows(task.query.inputs)
    gap = np.full((len(support), _GAP, seen.channels), _GREY, np.uint8)
    beside = np.concatenate([support, gap, query], 1)
    return beside.repeat(3, -1) if seen.channels == 1 else beside

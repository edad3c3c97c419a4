"""Counts the tasks in which iMAML's conjugate gradients stopped early (their system was not positive definite)."""

from collections.abc import Callable

import torch

from metalearn_cli.runtime.machine.execution import Runner
from metalearn_cli.runtime.run.evaluation import on_device
from metalearn_cli.runtime.run.session import Session, training_sampler
from metalearn_cli.runtime.run.state import State


def cut_short_share(session: Session, runner: Runner, state: State, say: Callable[[str], None]) -> float | None:
    """The share of the last iteration's tasks in which conjugate gradients stop early; None for all but iMAML.

    It is computed anew with the current meta-parameters. If the share is above 0 at the first report, `say` gets a line
    that explains it.
    """
    implicit = session.learner.implicit
    if implicit is None:
        return None
    outer, group = session.experiment.outer, session.group
    sampler = training_sampler(session.experiment, session.data, session.learner)
    tasks = on_device(sampler(state.iteration - 1, group.share(range(outer.meta_batch_size))), session.device)
    count = torch.cat(runner.chunks(implicit.cut_short, state.meta, tasks)).sum().float()
    total = float(group.summed([count])[0] if group.size > 1 else count)
    if total and not state.reported:
        say(
            f"in {total:.0f} of {outer.meta_batch_size} tasks negative curvature ended conjugate gradients early, so "
            "that their meta-gradient is far from the solution's; try a larger algorithm.cg_damping or "
            "algorithm.strength (metrics.jsonl has the share of each report as cut_short)"
        )
    return total / outer.meta_batch_size

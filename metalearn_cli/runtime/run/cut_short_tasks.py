"""How many tasks iMAML's conjugate gradients give up, because the system that they solve is not positive definite."""

from collections.abc import Callable

import torch

from metalearn_cli.runtime.machine.execution import Runner
from metalearn_cli.runtime.run.evaluation import on_device
from metalearn_cli.runtime.run.session import Session, training_sampler
from metalearn_cli.runtime.run.state import State


def cut_short_share(session: Session, runner: Runner, state: State, say: Callable[[str], None]) -> float | None:
    """The share of the last iteration's tasks, at the learner as it is now; None for a learner that solves no system.

    `say` hears of it if it is so at the first report.
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

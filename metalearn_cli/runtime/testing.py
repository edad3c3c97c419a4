"""One checkpoint, measured on the episodes of a part that training never drew from."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from metalearn_cli.core.meta import Scores
from metalearn_cli.datasets import PARTS, Part
from metalearn_cli.errors import CheckpointError, ConfigError
from metalearn_cli.experiment import from_mapping, with_overrides
from metalearn_cli.runtime import assembly
from metalearn_cli.runtime.evaluation import EPISODES_AT_ONCE, Step, evaluate, narrow, summary
from metalearn_cli.runtime.execution import plan_for, running
from metalearn_cli.runtime.sampling import TaskSpec, fingerprint
from metalearn_cli.runtime.state import interface_of, meta_of, require_kind
from metalearn_cli.storage import checkpoints
from metalearn_cli.storage.preparation import Progress, data_folder


class Tested(NamedTuple):
    """What was measured, on what, and the last step's score of each episode [episodes]."""

    algorithm: str
    second_order: bool
    dataset: str
    part: Part
    spec: TaskSpec
    statistics: str
    accuracy: bool
    fingerprint: str
    steps: list[Step]
    scores: Tensor

    @property
    def episodes(self) -> int:
        """How many episodes were drawn."""
        return len(self.scores)


def tested(
    path: Path, overrides: Sequence[str], split: str, episodes: int | None, until_ci: float | None, device: str,
    progress: Progress,
) -> Tested:  # fmt: skip
    """The checkpoint's scores on episodes 0, 1, ... of a part.

    Raises CheckpointError, DataError or ConfigError if it cannot be measured so.
    """
    checkpoint = checkpoints.load(path)
    require_kind(checkpoint, "meta", path)
    trained = from_mapping(checkpoint.header["experiment"], str(path))
    experiment = with_overrides(trained, overrides)
    place = assembly.device_named(device)
    data = assembly.open_data(experiment, data_folder(None), progress)
    interface = interface_of(checkpoint)
    if data.interface.input_shape != interface.input_shape:
        raise CheckpointError(
            f"{path}: was trained on inputs of shape {interface.input_shape}, "
            f"the dataset gives {data.interface.input_shape}"
        )
    statistics = assembly.evaluation_statistics(experiment)
    learner = assembly.learner_for(experiment, interface, statistics)
    spec = assembly.evaluation_spec(experiment)
    if learner.ways not in (None, spec.ways):
        raise ConfigError(f"task.ways: {spec.ways} asked, but {path} was trained for {learner.ways} classes")
    part = next(part for part in PARTS if part == split)
    sampler = data.sampler(part, spec, experiment.eval.seed)
    cap = episodes or experiment.eval.episodes
    plan = plan_for(place, experiment.execution, spec.values(interface.input_shape), EPISODES_AT_ONCE)

    def enough(scores: Scores) -> bool:
        progress("episodes", scores.score.shape[0], cap)
        return until_ci is not None and narrow(until_ci)(scores)

    with running(plan) as runner:
        meta, steps = meta_of(checkpoint, path, learner, place), assembly.evaluation_steps(experiment, learner)
        scores = evaluate(learner, runner, meta, sampler, steps, cap, enough)
    return Tested(
        experiment.algorithm.name, learner.second_order, experiment.dataset.name, part, spec, statistics,
        interface.objective.name == "accuracy", fingerprint(sampler, len(scores.score)), summary(scores),
        scores.score[:, -1],
    )  # fmt: skip

"""One checkpoint, measured on the episodes of a part that training never drew from."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

from torch import Tensor

from metalearn_cli.core.meta import Scores
from metalearn_cli.datasets import PARTS, PREPARATION_ONLY, Mixture, Part, TaskSource
from metalearn_cli.errors import CheckpointError, ConfigError
from metalearn_cli.experiment import Experiment, to_yaml, with_overrides
from metalearn_cli.runtime import assembly
from metalearn_cli.runtime.episodes import Subject
from metalearn_cli.runtime.evaluation import EPISODES_AT_ONCE, Step, evaluate, narrow, summary
from metalearn_cli.runtime.execution import plan_for, running
from metalearn_cli.runtime.headers import experiment_in, interface_of, require_kind
from metalearn_cli.runtime.sampling import TaskSpec, fingerprint
from metalearn_cli.runtime.state import meta_of
from metalearn_cli.settings import Choice
from metalearn_cli.storage import checkpoints
from metalearn_cli.storage.downloads import Progress
from metalearn_cli.storage.preparation import data_folder


class Tested(NamedTuple):
    """What was measured, on what, and the last step's score of each episode [episodes].

    Equal `fingerprint`s mean the same episodes, equal `stream`s that the shorter ones are the beginning of the longer.
    Equal `recipe`s mean that nothing but the `seed` was another in training. `settings` is the experiment as it was
    measured, `subject` what was measured, for a closer look.
    """

    algorithm: str
    second_order: bool | None
    dataset: str
    part: Part
    spec: TaskSpec
    statistics: str
    accuracy: bool
    fingerprint: str
    stream: str
    steps: list[Step]
    scores: Tensor
    seed: int
    recipe: str
    settings: str
    subject: Subject

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
    trained = experiment_in(checkpoint, path)
    experiment = with_overrides(trained, overrides)
    _require_as_trained(path, trained, experiment)
    place = assembly.device_named(device)
    interface = interface_of(checkpoint, path)
    _require_kind(path, interface, experiment.dataset)
    data = assembly.open_data(experiment, data_folder(None), progress, interface.preprocessing)
    part = next(part for part in PARTS if part == split)
    _require_unseen(path, checkpoint, trained.dataset, experiment.dataset, data, part)
    statistics = assembly.evaluation_statistics(experiment)
    learner = assembly.learner_for(experiment, interface, statistics)
    spec = assembly.evaluation_spec(experiment)
    if learner.ways not in (None, spec.ways):
        key = "task.ways" if experiment.eval.ways is None else "eval.ways"
        raise ConfigError(f"{key}: {spec.ways} asked, but {path} was trained for {learner.ways} classes")
    sampler, names = data.sampler(part, spec, experiment.eval.seed), data.names(part, spec, experiment.eval.seed)
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
        interface.tells_classes_apart, fingerprint(sampler, len(scores.score)), fingerprint(sampler, 1),
        summary(scores), scores.score[:, -1], trained.seed,
        to_yaml(trained.model_copy(update={"name": "", "seed": 0, "sinks": None})), to_yaml(experiment),
        Subject(learner, meta, steps, plan, sampler, names, interface.preprocessing),
    )  # fmt: skip


class Spread(NamedTuple):
    """One experiment over several training seeds: mean and sample standard deviation of the last step's score.

    `ci95` is the half-width within a run (episodes alone), averaged; how seeds differ it does not know.
    """

    seeds: list[int]
    mean: float
    std: float
    ci95: float


def over_seeds(results: Sequence[Tested]) -> Spread | None:
    """The spread of checkpoints that differ in their seed and in nothing else; None for any others."""
    seeds = [one.seed for one in results]
    if len(seeds) < 2 or len(set(seeds)) < len(seeds) or len({one.recipe for one in results}) > 1:
        return None
    scores = [one.steps[-1].score for one in results]
    return Spread(seeds, mean(scores), stdev(scores), mean(one.steps[-1].ci95 for one in results))


def _require_as_trained(path: Path, trained: Experiment, asked: Experiment) -> None:
    """What was trained cannot be changed afterwards, only renamed, which would make every table a lie."""
    for part in ("algorithm", "backbone"):
        before, after = getattr(trained, part).model_dump(), getattr(asked, part).model_dump()
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key):
                raise ConfigError(
                    f"{part}.{key}: {path} was trained with {before.get(key)!r}, which --set cannot change now"
                )


def _require_kind(path: Path, interface: assembly.Interface, asked: Choice) -> None:
    """Pictures of any size can be made to fit, numbers cannot."""
    numbers = isinstance(assembly.dataset_of(asked), TaskSource)
    if numbers != (interface.preprocessing is None):
        trained = "numbers" if interface.preprocessing is None else "pictures"
        raise ConfigError(f"dataset.name: {path} was trained on {trained}, and {asked.name} has none")


def _require_unseen(
    path: Path, checkpoint: checkpoints.Checkpoint, trained: Choice, asked: Choice, data: assembly.Data, part: Part
) -> None:
    """No class that may have been trained on is tested on: else it is no test at all."""
    suspicion = "it may have been trained on the classes that it would be tested on"
    if isinstance(mixture := assembly.dataset_of(trained), Mixture) and asked.name != trained.name:
        for member in mixture.of:
            _require_unseen(path, checkpoint, member, asked, data, part)
        return
    same = asked.name == trained.name and getattr(asked, "title", None) == getattr(trained, "title", None)
    if not same:
        common = sorted(assembly.class_names(trained, data_folder(None), "train") & data.classes(part))
        if common:
            raise ConfigError(
                f"dataset.name: {path} was trained on {len(common)} classes of part '{part}' of {asked.name}, "
                f"such as {common[0]!r}; it cannot be tested on them"
            )
        return
    before, after = trained.model_dump(), asked.model_dump()
    for key in sorted((before.keys() | after.keys()) - PREPARATION_ONLY):
        if before.get(key) != after.get(key):
            raise ConfigError(
                f"dataset.{key}: {path} was trained with {before.get(key)!r}; with {after.get(key)!r} {suspicion}"
            )
    if checkpoint.header["experiment"]["dataset"]["name"] == asked.name and data.sha256 != checkpoint.header.get(
        "data_sha256"
    ):
        raise CheckpointError(
            f"{path}: was trained on other data than the prepared {asked.name} holds now; {suspicion}"
        )

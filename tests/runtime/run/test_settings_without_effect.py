"""Every setting either changes something or is said to have no effect, whatever the others are."""

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal, get_args, get_origin

import pytest
import torch

from metalearn_cli.core.meta import scores_per_step
from metalearn_cli.errors import MetalearnError
from metalearn_cli.experiment import Experiment, from_mapping
from metalearn_cli.experiment.registry import names_in
from metalearn_cli.runtime.machine import matrix_products
from metalearn_cli.runtime.machine.execution import running
from metalearn_cli.runtime.run import assembly, outer_step, settings_without_effect
from metalearn_cli.runtime.run import session as sessions
from tests.commands import TINY

CPU = torch.device("cpu")
SINES = TINY | {
    "dataset": {"name": "sinusoid"}, "task": {"ways": 1, "shots": 3, "queries": 4}, "backbone": {"name": "mlp"},
}  # fmt: skip
BACKBONES: dict[str, dict] = {
    "conv4": {"channels": 4},
    "conv4, groups": {"name": "conv4", "channels": 16, "norm": "group"},
    "mlp": {"hidden": [5]},
    "resnet12": {"channels": [2, 2, 3, 3]},
    "layers": {"layers": ["flatten", {"linear": {"features": 5}}, "tanh", "linear"]},
}
ALGORITHMS: dict[str, list[dict]] = {name: [{}] for name in names_in("algorithms")}
for _name in ("maml", "anil", "boil", "meta_sgd", "meta_curvature", "cavia", "imaml", "proto_maml"):
    ALGORITHMS[_name].append({"inner_steps": 0})
for _name in ("maml", "maml_plus_plus", "proto_maml"):
    ALGORITHMS[_name].append({"second_order": False, "inner_steps": 2})
ALGORITHMS["maml_plus_plus"] += [{"inner_steps": 1}, {"first_order_iterations": 9}]
ALGORITHMS["imaml"].append({"cg_steps": 0})
ALGORITHMS["baseline"] = ALGORITHMS["baseline_plus_plus"] = [{"classes": 40}, {"classes": 40, "inner_steps": 0}]

OTHERS = {
    "hidden": [[], [6, 6]], "channels": [6, 16, [3, 3, 3, 3]], "layers": [["flatten", "linear"]],
    "inner_steps": [0, 1, 2], "drop_rate": [0.3], "augmentation": [["crop"]], "classes": [48], "drawings": [19],
    "chunk": [1], "threads": [3], "ways": [3], "multi_step_iterations": [0, 3], "first_order_iterations": [1],
    "step_every": [2], "step_factor": [0.5], "clip_norm": [1e-3], "clip_value": [1e-4], "iterations": [3],
    "inner_lr": [0.05], "batch_size": [1], "cg_steps": [0, 1],
}  # fmt: skip
"""Values to try besides those that a type lists."""
ELSEWHERE = {
    *("name", "dataset.name", "backbone.name", "algorithm.name", "sinks"),
    *("checkpoint.minutes", "checkpoint.every", "checkpoint.keep_best", "outer.on_nonfinite", "execution.processes"),
    *("execution.mode", "execution.chunk", "execution.threads", "algorithm.gradient"),
    *("eval.episodes", "eval.val_episodes", "eval.every", "eval.calibrate_shots"),
}
"""What decides when something is done or kept, or how much at once, and not what is computed."""

THE_DEFAULT = [
    ("dataset.normalisation", "none"),
    ("eval.inner_steps", 1),
    ("eval.statistics", "transductive"),
    ("execution.kernels", "compiled"),
]
"""What the defaults mean here in other words."""


def values_of(key: str, value: Any, annotation: Any) -> Iterator[Any]:
    """Values of a field other than `value`."""
    choices = [choice for kind in (annotation, *get_args(annotation)) if get_origin(kind) is Literal
               for choice in get_args(kind)]  # fmt: skip
    tried = [*choices, *OTHERS.get(key, [])]
    if isinstance(value, bool):
        tried.append(not value)
    elif isinstance(value, int | float) and not tried:
        tried += [value + 1, value / 2] if isinstance(value, float) else [value + 1]
    yield from (one for one in tried if one != value and type(one) in (type(value), type(None), str, int, float, list))


def opened(values: dict, data_dir) -> sessions.Session:
    experiment = from_mapping(values, "test")
    return sessions.session_for(experiment, data_dir / "no run", data_dir=data_dir)


def computed(session: sessions.Session) -> list[Any]:
    """All that a few iterations and a validation compute, and how."""
    experiment, learner = session.experiment, session.learner
    meta, tasks = learner.init(), sessions.training_sampler(experiment, session.data, learner)
    found: list[Any] = [session.plan, matrix_products.rounds(experiment.execution.precision, CPU)]
    found += [outer_step.rate(experiment.outer, iteration) for iteration in range(experiment.outer.iterations)]
    optimizer = outer_step.optimizer_for(experiment.outer, meta)
    with (
        running(session.plan._replace(mode="vmap"), precision=experiment.execution.precision) as runner,
    ):
        for iteration in range(2):
            batch = tasks(iteration, range(experiment.outer.meta_batch_size))
            sums, query = runner.total(partial(learner.meta_gradient, iteration=iteration), meta, batch)
            outer_step.move(experiment.outer, optimizer, meta, sums, iteration)
            found += [query, *outer_step.leaves(meta).values()]
    sampler = session.data.sampler("val", assembly.evaluation_spec(experiment), experiment.eval.seed)
    steps = assembly.evaluation_steps(experiment, session.validator)
    return [*found, *scores_per_step(session.validator, steps, meta, sampler(0, range(2)))]


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)


def fields(experiment: Experiment) -> Iterator[tuple[str, str, Any]]:
    """(block, key, value to try) for every field of the experiment; a field of its own has block ""."""
    for block, about in type(experiment).model_fields.items():
        settings = getattr(experiment, block)
        if not hasattr(type(settings), "model_fields"):
            yield from (("", block, value) for value in values_of(block, settings, about.annotation))
            continue
        for key, inner in type(settings).model_fields.items():
            yield from ((block, key, value) for value in values_of(key, getattr(settings, key), inner.annotation))


def without_a_word(values: dict, blocks: set[str], data_dir) -> list[str]:
    """Changes of settings in these blocks that change nothing, where neither value is said to have no effect."""
    before = opened(values, data_dir)
    expected, told, found = computed(before), settings_without_effect.idle_settings(before), []
    for block, key, value in fields(before.experiment):
        name = f"{block}.{key}".lstrip(".")
        if name in ELSEWHERE or (name, value) in THE_DEFAULT or block not in blocks:
            continue
        dumped = before.experiment.model_dump(mode="json")
        changed = dumped | ({block: dumped[block] | {key: value}} if block else {key: value})
        try:
            session = opened(changed, data_dir)
        except MetalearnError:
            continue  # refused, in a line
        lines = [*told, *settings_without_effect.idle_settings(session)]
        said = any(line.startswith((f"{name}:", f"{block}:")) for line in lines)
        if not said and alike(computed(session), expected):
            found.append(f"{name}={value} changes nothing, without a word")
    return found


CONTEXTS = [
    (algorithm, settings, backbone)
    for algorithm, chosen in ALGORITHMS.items()
    for settings, backbone in itertools.product(chosen, BACKBONES)
]


def context(algorithm: str, settings: dict, backbone: str, **evaluation) -> dict:
    network = {"name": backbone} | BACKBONES[backbone]
    chosen = {"algorithm": {"name": algorithm} | settings, "backbone": network}
    return TINY | chosen | {"eval": TINY["eval"] | {"inner_steps": None} | evaluation}


@pytest.mark.parametrize(
    ("algorithm", "settings", "backbone"),
    [
        pytest.param(
            *one, marks=[pytest.mark.slow] if one[1:] not in [({}, "mlp"), ({}, "layers")] else [], id=str(one)
        )
        for one in CONTEXTS
    ],
)
def test_every_setting_of_algorithm_and_network_changes_something_or_is_said(algorithm, settings, backbone, data_dir):
    assert not without_a_word(context(algorithm, settings, backbone), {"algorithm", "backbone"}, data_dir)


@pytest.mark.parametrize(
    ("algorithm", "backbone"),
    [("maml", "conv4"), ("maml", "mlp"), ("protonet", "conv4, groups"), ("nearest", "conv4"), ("baseline", "conv4")],
)
def test_every_other_setting_changes_something_or_is_said(algorithm, backbone, data_dir):
    values = context(algorithm, ALGORITHMS[algorithm][0], backbone)
    assert not without_a_word(values, {"", "dataset", "task", "outer", "eval", "execution"}, data_dir)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (
            {"algorithm": {"name": "maml_plus_plus"}, "backbone": {"name": "mlp"}},
            "algorithm.per_step_norm: has no effect",
        ),
        ({"algorithm": {"name": "protonet"}}, "eval.inner_steps: has no effect, protonet takes no inner steps"),
        ({"backbone": {"name": "mlp"}, "task": TINY["task"] | {"statistics": "support"}}, "task.statistics: has no"),
        ({"outer": TINY["outer"] | {"schedule": "step"}}, "outer.schedule: has no effect, its first step"),
        ({"outer": TINY["outer"] | {"optimizer": "adamw"}}, "outer.optimizer: adamw is adam"),
        ({"execution": {"mode": "loop", "chunk": 2}}, "execution.chunk: has no effect"),
        ({"execution": {"cuda_graph": False}}, "execution.cuda_graph: has no effect, there is no GPU"),
        ({"execution": {"kernels": "torch", "mode": "loop"}}, "execution.kernels: has no effect, execution.mode=loop"),
        ({"algorithm": {"name": "nearest"}}, "backbone: has no effect, nearest reads the pixels themselves"),
        (SINES | {"eval": TINY["eval"] | {"ways": 4}}, "eval.ways: has no effect, sinusoid has no classes"),
        (SINES | {"task": {"ways": 1, "shots": 3, "statistics": "support"}}, "task.statistics: has no effect, mlp"),
    ],
)
def test_what_has_no_effect_is_said_by_its_key(more, line, data_dir):
    assert any(one.startswith(line) for one in settings_without_effect.idle_settings(opened(TINY | more, data_dir)))


@pytest.mark.parametrize("rounded", [False, True])
def test_a_precision_that_this_cpu_does_not_have_is_said(rounded, data_dir, monkeypatch):
    monkeypatch.setattr(matrix_products, "products_are_exact", lambda _asked: not rounded)
    lines = settings_without_effect.idle_settings(opened(TINY | {"execution": {"precision": "bfloat16"}}, data_dir))
    expected = "execution.precision: has no effect, this CPU does not round products to bfloat16"
    assert (expected in lines) != rounded


def test_an_experiment_as_it_ships_has_nothing_idle(data_dir):
    assert settings_without_effect.idle_settings(opened(TINY, data_dir)) == []

from collections import Counter

import numpy as np
import pytest

from metalearn_cli.experiment import from_mapping
from metalearn_cli.runtime.data import opening, sampling
from metalearn_cli.runtime.data.pixels import pixels_on
from metalearn_cli.runtime.machine.execution import Plan, running
from metalearn_cli.runtime.run import assembly
from metalearn_cli.runtime.run.evaluation import scores_of
from metalearn_cli.runtime.use import episode_answers
from metalearn_cli.runtime.use.episode_answers import Answered, Subject
from tests.commands import TINY

PLAN = Plan("vmap", 8, 1)
SINES = {
    "dataset": {"name": "sinusoid"},
    "task": {"ways": 1, "shots": 4, "queries": 6},
    "backbone": {"name": "mlp", "hidden": [8]},
    "algorithm": {"name": "maml", "inner_lr": 0.01},
}


def subject_of(data_dir, **blocks) -> Subject:
    experiment = from_mapping(TINY | blocks, "test")
    data = opening.open_data(experiment, data_dir, lambda *_: None)
    learner, spec = (
        assembly.learner_for(experiment, data.interface, "transductive"),
        assembly.evaluation_spec(experiment),
    )
    sampler, names = data.sampler("val", spec, 0), data.names("val", spec, 0)
    return Subject(learner, learner.init(), 2, PLAN, sampler, names, data.interface.preprocessing)


def pool_of(stored, part) -> sampling.Pool:
    images = pixels_on(stored.prepared.images)
    return sampling.pool_of(stored.prepared, images, stored.sampling, part, stored.preprocessing)


def test_the_answers_are_those_that_the_measured_accuracy_counts(data_dir):
    subject = subject_of(data_dir)
    found = episode_answers.answered(subject, 40)
    with running(PLAN) as runner:
        scores = scores_of(subject.learner, runner, subject.meta, subject.sampler, 2, 40)
    assert found.accuracies == pytest.approx(scores.score[:, -1].tolist())
    facts = found.classes()
    assert sum(one.queries for one in facts) == found.targets.size
    assert sum(one.right for one in facts) / found.targets.size == pytest.approx(float(scores.score[:, -1].mean()))
    assert sum(one.times for one in found.confusions()) == (found.targets != found.answers).sum()
    assert len({one.right for one in facts}) > 1


def test_a_class_has_the_name_of_the_pictures_that_were_drawn(data_dir):
    experiment = from_mapping(TINY, "test")
    stored = opening._stored(experiment.dataset, data_dir, lambda *_: None)
    manifest = stored.prepared.manifest
    starts = dict(
        zip((e.name for e in manifest.classes), np.cumsum([0, *(e.count for e in manifest.classes)]), strict=False)
    )
    counts = {entry.name: entry.count for entry in manifest.classes}
    pool = pool_of(stored, "val")
    spec = assembly.evaluation_spec(experiment)
    names = sampling.picture_names(pool, spec, 3)
    for number in range(20):
        for name, images in zip(names(5, number), sampling.draw(pool, spec, 3, 5, number).images, strict=True):
            assert ((starts[name] <= images) & (images < starts[name] + counts[name])).all()


def test_pictures_are_what_is_stored(data_dir):
    subject = subject_of(data_dir)
    experiment = from_mapping(TINY, "test")
    stored = opening._stored(experiment.dataset, data_dir, lambda *_: None)
    pool = pool_of(stored, "val")
    images = sampling.draw(pool, assembly.evaluation_spec(experiment), 0, 0, 7).images
    shown = episode_answers.episode_pictures(subject, 7)
    assert np.array_equal(shown.support, np.asarray(stored.prepared.images)[images[:, :1]])
    assert np.array_equal(shown.query, np.asarray(stored.prepared.images)[images[:, 1:]])


def test_a_class_of_a_mixture_says_which_dataset_it_is_of(data_dir):
    members = [{"name": "glyphs", "classes": 40}, {"name": "glyphs", "classes": 40, "seed": 1}]
    subject = subject_of(data_dir, dataset={"name": "mixture", "of": members, "weights": [1, 1]})
    assert all(name.startswith("glyphs: glyph") for number in range(5) for name in subject.names(0, number))


def test_confusions_count_the_queries_that_could_have_been_confused():
    names = [["cat", "dog"], ["dog", "fox"]]
    found = Answered(names, np.array([[0, 0, 1, 1], [0, 0, 1, 1]]), np.array([[1, 0, 1, 1], [1, 1, 0, 1]]))
    assert found.confusions() == [("dog", "fox", 2, 2), ("cat", "dog", 1, 2), ("fox", "dog", 1, 2)]
    assert found.classes() == [("cat", 1, 2, 1), ("dog", 2, 4, 2), ("fox", 1, 2, 1)]
    assert found.accuracies == [0.75, 0.25]
    assert found.telling() == [1, 0]
    assert Counter(found.names[1]) == Counter(["dog", "fox"])


def test_an_answer_of_no_class_is_wrong_and_confused_with_nothing():
    found = Answered([["a", "b"]], np.array([[0, 0, 1, 1]]), np.array([[0, -1, -1, 0]]))
    assert [(one.name, one.right, one.queries) for one in found.classes()] == [("b", 0, 2), ("a", 1, 2)]
    assert [(one.shown, one.taken_for, one.times) for one in found.confusions()] == [("b", "a", 1)]

"""Raw pictures go through exactly what `prepare` did: the same drawings score the same in eval and through load()."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from metalearn_cli import load
from metalearn_cli.core.meta import scores_per_step
from metalearn_cli.datasets import omniglot
from metalearn_cli.experiment import from_mapping
from metalearn_cli.runtime.data.pixels import pixels_on
from metalearn_cli.runtime.data.sampling import draw, pool_of
from metalearn_cli.runtime.machine.execution import running
from metalearn_cli.runtime.run import assembly, training
from metalearn_cli.runtime.run import session as sessions
from metalearn_cli.runtime.use.network_inputs import inputs_of
from metalearn_cli.storage.inputs.sources import open_source
from metalearn_cli.storage.prepared.preparation import open_or_explain, prepare
from metalearn_cli.storage.runs import run_folder

EXPERIMENT = {
    "name": "raw",
    "dataset": {"name": "omniglot", "split": "official"},
    "task": {"ways": 5, "shots": 2, "queries": 5},
    "backbone": {"name": "conv4", "channels": 16},
    "algorithm": {"name": "maml"},
    "outer": {"lr": 3e-3, "meta_batch_size": 8, "iterations": 15},
    "eval": {"every": 15, "val_episodes": 4, "statistics": "support"},
}


def silent(_label, _done, _total):
    pass


@pytest.fixture(scope="module")
def store(test_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("omniglot")
    prepare("omniglot", omniglot.build(omniglot.Config()), folder, test_data / "omniglot", False, silent)
    return folder


@pytest.fixture(scope="module")
def session(store, tmp_path_factory):
    experiment = from_mapping(EXPERIMENT, "test")
    with run_folder.open_run(tmp_path_factory.mktemp("raw"), resume=True) as folder:
        session = sessions.session_for(experiment, folder.path, data_dir=store)
        with running(session.plan) as runner:
            list(training.loop(session, runner, sessions.start(session, False), training.Watch()))
    return session


def raw_pictures(test_data, store, episodes):
    """The original drawings of the first test episodes, [episodes][ways][shots + queries]."""
    description = omniglot.build(omniglot.Config(split="official"))
    prepared = open_or_explain("omniglot", description, store, silent)
    spec = assembly.evaluation_spec(from_mapping(EXPERIMENT, "test"))
    pool = pool_of(prepared, pixels_on(prepared.images), description.sampling, "test", prepared.manifest.preprocessing)
    with open_source(test_data / "omniglot") as source:
        members = [m for found in description.arrange(source).classes.values() for m in found]

        def picture(number):
            return Image.open(io.BytesIO(source.content(members[number])))

        drawn = [draw(pool, spec, 0, 0, episode).images for episode in range(episodes)]
        return [[[picture(number) for number in row] for row in images] for images in drawn]


def test_raw_drawings_become_exactly_the_stored_pixels(session, store, test_data):
    raw = raw_pictures(test_data, store, 1)[0]
    spec = assembly.evaluation_spec(session.experiment)
    stored = session.data.sampler("test", spec, 0)(0, [0])
    found = inputs_of([picture for row in raw for picture in row[: spec.shots]], session.data.interface)
    assert raw[0][0].size == (105, 105)
    assert torch.equal(found, stored.support.inputs[0])


def test_raw_drawings_of_new_alphabets_score_what_eval_scores(session, store, test_data):
    episodes, spec = 12, assembly.evaluation_spec(session.experiment)
    tasks = session.data.sampler("test", spec, 0)(0, range(episodes))
    learner = load(session.folder.last)
    meta = session.learner.init()._replace(params=learner._learned.meta.params)

    def one(meta, task):
        return scores_per_step(session.validator, 1, meta, task)

    with running(session.plan) as runner:
        expected = runner.each(one, meta, tasks).score[:, -1].tolist()
    found = []
    for rows in raw_pictures(test_data, store, episodes):
        classifier = learner.adapt(
            [p for row in rows for p in row[: spec.shots]], np.repeat(range(5), spec.shots).tolist()
        )
        guesses = classifier.predict([p for row in rows for p in row[spec.shots :]])
        found.append(float(np.mean(np.array(guesses) == np.repeat(range(5), spec.queries))))
    assert found == pytest.approx(expected, abs=1e-6)
    assert np.mean(found) > 0.4

"""Every algorithm as a whole run: proved by itself, trained, stopped and resumed, evaluated, adapted to pictures."""

import numpy as np
import pytest
import torch

from metalearn_cli import load, load_classifier
from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment import from_mapping
from metalearn_cli.experiment.registry import names_in
from metalearn_cli.runtime.data import opening
from metalearn_cli.runtime.machine.execution import running
from metalearn_cli.runtime.run import assembly, gradient_proof, training
from metalearn_cli.runtime.run import session as sessions
from metalearn_cli.runtime.run.evaluation import scores_of
from metalearn_cli.runtime.run.training import Watch
from metalearn_cli.runtime.use import measurement
from metalearn_cli.storage.runs import checkpoints
from tests.commands import TINY

EXACT = {name: 1e-4 for name in names_in("algorithms") if name != "reptile"}
CPU = torch.device("cpu")


def silent(*_told):
    pass


def experiment(algorithm, **more):
    return from_mapping(TINY | {"algorithm": {"name": algorithm}} | more, "test")


def session_in(path, data_dir, algorithm, **more):
    (path / "checkpoints").mkdir(parents=True, exist_ok=True)
    chosen = experiment(algorithm, **more)
    return sessions.session_for(chosen, path, data_dir=data_dir)


def train(session, stop=False):
    with running(session.plan) as runner:
        return list(training.loop(session, runner, sessions.start(session, True), Watch(stop=lambda: stop)))


@pytest.fixture(scope="module", params=names_in("algorithms"))
def trained(request, data_dir, tmp_path_factory):
    """(algorithm, its run folder), trained to the end without a stop."""
    path = tmp_path_factory.mktemp(request.param)
    train(session_in(path, data_dir, request.param))
    return request.param, path


@pytest.mark.slow  # tests/testing/test_checks.py proves every algorithm once already
def test_it_proves_itself(trained, data_dir):
    chosen = experiment(trained[0])
    found = gradient_proof.prove(chosen, opening.open_data(chosen, data_dir, silent).interface, CPU)
    assert found.parallel < 1e-9
    assert found.order < EXACT.get(trained[0], np.inf)


def test_stopped_after_every_step_it_ends_in_the_same_bits(trained, data_dir, tmp_path):
    algorithm, path = trained
    for _ in range(TINY["outer"]["iterations"] + 1):
        train(session_in(tmp_path, data_dir, algorithm), stop=True)
    whole, parts = (checkpoints.read_checkpoint(folder / "checkpoints/last.pt").tensors for folder in (path, tmp_path))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_training_changes_what_is_learned(trained, data_dir, tmp_path):
    if trained[0] == "nearest":
        pytest.skip("nearest learns nothing; what it gives for a gradient is tested with the family")
    learner = session_in(tmp_path, data_dir, trained[0]).learner
    last = checkpoints.read_checkpoint(trained[1] / "checkpoints/last.pt")
    assert any(not torch.equal(value, last.tensors[f"params.{n}"]) for n, value in learner.init().params.items())


def test_it_is_evaluated(trained, data_dir, monkeypatch):
    monkeypatch.setenv("METALEARN_DATA", str(data_dir))
    found = measurement.evaluate(trained[1] / "checkpoints/last.pt", episodes=8, device="cpu")
    assert len(found.steps) == 1 + TINY["eval"]["inner_steps"]
    assert all(0 <= step.score <= 1 for step in found.steps)


def test_adapted_to_pictures_and_saved_it_gives_the_same_answers(trained, tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (6, 30, 30), dtype=np.uint8)
    classifier = load(trained[1] / "checkpoints/last.pt").adapt(pictures[:4], ["a", "b", "a", "b"])
    classifier.save(tmp_path / "mine.pt")
    expected, found = (one.predict_proba(pictures) for one in (classifier, load_classifier(tmp_path / "mine.pt")))
    assert np.array_equal(found, expected)


def test_a_learner_that_is_not_tied_to_its_ways_takes_any_number_of_classes(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("METALEARN_DATA", str(data_dir))
    train(session_in(tmp_path, data_dir, "protonet", eval=TINY["eval"] | {"ways": 3}))
    last = tmp_path / "checkpoints/last.pt"
    assert measurement.evaluate(last, episodes=8, device="cpu").protocol.ways == 3
    pictures = np.random.default_rng(0).integers(0, 256, (10, 30, 30), dtype=np.uint8)
    classifier = load(last).adapt(pictures, list("abcde" * 2))
    classifier.save(tmp_path / "mine.pt")
    again = load_classifier(tmp_path / "mine.pt")
    assert again.predict_proba(pictures).shape == (10, 5)
    assert np.array_equal(again.predict_proba(pictures), classifier.predict_proba(pictures))


def test_a_learner_that_is_tied_to_its_ways_refuses_others_before_training(data_dir, tmp_path):
    with pytest.raises(ConfigError, match=r"eval\.ways: found 3, but maml is tied to the 2 classes of task\.ways"):
        session_in(tmp_path, data_dir, "maml", eval=TINY["eval"] | {"ways": 3})


def test_a_classifier_of_all_training_classes_trains_on_their_numbers(data_dir, tmp_path):
    session = session_in(tmp_path, data_dir, "baseline")
    spec = sessions.training_spec(session.experiment)
    tasks = sessions.training_sampler(session.experiment, session.data, session.learner)(0, range(20))
    assert spec.ways < int(tasks.query.targets.max()) < len(session.data.classes("train"))
    plain = session_in(tmp_path / "maml", data_dir, "maml")
    own = sessions.training_sampler(plain.experiment, plain.data, plain.learner)(0, range(20))
    assert torch.equal(own.query.inputs, tasks.query.inputs)
    assert int(own.query.targets.max()) == spec.ways - 1


def test_too_few_rows_for_the_training_classes_are_refused_before_training(data_dir, tmp_path):
    session = session_in(tmp_path, data_dir, "baseline")
    few = session.validator._replace(traits=session.validator.traits._replace(classes=5))
    with pytest.raises(ConfigError, match=r"algorithm\.classes: found 5, but part 'train' has \d+ classes"):
        sessions.training_sampler(session.experiment, session.data, few)


def test_a_mixture_has_no_class_numbers(data_dir, tmp_path):
    member = {"name": "glyphs", "classes": 40}
    with pytest.raises(ConfigError, match=r"baseline trains on one dataset, not on a mixture"):
        session_in(tmp_path, data_dir, "baseline", dataset={"name": "mixture", "of": [member, member | {"seed": 1}]})


def test_more_inner_steps_than_there_are_rates_for_are_refused_before_training(data_dir, tmp_path):
    with pytest.raises(ConfigError, match=r"eval\.inner_steps: found 6, expected at most 5: maml_plus_plus learns"):
        session_in(tmp_path, data_dir, "maml_plus_plus", eval=TINY["eval"] | {"inner_steps": 6})


@pytest.mark.parametrize(
    "backbone", [{"name": "resnet12", "channels": [2, 2, 3, 3]}, {"name": "conv4", "norm": "group"}]
)
def test_a_backbone_trains_and_is_proved(data_dir, tmp_path, backbone):
    session = session_in(tmp_path, data_dir, "maml", backbone=backbone)
    found = gradient_proof.prove(session.experiment, session.data.interface, CPU)
    assert found.parallel < 1e-9
    assert len(train(session)) == 2


DROPPING = {"name": "resnet12", "channels": [2, 2, 3, 3], "drop_rate": 0.3}


@pytest.mark.parametrize("algorithm", ["maml", pytest.param("protonet", marks=pytest.mark.slow)])
def test_with_drop_block_it_trains_resumes_and_proves_itself(algorithm, data_dir, tmp_path):
    def session(name, mode, **more):
        backbone, execution = DROPPING | more, {"mode": mode, "chunk": 1}
        return session_in(tmp_path / name, data_dir, algorithm, backbone=backbone, execution=execution)

    whole = session("whole", "vmap")
    train(whole)
    train(session("still", "vmap", drop_rate=0.0))
    for _ in range(TINY["outer"]["iterations"] + 1):
        train(session("parts", "threads"), stop=True)
    last, parts, still = (
        checkpoints.read_checkpoint(tmp_path / one / "checkpoints/last.pt").tensors
        for one in ("whole", "parts", "still")
    )
    assert all(torch.equal(value, parts[name]) for name, value in last.items())
    assert last.keys() == still.keys()
    assert not all(torch.equal(value, still[name]) for name, value in last.items())
    assert gradient_proof.prove(whole.experiment, whole.data.interface, CPU).order < 1e-4


@pytest.mark.parametrize("part", ["train", "val"])
def test_drop_block_changes_no_bit_of_what_is_measured(part, data_dir, tmp_path):
    found = []
    for rate in (0.3, 0.0):
        session = session_in(tmp_path / str(rate), data_dir, "maml", backbone=DROPPING | {"drop_rate": rate})
        sampler = session.data.sampler(part, assembly.evaluation_spec(session.experiment), 0)
        with running(session.plan) as runner:
            found.append(scores_of(session.validator, runner, session.validator.init(), sampler, 2, 5))
    assert torch.equal(found[0].loss, found[1].loss)


RUNNING = {"task": TINY["task"] | {"running_statistics": True}, "eval": TINY["eval"] | {"statistics": "running"}}


@pytest.mark.parametrize(
    "algorithm",
    ["maml", pytest.param("protonet", marks=pytest.mark.slow), pytest.param("baseline", marks=pytest.mark.slow)],
)
def test_with_running_statistics_it_trains_resumes_proves_itself_and_is_used(
    algorithm, data_dir, tmp_path, monkeypatch
):
    monkeypatch.setenv("METALEARN_DATA", str(data_dir))
    whole = session_in(tmp_path / "whole", data_dir, algorithm, **RUNNING)
    train(whole)
    for _ in range(TINY["outer"]["iterations"] + 1):
        train(session_in(tmp_path / "parts", data_dir, algorithm, **RUNNING), stop=True)
    last, parts = (checkpoints.read_checkpoint(tmp_path / one / "checkpoints/last.pt") for one in ("whole", "parts"))
    assert all(torch.equal(value, parts.tensors[name]) for name, value in last.tensors.items())
    kept = [name for name in last.tensors if name.startswith("statistics.")]
    assert len(kept) == 8
    assert gradient_proof.prove(whole.experiment, whole.data.interface, CPU).order < 1e-4
    path = tmp_path / "whole/checkpoints/last.pt"
    found = {
        one: measurement.evaluate(path, [f"eval.statistics={one}"], episodes=8, device="cpu").scores.mean()
        for one in ("running", "support", "transductive")
    }
    assert len(set(map(float, found.values()))) > 1
    pictures = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), dtype=np.uint8)
    classifier = load(path).adapt(pictures, list("abab"))
    classifier.save(tmp_path / "mine.pt")
    again = load_classifier(tmp_path / "mine.pt")
    assert np.array_equal(again.predict_proba(pictures), classifier.predict_proba(pictures))
    classifier.module()


def test_running_statistics_that_were_not_kept_cannot_be_read(data_dir, tmp_path):
    with pytest.raises(ConfigError, match=r"eval\.statistics: running needs task\.running_statistics=true"):
        session_in(tmp_path, data_dir, "maml", eval=RUNNING["eval"])

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import metalearn_cli
from metalearn_cli import load, load_classifier
from metalearn_cli.errors import CheckpointError, ConfigError, DataError, DivergedError
from metalearn_cli.experiment.registry import names_in
from tests import untrained
from tests.commands import ROOT

LABELS = ["cat", 7, "cat", 7]


@pytest.fixture
def best(tiny_run):
    return tiny_run / "checkpoints/best.pt"


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 40, 30, 3), dtype=np.uint8)


def test_probabilities_have_a_row_per_picture_that_sums_to_one(best):
    classifier = load(best).adapt(pictures(4), LABELS)
    found = classifier.predict_proba(pictures(5, seed=1))
    assert found.shape == (5, 2)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)


def test_labels_are_those_given_and_the_most_probable(best):
    classifier = load(best).adapt(pictures(4), LABELS)
    queries = pictures(5, seed=1)
    assert classifier.classes == ["cat", 7]
    assert classifier.predict(queries) == [classifier.classes[i] for i in classifier.predict_proba(queries).argmax(1)]


def test_arrays_and_pil_pictures_give_the_same_answers(best):
    classifier = load(best).adapt(pictures(4), LABELS)
    queries = pictures(3, seed=1)
    as_pictures = [Image.fromarray(one) for one in queries]
    assert np.array_equal(classifier.predict_proba(queries), classifier.predict_proba(as_pictures))


def test_replacing_the_other_queries_does_not_change_an_answer(best):
    classifier = load(best).adapt(pictures(4), LABELS)
    queries, others = pictures(6, seed=1), pictures(6, seed=2)
    others[0] = queries[0]
    assert np.array_equal(classifier.predict_proba(queries)[0], classifier.predict_proba(others)[0])


def test_adapting_changes_neither_the_learner_nor_an_earlier_classifier(best):
    learner = load(best)
    first = learner.adapt(pictures(4), LABELS)
    before = first.predict_proba(pictures(3, seed=1))
    learner.adapt(pictures(4, seed=5), LABELS)
    assert np.array_equal(first.predict_proba(pictures(3, seed=1)), before)
    again = learner.adapt(pictures(4), LABELS)
    assert np.array_equal(again.predict_proba(pictures(3, seed=1)), before)


def test_a_saved_classifier_gives_the_same_answers(best, tmp_path):
    classifier = load(best).adapt(pictures(4), LABELS)
    classifier.save(tmp_path / "mine.pt")
    again = load_classifier(tmp_path / "mine.pt")
    assert again.classes == classifier.classes
    assert np.array_equal(again.predict_proba(pictures(3, seed=1)), classifier.predict_proba(pictures(3, seed=1)))


def test_labels_that_json_cannot_hold_are_not_saved(best, tmp_path):
    classifier = load(best).adapt(pictures(4), [("a", 1), "b", ("a", 1), "b"])
    with pytest.raises(ConfigError, match="only strings and numbers"):
        classifier.save(tmp_path / "mine.pt")


def test_labels_must_match_the_pictures(best):
    with pytest.raises(DataError, match="4 pictures and 3 labels"):
        load(best).adapt(pictures(4), ["a", "b", "a"])


def test_the_number_of_classes_must_be_the_trained_one(best):
    with pytest.raises(ConfigError, match="has 3 classes, the checkpoint was trained for 2"):
        load(best).adapt(pictures(3), ["a", "b", "c"])


def test_floats_are_refused(best):
    with pytest.raises(DataError, match="expected uint8"):
        load(best).adapt(pictures(4).astype(np.float32), LABELS)


def test_a_classifier_is_not_loaded_as_a_learner_nor_the_other_way_round(best, tmp_path):
    load(best).adapt(pictures(4), LABELS).save(tmp_path / "mine.pt")
    with pytest.raises(CheckpointError, match=r"an adapted classifier.* in Python with load_classifier$"):
        load(tmp_path / "mine.pt")
    with pytest.raises(CheckpointError, match=r"a training checkpoint.* in Python with load$"):
        load_classifier(best)


def test_a_single_picture_has_a_single_answer(best):
    classifier = load(best).adapt(pictures(4), LABELS)
    for single in (pictures(1)[0], Image.fromarray(pictures(1)[0]), torch.from_numpy(pictures(1)[0])):
        assert np.array_equal(classifier.predict_proba(single), classifier.predict_proba(pictures(1)))
        assert len(classifier.predict(single)) == 1


def test_a_file_is_answered_as_its_pixels_are(best, tmp_path):
    Image.fromarray(pictures(1)[0]).save(tmp_path / "one.png")
    classifier = load(best).adapt(pictures(4), LABELS)
    expected = classifier.predict_proba(pictures(1))
    for single in (tmp_path / "one.png", str(tmp_path / "one.png"), [tmp_path / "one.png"]):
        assert np.array_equal(classifier.predict_proba(single), expected)


def test_pictures_of_one_class_alone_are_refused(best):
    with pytest.raises(DataError, match="all labels are 'a'; pictures of two or more classes"):
        load(best).adapt(pictures(4), ["a"] * 4)


def test_equal_labels_of_a_tensor_are_one_class(best):
    assert load(best).adapt(pictures(4), torch.tensor([3, 4, 3, 4])).classes == [3, 4]


NUMBERS = [
    [12345671, 12345672],
    [2**63 + 1, -(10**40)],
    [0.1, 1 / 3],
    [True, False],
    [np.int64(7), np.float32(0.1)],
    ["name", 5],
    [-3, "=1+1"],
]


@pytest.mark.parametrize("labels", NUMBERS, ids=str)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_labels_are_saved_with_all_their_digits(best, tmp_path, labels, suffix):
    classifier = load(best).adapt(pictures(4), labels * 2)
    plain = [label.item() if isinstance(label, np.generic) else label for label in labels]
    assert [*map(repr, classifier.classes)] == [*map(repr, plain)]
    path = tmp_path / f"mine{suffix}"
    classifier.save(path)
    if suffix == ".pt":
        saved = load_classifier(path).classes
    else:
        with safe_open(path, "np") as file:
            saved = json.loads(file.metadata()["classes"])
    assert [*map(repr, saved)] == [*map(repr, plain)]


def exploding(path, data_dir, algorithm: str = "maml", **settings) -> Path:
    blocks = {"algorithm": {"name": algorithm, **settings}, "eval": {"inner_steps": 4}}
    return untrained.checkpoint_of(path / "exploding.pt", data_dir, **blocks)


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        ("maml", {"inner_lr": 1e20}),
        ("boil", {"inner_lr": 1e20}),
        ("reptile", {"inner_lr": 1e20}),
        ("proto_maml", {"inner_lr": 1e20}),
    ],
)
def test_an_adaptation_that_diverges_is_no_classifier_and_names_the_step(algorithm, settings, data_dir, tmp_path):
    assert algorithm in names_in("algorithms")
    learner = load(exploding(tmp_path, data_dir, algorithm, **settings))
    with pytest.raises(DivergedError, match=r"^inner step [1-4]: the (weights|answers) of the adapted learner are not"):
        learner.adapt(pictures(4), LABELS)


def lost_after(step: int, best, what: str):
    """A classifier whose weights after a step, or whose answers alone, are not finite."""
    classifier = load(best).adapt(pictures(4), LABELS)
    params = classifier._adapted.params
    name = "head.weight" if what == "weights" else "head.bias"
    broken = torch.full_like(params[name], torch.nan if what == "weights" else 3e38)
    huge = params | ({"head.weight": torch.full_like(params["head.weight"], 3e38)} if what == "answers" else {})
    classifier._adapted = classifier._adapted._replace(params=huge | {name: broken})
    classifier.steps = step
    return classifier


@pytest.mark.parametrize("what", ["weights", "answers"])
@pytest.mark.parametrize("ask", ["predict", "predict_proba", "save .pt", "save .safetensors", "save .pt2"])
def test_nothing_that_is_not_finite_leaves_a_classifier(best, tmp_path, what, ask):
    classifier = lost_after(3, best, what)
    verb, _, suffix = ask.partition(" ")
    given = tmp_path / f"mine{suffix}" if suffix else pictures(2)
    with pytest.raises(DivergedError, match="inner step 3: the"):
        getattr(classifier, verb)(given)
    assert list(tmp_path.iterdir()) == []


def test_what_a_checkpoint_and_a_classifier_are_can_be_read(best):
    learner = load(best)
    assert repr(learner) == f"<Adaptable {str(best)!r}: maml with conv4, 2 classes, 28 x 28 pixels, grey>"
    told = repr(learner.adapt(pictures(4), LABELS))
    assert told == "<Classifier of ['cat', 7] after 2 inner steps on 4 support pictures of 28 x 28 pixels, grey>"


def test_very_many_classes_do_not_fill_the_screen(data_dir, tmp_path):
    path = untrained.checkpoint_of(tmp_path / "best.pt", data_dir, algorithm={"name": "protonet"})
    learner = load(path)
    assert "any number of classes" in repr(learner)
    assert len(repr(learner.adapt(pictures(200), range(200)))) < 200


def test_the_public_names_are_offered_before_they_are_loaded():
    assert {"load", "load_classifier", "Adaptable", "Classifier"} <= set(dir(metalearn_cli))
    assert all(getattr(metalearn_cli, name) for name in dir(metalearn_cli) if not name.startswith("_"))
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        metalearn_cli.lode  # noqa: B018


def test_no_file_is_opened_with_the_help_of_torchs_compiler(tiny_run, tmp_path):
    """Its import takes longer than all else; operations of the meta device that bring it along are easily written."""
    script = (
        "import sys, numpy as np\nfrom metalearn_cli import load, load_classifier\n"
        "pictures = np.zeros((4, 28, 28), np.uint8)\n"
        "load(sys.argv[1]).adapt(pictures, list('abab')).save('mine.pt')\n"
        "load_classifier('mine.pt').predict(pictures)\n"
        "print('torch._dynamo' in sys.modules)"
    )
    line = [sys.executable, "-c", script, str(tiny_run / "checkpoints/last.pt")]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout == "False\n", done.stderr

import numpy as np
import pytest
from PIL import Image

from metalearn_cli import load, load_classifier
from metalearn_cli.errors import CheckpointError, ConfigError, DataError

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
    with pytest.raises(CheckpointError, match="an adapted classifier"):
        load(tmp_path / "mine.pt")
    with pytest.raises(CheckpointError, match="a training checkpoint"):
        load_classifier(best)

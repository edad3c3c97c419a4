"""One's own pictures take the way that `prepare` took, and as many classes as the learner can tell apart."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from metalearn_cli import load
from metalearn_cli.core.meta import classification
from metalearn_cli.datasets import folder
from metalearn_cli.errors import ConfigError
from metalearn_cli.registry import names_in
from metalearn_cli.runtime.finetuning import Labelled, folds, leave_one_out, queries_in, support_in
from metalearn_cli.runtime.opening import Interface
from metalearn_cli.runtime.pixels import normalised
from metalearn_cli.storage.preparation import prepare
from metalearn_cli.storage.prepared import open_prepared
from tests import untrained

ANY_NUMBER = {"nearest", "protonet", "proto_maml", "unicorn_maml", "r2d2", "baseline", "baseline_plus_plus"}


def odd_pictures(path, seed=0):
    """Lying on its side, transparent, grey with 16 bits, with a palette, and a line one pixel high."""
<<<<<<< HEAD
    generator = np.random.default_rng(seed)
=======
    generator = np.random.default_rng([*path.name.encode()])
>>>>>>> lists
    pixels = generator.integers(0, 256, (30, 50, 4), dtype=np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    path.mkdir(parents=True)
    Image.fromarray(pixels[..., :3]).save(path / "turned.jpg", exif=turned)
    Image.fromarray(pixels).save(path / "transparent.png")
    Image.fromarray(pixels[..., 0].astype(np.uint16) << 8).save(path / "sixteen.png")
    Image.fromarray(pixels[..., :3]).quantize(7).save(path / "palette.png")
    Image.fromarray(pixels[:1, :, :3]).save(path / "line.bmp")


@pytest.mark.parametrize("channels", [1, 3])
def test_support_and_queries_become_exactly_what_prepare_stored(tmp_path, channels):
    for seed, name in enumerate(("ant", "bee", "cow")):
        odd_pictures(tmp_path / "mine" / name, seed)
    archive = folder.build(folder.Config(image_size=16, channels=channels))
    _, store = prepare("folder", archive, tmp_path / "data", tmp_path / "mine", False, lambda *_: None)
    prepared = open_prepared(store)
    seen = prepared.manifest.preprocessing_for("classes", "dataset")
    interface = Interface((channels, 16, 16), 2, classification, seen)
    stored = normalised(torch.from_numpy(np.array(prepared.images)), seen.mean, seen.std)
    support = support_in(tmp_path / "mine", interface)
    assert len(stored) == 15
    assert torch.equal(support.inputs, stored)
    queries = queries_in([tmp_path / "mine/ant", tmp_path / "mine/bee/turned.jpg"], support.classes, interface)
    assert torch.equal(queries.inputs[:5], stored[:5])
    assert torch.equal(queries.inputs[5], stored[support.files.index(f"{tmp_path / 'mine'}/bee/turned.jpg")])


@pytest.mark.parametrize("algorithm", names_in("algorithms"))
def test_fewer_or_more_classes_are_learned_or_the_message_says_what_to_do(algorithm, data_dir, tmp_path):
    task = {"ways": 3, "shots": 1, "queries": 2}
    learner = load(untrained.checkpoint_of(tmp_path / "best.pt", data_dir, task=task, algorithm={"name": algorithm}))
    pictures = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), dtype=np.uint8)
    for count in (2, 5):
        labels = [f"class {number}" for number in range(count)]
        if algorithm in ANY_NUMBER:
            assert learner.adapt(pictures[:count], labels).predict_proba(pictures).shape == (5, count)
            continue
        with pytest.raises(ConfigError) as refused:
            learner.adapt(pictures[:count], labels)
        assert f"has {count} classes, the checkpoint was trained for 3: give 3 classes" in str(refused.value)
        assert f"--set task.ways={count}" in str(refused.value)
        assert "protonet" in str(refused.value)


@given(st.lists(st.integers(2, 12), min_size=2, max_size=6), st.randoms())
def test_each_fold_leaves_out_one_picture_of_every_class_and_every_picture_comes_first_once(sizes, random):
    labels = [way for way, size in enumerate(sizes) for _ in range(size)]
    random.shuffle(labels)
    found = folds(torch.tensor(labels))
    assert len(found) == max(sizes)
    first = Counter()
    for left_out, new in found:
        assert [labels[place] for place in left_out] == list(range(len(sizes)))
        first.update(left_out[new].tolist())
    assert first == Counter(range(len(labels)))


def test_of_a_class_of_very_many_pictures_200_are_left_out_spread_evenly():
    found = folds(torch.tensor([0] * 1000 + [1] * 3))
    assert len(found) == 200
    assert [int(fold.left_out[0]) for fold in found] == list(range(0, 1000, 5))
    assert sum(int(fold.first[1]) for fold in found) == 3


def labelled(sizes: dict[str, int], learner) -> Labelled:
    labels = [name for name, size in sizes.items() for _ in range(size)]
    inputs = torch.randn(len(labels), *learner.interface.input_shape, generator=torch.Generator().manual_seed(0))
    return Labelled([str(number) for number in range(len(labels))], inputs, labels)


@pytest.fixture
def learner(data_dir, tmp_path):
    return load(untrained.checkpoint_of(tmp_path / "best.pt", data_dir))


def test_a_picture_left_out_is_answered_by_a_classifier_that_saw_all_but_one_of_each_class(learner):
    support = labelled({"a": 3, "b": 2}, learner)
    found = leave_one_out(learner, support)
    assert (found.on, found.folds) == ("support, leaving one of each class out", 3)
    by_hand = []
    for left_out, asked in (((0, 3), (0, 3)), ((1, 4), (1, 4)), ((2, 3), (2,))):
        rest = [place for place in range(5) if place not in left_out]
        targets = torch.tensor([0, 0, 0, 1, 1])
        last = learner.classifiers(support.inputs[rest], targets[rest], ["a", "b"])[-1]
        by_hand += [int(last.probabilities(support.inputs[[place]]).argmax()) for place in asked]
    assert found.counted.answers[-1].tolist() == by_hand
    assert found.counted.targets.tolist() == [0, 1, 0, 1, 0]


def test_a_class_of_one_picture_cannot_be_left_out(learner):
    assert leave_one_out(learner, labelled({"a": 3, "b": 1}, learner)) is None


def test_a_fold_that_diverges_counts_as_wrong(data_dir, tmp_path):
    algorithm = {"name": "maml", "inner_lr": 1e20}
    learner = load(untrained.checkpoint_of(tmp_path / "best.pt", data_dir, algorithm=algorithm))
    found = leave_one_out(learner, labelled({"a": 2, "b": 2}, learner)).counted
    assert found.unanswered[-1] == 4
    assert found.steps[-1].right == 0


def test_a_folder_is_known_to_be_of_the_class_whose_number_it_has_for_a_name(learner, tmp_path):
    for name in ("7", "0.5", "9"):
        (tmp_path / "query" / name).mkdir(parents=True)
        Image.new("L", (9, 9)).save(tmp_path / "query" / name / "one.png")
    found = queries_in([tmp_path / "query"], [7, 0.5], learner.interface)
    assert dict(zip(found.files, found.labels, strict=True)) == {
        f"{tmp_path}/query/7/one.png": 7,
        f"{tmp_path}/query/0.5/one.png": 0.5,
        f"{tmp_path}/query/9/one.png": None,
    }
    assert sorted(found.targets([7, 0.5]).tolist()) == [-1, 0, 1]

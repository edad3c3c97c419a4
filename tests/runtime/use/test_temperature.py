"""Where nothing was trained the temperature is from support pictures that are left out."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from metalearn_cli import load
from metalearn_cli.core.calibration import best_temperature
from metalearn_cli.runtime.use.classifier import inputs_of
from metalearn_cli.runtime.use.finetuning import Labelled, leave_one_out
from metalearn_cli.runtime.use.folds import folds
from tests import untrained


def pictures(count, seed):
    """Pictures of classes that overlap, `count` of each of three."""
    generator = np.random.default_rng(seed)
    base = generator.integers(0, 256, (3, 1, 28, 28, 1))
    noise = generator.integers(0, 256, (3, count, 28, 28, 1))
    return ((base + 7 * noise) // 8).astype(np.uint8).reshape(-1, 28, 28, 1), np.repeat(list("abc"), count).tolist()


@pytest.fixture
def learner(data_dir, tmp_path):
    blocks = {"algorithm": {"name": "prototypes"}, "backbone": {"name": "identity"}}
    return load(untrained.checkpoint_of(tmp_path / "best.pt", data_dir, **blocks))


def test_it_is_the_best_one_for_pictures_that_were_left_out(learner):
    images, labels = pictures(3, seed=0)
    classifier = learner.adapt(images, labels)
    assert classifier.calibration is None
    outputs, targets = [], torch.tensor(["abc".index(label) for label in labels])
    inputs = F.normalize(inputs_of(images, classifier.interface).flatten(1).double(), dim=1)
    raw = inputs_of(images, classifier.interface).flatten(1).double()
    for fold in folds(targets):
        rest = torch.tensor([place not in fold.left_out.tolist() for place in range(9)])
        means = torch.stack([raw[rest & (targets == way)].mean(0) for way in range(3)])
        outputs.append(10 * inputs[fold.left_out] @ F.normalize(means, dim=1).T)
    asked = torch.cat([targets[fold.left_out] for fold in folds(targets)])
    assert classifier.temperature == pytest.approx(best_temperature(torch.cat(outputs), asked), rel=1e-3)
    assert classifier.temperature != 1


def test_with_one_picture_of_a_class_there_is_nothing_to_leave_out(learner):
    images, labels = pictures(1, seed=0)
    assert learner.adapt(images, labels).temperature == 1


def test_a_learner_with_a_body_is_not_adapted_again_for_it(data_dir, tmp_path):
    blocks = {"algorithm": {"name": "protonet"}, "backbone": {"name": "conv4", "channels": 4}}
    found = load(untrained.checkpoint_of(tmp_path / "best.pt", data_dir, **blocks)).adapt(*pictures(3, seed=0))
    assert found.temperature == 1


def test_at_two_shots_one_picture_of_each_class_is_left_out_at_a_time(learner):
    """Leaving out one of a single class would leave that class the smallest, and its pictures taken for others."""
    images, labels = pictures(2, seed=1)
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    prepared = Labelled([str(place) for place in range(6)], inputs, labels)
    left = [set(fold.left_out.tolist()) for fold in folds(prepared.targets(list("abc")))]
    assert left == [{0, 2, 4}, {1, 3, 5}]
    found = leave_one_out(learner, prepared)
    assert found is not None
    assert found.folds == 2
    assert len(found.counted.targets) == 6

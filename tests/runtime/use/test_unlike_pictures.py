"""Pictures of another kind are answered with a warning, those of new classes are not."""

import torch

from metalearn_cli.core.objectives import classification
from metalearn_cli.datasets import Preprocessing
from metalearn_cli.experiment import dataset_settings
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.data.view import View, typical_of
from metalearn_cli.runtime.use.unlike_pictures import PictureGroup, alien_remarks

GENERATOR = torch.Generator().manual_seed(0)
DIRECTION = torch.rand(64, generator=GENERATOR) + 0.5
TRAINED = DIRECTION * 3 + torch.randn(200, 64, generator=GENERATOR)
SEEN = Preprocessing(channels=3, height=8, width=8, ink=(0.5, 0.05))


def interface(trained=True):
    settings = dataset_settings("folder", ["dataset.features.name=efficientnet_lite"]).features
    view = View(settings, "0" * 64, "a network", typical=typical_of(TRAINED) if trained else None)
    return Interface((64,), 5, classification, SEEN, view)


def batch(features, brightness=0.5):
    count = len(features)
    return PictureGroup("queries", [f"{number}.png" for number in range(count)], features, [brightness] * count)


def test_features_like_those_of_training_are_not_remarked_on():
    like = DIRECTION * 2 + torch.randn(20, 64, generator=GENERATOR) * 0.7
    assert alien_remarks(batch(like), interface()) == []


def test_features_in_another_direction_are():
    other = torch.rand(20, 64, generator=GENERATOR) * 4 * (torch.arange(64) % 2)
    remark, *more = alien_remarks(batch(-other), interface())
    assert remark.startswith("20 of 20 queries (0.png, ...): unlike the training pictures")
    assert more == []


def test_single_odd_ones_among_others_are_not():
    mixed = torch.cat([DIRECTION * 2 + torch.randn(15, 64, generator=GENERATOR), -DIRECTION.expand(3, -1)])
    assert alien_remarks(batch(mixed), interface()) == []


def test_with_nothing_trained_the_support_set_is_what_queries_are_compared_with():
    expected = typical_of(TRAINED[:10])
    (remark,) = alien_remarks(batch(-DIRECTION.expand(4, -1)), interface(trained=False), expected)
    assert "unlike the support pictures" in remark
    assert alien_remarks(batch(-DIRECTION.expand(4, -1)), interface(trained=False)) == []


def test_inverted_pictures_are_told_by_their_brightness_where_features_do_not_tell():
    (remark,) = alien_remarks(batch(TRAINED[:5], brightness=0.95), interface())
    assert "is their ink inverted?" in remark

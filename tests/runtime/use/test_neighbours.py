import numpy as np
import pytest
import torch

from metalearn_cli.runtime.use import classifier, loading
from metalearn_cli.runtime.use import network_inputs as seen
from metalearn_cli.runtime.use.neighbours import neighbours
from tests.untrained import checkpoint_of

PICTURES = np.random.default_rng(0).integers(0, 256, (6, 28, 28, 1), dtype=np.uint8)
LABELS = ["a", "b"] * 3


def adapted(tmp_path, data_dir, **blocks) -> classifier.Classifier:
    path = checkpoint_of(tmp_path / "untrained.pt", data_dir, **blocks)
    return loading.load(path).adapt(PICTURES, LABELS)


@pytest.mark.parametrize(
    ("algorithm", "in_features"),
    [("maml", True), ("protonet", True), ("cavia", True), ("nearest", False)],
)
def test_a_support_picture_is_nearest_to_itself(tmp_path, data_dir, algorithm, in_features):
    found = neighbours(adapted(tmp_path, data_dir, algorithm={"name": algorithm}), _inputs(tmp_path, data_dir), 3)
    assert found.places.shape == (6, 3)
    assert found.places[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert found.in_features == in_features


def test_features_are_those_of_the_adapted_body(tmp_path, data_dir):
    learned = adapted(tmp_path, data_dir)
    inputs = seen.inputs_of(PICTURES[::-1].copy() // 2, learned.interface)
    body = learned.module().body
    with torch.no_grad():
        far = (body(inputs).flatten(1)[:, None] - body(learned.support).flatten(1)).square().sum(-1)
    assert neighbours(learned, inputs, 6).places.tolist() == far.argsort(1).tolist()


def test_there_are_no_more_neighbours_than_support_pictures(tmp_path, data_dir):
    assert neighbours(adapted(tmp_path, data_dir), _inputs(tmp_path, data_dir), 99).places.shape == (6, 6)


def _inputs(tmp_path, data_dir) -> torch.Tensor:
    return seen.inputs_of(PICTURES, adapted(tmp_path, data_dir).interface)

import numpy as np
import torch

from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.datasets import Preprocessing
from metalearn_cli.runtime.data.pixels import normalised
from metalearn_cli.runtime.run.sink_feed import task_picture

SEEN = Preprocessing(channels=3, height=4, width=5, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))


def test_a_sheet_has_a_row_for_each_class_with_its_shots_a_gap_and_its_queries():
    generator = np.random.default_rng(0)
    shots, queries = (generator.integers(0, 256, (2, each, 4, 5, 3), dtype=np.uint8) for each in (1, 3))

    def examples(pixels):
        return Examples(
            normalised(torch.from_numpy(pixels.reshape(1, -1, 4, 5, 3)), SEEN.mean, SEEN.std), torch.zeros(1)
        )

    found = task_picture(Task(examples(shots), examples(queries)), 2, SEEN)
    assert found.dtype == np.uint8
    assert found.shape == (2 * 4, (1 + 3) * 5 + 2, 3)
    assert np.array_equal(found[4:8, :5], shots[1, 0])
    assert np.array_equal(found[:4, 5 + 2 + 5 : 5 + 2 + 10], queries[0, 1])


def test_a_grey_sheet_is_rgb():
    seen = Preprocessing(channels=1, height=4, width=5)
    examples = Examples(torch.full((1, 2, 1, 4, 5), 0.5), torch.zeros(1))
    found = task_picture(Task(examples, examples), 2, seen)
    assert found.shape == (8, 12, 3)
    assert set(found[:, :5].flatten().tolist()) == {128}

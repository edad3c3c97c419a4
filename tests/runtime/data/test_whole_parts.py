"""Every picture of the training classes once, and pictures of the classes that a task does not have."""

import numpy as np
import torch

from metalearn_cli.core.tasks import Examples
from metalearn_cli.experiment import from_mapping
from metalearn_cli.runtime.data.opening import open_data
from metalearn_cli.runtime.data.sampling import TaskSpec
from metalearn_cli.runtime.data.whole_parts import numbered_after
from tests.commands import TINY


def opened(data_dir, **dataset):
    values = TINY | {"dataset": {"name": "glyphs", "classes": 40} | dataset}
    return open_data(from_mapping(values, "test"), data_dir, lambda *_: None)


def rows(examples: Examples) -> set[bytes]:
    return {one.numpy().tobytes() for one in examples.inputs.flatten(0, 1)}


def test_every_training_picture_comes_once_under_the_number_of_its_class(data_dir):
    data = opened(data_dir)
    seen, numbers = set(), []
    for batch in data.passes():
        assert len(batch.inputs) == 1
        assert len(set(batch.targets[0].tolist())) == 1
        numbers += batch.targets[0].tolist()
        seen |= rows(batch)
    count = len(data.classes("train"))
    assert sorted(set(numbers)) == list(range(count))
    assert len(seen) == len(numbers) == count * (len(numbers) // count)
    drawn = data.sampler("train", TaskSpec(2, 1, 2), 0)(0, range(8))
    assert rows(drawn.support) | rows(drawn.query) <= seen


def test_augmentation_does_not_touch_them(data_dir):
    plain, augmented = (list(opened(data_dir, **more).passes()) for more in ({}, {"augmentation": ["crop"]}))
    assert all(torch.equal(one.inputs, other.inputs) for one, other in zip(plain, augmented, strict=True))


def test_strangers_are_pictures_of_the_part_and_never_of_the_tasks_own_classes(data_dir):
    data, spec = opened(data_dir), TaskSpec(2, 1, 6)
    strangers, tasks = data.strangers("val", spec, 0), data.sampler("val", spec, 0)
    every = data.sampler("val", TaskSpec(len(data.classes("val")), 1, 19), 0)(0, [0])
    known = rows(every.support) | rows(every.query)
    for number in range(20):
        found = strangers(0, [number]).support
        assert found.inputs.shape[1] == 12
        assert rows(found) <= known
        # Of the task's own classes another sampler of the same classes gives all pictures.
        own = data.sampler("val", TaskSpec(2, 1, 19), 0)(0, [number])
        assert not rows(found) & (rows(own.support) | rows(own.query))
        assert not rows(found) & rows(tasks(0, [number]).query)
    together = strangers(0, range(5)).support.inputs
    assert torch.equal(together[3:4], strangers(0, [3]).support.inputs)


def test_where_a_task_has_all_classes_there_are_no_strangers(data_dir):
    data = opened(data_dir)
    assert data.strangers("val", TaskSpec(len(data.classes("val")), 1, 2), 0) is None


def test_classes_of_several_datasets_have_numbers_of_their_own():
    def passes(classes):
        return lambda: (Examples(torch.zeros(1, 2, 1), torch.full((1, 2), c), classes) for c in range(classes))

    found = [int(batch.targets[0, 0]) for batch in numbered_after([passes(3), passes(2)])]
    np.testing.assert_array_equal(found, range(5))

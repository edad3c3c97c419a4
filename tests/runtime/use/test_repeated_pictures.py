import pytest
import torch

from metalearn_cli.runtime.use.finetuning import Labelled
from metalearn_cli.runtime.use.repeated_pictures import remarks_on_repeats


def labelled(colours, labels):
    inputs = torch.tensor(colours, dtype=torch.float32)[:, None, None, None].expand(-1, 1, 2, 2)
    files = [f"{label}/{place}.png" for place, label in enumerate(labels)]
    return Labelled(files, inputs, list(labels), digests=[bytes([colour]) for colour in colours])


SUPPORT = labelled([1, 2, 3, 4], "aabb")


def test_pictures_that_are_there_once_need_no_remark():
    assert remarks_on_repeats(SUPPORT, labelled([5, 6], "ab")) == []
    assert remarks_on_repeats(SUPPORT, None) == []
    assert remarks_on_repeats(None, labelled([5, 5], "ab")) == []


@pytest.mark.parametrize(("colours", "count"), [([2], 1), ([2, 9, 3], 2), ([1, 2, 3, 4, 4], 5)])
def test_queries_that_are_support_pictures_too_are_counted_and_named(colours, count):
    (remark,) = remarks_on_repeats(SUPPORT, labelled(colours, "x" * len(colours)))
    assert remark.startswith(f"{count} of {len(colours)} queries are support pictures too (x/0.png")


def test_a_support_picture_that_is_there_twice_is_named_with_the_other():
    (remark,) = remarks_on_repeats(labelled([1, 1, 3, 4], "aabb"), None)
    assert remark.startswith("1 of 4 support pictures are there twice (a/1.png = a/0.png);")


def test_a_support_picture_of_two_classes_is_named_with_both():
    (remark,) = remarks_on_repeats(labelled([1, 2, 1, 4], "aabb"), None)
    assert remark.startswith("1 of 4 support pictures are there twice, in two classes (b/2.png = a/0.png);")

import pytest

from metalearn_cli.omissions import Omissions, merged


def listed(*added):
    omissions = Omissions()
    for one in added:
        omissions.add(*one)
    return omissions.listed()


def test_kinds_are_counted_apart_the_most_numerous_first_with_an_example():
    found = listed(("link", "out", "b"), ("HEIC picture", "no reader", "c"), ("link", "out", "a"))
    assert [str(one) for one in found] == [
        "left out: 2 x link (a, ...): out",
        "left out: 1 x HEIC picture (c): no reader",
    ]


def test_a_kind_with_two_reasons_is_two_lines():
    assert [one.why for one in listed(("link", "loop", "a"), ("link", "out", "b"))] == ["loop", "out"]


def test_a_thing_that_is_added_twice_counts_once_and_for_its_first_reason():
    assert [(one.kind, one.count) for one in listed(("tool", "x", "a"), ("picture", "y", "a"))] == [("tool", 1)]


@pytest.mark.parametrize("order", [1, -1])
def test_the_lists_do_not_depend_on_the_order_of_finding(order):
    things = [("link", "out", "b"), ("link", "out", "a"), ("file", "odd", "c")]
    assert listed(*things[::order]) == listed(*things)


def test_omissions_of_several_sources_add_up():
    first, second = listed(("link", "out", "a")), listed(("link", "out", "a"), ("link", "loop", "b"))
    assert [(one.why, one.count) for one in merged([first, second])] == [("out", 2), ("loop", 1)]

from typing import Literal

import pytest
from pydantic import Field, field_validator

from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment.mistakes import ValueSource, validated
from metalearn_cli.experiment.yaml_lines import parse
from metalearn_cli.settings import Settings


class Inner(Settings):
    lr: float = Field(default=0.1, gt=0)
    steps: int = Field(default=1, ge=1, le=9)


class Sample(Settings):
    word: str = "x"
    inner: Inner = Inner()
    kind: Literal["adam", "sgd"] = "adam"
    only: Literal["maml"] = "maml"
    flag: bool = True
    clip: float | None = Field(default=None, ge=0)
    sizes: list[int] = Field(default=[], max_length=2)
    mean: tuple[float, ...] = (0.0,)
    even: int = 0

    @field_validator("even")
    @classmethod
    def _is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError(f"{value} is odd")
        return value


def check(text, overridden=()):
    document = parse(text, "x.yaml")
    return validated(Sample, document.values, ValueSource("x.yaml", document.lines, overridden))


def refusal(text, overridden=()):
    with pytest.raises(ConfigError) as error:
        check(text, overridden)
    return str(error.value)


MISTAKES = {
    "word: 3": "word: found 3 (int), expected text; put it in quotes, as it stands there",
    "flag: yes": "flag: found 'yes' (str), expected true or false; write true",
    "kind: lion": "kind: found 'lion' (str), expected one of adam, sgd",
    "only: anil": "only: found 'anil' (str), expected maml",
    "kind:": "kind: found null, expected one of adam, sgd",
    "clip: x": "clip: found 'x' (str), expected a number of at least 0, or null",
    "even: 3": "even: 3 is odd",
    "inner: 3": "inner: found 3 (int), expected a block with keys of lr, steps",
    "inner: {lr: fast}": "inner.lr: found 'fast' (str), expected a number greater than 0",
    "inner: {lr: 0}": "inner.lr: found 0 (int), expected a number greater than 0",
    "inner: {lr: true}": "inner.lr: found True (bool), expected a number greater than 0",
    "inner: {lr: .inf}": "inner.lr: found inf (float), expected a finite number greater than 0",
    "inner: {lr: .nan}": "inner.lr: found nan (float), expected a finite number greater than 0",
    "inner: {steps: 1.0}": "inner.steps: found 1.0 (float), expected an integer from 1 to 9; write 1",
    "inner: {stpes: 1}": "inner.stpes: unknown key; did you mean steps?",
    "inner: {zzz: 1}": "inner.zzz: unknown key; known are lr, steps",
    '"a\\nb": 1': "'a\\nb': unknown key; known are word, inner, kind, only, flag, clip, sizes, mean, even",
    "sizes: 3": "sizes: found 3 (int), expected a list of at most 2, each an integer; write [3]",
    "sizes: [1, 2, 3]": "sizes: found [1, 2, 3] (list), expected a list of at most 2, each an integer",
    "sizes: [1, x]": "sizes[1]: found 'x' (str), expected an integer",
    "mean: [1, x]": "mean[1]: found 'x' (str), expected a number",
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.items())
def test_a_mistake_says_which_key_what_was_found_and_what_would_be_right(text, message):
    assert refusal(text) == f"x.yaml:1: {message}"


def test_a_list_fits_where_a_tuple_is_declared():
    assert check("mean: [1, 2.5]").mean == (1.0, 2.5)


def test_a_long_value_is_shortened():
    assert refusal(f"flag: {'x' * 500}") == f"x.yaml:1: flag: found '{'x' * 59}... (str), expected true or false"


def test_every_mistake_has_its_own_line():
    text = "word: 3\ninner:\n  lr: 0\n  steps: 0\nkind: x\n"
    lines = [line.split(": ")[0] for line in refusal(text).splitlines()]
    assert lines == ["x.yaml:1", "x.yaml:3", "x.yaml:4", "x.yaml:5"]


def test_a_mistake_under_an_overridden_key_names_the_override():
    message = refusal("inner: {lr: 0}", overridden=[("inner",)])
    assert message == "--set inner.lr: found 0 (int), expected a number greater than 0"


def test_a_mistake_beside_an_overridden_key_names_the_line():
    assert refusal("inner: {lr: 0}", overridden=[("inner", "steps")]).startswith("x.yaml:1: inner.lr: ")


def test_of_many_mistakes_the_first_twenty_are_listed():
    message = refusal("".join(f"k{number}: 1\n" for number in range(500)))
    assert len(message.splitlines()) == 21
    assert message.endswith("x.yaml: and 480 more mistakes")


def test_an_endless_key_is_cut():
    assert refusal(f"{'k' * 1000}: 1").startswith(f"x.yaml:1: {'k' * 60}...: unknown key; known are word, ")

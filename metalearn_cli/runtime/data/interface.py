"""The form of an opened dataset, the same for pictures, rows and functions: a network's interface, and samplers."""

from collections.abc import Callable
from typing import NamedTuple, TypedDict

from metalearn_cli.core.objectives import Objective, classification
from metalearn_cli.datasets import Part, Preprocessing
from metalearn_cli.datasets.tabular import Encoding
from metalearn_cli.nouns import PICTURE, POINT, Noun
from metalearn_cli.runtime.data.sampling import Names, Sampler, TaskSpec
from metalearn_cli.runtime.data.view import View
from metalearn_cli.runtime.data.whole_parts import Passes


class Interface(NamedTuple):
    """The inputs and outputs of a network: input shape (C, H, W) or (F,), number of outputs, and their objective.

    `preprocessing`: that of the pictures; None if inputs are not pictures. `view`: the features of pictures that the
    network reads, and `preprocessing` is then the extractor's; None if it reads pixels. `table`: the encoding of rows;
    None if inputs are not rows of a table.
    """

    input_shape: tuple[int, ...]
    outputs: int
    objective: Objective
    preprocessing: Preprocessing | None
    view: View | None = None
    table: Encoding | None = None

    @property
    def tells_classes_apart(self) -> bool:
        """Whether outputs are classes, judged by accuracy, and not values, judged by squared error."""
        return self.objective is classification

    @property
    def encoding(self) -> Encoding:
        """The encoding of its rows; only for a learner of a table."""
        assert self.table is not None
        return self.table

    @property
    def noun(self) -> Noun:
        """The word for its examples."""
        if self.table is not None:
            return self.table.noun
        return POINT if self.preprocessing is None else PICTURE


Families = Callable[[int, int], str]
"""`families(step, number)` returns the family of functions that task `number` of meta-batch `step` is of."""


class Data(NamedTuple):
    """An experiment's dataset, ready to draw tasks with `sampler(part, spec, seed)`. `sha256` identifies its contents.

    `classes(part)`: the names of a part's classes, and `names(part, spec, seed)` those in each task of the sampler; a
    distribution of tasks has none. `numbered(spec, seed, most)`: training tasks whose targets are the numbers of
    training classes, at most `most` of them (only the baselines); None for a mixture. `passes()`: all pictures of the
    training classes. `strangers(part, spec, seed)`: pictures of the classes that a task does not have; None if a part
    has no other classes. `pictured` (only for features): the pictures of the same tasks, for a person to see.
    `groups(part, spec, seed)` (only for a table whose tasks all have the same classes): for each class of a task, the
    group whose rows it has, such as a person; in other data a class is such a group itself.
    `families(part, seed)` (only for functions of several families): the family of each task.
    `left_out(part, spec)`: a line on classes or tasks with too few rows; "" if there are none.
    """

    interface: Interface
    sha256: str
    sampler: Callable[[Part, TaskSpec, int], Sampler]
    classes: Callable[[Part], frozenset[str]]
    names: Callable[[Part, TaskSpec, int], Names]
    numbered: Callable[[TaskSpec, int, int], Sampler] | None = None
    passes: Passes | None = None
    strangers: Callable[[Part, TaskSpec, int], Sampler | None] = lambda _part, _spec, _seed: None
    pictured: "Pictured | None" = None
    groups: Callable[[Part, TaskSpec, int], Names] | None = None
    families: Callable[[Part, int], Families] | None = None
    left_out: Callable[[Part, TaskSpec], str] = lambda _part, _spec: ""


class Pictured(NamedTuple):
    """Tasks as pictures, for a person: `sampler(part, spec, seed)` draws them, `seen` is their preprocessing."""

    sampler: Callable[[Part, TaskSpec, int], Sampler]
    seen: Preprocessing


class ShownAs(TypedDict):
    """Keyword arguments for showing tasks to a person: the preprocessing of pictures; for features, their sampler."""

    seen: Preprocessing | None
    pictures: Sampler | None


def shown_as(data: Data, seen: Preprocessing | None, part: Part, spec: TaskSpec, seed: int) -> ShownAs:
    """The ShownAs of a part's tasks: the network's inputs, with preprocessing `seen`, or the pictures of features."""
    if data.pictured is None:
        return {"seen": seen, "pictures": None}
    return {"seen": data.pictured.seen, "pictures": data.pictured.sampler(part, spec, seed)}

"""What a network sees and gives, and the tasks that it gets: facts of an opened dataset, whichever it is."""

from collections.abc import Callable
from typing import NamedTuple, TypedDict

from metalearn_cli.core.objectives import Objective, classification
from metalearn_cli.datasets import Part, Preprocessing
from metalearn_cli.datasets.tabular import Encoding
from metalearn_cli.runtime.data.sampling import Names, Sampler, TaskSpec
from metalearn_cli.runtime.data.view import View
from metalearn_cli.runtime.data.whole_parts import Passes


class Interface(NamedTuple):
    """What a network sees and gives: input shape (C, H, W) or (F,), number of outputs, and how they are judged.

    `preprocessing` is None where inputs are not pictures. `view` says which features of a picture are seen, and then
    `preprocessing` is the extractor's; it is None where pixels are seen. `table` says how the rows of a table become
    inputs; it is None where inputs are not rows.
    """

    input_shape: tuple[int, ...]
    outputs: int
    objective: Objective
    preprocessing: Preprocessing | None
    view: View | None = None
    table: Encoding | None = None

    @property
    def tells_classes_apart(self) -> bool:
        """Whether it is judged by accuracy, and not by squared error."""
        return self.objective is classification


class Data(NamedTuple):
    """An experiment's dataset, ready to draw from: `sampler(part, spec, seed)`; `sha256` names its contents.

    `classes(part)` are the names of a part's classes, `names(part, spec, seed)` those in each task that the sampler
    draws; a distribution of tasks has none. `numbered(spec, seed, most)` draws training tasks by class number, of
    `most` classes or fewer; None where classes have no numbers. `passes()` are all pictures of the training classes.
    `strangers(part, spec, seed)` draws pictures of the classes that each task has not; None where there are no others.
    `pictured` has, where the sampler draws features, the
    pictures of the same tasks, to be shown to a person. `left_out(part, spec)` is a line on what is not drawn from, as
    it has too few rows; "" if nothing is left out.
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
    left_out: Callable[[Part, TaskSpec], str] = lambda _part, _spec: ""


class Pictured(NamedTuple):
    """Tasks as pictures, for a person: `sampler(part, spec, seed)` draws them, as inputs that were `seen` so."""

    sampler: Callable[[Part, TaskSpec, int], Sampler]
    seen: Preprocessing


class ShownAs(TypedDict):
    """How tasks are shown to a person: the preprocessing of their pictures, and a sampler of these for features."""

    seen: Preprocessing | None
    pictures: Sampler | None


def shown_as(data: Data, seen: Preprocessing | None, part: Part, spec: TaskSpec, seed: int) -> ShownAs:
    """How the tasks of a part are shown to a person: as the network's inputs, or as the pictures behind features."""
    if data.pictured is None:
        return {"seen": seen, "pictures": None}
    return {"seen": data.pictured.seen, "pictures": data.pictured.sampler(part, spec, seed)}

"""Many small operations of a GPU as one: recorded while they run once, and launched together ever after.

A meta-gradient is thousands of operations, each too small to keep a GPU busy for as long as Python takes to ask for the
next. A CUDA graph holds them all, so Python asks once.

What is recorded is checked against what was not before it is relied on, and where it cannot be recorded, or gives
something else, all goes on as before, and says why.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from metalearn_cli.core.meta import Meta
from metalearn_cli.core.tasks import Task, with_each
from metalearn_cli.errors import is_out_of_memory

WARM_UP = 3
"""Times that work is done for a shape before it is recorded: libraries choose and allocate what they need in these."""

_TOLERANCE = {torch.float64: 1e-9}
_TOLERANCE_OTHERWISE = 1e-3  # sums on a GPU have no fixed order, and inner steps enlarge what differs

Result = TypeVar("Result")
Replay = Callable[[], None]
Record = Callable[[Callable[[], Any]], tuple[Replay, Any]]
"""`record(work)`: what does the work again, and its results, which are overwritten each time."""


class _Kept(NamedTuple, Generic[Result]):
    """A recording: the tasks that it reads, the results that it writes, and what makes it do so."""

    tasks: Task
    result: Result
    replay: Replay


class Recorder:
    """Does work on Meta and tasks; what comes again and again for one shape is replayed from a recording.

    The results of a replay are overwritten by the next.
    """

    def __init__(self, record: Record, say: Callable[[str], None]) -> None:
        self._record = record
        self._say = say
        self._key: object = None
        self._calls = 0
        self._kept: _Kept[Any] | None = None
        self._refused = False

    def __call__(self, name: object, work: Callable[[Meta, Task], Result], meta: Meta, tasks: Task) -> Result:
        """What the work gives for them; it is the same work as long as its name is equal."""
        key = (name, _places(meta), _shapes(tasks))
        if key != self._key:
            self._key, self._calls, self._kept = key, 0, None
        if self._kept is None and not self._refused and self._calls == WARM_UP:
            self._kept = self._recorded(work, meta, tasks)
        if self._kept is None:
            self._calls += 1
            return work(meta, tasks)
        for place, value in zip(pytree.tree_leaves(self._kept.tasks), pytree.tree_leaves(tasks), strict=True):
            if isinstance(place, Tensor):
                place.copy_(value)
        self._kept.replay()
        result: Result = self._kept.result
        return result

    def _recorded(self, work: Callable[[Meta, Task], Result], meta: Meta, tasks: Task) -> _Kept[Result] | None:
        """The recording; None where it fails or gives something else, which is said once."""
        expected, still = work(meta, tasks), with_each(tasks, torch.clone)
        try:
            replay, result = self._record(partial(work, meta, still))
            replay()
            if (away := _away(result, expected)) is None:
                return _Kept(still, result, replay)
            reason = f"it gives something else by {away:.1g}"
        except (RuntimeError, MemoryError) as error:
            reason = "out of memory" if is_out_of_memory(error) else str(error).splitlines()[0]
        self._refused = True
        self._say(f"the meta-gradient is not recorded as a CUDA graph, and goes on without ({reason})")
        return None


def by_cuda(device: torch.device, work: Callable[[], Any]) -> tuple[Replay, Any]:
    """A Record on a GPU. The work is done once more beforehand on a stream of its own, as recording asks for.

    Raises RuntimeError where the work waits for the device, or sends it what is not in its memory.
    """
    with torch.cuda.device(device):
        side, here = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
        side.wait_stream(here)
        with torch.cuda.stream(side):
            work()
        here.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = work()
    return graph.replay, result


def _places(meta: Meta) -> list[int]:
    """Where Meta's tensors are: a recording reads them there."""
    return [value.data_ptr() for part in meta for value in part.values()]


def _shapes(tasks: Task) -> list[object]:
    return [
        (tuple(leaf.shape), leaf.dtype, leaf.device) if isinstance(leaf, Tensor) else leaf
        for leaf in pytree.tree_leaves(tasks)
    ]


def _away(found: Any, expected: Any) -> float | None:
    """How far some tensor of the results is from what it should be, relative to that; None if none is far."""
    for one, other in zip(pytree.tree_leaves(found), pytree.tree_leaves(expected), strict=True):
        tolerance = _TOLERANCE.get(other.dtype, _TOLERANCE_OTHERWISE)
        scale = float(torch.linalg.vector_norm(other.double()))
        difference = float(torch.linalg.vector_norm(one.double() - other.double()))
        if not difference <= tolerance * scale:
            return difference / (scale or 1.0)
    return None

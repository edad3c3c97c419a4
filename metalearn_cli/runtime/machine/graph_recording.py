"""Many small operations of a GPU as one: recorded while they run once, and launched together ever after.

A meta-gradient is thousands of operations, each too small to keep a GPU busy for as long as Python takes to ask for the
next. A CUDA graph holds them all, so Python asks once.

What is recorded is checked against what was not before it is relied on, and where it cannot be recorded, or gives
something else, all goes on as before, and says why.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from metalearn_cli.core.meta import Meta, Scores
from metalearn_cli.core.tasks import Task, with_each
from metalearn_cli.errors import is_out_of_memory

WARM_UP = 3
"""Times that work is done for a shape before it is recorded: libraries choose and allocate what they need in these."""

_TOLERANCE = {torch.float64: 1e-9}
_TOLERANCE_OTHERWISE = 1e-3  # sums on a GPU have no fixed order, and inner steps enlarge what differs

Result = tuple[Meta, Scores]
Work = Callable[[Meta, Task], Result]
Replay = Callable[[], None]
Record = Callable[[Callable[[], Result]], tuple[Replay, Result]]
"""`record(work)`: what does the work again, and its results, which are overwritten each time."""


class _Kept(NamedTuple):
    """A recording: the tasks that it reads, the results that it writes, and what makes it do so."""

    tasks: Task
    result: Result
    replay: Replay


class Recorder:
    """Finds meta-gradients; one that comes again and again for one shape is replayed from a recording.

    The results of a replay are overwritten by the next. `recording` says whether it is at it right now.
    """

    def __init__(self, record: Record, say: Callable[[str], None]) -> None:
        self.recording = False
        self._record = record
        self._say = say
        self._key: object = None
        self._calls = 0
        self._kept: _Kept | None = None
        self._refused = False

    @property
    def replays(self) -> bool:
        """Whether the last call was, or the next equal one will be, a replay."""
        return self._kept is not None

    def __call__(self, name: object, work: Work, meta: Meta, tasks: Task) -> Result:
        """What the work gives for them; it is the same work as long as its name is equal."""
        key = (name, _places(meta), _shapes(tasks))
        if key != self._key:
            self._key, self._calls, self._kept = key, 0, None
        if self._kept is None:
            self._calls += 1
            found = work(meta, tasks)
            if self._calls >= WARM_UP and not self._refused:
                self._kept = self._recorded(work, meta, tasks, found)
            return found
        _filled(self._kept.tasks, tasks)
        self._kept.replay()
        return self._kept.result

    def _recorded(self, work: Work, meta: Meta, tasks: Task, expected: Result) -> _Kept | None:
        """The recording; None where it fails or gives something else, which is said once.

        It is recorded from tasks of zeros: what was left out of it, and so is there already, would be found out.
        """
        if not all(bool(part.isfinite().all()) for part in _parts(expected)):
            return None
        still = with_each(tasks, torch.zeros_like)
        self.recording = True
        try:
            replay, result = self._record(partial(work, meta, still))
            _filled(still, tasks)
            replay()
            away = _away(result, expected)
            if away <= _TOLERANCE.get(expected[1].loss.dtype, _TOLERANCE_OTHERWISE):
                return _Kept(still, result, replay)
            why = f"it gives something else by {away:.1g}"
        except (RuntimeError, MemoryError) as error:
            why = _first(error)
        finally:
            self.recording = False
        self._refused = True
        self._say(f"the meta-gradient is not recorded as a CUDA graph, and goes on without ({why})")
        return None


def by_cuda(device: torch.device, work: Callable[[], Result]) -> tuple[Replay, Result]:
    """A Record on a GPU. The work is done once more beforehand on a stream of its own, as recording asks for.

    Raises RuntimeError where the work waits for the device, or sends it what is not in its memory.
    """
    with torch.cuda.device(device):
        side, here = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
        side.wait_stream(here)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(side):  # left again also where recording fails, which torch's own block does not
            work()
            with torch.cuda.graph(graph, stream=side):
                result = work()
        here.wait_stream(side)
    return graph.replay, result


def _filled(places: Task, tasks: Task) -> None:
    """The tensors of `places` hold the values of `tasks`."""
    for place, value in zip(pytree.tree_leaves(places), pytree.tree_leaves(tasks), strict=True):
        if isinstance(place, Tensor):
            place.copy_(value)


def _first(error: BaseException) -> str:
    """The reason that came before what it led to."""
    while error.__context__ is not None:
        error = error.__context__
    return "out of memory" if is_out_of_memory(error) else str(error).partition("\n")[0]


def _places(meta: Meta) -> list[int]:
    """Where Meta's tensors are: a recording reads them there."""
    return [value.data_ptr() for value in pytree.tree_leaves(meta)]


def _shapes(tasks: Task) -> list[object]:
    return [
        (tuple(leaf.shape), leaf.dtype, leaf.device) if isinstance(leaf, Tensor) else leaf
        for leaf in pytree.tree_leaves(tasks)
    ]


def _away(found: Result, expected: Result) -> float:
    """How far the gradient, or the losses, are from what they should be, relative to that."""
    parts = zip(_parts(found), _parts(expected), strict=True)
    return max(float((one - other).norm() / other.norm().clamp(min=1e-30)) for one, other in parts)


def _parts(result: Result) -> tuple[Tensor, Tensor]:
    """All of the gradient, and the losses."""
    gradient, scores = result
    return torch.cat([value.flatten().double() for value in pytree.tree_leaves(gradient)]), scores.loss.double()

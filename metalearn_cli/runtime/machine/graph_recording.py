"""Records a meta-gradient as a CUDA graph, and replays it with one launch.

A meta-gradient has thousands of operations, each so small that the GPU waits for Python to launch the next. A CUDA
graph launches all of them at once.

A recording is used only after its results were compared with those of a normal run. If the work cannot be recorded, or
the results differ, training goes on without, and says why.
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
    """A recording: the tensors from which it reads tasks, those to which it writes results, and how to replay it."""

    tasks: Task
    result: Result
    replay: Replay


class Recorder:
    """Computes meta-gradients; one that is asked for repeatedly with the same shapes is recorded and then replayed.

    The next replay overwrites the results of a replay. `recording`: whether a recording is being made now.
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
        """The result of `work(meta, tasks)`. Works of equal `name` must be the same, because they share a recording."""
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
        """A recording; None, with one line to the user, if recording fails or gives other results than `expected`.

        It is recorded with tasks of zeros, so that results which the recording did not compute cannot pass as right.
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
    """A Record on a GPU. CUDA graphs need a warm-up, so the work first runs once on a stream of its own.

    Raises RuntimeError if the work waits for the device, or copies data to it.
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
    """Copy the values of `tasks` into the tensors `places`."""
    for place, value in zip(pytree.tree_leaves(places), pytree.tree_leaves(tasks), strict=True):
        if isinstance(place, Tensor):
            place.copy_(value)


def _first(error: BaseException) -> str:
    """The first error of a chain of errors."""
    while error.__context__ is not None:
        error = error.__context__
    return "out of memory" if is_out_of_memory(error) else str(error).partition("\n")[0]


def _places(meta: Meta) -> list[int]:
    """The addresses of Meta's tensors, from which a recording reads."""
    return [value.data_ptr() for value in pytree.tree_leaves(meta)]


def _shapes(tasks: Task) -> list[object]:
    return [
        (tuple(leaf.shape), leaf.dtype, leaf.device) if isinstance(leaf, Tensor) else leaf
        for leaf in pytree.tree_leaves(tasks)
    ]


def _away(found: Result, expected: Result) -> float:
    """The relative distance of the gradient, or of the losses, from the expected one; the larger of both."""
    parts = zip(_parts(found), _parts(expected), strict=True)
    return max(float((one - other).norm() / other.norm().clamp(min=1e-30)) for one, other in parts)


def _parts(result: Result) -> tuple[Tensor, Tensor]:
    """The gradient in one row, and the losses."""
    gradient, scores = result
    return torch.cat([value.flatten().double() for value in pytree.tree_leaves(gradient)]), scores.loss.double()

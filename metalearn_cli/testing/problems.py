"""Small networks and tasks for the checks: float64, on the CPU, from fixed seeds."""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from metalearn_cli.core.meta import Meta
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.layers.convolution import TaskConv2d
from metalearn_cli.layers.network import Network
from metalearn_cli.layers.norm import TaskNorm

WAYS, SHAPE = 3, (1, 8, 8)


def smooth_module(ways: int = WAYS) -> nn.Sequential:
    """A convolutional network with norms and without kinks, so that finite differences can be trusted."""
    body = nn.Sequential(
        TaskConv2d(1, 4, 3, stride=2, padding=1, bias=False),
        TaskNorm(4),
        nn.Softplus(),
        TaskConv2d(4, 4, 2, stride=1, padding=1),
        TaskNorm(4),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
    )
    # 8 x 8 pixels become 4 x 4, then 5 x 5, then 2 x 2: 4 channels * 2 * 2 = 16 features.
    return nn.Sequential(OrderedDict(body=body, head=nn.Linear(16, ways)))


def smooth_network(ways: int = WAYS) -> Network:
    """The smooth module as a function of its parameters, always from the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Network(smooth_module(ways))


def picture_tasks(
    count: int,
    ways: int = WAYS,
    shots: int = 2,
    queries: int = 3,
    shape: tuple[int, ...] = SHAPE,
    seed: int = 0,
) -> Task:
    """Tasks of random pictures, with equally many pictures of each class.

    >>> picture_tasks(4, ways=3, shots=2).support.inputs.shape  # 4 tasks of 3 * 2 pictures
    torch.Size([4, 6, 1, 8, 8])
    """
    generator = torch.Generator().manual_seed(seed)

    def examples(each: int) -> Examples:
        inputs = torch.rand(count, ways * each, *shape, generator=generator, dtype=torch.float64)
        return Examples(inputs, torch.arange(ways).repeat_interleave(each).expand(count, -1))

    return Task(examples(shots), examples(queries))


def value_tasks(count: int, inputs: int = 1, outputs: int = 1, seed: int = 0) -> Task:
    """Regression tasks of normal random numbers, 5 examples to learn from and 7 to predict."""
    generator = torch.Generator().manual_seed(seed)

    def examples(number: int) -> Examples:
        x = torch.randn(count, number, inputs, generator=generator, dtype=torch.float64)
        return Examples(x, torch.randn(count, number, outputs, generator=generator, dtype=torch.float64))

    return Task(examples(5), examples(7))


def double(meta: Meta) -> Meta:
    """Meta in float64."""
    return Meta(*({name: value.double() for name, value in part.items()} for part in meta))


def flat(meta: Meta) -> Tensor:
    """All values of Meta in one row."""
    return torch.cat([value.reshape(-1) for part in meta for value in part.values()])


def slope_by_differences(loss: Callable[[Meta], float], meta: Meta, distance: float = 1e-5) -> tuple[float, Meta]:
    """(L(m + d v) - L(m - d v)) / 2d for a random unit direction v, and v. Running statistics do not move."""
    generator = torch.Generator().manual_seed(1)
    learned = meta._replace(statistics={})
    # n, v, p and d stand for names, values, parts of Meta and directions.
    raw = Meta(*({n: torch.randn(v.shape, generator=generator, dtype=v.dtype) for n, v in p.items()} for p in learned))
    length = flat(raw).norm()
    along = Meta(*({n: v / length for n, v in p.items()} for p in raw))

    def at(signed: float) -> float:
        moved = ({n: v + signed * d[n] for n, v in p.items()} for p, d in zip(learned, along, strict=True))
        return loss(Meta(*moved)._replace(statistics=meta.statistics))

    return (at(distance) - at(-distance)) / (2 * distance), along

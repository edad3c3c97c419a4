"""Checkpoints that are not what they say, with checksums that are right.

A forger is `forge(random, checkpoint, told) -> content`; `told` then names what was changed.
"""

import copy
import json
import struct
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from metalearn_cli.storage.runs.checkpoints import FORMAT, Checkpoint, _digest

_VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 7, 255, 65_536, 65_537, 2**31, 2**63, 10**30, 10**400, -(10**400)),
    *(0.5, -0.0, 1e-320, 1e308, -1e308, "", "x", "0", "conv4", "maml", "meta", "adapted", "../../x", "a\nb", "\x1b[2J"),
    *("\u202e", "\0", "\U0010ffff", "x" * 5000, [], {}, [[]], [1, 2], [0] * 5000, {"name": "x"}, {"": None}),
)
_TEXTS = ("NaN", "Infinity", "-Infinity", "1e999", '"\\ud800"', "[" * 40 + "]" * 40, "[" * 100_000, '{"a":1,"a":2}', "")
_NAMES = ("", "x", "params.", "params.x", "coefficients.x", "optimizer.x", "optimizer.step", "optimizer.a.b", "support")
_NAMES += ("adapted.head.weight", "\u202e", "\n", "x" * 3000, "__metadata__", "optimizer.exp_avg.params.head.bias")
_TYPES = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64)
_FILLS = (torch.nan, torch.inf, -torch.inf, -1.0, 1e38, 0.0)
_FLAT = ("flatten", "linear")
_SIZES = (2, 3, 64, 512, 1000, 1024, 4096, 30_000, 65_536, 10**6, 2**31, 2**62)


def forged(random: Random, checkpoint: Checkpoint, told: list[str]) -> bytes:
    """The content of a file like the checkpoint's with one to three things changed, and a checksum of just that."""
    header = {"format": FORMAT, **copy.deepcopy(dict(checkpoint.header))}
    tensors = dict(checkpoint.tensors)
    for _change in range(random.choice((1, 1, 1, 2, 3))):
        told.append((change := random.choice(_CHANGES)).__name__)
        change(random, header, tensors, told)
    text = json.dumps(header, allow_nan=True)
    if random.random() < 0.1:
        text = _misspelt(random, text, told)
    content = packed(text, tensors)
    return _in_a_strange_container(random, content, told) if random.random() < 0.05 else content


def packed(header: str, tensors: dict[str, Tensor]) -> bytes:
    """The file of a header and tensors, whatever they are, with their checksum."""
    whole = {name: value.contiguous() for name, value in tensors.items()}
    return safetensors.torch.save(whole, {"metalearn": header, "sha256": _digest(header, whole)})


def places(values: Any, above: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Each block of a header, a key in it, and the path to that."""
    for key in list(values) if isinstance(values, dict) else range(len(values)):
        yield values, key, f"{above}{key}"
        if isinstance(values[key], dict | list):
            yield from places(values[key], f"{above}{key}.")


def _set(random: Random, header: Any, _tensors: Any, told: list[str]) -> None:
    block, key, path = random.choice(list(places(header)))
    block[key] = copy.deepcopy(random.choice(_VALUES))
    told.append(f"{path}={block[key]!r:.40}")


def _resize(random: Random, header: Any, _tensors: Any, told: list[str]) -> None:
    """A number that is another number: what is valid by itself must fit the rest."""
    numbers = [place for place in places(header) if type(place[0][place[1]]) in (int, float)]
    if numbers:
        block, key, path = random.choice(numbers)
        block[key] = random.choice((*_SIZES, block[key] + 1, block[key] - 1, block[key] * 10, -block[key]))
        told.append(f"{path}={block[key]!r}")


def _drop(random: Random, header: Any, _tensors: Any, told: list[str]) -> None:
    block, key, path = random.choice(list(places(header)))
    del block[key]
    told.append(path)


def _add(random: Random, header: Any, _tensors: Any, told: list[str]) -> None:
    block, key, path = random.choice(list(places(header)))
    if isinstance(block, dict):
        block[random.choice((f"{key}s", "extra", "", "\n", "__class__"))] = copy.deepcopy(block[key])
    else:
        block += [block[key]] * random.choice((1, 1000))
    told.append(path)


def _nest(random: Random, header: Any, _tensors: Any, told: list[str]) -> None:
    block, key, path = random.choice(list(places(header)))
    for _level in range(random.choice((1, 2, 20, 200))):
        block[key] = random.choice(([block[key]], {str(key): block[key]}))
    told.append(path)


def _swap(random: Random, header: Any, _tensors: Any, told: list[str]) -> None:
    """Two values of the header, each in the other's place."""
    (one, first, path), (other, second, to) = (random.choice(list(places(header))) for _place in range(2))
    one[first], other[second] = copy.deepcopy(other[second]), copy.deepcopy(one[first])
    told.append(f"{path}<>{to}")


def _choose(random: Random, header: Any, _tensors: Any, told: list[str]) -> None:
    """Another network, algorithm or dataset than the tensors are of."""
    block, value = random.choice((
        ("backbone", {"name": "conv4", "channels": random.choice(_SIZES)}),
        ("backbone", {"name": "mlp", "hidden": [random.choice(_SIZES)] * random.choice((1, 3))}),
        ("backbone", {"name": "resnet12"}),
        ("backbone", {"name": "layers", "layers": [{"upsample": {"scale": random.choice(_SIZES)}}, *_FLAT]}),
        ("backbone", {"name": "layers", "layers": [{"max_pool2d": {"kernel": random.choice(_SIZES)}}, *_FLAT]}),
        ("backbone", {"name": "custom", "call": "os:system", "arguments": {"command": "touch ran"}}),
        ("algorithm", {"name": random.choice(("protonet", "maml_plus_plus", "nearest", "r2d2", "os", "__init__"))}),
        ("algorithm", {"name": "baseline", "classes": random.choice(_SIZES)}),
        ("algorithm", {"name": "meta_sgd", "inner_steps": random.choice(_SIZES)}),
        ("dataset", {"name": random.choice(("sinusoid", "omniglot", "folder", "mixture", "os"))}),
        ("outer", {"optimizer": "sgd", "momentum": 0.9}),
        ("task", {"ways": random.choice(_SIZES), "running_statistics": True}),
    ))  # fmt: skip
    if isinstance(header.get("experiment"), dict):
        header["experiment"][block] = value
        told.append(f"{block}={value}")


def _tensor(random: Random, _header: Any, tensors: dict[str, Tensor], told: list[str]) -> None:
    """One tensor of another name, shape, type or content, gone, or there twice."""
    name = random.choice(sorted(tensors))
    value = tensors[name]
    match what := random.choice(("drop", "rename", "copy", "type", "shape", "fill", "some", "empty", "grow")):
        case "drop":
            del tensors[name]
        case "rename":
            tensors[random.choice(_NAMES)] = tensors.pop(name)
        case "copy":
            tensors[random.choice(_NAMES)] = value.clone()
        case "type":
            tensors[name] = value.to(random.choice(_TYPES))
        case "shape":
            tensors[name] = random.choice(
                (value.reshape(-1), value.unsqueeze(0), value[None, None], value.flatten()[:1])
            )
        case "fill":
            tensors[name] = torch.full_like(value, random.choice(_FILLS))
        case "some":
            tensors[name] = value.clone()
            tensors[name].view(-1)[:1] = random.choice(_FILLS)
        case "empty":
            tensors[name] = torch.empty(random.choice(((0,), (0, 3, 28, 28), (5, 0), (0, 2**40))))
        case "grow":
            tensors[name] = torch.cat([value.reshape(1, -1)] * 3)
    told.append(f"{what} {name}")


def _tensors_gone(random: Random, _header: Any, tensors: dict[str, Tensor], told: list[str]) -> None:
    """All tensors of one beginning are gone."""
    beginning = random.choice(("", "params.", "optimizer.", "optimizer.step.", "adapted.", "adapted.head."))
    for name in [name for name in tensors if name.startswith(beginning)]:
        del tensors[name]
    tensors.setdefault("x", torch.zeros(1))
    told.append(beginning)


def _misspelt(random: Random, text: str, told: list[str]) -> str:
    """A header with a text that a writer of JSON would not write in the place of one of its values."""
    at = random.choice([number for number, letter in enumerate(text) if letter == ":"])
    new = random.choice(_TEXTS)
    told.append(f"{new[:20]!r} at {at}")
    end = min((found for found in (text.find(mark, at) for mark in ",}") if found > 0), default=len(text))
    return text[: at + 1] + new + text[end:]


def _in_a_strange_container(random: Random, content: bytes, told: list[str]) -> bytes:
    """The same bytes below a container's list that says something else."""
    length = struct.unpack("<Q", content[:8])[0]
    listed = content[8 : 8 + length].decode().rstrip()
    changed = random.choice(_CONTAINERS)(listed)
    told.append("container")
    return struct.pack("<Q", len(changed.encode())) + changed.encode() + content[8 + length :]


_CONTAINERS: tuple[Callable[[str], str], ...] = (
    lambda text: text.replace('"shape":[', '"shape":[9223372036854775807,', 1),
    lambda text: text.replace('"F32"', '"F64"', 1),
    lambda text: text.replace('"F32"', '"F4"', 1),
    lambda text: text.replace('"data_offsets":[0,', '"data_offsets":[0,99', 1),
    lambda text: text.replace('"data_offsets":[', '"data_offsets":[-', 1),
    lambda text: text[:-1] + "," + text[1:],
    lambda text: text[:-1] + ',"x":{"dtype":"F32","shape":[0,4611686018427387904],"data_offsets":[0,0]}}',
    lambda text: text.replace('"sha256":"', '"sha256":"\\ud800', 1),
    lambda text: text.replace('"metalearn":"', '"metalearn":"\\ud800', 1),
    lambda text: " " * 1000 + text,
)
_CHANGES = (_set, _set, _resize, _resize, _drop, _add, _nest, _swap, _choose, _choose, _tensor, _tensor, _tensors_gone)

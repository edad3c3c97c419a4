"""Prepared datasets that were edited: each gives the right pixels, or is refused by name.

A fault is a copy of a prepared dataset with its manifest edited, its array damaged, of another shape or type, or its
files missing, swapped or replaced by something else. Opening it to learn from, and `prepare --verify`, must agree on
each. The command runs for every fiftieth fault.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from metalearn_cli.datasets import folder as pictures
from metalearn_cli.errors import DataError
from metalearn_cli.runtime.data.pixels import pixels_on
from metalearn_cli.runtime.data.sampling import TaskSpec, draw, gather, pool_of
from metalearn_cli.storage.prepared.dataset import Prepared, open_checked, open_prepared, verify
from metalearn_cli.storage.prepared.preparation import prepare
from tests.faults import Totals
from tests.faults._honest import class_folders
from tests.faults._ledger import Ledger, Lost, command, require_one_plain_line

SHORT, LONG = 30, 200
_CONFIG = pictures.Config(image_size=8)
_DATASET = pictures.build(_CONFIG)


def campaign(count: int, seed: int, scratch: Path) -> Totals:
    """`count` edits."""
    ledger = Ledger("datasets", seed)
    right, other = (_made(scratch / name, name) for name in ("right", "other"))
    for number in range(count):
        random, data, told = ledger.random(), scratch / str(number), list[str]()
        copy = data / right.name
        with ledger.fault(lambda told=told: " + ".join(told)):
            shutil.copytree(right, copy)
            for _edit in range(random.choice((1, 1, 1, 2))):
                told.append((edit := random.choice(_EDITS)).__name__)
                edit(random, copy, other)
            opened = _outcome(lambda copy=copy: _draws(copy, right, other))
            verified = _outcome(lambda copy=copy: _verifies(copy, right, other))
            if verified != opened:
                raise Lost(f"verified {verified}, opened {opened}")
            if number % 50 == 0:
                ended = command(data, "prepare", "folder", "--set", "dataset.image_size=8", "--verify", "--quiet")
                ended.require_answered()
                if (ended.code == 0) != verified:
                    raise Lost(f"the command ended with {ended.code}: {ended.err}")
            ledger.count("right" if opened else "refused")
    return ledger.totals()


def _made(data: Path, name: str) -> Path:
    source = data / "source"
    for member, content in class_folders(Random(name)).items():
        (source / member).parent.mkdir(parents=True, exist_ok=True)
        (source / member).write_bytes(content)
    return prepare("folder", _DATASET, data, source, False, lambda *_moved: None)[1]


def _outcome(works: Callable[[], None]) -> bool:
    """Whether it works; False if it is refused in one line."""
    try:
        works()
    except DataError as error:
        require_one_plain_line(error)
        return False
    return True


def _draws(copy: Path, *known: Path) -> None:
    """It opens as what was written, and tasks can be drawn from it."""
    found = open_checked(copy, lambda *_moved: None)
    _require_written(found, known)
    seen = found.manifest.preprocessing_for("classes", "dataset")
    pool = pool_of(found, pixels_on(found.images), _DATASET.sampling, "train", seen)
    spec = TaskSpec(2, 1, 2)
    gather(pool, spec, [draw(pool, spec, 0, 0, 0)])


def _verifies(copy: Path, *known: Path) -> None:
    """Its pixels are those of the dataset that its manifest was written for."""
    verify(copy)
    _require_written(open_prepared(copy), known)


def _require_written(found: Prepared, known: Sequence[Path]) -> None:
    written = [one for one in map(open_prepared, known) if one.manifest == found.manifest]
    if not written or not np.array_equal(found.images, written[0].images):
        raise Lost("is something that nobody wrote")


def _edit_manifest(random: Random, copy: Path, _other: Path) -> None:
    """Another value, or none, somewhere in the manifest."""
    file = copy / "manifest.json"
    try:
        fields = json.loads(file.read_bytes())
        places = list(_places(fields))
        block, key = random.choice(places)
    except (ValueError, IndexError, OSError, RecursionError):
        return
    if random.random() < 0.3:
        del block[key]
    elif random.random() < 0.2 and isinstance(block, dict):
        block[random.choice(("extra", "\n", "checksum", "moments"))] = block[key]
    else:
        block[key] = random.choice(
            (None, True, -1, 0, 1, 10**400, 1e308, "", "x", "class1", [], {}, [[]], {"name": 1}, "\x1b")
        )
    if random.random() < 0.3:
        fields.pop("checksum", None) if isinstance(fields, dict) else None
    file.write_text(json.dumps(fields))


def _places(value: Any) -> Any:
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def _damage(random: Random, copy: Path, _other: Path) -> None:
    """Bits turned in one of the files, or a part of it missing, zeroed or there twice."""
    file = copy / random.choice(("manifest.json", "images.npy"))
    if not file.is_file():
        return
    content = bytearray(file.read_bytes() or b"x")
    # The header of the array is short, and more happens there.
    end = 128 if random.random() < 0.5 else len(content)
    at, to = sorted(random.randrange(min(end, len(content)) + 1) for _end in range(2))
    match random.randrange(5):
        case 0 | 1:
            content[min(at, len(content) - 1)] ^= 1 << random.randrange(8)
        case 2:
            del content[at:]
        case 3:
            content[at:to] = bytes(to - at)
        case _:
            content[at:at] = content[at:to]
    file.write_bytes(content)


def _retype(random: Random, copy: Path, _other: Path) -> None:
    """An array of another shape, order or type, often of as many bytes."""
    images = np.load(copy / "images.npy", allow_pickle=True) if _is_whole(copy) else np.zeros((2, 3), np.uint8)
    changed = random.choice((
        lambda: images.view(np.int8), lambda: images.astype(np.float32), lambda: np.asfortranarray(images),
        lambda: images[:-1], lambda: np.concatenate([images, images]), lambda: images.reshape(len(images), -1),
        lambda: images[..., :1], lambda: np.array([{"a": 1}], object), lambda: np.zeros(0, np.uint8),
        lambda: np.empty((0, 8, 8, 3), np.uint8), lambda: images[::-1], lambda: np.array(3), lambda: images.reshape(-1),
    ))  # fmt: skip
    np.save(copy / "images.npy", changed(), allow_pickle=True)


def _is_whole(copy: Path) -> bool:
    try:
        open_prepared(copy)
    except DataError:
        return False
    return True


def _edit_header(random: Random, copy: Path, _other: Path) -> None:
    """The same pixels below a header that says something else of the same length."""
    file = copy / "images.npy"
    if not file.is_file():
        return
    changes = (
        *(
            (b"|u1", b"|i1"),
            (b"|u1", b"|b1"),
            (b"|u1", b"|O1"),
            (b"|u1", b"<u8"),
            (b"False", b"True "),
            (b"8, 8", b"4,16"),
        ),
        *((b"12, ", b"99, "), (b"NUMPY\x01", b"NUMPY\x02"), (b"NUMPY\x01", b"NUMPY\x09"), (b"\x76\x00", b"\x36\x00")),
        *((b"(", b"["), (b"descr", b"DESCR"), (b"'", b'"'), (b"12, ", b"-1, "), (b", }", b",}("), (b"{", b"(")),
    )
    file.write_bytes(file.read_bytes().replace(*random.choice(changes), 1))


def _swap(random: Random, copy: Path, other: Path) -> None:
    """A file of another dataset of the same shape, or the other file of this one."""
    name, instead = (random.choice(("manifest.json", "images.npy")) for _name in range(2))
    if (other / instead).is_file():
        _remove(copy / name)
        shutil.copy(other / instead, copy / name)


def _replace(random: Random, copy: Path, _other: Path) -> None:
    """Nothing where a file was, or something that is no file."""
    file = copy / random.choice(("manifest.json", "images.npy"))
    _remove(file)
    match random.randrange(6):
        case 0:
            file.mkdir()
        case 1:
            file.symlink_to(random.choice((file, file.with_name("nothing"), Path("/dev/null"), Path("/dev/zero"))))
        case 2:
            os.mkfifo(file)
        case 3:
            file.write_bytes(
                random.choice((b"", b"[" * 100_000, b"{}", b"[]", b"1", b"\xff", b'{"format": 1}', b'{"format": 2}'))
            )
        case 4:
            file.write_bytes(random.randbytes(500))
        case _:
            pass


def _remove(file: Path) -> None:
    if file.is_dir():
        shutil.rmtree(file)
    else:
        file.unlink(missing_ok=True)


_EDITS = (_edit_manifest, _edit_manifest, _damage, _damage, _retype, _edit_header, _swap, _replace)

"""Sources of pictures that are damaged or hostile: each becomes a whole dataset, or is refused and leaves nothing.

A fault is a folder or an archive in one of the forms that are read, with bits turned, cut, spliced, under another
suffix, or one of the hostile things of _hostile.py in it. It goes through storage.preparation.prepare, and every fifth
also through what `finetune` does with --support and --query. Whatever happens, no code in the file may have run, and
the process may not have grown beyond what honest pictures need.
"""

import resource
from pathlib import Path
from random import Random

from metalearn_cli.core.objectives import classification
from metalearn_cli.datasets import folder as pictures
from metalearn_cli.errors import DataError
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.use.finetuning import queries_in, support_in
from metalearn_cli.storage.prepared.dataset import verify
from metalearn_cli.storage.prepared.preparation import prepare
from tests.faults import Totals
from tests.faults._damage import damaged
from tests.faults._honest import CLASSES, FORMS, PACKED, Members
from tests.faults._hostile import hostile_pickles, strange_archives, strange_pictures
from tests.faults._ledger import Ledger, Lost, require_one_plain_line

SHORT, LONG = 40, 500
_MOST_GROWTH = 1 << 30
_NAMES = (
    *("all.pkl", "train.csv", "labels.tsv", "info.json", "in.zip", "in.tar.gz", "class0/a.png", "class0", "a/b/c.png"),
    *("x_images.pkl", "x_labels.npz", "cifar-100-python/test", "all.npz", "all.parquet", "test/a/b.png", "loose.png"),
    *("c\u0327/a.png", "class0/\u202e.png", "class0/a\u0301.png", "val/class0/a.png", ".hidden/a.png", "CLASS0/A.PNG"),
)
_DATASET = pictures.build(pictures.Config(image_size=8))._replace(wants=lambda _path: True)


def campaign(count: int, seed: int, scratch: Path) -> Totals:
    """`count` sources."""
    ledger = Ledger("sources", seed)
    for number in range(count):
        random, folder, told = ledger.random(), scratch / str(number), list[str]()
        folder.mkdir()
        marker = folder / "ran"
        with ledger.fault(lambda told=told: " + ".join(told)):
            source = _source(random, folder, marker, told)
            before = _peak()
            prepared = _prepared(source, folder / "data", random.random() < 0.2)
            if number % 5 == 0:
                _adapted_to(source)
            if marker.exists():
                raise Lost("code in the file was run")
            if _peak() - before > _MOST_GROWTH:
                raise Lost(f"took {(_peak() - before) >> 20} MB")
            ledger.count("prepared" if prepared else "refused")
    return ledger.totals()


def _prepared(source: Path, data: Path, skip_damaged: bool) -> bool:
    """Whether a dataset was made of it. Raises Lost for one that does not verify, or for what a refusal leaves."""
    try:
        _manifest, made = prepare("folder", _DATASET, data, source, False, lambda *_moved: None, skip_damaged)
    except DataError as error:
        require_one_plain_line(error)
        left = sorted(str(path.relative_to(data)) for path in data.rglob("*")) if data.exists() else []
        if left:
            raise Lost(f"refused, and left {left}") from error
        return False
    verify(made)
    if [path.name for path in data.iterdir()] != [made.name]:
        raise Lost(f"left {sorted(path.name for path in data.iterdir())}")
    return True


def _adapted_to(source: Path) -> None:
    seen = _DATASET.preprocessing.model_copy(update={"mean": (0.5,) * 3, "std": (0.5,) * 3})
    interface = Interface((3, 8, 8), CLASSES, classification, seen)
    for read in (lambda: support_in(source, interface), lambda: queries_in([source], ["class0"], interface)):
        try:
            read()
        except DataError as error:
            require_one_plain_line(error)


def _source(random: Random, folder: Path, marker: Path, told: list[str]) -> Path:
    """A source in `folder`; `told` then says what is wrong with it."""
    members = random.choice(FORMS)(random)
    told.append(", ".join({name.rpartition("/")[2] for name in members}))
    match random.randrange(10):
        case 0:
            name = random.choice(
                ("all.pkl", "all.pickle", "cifar-100-python/train", "x_images.pkl", "x_images_png.pkl")
            )
            which, content = random.choice(list(enumerate(hostile_pickles(marker))))
            told.append(f"hostile pickle {which} as {name}")
            members = {**members, name: content, "x_labels.pkl": content}
        case 1:
            which, (suffix, content) = random.choice(list(enumerate(strange_archives(random, members))))
            told.append(f"strange archive {which} as {suffix}")
            return _file(folder / f"source.{suffix}", content())
        case 2:
            name, content = random.choice(sorted(members)), random.choice(strange_pictures(random))
            told.append(f"{content[:16]!r}... in {name}")
            members = {**members, name: content}
        case 3 | 4:
            members = _with_damage(random, members, told)
        case 5:
            members = _renamed(random, members, told)
        case _:
            suffix = random.choice(sorted(PACKED))
            content = damaged(random, PACKED[suffix](members), told)
            suffix = random.choice((suffix, suffix, suffix, *PACKED, "png", "csv", ""))
            told.append(f"as {suffix}")
            return _file(folder / f"source.{suffix}", content)
    return _laid_out(random, folder, members, told)


def _laid_out(random: Random, folder: Path, members: Members, told: list[str]) -> Path:
    """The members as a folder or as an archive."""
    if random.random() < 0.5:
        suffix = random.choice(sorted(PACKED))
        told.append(suffix)
        return _file(folder / f"source.{suffix}", PACKED[suffix](members))
    for name, content in members.items():
        _file(folder / "source" / name, content)
    return folder / "source"


def _file(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _with_damage(random: Random, members: Members, told: list[str]) -> Members:
    chosen = random.choice(sorted(members))
    told.append(chosen)
    return {**members, chosen: damaged(random, members[chosen], told)}


def _renamed(random: Random, members: Members, told: list[str]) -> Members:
    """One member under another name, or one more of that name."""
    chosen = random.choice(sorted(members))
    new = random.choice(_NAMES)
    told.append(f"{chosen} is {new}")
    kept = {name: content for name, content in members.items() if not name.startswith(f"{new}/")}
    if random.random() < 0.5:
        kept.pop(chosen, None)
    return {**kept, new: members[chosen]}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

"""CIFAR-100. CIFAR-FS and FC100 are two splits of its classes and share one store."""

from collections.abc import Mapping, Sequence

from metalearn_cli.datasets import (
    PARTS,
    Archive,
    Arrangement,
    Download,
    Official,
    Preprocessing,
    Sampling,
    Source,
    Split,
)
from metalearn_cli.datasets.layouts import is_picture, is_row, kept, require_complete, shipped_rows
from metalearn_cli.datasets.layouts.agreement import parts_of_members, require_agreement
from metalearn_cli.errors import DataError

SPLITS = ("cifar_fs", "fc100")

_PICTURES = 600
_SIZE = 32
_OFFICIAL = Download(
    "cifar-100-python.tar.gz",
    ("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",),
    "sha256:85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    169_001_437,
)


def cifar100_archive(config: Official, split: str) -> Archive:
    """CIFAR-100 with both splits; tasks are drawn from `split`."""
    return Archive(
        store="cifar100",
        settings={},
        preprocessing=Preprocessing(channels=3, height=_SIZE, width=_SIZE, mean=(), std=()),
        sampling=Sampling(split, augmentation=config.augmentation, normalisation=config.normalisation),
        arrange=lambda source: arrange(config, source, split),
        offers=((_OFFICIAL,),),
        licence="not stated",
    )


def arrange(config: Official, source: Source, asked: str) -> Arrangement:
    """The 100 fine classes, from the official files or from folders with their names.

    Raises DataError if the source holds no CIFAR-100, less of it than `config` allows, or another split than `asked`.
    """
    rows = [*shipped_rows("cifar100.tsv")][1:]
    names = {fine: fine for _number, fine, *_rest in rows}
    numbers = {f"{int(number):03}": fine for number, fine, *_rest in rows}
    classes: dict[str, list[str]] = {}
    for member in _training_first(source.members):
        above = member.split("/")[-2] if "/" in member else ""
        name = (numbers if is_row(member) else names).get(above)
        if name is not None and is_picture(member):
            classes.setdefault(name, []).append(member)
    if not classes:
        raise DataError(
            "CIFAR-100: not found there; expected cifar-100-python.tar.gz, or folders named like its classes"
        )
    partial = require_complete("CIFAR-100", classes, dict.fromkeys(names, _PICTURES), config.allow_partial)
    splits: dict[str, Split] = {}
    for column, split in enumerate(SPLITS, start=4):
        parts: Split = {part: sorted(row[1] for row in rows if row[column] == part) for part in PARTS}
        splits[split] = kept(parts, classes, split)
    _require_agreement(classes, asked, splits)
    return Arrangement({name: classes[name] for name in sorted(classes)}, splits, "", partial)


def _require_agreement(classes: Mapping[str, Sequence[str]], asked: str, splits: Mapping[str, Split]) -> None:
    try:
        require_agreement(asked, parts_of_members(classes), asked, splits)
    except DataError as error:
        numbered = any(is_row(members[0]) for members in classes.values())
        own = "its labels may be numbered otherwise than CIFAR-100's own (apple 0 to worm 99): give cifar-100-python"
        hint = f"; {own}" if numbered else ""
        raise DataError(f"{error}{hint}") from error


def _training_first(members: Sequence[str]) -> list[str]:
    """The members with the official training pictures first and the test pictures after them, in every layout.

    The order of a class's pictures, and so the stored array, must not depend on the layout.
    """
    return sorted(members, key=lambda member: ("test" in member.split("/")[:-2], member))

"""Pictures of ImageNet, by the WordNet id ("n01532829") in their path, wherever people keep them."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from metalearn_cli.datasets import PARTS, Source, Split
from metalearn_cli.datasets.layouts import agreement, is_picture, is_row
from metalearn_cli.datasets.layouts.parts import part_in
from metalearn_cli.errors import DataError

TERMS = (
    "ImageNet pictures are for non-commercial research and education only, and may be passed on only to colleagues "
    "who accept the same terms (https://image-net.org/download.php)."
)

_WNID = re.compile(r"(?:^|/)(n\d{8})(?=[/._]|\d{8}\.)")


def wnid_in(path: str) -> str | None:
    """The last WordNet id in a path: the name of a class folder or archive, or the beginning of a picture's name."""
    found = _WNID.findall(path)
    return found[-1] if found else None


def only(classes: Collection[str]) -> Callable[[str], bool]:
    """A test whether a path may hold pictures of these classes, so that only 100 of 1,000 archives are opened."""
    return lambda path: (wnid := wnid_in(path)) is None or wnid in classes


def by_wnid(members: Sequence[str], classes: Collection[str]) -> dict[str, list[str]]:
    """The pictures of each of these classes, sorted by name; pickled ones only if there are no files.

    A picture that is there twice, such as in images/ and in train/, counts once.
    """
    files: dict[str, dict[str, str]] = {}
    rows: dict[str, list[str]] = {}
    for member in members:
        wnid = wnid_in(member)
        if wnid is None or wnid not in classes or not is_picture(member):
            continue
        if is_row(member):
            rows.setdefault(wnid, []).append(member)
        else:
            files.setdefault(wnid, {}).setdefault(member.rpartition("/")[2], member)
    return {wnid: [found[name] for name in sorted(found)] for wnid, found in files.items()} or rows


def require_same_parts(
    dataset: str, source: Source, classes: Mapping[str, Sequence[str]], asked: tuple[str, Split]
) -> None:
    """Raise DataError if the source puts a class into another part than the split asked (its name, its classes) does.

    If several folders have lists (data/, splits/a, splits/b), it is enough that one of them agrees.
    """
    name, split = asked
    named = {wnid for names in split.values() for wnid in names}
    found = ((wnid, member) for member in source.members if (wnid := wnid_in(member)) in named and is_picture(member))
    agreement.require_agreement(dataset, agreement.parts_of(found), name, {name: split})
    agreement.require_agreement(dataset, agreement.parts_of_members(classes), name, {name: split})
    errors = []
    for listed in agreement.parts_in_lists(source, named):
        try:
            agreement.require_agreement(dataset, listed, name, {name: split})
        except DataError as error:
            errors.append(error)
        else:
            if listed:
                return
    if errors:
        raise errors[0]


def anonymous(members: Sequence[str]) -> tuple[Mapping[str, list[str]], Split]:
    """Classes "train-000", ... of pickled pictures whose labels are numbers; the files they come from are the parts."""
    classes: dict[str, list[str]] = {}
    split: dict[str, list[str]] = {part: [] for part in PARTS}
    for member in members:
        number, part = member.split("/")[-2] if "/" in member else "", part_in(member)
        if is_row(member) and part is not None and number.isdecimal():
            name = f"{part}-{number}"
            if name not in classes:
                split[part].append(name)
            classes.setdefault(name, []).append(member)
    return classes, split

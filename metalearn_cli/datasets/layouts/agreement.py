"""A check that the folders and lists of a source agree with the published split that is used."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from metalearn_cli.datasets import PARTS, Part, Source, Split
from metalearn_cli.datasets.layouts.parts import part_in, parts_of_names
from metalearn_cli.errors import DataError

PartsOf = Mapping[str, Collection[Part]]
"""The parts in which the pictures of each class lie, without the classes that lie in none."""

_LISTS = (".csv", ".tsv", ".txt", ".lst", ".json")


def parts_of(pictures: Iterable[tuple[str, str]]) -> PartsOf:
    """The parts that the paths of each class's pictures name, from the (class, path) of each picture."""
    found: dict[str, set[Part]] = defaultdict(set)
    part_of: dict[str, Part | None] = {}
    for name, member in pictures:
        folder = member.rpartition("/")[0]
        if folder not in part_of:  # a million pictures lie in a thousand folders
            part_of[folder] = part_in(member)
        if (part := part_of[folder]) is not None:
            found[name].add(part)
    return found


def parts_of_members(classes: Mapping[str, Sequence[str]]) -> PartsOf:
    """The parts that the paths of each class's members name."""
    return parts_of((name, member) for name, members in classes.items() for member in members)


def parts_in_lists(source: Source, names: Collection[str]) -> Sequence[PartsOf]:
    """The parts of the classes `names`, for each folder with lists called train, val and test that mention them."""
    stems: dict[str, dict[str, str]] = defaultdict(dict)
    for member in source.members:
        folder, _, name = member.rpartition("/")
        if name.lower().endswith(_LISTS):
            stems[folder][name.rpartition(".")[0]] = member
    found = []
    for members in stems.values():
        parts: dict[str, set[Part]] = defaultdict(set)
        for stem, part in parts_of_names(members).items():
            text = source.text(members[stem])
            for name in names:
                if name in text:
                    parts[name].add(part)
        found.append(parts)
    return found


def require_agreement(name: str, found: PartsOf, asked: str, splits: Mapping[str, Split]) -> None:
    """Raise DataError if the source puts a class into another part than the split `asked` does.

    A source with only one part, or with every class in all parts, has no split of classes and passes.
    """
    named = {part for parts in found.values() for part in parts}
    if len(named) < 2 or all({*parts} == named for parts in found.values()):
        return
    wrong = _wrong(found, splits[asked])
    if not wrong:
        return
    first, listed = next(iter(wrong.items()))
    others = [other for other in splits if not _wrong(found, splits[other])]
    is_other = f"; it has the split {others[0]!r}" if others else ""
    raise DataError(
        f"{name}: the source has {first!r} in {' and '.join(sorted(found[first]))}, but the split {asked!r} has it "
        f"in {listed}, and so with {len(wrong)} of {len(found)} classes{is_other}; ask for another split, or "
        "give the pictures without parts; class folders can be prepared as 'folder', with the split that they have"
    )


def _wrong(found: PartsOf, split: Split) -> Mapping[str, Part]:
    """The classes that the source puts into another part than the split, with their part in the split."""
    part_of = {name: part for part in PARTS for name in split[part]}
    return {name: part_of[name] for name, parts in found.items() if name in part_of and {*parts} != {part_of[name]}}

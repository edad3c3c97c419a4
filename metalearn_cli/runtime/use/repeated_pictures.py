"""Finds pictures that occur twice in a support set, or in both support set and queries."""

from collections.abc import Sequence

from metalearn_cli.runtime.use.finetuning import Labelled


def remarks_on_repeats(support: Labelled | None, queries: Labelled | None) -> list[str]:
    """Remarks on support pictures that occur twice, and on queries that are support pictures too.

    Two pictures are the same if the network gets the same inputs from them.
    """
    if support is None:
        return []
    first: dict[bytes, int] = {}
    pairs = [(place, first.setdefault(digest, place)) for place, digest in enumerate(support.digests)]
    alike = [(place, other) for place, other in pairs if place != other]
    remarks = [
        _twice(support, [pair for pair in alike if _one_class(support, pair) is same], same) for same in (True, False)
    ]
    shown = [place for place, digest in enumerate(queries.digests) if digest in first] if queries is not None else []
    if queries is not None and shown:
        remarks.append(
            f"{len(shown)} of {len(queries.files)} queries are support pictures too ({queries.files[shown[0]]}"
            f"{', ...' if len(shown) > 1 else ''}); right answers to them say nothing"
        )
    return [remark for remark in remarks if remark]


def _one_class(support: Labelled, pair: tuple[int, int]) -> bool:
    return bool(support.labels[pair[0]] == support.labels[pair[1]])


def _twice(support: Labelled, pairs: Sequence[tuple[int, int]], one_class: bool) -> str:
    if not pairs:
        return ""
    place, other = pairs[0]
    where = f"{len(pairs)} of {len(support.files)} support pictures are there twice" + (
        "" if one_class else ", in two classes"
    )
    harm = "an accuracy by leaving them out is too high" if one_class else "one of the classes is wrong"
    named = f"{support.files[place]} = {support.files[other]}{', ...' if len(pairs) > 1 else ''}"
    return f"{where} ({named}); {harm}"

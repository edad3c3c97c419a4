"""Finds the picture that a cell of a list means. Lists hold paths as they were on the disk of their author."""

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence


class Names:
    """The pictures of a source, found by the paths in a list."""

    def __init__(self, pictures: Sequence[str]) -> None:
        self._known = {*pictures}
        self._called: dict[str, list[str]] = defaultdict(list)
        for picture in pictures:
            name = picture.rpartition("/")[2].casefold()
            self._called[name].append(picture)
            if (stem := posixpath.splitext(name)[0]) != name:
                self._called[stem].append(picture)

    def find(self, member: str, cell: str) -> Sequence[str]:
        """The pictures that the list `member` may mean by a cell: one, none, or several.

        A path from the list's folder, or from images/ there, comes first. Otherwise the picture's own path must end
        with the cell, or an absolute path in the cell must end with the picture's path. Backslashes, case and a missing
        suffix make no difference.
        """
        cell = unicodedata.normalize("NFC", cell.strip().strip("'\"")).replace("\\", "/")
        if not cell:
            return ()
        folder = posixpath.dirname(member)
        for below in ("", "images"):
            if (path := posixpath.normpath(posixpath.join(folder, below, cell))) in self._known:
                return (path,)
        asked = [part for part in re.sub(r"^[A-Za-z]:", "", cell).casefold().split("/") if part not in ("", ".")]
        if not asked or ".." in asked:
            return ()
        return [picture for picture in self._called.get(asked[-1], ()) if _fits(picture, folder, asked)]


def _fits(picture: str, folder: str, asked: Sequence[str]) -> bool:
    below = picture.removeprefix(f"{folder}/") if folder else picture
    for path in (picture, below):
        parts = path.casefold().split("/")
        if parts[-1] != asked[-1]:
            parts[-1] = posixpath.splitext(parts[-1])[0]
        shorter = min(len(parts), len(asked))
        if parts[-shorter:] == list(asked[-shorter:]):
            return True
    return False

"""Which picture of a source a cell of a list means: people write paths as their own disk had them."""

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence


class Names:
    """The pictures of a source, to be found by what a list calls them."""

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

        Its path from the list's folder, or from images/ there, comes first. Otherwise a path means the
        picture whose own path ends like it, or with which an absolute path ends. Backslashes, case and a missing suffix
        are no matter.
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

"""Recognises folders and files that tools leave among pictures; folders on disk and archives share this rule."""

import re

_HIDDEN = r"\.[^/]+"  # .git, .ipynb_checkpoints, .thumbnails, .DS_Store, ._1.jpg, .Trash-1000, .AppleDouble, ...
_MAC = r"__MACOSX|Icon\r|Network Trash Folder|Temporary Items"
_WINDOWS = r"\$RECYCLE\.BIN|System Volume Information|(eh)?thumbs(_vista)?\.db|desktop\.ini|FOUND\.\d{3}|~\$[^/]*"
_SERVERS = r"@eaDir|@tmp|@Recycle|@Recently-Snapshot|@__thumb|@sharebin|#recycle|#snapshot|~snapshot|lost\+found"
_TOOLS = r"__pycache__|Picasa\.ini|ZbThumbnail\.info"
_LEFTOVER = re.compile(rf"(?:^|/)(?:{_HIDDEN}|{_MAC}|{_WINDOWS}|{_SERVERS}|{_TOOLS})(?=/|$)", re.IGNORECASE)

KIND = "file or folder of a tool"
WHY = "what is hidden, thumbnails, trash and the like count nowhere"


def leftover(path: str) -> str | None:
    """The shortest beginning of `path` that a tool left behind (a folder or a file), or None.

    >>> leftover("cats/.ipynb_checkpoints/1.png")
    'cats/.ipynb_checkpoints'
    >>> leftover("cats/1.png")
    """
    found = _LEFTOVER.search(path)
    return path[: found.end()] if found else None

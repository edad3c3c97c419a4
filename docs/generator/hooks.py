"""For mkdocs: pages of the repository outside docs/ become pages of the site, and links that work on GitHub work there.

mkdocs calls `on_files` with the pages that it found, and `on_page_markdown` with the text of each.
"""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent.parent
OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/*.md")
_LINK = re.compile(r"(?<=\]\()(?!#)(?![a-z]+:)([^)\s#]+)")


def on_files(files: Any, config: Any) -> Any:
    """The pages of docs/ and those that lie outside; both have the same place in the site as in the repository."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_given: Any) -> str:
    """The page with its links, which are written for the repository, as links of the site."""
    own = page.file.src_uri
    folder = PurePosixPath(in_repository(own)).parent
    lead = PurePosixPath(own).parent.as_posix()

    def moved(found: re.Match[str]) -> str:
        return relpath(in_site(normpath((folder / found[1]).as_posix())), lead)

    return _LINK.sub(moved, markdown)


def in_repository(page: str) -> str:
    """Where a page of the site lies in the repository."""
    outside = any(PurePosixPath(page).match(pattern) for pattern in OUTSIDE) and not (ROOT / "docs" / page).exists()
    return page if outside else f"docs/{page}"


def in_site(path: str) -> str:
    """Where a file of the repository lies in the site, whose landing page stands for the README."""
    return "index.md" if path == "README.md" else path.removeprefix("docs/")

"""Every link of the documentation leads somewhere, in the repository; those that leave it are well-formed."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.commands import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]


def prose(text: str) -> str:
    """The page without its blocks and pieces of code, in which brackets are no links."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def links(page: Path) -> list[str]:
    text = prose(page.read_text())
    return re.findall(r"\]\(([^)\n]*)\)", text) + re.findall(r"<([a-z]+:[^>\n]*)>", text)


def anchors(page: Path) -> set[str]:
    """The names that GitHub and mkdocs both give to a page's headings."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE), re.M
    )
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


def mistake(page: Path, link: str) -> str:
    """What is wrong with a link of a page; nothing if it is right."""
    parts = urlsplit(link)
    if parts.scheme:
        host = re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc)
        return "" if parts.scheme == "https" and host and not re.search(r"[\s<>\"]", link) else "not well-formed"
    target = page.parent / parts.path if parts.path else page
    if not target.exists():
        return "no such file"
    return "" if not parts.fragment or parts.fragment in anchors(target) else "no such heading"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_somewhere(page):
    assert {link: wrong for link in links(page) if (wrong := mistake(page, link))} == {}


@pytest.mark.parametrize(
    "link",
    [
        "no_such.md",
        "data.md#no-such",
        "#no-such",
        "http://arxiv.org/abs/1703.03400",
        "https:/arxiv.org",
        "https://a b.org/",
    ],
)
def test_a_wrong_link_is_found(link):
    assert mistake(ROOT / "docs/maml.md", link)


@pytest.mark.parametrize("link", ["data.md", "data.md#omniglot", "#the-gradient", "https://arxiv.org/abs/1703.03400"])
def test_a_right_link_is_none_of_them(link):
    assert not mistake(ROOT / "docs/maml.md", link)

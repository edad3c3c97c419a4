"""Web pages as values: sections of markup and charts, and the origin of the numbers, by which they can be repeated.

A page is built once. The same value becomes an HTML file (`as_html`) and a list of charts to be saved (`charts_of`).
"""

from collections.abc import Sequence
from typing import NamedTuple

from metalearn_cli.report.charts import Chart
from metalearn_cli.report.drawing import inline
from metalearn_cli.report.page import Html, element, facts, join, page, section, verbatim


class Origin(NamedTuple):
    """The origin of a page's numbers: the resolved experiments by name, the environment, and the command."""

    settings: Sequence[tuple[str, str]]
    environment: Sequence[tuple[str, str]]
    command: str


class Section(NamedTuple):
    """A part of a page under its heading (no heading if `title` is empty).

    A part is markup, a chart, or a sequence of charts, which stand beside each other if the page is wide enough.
    """

    title: str
    parts: Sequence[Html | Chart | Sequence[Chart]]


class WebPage(NamedTuple):
    """A page before it is written: its title, a line below the title, its sections, and the origin of its numbers."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    origin: Origin


def as_html(found: WebPage) -> bytes:
    """The page as a file of HTML; it ends with the command, the settings and the environment."""
    shown = [_shown(part_of_page) for part_of_page in found.sections]
    return page(found.title, found.subtitle, [*shown, _origin(found.origin)])


def charts_of(found: WebPage) -> list[Chart]:
    """All charts of a page, from its top to its bottom."""
    charts: list[Chart] = []
    for part in (part for section_of_page in found.sections for part in section_of_page.parts):
        if isinstance(part, Chart):
            charts.append(part)
        elif not isinstance(part, Html):
            charts += part
    return charts


def _shown(part_of_page: Section) -> Html:
    drawn = [_drawn(part) for part in part_of_page.parts]
    return section(part_of_page.title, *drawn) if part_of_page.title else join(drawn)


def _drawn(part: Html | Chart | Sequence[Chart]) -> Html:
    # A Chart is a NamedTuple, and so a sequence too; this check must come before that for a sequence of charts.
    if isinstance(part, Chart):
        return inline(part)
    return part if isinstance(part, Html) else element("div", join(map(inline, part)), "charts")


def _origin(found: Origin) -> Html:
    settings = [join([*([element("h3", name)] if name else []), verbatim(text)]) for name, text in found.settings]
    return join([
        section("Command", verbatim(found.command)),
        section("Settings", *settings),
        section("Environment", facts(found.environment)),
    ])  # fmt: skip

"""What a page says, read as a browser reads it."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """The page's tags, tables (a cell is its text, or its exact number where it has one), numbers and text."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str | float]]] = []
        self.numbers: list[float] = []
        self.text = ""
        self._cell: list[str] | None = None
        self._number: float | None = None
        self.feed(content.decode())
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell, self._number = [], None
        elif tag == "data":
            self._number = float(dict(attrs)["value"])
            self.numbers.append(self._number)

    def handle_endtag(self, tag) -> None:
        if tag in ("td", "th") and self._cell is not None:
            self.tables[-1][-1].append("".join(self._cell) if self._number is None else self._number)
            self._cell = None

    def handle_data(self, data) -> None:
        self.text += data
        if self._cell is not None:
            self._cell.append(data)

    def table(self, *header: str) -> list[list[str | float]]:
        """The rows of the one table whose header starts so."""
        [found] = [rows for rows in self.tables if rows[0][: len(header)] == list(header)]
        return found[1:]


def loads(page: Page) -> list[str]:
    """All that a browser would fetch or run."""
    fetched = ("src", "srcset", "poster", "data", "action", "background")
    found = [value or "" for _, attributes in page.tags for name, value in attributes.items() if name in fetched]
    found += [value or "" for tag, attributes in page.tags for name, value in attributes.items() if name == "href"]
    found += [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object", "embed", "base")]
    found += [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    return [one for one in found if not one.startswith(("data:image/png;base64,", "data:image/jpeg;base64,", "#"))]

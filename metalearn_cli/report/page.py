"""The markup of a page: one HTML file without scripts that loads nothing, for light and dark screens and for paper."""

from collections.abc import Iterable, Sequence
from html import escape
from math import isfinite

from metalearn_cli.errors import printable

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

_LONG = 30  # characters; the cell of a longer text gets a wider column

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2128; --soft: #57606a; --line: #d0d7de; --shade: #f6f8fa;
  --right: #1a7f37; --wrong: #cf222e;
  --c0: #0969da; --c1: #bc4c00; --c2: #1a7f37; --c3: #8250df; --c4: #bf3989; --c5: #6e5c00; }
@media (prefers-color-scheme: dark) { :root { --paper: #0d1117; --ink: #e6edf3; --soft: #9aa4af; --line: #3d444d;
  --shade: #161b22; --right: #3fb950; --wrong: #ff7b72;
  --c0: #58a6ff; --c1: #f0883e; --c2: #3fb950; --c3: #bc8cff; --c4: #f778ba; --c5: #d4b106; } }
@media print { :root { --paper: #fff; --ink: #000; --soft: #444; --line: #bbb; --shade: #fff; --right: #1a7f37;
  --wrong: #cf222e; --c0: #0969da; --c1: #bc4c00; --c2: #1a7f37; --c3: #8250df; --c4: #bf3989; --c5: #6e5c00; }
  figure, tr, .card { break-inside: avoid; } h2, h3 { break-after: avoid; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 66rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif; }
h1, h2, h3, p, figcaption { overflow-wrap: anywhere; } td { overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; padding-top: .5rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .4rem 0; max-width: 48rem; } .soft, figcaption { color: var(--soft); font-size: .875rem; }
.big { font-size: 1.25rem; font-weight: 600; }
.wide { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  min-width: 2.5rem; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.long { min-width: 14rem; max-width: 26rem; }
details.group > summary { cursor: pointer; font-weight: 600; margin: .5rem 0; }
pre { background: var(--shade); border: 1px solid var(--line); border-radius: 4px; padding: .7rem; margin: .6rem 0;
  font-size: .8rem; line-height: 1.4; white-space: pre-wrap; overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1.2rem; }
figure { margin: 0; } figure.chart { max-width: 34rem; } figure.chart svg { display: block; width: 100%; height: auto; }
svg text { font-family: system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif !important; }
.pictures { display: flex; flex-wrap: wrap; gap: .5rem; }
.pictures figure { width: 4.2rem; } .pictures figcaption { font-size: .72rem; line-height: 1.25; margin-top: .15rem; }
img { display: block; width: 4rem; height: auto; border: 1px solid var(--line); }
img.small { width: 3rem; } img.coarse { image-rendering: pixelated; }
.right img { border: 3px solid var(--right); } .wrong img { border: 3px dashed var(--wrong); }
.right b { color: var(--right); } .wrong b { color: var(--wrong); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); gap: .8rem; }
.card { border: 1px solid var(--line); border-radius: 4px; padding: .6rem; font-size: .85rem; min-width: 0; }
.card > img { width: 6rem; } .card p { margin: .25rem 0; } .card .answer b { color: inherit; }
.card .pictures { gap: .3rem; } .card .pictures figure { width: 5.2rem; }
.card .pictures figcaption { font-size: .66rem; }
.card.card .pictures img { border: 1px solid var(--line); }
@media (max-width: 30rem) { h1 { font-size: 1.3rem; } table { font-size: .8rem; } th, td { padding: .2rem .3rem; } }
"""


class Html(str):
    """Text that is HTML already. All functions of this file escape any other text."""


def text(value: "str | Html") -> Html:
    """The value as Html: escaped if it is not Html yet; control characters are spelled out."""
    return value if isinstance(value, Html) else Html(escape(printable(str(value))))


def join(parts: Iterable["str | Html"]) -> Html:
    """The parts one after the other."""
    return Html("\n".join(text(part) for part in parts))


def element(name: str, content: "str | Html", kind: str = "") -> Html:
    """<name class=kind>content</name>."""
    attribute = f' class="{escape(kind)}"' if kind else ""
    return Html(f"<{name}{attribute}>{text(content)}</{name}>")


def number(value: float, shown: str) -> Html:
    """A number as `shown`, with its exact value in an attribute for programs; a dash if it is not finite."""
    if not isfinite(value):
        return Html("-")
    return Html(f'<data value="{value!r}">{escape(shown)}</data>')


def paragraph(content: "str | Html", kind: str = "") -> Html:
    """A paragraph."""
    return element("p", content, kind)


def section(title: str, *parts: "str | Html") -> Html:
    """A <section> with a heading."""
    return Html(f"<section>\n{element('h2', title)}\n{join(parts)}\n</section>")


def table(header: Sequence[str], rows: Iterable[Sequence["str | Html"]], numbers: Iterable[int] = ()) -> Html:
    """A table; it scrolls sideways if the page is too narrow. The columns `numbers` (places) are right-aligned."""
    right = set(numbers)

    def row(name: str, cells: Sequence["str | Html"]) -> str:
        kinds = [
            "number" if place in right else "long" if len(cell) > _LONG else "" for place, cell in enumerate(cells)
        ]
        return "".join(element(name, cell, kind) for cell, kind in zip(cells, kinds, strict=True))

    body = "\n".join(f"<tr>{row('td', cells)}</tr>" for cells in rows)
    head = f"<thead><tr>{row('th', header)}</tr></thead>"
    return Html(f'<div class="wide"><table>{head}\n<tbody>\n{body}\n</tbody></table></div>')


def facts(rows: Sequence[tuple[str, "str | Html"]]) -> Html:
    """A table of names and their values, one pair in a line."""
    return table(["", ""], [[element("b", name), value] for name, value in rows])


def verbatim(content: str) -> Html:
    """Preformatted text, such as a file or a command."""
    return element("pre", element("code", content))


def page(title: str, subtitle: str, sections: Iterable["str | Html"]) -> bytes:
    """The bytes of an HTML file; equal arguments give equal bytes."""
    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="referrer" content="no-referrer">\n{element("title", title)}\n<style>{_STYLE}</style>\n</head>'
    )
    body = join([element("h1", title), paragraph(subtitle, "soft"), *sections])
    return f"{head}\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n".encode("utf-8", "backslashreplace")

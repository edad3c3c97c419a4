"""Pictures inside a page, and sheets of episodes.

Legend: W ways, S shots, Q queries of a class, H height, C channels.
"""

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metalearn_cli.errors import printable
from metalearn_cli.report.page import Html, element, join

_LARGEST = 96  # pixels a side; a page holds hundreds of pictures in its own file
_COARSE = 48  # pixels a side; so small a picture is stored without loss and enlarged without smoothing
MOST_CLASSES, MOST_SHOTS, MOST_QUERIES = 10, 5, 6


class Episode(NamedTuple):
    """One task to be shown: its W classes (`names`), and its pictures, uint8 [W, S, H, W, C] and [W, Q, H, W, C].

    `answers` [W, Q]: the place in `names` of the class that each query was answered with; negative for no answer.
    """

    title: str
    names: Sequence[str]
    support: NDArray[np.uint8]
    query: NDArray[np.uint8]
    answers: NDArray[np.int64]


def thumbnail(pixels: NDArray[np.uint8], description: str, kind: str = "") -> Html:
    """A picture [H, W, C] of 1 or 3 channels as an <img> that holds it, at most 96 pixels a side."""
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    coarse = max(picture.size) <= _COARSE
    picture.thumbnail((_LARGEST, _LARGEST))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG") if coarse else picture.save(buffer, "JPEG", quality=82)
    content = base64.b64encode(buffer.getvalue()).decode()
    classes = " ".join(name for name in (kind, "coarse" if coarse else "") if name)
    return Html(
        f'<img class="{classes}" width="{picture.width}" height="{picture.height}" '
        f'alt="{escape(printable(description))}" src="data:image/{"png" if coarse else "jpeg"};base64,{content}">'
    )


def with_verdict(picture: Html, right: bool, says: str) -> Html:
    """A picture marked as right or wrong: in words and by its frame, and not by colour alone."""
    verdict = join([element("b", "✓ right" if right else "✗ wrong"), says])
    return element("figure", join([picture, element("figcaption", verdict)]), "right" if right else "wrong")


def episode_sheet(episode: Episode) -> Html:
    """A block for each class: its support pictures, and its queries with their answers."""
    ways, shots, queries = *episode.support.shape[:2], episode.query.shape[1]
    blocks = [_block(episode, way) for way in range(min(ways, MOST_CLASSES))]
    limits = [(ways, MOST_CLASSES, "classes"), (shots, MOST_SHOTS, "support pictures of a class")]
    limits += [(queries, MOST_QUERIES, "queries of a class")]
    cut = [f"{most} of {count} {what}" for count, most, what in limits if count > most]
    note = [element("p", f"Shown: {', '.join(cut)}.", "soft")] if cut else []
    return join([element("h3", episode.title), *note, *blocks])


def _block(episode: Episode, way: int) -> Html:
    name = episode.names[way]
    known = [
        element("figure", join([thumbnail(pixels, f"support picture of {name}"), element("figcaption", "support")]))
        for pixels in episode.support[way, :MOST_SHOTS]
    ]
    asked = []
    for pixels, answer in list(zip(episode.query[way], episode.answers[way], strict=True))[:MOST_QUERIES]:
        taken_for = episode.names[answer] if answer >= 0 else "no class, as no output is finite"
        says = "" if answer == way else f"taken for {taken_for}"
        asked.append(
            with_verdict(thumbnail(pixels, f"query picture of {name}, taken for {taken_for}"), answer == way, says)
        )
    return join([element("p", element("b", name)), element("div", join([*known, *asked]), "pictures")])

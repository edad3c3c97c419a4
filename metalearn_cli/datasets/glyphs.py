"""Glyphs: invented characters that a program draws, so that they need no download.

Each class is a pen-stroke programme in the manner of Lake et al. 2015: one to four strokes, each a line, an arc, a
loop, a corner or a wave, which tend to begin on an earlier stroke. Each drawing performs the programme anew, with an
unsteady hand: every stroke is shifted, turned, scaled and wobbled, the whole is turned, scaled, slanted and moved, and
the pen's width varies. So two drawings of a class share few pixels, but their strokes.

Legend: D drawings of a class, S strokes, P points of a stroke.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metalearn_cli.datasets import PARTS, Generated, Pictures, Preprocessing, Rotations, Sampling, Split

SIZE = 28

_VERSION = 1  # part of the store's name: a change to the drawing would otherwise mix old and new glyphs
_SUPER = 3  # cells per pixel and axis, so that an edge has up to ten levels of grey
_MARGIN = 8  # cells around the paper for ink that falls off it
_POINTS = 96
_ALONG = np.linspace(0.0, 1.0, _POINTS)
_STROKES = (0.06, 0.38, 0.36, 0.20)  # probabilities of 1, 2, 3 and 4 strokes

Path = NDArray[np.float64]


class Config(Pictures):
    """The same settings always draw the same glyphs.

    `classes` (classes): the number of glyphs, split 10 : 1 : 1 into train, val and test.
    `drawings` (pictures): the number of drawings of each glyph.
    `seed`: another seed draws other glyphs.
    `rotations`: turns by quarters, in training: each class is four ("classes"), one of four drawn for each task
        ("task"), or none.
    """

    name: Literal["glyphs"] = "glyphs"
    classes: int = Field(default=1200, ge=12, le=100_000)
    drawings: int = Field(default=20, ge=2, le=1000)
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    rotations: Rotations = "none"


def build(config: Config) -> Generated:
    """28 x 28 grey drawings, ink = 1 on paper = 0."""
    settings = {"classes": config.classes, "drawings": config.drawings, "seed": config.seed, "version": _VERSION}
    return Generated(
        store=f"glyphs-v{_VERSION}-{config.classes}x{config.drawings}-seed{config.seed}",
        settings=settings,
        preprocessing=Preprocessing(channels=1, height=SIZE, width=SIZE, invert=True),
        sampling=Sampling(
            "default", config.rotations, augmentation=config.augmentation, normalisation=config.normalisation
        ),
        classes=[f"glyph{index:05}" for index in range(config.classes)],
        draw=lambda index: drawings(config, index),
        splits=splits,
    )


def drawings(config: Config, index: int) -> NDArray[np.uint8]:
    """The drawings of class `index`, uint8 [D, 28, 28, 1]; they depend only on `index` and the seed."""
    generator = np.random.Generator(np.random.Philox(key=[config.seed, index]))
    return perform(programme(generator), config.drawings, generator)


def splits(names: Sequence[str]) -> Mapping[str, Split]:
    """One split: the first ten twelfths of the classes for training, one each for validation and test."""
    held_out = len(names) // 12
    val, test = len(names) - 2 * held_out, len(names) - held_out
    return {"default": dict(zip(PARTS, (names[:val], names[val:test], names[test:]), strict=True))}


def programme(generator: np.random.Generator) -> Path:
    """The strokes of one class, [S, P, 2], centred, the larger extent from -1 to 1."""
    strokes: list[Path] = []
    for _ in range(generator.choice(len(_STROKES), p=_STROKES) + 1):
        stroke = _stroke(generator)
        if strokes and generator.random() < 0.75:
            anchor = strokes[generator.integers(len(strokes))][generator.choice([0, _POINTS // 2, _POINTS - 1])]
            joint = stroke[generator.choice([0, _POINTS // 2])]
            stroke = stroke - joint + anchor
        else:
            stroke = stroke + generator.uniform(-0.6, 0.6, 2)
        strokes.append(stroke)
    paths = np.stack(strokes)
    low, high = paths.min((0, 1)), paths.max((0, 1))
    centred: Path = (paths - (low + high) / 2) / max((high - low).max() / 2, 0.3)
    return centred


def perform(strokes: Path, drawings: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Drawings [D, 28, 28, 1] of the strokes [S, P, 2], each by an unsteady hand."""
    count = len(strokes)
    middle = strokes.mean(1, keepdims=True)
    turn = generator.normal(0, 0.07, (drawings, count))
    scale = np.exp(generator.normal(0, 0.06, (drawings, count, 1, 2)))
    moved = _turned((strokes - middle) * scale, turn) + middle
    moved = moved + generator.normal(0, 0.045, (drawings, count, 1, 2)) + _wobble(generator, (drawings, count))
    whole = _turned(moved, generator.normal(0, 0.10, (drawings, 1)))
    whole[..., 0] += generator.normal(0, 0.10, (drawings, 1, 1)) * whole[..., 1]  # a slant: x moves with y
    whole = (
        whole
        * generator.uniform(7.5, 11.0, (drawings, 1, 1, 1))
        * np.exp(generator.normal(0, 0.08, (drawings, 1, 1, 2)))
    )
    whole = whole + generator.normal(0, 1.3, (drawings, 1, 1, 2)) + SIZE / 2
    return _inked(whole.reshape(drawings, -1, 2), generator.uniform(0.5, 0.85, drawings))


def _stroke(generator: np.random.Generator) -> Path:
    """One stroke [P, 2] around the origin: a line, an arc, a loop, a corner or a wave."""
    kind = generator.choice(["line", "arc", "loop", "corner", "wave"], p=[0.30, 0.27, 0.10, 0.19, 0.14])
    size = generator.uniform(0.45, 1.1)
    heading = generator.integers(8) * np.pi / 4 + generator.normal(0, 0.12)
    if kind == "line":
        points = np.stack([2 * _ALONG - 1, np.zeros(_POINTS)], 1)
    elif kind in ("arc", "loop"):
        angles = _ALONG * (2 * np.pi if kind == "loop" else generator.uniform(0.7, 1.6) * np.pi)
        points = np.stack([np.cos(angles), generator.uniform(0.6, 1.0) * np.sin(angles)], 1)
        size *= 0.7
    elif kind == "corner":
        bend = generator.uniform(0.35, 0.75) * np.pi * generator.choice([-1, 1])
        corner = generator.uniform(0.3, 0.7)
        second = np.maximum(_ALONG - corner, 0)
        points = 2 * np.stack([np.minimum(_ALONG, corner) + np.cos(bend) * second, np.sin(bend) * second], 1)
    else:
        points = np.stack([2 * _ALONG - 1, 0.4 * np.sin(2 * np.pi * _ALONG * generator.choice([1.0, 1.5]))], 1)
    return _turned(size * (points - points.mean(0)), np.array(heading))


def _turned(points: Path, angle: NDArray[np.float64]) -> Path:
    """Points [..., P, 2] turned by angles [...]."""
    cosine, sine = np.cos(angle)[..., None], np.sin(angle)[..., None]
    x, y = points[..., 0], points[..., 1]
    return np.stack([cosine * x - sine * y, sine * x + cosine * y], -1)


def _wobble(generator: np.random.Generator, shape: tuple[int, int]) -> Path:
    """A smooth displacement along each stroke, [D, S, P, 2]: three slow waves of random phase."""
    waves = np.arange(1, 4)
    phase = generator.uniform(0, 2 * np.pi, (*shape, 1, 2, 3))
    height = generator.normal(0, 0.035, (*shape, 1, 2, 3)) / waves
    wobble: Path = (height * np.sin(np.pi * waves * _ALONG[:, None, None] + phase)).sum(-1)
    return wobble


def _inked(points: Path, radius: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Drawings [D, 28, 28, 1] of points [D, N, 2] (x, y in pixels) under a round pen of `radius` [D] pixels."""
    fine, wide = SIZE * _SUPER, SIZE * _SUPER + 2 * _MARGIN
    disc = np.array([(dx, dy) for dx in range(-2, 3) for dy in range(-2, 3) if dx * dx + dy * dy <= 5]) / np.sqrt(5)
    pens = np.rint(radius[:, None, None] * _SUPER * disc).astype(np.int32)
    # What falls off the paper stays in the margin, which is wider than the widest pen.
    cells = np.clip(np.floor(points * _SUPER), -_MARGIN // 2, fine - 1 + _MARGIN // 2).astype(np.int32) + _MARGIN
    # (x, y) @ [1, wide] is an index into the flattened paper; point plus pen gives all cells [D, N, pen] with ink.
    tips = (cells @ [1, wide])[:, :, None] + (pens @ [1, wide])[:, None]
    ink = np.zeros((len(points), wide * wide), np.uint8)
    ink[np.arange(len(points))[:, None, None], tips] = 1
    paper = ink.reshape(-1, wide, wide)[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    # [D, 28, 3, 28, 3]: axes 2 and 4 are the cells within a pixel; their sum is its ink, 0 to 9.
    share = paper.reshape(-1, SIZE, _SUPER, SIZE, _SUPER).sum((2, 4), dtype=np.uint8) / _SUPER**2
    grey: NDArray[np.uint8] = (share * 255).round().astype(np.uint8)[..., None]
    return grey

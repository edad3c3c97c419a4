from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def drawing(generator: np.random.Generator, bars: int) -> Image.Image:
    """Black bars on white paper, of any size: `bars` upright ones."""
    size = int(generator.integers(40, 90))
    pixels = np.full((size, size), 255, np.uint8)
    for place in np.linspace(0.2, 0.8, bars):
        left = int(place * size + generator.integers(-2, 3))
        pixels[size // 6 : -size // 6, left : left + 4] = 0
    return Image.fromarray(pixels)


def folder_of_drawings(path: Path, each: int, seed: int) -> Path:
    generator = np.random.default_rng(seed)
    for name, bars in (("one", 1), ("three bars", 3)):
        (path / name).mkdir(parents=True)
        for number in range(each):
            drawing(generator, bars).save(path / name / f"{number}.png")
    return path


@pytest.fixture
def support(tmp_path) -> Path:
    return folder_of_drawings(tmp_path / "support", 3, seed=0)


@pytest.fixture
def query(tmp_path) -> Path:
    return folder_of_drawings(tmp_path / "query", 4, seed=1)

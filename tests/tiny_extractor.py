"""A program of torch.export that sees 8 x 8 pixels in colour, and pictures of three hues to show it."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

SIDE, FEATURES = 8, 12


class Looking(nn.Module):
    """Twelve features of a picture: each colour's mean over each quarter of it, through random weights."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(FEATURES, 12, generator=generator))

    def forward(self, inputs):
        return torch.relu(nn.functional.adaptive_avg_pool2d(inputs, 2).flatten(1) @ self.weight.T)


def write_program(path: Path, seed: int = 0) -> Path:
    """The extractor as a file."""
    batch = torch.export.Dim("batch")
    example = (torch.zeros(2, 3, SIDE, SIDE),)
    program = torch.export.export(Looking(seed).eval(), example, dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    return path


def features(path: Path) -> dict[str, object]:
    """The block `dataset.features` for that file."""
    return {"name": "program", "program": str(path), "image_size": SIDE, "mean": [0.5] * 3, "std": [0.25] * 3}


def write_pictures(folder: Path, classes: int = 9, count: int = 8, side: int = 20) -> Path:
    """A folder of class folders: each class has a colour of its own, to which noise is added."""
    for number in range(classes):
        generator = np.random.default_rng(number)
        colour = generator.integers(20, 236, 3)
        (folder / f"kind{number}").mkdir(parents=True)
        for place in range(count):
            pixels = (colour + generator.normal(0, 12, (side, side, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"kind{number}" / f"{place}.png")
    return folder

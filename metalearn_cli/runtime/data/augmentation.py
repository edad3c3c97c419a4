"""Random changes of pictures that do not change their class, for many pictures at once, on any device.

Legend: N pictures, C channels, H height, W width.
"""

import math
from collections.abc import Collection
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's "L"
_STRENGTH = 0.4
_REACH = 8  # a picture moves by up to 1 / 8 of its side
_TURN = math.radians(15)
_STRETCH = 0.15
_SLANT = 0.2


def chances_for(kinds: Collection[str]) -> int:
    """The number of random numbers that the changes of one picture need."""
    return 10 if "affine" in kinds else 6


def augmented(pictures: Tensor, chances: Tensor, kinds: Collection[str]) -> Tensor:
    """Pictures [N, C, H, W] with values 0..1, changed by `chances` [N, chances_for(kinds)], uniform in 0..1.

    Kinds: "crop" moves a picture by up to an eighth each way; "flip" mirrors half of them left to right; "affine" turns
    a picture by up to 15 degrees, stretches each side by a factor of 0.85 to 1.15 and slants it by up to a fifth of its
    height; "jitter" multiplies brightness, contrast and saturation by 0.6 to 1.4 each, within 0..1. What a picture does
    not cover is filled by its edge.
    """
    if "jitter" in kinds:
        pictures = _jittered(pictures, 1 + _STRENGTH * (2 * chances[:, 3:6] - 1))
    if "affine" in kinds:
        pictures = _transformed(pictures, 2 * chances[:, 6:10] - 1)
    if {"crop", "flip"} & {*kinds}:
        pictures = _moved(pictures, chances, crop="crop" in kinds, flip="flip" in kinds)
    return pictures


def resized_to(pictures: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Pictures [N, C, H, W] with values 0..1 as [N, *shape]: turned to grey or to three channels, and resized.

    Resizing is bilinear with anti-aliasing, so that reduced pictures have no moire.
    """
    channels, height, width = shape
    if pictures.shape[1] == 3 and channels == 1:
        pictures = grey(pictures)
    elif pictures.shape[1] == 1 and channels == 3:
        pictures = pictures.expand(-1, 3, -1, -1)
    if pictures.shape[2:] == (height, width):
        return pictures
    return F.interpolate(pictures, (height, width), mode="bilinear", antialias=True, align_corners=False)


def grey(pictures: Tensor) -> Tensor:
    """The brightness [N, 1, H, W] of pictures [N, 3, H, W]."""
    return (pictures * per_channel(_LUMA, pictures.device)).sum(1, keepdim=True)


@lru_cache(maxsize=64)
def per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """One value for each channel, [C, 1, 1], on a device; cached, because sending it again would wait for a GPU."""
    return torch.tensor(values, device=device).view(-1, 1, 1)


def _jittered(pictures: Tensor, factors: Tensor) -> Tensor:
    """Pictures with brightness, contrast and saturation multiplied by `factors` [N, 3]."""
    brightness, contrast, saturation = factors.T[..., None, None, None]  # [N, 3] -> three times [N, 1, 1, 1]
    pictures = (pictures * brightness).clamp(0, 1)
    bright = grey(pictures) if pictures.shape[1] == 3 else pictures
    middle = bright.mean((1, 2, 3), keepdim=True)
    pictures = (middle + (pictures - middle) * contrast).clamp(0, 1)
    if pictures.shape[1] == 3:
        plain = grey(pictures)
        pictures = (plain + (pictures - plain) * saturation).clamp(0, 1)
    return pictures


def _transformed(pictures: Tensor, strengths: Tensor) -> Tensor:
    """Pictures turned, stretched and slanted by `strengths` [N, 4] in -1..1, about their middle; bilinear."""
    turn, wide, high, slant = strengths.unbind(1)
    # Numbers and no tensor of them, which would have to be sent to a GPU for every task.
    cosine, sine, slant = (turn * _TURN).cos(), (turn * _TURN).sin(), slant * _SLANT
    wide, high = 1 + wide * _STRETCH, 1 + high * _STRETCH
    # For each pixel of the result, the place in the picture from which it comes: in units of half a picture's width and
    # height, as torch has it, so what mixes the two is scaled by their ratio.
    ratio, still = pictures.shape[2] / pictures.shape[3], torch.zeros_like(turn)
    across = torch.stack([cosine * wide, (slant * cosine - sine) * high * ratio, still], 1)
    down = torch.stack([sine * wide / ratio, (slant * sine + cosine) * high, still], 1)
    places = F.affine_grid(torch.stack([across, down], 1), list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, places, padding_mode="border", align_corners=False)


def _moved(pictures: Tensor, chances: Tensor, crop: bool, flip: bool) -> Tensor:
    number, _channels, height, width = pictures.shape
    rows = torch.arange(height, device=pictures.device).expand(number, -1)
    columns = torch.arange(width, device=pictures.device).expand(number, -1)
    if flip:
        columns = torch.where(chances[:, 2:3] < 0.5, columns.flip(1), columns)
    if crop:
        rows = (rows + _shift(chances[:, 0:1], height)).clamp(0, height - 1)
        columns = (columns + _shift(chances[:, 1:2], width)).clamp(0, width - 1)
    places = torch.arange(number, device=pictures.device)
    # One gather for all pictures, each with its own rows and columns. Index tensors on both sides of the slice put the
    # channels last, [N, H, W, C], so they are moved back.
    return pictures[places[:, None, None], :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def _shift(chance: Tensor, extent: int) -> Tensor:
    """For random numbers in 0..1, whole numbers of pixels from -extent / 8 to extent / 8, all equally likely."""
    most = extent // _REACH
    return (chance * (2 * most + 1)).floor().long() - most

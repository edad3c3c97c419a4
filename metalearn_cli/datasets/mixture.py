"""Several datasets as one: each task is drawn from one of them.

Hospedales et al. 2020 (https://arxiv.org/abs/2004.05439) call these "diverse task distributions"; training on
Meta-Dataset draws its tasks in this way (Triantafillou et al. 2020, https://arxiv.org/abs/1903.03096).
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from metalearn_cli.datasets import Mixture, Normalisation
from metalearn_cli.settings import Choice


class Config(Choice):
    """Datasets of pictures, resized to one size.

    `of`: dataset blocks; each dataset is prepared by itself.
    `weights`: relative frequency of tasks from each dataset; without them all are equally frequent.
    `image_size` (pixels): the side that all pictures are resized to.
    `channels` (channels): 1 makes all pictures grey, 3 gives all three channels.
    `normalisation`: "dataset" uses the mean and standard deviation of the mixture as a whole, so that a picture's
        dataset cannot be told from its brightness; "imagenet", those of ImageNet; "none", pixels from 0 to 1.
    """

    name: Literal["mixture"] = "mixture"
    of: tuple[Choice, ...] = Field(min_length=1)
    weights: list[float] = Field(default=[])
    image_size: int = Field(default=84, ge=8, le=512)
    channels: Literal[1, 3] = 3
    normalisation: Normalisation = "dataset"

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        if self.weights and (len(self.weights) != len(self.of) or min(self.weights) <= 0):
            raise ValueError(f"weights: found {self.weights}, expected {len(self.of)} numbers greater than 0")
        return self


def build(config: Config) -> Mixture:
    """Tasks from `config.of`, each with probability weight / sum of weights."""
    weights = config.weights or [1.0] * len(config.of)
    shape = (config.channels, config.image_size, config.image_size)
    return Mixture(config.of, tuple(weights), shape, config.normalisation)

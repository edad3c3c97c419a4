"""FC100: the classes of CIFAR-100 in three parts of 60, 20 and 20 that share no coarse class.

Oreshkin et al. 2018 (https://arxiv.org/abs/1805.10123).
"""

from typing import Literal

from metalearn_cli.datasets import Archive, Official
from metalearn_cli.datasets.layouts import cifar100


class Config(Official):
    """This dataset has no settings but those of every published dataset."""

    name: Literal["fc100"] = "fc100"


def build(config: Config) -> Archive:
    """FC100, from the official CIFAR-100 archive, whose store it shares."""
    return cifar100.cifar100_archive(config, "fc100")

"""CIFAR-FS: the classes of CIFAR-100 in three parts of 64, 16 and 20, drawn at random.

Bertinetto et al. 2019 (https://arxiv.org/abs/1805.08136).
"""

from typing import Literal

from metalearn_cli.datasets import Archive, Official
from metalearn_cli.datasets.layouts import cifar100


class Config(Official):
    """This dataset has no settings but those of every published dataset."""

    name: Literal["cifar_fs"] = "cifar_fs"


def build(config: Config) -> Archive:
    """CIFAR-FS, from the official CIFAR-100 archive, whose store it shares."""
    return cifar100.cifar100_archive(config, "cifar_fs")

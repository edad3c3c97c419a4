"""Exports: files of weights that need only safetensors, and programs that need only torch.

Legend: N pictures, C channels, H height, W width.
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from metalearn_cli.datasets import Preprocessing
from metalearn_cli.datasets.tabular import Encoding
from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment import Experiment
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.run.checkpoint_contents import trained_in
from metalearn_cli.runtime.run.checkpoint_headers import interface_header, versions
from metalearn_cli.storage.files.atomic import write_file
from metalearn_cli.storage.runs.checkpoints import Checkpoint

ABOUT = "about.json"
"""The file inside a program that describes it."""


def save_initialisation(checkpoint: Checkpoint, source: Path, path: Path) -> Interface:
    """Write the meta-parameters in a checkpoint, before any adaptation, to `path` as a safetensors file.

    Return the form of its inputs and outputs.

    The network's parameters have the backbone's own names. Other learned numbers have names that begin with
    "coefficients.", and running statistics have names that begin with "statistics.".

    Raises ConfigError for another suffix, RunError if the disk refuses.
    """
    trained = trained_in(checkpoint, source)
    if path.suffix != ".safetensors":
        raise ConfigError(
            f"{path}: without --support there is no classifier to write, only the initialisation, which "
            "has the form .safetensors"
        )
    beside = ("coefficients.", "statistics.")
    others = {name: value for name, value in checkpoint.tensors.items() if name.startswith(beside)}
    described = export_header(trained.experiment, trained.interface, "meta")
    described |= {"iteration": trained.header.iteration}
    write_weights(path, checkpoint.below("params.") | others, described)
    return trained.interface


def export_header(experiment: Experiment, interface: Interface, kind: str) -> dict[str, Any]:
    """The description that every exported file carries, for readers without metalearn."""
    return {"kind": kind, **interface_header(interface), "experiment": experiment.model_dump(mode="json"),
            "versions": versions()}  # fmt: skip


def write_weights(path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write the tensors to `path` as a safetensors file, with `description` as its metadata, every value as JSON.

    Raises RunError if the disk refuses.
    """
    # Copies, because some tensors share memory, and the format cannot express that.
    stored = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    metadata = {"format": "pt"} | {key: json.dumps(value, allow_nan=False) for key, value in description.items()}
    write_file(path, safetensors.torch.save(stored, metadata))


def write_program(path: Path, network: nn.Module, seen: Preprocessing, description: Mapping[str, Any]) -> None:
    """Write a `torch.export` program to `path`: uint8 pictures [N, H, W, C] to outputs, for any N, with ABOUT inside.

    The outputs are divided by the `temperature` of the description, so that their softmax are the probabilities.

    Raises ConfigError if torch cannot export the network, RunError if the disk refuses.
    """
    example = torch.zeros(2, seen.height, seen.width, seen.channels, dtype=torch.uint8)
    _write_exported(path, PixelNetwork(network, seen, description["temperature"]), example, description)


def write_rows_program(path: Path, network: nn.Module, encoding: Encoding, description: Mapping[str, Any]) -> None:
    """As `write_program`, for a program from rows float32 [N, F] to outputs; a regression's are in the targets' units.

    Numbers of a row are in their own units. A categorical column stands there as one 0 or 1 for each of its words and
    one for all other words. No value may be missing.
    """
    module = RowsIn(network, encoding, description["temperature"])
    _write_exported(path, module, torch.zeros(2, *encoding.input_shape), description)


def _write_exported(path: Path, module: nn.Module, example: Tensor, description: Mapping[str, Any]) -> None:
    batch = torch.export.Dim("batch")
    try:
        program = torch.export.export(module, (example,), dynamic_shapes=({0: batch},))
    except Exception as error:  # torch documents no type for what it cannot export
        raise ConfigError(f"{path}: torch cannot export this network: {str(error).splitlines()[0]}") from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it would publish paths of this machine
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={ABOUT: json.dumps(description, allow_nan=False, indent=1)})
    write_file(path, file.getvalue())


class PixelNetwork(nn.Module):
    """A network that takes pictures uint8 [N, H, W, C] and includes their preprocessing.

    Inputs are (p / 255 - mean) / std = p * scale + shift with scale = 1 / (255 std) and shift = -mean / std. For
    inverted pictures, 255 - p in place of p, they are p * (-scale) + shift + 255 scale. Outputs are divided by a
    temperature.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, seen: Preprocessing, temperature: float) -> None:
        super().__init__()
        self.network, self.temperature = network, temperature
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (seen.mean, seen.std))
        scale, shift = 1 / (255 * std), -mean / std
        self.register_buffer("scale", -scale if seen.invert else scale)
        self.register_buffer("shift", shift + 255 * scale if seen.invert else shift)

    def forward(self, pictures: Tensor) -> Tensor:
        """The outputs [N, ...] for pictures [N, H, W, C]."""
        outputs: Tensor = self.network(pictures.permute(0, 3, 1, 2).to(torch.float32) * self.scale + self.shift)
        return outputs if self.temperature == 1 else outputs / self.temperature


class RowsIn(nn.Module):
    """A network that takes rows [N, F] or series [N, C, L] in their own units, and includes their standardisation.

    Outputs of a regression are turned into the targets' own units; outputs for classes are divided by a temperature.
    """

    mean: Tensor
    std: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, encoding: Encoding, temperature: float) -> None:
        super().__init__()
        self.network = network
        first = encoding.input_shape[0]
        mean, std = torch.zeros(first), torch.ones(first)  # categorical inputs stand behind the numbers, as they are
        mean[: len(encoding.mean)], std[: len(encoding.std)] = torch.tensor(encoding.mean), torch.tensor(encoding.std)
        shape = (-1, *[1] * (len(encoding.input_shape) - 1))
        self.register_buffer("mean", mean.view(shape))
        self.register_buffer("std", std.view(shape))
        self.register_buffer("scale", torch.tensor(encoding.target_std or [1 / temperature]))
        self.register_buffer("shift", torch.tensor(encoding.target_mean or [0.0]))

    def forward(self, rows: Tensor) -> Tensor:
        """Outputs [N, ...] of rows [N, ...]."""
        outputs: Tensor = self.network((rows - self.mean) / self.std)
        return outputs * self.scale + self.shift

"""Checks that the interface in a checkpoint (inputs and outputs of its network) fits the experiment in the same file.

A forged file can contain any combination of the two.
"""

from metalearn_cli.datasets import Mixture, Preprocessing, TaskSource
from metalearn_cli.datasets.tabular import Tabular
from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment import Experiment
from metalearn_cli.experiment.yaml_lines import brief
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.data.opening import dataset_of
from metalearn_cli.runtime.data.table_tasks import outputs_of


def unlike_experiment(interface: Interface, experiment: Experiment, training: bool) -> str:
    """The first field of an interface that the experiment cannot have, with the reason; "" if all fit.

    `training` is false for an adapted classifier, which may have any number of classes.
    """
    try:
        dataset = dataset_of(experiment.dataset)
    except ConfigError as error:
        return str(error)
    if isinstance(dataset, Tabular):
        return _unlike_table(interface, experiment, training)
    if interface.table is not None:
        return f"table: found one, but {experiment.dataset.name} has no columns"
    shape, outputs, seen = interface.input_shape, interface.outputs, interface.preprocessing
    if interface.view is not None:
        return _unlike_features(interface, experiment.task.ways if training else outputs)
    # Functions have no preprocessing and are regressions; pictures have one and are classes.
    numbers = isinstance(dataset, TaskSource)
    if numbers != (seen is None) or numbers == interface.tells_classes_apart:
        return f"preprocessing: found {'none' if seen is None else 'one'}, but {experiment.dataset.name} differs"
    if isinstance(dataset, TaskSource):
        wanted, own_outputs = tuple(dataset.input_shape), dataset.outputs
    else:
        wanted = dataset.shape if isinstance(dataset, Mixture) else _stored(dataset.preprocessing)
        own_outputs = experiment.task.ways if training else outputs
    if shape != wanted:
        return f"input_shape: found {brief(str(list(shape)))}, but the experiment has {list(wanted)}"
    if outputs != own_outputs:
        return f"outputs: found {outputs}, but the experiment has {own_outputs}"
    if seen is not None and (_stored(seen) != shape or not len(seen.mean) == len(seen.std) == seen.channels):
        return f"preprocessing: is not one for inputs of {list(shape)}"
    if seen is not None and min(seen.std) <= 0:
        return f"preprocessing.std: found {min(seen.std)}, expected numbers greater than 0"
    return ""


def _unlike_table(interface: Interface, experiment: Experiment, training: bool) -> str:
    """As `unlike_experiment`, for an experiment on a table."""
    encoding, name = interface.table, experiment.dataset.name
    if encoding is None or interface.preprocessing is not None or interface.view is not None:
        return f"table: found none, but {name} has columns"
    if interface.input_shape != encoding.input_shape:
        return f"input_shape: found {list(interface.input_shape)}, but its columns make {list(encoding.input_shape)}"
    if (encoding.kind != "regression") != interface.tells_classes_apart:
        return f"objective: found {interface.objective.name}, which its columns do not fit"
    wanted = outputs_of(encoding, experiment.task.ways if training else interface.outputs)
    return "" if interface.outputs == wanted else f"outputs: found {interface.outputs}, but its columns make {wanted}"


def _unlike_features(interface: Interface, outputs: int) -> str:
    """As `unlike_experiment`, for an experiment on the features of pictures."""
    view, shape = interface.view, interface.input_shape
    if interface.preprocessing is None or not interface.tells_classes_apart:
        return "preprocessing: found none, but features are of pictures"
    if len(shape) != 1 or (view is not None and view.typical is not None and len(view.typical.mean) != shape[0]):
        return f"input_shape: found {brief(str(list(shape)))}, expected one number of features, with as many means"
    if interface.outputs != outputs:
        return f"outputs: found {interface.outputs}, but the experiment has {outputs}"
    return ""


def _stored(pictures: Preprocessing) -> tuple[int, int, int]:
    """The shape (C, H, W) of a prepared picture."""
    return (pictures.channels, pictures.height, pictures.width)

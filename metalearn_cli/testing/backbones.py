"""The check of a backbone."""

from typing import Any

import torch
from torch import nn

from metalearn_cli.algorithms import maml
from metalearn_cli.core.meta import Problem
from metalearn_cli.core.objectives import classification
from metalearn_cli.layers.network import Network
from metalearn_cli.testing import learners, problems
from metalearn_cli.testing.files import Named, checked_settings, module_at

_WAYS = problems.WAYS


def check_backbone(module: Named, input_shape: tuple[int, ...] = (1, 16, 16), **settings: Any) -> None:
    """Raise AssertionError with the reason if a module is not a backbone as this package needs it.

    For inputs of `input_shape`, in float64: two children `body` and `head`; rows of features and of outputs; the same
    weights from the same seed; MAML on it learns tasks at once as one at a time, and with support statistics no query
    changes another.

    >>> check_backbone("metalearn_cli.backbones.mlp", hidden=[8])  # nothing is printed: it is one
    """
    own = module_at(module)
    config = checked_settings(own, settings)

    def built(outputs: int = _WAYS) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network: nn.Module = own.build(config, input_shape, outputs)
        return network

    network, inputs = built(), torch.rand(4, *input_shape)
    children = [name for name, _ in network.named_children()]
    assert children == ["body", "head"], f"the network's children are {children}, expected body and head"
    for outputs in (_WAYS, 7):  # 7: any other number, as `build` must obey its argument
        shape = list(built(outputs)(inputs).shape)
        assert shape == [4, outputs], f"the outputs of 4 examples have shape {shape}, expected {[4, outputs]}"
    features = network.get_submodule("body")(inputs)
    assert features.dim() == 2, f"the body gives features of shape {list(features.shape)}, expected [4, features]"
    for (name, one), (_, other) in zip(network.named_parameters(), built().named_parameters(), strict=True):
        assert torch.equal(one, other), f"{name} is another when it is built again from the same seed"
    tasks = problems.picture_tasks(3, shape=input_shape)
    # The learner with support statistics stands last, so it is the one that the check after the loop takes.
    for statistics in ("transductive", "support"):
        learner, alone = (
            maml.build(maml.Config(), Problem(Network(built(), one_by_one=alone), classification, statistics, _WAYS))
            for alone in (False, True)
        )
        meta = problems.double(learner.init())
        learners.require_shapes(learner, meta, tasks)
        learners.require_tasks_at_once_equal_one_at_a_time(learner, alone, meta, tasks)
    learners.require_no_query_changes_another(learner, meta, tasks)

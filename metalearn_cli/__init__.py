"""metalearn: train, check and use MAML-family few-shot learners.

The commands are described in docs/commands.md. From Python:

>>> import metalearn_cli
>>> experiment = metalearn_cli.load_experiment("quickstart", "outer.iterations=4", "eval.val_episodes=8")
>>> losses = [report.loss for report in metalearn_cli.train(experiment, "runs/few")]
>>> metalearn_cli.evaluate("runs/few/checkpoints/best.pt", episodes=20).episodes
20

`load(checkpoint).adapt(images, labels).predict(images)` learns new classes; `load(load_experiment("photos"))` does so
without any training. `load_classifier(file)` opens an adapted classifier, and `grown(classifier, images, labels)`
teaches it more. For a table whose tasks have targets, `adapt` gives a `Regressor`. An algorithm of your own is made of
`Learner`, `Rule`, `Problem`, `Task` and `Examples`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metalearn_cli.core.meta import Learner, Problem
    from metalearn_cli.core.rules import Rule
    from metalearn_cli.core.tasks import Examples, Task
    from metalearn_cli.experiment import Experiment, load_experiment
    from metalearn_cli.runtime.run.procedure import train
    from metalearn_cli.runtime.run.reports import Report
    from metalearn_cli.runtime.use.adaptation import Adaptable
    from metalearn_cli.runtime.use.classifier import Classifier
    from metalearn_cli.runtime.use.growth import grown
    from metalearn_cli.runtime.use.loading import load, load_classifier
    from metalearn_cli.runtime.use.measurement import Result, evaluate
    from metalearn_cli.runtime.use.regressor import Regressor

__all__ = [
    "Adaptable", "Classifier", "Examples", "Experiment", "Learner", "Problem", "Regressor", "Report", "Result",
    "Rule", "Task", "evaluate", "grown", "load", "load_classifier", "load_experiment", "train",
]  # fmt: skip

_HOMES = {
    "core.meta": ["Learner", "Problem"],
    "core.rules": ["Rule"],
    "core.tasks": ["Examples", "Task"],
    "experiment": ["Experiment", "load_experiment"],
    "runtime.use.adaptation": ["Adaptable"],
    "runtime.use.growth": ["grown"],
    "runtime.use.loading": ["load", "load_classifier"],
    "runtime.use.classifier": ["Classifier"],
    "runtime.use.regressor": ["Regressor"],
    "runtime.run.procedure": ["train"],
    "runtime.run.reports": ["Report"],
    "runtime.use.measurement": ["Result", "evaluate"],
}


def __getattr__(name: str) -> Any:
    # On first use, so that `metalearn --help` does not wait for torch.
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # What is not loaded yet has to be offered for completion too; what is only imported here, not.
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])

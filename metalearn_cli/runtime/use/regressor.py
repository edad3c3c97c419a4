"""Regressor: an adapted learner that turns rows of a table into values.

Legend: N rows, P targets.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metalearn_cli.datasets.tabular.encoding import in_own_unit
from metalearn_cli.errors import ConfigError
from metalearn_cli.runtime.run.divergence import adaptation_diverged
from metalearn_cli.runtime.use.classifier import Classifier
from metalearn_cli.runtime.use.given_rows import RowsGiven
from metalearn_cli.runtime.use.network_inputs import inputs_of


class Regressor(Classifier):
    """Predicts the targets of one task, after `steps` inner steps; `classes` are the names of the targets.

    >>> from metalearn_cli import load, load_experiment, train
    >>> tiny = load_experiment("machines", "dataset.machines=10", "outer.iterations=1", "eval.val_episodes=2")
    >>> reports = list(train(tiny, "runs/machines"))
    >>> learner = load("runs/machines/checkpoints/best.pt")
    >>> regressor = learner.adapt({"seconds": [0.0, 1.0, 2.0]}, [9.0, -3.0, -5.0])  # millimetres
    >>> regressor.targets, regressor.predict({"seconds": [0.5, 1.5]}).shape
    (['millimetres'], (2,))
    """

    @property
    def targets(self) -> list[str]:
        """The names of the targets, in the order of the values [N, P]."""
        return self.classes

    def __repr__(self) -> str:
        rows = f"{self.interface.noun.counted(len(self.support))} of a task"
        return f"<Regressor of {', '.join(self.targets)} after {self.steps} inner steps on {rows}>"

    def predict(self, rows: RowsGiven) -> NDArray[np.float32]:  # type: ignore[override]
        """The predicted values of each row in the targets' own units: [N] for one target, [N, P] for several.

        Raises DivergedError if a value is not finite, DataError if `rows` do not fit the table's columns.
        """
        values = self.values(inputs_of(rows, self.interface))
        if not np.isfinite(values).all():
            raise adaptation_diverged(self.steps, "answers")
        return values[:, 0] if len(self.targets) == 1 else values

    def predict_proba(self, _rows: RowsGiven) -> NDArray[np.float32]:  # type: ignore[override]
        """Raises ConfigError in any case, because a regressor has no classes."""
        raise ConfigError("a regressor has values and no probabilities; call predict")

    def values(self, inputs: Tensor) -> NDArray[np.float32]:
        """Values [N, P] in the targets' own units, for rows that `inputs_of` has prepared; they may be NaN or Inf."""
        return in_own_unit(self.outputs(inputs).cpu().numpy(), self.interface.encoding)

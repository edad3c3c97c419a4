"""Rows in, values out: the regressor that an adapted learner of a table is.

Legend: N rows, P targets.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metalearn_cli.datasets.tabular import Encoding
from metalearn_cli.datasets.tabular.encoding import in_own_unit
from metalearn_cli.errors import ConfigError
from metalearn_cli.runtime.run.divergence import adaptation_diverged
from metalearn_cli.runtime.use.classifier import Classifier
from metalearn_cli.runtime.use.given_rows import RowsGiven
from metalearn_cli.runtime.use.network_inputs import inputs_of


class Regressor(Classifier):
    """Predicts the targets of one task, after `steps` inner steps; `classes` are the names of the targets."""

    @property
    def targets(self) -> list[str]:
        """What it predicts, in the order of its values."""
        return self.classes

    @property
    def _encoding(self) -> Encoding:
        assert self.interface.table is not None
        return self.interface.table

    def __repr__(self) -> str:
        rows = f"{len(self.support)} rows of a task"
        return f"<Regressor of {', '.join(self.targets)} after {self.steps} inner steps on {rows}>"

    def predict(self, rows: RowsGiven) -> NDArray[np.float32]:  # type: ignore[override]
        """The values of each row in the targets' own units: [N], or of several targets [N, P].

        Raises DivergedError if it answers with no finite numbers, DataError for what are no rows of the table's.
        """
        found = self.values(inputs_of(rows, self.interface))
        if not np.isfinite(found).all():
            raise adaptation_diverged(self.steps, "answers")
        return found[:, 0] if len(self.targets) == 1 else found

    def predict_proba(self, _rows: RowsGiven) -> NDArray[np.float32]:  # type: ignore[override]
        """There are no classes. Raises ConfigError."""
        raise ConfigError("a regressor has values and no probabilities; call predict")

    def values(self, inputs: Tensor) -> NDArray[np.float32]:
        """The same for rows that `inputs_of` has prepared, [N, P]; what is not finite stays so."""
        return in_own_unit(self.outputs(inputs).cpu().numpy(), self._encoding)

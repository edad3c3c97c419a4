"""Writes a model card beside the best checkpoint: description, accuracy, purpose, use, and the whole experiment.

Markdown with a YAML head in the form that the Hugging Face hub reads (https://huggingface.co/docs/hub/model-cards).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from metalearn_cli.experiment import to_yaml
from metalearn_cli.experiment.yaml_lines import as_yaml
from metalearn_cli.runtime.run.checkpoint_headers import versions
from metalearn_cli.runtime.run.promises import Calibration
from metalearn_cli.runtime.run.protocol import steps
from metalearn_cli.storage.files.atomic import write_file
from metalearn_cli.storage.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from metalearn_cli.runtime.run.session import Session

NAME = "MODEL_CARD.md"

_OF_TABLES = {
    "classes": "Telling new classes of rows apart from a few rows of each",
    "labelled": "Learning a new task's own classifier from a few of its rows",
    "regression": "Predicting the values of a new task from a few of its rows",
}
_PICKED_BY_NEW = "The validation classes picked this checkpoint, so expect somewhat less on others"
_PICKED_BY_TRAINED = "Training had the validation classes too (`dataset.trainval`), so expect less on others"
_USE_OF_ROWS = """```sh
metalearn eval --checkpoint best.pt
metalearn finetune --checkpoint best.pt --support few.csv --query new.csv --csv answers.csv --output mine.pt2
```

```python
from metalearn_cli import load

learned = load("best.pt").adapt(rows, labels_or_targets)
learned.predict(more_rows)
```"""


def write_card(session: "Session", warn: Callable[[str], None], promised: Sequence[Calibration] = ()) -> None:
    """Write the card beside the best checkpoint, which was calibrated for `promised`; without it, write nothing.

    An error goes to `warn` as a line, because a finished run must not fail for its card.
    """
    try:
        best = _best(session.folder)
        if best is not None:
            write_file(session.folder.best.with_name(NAME), _card(session, best, promised).encode())
    except Exception as error:
        warn(f"no model card was written: {error}")


def _best(folder: RunFolder) -> Mapping[str, Any] | None:
    """The row of metrics.jsonl of the validation in which the best checkpoint was written."""
    if not folder.best.exists():
        return None
    return next((row for row in reversed(folder.rows()) if row.get("best")), None)


def _card(session: "Session", best: Mapping[str, Any], promised: Sequence[Calibration]) -> str:
    experiment = session.experiment
    order = {True: " (second order)", False: " (first order)", None: ""}[session.learner.traits.second_order]
    parameters = sum(value.numel() for value in session.learner.init().params.values())
    rows = "\n".join(f"| {name} | {value} |" for name, value in _facts(session, best))
    return f"""---
{as_yaml(_head(session, best)).rstrip()}
---

# {experiment.name}

A few-shot learner: {experiment.algorithm.name}{order} with the backbone {experiment.backbone.name} of
{parameters:,} parameters, meta-trained on {experiment.dataset.name} by metalearn.

| | |
|---|---|
{rows}

{_PICKED_BY_TRAINED if session.measured.trained_on else _PICKED_BY_NEW}; `metalearn eval` measures it on test
classes, which training has never seen.
{_ensemble(session)}
## What it is good for

{_purpose(session, promised)}

## How to use it

{_use(session)}

## How to make it again

`metalearn train config.yaml`, with this as `config.yaml`:

```yaml
{to_yaml(experiment).rstrip()}
```
"""


def _facts(session: "Session", best: Mapping[str, Any]) -> list[tuple[str, str]]:
    experiment, last = session.experiment, best["val"][-1]
    accuracy = session.data.interface.tells_classes_apart
    measured, outer = session.measured, experiment.outer
    interval = f"{100 * last['ci95']:.2f}" if accuracy else f"{last['ci95']:.2g}"
    score = f"**{_score(last['score'], accuracy)} ± {interval}**, 95 % interval over {measured.episodes} episodes"
    made_by = ", ".join(f"{name} {version}" for name, version in versions().items())
    before = [("before the first step", _score(best["val"][0]["score"], accuracy))] if last["step"] else []
    return [
        (f"validation, {_size(session)}", f"{score}, after {steps(last['step'])}"),
        *before,
        ("validation tasks", str(measured)),
        ("training tasks", str(session.trained)),
        ("iterations", f"{best['iteration']:,} of {outer.iterations:,}, {outer.meta_batch_size} tasks each"),
        ("data", f"{experiment.dataset.name}, SHA-256 `{session.data.sha256[:16]}`, seed {experiment.seed}"),
        ("versions", made_by),
    ]  # fmt: skip


def _head(session: "Session", best: Mapping[str, Any]) -> dict[str, Any]:
    experiment, accuracy = session.experiment, session.data.interface.tells_classes_apart
    kind = "image" if session.data.interface.table is None else "tabular"
    task, metric = (f"{kind}-classification", "accuracy") if accuracy else ("tabular-regression", "mse")
    result = {
        "task": {"type": task, "name": _size(session)},
        "dataset": {
            "type": experiment.dataset.name,
            "name": experiment.dataset.name,
            "split": "validation, trained on" if session.measured.trained_on else "validation",
        },
        "metrics": [{"type": metric, "value": round(best["val"][-1]["score"], 4)}],
    }
    return {
        "library_name": "metalearn",
        "pipeline_tag": task,
        "tags": ["few-shot-learning", "meta-learning", experiment.algorithm.name, experiment.backbone.name],
        "metrics": [metric],
        "model-index": [{"name": experiment.name, "results": [result]}],
    }


def _ensemble(session: "Session") -> str:
    """A note that the card describes one checkpoint, if the run kept several for an ensemble; else ""."""
    count = len(session.folder.all_kept)
    if not count:
        return ""
    return (
        f"\nThis is the figure of one checkpoint. `metalearn eval` with this folder for `--checkpoint` measures the "
        f"ensemble of {count}\ncheckpoints that the run kept (best-*.pt), which is another one.\n"
    )


def _size(session: "Session") -> str:
    return session.measured.size if session.measured.accuracy else f"{session.measured.size} regression"


def _score(score: float, accuracy: bool) -> str:
    return f"{100 * score:.2f} %" if accuracy else f"mean squared error {score:.4g}"


def _purpose(session: "Session", promised: Sequence[Calibration]) -> str:
    name, ways = session.experiment.dataset.name, session.validator.traits.ways
    if session.data.interface.table is not None:
        what = _OF_TABLES[session.data.interface.table.kind]
        return (
            f"{what}, where it resembles the rows of {name}. Try it on rows that are known first (`finetune --query`)."
        )
    if session.data.interface.preprocessing is None:
        return f"Functions like those of {name}: it adapts to a new one from a few of its points, and to nothing else."
    number = "any number of" if ways is None else f"exactly {ways}"
    return (
        f"Telling {number} new classes of pictures apart from a few examples of each, where they resemble those of "
        f"{name}.\n{_promises(promised)}\nFor pictures unlike its training data nothing was measured: try it on "
        "labelled ones first (`--query` with class folders)."
    )


def _promises(promised: Sequence[Calibration]) -> str:
    """A paragraph on the task sizes for which the best checkpoint was calibrated."""
    if not promised:
        return (
            "Its probabilities are not calibrated, and it is not made to say that a picture shows none of the classes."
        )
    sizes, first = ", ".join(one.size for one in promised), promised[0]
    strangers = "" if first.score is None else ', and its answer "none of these",'
    return (
        f"Its probabilities, its sets of classes (`finetune --coverage 0.9`){strangers} are calibrated on\n"
        f"{first.episodes} validation tasks of {first.classes} classes ({sizes}); `metalearn eval` measures on test "
        "tasks how well that holds."
    )


def _use(session: "Session") -> str:
    if session.data.interface.table is not None:
        return _USE_OF_ROWS
    if session.data.interface.preprocessing is None:
        return "```sh\nmetalearn eval --checkpoint best.pt\n```"
    return """```sh
metalearn eval --checkpoint best.pt
metalearn finetune --checkpoint best.pt --support CLASS_FOLDERS --query PICTURES --output mine.pt2
```

```python
from metalearn_cli import load

classifier = load("best.pt").adapt(pictures, labels)
classifier.predict(more_pictures)
```"""

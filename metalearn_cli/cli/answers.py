"""A classifier's answers as `finetune` gives them: fields for JSON, sentences, and a csv file.

Legend: N pictures or rows, W classes.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from metalearn_cli.nouns import PICTURE, Noun

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from metalearn_cli.runtime.use.answer_counts import Share
    from metalearn_cli.runtime.use.classifier import Classifier
    from metalearn_cli.runtime.use.finetuning import Labelled, Measured

Fields = dict[str, Any]

NOTHING_MEASURED: Fields = {
    "measured_on": None, "folds": None, "per_step": [], "per_class": [], "confusion": None, "support_answers": [],
}  # fmt: skip


def measured_fields(measured: "Measured | None", steps: Sequence[int], classes: Sequence[Any]) -> Fields:
    """Fields for JSON: the right answers after each inner step and for each class, and the confusions."""
    if measured is None:
        return NOTHING_MEASURED
    counted, ways = measured.counted, len(classes)
    by_class = zip(classes, counted.classes(ways), strict=True)
    return {
        "measured_on": measured.on,
        "folds": measured.folds,
        "per_step": [{"step": step} | _share(share) for step, share in zip(steps, counted.steps, strict=True)],
        "per_class": [{"class": name} | _share(share) for name, share in by_class],
        "confusion": counted.confusion(ways),
        "support_answers": _support_answers(measured, classes),
    }


def _support_answers(measured: "Measured", classes: Sequence[Any]) -> list[Fields]:
    """Fields for JSON with the answer to each judged support example; its label is None if it has no finite answer."""
    answers, targets = measured.counted.answers[-1].tolist(), measured.counted.targets.tolist()
    judged = zip(measured.files, answers, targets, strict=True) if measured.files else ()
    return [
        {"file": file, "label": classes[answer] if answer >= 0 else None, "known": classes[target]}
        for file, answer, target in judged
    ]


def _share(share: "Share") -> Fields:
    interval = share.interval and list(share.interval)
    return {"accuracy": share.accuracy, "interval": interval, "right": share.right, "pictures": share.pictures}


def prediction_fields(
    classifier: "Classifier", queries: "Labelled", rows: "NDArray[np.float32]", coverage: float | None
) -> list[Fields]:
    """Fields for JSON of each query, in order: its most probable class, and whether it belongs to none of the classes.

    With a `coverage` also its set of classes, the most probable first. Only a calibrated classifier has the last two.
    """
    classes, count = classifier.classes, len(rows)
    none = [None] * count if classifier.calibration is None else classifier.strangers(queries.inputs)
    sets = [None] * count if coverage is None else classifier.sets(rows, coverage)
    return [
        {
            "file": file, "label": classes[row.argmax()], "probability": float(row.max()), "known": label,
            "none_of_these": stranger, "set": None if places is None else [classes[place] for place in places],
        }
        for file, row, label, stranger, places in zip(queries.files, rows, queries.labels, none, sets, strict=True)
    ]  # fmt: skip


def note(prediction: Mapping[str, Any]) -> str:
    """A sentence on an answer: that the query may be of no known class, or its set of classes; may be empty."""
    found = ["none of these"] if prediction["none_of_these"] else []
    if prediction["set"] is not None:
        found += [f"set: {', '.join(map(str, prediction['set'])) or 'empty'}"]
    return "; ".join(found)


def is_wrong(prediction: Mapping[str, Any]) -> bool:
    """Whether the answer is wrong; False if the true class is not known."""
    return prediction["known"] is not None and prediction["known"] != prediction["label"]


def wrong_first(predictions: Sequence[Mapping[str, Any]]) -> list[int]:
    """The places of all predictions, the wrong ones first."""
    return sorted(range(len(predictions)), key=lambda place: not is_wrong(predictions[place]))


def notes(fields: Mapping[str, Any], noun: Noun) -> list[str]:
    """Two sentences: how the accuracy was measured, and what its interval means. `noun` names the examples."""
    judged, count = fields["per_step"][-1]["pictures"], fields["folds"]
    interval = f"Intervals are 95 %, as if each {noun.one} were drawn by itself (Wilson)."
    if fields["measured_on"] == "support":
        return [
            f"These are the {noun.many} that it learned from, which says nothing of new ones.",
            f"With two {noun.many} or more of each class, leaving some out would tell.",
            interval,
        ]
    if count is None:
        known = "lie in a folder that names their class" if noun == PICTURE else "have a known class"
        return [f"{judged} of {len(fields['predictions'])} queries {known}.", interval]
    said = [f"{count} folds, each without one {noun.one} of every class; each {noun.one} counts once."]
    if min(fields["support"].values()) < count:
        said += [f"Of a class that has fewer, the same {noun.many} are left out again, and do not count again."]
    if judged < sum(fields["support"].values()):
        said += [f"Of a class that has more, {count} are left out, spread evenly."]
    return [*said, interval]


def csv_table(classes: Sequence[Any], predictions: Sequence[Fields], rows: "NDArray[np.float32]") -> bytes:
    """A row for each query, in their order, with the probability of every class."""
    from metalearn_cli.report.spreadsheet import as_csv, exact_label

    promised = [name for name in ("none_of_these", "set") if any(row[name] is not None for row in predictions)]
    header = ["file", "predicted", "probability", *(f"probability of {name}" for name in classes), "known"]
    header += [name.replace("_", " ") for name in promised]
    lines = [
        [row["file"], exact_label(row["label"]), row["probability"], *each, exact_label(row["known"])]
        + [_promised(row[name]) for name in promised]
        for row, each in zip(predictions, rows.tolist(), strict=True)
    ]
    return as_csv(header, lines)


def promised(fields: Mapping[str, Any], noun: Noun) -> str:
    """A line on the calibration of the probabilities, and of the sets of classes if there are any.

    `noun` names the examples.
    """
    found = fields["calibration"]
    if found is None:
        by = "" if fields["temperature"] == 1 else f"; their temperature is from leaving support {noun.many} out"
        return f"Probabilities are not calibrated: no validation tasks were held against them{by}."
    tasks = (
        f"{found['episodes']} validation tasks ({found['ways']}-way {found['shots']}-shot, {found['classes']} classes)"
    )
    said = f"Probabilities are calibrated on {tasks}."
    classes, support = len(fields["classes"]), fields["support"] or {}
    unlike = [f"{classes} classes"] if classes != found["ways"] else []
    if support and set(support.values()) != {found["shots"]}:
        unlike += [f"{sum(support.values()) / classes:.3g} {noun.many} of each"]
    said += f" Here are {', '.join(unlike)}, so they are less sure." if unlike else ""
    if fields["coverage"] is not None:
        said += f" In new tasks {100 * fields['coverage']:.4g} % of the sets hold the right class."
    none = sum(bool(row["none_of_these"]) for row in fields["predictions"])
    return f"{said} None of these: {none}, by a threshold that keeps 95 % of those that belong." if none else said


def _promised(value: "bool | list[Any]") -> str:
    """The text of a cell: "yes" or "no", or a set as a JSON list, because a name may contain any separator."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return json.dumps(value, ensure_ascii=False)

"""The HTML page and the figures of a classifier's answers: values of runtime/ become those that report/ shows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metalearn_cli.cli import answers, pages
from metalearn_cli.nouns import Noun
from metalearn_cli.storage.files.delivery import deliver

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from metalearn_cli.report.classifying import Query
    from metalearn_cli.report.judging import Judged
    from metalearn_cli.runtime.use.classifier import Classifier
    from metalearn_cli.runtime.use.finetuning import Labelled

_NEAREST = 3


def write_classifying_page(
    path: Path, classifier: "Classifier", support: "Labelled | None", queries: "Labelled", fields: Mapping[str, Any],
    made: pages.Made,
) -> None:  # fmt: skip
    """Write the page of the queries to `path`: each with its answer in `fields` and its nearest support pictures.

    The wrong answers come first.
    """
    from metalearn_cli.experiment import to_yaml
    from metalearn_cli.report import classifying
    from metalearn_cli.report.web_page import as_html
    from metalearn_cli.runtime.use.neighbours import neighbours

    predictions = [row | {name: _text(row[name]) for name in ("label", "known")} for row in fields["predictions"]]
    order = answers.wrong_first(predictions)[: classifying.MOST_QUERIES]
    few = queries.inputs[order]
    near = neighbours(classifier, few, _NEAREST)
    alone = support is not None and len(support.labels) == len(classifier.support)
    labels = support.labels if support is not None and alone else [None] * len(classifier.support)
    known = list(map(classifying.SupportPicture, _support_pictures(classifier, support), labels))
    rows = zip(order, near.places.tolist(), strict=True)
    shown = [_query(predictions[place], queries.pictures[place], near_by if known else []) for place, near_by in rows]
    classes, source = [str(name) for name in classifier.classes], fields["checkpoint"] or f"--config {fields['config']}"
    found = classifying.Classified(
        source, classes, known, shown, [(row["label"], row["known"]) for row in predictions],
        judged=judged_of(classes, fields, classifier.interface.noun), in_features=near.in_features,
    )  # fmt: skip
    origin = pages.origin([("", to_yaml(classifier.experiment))], str(classifier.device), made)
    deliver(path, as_html(classifying.classifying_page(found, origin)))


def _query(row: Mapping[str, Any], picture: "NDArray[np.uint8]", near: Sequence[int]) -> "Query":
    from metalearn_cli.report.classifying import Query

    told = answers.note(row)
    return Query(row["file"], picture, row["label"], row["probability"], known=row["known"], nearest=near, note=told)


def _support_pictures(classifier: "Classifier", support: "Labelled | None") -> "Sequence[NDArray[np.uint8]]":
    """The support pictures of a classifier; [] if it stored features, and not all pictures were given in this call."""
    from metalearn_cli.runtime.data.pixels import pictures_of_inputs

    if support is not None and len(support.pictures) == len(classifier.support):
        return support.pictures
    seen = classifier.interface.preprocessing
    assert seen is not None
    return [*pictures_of_inputs(classifier.support, seen)] if classifier.interface.view is None else []


def write_classifying_figures(folder: Path, classifier: "Classifier", fields: Mapping[str, Any]) -> None:
    """Write the figures of the answers in `fields` into the folder."""
    from metalearn_cli.report.figures import write_figures
    from metalearn_cli.report.judging import judged_charts

    classes = [str(name) for name in classifier.classes]
    probabilities = [row["probability"] for row in fields["predictions"]]
    write_figures(folder, judged_charts(classes, judged_of(classes, fields, classifier.interface.noun), probabilities))


def judged_of(classes: Sequence[str], fields: Mapping[str, Any], noun: Noun) -> "Judged | None":
    """The measured answers in `fields`, as the page shows them; None if nothing was measured.

    `noun` names the examples.
    """
    from metalearn_cli.report.judging import Judged
    from metalearn_cli.runtime.use.answer_counts import confused

    if fields["confusion"] is None:
        return None
    pairs = confused(classes, fields["confusion"])
    return Judged(
        fields["measured_on"],
        " ".join(answers.notes(fields, noun)),
        fields["per_step"],
        fields["per_class"],
        fields["confusion"],
        confused=pairs,
        noun=noun,
    )


def _text(label: object) -> str | None:
    """A label as text; None stays None."""
    return None if label is None else str(label)

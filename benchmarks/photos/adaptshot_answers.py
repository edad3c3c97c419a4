"""What adaptshot answers in the same tasks: `python -m benchmarks.photos.adaptshot_answers --keep`.

It needs `pip install adaptshot==0.3.0`, and the photos of 224 x 224 pixels prepared with their features (the first
command of PHOTOS.md). adaptshot learns from the same pictures and answers the same queries and strangers as
`metalearn eval` does: once with the MobileNetV3-small that it brings, once with the features that metalearn stored.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from adaptshot import ConformalEngine, FewShotLearner, PredictionResult
from numpy.typing import NDArray
from PIL import Image

from benchmarks.photos.page import ADAPTSHOT
from metalearn_cli.core.calibration import area_under_curve, half_width, reliability
from metalearn_cli.datasets import Archive
from metalearn_cli.experiment import read_experiment
from metalearn_cli.runtime.data.extraction import asked_features, extractor_for
from metalearn_cli.runtime.data.featured import features_beside
from metalearn_cli.runtime.data.opening import dataset_of, open_data
from metalearn_cli.runtime.data.pixels import pixels_on
from metalearn_cli.runtime.data.sampling import Pool, TaskSpec, draw, gather, pool_of
from metalearn_cli.runtime.data.whole_parts import draw_strangers
from metalearn_cli.storage.inputs.downloads import Progress
from metalearn_cli.storage.prepared.originals import Originals, originals
from metalearn_cli.storage.prepared.preparation import data_folder, open_or_explain

_TARGETS = (0.8, 0.9, 0.95)
_WAYS, _QUERIES = 5, 15
_SILENT: Progress = lambda *_moved: None  # noqa: E731 (nobody watches)
Vector = NDArray[np.float32]


class Photos(NamedTuple):
    """The pool of the test part's features, a folder with its pictures as NUMBER.png, and the seed of the tasks."""

    pool: Pool
    files: Path
    seed: int

    def picture(self, number: int) -> Image.Image:
        """The picture with a number in the store."""
        with Image.open(self.files / f"{number}.png") as opened:
            return opened.copy()


class Cached(FewShotLearner):
    """adaptshot's learner, which remembers the vector of each picture, so that none is computed twice."""

    vectors: dict[bytes, Vector]

    def _extract_embedding_checked(self, image: Image.Image, source: str) -> Vector:
        pixels = image.tobytes()
        if pixels not in self.vectors:
            self.vectors[pixels] = super()._extract_embedding_checked(image, source)
        return self.vectors[pixels]


class Answers(NamedTuple):
    """adaptshot's answers in a task: whether each is right, its confidence, and for each target whether its set holds
    the right class and the size of that set; then the distances and flags of members and strangers.
    """

    right: list[bool]
    confidence: list[float]
    held: list[list[bool]]
    sizes: list[list[int]]
    distances: tuple[list[float], list[float]]
    flags: tuple[list[bool], list[bool]]


def main() -> None:
    """Print a line for each kind of features and number of shots; `--keep` writes them for PHOTOS.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photos.adaptshot_answers", description=__doc__)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    rows = []
    with TemporaryDirectory() as files:
        photos = _photos(Path(files))
        for name, vectors in (("MobileNetV3-small", {}), ("EfficientNet-Lite0", _stored_vectors(photos))):
            Cached.vectors = vectors
            for shots in (1, 5):
                began = time.process_time()
                found = _summary(list(_answers(photos, TaskSpec(_WAYS, shots, _QUERIES), options.episodes)))
                spent = round(time.process_time() - began)
                rows.append({"features": name, "shots": shots, **found, "core_seconds": spent})
                print(json.dumps(rows[-1]), flush=True)
    if options.keep:
        kept = {"version": "0.3.0", "episodes": options.episodes, "rows": rows}
        ADAPTSHOT.write_text(json.dumps(kept, indent=1) + "\n")


def _photos(files: Path) -> Photos:
    experiment = read_experiment("photos", ["dataset.title=grocery224"])
    dataset, settings = dataset_of(experiment.dataset), experiment.dataset
    extractor = asked_features(settings)
    assert isinstance(dataset, Archive)
    assert extractor is not None
    folder = data_folder(None) / dataset.store
    prepared = open_or_explain("folder", dataset, data_folder(None), _SILENT)
    features = features_beside(settings, dataset, prepared, folder, _SILENT)
    seen = prepared.manifest.preprocessing_for(dataset.sampling.split, dataset.sampling.normalisation)
    pool = pool_of(prepared, pixels_on(features.rows), dataset.sampling, "test", seen)
    pool = pool._replace(shape=(features.manifest.features,), views=features.manifest.views)
    size = extractor_for(extractor).preprocessing
    with originals(folder, prepared, dataset) as source:
        assert isinstance(source, Originals), source
        members = source.stored()
        for start, count in zip(pool.starts, pool.counts, strict=True):
            for number in range(start, start + count):
                Image.fromarray(source.read(members[number], number, size)).save(files / f"{number}.png")
    photos, spec = Photos(pool, files, experiment.eval.seed), TaskSpec(_WAYS, 5, _QUERIES)
    measured = open_data(experiment, None, _SILENT).sampler("test", spec, photos.seed)(0, [0]).query.inputs
    drawn = gather(pool, spec, [draw(pool, spec, photos.seed, 0, 0)]).query.inputs
    assert torch.equal(measured, drawn), "these are not the tasks that metalearn eval measures"
    return photos


def _stored_vectors(photos: Photos) -> dict[bytes, Vector]:
    """The features by metalearn of each picture, by its pixels."""
    pool, numbers = photos.pool, [int(file.stem) for file in photos.files.iterdir()]
    stored = pool.images.taken(torch.tensor(numbers) * pool.views).float().numpy()
    return {photos.picture(number).tobytes(): row for number, row in zip(numbers, stored, strict=True)}


def _answers(photos: Photos, spec: TaskSpec, episodes: int) -> Iterator[Answers]:
    for number in range(episodes):
        drawn = draw(photos.pool, spec, photos.seed, 0, number).images
        learner = Cached(conformal_alpha=0.1, n_way=spec.ways, k_shot=spec.shots, query_size=spec.queries)
        files = [str(photos.files / f"{picture}.png") for picture in drawn[:, : spec.shots].flat]
        learner.load_support_images(files, [label for label in range(spec.ways) for _ in range(spec.shots)])
        engines = [_conformal(learner, target) for target in _TARGETS]
        found = Answers([], [], [[] for _ in _TARGETS], [[] for _ in _TARGETS], ([], []), ([], []))
        for label, row in enumerate(drawn):
            for picture in row[spec.shots :]:
                _ask(learner, engines, photos.picture(picture), label, found)
        for stranger in draw_strangers(photos.pool, spec, photos.seed, 0, number).images[:, 0]:
            _place(learner, photos.picture(stranger), found, 1)
        yield found


def _conformal(learner: Cached, target: float) -> ConformalEngine:
    """The engine that a learner with this target has, with the scores that the learner found on its support set."""
    alpha = 1 - target
    least = max(10, math.ceil((1 - alpha) / alpha - 1e-9))
    engine = ConformalEngine(alpha=alpha, mode=learner.config.conformal_mode, min_calibration_size=least)
    for score in learner.conformal._calibration_scores:
        engine.update_calibration(score, "")
    return engine


def _ask(learner: Cached, engines: list[ConformalEngine], picture: Image.Image, label: int, found: Answers) -> None:
    result, vector = _place(learner, picture, found, 0)
    found.right.append(result.prediction == label)
    found.confidence.append(result.calibrated_confidence)
    distances = learner._compute_all_prototype_distances(vector)
    for place, engine in enumerate(engines):
        chosen = engine.predict_set(
            distances, learner._prototype_labels, result.prediction, result.calibrated_confidence
        )
        found.held[place].append(chosen.contains(label))
        found.sizes[place].append(chosen.set_size)


def _place(learner: Cached, picture: Image.Image, found: Answers, kind: int) -> tuple[PredictionResult, Vector]:
    """The answer of adaptshot to a member (kind 0) or a stranger (1), and the picture's vector.

    The distance of the picture, and whether adaptshot flags it, are added to `found`.
    """
    result = learner.predict(picture)
    vector = learner._extract_embedding_checked(picture, "predict")
    found.distances[kind].append(float(learner.uncertainty_q.min_mahalanobis_distance(vector)[0]))
    found.flags[kind].append(bool(result.ood_flag))
    return result, vector


def _summary(tasks: list[Answers]) -> Mapping[str, Any]:
    """The figures of all tasks, as PHOTOS.md has them for metalearn."""
    right = torch.tensor([task.right for task in tasks], dtype=torch.float64)
    confidence = torch.tensor([task.confidence for task in tasks], dtype=torch.float64).flatten()
    # Place 0 is the answer, with its confidence; where it is wrong, the right class is in place 1.
    rows = torch.stack([confidence, torch.zeros_like(confidence)], -1)
    members, strangers = (torch.tensor([task.distances[kind] for task in tasks]) for kind in (0, 1))
    flagged = [torch.tensor([task.flags[kind] for task in tasks], dtype=torch.float64).mean() for kind in (0, 1)]
    sets = []
    for place, target in enumerate(_TARGETS):
        held = torch.tensor([task.held[place] for task in tasks], dtype=torch.float64)
        size = torch.tensor([task.sizes[place] for task in tasks], dtype=torch.float64).mean()
        sets.append({"target": target, **_interval("coverage", held), "size": float(size)})
    return {
        **_interval("accuracy", right), "ece": reliability(rows, 1 - right.flatten().long()).ece, "sets": sets,
        "strangers": {
            "turned_away": float(flagged[1]), "kept": 1 - float(flagged[0]),
            "auroc": area_under_curve(-members, -strangers),
        },
    }  # fmt: skip


def _interval(name: str, values: torch.Tensor) -> dict[str, float]:
    """The mean over E tasks [E, N] with the half-width of its 95 % interval."""
    each = values.mean(1)
    return {name: float(each.mean()), "ci95": half_width(each)}


if __name__ == "__main__":
    main()

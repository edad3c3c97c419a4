"""The part of `prepare` that computes features and stores them beside the pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from metalearn_cli.cli import tables

if TYPE_CHECKING:
    from metalearn_cli.datasets import Archive, Generated
    from metalearn_cli.settings import Choice
    from metalearn_cli.storage.prepared.features import FeatureManifest


def require_extractor(settings: "Choice", quiet: bool) -> None:
    """Raise ConfigError, before any picture is read, if the extractor that the dataset names is not available."""
    with tables.loading(quiet):
        from metalearn_cli.runtime.data.extraction import asked_features, extractor_for
    chosen = asked_features(settings)
    if chosen is not None:
        extractor_for(chosen)


def stored(
    settings: "Choice", description: "Archive | Generated", folder: Path, verify: bool, quiet: bool
) -> "list[FeatureManifest]":  # fmt: skip
    """Manifests of the features that the settings ask for, computed if missing.

    With `verify`: manifests of all stored features, after a comparison with their checksums.
    """
    from metalearn_cli.storage.prepared.dataset import open_prepared
    from metalearn_cli.storage.prepared.features import verify_all

    with tables.bar(quiet) as progress:
        stages = tables.Stages(progress)
        if verify:
            return verify_all(folder, stages)
        if getattr(settings, "features", None) is None:
            return []
        from metalearn_cli.runtime.data.featured import features_beside

        return [features_beside(settings, description, open_prepared(folder), folder, stages).manifest]


def feature_fields(folder: Path, manifest: "FeatureManifest") -> dict[str, Any]:
    """Fields for JSON that describe stored features."""
    from metalearn_cli.storage.prepared.features import Asked, features_folder

    asked = Asked(*(getattr(manifest, name) for name in Asked._fields))
    kept = ("about", "identity", "features", "views", "augmentation", "read_from", "why", "bytes", "sha256")
    return {"path": str(features_folder(folder, asked))} | {name: getattr(manifest, name) for name in kept}


def feature_line(manifest: "FeatureManifest", verified: bool) -> str:
    """A line that describes stored features: their network, their pictures, and the augmentation."""
    source = "the original pictures" if manifest.read_from == "originals" else f"the stored pictures ({manifest.why})"
    augmented = f"{manifest.views} views each ({', '.join(manifest.augmentation)})"
    views = "without augmentation" if manifest.views == 1 else augmented
    told = f"features: {manifest.features} of {manifest.count:,} pictures by {manifest.about}, from {source}, {views}"
    return told + (": verified" if verified else "")

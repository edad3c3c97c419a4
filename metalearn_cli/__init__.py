"""metalearn: train, check and use MAML-family few-shot learners.

The command line is the way in; from Python, `load(checkpoint).adapt(images, labels).predict(images)`, and
`load_classifier(file)` for what was adapted and saved before.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metalearn_cli.runtime.use.adaptation import Adaptable, load, load_classifier
    from metalearn_cli.runtime.use.classifier import Classifier

__all__ = ["Adaptable", "Classifier", "load", "load_classifier"]


def __getattr__(name: str) -> Any:
    # On first use, so that `metalearn --help` does not wait for torch.
    if name in __all__:
        from metalearn_cli.runtime.use import adaptation

        return getattr(adaptation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # What is not loaded yet has to be offered for completion too; what is only imported here, not.
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])

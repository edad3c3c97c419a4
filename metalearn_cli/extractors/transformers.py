"""Vision models of transformers (https://github.com/huggingface/transformers) as extractors: DINOv2, CLIP, ViT, ...

Legend: N pictures, P patches, F features.
"""

import warnings
from collections.abc import Mapping
from typing import Any, Literal, cast

from pydantic import Field
from torch import Tensor, nn

from metalearn_cli.datasets import Preprocessing
from metalearn_cli.errors import ConfigError
from metalearn_cli.extractors import Extractor, Features, identity_of, library, rows_of_features, tensor_bytes
from metalearn_cli.preprocessing import Resize
from metalearn_cli.references import first_line

_FILTERS: Mapping[int, Resize] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box"}
"""The numbers by which Pillow, and so preprocessor_config.json, names its filters."""

Pool = Literal["pooled", "first", "mean"]


class Config(Features):
    """The extra `transformers` installs the library; it looks for weights in its own cache, and downloads them once.

    No code of a repository is run, and weights are read only from safetensors.

    `model`: a name on the hub, such as "facebook/dinov2-small", or the path of a folder that the library saved.
    `pool`: "pooled" takes the model's own output for a whole picture (the projected features of CLIP and SigLIP),
        "first" its class token, "mean" the mean over patches.
    `fit`: "crop" takes the largest centred square of a picture, "squash" squeezes the whole picture into a square.
    """

    name: Literal["transformers"] = "transformers"
    model: str = Field(default="facebook/dinov2-small", min_length=1)
    pool: Pool = "pooled"
    fit: Literal["crop", "squash"] = "crop"


def build(config: Config) -> Extractor:
    """The model's image tower, with the picture size, filter, mean and std in its preprocessor_config.json.

    Raises ConfigError if transformers, the model or its weights are missing or cannot be loaded.
    """
    transformers = library("transformers")
    try:
        with warnings.catch_warnings(action="ignore"):
            model = transformers.AutoModel.from_pretrained(config.model, use_safetensors=True).float().eval()
            facts, _ = transformers.image_processing_base.ImageProcessingMixin.get_image_processor_dict(config.model)
    except Exception as error:  # the library, the hub's client and the model code each raise types of their own
        fetch = f"type, where there is a network: hf download {config.model}"
        raise ConfigError(f"model: {config.model}: {first_line(error)}; {fetch}") from error
    seen, tower = _seen(facts, model.config, config), _Tower(model, config.pool)
    described = f"transformers {type(model).__name__} {config.pool}"
    identity = identity_of(tensor_bytes(model.state_dict().items()), seen, described)
    return Extractor(tower.eval(), seen, rows_of_features(tower, seen), identity, f"{config.model} ({config.pool})")


def _seen(facts: Mapping[str, Any], described: Any, config: Config) -> Preprocessing:
    """The preprocessing in `facts`, the fields of preprocessor_config.json, and in the model's own configuration."""
    vision = getattr(described, "vision_config", described)
    size = facts.get("crop_size") or facts.get("size") or getattr(vision, "image_size", None)
    found = size if isinstance(size, Mapping) else {"height": size}
    side = found.get("height") or found.get("shortest_edge")
    if not isinstance(side, int):
        raise ConfigError(f"model: {config.model} does not say how large its pictures are (preprocessor_config.json)")
    mean, std = (tuple(facts.get(f"image_{one}") or (0.5,) * 3) for one in ("mean", "std"))
    scaled = facts.get("do_normalize", True)
    return Preprocessing(
        channels=3, height=side, width=side, resize=_FILTERS.get(facts.get("resample", 3), "bicubic"), fit=config.fit,
        mean=mean if scaled else (0.0,) * 3, std=std if scaled else (1.0,) * 3,
    )  # fmt: skip


class _Tower(nn.Module):
    """A model reduced to one row of features for each picture."""

    def __init__(self, model: nn.Module, pool: Pool) -> None:
        super().__init__()
        self.model = model
        self._pool = pool

    def forward(self, inputs: Tensor) -> Tensor:
        """Features [N, F] of inputs [N, 3, H, W]."""
        projected = getattr(self.model, "get_image_features", None)
        if self._pool == "pooled" and projected is not None:
            features = projected(pixel_values=inputs)
            return cast(Tensor, features if isinstance(features, Tensor) else features.pooler_output)
        outputs = getattr(self.model, "vision_model", self.model)(pixel_values=inputs)
        if self._pool == "pooled" and getattr(outputs, "pooler_output", None) is not None:
            return cast(Tensor, outputs.pooler_output.flatten(1))
        patches: Tensor = outputs.last_hidden_state
        if patches.dim() == 4:  # a convolutional network gives [N, F, H, W]
            return patches.flatten(2).mean(-1)
        return patches[:, 0] if self._pool == "first" else patches.mean(1)

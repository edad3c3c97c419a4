"""The base of every block of an experiment file; open to all rooms."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Size = Annotated[int, Field(ge=1, le=65_536)]
"""A number or a size. More is a typing mistake: no machine could hold so much."""

Steps = Annotated[int, Field(ge=0, le=1000)]
"""A number of inner steps. Papers take 1 to 100; in second order each step keeps all its activations in memory."""


def _can_name_a_folder(title: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", title):
        raise ValueError(f"found {title!r}, expected letters, digits, '_' and '-'")
    return title


Title = Annotated[str, AfterValidator(_can_name_a_folder)]
"""The name of a person's own collection, of which its folder is named."""


class Settings(BaseModel):
    """A frozen block of settings that refuses unknown keys, wrong types, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Choice(Settings):
    """A block whose `name` chooses a file in a folder: a dataset, a backbone, an algorithm or an extractor.

    `name`: the name of the file, or "package.module" for a module of your own.
    """

    name: str

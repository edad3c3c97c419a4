"""The base of every block of an experiment file; open to all rooms."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Size = Annotated[int, Field(ge=1, le=65_536)]
"""How many or how large; what is more is a slip of the finger, and no machine could hold it."""

Steps = Annotated[int, Field(ge=0, le=1000)]
"""Inner steps; papers take one to a hundred, and a second-order step keeps all that it computed."""


class Settings(BaseModel):
    """A frozen block of settings that refuses unknown keys, wrong types, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Choice(Settings):
    """A block whose `name` picks a file of the folder it is about: a dataset, a backbone or an algorithm.

    `name`: the file, or "package.module" for one of your own.
    """

    name: str

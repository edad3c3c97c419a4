"""The base of every block of an experiment file; open to all rooms."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A frozen block of settings that refuses unknown keys, wrong types, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Choice(Settings):
    """A block whose `name` picks a file of the folder it is about: a dataset, a backbone or an algorithm."""

    name: str

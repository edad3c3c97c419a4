"""Two additions to the parser of command lines: several values after one option, and an error for empty values."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from typer.core import TyperCommand

from metalearn_cli.errors import ConfigError


class Command(TyperCommand):
    """A command whose repeatable options take several values at once, because a shell writes `*.png` as several words.

    Only commands without positional arguments do this; otherwise such a value could be an argument.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments that are left after parsing. Raises ConfigError for an empty one, as "$UNSET" gives."""
        if ctx.resilient_parsing:  # the shell asks for completions
            return super().parse_args(ctx, args)
        valued = {name: param for param in self.params for name in param.opts if not getattr(param, "is_flag", True)}
        positional = any(param.param_type_name == "argument" for param in self.params)
        repeatable = [] if positional else [name for name, param in valued.items() if getattr(param, "multiple", False)]
        return super().parse_args(ctx, list(_spelled_out(args, valued, repeatable)))


def _spelled_out(args: Sequence[str], valued: Mapping[str, Any], repeatable: Sequence[str]) -> Iterator[str]:
    """The arguments, with the option's name before each further value of a repeatable one."""
    left, last = iter(args), ""
    for word in left:
        if word == "--":
            yield from [word, *left]
        elif word.startswith("-") and word != "-":
            name, given, value = word.partition("=")
            last = name if name in repeatable else ""
            yield word
            if name in valued and not given:
                for value in left:
                    yield _there(value, name)
                    break
            elif given:
                _there(value, name)
        else:
            yield from [last, _there(word, last)] if last else [_there(word, "an argument")]


def _there(value: str, name: str) -> str:
    if not value:
        raise ConfigError(f"{name}: is empty, expected a value; a shell variable may be unset, or a name forgotten")
    return value

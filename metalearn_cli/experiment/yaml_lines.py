"""YAML 1.2 to plain values and back, with the line of every key.

Scalars follow the core schema (https://yaml.org/spec/1.2.2/#103-core-schema): 1e-3 is a number, `no` and
`on` are words, 010 is ten, 1:30 is text. PyYAML reads YAML 1.1, which differs in each of these, so only its
parser events are used. Tags, anchors, aliases, merge keys, repeated keys, keys that are not text, and more than one
document are refused.
"""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import yaml

from metalearn_cli.errors import ConfigError

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"
Location = tuple[str | int, ...]
"""The path to a value: keys and list indices from the top of the file."""

MAX_BYTES = 65_536  # the pure-Python parser reads 65 kB a second, and no experiment needs a tenth of that
MAX_DEPTH = 32  # levels; each is a level of recursion here
MAX_DIGITS = 100
_LONGEST_SHOWN = 60
_TOO_LARGE = f"larger than {MAX_BYTES} bytes, too large for an experiment"

_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGERS = {
    10: re.compile(r"[-+]?[0-9]+"),
    8: re.compile(r"0o[0-7]+"),
    16: re.compile(r"0x[0-9a-fA-F]+"),
}
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class Document(NamedTuple):
    """The values of a file, and the line number (from 1) of each key and list item."""

    values: dict[str, Value]
    lines: dict[Location, int]


class _RefusedError(Exception):
    def __init__(self, what: str, line: int | None = None) -> None:
        super().__init__(what)
        self.what, self.line = what, line


def read(file: Path) -> Document:
    """The document in `file`.

    Raises ConfigError, one line, if it cannot be read or is not a mapping in safe YAML 1.2 and UTF-8.
    """
    where = escaped(str(file))
    try:
        if not file.is_file():
            found = "a folder" if file.is_dir() else "not a regular file" if file.exists() else "no such file"
            raise ConfigError(f"{where}: {found}; expected a YAML file")
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{where}: {_TOO_LARGE}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{content[error.start]:02x}{_encoding(content)}"
        raise ConfigError(f"{where}:{line}: not UTF-8: {found}") from error
    if "\0" in text:  # UTF-16 of plain letters is valid UTF-8, with a zero byte beside each letter
        raise ConfigError(f"{where}: not UTF-8{_encoding(content)}")
    return parse(text, where)


def parse(text: str, where: str) -> Document:
    """The document in `text`; errors call its source `where`.

    Raises ConfigError, `where:line: what`, unless it is one mapping in safe YAML 1.2.
    """
    try:
        values, lines = _load(text)
    except _RefusedError as error:
        line = "" if error.line is None else f":{error.line}"
        raise ConfigError(f"{where}{line}: {error.what}") from error
    if values is None:
        raise ConfigError(f"{where}: empty; expected keys and values")
    if not isinstance(values, dict):
        raise ConfigError(f"{where}:{lines[()]}: found a {type(values).__name__}, expected keys and values")
    return Document(values, lines)


def parse_value(text: str, where: str) -> Value:
    """The single value in `text`, of any kind; an empty text is null. Raises ConfigError, `where: what`."""
    try:
        return _load(text)[0]
    except _RefusedError as error:
        raise ConfigError(f"{where}: {error.what}") from error


def as_yaml(values: dict[str, Value]) -> str:
    """YAML text that `parse` turns back into the same values; a block without inner blocks takes one line."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110)


def escaped(text: str) -> str:
    """`text` in a form that is safe in a message: line breaks, control codes and the like are escaped."""
    return text if text.isprintable() else repr(text)


def brief(text: str) -> str:
    """`text` as `escaped` gives it, cut if it is too long for a message."""
    return escaped(text) if len(text) <= _LONGEST_SHOWN else f"{escaped(text[:_LONGEST_SHOWN])}..."


def _encoding(content: bytes) -> str:
    """The end of a message: the encoding that the file seems to have, and the way to convert it."""
    marks = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32"}
    marks |= {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
    found = next((name for mark, name in marks.items() if content.startswith(mark)), "")
    if not found and b"\0" in content:
        found = "UTF-16" if content.count(b"\0") < 0.6 * len(content) else "UTF-32"
    return f"; the file seems to be in {found or 'Latin-1 or Windows-1252'}: save it as UTF-8"


def _load(text: str) -> tuple[Value, dict[Location, int]]:
    lines: dict[Location, int] = {}
    if len(text) > MAX_BYTES:
        raise _RefusedError(_TOO_LARGE)
    try:
        events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
        next(events)
        if isinstance(next(events), yaml.StreamEndEvent):
            return None, lines
        value = _value(next(events), events, (), lines)
        next(events)
        after = next(events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise _RefusedError("a second document starts here; expected one", after.start_mark.line + 1)
    except _RefusedError:
        raise
    except Exception as error:
        # PyYAML documents only YAMLError, but on hostile text it also raises ValueError and others.
        raise _not_yaml(error, text) from error
    return value, lines


def _not_yaml(error: Exception, text: str) -> _RefusedError:
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark):
        what = " ".join(str(error.problem).split())
        return _RefusedError(f"not YAML: {what}", mark.line + 1)
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return _RefusedError(f"not YAML: character U+{ord(text[error.position]):04X} is not allowed", line)
    return _RefusedError(f"not YAML: {brief(str(error))}")


def _value(event: Any, events: Iterator[Any], location: Location, lines: dict[Location, int]) -> Value:
    line = lines.setdefault(location, event.start_mark.line + 1)
    if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
        raise _RefusedError("anchors and aliases (& and *) are refused; write the value out", line)
    if event.tag is not None:
        raise _RefusedError(f"the tag {brief(event.tag)} is refused; write the value alone", line)
    if len(location) > MAX_DEPTH:
        raise _RefusedError(f"nested deeper than {MAX_DEPTH} levels", line)
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event, line)
    if isinstance(event, yaml.SequenceStartEvent):
        return _sequence(events, location, lines)
    return _mapping(events, location, lines)


def _sequence(events: Iterator[Any], location: Location, lines: dict[Location, int]) -> list[Value]:
    items: list[Value] = []
    while not isinstance(event := next(events), yaml.SequenceEndEvent):
        items.append(_value(event, events, (*location, len(items)), lines))
    return items


def _mapping(events: Iterator[Any], location: Location, lines: dict[Location, int]) -> dict[str, Value]:
    entries: dict[str, Value] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        line = event.start_mark.line + 1
        key = _value(event, events, (*location, ""), {}) if isinstance(event, yaml.ScalarEvent) else None
        if not isinstance(key, str):
            raise _RefusedError("a key that is no text; put it in quotes", line)
        if key == "<<" and event.implicit[0]:
            raise _RefusedError("merge keys (<<) are refused; write the keys out", line)
        if key in entries:
            first = lines[*location, key]
            raise _RefusedError(f"{brief(key)}: given twice, first on line {first}", line)
        lines[*location, key] = line
        entries[key] = _value(next(events), events, (*location, key), lines)
    return entries


def _scalar(event: Any, line: int) -> Value:
    text: str = event.value
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise _RefusedError("half of a surrogate pair is no character", line)
    value = resolved(text) if event.implicit[0] else text
    if isinstance(value, int) and len(text) > MAX_DIGITS:
        raise _RefusedError(f"a number of more than {MAX_DIGITS} digits", line)
    return value


def resolved(text: str) -> Value:
    """The value of plain `text` in the core schema of YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    for base, pattern in _INTEGERS.items():
        if pattern.fullmatch(text):
            # Python refuses to convert thousands of digits. A number that is cut here is later refused for its length.
            return int(text[: MAX_DIGITS + 1], base)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return text


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, _data: object) -> bool:
        return True


def _quoted_where_needed(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # SafeDumper quotes text that YAML 1.1 would misread; YAML 1.2 would also misread text such as '1e3'.
    style = None if isinstance(resolved(text), str) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _quoted_where_needed)

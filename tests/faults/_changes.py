"""Ways to make an experiment file wrong."""

import copy
import os
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment import yaml_lines

_HERE = "here-it-stands"
"""In the place of a literal that no writer of YAML would write."""

_SIMPLE = (
    ".nan .inf -.inf -1 0 1 -0.0 1e308 -1e308 1e999 5e-324 0.5 1e3 0x10 0o17 010 1_000 1:30 2001-13-45 true no null ~ "
    "'' [] {} [[]] *a %x @x `x` ? | > ! !!int !!bool&x &a \u202eevil \u00e9t\u00e9 \uff11 \u0661 Conv4 conv44 maml "
    '"\\0" "\\x1b[31m" "\\ud800" "\\U0010FFFF" \u00a0 [1,x] {a:1} {name:nope}'
)
_LITERALS = (
    *_SIMPLE.split(),
    *("{<<: {a: 1}}", "{a: 1, a: 2}", "{1: 2}", "{[1]: 2}", "{? {a: b} : c}", "'conv4 '", "{name: nope}", "[1, x]"),
    *("&a [*a]", "&a [1, *a]", "!!bool x", "!!int ''", "!!timestamp x", "!!float _", "!!set {a}", "!!omap [a]"),
    *("!!python/object/apply:os.system [touch ran]", "!<tag:yaml.org,2002:python/name:os.system> ''"),
    *("9" * 5000, "1" + "0" * 400, "-" + "9" * 99, "0x" + "f" * 90, "0x" + "f" * 5000, "1e" + "9" * 50),
    *("0." + "0" * 3000, "x" * 20_000, "'" + "y\n\n  " * 50 + "'", "[" + "1," * 9000 + "]"),
    *("[" * 40 + "]" * 40, "[" * 3000, "{a: " * 3000),
)
_KEYS = (
    *("nam", "Name", "name ", " name", "n\u0430me", "inner_lr", "ways", "", "<<", "=", "-", "a.b", "a[0]", "\t", "\n"),
    *("\x1b[2J", "\u2028", "\x85", "\ud7ff", "x" * 5000, "null", "1", "1e3", "true", "__class__", "model_config"),
)
_LETTERS = "\0\x01\x07\x1b\x7f\x85\u2028\u2029\u200b\ufeff\ufffe\U0001f600\t\r\n :-#{}[]&*!|>'\"%@`,?<=~\\"


def wrong(random: Random, folder: Path, text: str, told: list[str]) -> Path:
    """A file in `folder` that is `text` changed once or a few times, or something else where a file should be.

    `told` then names the changes.
    """
    if random.random() < 0.05:
        strange = random.choice(_NO_FILES)
        told.append(strange.__name__)
        return strange(random, folder)
    for _change in range(random.choice((0, 1, 1, 1, 2))):
        told.append((change := random.choice(_VALUES)).__name__)
        text = change(random, text) if text else text
    content = text.encode("utf-8", "surrogatepass")
    for _change in range(random.choice((0, 0, 1)) if told else 1):
        told.append((damage := random.choice(_BYTES)).__name__)
        content = damage(random, content)
    return written(folder, content)


def written(folder: Path, content: bytes) -> Path:
    """An experiment file in `folder` with this content."""
    file = folder / "experiment.yaml"
    file.write_bytes(content)
    return file


def _changed(random: Random, text: str, change: Callable[[Any, Any], None], literal: str = "") -> str:
    """The text after `change(block, key)` somewhere in its values; what has been broken before stays as it is."""
    try:
        values: Any = copy.deepcopy(yaml_lines.parse(text, "base").values)
    except ConfigError:
        return text
    places = list(_places(values))
    if not places:
        return text
    change(*random.choice(places))
    return yaml_lines.as_yaml(values).replace(_HERE, literal)


def _places(values: Any) -> Any:
    for key in list(values) if isinstance(values, dict) else range(len(values)):
        yield values, key
        if isinstance(values[key], dict | list):
            yield from _places(values[key])


def _drop(random: Random, text: str) -> str:
    return _changed(random, text, lambda block, key: block.pop(key))


def _retype(random: Random, text: str) -> str:
    def change(block: Any, key: Any) -> None:
        block[key] = _HERE

    return _changed(random, text, change, random.choice(_LITERALS))


def _rename(random: Random, text: str) -> str:
    def change(block: Any, key: Any) -> None:
        new = random.choice((*_KEYS, str(key)[1:], str(key).upper(), str(key) + "s"))
        if isinstance(block, dict):
            block[new] = block.pop(key)
        else:
            block[key] = {new: block[key]}

    return _changed(random, text, change)


def _add(random: Random, text: str) -> str:
    def change(block: Any, key: Any) -> None:
        if isinstance(block, dict):
            block[random.choice(_KEYS)] = copy.deepcopy(block[key])
        else:
            block.append(copy.deepcopy(block[key]))

    return _changed(random, text, change)


def _nest(random: Random, text: str) -> str:
    def change(block: Any, key: Any) -> None:
        for _level in range(random.choice((1, 1, 2, 40))):
            block[key] = random.choice(([block[key]], {"name": block[key]}, {str(key): block[key]}))

    return _changed(random, text, change)


def _retype_by_hand(random: Random, text: str) -> str:
    """The value after one of the colons, whatever stands there."""
    ends = [match.end() for match in re.finditer(r": ?", text)] or [0]
    at = random.choice(ends)
    return text[:at] + random.choice(_LITERALS) + re.sub(r"^[^,}\n]*", "", text[at:])


def _letters(random: Random, text: str) -> str:
    for _letter in range(random.choice((1, 1, 3, 10))):
        at = random.randrange(len(text) + 1)
        text = text[:at] + random.choice(_LETTERS) * random.choice((1, 1, 1, 30)) + text[at + random.choice((0, 1)) :]
    return text


def _lines(random: Random, text: str) -> str:
    lines = text.splitlines(keepends=True) or [""]
    one, other = random.randrange(len(lines)), random.randrange(len(lines))
    match random.randrange(4):
        case 0:
            lines.insert(other, lines[one])
        case 1:
            lines[one], lines[other] = lines[other], lines[one]
        case 2:
            lines[one] = " " * random.randrange(1, 5) + lines[one]
        case _:
            lines[one] = lines[one].lstrip() if random.random() < 0.5 else lines[one].replace("  ", "\t", 1)
    return "".join(lines)


def _whole(random: Random, text: str) -> str:
    """Another text altogether, or the same in other clothes."""
    pairs = list(zip("abcdefgh", "bcdefghi", strict=True))
    laughs = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairs)
    merges = "a: &a {k: 1}\n" + "".join(f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}\n" for a, b in pairs)
    stairs = "a:\n" + "".join(f"{' ' * level}b:\n" for level in range(1, 300))
    many = "".join(f"k{number}: 1\n" for number in range(6000))
    before = (
        "# ",
        "--- ",
        "- ",
        "? ",
        "%",
        "{",
        "'",
        "|\n",
        "&a ",
        "!!map ",
        "\ufeff",
        "%YAML 1.1\n",
        "%TAG ! !\n---\n",
    )
    after = (f"---\n{text}", "...\nmore", laughs, "#" * 70_000, " " * 65_000, text * 50, "\n" * 60_000)
    alone = ("", " ", "\n" * 100, "#", "---\n", "---\n---\n", "null", "~", "[]", "{}", "just text", "42", stairs, many)
    deep = ("a: " * 5000, "- " * 30_000, "? " * 30_000, "[" * 60_000, "{" * 60_000, "[1, " * 15_000, "{a: " * 12_000)
    clothes = [text.replace("\n", "\r\n"), text.replace("\n", "\r"), text.replace("  ", "\t"), text.replace(": ", ":")]
    choices = (
        [one + text for one in (*before, laughs, merges, "x" * 60_000 + ": 1\n")],
        [text + one for one in after],
        *(alone, deep, clothes),
    )
    return random.choice(random.choice(choices))


def _cut(random: Random, content: bytes) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def _flipped(random: Random, content: bytes) -> bytes:
    changed = bytearray(content or b"x")
    for _flip in range(random.choice((1, 1, 3, 20))):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _rubbish(random: Random, content: bytes) -> bytes:
    rubbish = random.randbytes(random.choice((1, 10, 1000, 70_000)))
    at = random.randrange(len(content) + 1)
    return random.choice(
        (rubbish, content[:at] + rubbish + content[at:], b"PK\x03\x04" + rubbish, b"\x89PNG\r\n" + rubbish)
    )


def _encoded(random: Random, content: bytes) -> bytes:
    text = content.decode("utf-8", "replace")
    return text.encode(random.choice(("utf-16", "utf-16-le", "utf-32", "utf-7", "cp037")), "replace")


def _missing(_random: Random, folder: Path) -> Path:
    return folder / "missing.yaml"


def _folder(_random: Random, folder: Path) -> Path:
    return folder


def _fifo(_random: Random, folder: Path) -> Path:
    os.mkfifo(folder / "fifo")
    return folder / "fifo"


def _link(random: Random, folder: Path) -> Path:
    link = folder / "link.yaml"
    link.symlink_to(
        random.choice((link, Path("/dev/zero"), Path("/dev/tty"), Path("/proc/self/mem"), folder / "nothing"))
    )
    return link


def _odd_name(random: Random, folder: Path) -> Path:
    name = random.choice(
        ("x" * 300, "a\nb.yaml", "\x1b[31m.yaml", "a\udcff.yaml", "file/below", "-", "--resume", "\u202e")
    )
    (folder / "file").write_text("")
    if len(name) < 100 and "/" not in name and random.random() < 0.7:
        (folder / name).write_text(random.choice(("", "a: [", "name: x\n")))
    return folder / name


def _unreadable(random: Random, folder: Path) -> Path:
    file = written(folder, random.randbytes(9))
    file.chmod(0)
    return file


_VALUES = (_drop, _retype, _retype, _retype, _rename, _add, _nest, _retype_by_hand, _letters, _lines, _whole)
_BYTES = (_cut, _flipped, _rubbish, _encoded)
_NO_FILES = (_missing, _folder, _fifo, _link, _odd_name, _unreadable)

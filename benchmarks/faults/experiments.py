"""Experiment files that are wrong: each loads and can be written again, or is refused by name and by key or line.

A fault is a valid file changed in one to three ways: as text, as keys and values, as bytes, or as something that is no
file at all. The loader runs in process; every fiftieth fault, and whatever loads with an absurd size in it, also goes
through `metalearn train FILE --dry-run`, which must do its work or answer in one line.
"""

import copy
import os
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.faults import Totals
from benchmarks.faults._ledger import Ledger, Lost, command, require_one_plain_line
from metalearn_cli import yaml_lines
from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment import load, shipped, to_yaml
from metalearn_cli.yaml_lines import shown

SHORT, LONG = 150, 2000

_SMALL = """\
name: small
dataset: {name: glyphs, classes: 36, drawings: 6}
task: {ways: 2, shots: 1, queries: 2}
backbone: {name: conv4, channels: 2}
algorithm: {name: maml, inner_lr: 0.1}
outer: {meta_batch_size: 2, iterations: 2}
eval: {queries: 2, episodes: 4, val_episodes: 4, every: 1}
"""
_LAYERS = """\
name: layers
dataset:
  name: mixture
  of:
    - {name: glyphs, classes: 36, drawings: 6}
    - {name: glyphs, classes: 36, drawings: 6, seed: 1}
  weights: [1, 3]
  image_size: 16
  channels: 1
task: {ways: 2, shots: 1, queries: 2}
backbone:
  name: layers
  layers: [{conv2d: {channels: 2}}, relu, {upsample: {scale: 2}}, {max_pool2d: {kernel: 4}}, flatten, linear]
algorithm: {name: reptile}
eval: {queries: 2, episodes: 4, val_episodes: 4}
"""
_HERE = "@here@"
"""Stands in the file for a literal that no writer of YAML would write."""

_LITERALS = (
    ".nan .inf -.inf -1 0 1 -0.0 1e308 -1e308 1e999 5e-324 0.5 1e3 0x10 0o17 010 1_000 1:30 2001-13-45 true no null ~ "
    "'' \"\" [] {} [[]] [1, x] {a: 1} {name: nope} *a %x @x `x` ? | > ! !!int !!bool&x &a !!binary "
    "\"\\0\" \"\\x1b[31mred\" \"\\ud800\" \"\\U0010FFFF\" \u202eevil \u00e9t\u00e9 \uff11 \u0661 'conv4 ' Conv4 conv44 maml"
).split(" ") + [
    "9" * 5000, "1" + "0" * 400, "-" + "9" * 99, "0x" + "f" * 90, "0x" + "f" * 5000, "1e" + "9" * 50, "0." + "0" * 3000,
    "x" * 20_000, "'" + "y\n\n  " * 50 + "'", "[" * 40 + "]" * 40, "[" * 3000, "{a: " * 3000, "!!bool x", "!!int ''",
    "!!timestamp x", "!!python/object/apply:os.system [touch ran]", "!<tag:yaml.org,2002:python/name:os.system> ''",
    "&a [*a]", "&a [1, *a]", "{<<: {a: 1}}", "{a: 1, a: 2}", "{1: 2}", "{[1]: 2}", "{? {a: b} : c}", "[" + "1," * 9000 + "]",
]  # fmt: skip
_KEYS = (
    "nam", "Name", "name ", " name", "n\u0430me", "inner_lr", "ways", "", "<<", "=", "-", "a.b", "a[0]", "\t", "\n",
    "\x1b[2J", "\u2028", "\x85", "\ud7ff", "x" * 5000, "null", "1", "1e3", "true", "__class__", "model_config", "\U0001f600",
)  # fmt: skip
_LETTERS = "\0\x01\x07\x1b\x7f\x85\u2028\u2029\u200b\ufeff\ufffe\U0001f600\t\r\n :-#{}[]&*!|>'\"%@`,?<=~\\"
_SIZES = {
    "glyphs": "dataset.classes dataset.drawings backbone.channels algorithm.inner_steps",
    "mixture": "dataset.image_size backbone.layers.0.conv2d.channels backbone.layers.0.conv2d.kernel "
    "backbone.layers.0.conv2d.stride backbone.layers.0.conv2d.padding backbone.layers.2.upsample.scale "
    "algorithm.inner_steps dataset.of.0.classes dataset.weights.0",
    "both": "task.ways task.shots task.queries outer.meta_batch_size outer.iterations outer.step_every eval.ways "
    "eval.queries eval.inner_steps eval.episodes eval.val_episodes eval.every execution.threads execution.chunk seed",
}
_ABSURD = (512, 1000, 65_536, 10**6, 2**31, 10**9, 10**12, 2**62, 2**63, 10**18, 10**30)


def campaign(count: int, seed: int, scratch: Path) -> Totals:
    """`count` experiment files."""
    ledger = Ledger("experiments", seed)
    bases = [_SMALL, _LAYERS, *(file.read_text() for file in shipped().values())]
    for number in range(count):
        random, folder = ledger.random(), scratch / str(number)
        folder.mkdir()
        told: list[str] = []
        with ledger.fault(lambda told=told: " + ".join(told)):
            absurd = random.random() < 0.1
            file = _absurd(random, folder, told) if absurd else _mutated(random, folder, random.choice(bases), told)
            loads = _loads(file)
            if absurd and loads or number % 50 == 0:
                ended = command(scratch / "data", "train", file, "--dry-run", "--quiet")
                ended.require_answered()
                ledger.count("through the command")
            if (folder / "ran").exists() or Path("ran").exists():
                raise Lost("code in the file was run")
            ledger.count("loaded" if loads else "refused")
    return ledger.totals()


def _loads(file: Path) -> bool:
    """Whether it loads; then what is written loads as the same. Raises Lost if it is refused without a place."""
    try:
        experiment = load(str(file))
    except ConfigError as error:
        where = shown(str(file))
        require_one_plain_line(error, where)
        if file.is_file() and os.access(file, os.R_OK):
            for line in str(error).split("\n"):
                if not re.match(r"(:[1-9]\d*)?: .", line[len(where) :]):
                    raise Lost(f"neither a line nor a key: {line!r:.300}") from error
        return False
    again = file.with_name("again.yaml")
    again.write_text(to_yaml(experiment), encoding="utf-8")
    if load(str(again)) != experiment:
        raise Lost("what was written of it loads as something else")
    return True


def _absurd(random: Random, folder: Path, told: list[str]) -> Path:
    """A file whose sizes are valid integers that no machine can follow."""
    text, kind = random.choice([(_SMALL, "glyphs"), (_LAYERS, "mixture")])
    values: Any = yaml_lines.parse(text, "base").values
    for _change in range(random.choice((1, 1, 2))):
        path = random.choice(f"{_SIZES[kind]} {_SIZES['both']}".split())
        size = random.choice(_ABSURD)
        told.append(f"{path}={size}")
        *blocks, last = (int(part) if part.isdigit() else part for part in path.split("."))
        block = values
        for part in blocks:
            block = block[part] if isinstance(part, int) else block.setdefault(part, {})
        block[last] = size
    return _written(folder, yaml_lines.write(values).encode())


def _mutated(random: Random, folder: Path, text: str, told: list[str]) -> Path:
    """A file that is changed once or a few times, or something else where a file should be."""
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
    return _written(folder, content)


def _written(folder: Path, content: bytes) -> Path:
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
    return yaml_lines.write(values).replace(_HERE, literal).replace(f'"{_HERE}"', literal)


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
    laughs = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True))
    merges = "a: &a {k: 1}\n" + "".join(
        f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}\n" for a, b in zip("abcdef", "bcdefg", strict=True)
    )
    return random.choice((
        "", " ", "\n" * 100, "#", "# " + text, "---\n", "---\n---\n", text + "---\n" + text, "--- " + text, "%YAML 1.1\n" + text,
        "%TAG ! !\n---\n" + text, "%" + text, text + "...\nmore", "null", "~", "[]", "{}", "just text", "- " + text, "42",
        "!!map " + text, "&a " + text, "? " + text, "{" + text + "}", "'" + text, "|\n" + text, laughs + text, merges + text,
        text + laughs, text + "#" * 70_000, text + " " * 65_000, "x" * 60_000 + ": 1\n" + text, text.replace("\n", "\r\n"),
        text.replace("\n", "\r"), text.replace("  ", "\t"), "\ufeff" + text, "a: " * 5000, "- " * 30_000, "? " * 30_000,
        "[" * 60_000, "{" * 60_000, "[1, " * 15_000, "{a: " * 12_000, "- - - a\n" * 5000, "".join(f"k{i}: 1\n" for i in range(6000)),
        "a:\n" + "".join(f"{' ' * i}b:\n" for i in range(1, 300)), text * 50,
    ))  # fmt: skip


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
    return random.choice((rubbish, content[:at] + rubbish + content[at:], b"PK\x03\x04" + rubbish, b"\x89PNG\r\n" + rubbish))


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
    link.symlink_to(random.choice((link, Path("/dev/zero"), Path("/dev/tty"), Path("/proc/self/mem"), folder / "nothing")))
    return link


def _odd_name(random: Random, folder: Path) -> Path:
    name = random.choice(("x" * 300, "a\nb.yaml", "\x1b[31m.yaml", "a\udcff.yaml", "file/below", "-", "--resume", "a\u202eb"))
    if len(name) < 100 and "/" not in name and random.random() < 0.7:
        (folder / name).write_text(random.choice(("", "a: [", _SMALL)))
    (folder / "file").write_text("")
    return folder / name


def _unreadable(_random: Random, folder: Path) -> Path:
    file = _written(folder, _SMALL.encode())
    file.chmod(0)
    return file


_VALUES = (_drop, _retype, _retype, _retype, _rename, _add, _nest, _retype_by_hand, _letters, _lines, _whole)
_BYTES = (_cut, _flipped, _rubbish, _encoded)
_NO_FILES = (_missing, _folder, _fifo, _link, _odd_name, _unreadable)

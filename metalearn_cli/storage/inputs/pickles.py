"""Reads pickles of arrays and plain values without trusting them.

A pickle is a program that can call any Python function. This reader accepts only the few names that numpy arrays and
Python's collections need, and replaces them by its own functions, which can only build arrays of numbers and text,
lists and dicts. It refuses every other name before anything is imported.
"""

import pickle
import pickletools
import re
from collections.abc import Collection, Mapping
from typing import Any, BinaryIO

import numpy as np

from metalearn_cli.errors import DataError, reason

_PUTS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_GETS = ("GET", "BINGET", "LONG_BINGET")
_DEEPEST_TUPLE = 16  # 2^16 steps to hash; see `_require_small`
_MOST_NUMBERS = 5_000_000  # of all ranges together; a range of any length takes a few bytes in the file
_RANGES = {("builtins", "range"), ("__builtin__", "range"), ("__builtin__", "xrange")}


def unpickled(file: BinaryIO, what: str) -> Any:
    """The value in a pickle: numpy arrays, bytes, str, numbers, None, and lists and dicts of them.

    Tuples, ranges and sets become lists (sets in sorted order), and all kinds of dicts become plain dicts. Strings of
    Python 2 become latin-1 text, which keeps every byte.

    Raises DataError, with `what`, if the pickle asks for anything else or is damaged.
    """
    try:
        _require_small(file)
        file.seek(0)
        return _plain(_Unpickler(file, encoding="latin1").load(), {})
    except DataError as error:
        raise DataError(f"{what}: {error}") from error
    except Exception as error:  # a damaged pickle can raise any error
        raise DataError(f"{what}: is no readable pickle: {type(error).__name__} {reason(error)}") from error


class _Unpickler(pickle.Unpickler):
    _numbers_left = _MOST_NUMBERS

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _RANGES:
            return self._range
        if (module, name) not in _ADMITTED:
            raise DataError(f"asks for {module}.{name}, which a file of pictures has no need of; it was not run")
        return _ADMITTED[module, name]

    def _range(self, *bounds: int) -> list[int]:
        numbers = range(*bounds)
        self._numbers_left -= len(numbers)
        if self._numbers_left < 0:
            raise DataError(f"holds ranges of more than {_MOST_NUMBERS:,} numbers")
        return [*numbers]

    def persistent_load(self, _reference: Any) -> Any:
        raise DataError("refers to objects outside the file, which a file of pictures has no need of")


def _require_small(file: BinaryIO) -> None:
    """Raise DataError for a short pickle that would use up all memory or time.

    Memory: the C reader allocates its memo up to the largest index that a pickle names. Time: a tuple that holds
    another tuple twice, which holds another twice, and so on n times, takes 2^n steps to hash as a key.
    """
    depths: dict[int, int] = {}
    memoised, deepest, before = 0, 0, ""
    for count, (opcode, argument, _position) in enumerate(pickletools.genops(file)):
        name = opcode.name
        if name in _PUTS:
            index = memoised if name == "MEMOIZE" else int(argument or 0)
            if index > count:
                raise DataError("is damaged: it numbers more values than it holds")
            if "TUPLE" in before:
                depths[index] = deepest + 1
            memoised += name == "MEMOIZE"
        elif name in _GETS:
            deepest = max(deepest, depths.get(int(argument or 0), 0))
        if name == "DUP" or deepest > _DEEPEST_TUPLE:
            raise DataError("holds tuples of tuples of tuples, which a file of pictures has no need of")
        before = name


class _Kind:
    """Replaces numpy.ndarray, which a pickle of an array names without calling it."""


class _Dtype:
    """Replaces numpy.dtype, because its own unpickling trusts any memory layout in the file."""

    def __init__(self, code: str, *_flags: object) -> None:
        self._code, self._order = code, "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._order = state[1]

    def found(self) -> np.dtype[Any]:
        if not re.fullmatch(r"[<>|=]?(b1|[iuf][1248]|[SU]\d{1,6}|O8?)", self._code) or self._order not in "<>|=":
            raise DataError(f"holds an array of type {self._code!r}, which a file of pictures has no need of")
        return np.dtype(self._code).newbyteorder(self._order)  # type: ignore[arg-type]


class _Array:
    """Replaces an array until the pickle has given its bytes."""

    value: Any = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, dtype, fortran, content = state[-4:]
        if dtype.found().hasobject:
            self.value = list(content)
        else:
            self.value = _frombuffer(_bytes(content), dtype, shape, "F" if fortran else "C").value


def _reconstruct(*_kind_shape_code: object) -> _Array:
    return _Array()


def _frombuffer(buffer: Any, dtype: _Dtype, shape: Any, order: Any) -> _Array:
    array = _Array()
    flat = np.frombuffer(buffer, dtype.found()) if len(buffer) else np.empty(0, dtype.found())
    array.value = flat.reshape(shape, order=order)
    return array


def _scalar(dtype: _Dtype, content: Any) -> Any:
    return np.frombuffer(_bytes(content), dtype.found())[0].item()


def _encoded(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise DataError(f"asks for the encoding {encoding!r}, which a file of pictures has no need of")
    return text.encode("latin1")


def _no_bytes(*arguments: object) -> bytes:
    """Replaces bytes(): Python 3 pickles empty bytes for Python 2 as a call without arguments."""
    if arguments:
        raise DataError("calls bytes(), which a file of pictures has no need of")
    return b""


def _ordered(items: Any = ()) -> dict[Any, Any]:
    return dict(items)


class _Factory:
    """Replaces the type from which a defaultdict makes missing values; it is never called."""

    def __new__(cls, *_arguments: object) -> "_Factory":
        raise DataError("calls a type of Python's own, which a file of pictures has no need of")


def _defaulting(factory: Any = None, items: Any = ()) -> dict[Any, Any]:
    if factory not in (None, _Factory, set, frozenset):
        raise DataError("holds a defaultdict that calls a function for missing values")
    return dict(items)


def _bytes(content: Any) -> bytes:
    return content.encode("latin1") if isinstance(content, str) else content


def _plain(value: Any, known: dict[int, Any]) -> Any:
    """The value with arrays in place of their stand-ins; an object that occurs twice stays one object."""
    if isinstance(value, _Array):
        return _plain(value.value, known) if isinstance(value.value, list) else value.value
    if not isinstance(value, dict | list | tuple | set | frozenset):
        return value
    if id(value) not in known:
        if isinstance(value, dict):
            known[id(value)] = {key: _plain(item, known) for key, item in value.items()}
        else:
            items = _sorted(value) if isinstance(value, set | frozenset) else value
            known[id(value)] = [_plain(item, known) for item in items]
    return known[id(value)]


def _sorted(values: Collection[Any]) -> list[Any]:
    """The members of a set, in an order that is the same in every process."""
    try:
        return sorted(values)
    except TypeError:  # of several types
        return sorted(values, key=lambda value: (type(value).__name__, repr(value)))


_ADMITTED: Mapping[tuple[str, str], Any] = {
    ("_codecs", "encode"): _encoded,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): _ordered,
    ("collections", "defaultdict"): _defaulting,
    **{
        (module, name): kind
        for module in ("builtins", "__builtin__")
        for name, kind in (
            ("set", set),
            ("frozenset", frozenset),
            *(
                (factory, _Factory)
                for factory in ("bool", "dict", "float", "int", "list", "long", "str", "tuple", "unicode")
            ),
        )
    },
    ("numpy", "ndarray"): _Kind,
    ("numpy", "dtype"): _Dtype,
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")
        for module, name, function in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
}

"""Tables as arrays: honest ones, and what a broken program or a person who means harm would write."""

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import numpy as np

Arrays = Mapping[str, bytes]
"""The content of npy files, by the name of their array."""
Made = Callable[[], Any]
ROWS = 48


def npy(values: Any, **how: Any) -> bytes:
    """An array as numpy saves it."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asanyarray(values), **how)
    return buffer.getvalue()


def forged(descr: str, shape: str, body: bytes = b"", fortran: str = "False", version: bytes = b"\x01\x00") -> bytes:
    """An npy file whose header says something else than what is behind it."""
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()
    size = struct.pack("<H", len(header)) if version[:1] == b"\x01" else struct.pack("<I", len(header))
    return b"\x93NUMPY" + version + size + header + body


def honest_arrays(random: Random) -> dict[str, bytes]:
    """Rows or series of six classes or tasks as arrays."""
    generator = np.random.default_rng(random.randrange(1000))
    shape = random.choice([(ROWS, 3), (ROWS, 2, 9), (ROWS, 1, 4, 4)])
    found = {"x": npy(generator.normal(size=shape).astype(random.choice(["f2", "f4", "f8", ">f4"])))}
    names = np.arange(ROWS) % 6
    if random.random() < 0.5:
        return found | {"label": npy(random.choice([names, names.astype(str), names.astype("S")]))}
    return found | {"task": npy(names), "target": npy(generator.normal(size=random.choice([(ROWS,), (ROWS, 2)])))}


def hostile_arrays(random: Random, marker: str) -> list[tuple[str, Made]]:
    """(what is wrong, arrays) of tables of arrays, each made when it is called for."""
    honest = honest_arrays(random)
    x = np.random.default_rng(0).normal(size=(ROWS, 3))
    wrong_x = {
        "objects": lambda: npy(np.array([[1, "a"], [None, {}]], object), allow_pickle=True),
        "a pickle that runs": lambda: forged("'|O'", f"({ROWS}, 3)", pickle.dumps(_Runs(marker))),
        "a bare pickle": lambda: pickle.dumps(_Runs(marker)),
        "one dimension": lambda: npy(x[:, 0]),
        "a number": lambda: npy(np.float64(3)),
        "no rows": lambda: npy(x[:0]),
        "no inputs": lambda: npy(x[:, :0]),
        "five dimensions": lambda: npy(x.reshape(ROWS, 1, 1, 1, 3)),
        "text": lambda: npy(x.astype(str)),
        "bytes": lambda: npy(x.astype("S")),
        "complex": lambda: npy(x * 1j),
        "dates": lambda: npy(np.zeros((ROWS, 3), "M8[s]")),
        "durations": lambda: npy(np.zeros((ROWS, 3), "m8[D]")),
        "a record": lambda: npy(np.zeros((ROWS, 3), [("a", "f4"), ("b", "O")]), allow_pickle=True),
        "long floats": lambda: npy(x.astype(np.longdouble)),
        "truths": lambda: npy(x > 0),
        "big integers": lambda: npy(np.full((ROWS, 3), 2**63, np.uint64)),
        "only NaN": lambda: npy(x * np.nan),
        "an infinity": lambda: npy(np.where(x > 2, np.inf, x)),
        "1e300": lambda: npy(x * 1e300),
        "columns first": lambda: npy(np.asfortranarray(x)),
        "a constant": lambda: npy(x * 0 + 1),
        "a claim of 2^60 rows": lambda: forged("'<f8'", "(1152921504606846976, 3)", b"\0" * 800),
        "a claim of 2^40 inputs": lambda: forged("'<f8'", f"({ROWS}, 1099511627776)", b"\0" * 800),
        "a claim that overflows": lambda: forged("'<f8'", "(4294967296, 4294967296, 4294967296)", b"\0" * 800),
        "columns first, 2^60 rows": lambda: forged("'<f8'", "(1152921504606846976, 3)", b"\0" * 800, "True"),
        "negative rows": lambda: forged("'<f8'", f"(-{ROWS}, 3)", bytes(ROWS * 24)),
        "a shape of text": lambda: forged("'<f8'", "('a', 3)", bytes(99)),
        "a shape of floats": lambda: forged("'<f8'", f"({ROWS}.0, 3)", bytes(ROWS * 24)),
        "no numbers in it": lambda: forged("'<V0'", f"({ROWS}, 3)"),
        "an unknown type": lambda: forged("'<q9'", f"({ROWS}, 3)"),
        "a nested type": lambda: forged("[('a', '<f4', (1000000, 1000000))]", f"({ROWS}, 3)"),
        "a header that calls": lambda: forged(f"__import__('os').mkdir({marker!r})", "(1, 3)"),
        "a deep header": lambda: forged("(" * 3000 + ")" * 3000, "(1, 3)"),
        "a header that is cut": lambda: npy(x)[:40],
        "a long header": lambda: forged("'<f8'", f"({ROWS}, 3)" + " " * 60_000, bytes(ROWS * 24), version=b"\x02\x00"),
        "a header of 4 GB": lambda: b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(900),
        "version 9": lambda: forged("'<f8'", "(1, 3)", version=b"\x09\x00"),
        "rows that are cut": lambda: npy(x)[:-50],
        "bytes behind it": lambda: npy(x) + bytes(5000),
        "nothing": lambda: b"",
        "text in its place": lambda: b"x,y\n1,2\n",
    }
    beside = {
        "fewer": lambda: npy(np.arange(ROWS - 1) % 6),
        "more": lambda: npy(np.arange(ROWS + 1) % 6),
        "none": lambda: npy(np.arange(0)),
        "a number": lambda: npy(np.int64(1)),
        "two dimensions": lambda: npy(np.zeros((ROWS, 2, 2))),
        "no width": lambda: npy(np.zeros((ROWS, 0))),
        "NaN": lambda: npy(np.full(ROWS, np.nan)),
        "an infinity": lambda: npy(np.full(ROWS, np.inf)),
        "huge numbers": lambda: npy(np.full(ROWS, 1e200)),
        "objects": lambda: npy(np.array([["a"], None] * (ROWS // 2), object), allow_pickle=True),
        "a pickle that runs": lambda: forged("'|O'", f"({ROWS},)", pickle.dumps(_Runs(marker))),
        "bytes that are no text": lambda: npy(np.array([b"\xff\xfe", b"\x80"] * (ROWS // 2))),
        "escapes": lambda: npy(np.array(["\x1b[31m", "b\nc"] * (ROWS // 2))),
        "empty names": lambda: npy(np.array(["", " "] * (ROWS // 2))),
        "long names": lambda: npy(np.array(["a" * 100_000, "b"] * (ROWS // 2))),
        "a name each": lambda: npy(np.arange(ROWS)),
        "one name": lambda: npy(np.zeros(ROWS, int)),
        "floats": lambda: npy(np.arange(ROWS) % 6 / 3),
        "dates": lambda: npy(np.arange(ROWS).astype("M8[D]")),
        "complex": lambda: npy(np.zeros(ROWS, complex)),
        "records": lambda: npy(np.zeros(ROWS, "i4,f4")),
        "a claim of 2^60": lambda: forged("'<i8'", "(1152921504606846976,)", bytes(99)),
        "wide text": lambda: forged("'<U2000000000'", f"({ROWS},)", bytes(99)),
        "surrogates": lambda: forged("'<U1'", f"({ROWS},)", struct.pack("<I", 0xD800) * ROWS),
        "beyond Unicode": lambda: forged("'<U1'", f"({ROWS},)", b"\xff" * 4 * ROWS),
    }
    lengths = {
        "zeros": [0, ROWS],
        "negative": [-1, ROWS + 1],
        "too few": [1, 2],
        "too many": [ROWS, ROWS],
        "floats": [24.0, 24.0],
        "uint64": np.array([2**63, 2**63], np.uint64),
        "a wrap around": np.array([2**63 - 1, 2**63 - 1, ROWS + 2], np.int64),
        "two dimensions": [[24], [24]],
        "none": [],
        "ones": [1] * ROWS,
        "one": [ROWS],
        "small integers": np.array([24, 24], np.int8),
        "a wrap of small ones": np.array([127, 127, 50], np.int8),
        "text": ["24", "24"],
    }
    role = random.choice(["label", "task", "target", "split", *(key for key in honest if key != "x")])
    return [
        *((f"x: {what}", lambda made=made: {**honest, "x": made()}) for what, made in wrong_x.items()),
        *((f"{role}: {what}", lambda made=made: {**honest, role: made()}) for what, made in beside.items()),
        *(
            (f"lengths: {what}", lambda of=of: {"x": npy(x), "lengths": npy(of), "label": npy(np.arange(len(of)) % 6)})
            for what, of in lengths.items()
        ),
        ("no x", lambda: {key: content for key, content in honest.items() if key != "x"}),
        ("x alone", lambda: {"x": honest["x"]}),
        ("two names", lambda: {**honest, "sub/x": honest["x"], "../x": honest["x"], "X": honest["x"]}),
        ("zeros that unpack", lambda: {**honest, "x": forged("'<f8'", f"({40 << 17}, 3)", bytes(120 << 20))}),
    ]


class _Runs:
    """What makes a folder when it is unpickled."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.marker,)


def zipped(members: Arrays, random: Random) -> bytes:
    """The arrays as an npz file, one time in five with an entry twice, claimed larger, encrypted or in an odd way."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", random.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    packed = bytearray(buffer.getvalue())
    at = packed.rfind(b"PK\x01\x02")
    match random.randrange(20):
        case 0:
            packed[at + 24 : at + 28] = struct.pack("<I", random.choice([0, 1, 0xFFFFFFFE, 3 << 30]))
        case 1:
            packed[at + 8] |= 1
        case 2:
            packed[at + 10 : at + 12] = struct.pack("<H", random.choice([1, 9, 14, 93, 99]))
        case 3:
            packed[at + 42 : at + 46] = struct.pack("<I", random.randrange(1 << 32))
    return bytes(packed)

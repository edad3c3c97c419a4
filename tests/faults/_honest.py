"""Small sources of pictures in every form that is read."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from random import Random

import numpy as np
from PIL import Image

Members = Mapping[str, bytes]
CLASSES, EACH, SIDE = 4, 3, 10
_SUFFIXES = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "BMP": "bmp"}


def encoded(random: Random, kind: str, mode: str = "RGB") -> bytes:
    """A small picture in a format of Pillow."""
    pixels = np.frombuffer(random.randbytes(SIDE * SIDE * 3), np.uint8).reshape(SIDE, SIDE, 3)
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(pixels)
    picture.convert(mode).save(buffer, kind)
    return buffer.getvalue()


def class_folders(random: Random) -> dict[str, bytes]:
    """One folder for each class, with pictures in all formats."""
    return {
        f"class{number}/{picture}.{_SUFFIXES[kind]}": encoded(random, kind)
        for number in range(CLASSES)
        for picture, kind in enumerate(random.sample(sorted(_SUFFIXES), EACH))
    }


def listed(random: Random) -> dict[str, bytes]:
    """Pictures in one folder, and a list that says what each shows."""
    rows = [(f"{number}.png", f"kind {number % CLASSES}") for number in range(CLASSES * EACH)]
    members = {f"images/{file}": encoded(random, "PNG") for file, _label in rows}
    return members | {"labels.csv": "".join(f"{a},{b}\n" for a, b in [("FILE_NAME", "CATEGORY"), *rows]).encode()}


def arrays(random: Random) -> dict[str, object]:
    """What the pickles of the benchmarks hold: all pictures in one array, and a label for each."""
    number = CLASSES * EACH
    pixels = np.frombuffer(random.randbytes(number * SIDE * SIDE * 3), np.uint8).reshape(number, SIDE, SIDE, 3)
    if random.random() < 0.5:
        rows = {f"n{one:08}": list(range(one * EACH, (one + 1) * EACH)) for one in range(CLASSES)}
        return {"image_data": pixels, "class_dict": rows}
    return {"data": pixels, "labels": [one % CLASSES for one in range(number)]}


def pickled(random: Random) -> dict[str, bytes]:
    """The arrays as a pickle of any protocol."""
    return {"all.pkl": pickle.dumps(arrays(random), random.randrange(6))}


def compressed_arrays(random: Random) -> dict[str, bytes]:
    """The arrays as an npz."""
    buffer = io.BytesIO()
    found = arrays(random)
    while "data" not in found:
        found = arrays(random)
    np.savez_compressed(buffer, **found)  # type: ignore[arg-type]
    return {"all.npz": buffer.getvalue()}


def table(random: Random) -> dict[str, bytes]:
    """A parquet table, as Hugging Face's `datasets` writes it; class folders where pyarrow is not there."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return class_folders(random)
    rows = [{"bytes": encoded(random, "PNG"), "path": f"{number}.png"} for number in range(CLASSES * EACH)]
    names = [f"kind {number}" for number in range(CLASSES)]
    columns = pyarrow.table({"image": rows, "label": [number % CLASSES for number in range(len(rows))]})
    about = json.dumps({"info": {"features": {"label": {"names": names}}}}).encode()
    buffer = io.BytesIO()
    parquet.write_table(columns.replace_schema_metadata({b"huggingface": about}), buffer)
    return {"all.parquet": buffer.getvalue()}


FORMS = (class_folders, class_folders, listed, pickled, pickled, compressed_arrays, table)


def zipped(members: Members, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of these."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(members: Members, entry: Callable[[tarfile.TarInfo], tarfile.TarInfo] = lambda one: one) -> bytes:
    """A tar of these, each entry changed by `entry`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            one = tarfile.TarInfo(name)
            one.size = len(content)
            archive.addfile(entry(one), io.BytesIO(content))
    return buffer.getvalue()


PACKED: Mapping[str, Callable[[Members], bytes]] = {
    "zip": zipped,
    "tar": tarred,
    "tar.gz": lambda members: gzip.compress(tarred(members), mtime=0),
    "tar.bz2": lambda members: bz2.compress(tarred(members)),
    "tar.xz": lambda members: lzma.compress(tarred(members)),
}

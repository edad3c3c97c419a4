"""Reads files that hold many pictures: the pickles and arrays of few-shot benchmarks, and parquet tables.

Each picture becomes a member with the path "FILE/CLASS/NUMBER", so that no other code needs to know these formats. The
pictures are copied into a spool: one container is in memory at a time, and none when decoding begins.
"""

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.errors import DataError, MetalearnError, reason
from metalearn_cli.storage.inputs.holders import most_unpacked, require_modest
from metalearn_cli.storage.inputs.pickles import unpickled
from metalearn_cli.storage.inputs.spool import Span, Spool

_CONTAINER = re.compile(r"(\.(pkl|pickle|npz|parquet)|(^|(^|/)cifar-100-python/)(train|test))$", re.IGNORECASE)
_ROWS_AT_ONCE = 32  # parquet's dictionary encoding can make a small file of many copies of one large picture
_LABELS = re.compile(r"_labels\.(pkl|npz)$")
_IMAGES = re.compile(r"_images(_png)?\.(pkl|npz)$")
_LABEL_KEYS = ("fine_labels", "label_specific", "labels", "label")
_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "fine_label", "labels")

Files = Mapping[str, Callable[[], BinaryIO]]
Rows = Mapping[str, Sequence[int]]


def is_container(path: str) -> bool:
    """Whether `path` is named like a file that holds many pictures."""
    return _CONTAINER.search(path) is not None


def pictures(files: Files, spool: Spool) -> Iterator[tuple[str, Span]]:
    """Yield (member, its place in the spool) for every picture in these files; files of other kinds give none.

    Raises DataError if a file is damaged, asks for code to be run, or does not fit its labels.
    """
    for path in sorted(files):
        if _LABELS.search(path):
            continue
        if path.lower().endswith(".parquet"):
            yield from _table(path, files[path], spool)
            continue
        try:
            classes = [*_classes(path, _value(path, files[path]), files)]
        except (TypeError, ValueError, AttributeError, LookupError, OverflowError) as error:
            raise DataError(f"{path}: its labels are damaged: {reason(error)}") from error
        for label, numbers, images in classes:
            for number in numbers:
                yield f"{path}/{label}/{number:06}", _added(path, images[number], spool)


def _value(path: str, opened: Callable[[], BinaryIO]) -> Any:
    with opened() as file:
        if not path.lower().endswith(".npz"):
            value = unpickled(file, path)
            if not isinstance(value, dict):
                return value
            return {_text(key): item for key, item in value.items() if isinstance(key, bytes | str)}
        try:
            most = most_unpacked(file.seek(0, io.SEEK_END))
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                require_modest(path, sum(entry.file_size for entry in arrays.zip.infolist()), most)
                return {name: arrays[name] for name in arrays.files}
        except DataError:
            raise
        except Exception as error:  # zipfile, zlib and numpy raise many types for a damaged file
            raise DataError(f"{path}: is no readable npz: {reason(error)}") from error


def _classes(path: str, value: Any, files: Files) -> Iterator[tuple[str, Sequence[int], Any]]:
    """Yield (label, numbers, images) for each class; `numbers` are the numbers of its pictures in `images`."""
    if _IMAGES.search(path):
        companion = next((other for other in files if other.startswith(_IMAGES.sub("_labels.", path))), None)
        if companion is None:
            raise DataError(f"{path}: its labels are missing; expected {_IMAGES.sub('_labels.pkl', path)} beside it")
        labels = _value(companion, files[companion])
        # MetaOptNet wrote these arrays with OpenCV, which stores colours in the order blue, green, red.
        images = _array(path, value.get("images"))[..., ::-1] if isinstance(value, dict) else value
        rows = _rows(companion, labels, _label_names(labels))
    elif isinstance(value, dict) and {"image_data", "class_dict"} <= value.keys():
        images = _array(path, value["image_data"])
        rows = {_text(name): [int(number) for number in numbers] for name, numbers in value["class_dict"].items()}
    elif isinstance(value, dict) and "data" in value and any(key in value for key in _LABEL_KEYS):
        images, rows = _array(path, value["data"]), _rows(path, value, _label_names(value))
    else:
        return
    _require_fit(path, rows, len(images))
    for label in sorted(rows):
        yield label, sorted(rows[label]), images


def _array(path: str, images: Any) -> NDArray[np.uint8]:
    """The pictures [N, H, W, C]; in CIFAR, a row of 3,072 values is three colour planes of 32 x 32."""
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        raise DataError(f"{path}: its pictures are no uint8 array")
    if images.ndim == 2 and images.shape[1] == 3072:
        return images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise DataError(f"{path}: its pictures have shape {images.shape}; expected [N, H, W, C]")
    return images


def _rows(path: str, labels: Any, names: Mapping[int, str]) -> dict[str, list[int]]:
    key = next((key for key in _LABEL_KEYS if isinstance(labels, dict) and key in labels), None)
    if key is None:
        raise DataError(f"{path}: has no labels")
    rows: dict[str, list[int]] = {}
    for number, label in enumerate(labels[key]):
        rows.setdefault(names.get(int(label), f"{int(label):03}"), []).append(number)
    return rows


def _label_names(labels: Any) -> dict[int, str]:
    """The name of each label number, if the file has names."""
    if not isinstance(labels, dict):
        return {}
    if isinstance(numbers := labels.get("catname2label"), dict):
        return {int(number): _text(name) for name, number in numbers.items()}
    names = labels.get("label_specific_str", [])
    return {number: _text(name).replace("/", "-") for number, name in enumerate(names)}


def _require_fit(path: str, rows: Rows, images: int) -> None:
    numbers = [number for found in rows.values() for number in found]
    outside = numbers and not 0 <= min(numbers) <= max(numbers) < images
    if outside or len(set(numbers)) < len(numbers):
        raise DataError(f"{path}: its labels do not fit its {images:,} pictures")


def _added(path: str, picture: Any, spool: Spool) -> Span:
    """Add a picture to the spool: encoded bytes (in tieredImageNet, arrays [N, 1] of bytes) or pixels."""
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8:
        return spool.add(picture.tobytes(), picture.shape if picture.ndim == 3 else None)
    if isinstance(picture, str):
        picture = picture.encode("latin1", "replace")
    if not isinstance(picture, bytes):
        raise DataError(f"{path}: a picture in it is no array and no bytes, but {type(picture).__name__}")
    return spool.add(picture)


def _text(name: Any) -> str:
    if not isinstance(name, bytes | str | int):
        raise TypeError(f"a name of type {type(name).__name__}")
    return name.decode("latin1") if isinstance(name, bytes) else str(name)


def _table(path: str, opened: Callable[[], BinaryIO], spool: Spool) -> Iterator[tuple[str, Span]]:
    """Yield the pictures of a table of Hugging Face's `datasets`; its rows are a picture (bytes or {bytes, path}) and a
    label.
    """
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{path}: reading parquet needs pyarrow: pip install 'metalearn-cli[parquet]'") from error
    with opened() as file:
        try:
            most = most_unpacked(file.seek(0, io.SEEK_END))
            file.seek(0)
            table = parquet.ParquetFile(file if isinstance(file, io.BufferedReader) else arrow.PythonFile(file))
            columns = table.schema_arrow.names
            image = next((name for name in _IMAGE_COLUMNS if name in columns), None)
            label = next((name for name in _LABEL_COLUMNS if name in columns), None)
            if image is None or label is None:
                return
            names = _class_names(table.schema_arrow.metadata, label)
            number = unpacked = 0
            for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE, columns=[image, label]):
                for picture, which in zip(batch[image].to_pylist(), batch[label].to_pylist(), strict=True):
                    content = picture["bytes"] if isinstance(picture, dict) else picture
                    unpacked += len(content)
                    require_modest(path, unpacked, most)
                    yield f"{path}/{_label(names, which).replace('/', '-')}/{number:06}", spool.add(content)
                    number += 1
        except MetalearnError:
            raise
        except Exception as error:  # pyarrow raises its own types and many others for a damaged file
            raise DataError(f"{path}: is no readable table of pictures: {reason(error)}") from error


def _label(names: Sequence[str], which: Any) -> str:
    if names and not 0 <= which < len(names):  # -1 stands for an unknown label, in test sets whose labels are secret
        raise ValueError(f"label {which} has no name")
    return names[which] if names else f"{which:03}" if isinstance(which, int) else _text(which)


def _class_names(metadata: Mapping[bytes, bytes] | None, column: str) -> list[str]:
    """The class names for the numbers in a ClassLabel column, if the table has them."""
    features = json.loads((metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return [str(name) for name in features.get(column, {}).get("names", [])]

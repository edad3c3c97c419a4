"""Small look-alikes of the official datasets, in the layouts that people have them in.

Right names and right structure, few pictures. Every layout is built from the same pictures, so every layout must give
the same store.
"""

import csv
import gzip
import io
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PER_CLASS = 3
Members = Mapping[str, bytes]
Pixels = NDArray[np.uint8]

LISTS = files("metalearn_cli.datasets") / "lists"
_RAVI = gzip.decompress((LISTS / "miniimagenet_ravi.tsv.gz").read_bytes()).decode().splitlines()
RAVI = {
    wnid: (part, [tuple(map(int, pair.split(":"))) for pair in pairs.split()])
    for wnid, part, pairs in (line.split("\t") for line in _RAVI if not line.startswith("#"))
}
"""wnid -> (part, (rank, number) of each picture)."""

CHOSEN = {part: [wnid for wnid, (found, _) in RAVI.items() if found == part][:2] for part in ("train", "val", "test")}


@cache
def picture(seed: str, size: int = 84, channels: int = 3) -> bytes:
    """A JPEG of soft colours that depends on the seed alone."""
    generator = np.random.default_rng([*seed.encode()])
    coarse = generator.integers(0, 256, (7, 7, channels), dtype=np.uint8)
    image = Image.fromarray(coarse if channels == 3 else coarse[..., 0]).resize((size, size), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def pixels(content: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def ravi(wnid: str) -> list[tuple[str, str, bytes]]:
    """(name by rank, name by number, JPEG) of a class's pictures, in the order of the ranks."""
    pairs = RAVI[wnid][1][:PER_CLASS]
    return [(f"{wnid}{rank:08}.jpg", f"{wnid}_{number}.JPEG", picture(f"{wnid}/{rank}")) for rank, number in pairs]


def in_folder(path: Path, members: Members) -> Path:
    for name, content in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def in_zip(path: Path, members: Members) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path.with_suffix(".zip")


def in_tar(path: Path, members: Members) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".tar").write_bytes(tar(members))
    return path.with_suffix(".tar")


def in_tgz(path: Path, members: Members) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".tgz").write_bytes(gzip.compress(tar(members)))
    return path.with_suffix(".tgz")


def tar(members: Members) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def table(rows: Sequence[Sequence[str]], delimiter: str = ",") -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode()


def images_and_lists() -> Members:
    """images/ and train.csv, val.csv, test.csv (dragen1860, LibFewShot)."""
    members = {f"images/{name}": content for wnids in CHOSEN.values() for w in wnids for name, _, content in ravi(w)}
    for part, wnids in CHOSEN.items():
        rows = [(name, wnid) for wnid in wnids for name, _, _ in ravi(wnid)]
        members[f"{part}.csv"] = table([("filename", "label"), *rows])
    return members


def class_folders(parts: Mapping[str, str], by_number: bool = False) -> Members:
    """train/n01532829/*.jpg and so on (cbfinn, MTL; by number as reptile has them)."""
    return {
        f"{parts[part]}/{wnid}/{one[1 if by_number else 0]}": one[2]
        for part, wnids in CHOSEN.items()
        for wnid in wnids
        for one in ravi(wnid)
    }


def folders_without_split() -> Members:
    return {f"{wnid}/{name}": content for wnids in CHOSEN.values() for wnid in wnids for name, _, content in ravi(wnid)}


def data_and_splits() -> Members:
    """data/<wnid>/ and splits/ravi-larochelle/*.txt (r2d2)."""
    members = {f"data/{name}": content for name, content in folders_without_split().items()}
    for part, wnids in CHOSEN.items():
        members[f"splits/ravi-larochelle/{part}.txt"] = "\n".join(wnids).encode()
    return members


def cache_pickles(protocol: int = 2, validation: str = "val") -> Members:
    """mini-imagenet-cache-*.pkl (renmengye, learn2learn)."""
    members = {}
    for part, wnids in CHOSEN.items():
        images = np.stack([pixels(content) for wnid in wnids for _, _, content in ravi(wnid)])
        rows = {wnid: [PER_CLASS * place + n for n in range(PER_CLASS)] for place, wnid in enumerate(wnids)}
        name = validation if part == "val" else part
        value = {"image_data": images, "class_dict": rows}
        members[f"mini-imagenet-cache-{name}.pkl"] = pickle.dumps(value, protocol)
    return members


def category_pickles() -> Members:
    """miniImageNet_category_split_*.pickle (Gidaris, MetaOptNet)."""
    members, first = {}, 0
    for part, wnids in CHOSEN.items():
        images = np.stack([pixels(content) for wnid in wnids for _, _, content in ravi(wnid)])
        labels = [first + place for place in range(len(wnids)) for _ in range(PER_CLASS)]
        names = {wnid: first + place for place, wnid in enumerate(wnids)}
        first += len(wnids)
        phase = "train_phase_train" if part == "train" else part
        value = {"data": images, "labels": labels, "catname2label": names}
        members[f"miniImageNet_category_split_{phase}.pickle"] = pickle.dumps(value, 2)
    return members


def imagenet_folders(above: str = "ILSVRC/Data/CLS-LOC/train/") -> Members:
    """The training folders of ILSVRC2012, with pictures and a class that are not chosen."""
    members = {
        f"{above}{wnid}/{number}": content
        for wnids in CHOSEN.values()
        for wnid in wnids
        for _, number, content in ravi(wnid)
    }
    return members | {f"{above}n01440764/n01440764_18.JPEG": picture("tench")}


def imagenet_tar() -> Members:
    """ILSVRC2012_img_train.tar: a tar for each class; one that is not chosen is no tar at all."""
    classes: dict[str, dict[str, bytes]] = {}
    for name, content in imagenet_folders("").items():
        wnid, _, file = name.partition("/")
        classes.setdefault(wnid, {})[file] = content
    return {f"{wnid}.tar": tar(found) for wnid, found in classes.items()} | {"n01440764.tar": b"damaged"}


def parquet(rows: Sequence[tuple[bytes, int]], names: Sequence[str] | None, as_struct: bool = True) -> bytes:
    """A table as Hugging Face's `datasets` writes it."""
    import json

    import pyarrow as arrow
    from pyarrow import parquet as files

    images = [{"bytes": content, "path": None} if as_struct else content for content, _ in rows]
    label = {"_type": "ClassLabel", "names": names} if names else {"_type": "Value", "dtype": "int64"}
    about = {b"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}, "label": label}}}).encode()}
    found = arrow.table({"image": images, "label": [label for _, label in rows]}).replace_schema_metadata(about)
    buffer = io.BytesIO()
    files.write_table(found, buffer, row_group_size=4)
    return buffer.getvalue()


def gate_tables() -> Members:
    """GATE-engine/mini_imagenet: a file for each part, classes by number."""
    members = {}
    for part, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        rows = [(content, place) for place, wnid in enumerate(CHOSEN[part]) for _, _, content in ravi(wnid)]
        members[f"data/{name}-00000-of-00001.parquet"] = parquet(rows, None)
    return members


def timm_tables() -> Members:
    """timm/mini-imagenet: every class in every part, which is that author's own sample and split."""
    wnids = sorted(wnid for found in CHOSEN.values() for wnid in found)
    members = {}
    for name in ("train", "validation", "test"):
        rows = [(picture(f"timm/{name}/{wnid}"), place) for place, wnid in enumerate(wnids)]
        members[f"data/{name}-00000-of-00001.parquet"] = parquet(rows, wnids)
    return members


def cifar_python(classes: Mapping[str, int], protocol: int = 2) -> Members:
    """cifar-100-python/{train,test,meta}, two training and one test picture for each class."""
    members = {}
    for part, each in (("train", 2), ("test", 1)):
        found = [
            (pixels(picture(f"{name}/{part}/{n}", 32)), number) for name, number in classes.items() for n in range(each)
        ]
        value = {
            "data": np.stack([image.transpose(2, 0, 1).reshape(-1) for image, _ in found]),
            "fine_labels": [number for _, number in found],
            "coarse_labels": [0 for _ in found],
        }
        members[f"cifar-100-python/{part}"] = pickle.dumps(value, protocol)
    return members | {"cifar-100-python/meta": pickle.dumps({"fine_label_names": sorted(classes)}, protocol)}


def matlab(values: Sequence[int], compressed: bool = True) -> bytes:
    """A MATLAB 5 file with one row of small numbers called "labels"."""

    def element(kind: int, content: bytes) -> bytes:
        return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)

    flags = element(6, struct.pack("<II", 6, 0))
    shape = element(5, struct.pack("<ii", 1, len(values)))
    matrix = element(14, flags + shape + element(1, b"labels") + element(2, bytes(values)))
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    if compressed:
        packed = zlib.compress(matrix)
        matrix = struct.pack("<II", 15, len(packed)) + packed
    return header + matrix

"""Small files of pictures in every form that is read, and what a person who means harm would put in their place."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
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


def strange_archives(random: Random, members: Members) -> list[tuple[str, Callable[[], bytes]]]:
    """(suffix, content) of archives that no honest program writes; each is made when it is called for."""
    picture = encoded(random, "PNG")
    names = (
        *(
            "../../out.png",
            "/tmp/out.png",
            "c:/out.png",
            "a/../../out.png",
            "..\\..\\out.png",
            "a\n/b.png",
            "a\0b/c.png",
        ),
        *(
            "\x1b[31m/red.png",
            "x" * 5000 + "/a.png",
            "/".join("d" * 300) + "/a.png",
            ".",
            "/",
            "a//b.png",
            "\u202e/a.png",
        ),
    )
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE, b"?")
    zeros = {**members, "class0/zeros.png": bytes(90 << 20)}
    size = random.choice((0xFFFFFFFE, 3 << 30, 1 << 20))
    inner = {"in.tar.gz": gzip.compress(tarred({"in.zip": zipped(members)})), **members}
    return [
        *(("zip", lambda name=name: zipped({**members, name: picture})) for name in names),
        *(("tar", lambda name=name: tarred({**members, name: picture})) for name in names),
        *(("tar", lambda kind=kind: tarred({**members, "class0/link.png": b""}, _linked(kind))) for kind in kinds),
        ("zip", lambda: zipped(zeros)),
        ("tar.gz", lambda: gzip.compress(tarred(zeros), 1)),
        ("tar.xz", lambda: lzma.compress(bytes(90 << 20), preset=0)),
        ("zip", lambda: zipped({**members, "all.npz": zipped({"data.npy": bytes(90 << 20), "labels.npy": b""})})),
        ("zip", lambda: _claimed(zipped(members), size)),
        ("zip", lambda: zipped({"in.zip": zipped({"in.zip": zipped({"in.zip": zipped(members)})})})),
        ("tar", lambda: tarred(inner)),
        ("zip", lambda: zipped({f"{number}.txt": b"" for number in range(20_000)})),
        (random.choice(("tar", "tar.gz", "tar.xz")), lambda: zipped(members)),
        ("zip", lambda: tarred(members)),
        ("tar", lambda: b""),
        ("zip", lambda: b"<!DOCTYPE html><html>Google Drive can't scan this file for viruses</html>"),
    ]


def _linked(kind: bytes) -> Callable[[tarfile.TarInfo], tarfile.TarInfo]:
    def changed(one: tarfile.TarInfo) -> tarfile.TarInfo:
        if one.name.endswith("link.png"):
            one.type, one.linkname = kind, "/etc/passwd"
        return one

    return changed


def _claimed(content: bytes, size: int) -> bytes:
    """The zip with another unpacked size in its directory."""
    at = content.rfind(b"PK\x01\x02")
    return content[: at + 24] + struct.pack("<I", size) + content[at + 28 :]


def strange_pictures(random: Random) -> list[bytes]:
    """Contents of files that are called pictures: other kinds, other modes, and headers that claim too much."""
    honest = [encoded(random, "PNG", mode) for mode in ("1", "L", "LA", "P", "RGBA", "I;16")]
    honest += [encoded(random, "JPEG", mode) for mode in ("L", "CMYK")]
    other = [encoded(random, kind) for kind in ("GIF", "TIFF", "PPM", "ICO", "EPS", "PDF", "TGA")]
    frames = [Image.new("RGB", (SIDE, SIDE), (number, 0, 0)) for number in range(3)]
    for kind in ("PNG", "WEBP", "GIF"):
        buffer = io.BytesIO()
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
        other.append(buffer.getvalue())
    claims = [claiming(width, height) for width, height in ((50_000, 50_000), (2**31 - 1, 1), (0, 5), (1, 60_000_000))]
    return [*honest, *other, *claims, b"", b"\x89PNG\r\n\x1a\n", b"text", b"<html>", random.randbytes(3000), b"BM" * 50]


def claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims this size, with nothing to show for it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def hostile_pickles(marker: Path) -> list[bytes]:
    """Pickles that would make the file `marker`, take all memory, or never end."""
    touch = f"touch {marker}"
    make = f"open({str(marker)!r}, 'w')"

    class Calls:
        def __init__(self, *call: object) -> None:
            self.call = call

        def __reduce__(self) -> tuple[object, ...]:
            return self.call

    calls = (
        *((os.system, (touch,)), (eval, (make,)), (exec, (make,)), (open, (str(marker), "w"))),
        *(
            (np.load, (str(marker),)),
            (getattr, ("x", "upper")),
            (__import__, ("antigravity",)),
            (os.mkdir, (str(marker),)),
        ),
        *((os.open, (str(marker), 66)), (list, (), None, iter([Calls(os.system, (touch,))]))),
        (np.memmap, (str(marker), np.uint8, "w+", 0, (9,))),
    )
    nested = [{"image_data": Calls(*call), "class_dict": {"a": [Calls(*call)]}} for call in calls]
    by_protocol = [pickle.dumps(value, protocol) for protocol in (0, 2, 4, 5) for value in nested]
    return [*by_protocol, *_raw(touch.encode())]


def _raw(touch: bytes) -> Iterator[bytes]:
    text = struct.pack("<BI", ord("X"), len(touch)) + touch
    for module in (b"os", b"posix", b"nt", b"subprocess", b"numpy.core.multiarray", b"builtins"):
        for name in (b"system", b"call", b"Popen", b"eval", b"_reconstruct.__globals__", b"exec"):
            yield b"c" + module + b"\n" + name + b"\n(" + text + b"tR."
            yield b"(" + text + b"i" + module + b"\n" + name + b"\n."
            yield (
                b"\x80\x04\x8c"
                + bytes([len(module)])
                + module
                + b"\x8c"
                + bytes([len(name)])
                + name
                + b"\x93("
                + text
                + b"o."
            )
            yield b"\x80\x02c" + module + b"\n" + name + b"\n" + text + b"\x85\x81."
    yield b"\x80\x02cnumpy\ndtype\n" + text + b"\x85R}X\x01\x00\x00\x00xc__main__\nx\nsb."
    yield from (b"P1\n.", b"\x80\x02K\x01Q.", b"\x80\x02\x82\x01.", b"\x80\x05\x97.", b"\x80\x05\x98.")
    yield b"\x80\x02]r\xff\xff\xff\x7f."
    yield b"\x80\x02]p9999999999999\n."
    yield b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x."
    yield b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x."
    yield b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x."
    yield b"\x80\x04\x95" + struct.pack("<Q", 1 << 50) + b"."
    yield b"\x80\x02" + b"(" * 200_000 + b"."
    yield b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."
    yield b"\x80\x02]q\x00h\x00a."
    yield b"\x80\x02]q\x00" + b"".join(b"]q%c(h%ch%ce" % (n + 1, n, n) for n in range(60)) + b"."
    yield b"\x80\x02)q\x00" + b"".join(b"h%ch%c\x86q%c" % (n, n, n + 1) for n in range(60)) + b"}h<K\x01s."
    yield b"\x80\x02)" + b"2\x86" * 60 + b"}q\x000h\x00."
    yield b"\x80\x02)" + b"2\x86" * 60 + b"K\x01}q\x00K\x02K\x03s."

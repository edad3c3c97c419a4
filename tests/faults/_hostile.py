"""What a person who means harm would put in the place of pictures, and what a broken disk might."""

import gzip
import io
import lzma
import os
import pickle
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from tests.faults._honest import SIDE, Members, encoded, tarred, zipped


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

import io
import os
import struct
import tarfile
import unicodedata
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from metalearn_cli.errors import DataError
from metalearn_cli.storage.inputs import holders
from metalearn_cli.storage.inputs.sources import open_source

NFC, NFD = (unicodedata.normalize(form, "crème/é.png") for form in ("NFC", "NFD"))


def zipped(path: Path, members: Mapping[str, bytes]) -> Path:
    path = path if path.suffix.lower() == ".zip" else path.with_name(path.name + ".zip")
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def unpacked(folder: Path, members: Mapping[str, bytes]) -> Path:
    for name, content in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def held(path: Path) -> dict[str, bytes]:
    with open_source(path) as source:
        assert list(source.members) == sorted(source.members)
        return {member: source.content(member) for member in source.members}


def tarred(path: Path, members: Mapping[str, bytes], mode: str = "w") -> Path:
    """A tar, compressed where the mode says so."""
    path = path if ".tar" in path.name else path.with_name(path.name + ".tar")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def bomb(path: Path, size: int) -> Path:
    """An archive of one file that is nothing but zeros."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/1.png", bytes(size))
        return path
    return tarred(path, {"a/1.png": bytes(size)}, "w:" + path.suffix[1:])


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"])
def test_a_tar_gives_the_same_members_as_a_folder(suffix, tmp_path):
    members = {"b/2.png": b"two", "a/1.png": b"one", "a/deep/3.png": b""}
    mode = "w:" + {"tgz": "gz"}.get(suffix, suffix.partition(".")[2])
    made = tarred(tmp_path / "x.tar", members, mode).rename(tmp_path / f"it.{suffix}")
    assert held(made) == members


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_a_tar_cut_anywhere_is_an_error(suffix, tmp_path):
    whole = tarred(tmp_path / f"x.{suffix}", {f"a/{n}.png": os.urandom(700) for n in range(4)}, "w:" + suffix[4:])
    content = whole.read_bytes()
    for length in range(0, len(content) - (9000 if suffix == "tar" else 0), 97):
        (tmp_path / f"it.{suffix}").write_bytes(content[:length])
        with pytest.raises(DataError, match="is damaged or cut short"):
            held(tmp_path / f"it.{suffix}")


@pytest.mark.parametrize(
    ("inner", "outer"), [(tarred, tarred), (zipped, tarred), (tarred, zipped), (zipped, zipped), (tarred, unpacked)]
)
def test_an_archive_in_an_archive_counts_as_unpacked(inner, outer, tmp_path):
    made = inner(tmp_path / "inner" / "x.zip" if inner is zipped else tmp_path / "inner" / "x.tar", {"a/1.png": b"one"})
    path = outer(tmp_path / "it.zip" if outer is zipped else tmp_path / "it.tar", {made.name: made.read_bytes()})
    assert held(path) == {"a/1.png": b"one"}


def test_archives_that_are_not_wanted_are_not_opened(tmp_path):
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    unpacked(tmp_path, {"a/1.png": b"one", "b/2.png": b"two"})
    with open_source(tmp_path, wants=lambda path: path.startswith("a/")) as source:
        assert list(source.members) == ["a/1.png"]


@pytest.mark.parametrize("made", [zipped, unpacked])
def test_a_zip_and_a_folder_give_the_same_members(made, tmp_path):
    members = {"b/2.png": b"two", "a/1.png": b"one", "a/deep/3.png": b""}
    assert held(made(tmp_path / "it.zip", members)) == members


@pytest.mark.parametrize("name", ["../out.png", "a/../../out.png", "/etc/out.png", "C:/out.png", "a/\x07.png"])
@pytest.mark.parametrize("made", [zipped, tarred])
def test_a_member_that_would_leave_the_archive_is_refused(made, name, tmp_path):
    with pytest.raises(
        DataError, match=r"^.*/it\.(zip|tar): member .* (would leave the folder|cannot be printed)"
    ) as caught:
        held(made(tmp_path / "it", {name: b"", "a/1.png": b"one"}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["Type: A/1.png", "a/b: c/1.png", "ratio 1:2/x.png", "::/1.png", "C:x/1.png"])
@pytest.mark.parametrize("made", [zipped, tarred])
def test_a_colon_may_be_in_a_classs_name(made, name, tmp_path):
    assert held(made(tmp_path / "it.zip" if made is zipped else tmp_path / "it.tar", {name: b"one"})) == {name: b"one"}


@pytest.mark.parametrize("made", [zipped, tarred])
def test_an_archive_beside_what_was_unpacked_from_it_says_what_to_do(made, tmp_path):
    members = {"birds/wren/1.png": b"one"}
    unpacked(tmp_path / "all", members)
    made(tmp_path / "all" / ("birds.zip" if made is zipped else "birds.tar"), members)
    with pytest.raises(DataError, match=r"'birds/wren/1\.png' is there twice, .* unpacked into; move one of them away"):
        held(tmp_path / "all")


def test_backslashes_of_a_windows_zip_part_folders(tmp_path):
    assert held(zipped(tmp_path / "it.zip", {"a\\1.png": b"one"})) == {"a/1.png": b"one"}


def test_a_backslash_does_not_hide_where_a_member_leads(tmp_path):
    with pytest.raises(DataError, match="would leave the folder"):
        held(zipped(tmp_path / "it.zip", {"..\\out.png": b""}))


@pytest.mark.parametrize("made", [zipped, tarred])
def test_needless_parts_of_a_name_are_dropped(made, tmp_path):
    assert held(made(tmp_path / "it", {"./a//1.png": b"one"})) == {"a/1.png": b"one"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_link_or_device_in_a_tar_is_refused(kind, tmp_path):
    with tarfile.open(tmp_path / "it.tar", "w") as archive:
        entry = tarfile.TarInfo("a/link.png")
        entry.type, entry.linkname = kind, "/etc/hostname"
        archive.addfile(entry)
    with pytest.raises(DataError, match=r"it\.tar: member 'a/link\.png' is a link or a device"):
        held(tmp_path / "it.tar")


def test_a_link_in_a_zip_is_refused(tmp_path):
    link = zipfile.ZipInfo("a/link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "it.zip", "w") as archive:
        archive.writestr(link, "/etc/hostname")
    with pytest.raises(DataError, match=r"it\.zip: member 'a/link\.png' is a link or a device"):
        held(tmp_path / "it.zip")


def test_a_link_out_of_a_folder_is_passed_over_and_one_within_is_read(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    folder = unpacked(tmp_path / "it", {"a/1.png": b"one"})
    (folder / "a" / "out.png").symlink_to(tmp_path / "secret.png")
    (folder / "a" / "within.png").symlink_to(folder / "a" / "1.png")
    (folder / "outside").symlink_to(tmp_path)
    assert held(folder) == {"a/1.png": b"one", "a/within.png": b"one"}


@pytest.mark.parametrize("made", [zipped, unpacked])
@pytest.mark.parametrize("junk", ["a/._1.png", ".DS_Store", "a/Thumbs.db", "__MACOSX/1.png", "desktop.ini", "Icon\r"])
def test_what_file_managers_leave_is_passed_over(made, junk, tmp_path):
    assert held(made(tmp_path / "it.zip", {junk: b"", "a/1.png": b"one"})) == {"a/1.png": b"one"}


def test_a_name_that_only_looks_like_junk_is_kept(tmp_path):
    members = {"a/my.DS_Store.png": b"", "not__MACOSX/1.png": b""}
    assert held(zipped(tmp_path / "it.zip", members)) == members


@pytest.mark.parametrize("made", [zipped, unpacked])
def test_names_come_in_composed_form(made, tmp_path):
    assert NFC != NFD
    assert list(held(made(tmp_path / "it.zip", {NFD: b""}))) == [NFC]


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"two\nlines.png"])
def test_a_file_whose_name_cannot_be_printed_is_an_error_of_one_line(name, tmp_path):
    (tmp_path / os.fsdecode(name)).write_bytes(b"")
    with pytest.raises(DataError, match="has a name that cannot be printed; rename it") as caught:
        held(tmp_path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("names", [("a/1.png", "a/1.png"), (NFC, NFD)])
def test_a_member_that_is_there_twice_is_an_error(names, tmp_path):
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "it.zip", "w") as archive:
        warnings.simplefilter("ignore")
        for name in names:
            archive.writestr(name, name.encode())
    with pytest.raises(DataError, match=r"it\.zip: .* is there twice"):
        held(tmp_path / "it.zip")


@pytest.mark.parametrize(("inner", "above"), [("x.zip", ""), ("below/x.zip", "below/"), ("X.ZIP", "")])
def test_a_zip_in_a_folder_counts_as_unpacked_where_it_lies(inner, above, tmp_path):
    zipped(tmp_path / inner, {"a/1.png": b"one"})
    unpacked(tmp_path, {"b/2.png": b"two"})
    assert held(tmp_path) == {f"{above}a/1.png": b"one", "b/2.png": b"two"}


def test_the_shadow_of_a_zip_from_a_mac_is_passed_over(tmp_path):
    zipped(tmp_path / "x.zip", {"a/1.png": b"one"})
    (tmp_path / "._x.zip").write_bytes(b"\x00\x05\x16\x07")
    assert held(tmp_path) == {"a/1.png": b"one"}


def test_a_member_in_two_zips_of_a_folder_is_an_error(tmp_path):
    for name in ("x.zip", "y.zip"):
        zipped(tmp_path / name, {"a/1.png": b""})
    with pytest.raises(DataError, match=r"y\.zip: 'a/1\.png' is there twice"):
        held(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04" + bytes(60)])
def test_a_file_that_is_no_zip_is_an_error(content, tmp_path):
    (tmp_path / "it.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"it\.zip: is damaged or cut short"):
        held(tmp_path / "it.zip")


def test_a_zip_cut_anywhere_is_an_error(tmp_path):
    content = zipped(tmp_path / "x.zip", {f"a/{n}.png": os.urandom(700) for n in range(4)}).read_bytes()
    for length in range(0, len(content), 61):
        (tmp_path / "it.zip").write_bytes(content[:length])
        with pytest.raises(DataError, match="is damaged or cut short"):
            held(tmp_path / "it.zip")


def test_a_flipped_byte_in_a_member_names_the_member(tmp_path):
    path = zipped(tmp_path / "it.zip", {"a/1.png": b"needle"})
    path.write_bytes(path.read_bytes().replace(b"needle", b"noodle"))
    with pytest.raises(DataError, match=r"it\.zip: member 'a/1\.png' cannot be read: .*CRC"):
        held(path)


def test_an_encrypted_zip_is_an_error(tmp_path):
    path = zipped(tmp_path / "it.zip", {"a/1.png": b"one"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"member 'a/1\.png' cannot be read: .*encrypted"):
        held(path)


@pytest.mark.parametrize("made", [zipped, tarred, unpacked])
def test_a_member_that_is_too_large_is_an_error(made, tmp_path, monkeypatch):
    monkeypatch.setattr(holders, "MOST_BYTES", 1 << 20)
    path = made(tmp_path / "it.zip", {"a/1.png": bytes((1 << 20) + 1)})
    with pytest.raises(DataError, match=r"is larger than 1 MB"):
        held(path)


@pytest.mark.parametrize("made", [zipped, tarred])
def test_too_many_members_are_an_error(made, tmp_path, monkeypatch):
    monkeypatch.setattr(holders, "_MOST_MEMBERS", 1)
    with pytest.raises(DataError, match="has more than 1 members"):
        held(made(tmp_path / "it", {"a": b"", "b": b""}))


@pytest.mark.parametrize("suffix", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_bomb_is_refused_before_it_has_filled_the_disk(suffix, tmp_path, monkeypatch):
    monkeypatch.setattr(holders, "_ALWAYS_FINE", 1 << 20)
    path = bomb(tmp_path / f"it.{suffix}", 40 << 20)
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match=r"it\.\S+: unpacks to .* far more than pictures or numbers would"):
        held(path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_path_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        held(tmp_path / "nowhere")


def test_a_file_of_another_kind_is_an_error(tmp_path):
    (tmp_path / "it.rar").write_bytes(b"")
    with pytest.raises(DataError, match=r"it\.rar: expected a folder, a \.zip or a \.tar"):
        held(tmp_path / "it.rar")


def test_members_can_be_read_from_many_threads_at_once(tmp_path):
    members = {f"a/{number}.png": bytes([number]) * 5000 for number in range(200)}
    with open_source(zipped(tmp_path / "it.zip", members)) as source, ThreadPoolExecutor(8) as pool:
        read = list(pool.map(source.content, source.members))
    assert read == [members[member] for member in sorted(members)]


def test_reading_extracts_nothing(tmp_path):
    zipped(tmp_path / "x.zip", {"a/1.png": b"one"})
    held(tmp_path)
    assert [file.name for file in tmp_path.rglob("*")] == ["x.zip"]


def test_the_description_of_a_zip_follows_its_bytes(tmp_path):
    descriptions = []
    for folder, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / folder).mkdir()
        with zipfile.ZipFile(tmp_path / folder / "it.zip", "w") as archive:
            archive.writestr(zipfile.ZipInfo("a/1.png"), content)
        with open_source(tmp_path / folder / "it.zip") as source:
            descriptions.append(source.description)
    assert descriptions[0] == descriptions[1] != descriptions[2]
    assert descriptions[0].startswith("it.zip sha256 ")


def test_the_description_of_a_folder_names_and_counts_it(tmp_path):
    with open_source(unpacked(tmp_path / "mine", {"a/1.png": b"", "a/2.png": b""})) as source:
        assert source.description == "folder mine (2 files)"


def test_a_zip_that_says_its_members_lie_before_its_beginning_is_an_error(tmp_path):
    whole = zipped(tmp_path / "it.zip", {"a/1.png": os.urandom(300), "in.zip": os.urandom(300)}).read_bytes()
    for cut in range(1, 600, 13):
        (tmp_path / "it.zip").write_bytes(whole[cut:])
        with pytest.raises(DataError, match=r"it\.zip"):
            held(tmp_path / "it.zip")


def with_raw_names(path: Path, names: Sequence[bytes], flag: int = 0, extra: bytes = b"") -> Path:
    """A zip whose names are these bytes, as tools of another country and time wrote them."""
    stand_ins = [f"{number:0{len(name)}}" for number, name in enumerate(names)]
    with zipfile.ZipFile(path, "w") as archive:
        for name in stand_ins:
            entry = zipfile.ZipInfo(name)
            entry.extra, entry.flag_bits = extra, flag
            archive.writestr(entry, b"one")
    content = path.read_bytes()
    for stand_in, name in zip(stand_ins, names, strict=True):
        content = content.replace(stand_in.encode(), name)
    if flag:
        raw = bytearray(content)
        for start, at in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
            place = -1
            while (place := raw.find(start, place + 1)) >= 0:
                raw[place + at : place + at + 2] = flag.to_bytes(2, "little")
        content = bytes(raw)
    path.write_bytes(content)
    return path


def remarks_of(path: Path) -> list[str]:
    with open_source(path) as source:
        for member in source.members:
            source.content(member)
        return source.omissions.remarks


@pytest.mark.parametrize("name", ["Käfer/ä ö ü.png", "花/１.png", "жук/я.png", "🦊/x.png"])
def test_a_zip_with_utf8_names_is_read_with_its_mark_and_without(name, tmp_path):
    raw = name.encode()
    assert list(held(with_raw_names(tmp_path / "a.zip", [raw]))) == [name]
    assert list(held(with_raw_names(tmp_path / "b.zip", [raw], flag=0x800))) == [name]
    assert remarks_of(tmp_path / "a.zip") == remarks_of(tmp_path / "b.zip") == []


@pytest.mark.parametrize("encoding", ["cp437", "cp850", "cp1252", "cp932", "gbk", "cp1251"])
def test_a_zip_in_an_old_encoding_is_read_and_says_what_to_do(encoding, tmp_path):
    word = {"cp932": "ソース", "gbk": "花朵", "cp1251": "жук"}.get(encoding, "Käfer")
    made = with_raw_names(tmp_path / "it.zip", [f"{word}/{n}.png".encode(encoding) for n in (1, 2)])
    names = [name.split("/") for name in held(made)]
    assert len(names) == 2
    assert names[0][0] == names[1][0]
    assert [name[1:] for name in names] == [["1.png"], ["2.png"]]
    (told,) = remarks_of(made)
    assert "unpack it in its own (7z, unar, or unzip -O cp932) and give the folder" in told


def test_old_german_names_are_what_they_were(tmp_path):
    assert list(held(with_raw_names(tmp_path / "it.zip", ["Käfer/1.png".encode("cp437")]))) == ["Käfer/1.png"]


def test_a_zip_that_says_utf8_and_is_not_says_what_to_do(tmp_path):
    made = with_raw_names(tmp_path / "it.zip", ["Käfer/1.png".encode("cp1252")], flag=0x800)
    with pytest.raises(DataError, match=r"it\.zip: says that its names are UTF-8, and they are not; unpack it"):
        held(made)


def test_the_unicode_field_of_a_zip_gives_the_name(tmp_path):
    raw = "ソ/1.png".encode("cp932")
    body = b"\x01" + zlib.crc32(raw).to_bytes(4, "little") + "ソ/1.png".encode()
    made = with_raw_names(tmp_path / "it.zip", [raw], extra=struct.pack("<HH", 0x7075, len(body)) + body)
    assert list(held(made)) == ["ソ/1.png"]
    assert remarks_of(made) == []


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp932", "koi8-r"])
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_tar_in_an_old_encoding_is_read_and_says_what_to_do(encoding, form, tmp_path):
    word = {"cp932": "花", "koi8-r": "жук"}.get(encoding, "Käfer")
    with tarfile.open(tmp_path / "it.tar", "w", format=form, encoding=encoding) as archive:
        archive.addfile(tarfile.TarInfo(f"{word}/1.png"))
    (name,) = held(tmp_path / "it.tar")
    assert name.endswith("/1.png")
    assert (name == "Käfer/1.png") == (word == "Käfer")
    (told,) = remarks_of(tmp_path / "it.tar")
    assert "it.tar: its names are in an old encoding and read as" in told


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["Käfer/1.png", "花/1.png", "🦊" * 80 + "/1.png"])
def test_a_tar_with_utf8_names_needs_no_remark(form, name, tmp_path):
    with tarfile.open(tmp_path / "it.tar", "w", format=form) as archive:
        archive.addfile(tarfile.TarInfo(name))
    assert list(held(tmp_path / "it.tar")) == [name]
    assert remarks_of(tmp_path / "it.tar") == []

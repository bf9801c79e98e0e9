"""unetlab/archives.py: links, ways out, bombs and damage are refused, and nothing lands outside."""

import gzip
import hashlib
import io
import os
import stat
import tarfile
import zipfile

import pytest
from official import tarred, zipped

from unetlab.archives import Limits, check_sums, unpack
from unetlab.files import DataError

FILES = {"a/b/1.png": b"one" * 2000, "a/2.txt": b"two", "ä b.txt": b""}


@pytest.fixture
def target(tmp_path):
    """A folder to unpack into, with a neighbour that nothing may touch."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/file").write_text("untouched")
    (tmp_path / "set").mkdir()
    yield tmp_path / "set"
    assert (tmp_path / "victim/file").read_text() == "untouched" and len(list((tmp_path / "victim").iterdir())) == 1
    outside = {path.name for path in tmp_path.iterdir()} - {"victim", "set"}
    assert all(name.startswith("x.") for name in outside)  # the archives


def refusal(archive, target, *words, **options):
    with pytest.raises(DataError) as caught:
        unpack(archive, target, **options)
    text = str(caught.value)
    assert str(archive) in text and "\n" not in text and all(word in text for word in words), text


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.name.does.not.matter"])
def test_whole_archives(target, tmp_path, name):
    unpack((zipped if "zip" in name else tarred)(FILES, tmp_path / name), target)
    found = {path.relative_to(target).as_posix(): path for path in target.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in found.items()} == FILES
    assert not any(path.stat().st_mode & (stat.S_ISUID | stat.S_IXUSR) for path in found.values())


def member(name, **fields):
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def tar_of(path, *members):
    with tarfile.open(path, "w") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


WAYS_OUT = ["../victim/file", "a/../../victim/file", "..\\victim\\file", "C:\\victim", "a/b/../../../victim/file"]


@pytest.mark.parametrize("name", [*WAYS_OUT, "ABSOLUTE"])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_names_that_lead_out(target, tmp_path, name, pack):
    name = name.replace("ABSOLUTE", str(tmp_path / "victim/file"))
    refusal(pack({"ok": b"1", name: b"evil"}, tmp_path / "x.archive"), target, "leads out of the folder")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
@pytest.mark.parametrize("to", ["../victim", "ok", "/etc"])
def test_links_and_devices_in_tar(target, tmp_path, kind, to):
    link = member("link", type=kind, linkname=to)
    archive = tar_of(tmp_path / "x.tar", (member("ok"), b"1"), (link, b""), (member("link/file"), b"evil"))
    refusal(archive, target, "'link' in it is a link or a device")
    assert not os.path.lexists(target / "link")


def test_links_in_zip(target, tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, "../victim")
        archive.writestr("link/file", "evil")
    refusal(tmp_path / "x.zip", target, "is a link or a device")


def test_bombs(target, tmp_path):
    zeros = {"zeros": bytes(64 << 20)}
    for name, pack in (("x.zip", zipped), ("x.tar.gz", tarred)):
        archive = pack(zeros, tmp_path / name)
        assert archive.stat().st_size < 100_000
        refusal(archive, target, "far more than its size")
        assert (target / "zeros").stat().st_size <= 16 << 20
    honest = zipped({"random": os.urandom(3 << 20)}, tmp_path / "x.big")
    refusal(honest, target, "far more", limits=Limits(size=2 << 20))
    refusal(zipped({str(i): b"" for i in range(50)}, tmp_path / "x.many"), target, "40 files", limits=Limits(files=40))


def test_zeros_behind_the_end(target, tmp_path):
    whole = gzip.decompress(tarred(FILES, tmp_path / "x.tar.gz").read_bytes())
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(whole + bytes(40 << 20)))
    refusal(tmp_path / "x.tar.gz", target, "behind its end")


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_every_truncation_is_seen(target, tmp_path, name):
    """A tar cut between two members looks whole to tarfile."""
    files = {f"{i}.bin": os.urandom(700) for i in range(4)}
    archive = (zipped if name == "x.zip" else tarred)(files, tmp_path / name)
    whole = archive.read_bytes()
    # Behind its 4 files a tar has two blocks of zeros, and more of them to fill its record.
    end = 4 * (512 + 1024) + 512 if name == "x.tar" else len(whole)
    for length in range(0, end, 128 if name == "x.tar" else 61):
        archive.write_bytes(whole[:length])
        refusal(archive, target)


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_every_flipped_bit_of_the_content_is_seen(target, tmp_path, name):
    archive = (zipped if name == "x.zip" else tarred)({"a.bin": os.urandom(2000)}, tmp_path / name)
    whole = archive.read_bytes()
    for place in range(100, 1900, 97):
        archive.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        refusal(archive, target)


def test_what_is_no_archive(target, tmp_path):
    for content in (b"", b"<html>Please log in</html>", os.urandom(3000)):
        (tmp_path / "x.zip").write_bytes(content)
        refusal(tmp_path / "x.zip", target, "neither a zip nor a tar archive")


def test_a_password(target, tmp_path):
    archive = zipped({"a": b"secret"}, tmp_path / "x.zip")
    content = bytearray(archive.read_bytes())
    content[6] |= 1  # the flag in the entry and in the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    refusal(archive, target, "damaged or incomplete")


def test_a_file_that_is_also_a_folder(target, tmp_path):
    refusal(tarred({"a": b"1", "a/b": b"2"}, tmp_path / "x.tar"), target, "cannot be unpacked")


def test_sums(tmp_path):
    assert check_sums(tmp_path) == 0
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1").write_bytes(b"one")
    (tmp_path / "a/SHA256SUMS").write_text(f"{hashlib.sha256(b'one').hexdigest()}  1\n")
    assert check_sums(tmp_path) == check_sums(tmp_path / "a") == 1
    (tmp_path / "a/1").write_bytes(b"eins")
    with pytest.raises(DataError, match="a/1: not the file that SHA256SUMS means"):
        check_sums(tmp_path)
    (tmp_path / "a/1").unlink()
    with pytest.raises(DataError, match="a/1: in SHA256SUMS, but not there"):
        check_sums(tmp_path)
    (tmp_path / "a/SHA256SUMS").write_text(f"{'0' * 64}  ../../1\n")
    with pytest.raises(DataError, match="leads out of the folder"):
        check_sums(tmp_path)

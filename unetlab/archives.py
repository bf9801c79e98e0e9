"""Unpack zip and tar archives from strangers: nothing lands outside the folder, nothing fills the disk.

An archive is a program for the program that unpacks it: it can name files `../../.bashrc`, plant a link and write through
it, or be a few kilobytes that unpack to petabytes. Python's documentation warns of all three; its tarfile filter "data"
(PEP 706) refuses the first two, and here the limits of `Limits` refuse the third. A damaged archive is an error too:
zip and gzip have checksums, of a plain tar at least the end must be there.
"""

import hashlib
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import BinaryIO

from unetlab.files import DataError, read_text

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_BLOCK = 1 << 20
_SMALL = 16 << 20  # bytes that any archive may unpack to, however small it is


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to."""

    size: int = 4 << 30  # bytes
    files: int = 100_000
    ratio: int = 100  # times its own size


def unpack(archive, folder, limits: Limits | None = None) -> None:
    """Unpack into an existing folder. Raises DataError; what was written before the error stays in the folder.

    Only folders and plain files are taken: an archive with a link, a device, an absolute name or one with `..` is
    refused as a whole. Owners, permissions and times are not taken over.
    """
    archive, folder, limits = Path(archive), Path(folder), limits or Limits()
    room = min(limits.size, max(limits.ratio * archive.stat().st_size, _SMALL))
    seen = 0
    try:
        for name, content in _members(archive, folder):
            seen += 1
            if seen > limits.files:
                raise DataError(f"{archive}: more than {limits.files} files; this is not the set, do not unpack it")
            target = folder / _safe(archive, name)
            if content is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "wb") as file:
                while block := content.read(min(_BLOCK, room + 1)):
                    room -= len(block)
                    if room < 0:
                        raise DataError(f"{archive}: unpacks to far more than its size; do not unpack it")
                    file.write(block)
    except DataError:
        raise
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise DataError(f"{archive}: damaged or incomplete ({_line(error)}); get it again") from None
    except (OSError, ValueError) as error:  # gzip's and lzma's own errors, and what no file system can hold
        raise DataError(f"{archive}: cannot be unpacked ({_line(error)}); get it again, or free some disk") from None


def _members(archive: Path, folder: Path) -> Iterator[tuple[str, BinaryIO | None]]:
    """(name, content) of each file, (name, None) of each folder."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise _refused(archive, info.filename, "is a link or a device")
                if info.is_dir():
                    yield info.filename, None
                else:
                    with zipped.open(info) as content:  # at its end the checksum is compared
                        yield info.filename, content
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for member in tar:
                if not (member.isreg() or member.isdir()) or member.issparse():
                    raise _refused(archive, member.name, "is a link or a device")
                try:
                    tarfile.data_filter(member, str(folder))
                except tarfile.FilterError:
                    raise _refused(archive, member.name, "leads out of the folder") from None
                yield member.name, tar.extractfile(member) if member.isreg() else None
            # tarfile takes a cut for the end, and leaves the last checksum of a gzip unread.
            tar.fileobj.seek(tar.offset)
            if tar.fileobj.read(512).strip(b"\0") or tar.fileobj.tell() < tar.offset + 512:
                raise tarfile.ReadError("the end is missing")
            padding = 0
            while block := tar.fileobj.read(_BLOCK):
                padding += len(block)
                if padding > _SMALL:
                    raise DataError(f"{archive}: much stands behind its end; do not unpack it")
    else:
        raise DataError(f"{archive}: neither a zip nor a tar archive, or damaged; get it again")


def _safe(archive: Path, name: str) -> Path:
    """The name as a relative path, if it is one on every system."""
    parts = re.split(r"[/\\]", name)
    if name.startswith(("/", "\\")) or PureWindowsPath(name).drive or ".." in parts or "\0" in name:
        raise _refused(archive, name, "leads out of the folder")
    return Path(*[part for part in parts if part])


def _refused(archive: Path, name: str, why: str) -> DataError:
    return DataError(f"{archive}: {name!r} in it {why}; do not unpack it")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def check_sums(folder) -> int:
    """Compare the files with each SHA256SUMS list in the folder or one below; how many were compared. Raises DataError."""
    folder, wrong, count = Path(folder), [], 0
    for sums in [*folder.glob("SHA256SUMS"), *folder.glob("*/SHA256SUMS")]:
        for digest, name in re.findall(r"^([0-9a-f]{64}) [ *](.+)$", read_text(sums), re.MULTILINE):
            file = sums.parent / _safe(sums, name.removeprefix("./"))
            count += 1
            if not file.is_file():
                wrong.append(f"{file}: in {sums.name}, but not there")
            elif hashlib.sha256(file.read_bytes()).hexdigest() != digest:
                wrong.append(f"{file}: not the file that {sums.name} means")
    if wrong:
        raise DataError(f"{wrong[0]} ({len(wrong)} of {count} files); get the set again", wrong)
    return count

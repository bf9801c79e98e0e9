"""Fetch a real data set: download, verify, unpack, check that it loads, and only then put it in its place.

Chapter 2 (`02a_data`) fetches its first set with it; `unetlab data fetch NAME` is the command. Nothing is fetched unless
somebody asks. A download goes on where it broke off (HTTP ranges), with pauses that grow; pooch compares its checksum:
the published one, or the one recorded when the address was first used. All else happens in a hidden folder beside the
set's place, which is renamed at the very end: a fetch that fails or is killed leaves no half-made set.
"""

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import filelock
import pooch
import requests
import urllib3
from tqdm import tqdm

from unetlab import archives
from unetlab.archives import check_sums, unpack
from unetlab.checkpoint import write_atomically
from unetlab.datasets import Dataset
from unetlab.files import DataError
from unetlab.realsets import REAL_SETS, RealSet, data_root, load_real, real_name

ATTEMPTS = 4  # in a row that bring nothing new
PAUSE = 1.0  # seconds before the second attempt, twice as many before each later one
TIMEOUT = 20  # seconds in which a server must begin to answer, and in which more must come
LEAST = 20 * 1024  # bytes that must come in that time: a body that trickles is as good as none
MOST = 4 << 30  # bytes: larger than any of the sets

_RETRY = (408, 425, 429, 500, 502, 503, 504)  # answers that may be better the next time


def fetch(name: str, source: str | None = None, say: Callable[[str], None] = print) -> Dataset:
    """Put a real set below `data_root()`, and return it loaded. A set that is there already is left as it is.

    source: None for the official address; or a mirror (the address of an archive, or of the folder that holds the
    official files), a local archive, or a local folder.

    Raises ValueError for a name that is no real set, DataError in one line for all that can go wrong on the way.
    """
    name = real_name(name)
    if name not in REAL_SETS:
        raise ValueError(
            f"{name} is drawn by the program: there is nothing to fetch. Real sets: {', '.join(REAL_SETS)}"
        )
    known, root = REAL_SETS[name], data_root()
    target = root / known.folder
    if target.is_dir() and any(target.iterdir()):
        say(f"{name} is there already, in {target} (to fetch it anew, delete that folder first)")
        return load_real(name, target)
    if source is None and known.by_hand:
        raise DataError(
            f"{name}: {known.address} wants to know you: {known.by_hand}, then: "
            f"unetlab data fetch {name} --from WHAT_YOU_DOWNLOADED"
        )
    with _alone(root, known.folder):
        say(f"{name}: licence {known.licence}.\nPlease cite: {known.citation}.")
        draft = root / f".{known.folder}.draft"
        shutil.rmtree(draft, ignore_errors=True)  # of a fetch that was killed
        downloads = root / ".downloads" / known.folder
        try:
            draft.mkdir()
            sums = _gather(known, source, downloads, draft)
            check_sums(draft)
            data = load_real(name, draft)
            (draft / "NOTICE.md").write_text(_notice(name, known, source, sums), encoding="utf-8")
            if target.is_dir():
                target.rmdir()  # empty
            draft.rename(target)
        except _Unreachable:  # what came so far is good to go on with
            raise
        except DataError as error:
            shutil.rmtree(downloads, ignore_errors=True)  # the next attempt shall not start from what was wrong
            each = [line.replace(str(draft), name) for line in error.each]
            raise DataError(str(error).replace(str(draft), name), each) from None
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        _record(root, sums)
        shutil.rmtree(downloads, ignore_errors=True)
        say(f"{data}\nis in {target}, with its NOTICE.md.")
        return data


@contextmanager
def _alone(root: Path, folder: str):
    """One fetch of a set at a time. The lock ends with its process, however that ends."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(root / f".{folder}.lock", timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise DataError(f"{root / folder}: another fetch of this set is running; wait for it") from None
    except OSError as error:
        raise DataError(
            f"{root}: cannot be written ({error.strerror}); let UNETLAB_DATA name a folder that can"
        ) from None
    with lock:
        yield


# ------------------------------------------------------------------------------------------------- from where to where


def _gather(known: RealSet, source: str | None, downloads: Path, draft: Path) -> dict[str, str]:
    """Bring the files of the set into `draft`; the sha256 of each archive by the address or path it came from."""
    if source is None or "://" in source:
        urls = _official(known) if source is None else _mirror(known, source)
        recorded, sums = _recorded(downloads.parents[1]), {}
        for url, published in urls.items():
            file = _download(url, published or recorded.get(url), downloads)
            sums[url] = "sha256:" + pooch.file_hash(str(file))
            _place(file, draft, url.rpartition("/")[2])
        return sums
    path = Path(source).expanduser()
    official = [(path if path.is_dir() else path.parent) / file for file in known.files]
    if path.is_dir() and not all(file.is_file() for file in official):
        _copy(known, path, draft)
        return {}
    if path.is_dir() or (path in official and len(official) > 1):
        missing = [file for file in official if not file.is_file()]
        if missing:
            raise DataError(f"{missing[0]}: there is no such file; the set needs {' and '.join(known.files)}")
    elif path.is_file():
        official = [path]
    else:
        raise DataError(f"{path}: there is no such file or folder; check the path")
    for file in official:
        _place(file, draft, file.name)
    return {str(file): "sha256:" + pooch.file_hash(str(file)) for file in official}


def _official(known: RealSet) -> dict[str, str | None]:
    return {known.address + file: checksum for file, checksum in known.files.items()}


def _mirror(known: RealSet, source: str) -> dict[str, None]:
    """The addresses at a mirror: the archive it names, or the official files in the folder it names.

    The published checksums are not asked of a mirror: it may well have packed the files anew.
    """
    try:
        parts = urlsplit(source)
    except ValueError as error:
        raise DataError(f"{source}: no address ({error})") from None
    if parts.scheme not in ("http", "https"):
        raise DataError(
            f"{source}: only http:// and https:// addresses, local archives and folders can be fetched from"
        )
    folder, _, file = parts.path.rpartition("/")
    if file not in known.files and file.lower().endswith(archives.SUFFIXES):
        return {source: None}
    if file not in known.files:
        folder = parts.path.rstrip("/")
    return {urlunsplit(parts._replace(path=f"{folder}/{name}")): None for name in known.files}


def _copy(known: RealSet, source: Path, draft: Path) -> None:
    """Copy those files of a folder that belong to the set."""
    items = known.find(source)
    if not items:
        names = " and ".join(known.files)
        raise DataError(f"{source}: holds neither {names} nor the unpacked files of the set; check the path")
    check_sums(source)
    for file in {file for item in items for file in item.files()}:
        if not file.is_file():
            raise DataError(f"{file}: there is no such file; the folder is not complete")
        copy = draft / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


def _place(file: Path, draft: Path, name: str) -> None:
    if name.lower().endswith((".tif", ".tiff")):
        shutil.copyfile(file, draft / name)
    else:
        unpack(file, draft)


def _recorded(root: Path) -> dict[str, str]:
    """Checksums by address, as they were when the address was first used."""
    try:
        return json.loads((root / "checksums.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DataError(f"{root / 'checksums.json'}: damaged ({error}); delete it") from None


def _record(root: Path, sums: dict[str, str]) -> None:
    new = {url: checksum for url, checksum in sums.items() if "://" in url}
    if new:
        content = json.dumps(_recorded(root) | new, indent=1, sort_keys=True)
        write_atomically(root / "checksums.json", content.encode() + b"\n")


def _notice(name: str, known: RealSet, source: str | None, sums: dict[str, str]) -> str:
    came_from = known.address if source is None else f"{source} (the official address is {known.address})"
    archives_ = "".join(f"* {place.rpartition('/')[2]}: {checksum}\n" for place, checksum in sums.items())
    return (
        f"# {name}\n\nLicence: {known.licence}\n\nCitation: {known.citation}\n\nFetched from: {came_from}\n\n"
        f"Classes: {', '.join(known.coding.names)}. As unetlab reads it: {known.note}.\n\n{archives_}"
    )


# ----------------------------------------------------------------------------------------------------------- download


def _download(url: str, checksum: str | None, folder: Path) -> Path:
    """The file at an address, whole and with this checksum if there is one. What is in `folder` is not loaded again."""
    name = hashlib.sha256(url.encode()).hexdigest()[:12] + "-" + url.rpartition("/")[2]
    part = folder / f"{name}.part"
    pooch.get_logger().setLevel("ERROR")  # what it would say is said here, or in the DataError

    def go_on(url, output_file, _):
        _receive(url, part)
        part.replace(output_file)

    try:
        return Path(pooch.retrieve(url, checksum, fname=name, path=folder, downloader=go_on))
    except DataError:
        raise
    except ValueError:  # pooch has deleted the file
        raise DataError(
            f"{url}: the file is not the one with the {checksum}; try again later. If its maker has replaced it and you "
            f"trust the new one, remove its line from {folder.parents[1] / 'checksums.json'}"
        ) from None
    except OSError as error:
        raise DataError(f"{url}: cannot be kept ({error}); free some disk and try again") from None


def _receive(url: str, part: Path) -> None:
    """Load the address into `part`, going on after what is in it, attempt after attempt. Raises DataError."""
    most = failures = 0
    while True:
        try:
            return _attempt(url, part)
        except requests.RequestException as error:
            if isinstance(
                error, (requests.TooManyRedirects, ValueError)
            ):  # requests' errors of addresses are ValueErrors
                raise DataError(f"{url}: cannot be loaded ({_reason(error)}); check the address") from None
            size = part.stat().st_size if part.exists() else 0
            failures = 1 if size >= most + LEAST else failures + 1
            most = max(most, size)
            if failures == ATTEMPTS:
                raise _Unreachable(
                    f"{url}: no answer that can be used ({_reason(error)}); check the connection and give the command "
                    "again, or get the file elsewhere and say --from FILE. The synthetic scenes need no download"
                ) from None
            pause = PAUSE * 2 ** (failures - 1)
            print(f"note: {_reason(error)}; trying again in {pause:.0f} s", file=sys.stderr)
            time.sleep(pause)


class _Unreachable(DataError):
    """The server fails, not the data."""


def _attempt(url: str, part: Path) -> None:
    """One request. Raises requests.RequestException where another may help, DataError where none does."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.Session() as session:
        session.max_redirects = 10
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
        with response:
            status, span = response.status_code, response.headers.get("Content-Range", "")
            if status == 416 and span == f"bytes */{have}":
                return  # all of it is there
            if status == 416 or (status == 206 and not span.startswith(f"bytes {have}-")):
                part.unlink()
                raise requests.ConnectionError("the server went on at the wrong place")
            if status in _RETRY:
                raise requests.ConnectionError(f"the server answered {status} {response.reason}")
            if status not in (200, 206):
                raise DataError(
                    f"{url}: the server answered {status} {response.reason}; check the address, or say --from"
                )
            have = have if status == 206 else 0
            _write(response, part, have)


def _write(response: requests.Response, part: Path, have: int) -> None:
    length = response.headers.get("Content-Length", "")
    total = have + int(length) if length.isdecimal() else None
    name = part.name.partition("-")[2].removesuffix(".part")
    bar = tqdm(
        desc=name, total=total, initial=have, unit="B", unit_scale=True, disable=None, file=sys.stderr, leave=False
    )
    with bar, open(part, "ab" if have else "wb") as file:
        since, new = time.monotonic(), 0
        try:
            while block := response.raw.read1(1 << 16):
                file.write(block)
                bar.update(len(block))
                have, new = have + len(block), new + len(block)
                if have > MOST:
                    raise DataError(f"{response.url}: more than {MOST >> 30} GiB; this is not the set")
                if time.monotonic() - since > TIMEOUT:
                    if new < LEAST:
                        raise requests.ConnectionError(f"less than {LEAST >> 10} kB came in {TIMEOUT} s")
                    since, new = time.monotonic(), 0
        except (urllib3.exceptions.HTTPError, ConnectionError, TimeoutError) as error:
            raise requests.ConnectionError(f"the connection broke off ({_reason(error)})") from None
    if total is not None and have < total:
        raise requests.ConnectionError(f"the connection broke off at {have} of {total} bytes")


def _reason(error: Exception) -> str:
    """The innermost reason of an error of requests, in one line."""
    while getattr(error, "reason", None) or (error.args and isinstance(error.args[0], Exception)):
        error = getattr(error, "reason", None) or error.args[0]
        if isinstance(error, str):
            break
    return " ".join(str(error).split())

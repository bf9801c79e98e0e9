"""Arrays that took long to make, kept on disk: made once, memory-mapped ever after.

Chapter 2 (`02a_data`) times it: reading 3,000 small files takes seconds, mapping two large ones a moment. An entry is a
folder of .npy files named after a hash of all that went into them, so it can become useless but never wrong. It is
written beside its place and renamed, so that it is there whole or not at all, however many processes write; each array
has a checksum, and an entry that fails it is made anew.

The environment variable UNETLAB_CACHE moves the folder, for instance away from a small home directory.
"""

import json
import os
import shutil
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import platformdirs

MOST_DAYS = 30  # an entry that nobody read for so long goes away

Arrays = tuple[dict[str, np.ndarray], dict]  # arrays by name, and what JSON can hold about them


def cache_folder() -> Path:
    """The folder for all that can be made or fetched again: UNETLAB_CACHE, or where this system keeps such things."""
    return Path(os.environ.get("UNETLAB_CACHE") or platformdirs.user_cache_dir("unetlab"))


def cached(key: str, build: Callable[[], Arrays]) -> Arrays:
    """What `build` makes, from the cache if it is there whole. `key` must name all that the result depends on.

    Arrays from the cache are memory-mapped, and private: writing into them changes no file. Where the folder cannot be
    written, a warning says so and the arrays are made each time.
    """
    found = look_up(key)
    if found is not None:
        return found
    entry = _entry(key)
    arrays, about = build()
    try:
        _write(entry, arrays, about)
    except OSError as error:
        warnings.warn(f"{entry.parent}: not written ({error}); set UNETLAB_CACHE to a folder that can be", stacklevel=2)
    return arrays, about


def look_up(key: str) -> Arrays | None:
    """What ``cached`` would return at once, or None if it would have to build it."""
    return _read(_entry(key))


def _entry(key: str) -> Path:
    return cache_folder() / "tensors" / key


def _read(entry: Path) -> Arrays | None:
    """The entry, or None if it is not there or not as it was written."""
    index = entry / "index.json"
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        arrays = {name: np.load(entry / f"{name}.npy", mmap_mode="c") for name in content["checksums"]}
        if {name: zlib.crc32(array) for name, array in arrays.items()} != content["checksums"]:
            return None
        os.utime(index)  # it was of use today
        return arrays, content["about"]
    except (OSError, ValueError, KeyError, TypeError, EOFError):  # as many ways as a file can be damaged
        return None


def _write(entry: Path, arrays: dict[str, np.ndarray], about: dict) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    _forget(entry.parent)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=entry.parent))
    try:
        for name, array in arrays.items():
            np.save(draft / f"{name}.npy", array)
        checksums = {name: zlib.crc32(np.ascontiguousarray(array)) for name, array in arrays.items()}
        (draft / "index.json").write_text(json.dumps({"checksums": checksums, "about": about}), encoding="utf-8")
        if entry.exists() and _read(entry) is None:  # damaged; else another process was faster
            shutil.rmtree(entry, ignore_errors=True)
        if not entry.exists():
            try:
                draft.rename(entry)
            except OSError:
                if _read(entry) is None:  # not another process's entry that took the place just now
                    raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _forget(folder: Path) -> None:
    """Remove entries that were not read for long, and drafts of processes that were killed."""
    for entry in folder.iterdir():
        index = entry / "index.json"
        try:
            last = (index if index.exists() else entry).stat().st_mtime
        except FileNotFoundError:  # the draft of another process, which has become an entry just now
            continue
        if time.time() - last > MOST_DAYS * 86400:
            shutil.rmtree(entry, ignore_errors=True)

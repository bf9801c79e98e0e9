"""unetlab/cache.py: made once, mapped ever after; damaged entries are made anew; writers do not clash."""

import multiprocessing
import os
import time

import numpy as np
import pytest

from unetlab.cache import MOST_DAYS, cache_folder, cached


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("UNETLAB_CACHE", str(tmp_path))
    return tmp_path / "tensors"


class Build:
    """Counts how often it is asked."""

    def __init__(self, value=7):
        self.value, self.calls = value, 0

    def __call__(self):
        self.calls += 1
        return {"images": np.full((4, 3, 5), self.value, np.uint8), "masks": np.arange(6)}, {"names": ["ä", "b"]}


def same(found, value=7):
    arrays, about = found
    return (
        (arrays["images"] == value).all() and (arrays["masks"] == np.arange(6)).all() and about == {"names": ["ä", "b"]}
    )


def test_built_once_then_mapped(folder):
    build = Build()
    assert same(cached("key", build)) and same(cached("key", build)) and build.calls == 1
    arrays, _ = cached("key", build)
    assert isinstance(arrays["images"], np.memmap)
    arrays["images"][:] = 0  # private: no later reader sees it
    assert same(cached("key", build)) and same(cached("other", Build(3)), 3)
    assert sorted(path.name for path in folder.iterdir()) == ["key", "other"]


def test_a_draft_of_another_process_that_is_ready_just_now(folder, monkeypatch):
    folder.mkdir()
    iterdir = type(folder).iterdir
    monkeypatch.setattr(type(folder), "iterdir", lambda self: [*iterdir(self), self / ".draft-renamed-since"])
    cached("key", Build())
    build = Build()
    assert same(cached("key", build)) and build.calls == 0


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone", "no index", "half an index", "another index"])
def test_a_damaged_entry_is_made_anew(folder, damage):
    cached("key", Build())
    array, index = folder / "key/images.npy", folder / "key/index.json"
    content = array.read_bytes()
    if damage == "truncated":
        array.write_bytes(content[:-20])
    elif damage == "flipped":
        array.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "gone":
        array.unlink()
    elif damage == "no index":
        index.unlink()
    else:
        index.write_text(index.read_text()[:20] if damage == "half an index" else "[1, 2]")
    build = Build()
    assert same(cached("key", build)) and build.calls == 1
    assert same(cached("key", build)) and build.calls == 1  # whole again


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNETLAB_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="not written .*; set UNETLAB_CACHE to a folder that can be"):
        assert same(cached("key", Build()))


def _write_slowly(barrier, results):
    def build():
        barrier.wait(30)  # all of them have found nothing, and write at once
        return Build()()

    results.put(same(cached("key", build)))


def test_writers_at_the_same_moment_do_not_clash(folder):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(4), context.Queue()
    processes = [context.Process(target=_write_slowly, args=(barrier, results)) for _ in range(4)]
    for process in processes:
        process.start()
    assert all(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(30)
    assert [path.name for path in folder.iterdir()] == ["key"] and same(cached("key", Build(0)))


def test_what_nobody_reads_goes_away(folder):
    for key in ("old", "used"):
        cached(key, Build())
        past = time.time() - (MOST_DAYS + 1) * 86400
        os.utime(folder / key / "index.json", (past, past))
    cached("used", Build())  # read today
    cached("new", Build())
    assert sorted(path.name for path in folder.iterdir()) == ["new", "used"]


def test_the_folder_of_the_user(tmp_path, monkeypatch):
    assert cache_folder() == tmp_path
    monkeypatch.delenv("UNETLAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder().name == "unetlab" and cache_folder().is_absolute()

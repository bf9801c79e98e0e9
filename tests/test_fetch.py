"""unetlab/fetch.py against a hostile server: nothing wrong is accepted, nothing else is touched, a retry completes."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from hostile import serving
from official import draw_nuclei, pack, tarred, unpacked, zipped

import unetlab.fetch
from unetlab.fetch import fetch
from unetlab.files import DataError
from unetlab.realsets import REAL_SETS, load_dataset

FILES = draw_nuclei()
PATH = "/stage1_train.zip"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The folder of sets, with a neighbour that nothing may touch; waiting is short."""
    (tmp_path / "victim").write_text("untouched")
    monkeypatch.setenv("UNETLAB_DATA", str(tmp_path / "sets"))
    monkeypatch.setenv("UNETLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(unetlab.fetch, "PAUSE", 0.01)
    monkeypatch.setattr(unetlab.fetch, "TIMEOUT", 0.5)
    monkeypatch.setattr(unetlab.fetch, "LEAST", 1000)
    yield tmp_path / "sets"
    assert (tmp_path / "victim").read_text() == "untouched"
    assert {path.name for path in tmp_path.iterdir()} <= {"sets", "cache", "victim", "source"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return zipped(FILES, tmp_path_factory.mktemp("archive") / "stage1_train.zip").read_bytes()


@pytest.fixture
def server(archive):
    with serving({PATH: archive}) as (address, behaviour):
        yield address + PATH, behaviour


def refusal(source, *words, name="nuclei", root=None):
    """The one line of the error; no set, and no half of one, is left."""
    with pytest.raises(DataError) as caught:
        fetch(name, source)
    text = str(caught.value)
    assert "\n" not in text and all(word in text for word in words), text
    assert ".draft" not in text
    if root and root.exists():
        assert {path.name for path in root.iterdir() if not path.name.endswith(".lock")} <= {".downloads"}
    return text


def is_whole(root):
    data = load_dataset("nuclei", size=64)
    assert sum(map(len, (data.train, data.val, data.test))) == 10
    found = {f.relative_to(root / "nuclei_dsb2018").as_posix(): f for f in root.glob("nuclei_dsb2018/**/*.png")}
    assert {name: file.read_bytes() for name, file in found.items()} == FILES
    assert {p.name for p in root.iterdir()} <= {
        "nuclei_dsb2018",
        "checksums.json",
        ".downloads",
        ".nuclei_dsb2018.lock",
    }
    assert not list((root / ".downloads").glob("*/*"))  # the archive is not kept
    return True


# ------------------------------------------------------------------------------------------------------- what is right


def test_a_mirror(root, server, capsys):
    data = fetch("nuclei", server[0])
    assert is_whole(root) and data.name == "nuclei"
    out = capsys.readouterr().out
    known = REAL_SETS["nuclei"]
    notice = (root / "nuclei_dsb2018/NOTICE.md").read_text()
    for text in (out, notice):
        assert known.licence in text and known.citation in text
    digest = hashlib.sha256(server[1].files[PATH]).hexdigest()
    assert server[0] in notice and digest in notice and known.address in notice
    assert json.loads((root / "checksums.json").read_text()) == {server[0]: f"sha256:{digest}"}


def test_a_set_that_is_there_is_left_alone(root, server, capsys):
    fetch("nuclei", server[0])
    requests = len(server[1].requests)
    fetch("nuclei", server[0])
    fetch("nuclei_dsb2018")
    assert "is there already" in capsys.readouterr().out and len(server[1].requests) == requests


@pytest.mark.parametrize("name", REAL_SETS)
@pytest.mark.parametrize("way", ["local", "address"])
def test_every_set_in_its_official_layout(root, name, way, real_data, monkeypatch, tmp_path):
    folder = pack(name, real_data, tmp_path / "source")
    if way == "local":
        fetch(name, str(folder))
    else:
        with serving({f"/data/{file.name}": file.read_bytes() for file in folder.iterdir()}) as (address, _):
            fetch(name, f"{address}/data/")
    data = load_dataset(name)
    assert len(data.train) and len(data.val) and len(data.test)
    monkeypatch.setenv("UNETLAB_DATA", str(real_data))
    copy = load_dataset(name)
    images = {n: image for s in (copy.train, copy.val, copy.test) for n, image in zip(s.names, s.images, strict=True)}
    assert all(torch.equal(image, images[n]) for n, image in zip(data.train.names, data.train.images, strict=True))


@pytest.mark.parametrize("given", ["file", "folder", "unpacked", "above", "the other file"])
def test_local_sources(root, tmp_path, given, real_data):
    source = tmp_path / "source"
    if given == "file":
        source.mkdir()
        fetch("nuclei", str(zipped(FILES, source / "any name.zip")))
        assert is_whole(root)
    elif given == "folder":
        source.mkdir()
        zipped(FILES, source / "stage1_train.zip")
        fetch("nuclei", str(source))
        assert is_whole(root)
    elif given in ("unpacked", "above"):
        unpacked(FILES | {"private letter.png": b"not of the set"}, source / "stage1_train")
        fetch("nuclei", str(source / "stage1_train" if given == "unpacked" else source))
        assert load_dataset("nuclei").train and not list(root.glob("nuclei_dsb2018/**/private*"))
    else:
        pack("membranes", real_data, source)
        fetch("membranes", str(source / "train-volume.tif"))
        assert len(load_dataset("membranes").train)


def test_the_copies_for_tests_are_sources_too(root, real_data):
    fetch("membranes", str(real_data / "em_isbi2012"))
    assert torch.equal(load_dataset("membranes").train.images, fetch("membranes").train.images)


# ---------------------------------------------------------------------------------------------------- what may go wrong


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("ranges", [True, False])
def test_dropped_connections(root, server, ranges, chunked):
    address, behaviour = server
    behaviour.ranges, behaviour.chunked = ranges, chunked
    behaviour.drop_after, behaviour.drops = 40_000, 10**9 if ranges else 2
    assert len(behaviour.files[PATH]) > 3 * 40_000
    fetch("nuclei", address)
    assert is_whole(root)
    if ranges:
        starts = [int(span[6:-1]) for _, span in behaviour.requests if span]
        assert starts == sorted(set(starts)) and len(starts) >= 3  # each went on where the last one ended


def test_a_server_that_always_drops_at_the_same_place_then_a_retry(root, server):
    address, behaviour = server
    behaviour.drop_after, behaviour.ranges = 40_000, False
    refusal(address, address, "no answer that can be used", "--from FILE", root=root)
    assert len(behaviour.requests) == unetlab.fetch.ATTEMPTS
    behaviour.drop_after, behaviour.ranges = None, True
    fetch("nuclei", address)
    assert is_whole(root) and behaviour.requests[-1][1] == "bytes=40000-"


@pytest.mark.parametrize("status", [404, 403, 401, 410, 418])
def test_answers_that_no_retry_helps(root, server, status):
    server[1].status = status
    refusal(server[0], server[0], f"answered {status}", root=root)
    assert len(server[1].requests) == 1
    server[1].status = None
    fetch("nuclei", server[0])
    assert is_whole(root)


def test_answers_that_may_be_better_the_next_time(root, server):
    server[1].statuses = [500, 503]
    fetch("nuclei", server[0])
    assert is_whole(root) and len(server[1].requests) == 3


def test_a_server_that_stays_out_of_order(root, server):
    server[1].status = 500
    refusal(server[0], "answered 500", "synthetic scenes", root=root)
    assert len(server[1].requests) == unetlab.fetch.ATTEMPTS


@pytest.mark.parametrize("vice", ["silent", "trickle"])
def test_slow_servers(root, server, vice):
    if vice == "silent":
        server[1].silent = True
    else:
        server[1].pause = 0.02
    start = time.monotonic()
    refusal(server[0], "no answer that can be used", root=root)
    assert time.monotonic() - start < 8
    server[1].silent, server[1].pause = False, 0
    fetch("nuclei", server[0])
    assert is_whole(root)


@pytest.mark.parametrize("to", [lambda path: path, lambda path: path + "x", lambda path: "file:///etc/passwd"])
def test_redirects_that_lead_nowhere(root, server, to):
    server[1].redirect = to
    refusal(server[0], "cannot be loaded", "check the address", root=root)
    assert len(server[1].requests) <= 12


def test_a_redirect_that_leads_somewhere(root, server):
    with serving({}) as (address, behaviour):
        behaviour.redirect = lambda path: server[0]
        fetch("nuclei", address + PATH)
    assert is_whole(root)


def test_a_length_that_is_too_long(root, server):
    server[1].length, server[1].ranges = 500, False
    refusal(server[0], "no answer that can be used", root=root)
    server[1].ranges = True  # now it can be asked for the rest, and says that there is none
    fetch("nuclei", server[0])
    assert is_whole(root)


def test_a_length_that_is_too_short(root, server):
    server[1].length = -500
    refusal(server[0], "neither a zip nor a tar archive, or damaged", root=root)
    server[1].length = 0
    fetch("nuclei", server[0])
    assert is_whole(root)


def evil(files):
    """{name: content} as bytes of a tar, with names that lead out."""
    return files | {"../../../victim": b"evil"}


@pytest.mark.parametrize(
    "bad", ["html", "empty", "truncated", "flipped", "way out", "bomb", "another set", "half a set"]
)
def test_wrong_content_then_a_retry(root, server, archive, tmp_path_factory, bad):
    folder = tmp_path_factory.mktemp("bad")
    middle, half = len(archive) // 2, {name: content for name, content in FILES.items() if name != "n3/masks/0.png"}
    server[1].files[PATH] = {
        "html": lambda: b"<html>" + b"Please log in. " * 500,
        "empty": lambda: b"",
        "truncated": lambda: archive[:-3000],
        "flipped": lambda: archive[:middle] + bytes([archive[middle] ^ 255]) + archive[middle + 1 :],
        "way out": lambda: tarred(evil(FILES), folder / "x.tar").read_bytes(),
        "bomb": lambda: zipped(FILES | {"zeros": bytes(1 << 26)}, folder / "x.zip").read_bytes(),
        "another set": lambda: zipped({"cats/1.jpg": b"x"}, folder / "x.zip").read_bytes(),
        "half a set": lambda: zipped(half, folder / "x.zip").read_bytes(),
    }[bad]()
    refusal(server[0], root=root)
    server[1].files[PATH] = archive
    fetch("nuclei", server[0])
    assert is_whole(root)


def test_parts_of_two_different_files_are_not_accepted(root, server, archive, tmp_path_factory):
    """The file changes while it is loaded: what was glued together is thrown away."""
    other = zipped(dict(reversed(FILES.items())), tmp_path_factory.mktemp("other") / "x.zip").read_bytes()
    address, behaviour = server
    behaviour.files[PATH], behaviour.drop_after, behaviour.ranges = other, 40_000, False
    refusal(address, "no answer")
    behaviour.files[PATH], behaviour.drop_after, behaviour.ranges = archive, None, True
    refusal(address, root=root)
    fetch("nuclei", address)
    assert is_whole(root)


def test_sums_beside_the_files_are_compared(root, tmp_path):
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}" for name, content in FILES.items()]
    sums = {"SHA256SUMS": "\n".join(lines).encode()}
    (tmp_path / "source").mkdir()
    wrong = zipped(FILES | sums | {"n3/images/n3.png": FILES["n4/images/n4.png"]}, tmp_path / "source/a.zip")
    refusal(str(wrong), "nuclei/n3/images/n3.png: not the file that SHA256SUMS means", root=root)
    fetch("nuclei", str(zipped(FILES | sums, tmp_path / "source/b.zip")))


def test_a_published_checksum(root, server, archive, monkeypatch):
    address = server[0].removesuffix(PATH) + "/"
    known = replace(REAL_SETS["nuclei"], address=address, files={PATH[1:]: "md5:" + hashlib.md5(archive).hexdigest()})
    monkeypatch.setitem(REAL_SETS, "nuclei", known)
    server[1].files[PATH] = zipped(FILES | {"more": b""}, root.parent / "source").read_bytes()
    refusal(None, server[0], "not the one with the md5:", root=root)
    server[1].files[PATH] = archive
    fetch("nuclei")
    assert is_whole(root)


def test_a_checksum_recorded_at_first_use(root, server, tmp_path):
    fetch("nuclei", server[0])
    for path in sorted(root.glob("nuclei_dsb2018/**/*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    whole = server[1].files[PATH]
    server[1].files[PATH] = zipped(FILES | {"more": b""}, tmp_path / "source").read_bytes()
    with pytest.raises(DataError, match="not the one with the sha256:.* remove its line from .*checksums.json"):
        fetch("nuclei", server[0])
    server[1].files[PATH] = whole
    fetch("nuclei", server[0])
    assert is_whole(root)


# ----------------------------------------------------------------------------------------------------- what is asked for


@pytest.mark.parametrize("name", ["membranes", "aerial"])
def test_sets_that_want_an_account_say_what_to_do(root, name):
    known = REAL_SETS[name]
    text = refusal(None, known.address, known.by_hand, f"unetlab data fetch {name} --from", name=name)
    assert not root.exists() and len(text) < 300


def test_offline(root):
    refusal("http://127.0.0.1:9/stage1_train.zip", "Connection refused", "--from FILE", "synthetic scenes", root=root)
    refusal("http://no-such-host.invalid/x.zip", "no-such-host.invalid", root=root)


def test_sources_that_are_none(root, tmp_path):
    (tmp_path / "source").mkdir()
    refusal(str(tmp_path / "nowhere"), "nowhere: there is no such file or folder")
    refusal(str(tmp_path / "source"), "holds neither stage1_train.zip nor the unpacked files of the set")
    refusal("ftp://127.0.0.1/x.zip", "only http:// and https://")
    refusal("http://[::1/x.zip", "no address")
    (tmp_path / "source/images.tar.gz").write_bytes(b"")
    refusal(str(tmp_path / "source/images.tar.gz"), "annotations.tar.gz: there is no such file", name="pets")
    with pytest.raises(ValueError, match="cells is drawn by the program: there is nothing to fetch"):
        fetch("cells")
    with pytest.raises(ValueError, match="Did you mean 'nuclei'?"):
        fetch("nucle")


def test_one_fetch_at_a_time(root, server):
    with unetlab.fetch._alone(root, "nuclei_dsb2018"):
        refusal(server[0], "another fetch of this set is running")
    fetch("nuclei", server[0])
    assert is_whole(root)


@pytest.mark.parametrize("moment", ["while it loads", "while it unpacks"])
def test_a_killed_fetch_leaves_nothing_half_made(root, server, moment):
    address, behaviour = server
    program = f"import unetlab.fetch as f; f.TIMEOUT = 60; f.fetch('nuclei', {address!r})"
    if moment == "while it loads":
        behaviour.pause = 0.0005
    else:
        slow = "import unetlab.archives as a, time; s = a._safe; a._safe = lambda *x: (time.sleep(0.3), s(*x))[1]; "
        program = slow + program
    process = subprocess.Popen([sys.executable, "-c", program], env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        wanted = "**/*.part" if moment == "while it loads" else ".nuclei_dsb2018.draft/*/*/*.png"
        for _ in range(1200):
            if any(file.stat().st_size for file in root.glob(wanted)):
                break
            time.sleep(0.05)
        else:
            raise AssertionError("it never began")
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (root / "nuclei_dsb2018").exists()
    with pytest.raises(DataError, match="is not there; get it with"):
        load_dataset("nuclei")
    behaviour.pause = 0
    fetch("nuclei", address)
    assert is_whole(root)
    if moment == "while it loads":
        assert behaviour.requests[-1][1] not in (None, "bytes=0-")
    else:
        assert len(behaviour.requests) == 1  # the archive was whole already

"""unetlab data list | fetch | check, as a learner gives them."""

import re

import numpy as np
import pytest
from official import draw_nuclei, zipped
from PIL import Image

from unetlab.cli import main
from unetlab.realsets import REAL_SETS


@pytest.fixture
def unetlab(capsys, tmp_path, monkeypatch):
    """Run a command in an empty folder; returns (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def no_sets(tmp_path, monkeypatch):
    monkeypatch.delenv("UNETLAB_DATA", raising=False)
    monkeypatch.setenv("UNETLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/data"


def own(folder, n=10):
    """folder/images and folder/masks: n pictures of noise with a disc, masks of 0 and 255."""
    rng, (rows, columns) = np.random.default_rng(0), np.mgrid[:40, :50]
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(n):
        disc = np.hypot(rows - 20, columns - 12 - 2 * i) < 9
        coarse = np.kron(rng.integers(0, 180, (5, 5)), np.ones((8, 10), int))
        Image.fromarray((coarse + 60 * disc).astype(np.uint8)).save(folder / f"images/{i}.png")
        Image.fromarray(disc.astype(np.uint8) * 255).save(folder / f"masks/{i}.png")
    return folder


def test_list_without_real_sets(unetlab, no_sets):
    code, out, err = unetlab("data", "list")
    assert (code, err) == (0, "") and str(no_sets) in out
    for name in ("cells", "animals", "roads", "defects"):
        assert re.search(f"^{name} .*always there$", out, re.MULTILINE)
    for name in REAL_SETS:
        assert re.search(f"^{name} .*not here: unetlab data fetch {name}\n +licence: ", out, re.MULTILINE)


def test_list_with_real_sets(unetlab, real_data):
    assert re.search(rf"^nuclei .* \d+  {re.escape(str(real_data))}", unetlab("data", "list")[1], re.MULTILINE)


def test_fetch_then_list_then_check(unetlab, no_sets, tmp_path):
    archive = zipped(draw_nuclei(), tmp_path / "stage1_train.zip")
    code, out, err = unetlab("data", "fetch", "nuclei", "--from", archive)
    assert (code, err) == (0, "") and "licence CC0" in out and f"is in {no_sets / 'nuclei_dsb2018'}" in out
    assert re.search(rf"^nuclei .* 10  {re.escape(str(no_sets))}", unetlab("data", "list")[1], re.MULTILINE)
    assert unetlab("data", "check", "nuclei")[0] == 0
    code, out, err = unetlab("data", "fetch", "nuclei")
    assert (code, err) == (0, "") and "is there already" in out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["nuclei", "--from", "http://127.0.0.1:9/x.ZIP"], "Connection refused"),
        (["nuclei", "--from", "nowhere.zip"], "nowhere.zip: there is no such file or folder"),
        (["membranes"], "wants to know you: register there"),
        (["aerial"], "unetlab data fetch aerial --from"),
        (["cells"], "nothing to fetch"),
        (["nucle"], "Did you mean 'nuclei'?"),
        ([], "NAME"),
    ],
)
def test_a_fetch_that_cannot_be(unetlab, no_sets, monkeypatch, arguments, words):
    monkeypatch.setattr("unetlab.fetch.PAUSE", 0.01)
    code, _, err = unetlab("data", "fetch", *arguments)
    (line,) = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert code == 2 and line.startswith("error: ") and words in line
    assert unetlab("data", "list")[1].count("not here") == 6


@pytest.mark.parametrize("name", ["cells", "roads"])
def test_check_of_a_scene(unetlab, tmp_path, name):
    code, out, err = unetlab("data", "check", name)
    assert (code, err) == (0, "") and out.endswith("Nothing wrong was found.\n")
    assert re.search(r"^train    96 images, .* groups,   \d+ empty;  background \d+\.\d%, ", out, re.MULTILINE)
    assert re.search("^val      64 images", out, re.MULTILINE) and re.search("^test     64 images", out, re.MULTILINE)
    with Image.open(tmp_path / f"{name}_sheet.png") as sheet:
        assert sheet.width > 500


@pytest.mark.parametrize("name", REAL_SETS)
def test_check_of_a_real_set(unetlab, real_data, name):
    code, out, err = unetlab("data", "check", name)
    assert code == 0 and err.startswith("note: "), out
    for part in ("train", "val", "test"):
        (line,) = re.findall(f"^{part} .*$", out, re.MULTILINE)
        assert sum(map(float, re.findall(r"([\d.]+)%", line))) == pytest.approx(100, abs=0.3)
        assert ("empty" in line) == (name != "aerial")  # where every class is an object, no mask is empty


def test_check_of_a_folder(unetlab, tmp_path):
    folder = own(tmp_path / "mine")
    by_folder = unetlab("data", "check", folder, "--sheet", "s.png")
    by_name = unetlab("data", "check", "--images", folder / "images", "--masks", folder / "masks", "--sheet", "s.png")
    assert by_folder == by_name and (tmp_path / "s.png").stat().st_size > 5000
    code, out, err = by_folder
    assert code == 0 and err == "note: masks of 0 and 255: read as 0 (background) and 1 (foreground)\n"
    assert re.search("8 images,    8 groups,   0 empty;  background 8.\\..%, foreground 1.\\..%", out)


def test_check_lists_all_that_is_wrong(unetlab, tmp_path):
    folder = own(tmp_path / "mine", 14)
    (folder / "masks/2.png").unlink()
    (folder / "masks/x.png").write_bytes((folder / "masks/3.png").read_bytes())
    (folder / "images/4.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((40, 51), np.uint8)).save(folder / "masks/5.png")
    Image.fromarray(np.full((40, 50), 7, np.uint8)).save(folder / "masks/6.png")
    (folder / "images/7.png").write_bytes((folder / "images/8.png").read_bytes())
    code, out, _ = unetlab("data", "check", folder)
    wrong = re.findall("^WRONG  (.*)$", out, re.MULTILINE)
    assert code == 1 and len(wrong) == 6 and "6 problems" in out
    for name, words in (
        ("masks/x.png", "a mask without an image"),
        ("images/2.png", "has no mask"),
        ("images/4.png", "no picture that can be read"),
        ("images/5.png", "has 50 x 40 pixels, its mask"),
        ("masks/6.png", "the mask holds 7"),
        ("7.png", "the same picture twice, with different masks"),
    ):
        assert any(name in line and words in line for line in wrong), (name, wrong)
    assert (tmp_path / "mine_sheet.png").exists()  # of what is right


def test_check_finds_the_same_picture_in_two_splits(unetlab, tmp_path):
    folder = own(tmp_path / "mine", 12)
    for i in range(12):  # each picture once more, brighter and as JPEG
        image = Image.open(folder / f"images/{i}.png").point(lambda value: 20 + value * 0.9)
        image.save(folder / f"images/{i}_again.jpg", quality=80)
        (folder / f"masks/{i}_again.png").write_bytes((folder / f"masks/{i}.png").read_bytes())
    code, out, _ = unetlab("data", "check", folder)
    assert code == 1 and "nearly the same picture in two splits (give the two one group, see --groups)" in out
    code, out, _ = unetlab("data", "check", folder, "--groups", r"^(\d+)")
    assert code == 0 and "Nothing wrong" in out


def test_check_wants_one_thing(unetlab, tmp_path):
    folder = own(tmp_path / "mine")
    for given in ([], ["--images", folder], ["cells", "--images", folder / "images", "--masks", folder / "masks"]):
        code, _, err = unetlab("data", "check", *given)
        assert code == 2 and "say what to check" in err
    assert "Did you mean 'nuclei'?" in unetlab("data", "check", "nucle")[2]
    assert "holds no images/ and masks/; name the two with --images" in unetlab("data", "check", folder / "images")[2]

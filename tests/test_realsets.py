"""unetlab/realsets.py: the door to all data, and the six real sets where their files are (else these are skipped)."""

import json
import os
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from unetlab.classes import IGNORE
from unetlab.files import DataError
from unetlab.realsets import REAL_SETS, available_datasets, load_dataset
from unetlab.scenes import SCENES

RNG = np.random.default_rng(0)
load_once = cache(load_dataset)


FOUND = {row.name for row in available_datasets() if row.folder}


def needs(*names):
    """Run a test for these sets; where the files of one are missing it is skipped, and says so."""
    reason = "the real set {!r} is not there: let UNETLAB_DATA name the folder that holds {}/"
    missing = {name: reason.format(name, REAL_SETS[name].folder) for name in names if name not in FOUND}
    marks = {name: pytest.mark.skipif(name in missing, reason=missing.get(name, "")) for name in names}
    return pytest.mark.parametrize("name", [pytest.param(name, marks=marks[name]) for name in names])


def parts(data):
    return [data.train, data.val, data.test]


def share(data, class_id):
    """Share of the pixels that count which belong to a class, over all splits."""
    masks = torch.cat([split.masks.flatten() for split in parts(data)])
    return ((masks == class_id).sum() / (masks != IGNORE).sum()).item()


def names(data):
    return [name for split in parts(data) for name in split.names]


# --------------------------------------------------------------------------------------------------- without real files


@pytest.mark.parametrize("name", SCENES)
def test_scenes_need_no_download(name, monkeypatch):
    monkeypatch.delenv("UNETLAB_DATA", raising=False)
    data = load_dataset(name, size=16, n=7)
    assert [len(split) for split in parts(data)] == [7, 64, 64] and data.train.images.shape[2:] == (16, 16)


def test_a_scene_has_usual_sizes_and_takes_knobs():
    data = load_dataset("cells")
    assert [len(split) for split in parts(data)] == [96, 64, 64] and data.train.images.shape == (96, 1, 64, 64)
    few, many = (load_dataset("cells", n=(8, 8, 8), foreground=f).train.masks.float().mean() for f in (0.05, 0.3))
    assert few < 0.1 < 0.2 < many


@pytest.mark.parametrize("name, close", [("nucleii", "nuclei"), ("Cells", "cells"), ("road", "roads")])
def test_an_unknown_name_lists_the_known_ones(name, close):
    with pytest.raises(ValueError, match=f"no data set '{name}'. Did you mean '{close}'?") as caught:
        load_dataset(name)
    assert all(known in str(caught.value) for known in [*SCENES, *REAL_SETS])
    with pytest.raises(ValueError, match="no data set 'xyz'. There are: "):
        load_dataset("xyz")


@pytest.mark.parametrize("name", REAL_SETS)
def test_a_set_that_is_not_there_says_what_to_do(name, tmp_path, monkeypatch):
    known = REAL_SETS[name]
    monkeypatch.setenv("UNETLAB_CACHE", str(tmp_path / "cache"))
    for root in (None, tmp_path):
        monkeypatch.delenv("UNETLAB_DATA", raising=False)
        if root:
            monkeypatch.setenv("UNETLAB_DATA", str(root))
        words = (
            f"{(root or tmp_path / 'cache/data') / known.folder} is not there; get it with: unetlab data fetch {name} "
        )
        for alias in (name, known.folder):
            with pytest.raises(DataError) as caught:
                load_dataset(alias)
            text = str(caught.value)
            assert words in text and known.folder in text and known.address in text and "\n" not in text
            assert f'load_dataset("{known.stand_in}")' in text and known.stand_in in SCENES


@pytest.mark.parametrize("name", REAL_SETS)
def test_an_empty_folder_of_a_set(name, tmp_path, monkeypatch):
    (tmp_path / REAL_SETS[name].folder).mkdir()
    monkeypatch.setenv("UNETLAB_DATA", str(tmp_path))
    with pytest.raises(DataError, match=f"{REAL_SETS[name].folder}: no pictures of the set '{name}'"):
        load_dataset(name)


def test_available_datasets_without_files(monkeypatch):
    monkeypatch.delenv("UNETLAB_DATA", raising=False)
    rows = {row.name: row for row in available_datasets()}
    assert set(rows) == {*SCENES, *REAL_SETS}
    assert {row.area for row in rows.values()} == {"medical", "natural", "remote sensing", "industrial"}
    for row in rows.values():
        assert row.kind == ("synthetic" if row.name in SCENES else "real")
        assert row.folder is None and row.images is None and row.licence


def write_tiny_sets(root):
    """Two of the sets in their own layout and encoding, with files of ours."""

    def save(array, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)

    for i in range(10):
        ids = np.zeros((30, 40), np.uint8)
        ids[:10], ids[10:12], ids[12:] = 1, 3, 2
        save(RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8), root / f"pets_oxford_sample/images/dogs/pug_{i}.jpg")
        save(ids, root / f"pets_oxford_sample/annotations/trimaps/pug_{i}.png")
        folder = root / f"nuclei_dsb2018/stage1_train/{i:08}"
        save(RNG.integers(0, 256, (64, 64, 4), dtype=np.uint8), folder / f"images/{i:08}.png")
        for k in range(2):
            nucleus = np.zeros((64, 64), np.uint8)
            nucleus[20 * k : 20 * k + 10, :8] = 255
            save(nucleus, folder / f"masks/{k}.png")


def test_the_readers_on_tiny_sets(tmp_path, monkeypatch):
    write_tiny_sets(tmp_path)
    monkeypatch.setenv("UNETLAB_DATA", str(tmp_path))
    pets = load_dataset("pets", size=30)
    assert [len(split) for split in parts(pets)] == [6, 2, 2] and pets.ignore_index == IGNORE
    assert pets.train.masks[0, :, 0].tolist() == [1] * 10 + [IGNORE] * 2 + [0] * 18
    nuclei = load_dataset("nuclei", size=64)
    assert nuclei.in_channels == 1 and share(nuclei, 1) == pytest.approx(160 / 64**2)
    assert len(load_dataset("nuclei", size=32).train) == 4 * len(nuclei.train)
    assert [len(split) for split in parts(load_dataset("nuclei", size=32, n=(5, 2, 1)))] == [5, 2, 1]
    assert len(load_dataset("nuclei", size=32, n=5).val) == 8


def test_damaged_files_of_a_set_are_named(tmp_path, monkeypatch):
    write_tiny_sets(tmp_path)
    monkeypatch.setenv("UNETLAB_DATA", str(tmp_path))
    mask = tmp_path / "pets_oxford_sample/annotations/trimaps/pug_3.png"
    Image.fromarray(np.full((30, 40), 9, np.uint8)).save(mask)
    with pytest.raises(DataError, match=r"pug_3\.png: the mask holds 9, which is no class"):
        load_dataset("pets")
    Image.fromarray(np.full((30, 41), 1, np.uint8)).save(mask)
    with pytest.raises(DataError, match=r"pug_3\.jpg has 40 x 30 pixels, its mask .*pug_3\.png has 41 x 30"):
        load_dataset("pets")
    mask.unlink()
    with pytest.raises(DataError, match=r"pug_3\.png: there is no such file"):
        load_dataset("pets")


def test_a_set_is_read_once(tmp_path, monkeypatch):
    write_tiny_sets(tmp_path)
    monkeypatch.setenv("UNETLAB_DATA", str(tmp_path))
    monkeypatch.setenv("UNETLAB_CACHE", str(tmp_path / "cache"))
    first = load_dataset("pets", size=30)
    monkeypatch.setattr("unetlab.realsets.read_all", lambda items, read: [read(item) for item in items])

    def refuse(item, coding, size):
        raise AssertionError(f"{item.name} was read again")

    monkeypatch.setitem(REAL_SETS, "pets", replace(REAL_SETS["pets"], read=refuse))
    again, other = load_dataset("pets", size=30), load_dataset("pets", size=30, seed=1, n=(3, 1, 1))
    assert torch.equal(again.train.images, first.train.images) and names(again) == names(first)
    assert [len(split) for split in parts(other)] == [3, 1, 1] and set(names(other)) <= set(names(first))
    with pytest.raises(AssertionError, match="was read again"):  # another size is another set of pieces
        load_dataset("pets", size=20)
    mask = tmp_path / "pets_oxford_sample/annotations/trimaps/pug_3.png"
    seconds = mask.stat().st_mtime_ns
    content = mask.read_bytes()
    mask.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(mask, ns=(seconds, seconds))
    with pytest.raises(AssertionError, match="was read again"):  # so are other bytes, whatever their time stamp says
        load_dataset("pets", size=30)


def test_a_split_file_decides_whatever_the_seed(tmp_path, monkeypatch):
    write_tiny_sets(tmp_path)
    monkeypatch.setenv("UNETLAB_DATA", str(tmp_path))
    first = load_dataset("pets", size=30)
    (tmp_path / "split.json").write_text(json.dumps(first.split_json()))
    again = load_dataset("pets", size=20, seed=7, split=tmp_path / "split.json")
    assert load_dataset("pets", size=20, seed=7).val.groups != first.val.groups
    assert [split.groups for split in parts(again)] == [split.groups for split in parts(first)]
    with pytest.raises(ValueError, match="only real sets are split by a file"):
        load_dataset("cells", split=tmp_path / "split.json")


@pytest.mark.parametrize("options", [{"size": 0}, {"n": 0}, {"n": (5, 5)}, {"n": (5, 5, -1)}])
@pytest.mark.parametrize("name", ["cells", "pets"])
def test_sizes_and_numbers_that_make_no_sense(name, options):
    with pytest.raises(ValueError, match="must be 1 or more"):
        load_dataset(name, **options)


def test_a_nucleus_without_its_mask_is_no_background(tmp_path, monkeypatch):
    write_tiny_sets(tmp_path)
    monkeypatch.setenv("UNETLAB_DATA", str(tmp_path))
    folder = tmp_path / "nuclei_dsb2018/stage1_train/00000004/masks"
    Image.fromarray(np.zeros((64, 65), np.uint8)).save(folder / "1.png")
    with pytest.raises(DataError, match="00000004/masks: 2 masks, not all of the size of"):
        load_dataset("nuclei")
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(DataError, match="00000004/masks: 0 masks"):
        load_dataset("nuclei")


def test_knobs_belong_to_scenes(tmp_path, monkeypatch):
    write_tiny_sets(tmp_path)
    monkeypatch.setenv("UNETLAB_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="noise: only the synthetic scenes"):
        load_dataset("pets", noise=0.1)


# ------------------------------------------------------------------------------------------------------ the real files

SHAPES = {
    "nuclei": (1, 256),
    "membranes": (1, 256),
    "hippocampus": (1, 64),
    "pets": (3, 128),
    "aerial": (3, 128),
    "tiles": (1, 128),
}
ON_DISK = {"nuclei": 96, "membranes": 30, "hippocampus": 110, "pets": 111, "aerial": 72, "tiles": 432}


@needs(*REAL_SETS)
def test_every_real_set_keeps_the_contract(name):
    data = load_once(name)
    channels, size = SHAPES[name]
    for split in parts(data):
        assert split.images.shape == (len(split), channels, size, size) and split.images.dtype == torch.uint8
        assert split.masks.shape == (len(split), size, size) and split.masks.dtype == torch.uint8
        assert len(split) == len(split.names) == len(split.groups) > 0
        assert set(split.masks.unique().tolist()) <= {*range(len(data.class_names)), data.ignore_index}
        assert split.images.float().std() > 10
    groups = [set(split.groups) for split in parts(data)]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert len(set(names(data))) == len(names(data))
    assert data.real and data.name == name and data.notes and data.in_channels == channels
    assert all(share(data, i) > 0 for i in range(len(data.class_names)))


@needs(*REAL_SETS)
def test_what_is_found_on_disk(name):
    row = next(row for row in available_datasets() if row.name == name)
    # Fewer or more than the copies made for testing: a full download.
    assert row.images == ON_DISK[name] or row.images > 200
    assert row.kind == "real" and row.folder.is_dir()


@needs("membranes")
def test_the_same_seed_gives_the_same_split(name):
    first, again, other = load_once(name), load_dataset(name), load_dataset(name, seed=2)
    assert names(first) == names(again) and torch.equal(first.val.images, again.val.images)
    assert set(other.val.names) != set(first.val.names) or set(other.test.names) != set(first.test.names)


@needs("nuclei")
def test_nuclei_are_a_seventh_of_the_picture_and_every_stain_is_in_every_split(name):
    data = load_once(name)
    assert 0.1 < share(data, 1) < 0.25
    for split in parts(data):
        bright = (split.images.float().mean((1, 2, 3)) > 100).float().mean()
        assert 0.05 < bright < 0.35


@needs("membranes")
def test_the_membrane_is_the_dark_fifth_and_slices_go_in_blocks(name):
    data = load_once(name)
    assert share(data, 1) == pytest.approx(0.2196, abs=1e-4)
    images, masks = (
        torch.cat([getattr(split, part).flatten() for split in parts(data)]) for part in ("images", "masks")
    )
    assert images[masks == 1].float().mean() < images[masks == 0].float().mean() - 30
    for split in (data.val, data.test):
        numbers = sorted({int(slice_name.split("-")[1].split("/")[0]) for slice_name in split.names})
        assert numbers == list(range(numbers[0], numbers[0] + 5))
    whole = load_dataset(name, size=512)
    assert len(data.train) == 4 * len(whole.train)
    assert torch.equal(data.train.images[3, 0], whole.train.images[0, 0, 256:, 256:])


@needs("hippocampus")
def test_hippocampus_slices_show_front_and_back_on_one_scale(name):
    data = load_once(name)
    assert data.num_classes == 3 and data.class_names[1:] == ("anterior", "posterior")
    masks = torch.cat([split.masks for split in parts(data)])
    empty = (masks.flatten(1).max(1).values == 0).float().mean()
    assert 0.08 < empty < 0.2
    columns = torch.arange(64.0)
    front, back = (((masks == i).sum(1) * columns).sum() / (masks == i).sum() for i in (1, 2))
    assert front > back + 5  # the front is on the right
    by_group = {}
    for image, group in zip(data.train.images, data.train.groups, strict=True):
        by_group.setdefault(group, []).append(image.float().max())
    assert all(max(values) == 255 for values in by_group.values())


@needs("pets")
def test_pets_stand_before_a_background_and_their_border_does_not_count(name):
    data = load_once(name)
    assert data.num_classes == 1 and data.ignore_index == IGNORE
    masks = torch.cat([split.masks for split in parts(data)])
    assert 0.2 < share(data, 1) < 0.5 and 0.05 < (masks == IGNORE).float().mean() < 0.2
    middle, rim = masks[:, 48:80, 48:80], torch.cat([masks[:, 0].flatten(), masks[:, :, 0].flatten()])
    assert (middle == 1).float().mean() > 0.6 and (rim == 1).float().mean() < 0.2


@needs("aerial")
def test_aerial_masks_are_read_by_colour_in_every_tile(name):
    data = load_once(name)
    assert data.num_classes == 5 and data.ignore_index == IGNORE
    assert set(data.train.groups) | set(data.val.groups) | set(data.test.groups) == {f"Tile {i}" for i in range(1, 9)}
    for split in parts(data):  # palettes of tiles 2 and 4 differ from file to file; read by index they would be noise
        for tile in set(split.groups):
            chosen = torch.tensor([group == tile for group in split.groups])
            images, masks = split.images[chosen].float(), split.masks[chosen]
            water, land = (images.mean(1)[masks == i] for i in (4, 1))
            if len(water) > 5000:
                assert water.mean() < land.mean()
    assert share(data, 1) > max(share(data, i) for i in (0, 2, 3))


@needs("tiles")
def test_exposures_of_one_magnetic_tile_stay_together(name):
    data = load_once(name)
    where = {}
    for index, split in enumerate(parts(data)):
        for piece in split.names:
            number = int(piece.split("/")[1].split("_")[-1])
            where.setdefault(number, set()).add(index)
    numbers = sorted(where)
    close = [(a, b) for a, b in zip(numbers, numbers[1:], strict=False) if b - a <= 1200]
    assert len(close) > 50 and all(where[a] == where[b] and len(where[a]) == 1 for a, b in close)


@needs("tiles")
def test_defects_and_their_absence(name):
    data = load_once(name)
    for split in parts(data):
        shown = split.masks.flatten(1).sum(1) > 0
        assert 0.8 < shown.float().mean() < 0.98
        kinds = {piece.split("/")[0] for piece in split.names}
        assert kinds == {"MT_Blowhole", "MT_Break", "MT_Crack", "MT_Fray", "MT_Free", "MT_Uneven"}
        free = torch.tensor(["MT_Free" in piece for piece in split.names])
        assert not shown[free].any()

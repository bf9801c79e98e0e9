"""unetlab/datasets.py: pairs, groups, sizes and splits of a learner's folder; every kind of bad input named."""

import json
import re
import warnings

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from unetlab.datasets import Dataset, Split, load_folder, load_scene, nearest, read_pair, smoothed, split_by_group
from unetlab.files import DataError, DataNote
from unetlab.scenes import SCENES

RNG = np.random.default_rng(0)


def picture(height=30, width=40, channels=3):
    return RNG.integers(0, 256, (height, width, channels), dtype=np.uint8).squeeze()


def disc(height=30, width=40, value=1):
    rows, columns = np.mgrid[:height, :width]
    return np.uint8(value) * (np.hypot(rows - height / 2, columns - width / 2) < height / 3)


def save(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def folder(tmp_path):
    """images/ and masks/ with ten good pairs, 00 to 09."""
    for i in range(10):
        save(picture(), tmp_path / f"images/{i:02}.png")
        save(disc(), tmp_path / f"masks/{i:02}.png")
    return tmp_path


def load(folder, **options):
    """load_folder on images/ and masks/ with its notes quiet: a test that cares about them looks at data.notes."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DataNote)
        return load_folder(folder / "images", folder / "masks", **options)


def refusal(folder, *words, **options):
    """The one line of the DataError, free of any library's traceback."""
    with pytest.raises(DataError) as caught:
        load(folder, **options)
    text, error = str(caught.value), caught.value
    assert "\n" not in text and error.__cause__ is None and (error.__suppress_context__ or error.__context__ is None)
    for word in words:
        assert word in text
    return text


def all_parts(data):
    return [data.train, data.val, data.test]


# ----------------------------------------------------------------------------------------------------------- good input


def test_a_plain_folder(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load_folder(str(folder / "images"), folder / "masks", test_fraction=0.2)
    assert [len(split) for split in all_parts(data)] == [6, 2, 2]
    for split in all_parts(data):
        assert split.images.dtype == split.masks.dtype == torch.uint8
        assert split.images.shape == (len(split), 3, 30, 40) and split.masks.shape == (len(split), 30, 40)
        assert split.images.is_contiguous()
        for name, image, mask in zip(split.names, split.images, split.masks, strict=True):
            assert np.array_equal(image.permute(1, 2, 0), np.asarray(Image.open(folder / "images" / name)))
            assert np.array_equal(mask, disc())
    assert sorted(sum((split.names for split in all_parts(data)), [])) == [f"{i:02}.png" for i in range(10)]
    assert data.class_names == ("background", "foreground") and data.num_classes == 1 and data.in_channels == 3
    assert data.ignore_index is None and data.real and data.notes == []


def test_the_dataset_in_words_and_as_json(folder):
    data = load(folder, seed=3)
    words = "<Dataset 'images' (real): 8 train, 2 val, 0 test; 30x40 pixels, 3 channels; background, foreground>"
    assert repr(data) == words
    table = data.split_json()
    assert table["seed"] == 3 and table["val"] == {"names": data.val.names, "groups": data.val.groups}
    assert table["test"] == {"names": [], "groups": []}
    assert data.test.images.shape == (0, 3, 30, 40) and data.test.masks.shape == (0, 30, 40)


def test_more_than_two_classes_need_an_output_each():
    empty = Split(torch.zeros(0, 1, 4, 4, dtype=torch.uint8), torch.zeros(0, 4, 4, dtype=torch.uint8), [], [])
    assert Dataset("d", empty, empty, empty, ("a", "b")).num_classes == 1
    assert Dataset("d", empty, empty, empty, ("a", "b", "c")).num_classes == 3


@pytest.mark.parametrize(
    "image, mask",
    [
        ("a.jpg", "a.png"),
        ("a.png", "a_mask.png"),
        ("a.png", "a_masks.tif"),
        ("a.png", "a-label.gif"),
        ("a.png", "a_seg.png"),
        ("a.png", "a_segmentation.bmp"),
        ("a.png", "a_gt.png"),
        ("a.png", "a.mask.png"),
        ("a_sat.jpg", "a_mask.png"),
        ("img_a.png", "mask_a.png"),
        ("a_image.png", "a_mask.png"),
        ("a_mask.png", "a_mask.png"),
        ("sub/a.png", "sub/a_mask.png"),
        ("sub/a.png", "a.png"),
    ],
)
def test_names_that_belong_together(folder, image, mask):
    rgb = np.full((30, 40, 3), 200, np.uint8)
    save(rgb, folder / "images" / image)
    save(disc(value=1) if not mask.endswith("gif") else disc(), folder / "masks" / mask)
    data = load(folder)
    names = data.train.names + data.val.names
    assert len(names) == 11 and image in names
    split = data.train if image in data.train.names else data.val
    assert (split.images[split.names.index(image)] > 190).all()


def test_subfolders_keep_equal_names_apart(tmp_path):
    for patient in "ab":
        for i in range(2):
            save(picture(), tmp_path / f"images/{patient}/{i}.png")
            save(disc(), tmp_path / f"masks/{patient}/{i}.png")
    data = load(tmp_path, val_fraction=0.5)
    assert sorted(data.train.names + data.val.names) == ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]


def test_images_and_masks_in_one_folder(tmp_path):
    for patient in "ab":
        for i in range(3):
            save(picture(), tmp_path / f"images/{patient}/{i}.tif")
            save(disc(), tmp_path / f"images/{patient}/{i}_mask.tif")
    data = load_folder(tmp_path / "images", tmp_path / "images")
    assert len(data.train) + len(data.val) == 6 and not any("mask" in name for name in data.train.names)


def test_masks_without_an_image_are_said(folder):
    save(disc(), folder / "masks/extra.png")
    with pytest.warns(DataNote, match=r"masks without an image, left out \(1 file, first extra.png\)"):
        data = load_folder(folder / "images", folder / "masks")
    assert len(data.train) + len(data.val) == 10 and len(data.notes) == 1


def test_hidden_files_do_not_count(folder):
    for name in ("images/._00.png", "masks/.DS_Store", "images/.thumbs/x.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("not a picture")
    assert load(folder).notes == []


def test_each_kind_of_note_is_given_once_with_the_number_of_files(folder):
    for i in range(3):
        Image.fromarray(picture()).convert("RGBA").save(folder / f"images/0{i}.png")
    with pytest.warns(DataNote) as caught:
        data = load_folder(folder / "images", folder / "masks")
    assert data.notes == ["the alpha channel was dropped (3 files, first 00.png)"]
    assert [str(warning.message) for warning in caught] == data.notes
    assert caught[0].filename == __file__


def test_masks_of_0_and_255(folder):
    for i in range(10):
        save(disc(value=255), folder / f"masks/{i:02}.png")
    data = load(folder)
    assert data.notes == ["masks of 0 and 255: read as 0 (background) and 1 (foreground)"]
    assert data.train.masks.unique().tolist() == [0, 1]


def test_classes_by_colour_with_ignored_pixels(folder):
    table = np.array([[0, 0, 0], [60, 16, 152], [155, 155, 155]], np.uint8)
    for i in range(10):
        ids = disc()
        ids[:2] = 2
        save(table[ids], folder / f"masks/{i:02}.png")
    (folder / "classes.csv").write_text("name,colour\nbackground,#000000\nbuilding,#3C1098\nignore,#9B9B9B\n")
    data = load(folder, classes=folder / "classes.csv")
    assert data.ignore_index == 255 and data.class_names == ("background", "building") and data.num_classes == 1
    assert data.train.masks.unique().tolist() == [0, 1, 255] and (data.train.masks[:, :2] == 255).all()
    refusal(folder, "00.png", "#3C1098", "classes")


def test_one_colour_picture_makes_the_set_rgb(tmp_path):
    grey = picture(channels=1)
    for i in range(4):
        save(np.dstack([grey] * 3) if i % 2 else grey, tmp_path / f"images/{i}.png")
        save(disc(), tmp_path / f"masks/{i}.png")
    data = load(tmp_path)
    assert data.in_channels == 1 and np.array_equal(data.train.images[0, 0], grey)
    save(picture(), tmp_path / "images/2.png")
    data = load(tmp_path)
    assert data.in_channels == 3
    images = dict(zip(data.train.names + data.val.names, [*data.train.images, *data.val.images], strict=True))
    assert all(np.array_equal(channel, grey) for channel in images["0.png"])


def test_16_bit_pictures(folder):
    for i in range(10):
        tifffile.imwrite(folder / f"images/{i:02}.tif", (picture(channels=1) * 200.0).astype(np.uint16))
        (folder / f"images/{i:02}.png").unlink()
    data = load(folder)
    assert "more than 8 bits" in data.notes[0] and "(10 files, first 00.tif)" in data.notes[0]
    assert data.in_channels == 1 and data.train.images.max() == 255 and data.train.images.min() == 0


# ---------------------------------------------------------------------------------------------------------------- size


def test_pictures_are_made_smaller_to_the_median_aspect_ratio(tmp_path):
    for i, (height, width) in enumerate([(300, 400), (600, 800), (300, 400), (500, 400)]):
        save(picture(height, width), tmp_path / f"images/{i}.png")
        save(disc(height, width), tmp_path / f"masks/{i}.png")
    data = load(tmp_path, size=64)
    assert data.train.images.shape[2:] == (48, 64) == data.train.masks.shape[1:]
    assert data.notes == [
        "pictures of 3 size(s), all made 64 x 48 pixels",
        "stretched by more than a tenth, to the common aspect ratio (1 file, first 3.png)",
    ]
    for split in all_parts(data):
        for name, mask in zip(split.names, split.masks, strict=True):
            assert mask.unique().tolist() == [0, 1]
            original = np.asarray(Image.open(tmp_path / "masks" / name))
            assert mask.float().mean() == pytest.approx(original.mean(), abs=0.01)


@pytest.mark.parametrize("size, shape", [(256, (30, 40)), (40, (30, 40)), (20, (15, 20)), (1, (1, 1))])
def test_no_picture_is_made_larger_than_the_largest(folder, size, shape):
    assert load(folder, size=size).train.images.shape[2:] == shape


def test_portrait_pictures_keep_their_longer_side(tmp_path):
    for i in range(2):
        save(picture(80, 40), tmp_path / f"images/{i}.png")
        save(disc(80, 40), tmp_path / f"masks/{i}.png")
    assert load(tmp_path, size=40).train.images.shape[2:] == (40, 20)


def test_a_class_that_vanishes_in_a_smaller_mask_is_said(folder):
    speck = disc()
    speck[0, 0] = 2
    save(speck, folder / "masks/04.png")
    notes = load(folder, size=20).notes
    assert any("vanished" in note and "(1 file, first 04.png)" in note for note in notes)
    assert not any("vanished" in note for note in load(folder).notes)


def test_smoothing_averages_and_nearest_invents_nothing():
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))[..., None]
    assert np.abs(smoothed(stripes, (16, 16))[:, 1:-1].astype(float) - 127.5).max() < 30
    ids = RNG.integers(0, 9, (50, 70), dtype=np.uint8)
    assert np.array_equal(nearest(ids, (50, 70)), ids)
    assert np.array_equal(nearest(nearest(ids, (150, 210)), (50, 70)), ids)
    wanted = np.asarray(Image.fromarray(ids).resize((31, 17), Image.Resampling.NEAREST))
    assert np.array_equal(nearest(ids, (17, 31)), wanted)


def test_image_and_mask_stay_in_place_when_made_smaller(tmp_path):
    for i in range(4):
        mask = np.zeros((200, 300), np.uint8)
        mask[60 : 60 + 20 * i + 20, 50:250] = 1
        save(mask * np.uint8(255), tmp_path / f"images/{i}.png")
        save(mask, tmp_path / f"masks/{i}.png")
    data = load(tmp_path, size=37)
    drawn = data.train.images[:, 0] > 127
    agreement = {
        shift: (drawn.roll(shift, (1, 2)) == data.train.masks.bool()).float().mean().item()
        for shift in [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)]
    }
    assert max(agreement, key=agreement.get) == (0, 0) and agreement[0, 0] > 0.98


# ------------------------------------------------------------------------------------------------------------ bad input


def test_folders_that_do_not_serve(folder):
    for name in ("images", "masks"):
        (folder / name).rename(folder / "away")
        refusal(folder, str(folder / name), "no such folder")
        (folder / name).mkdir()
        refusal(folder, str(folder / name), "it is empty")
        (folder / name).rmdir()
        (folder / "away").rename(folder / name)


def test_a_single_image(tmp_path):
    save(picture(), tmp_path / "images/a.png")
    save(disc(), tmp_path / "masks/a.png")
    refusal(tmp_path, str(tmp_path / "images"), "a single image", "at least two")


def test_images_without_a_mask(folder):
    for i in range(4, 9):
        (folder / f"masks/{i:02}.png").unlink()
        text = refusal(folder, "04.png", f"{i - 3} of 10 images have no mask", "04_mask.png")
    assert "04.png, 05.png, 06.png, ...:" in text


def test_two_files_of_one_name(folder):
    save(picture(), folder / "images/03.jpg")
    refusal(folder, "03.jpg", "03.png", "two files")
    (folder / "images/03.jpg").unlink()
    save(disc(), folder / "masks/03_mask.png")
    refusal(folder, "masks/03.png", "masks/03_mask.png", "two files")


def test_a_mask_of_another_size(folder):
    save(disc(30, 41), folder / "masks/03.png")
    refusal(folder, "images/03.png has 40 x 30 pixels", "masks/03.png has 41 x 30", "this very picture")
    save(disc(40, 30), folder / "masks/03.png")
    save(disc(40, 30), folder / "masks/07.png")
    refusal(folder, "03.png", "30 x 40", "turned", "(1 more files with errors)")


def test_a_mask_value_outside_the_classes(folder):
    save(disc(value=7), folder / "masks/03.png")
    refusal(folder, "masks/03.png: the mask holds 7, which is no class (0, 1 are)", "mend")
    refusal(folder, "masks/03.png", "holds 7", classes=5)


@pytest.mark.parametrize("where", ["images", "masks"])
@pytest.mark.parametrize("kind", ["truncated", "empty", "text"])
def test_unreadable_files(folder, where, kind):
    for name in ("03.png", "08.png"):
        path = folder / where / name
        whole = path.read_bytes()
        path.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}[kind])
    refusal(folder, str(folder / where / "03.png"), "(1 more files with errors)")


def test_sizes_and_fractions_that_make_no_sense(folder):
    refusal(folder, "size=0", size=0)
    for val, test in ((0, 0), (1, 0), (-0.1, 0), (0.5, 0.5), (0.2, -0.1), (float("nan"), 0)):
        refusal(folder, "val_fraction", val_fraction=val, test_fraction=test)


# --------------------------------------------------------------------------------------------------------------- groups


def patients(folder):
    for i in range(10):
        for where in ("images", "masks"):
            (folder / where / f"{i:02}.png").rename(folder / where / f"p{i // 3}_{i:02}.png")
    return folder


def test_groups_by_regular_expression(folder):
    data = load(patients(folder), groups=r"^(p\d)_", val_fraction=0.3)
    assert set(data.train.groups) | set(data.val.groups) == {"p0", "p1", "p2", "p3"}
    assert not set(data.train.groups) & set(data.val.groups)
    for split in (data.train, data.val):
        assert all(name.startswith(group + "_") for name, group in zip(split.names, split.groups, strict=True))


def test_groups_by_folder(tmp_path):
    for i in range(6):
        save(picture(), tmp_path / f"images/p{i % 3}/{i}.png")
        save(disc(), tmp_path / f"masks/p{i % 3}/{i}.png")
    data = load(tmp_path, groups="^(.*)/")
    assert set(data.train.groups) | set(data.val.groups) == {"p0", "p1", "p2"}


def test_groups_by_table(folder):
    rows = [f"{name},g{i % 2}" for i in range(10) for name in [f"{i:02}.png" if i % 3 else f"{i:02}"]]
    (folder / "g.csv").write_text("\n".join(["name,group", *rows]))
    data = load(folder, groups=folder / "g.csv")
    assert {len(data.train), len(data.val)} == {5} and len(set(data.train.groups)) == 1


def test_groups_that_do_not_serve(folder):
    patients(folder)
    refusal(folder, "p0_00.png: no group found (3 of 10 images)", groups=r"(p[1-9])_")
    refusal(folder, "(...)", groups=r"p\d")
    refusal(folder, "regular expression", groups="(p")
    refusal(folder, "g.csv", "cannot be read", groups=folder / "g.csv")
    (folder / "g.csv").write_text("name,group\np0_00,a\np0_01,\n")
    refusal(folder, "p0_01.png: no group found (9 of 10 images)", "g.csv", groups=folder / "g.csv")
    refusal(folder, "10 pictures in 1 group(s)", "2 groups", groups="(p)")
    refusal(folder, "10 pictures in 2 group(s)", "3 groups", groups="(p0|p)", test_fraction=0.2)


def test_a_split_file_decides(folder):
    patients(folder)
    first = load(folder, groups=r"^(p\d)_", val_fraction=0.3, test_fraction=0.2)
    file = folder / "split.json"
    file.write_text(json.dumps(first.split_json()))
    again = load(folder, groups=r"^(p\d)_", val_fraction=0.5, seed=9, split=file)
    assert again.notes == [] and [s.names for s in all_parts(again)] == [s.names for s in all_parts(first)]
    save(picture(), folder / "images/p7_0.png")
    save(disc(), folder / "masks/p7_0.png")
    more = load(folder, groups=r"^(p\d)_", split=file)
    assert more.notes == ["1 groups that split.json does not name, left out (first p7)"]
    assert [s.names for s in all_parts(more)] == [s.names for s in all_parts(first)]


def test_split_files_that_do_not_serve(folder):
    file = folder / "split.json"
    parts = {part: {"groups": [f"0{i}.png"]} for i, part in enumerate(("train", "val", "test"))}
    for text, words in (
        ("{", "no split; it needs train, val and test"),
        ("[]", "no split"),
        (json.dumps({"train": parts["train"]}), "no split"),
        (json.dumps(parts | {"val": parts["train"]}), "the group '00.png' is in two parts"),
        (json.dumps(parts | {"val": {"groups": ["x.png"]}}), "the group 'x.png' is not in the data (1 such groups)"),
        (json.dumps(parts | {"val": {"groups": []}}), "train or val has no group"),
    ):
        file.write_text(text)
        refusal(folder, "split.json", words, split=file)
    file.unlink()
    refusal(folder, "split.json", "cannot be read", split=file)


def test_images_left_out(folder):
    (folder / "masks/03.png").unlink()
    data = load(folder, leave_out=[folder / "images/03.png", folder / "images/04.png"])
    names = data.train.names + data.val.names
    assert len(names) == 8 and not {"03.png", "04.png"} & set(names)


GROUPS = st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=60)
FRACTIONS = st.tuples(st.floats(0.01, 0.9), st.floats(0, 0.9)).filter(lambda pair: sum(pair) < 0.99)


@given(GROUPS, FRACTIONS, st.integers(0, 5), st.booleans())
def test_splits_keep_groups_whole(groups, fractions, seed, with_strata):
    val, test = fractions
    strata = [g in "abc" for g in groups] if with_strata else None
    if len(set(groups)) < (3 if test else 2):
        with pytest.raises(DataError):
            split_by_group(groups, val, test, seed, strata)
        return
    parts = split_by_group(groups, val, test, seed, strata)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(groups)))
    assert all(np.array_equal(part, np.sort(part)) for part in parts)
    members = [{groups[i] for i in part} for part in parts]
    assert not (members[0] & members[1] or members[0] & members[2] or members[1] & members[2])
    assert len(parts[0]) and len(parts[1]) and bool(len(parts[2])) == bool(test)
    for part, fraction in ((parts[1], val), (parts[2], test)):
        # More than its share only where its one group is larger than that.
        assert len(part) <= fraction * len(groups) + 0.5 or len({groups[i] for i in part}) == 1
    assert all(map(np.array_equal, parts, split_by_group(groups, val, test, seed, strata)))


def test_the_split_follows_names_and_seed_and_not_the_order_of_files():
    groups = [f"g{i}" for i in range(40)]
    shuffled = list(RNG.permutation(groups))

    def val_groups(groups, seed):
        return {groups[i] for i in split_by_group(groups, 0.25, 0.25, seed)[1]}

    assert val_groups(groups, 1) == val_groups(shuffled, 1) != val_groups(groups, 2)
    assert [len(part) for part in split_by_group(groups, 0.25, 0.25)] == [20, 10, 10]
    # Written down once: a change of this split would change every recorded run.
    assert split_by_group([f"g{i}" for i in range(10)], 0.2)[1].tolist() == [3, 7]


def test_strata_are_spread_evenly():
    groups = [f"g{i}" for i in range(100)]
    kinds = ["rare" if i % 5 == 0 else "common" for i in range(100)]
    for seed in range(20):
        for part in split_by_group(groups, 0.2, 0.2, seed, kinds)[1:]:
            assert sum(kinds[i] == "rare" for i in part) == 4
    plain = [sum(kinds[i] == "rare" for i in split_by_group(groups, 0.2, 0.2, seed)[1]) for seed in range(20)]
    assert len(set(plain)) > 2  # chance alone does not do it


# --------------------------------------------------------------------------------------------------------------- others


def test_read_pair(folder):
    image, raw = read_pair(folder / "images/00.png", folder / "masks/00.png")
    assert image.shape == (30, 40, 3) and np.array_equal(raw, disc())
    save(disc(9, 9), folder / "masks/00.png")
    with pytest.raises(DataError, match=re.escape("00.png has 40 x 30 pixels")):
        read_pair(folder / "images/00.png", folder / "masks/00.png")


@pytest.mark.parametrize("name", SCENES)
def test_scenes_as_datasets(name):
    data = load_scene(name, size=32, n=(5, 3, 2), seed=4, groups=2)
    assert [len(split) for split in all_parts(data)] == [5, 3, 2]
    assert data.train.images.shape[2:] == (32, 32) and data.train.images.dtype == data.train.masks.dtype == torch.uint8
    assert not data.real and data.class_names == ("background", name[:-1]) and data.num_classes == 1
    assert set(data.train.groups) == {"train-0", "train-1"} and not set(data.train.groups) & set(data.val.groups)
    assert not torch.equal(data.train.images[:2], data.val.images[:2])
    assert not torch.equal(data.val.images[:2], data.test.images[:2])
    again, other = (load_scene(name, size=32, n=(5, 3, 2), seed=seed, groups=2) for seed in (4, 5))
    assert torch.equal(again.val.images, data.val.images) and not torch.equal(other.val.images, data.val.images)

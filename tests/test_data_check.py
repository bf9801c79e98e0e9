"""unetlab/data_check.py: twins are found at other brightness and quality, and flat or merely similar pictures are none."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from unetlab.data_check import check_dataset, contact_sheet, near_identical
from unetlab.datasets import Dataset, Split, load_scene
from unetlab.scenes import SCENES, make_scene


def as_jpeg(image, quality):
    stream = io.BytesIO()
    Image.fromarray(image.movedim(0, -1).squeeze(-1).numpy()).save(stream, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(stream))).view(*image.shape[1:], -1).movedim(-1, 0)


@pytest.mark.parametrize("name", SCENES)
def test_twins_among_many(name):
    images = make_scene(name, 120, seed=3).images
    assert near_identical(images) == []
    darker = (images[:4].float() * 0.7 + 10).to(torch.uint8)
    copies = torch.stack([as_jpeg(image, 75) for image in images[4:8]])
    found = near_identical(torch.cat([images, darker, copies, images[8:12]]))
    assert found == [(i, 120 + i) for i in range(12)]


def test_flat_pictures_are_no_twins():
    rng = np.random.default_rng(0)
    nearly_black = torch.from_numpy(rng.integers(0, 4, (40, 1, 64, 64), dtype=np.uint8))
    vignette = torch.from_numpy(np.hypot(*np.mgrid[-1:1:64j, -1:1:64j]) * 4).to(torch.uint8).expand(9, 1, 64, 64)
    assert near_identical(nearly_black) == [] and near_identical(vignette) == []


def test_more_pictures_than_a_block():
    images = torch.randint(0, 256, (2100, 1, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[2050], images[1030] = images[5], images[1029]
    assert near_identical(images) == [(5, 2050), (1029, 1030)]


def split(part, images, masks, groups=None):
    names = [f"{part}-{i}" for i in range(len(images))]
    return Split(images, masks, names, groups or names)


def dataset(train, val):
    none = split("test", torch.zeros(0, 1, 32, 32, dtype=torch.uint8), torch.zeros(0, 32, 32, dtype=torch.uint8))
    return Dataset("d", train, val, none, ("background", "cell"))


def problems(train, val):
    return check_dataset(dataset(train, val))[1]


def test_each_kind_of_problem():
    scene = make_scene("cells", 12, size=32)
    images, masks = scene.images, scene.masks
    train, val = split("train", images[:8], masks[:8]), split("val", images[8:], masks[8:])
    assert problems(train, val) == []
    same = split("val", images[5:8], masks[5:8])
    assert problems(train, same) == [
        "the same picture in two splits: train train-5 and val val-0; train train-6 and val val-1; "
        "train train-7 and val val-2"
    ]
    assert problems(train, split("val", images[8:], masks[8:], ["a", "train-3", "b", "c"])) == [
        "the group 'train-3' is in train and in val"
    ]
    twice = split("train", images[[0, 1, 0]], masks[[0, 1, 0]])
    assert problems(twice, val) == ["the same picture twice: train train-0 and train train-2"]
    twice = split("train", images[[0, 1, 0]], masks[[0, 1, 2]])
    assert "with different masks: train train-0 and train train-2" in problems(twice, val)[0]
    assert problems(train, split("val", images[8:], masks[8:] * 0)) == ["no mask of val holds an object"]
    assert problems(split("train", images[:8], masks[:8] * 0), val)[0] == "no mask of train holds the class 'cell'"
    black = images[8:].clone()
    black[1] = 9
    assert problems(train, split("val", black, masks[8:])) == ["val-1: all pixels have the same value"]


def test_exposures_of_one_group_may_stay_together():
    scene = make_scene("cells", 4, size=32)
    again = (scene.images[:1].float() * 0.8).to(torch.uint8)
    train = split("train", torch.cat([scene.images[:3], again]), scene.masks[[0, 1, 2, 0]], ["a", "b", "c", "a"])
    assert problems(train, split("val", scene.images[3:], scene.masks[3:])) == []


def test_contact_sheet():
    data = load_scene("roads", size=32, n=(20, 3, 2))
    picture = Image.open(io.BytesIO(contact_sheet(data)))
    assert picture.format == "PNG" and picture.width > 1000 and contact_sheet(data) == contact_sheet(data)

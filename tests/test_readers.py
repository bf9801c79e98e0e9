"""unetlab/readers.py: patches and slices; the official layout of each set gives what the copies for tests give."""

import numpy as np
import pytest
import torch
from official import draw_nuclei, pack, unpacked

from unetlab.archives import unpack
from unetlab.readers import _centred, _patches, find_nuclei
from unetlab.realsets import REAL_SETS, load_dataset, load_real

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "shape, count, rows, columns",
    [
        ((64, 64), 4, (0, 32), (0, 32)),
        ((80, 64), 4, (0, 48), (0, 32)),
        ((40, 64), 2, (4,), (0, 32)),
        ((20, 10), 1, (0,), (0,)),
        ((33, 47), 1, (0,), (7,)),
    ],
)
def test_patches_reach_every_border(shape, count, rows, columns):
    image, ids = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8), RNG.integers(0, 9, shape, dtype=np.uint8)
    pieces = _patches("a", image, ids, 32)
    assert [piece.name for piece in pieces] == [f"a/{r},{c}" for r in rows for c in columns]
    assert len(pieces) == count and all(p.image.shape == (32, 32, 3) and p.ids.shape == (32, 32) for p in pieces)
    top, left = min(32, shape[0]), min(32, shape[1])
    assert np.array_equal(pieces[0].ids[:top, :left], ids[rows[0] :, columns[0] :][:top, :left])
    assert np.array_equal(pieces[-1].image[:top, :left], image[rows[-1] :, columns[-1] :][:top, :left])


def test_at_most_so_many_patches():
    image, ids = np.zeros((320, 320, 1), np.uint8), np.zeros((320, 320), np.uint8)
    corners = [piece.name for piece in _patches("a", image, ids, 32, most=4)]
    assert len(set(corners)) == 4 and corners[0] == "a/0,0" and corners[-1] == "a/288,288"


def test_centred():
    plane = np.arange(12).reshape(3, 4)
    padded = _centred(plane, 6)
    assert np.array_equal(padded[1:4, 1:5], plane) and padded.sum() == plane.sum()
    assert np.array_equal(_centred(plane, 2), plane[0:2, 1:3])


def rows(data):
    """{name: (image, mask, group)} of all splits."""
    return {
        name: (image, mask, group)
        for split in (data.train, data.val, data.test)
        for name, image, mask, group in zip(split.names, split.images, split.masks, split.groups, strict=True)
    }


@pytest.mark.parametrize("name", REAL_SETS)
def test_the_official_layout_gives_the_same_pieces(name, real_data, tmp_path, monkeypatch):
    archives = pack(name, real_data, tmp_path / "official")
    (tmp_path / "set").mkdir()
    for file in archives.iterdir():
        if file.suffix == ".tif":
            file.rename(tmp_path / "set" / file.name)
        else:
            unpack(file, tmp_path / "set")
    official, copy = rows(load_real(name, tmp_path / "set")), rows(load_dataset(name))
    assert len(official) >= 8 and official.keys() <= copy.keys()
    for piece, (image, mask, _) in official.items():
        assert torch.equal(image, copy[piece][0]) and torch.equal(mask, copy[piece][1])
    if name not in ("tiles",):  # a tile's group is named after its first picture, which may not be in the archive
        assert all(group == copy[piece][2] for piece, (_, _, group) in official.items())


def test_the_official_list_of_pets_decides(real_data, tmp_path):
    for file in pack("pets", real_data, tmp_path / "official", 12).iterdir():
        unpack(file, tmp_path)
    assert len(REAL_SETS["pets"].find(tmp_path)) == 11
    (tmp_path / "annotations/list.txt").unlink()
    assert len(REAL_SETS["pets"].find(tmp_path)) == 12


@pytest.mark.parametrize("above", ["", "stage1_train", "fixes-master/stage1_train"])
def test_nuclei_are_found_at_every_depth_and_hidden_files_are_not(above, tmp_path):
    unpacked(draw_nuclei(3) | {"n0/images/._n0.png": b"x", "__MACOSX/images/n9.png": b"x"}, tmp_path / above)
    items = find_nuclei(tmp_path)
    assert [item.name for item in items] == ["n0", "n1", "n2"]
    assert [file.name for file in items[0].files()] == ["n0.png", "0.png"]

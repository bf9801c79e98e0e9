"""The real data sets of the course, one small reader each, and the one door to all data: `load_dataset`.

Chapter 2 (`02a_data`) teaches what each reader settles: which value is the object, which pictures belong together, at
what size to look. The files lie in the folder that the environment variable UNETLAB_DATA names, a subfolder per set.

Every reader keeps two promises: whole groups go to one split *before* a patch or slice is cut, and the same seed gives
the same split. What comes from a microscope, a camera in a factory or an aeroplane is cut into patches (`_patches`), in
which a pixel keeps its size in the world, and so does a nucleus; only photographs of pets are made smaller instead.
"""

import difflib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from unetlab.classes import IGNORE, Coding
from unetlab.datasets import Dataset, Split, load_scene, nearest, read_pair, smoothed, split_by_group
from unetlab.files import DataError, picture_size, read_all, read_image, read_mask, read_volume, to_8_bits
from unetlab.scenes import SCENES

SCENE_AREAS = {"cells": "medical", "animals": "natural", "roads": "remote sensing", "defects": "industrial"}


class Item(NamedTuple):
    """A picture or volume on disk."""

    name: str
    group: str  # what must not be divided between two splits
    image: Path
    mask: Path  # nuclei: the folder of the masks
    kind: str = ""  # every kind shall be in every split


class Piece(NamedTuple):
    """A part of it as the network sees it."""

    name: str
    image: np.ndarray  # uint8 (H, W, C)
    ids: np.ndarray  # uint8 (H, W), class ids


# --------------------------------------------------------------- the six readers: find(folder), read(item, coding, size)


def _find_nuclei(folder):
    """A picture is its own group: the set does not say which pictures come from one slide, or one laboratory.

    Pictures of one size look alike (the stained tissue is 320 x 256), so the size serves as the kind.
    """
    files = sorted(folder.glob("stage1_train/*/images/*.png"))
    return [Item(f.stem, f.stem, f, f.parents[1] / "masks", kind=str(picture_size(f))) for f in files]


def _read_nuclei(item, coding, size):
    """One file per nucleus; together they are the mask. Grey, so that fluorescence and stained tissue share a network."""
    image = np.asarray(Image.fromarray(read_image(item.image, _unsaid)).convert("L"))
    masks = [read_mask(file) for file in sorted(item.mask.glob("*.png"))]
    if {mask.shape for mask in masks} != {image.shape}:
        raise DataError(f"{item.mask}: {len(masks)} masks, not all of the size of {item.image}; fetch the set again")
    ids = coding(np.maximum.reduce(masks), item.mask)
    return _patches(item.name[:8], image[..., None], ids, size, most=4)


def _find_membranes(folder):
    """30 slices of one block of tissue. Neighbours look alike, so five in a row are a group: only its ends leak a bit."""
    files = sorted((f for f in folder.glob("train/image/*.png") if f.stem.isdigit()), key=lambda f: int(f.stem))
    return [Item(f"slice-{f.stem}", f"block-{int(f.stem) // 5}", f, folder / "train/label" / f.name) for f in files]


def _read_membranes(item, coding, size):
    image, raw = read_pair(item.image, item.mask)
    return _patches(item.name, image, coding(raw, item.mask), size)


def _find_hippocampus(folder):
    """The volume is the group: the finest the set tells of."""
    files = sorted(folder.glob("images/*.nii.gz"))
    return [Item(f.name[:-7], f.name[:-7], f, folder / "labels" / f.name) for f in files]


def _read_hippocampus(item, coding, size):
    """Sagittal slices (front to the right, top upwards): all with hippocampus in them, and every fourth of the others.

    The largest value is 121 in one volume and 1.7 million in another: each is brought to 8 bits by its own percentiles.
    """
    volume, labels = to_8_bits(read_volume(item.image), item.image), coding(read_volume(item.mask), item.mask)
    if volume.shape != labels.shape:
        raise DataError(f"{item.image} has the shape {volume.shape}, its label {labels.shape}; fetch the set again")
    shown = labels.any(axis=(1, 2))
    slices = sorted([*np.flatnonzero(shown), *np.flatnonzero(~shown)[::4]])
    return [
        Piece(f"{item.name}/{x}", _centred(np.rot90(volume[x]), size)[..., None], _centred(np.rot90(labels[x]), size))
        for x in slices
    ]


def _find_pets(folder):
    trimaps = next((d for d in (folder / "annotations/trimaps", folder / "derived_trimaps") if d.is_dir()), folder)
    return [Item(f.stem, f.stem, f, trimaps / f"{f.stem}.png") for f in sorted(folder.glob("images/**/[!.]*.jpg"))]


def _read_pets(item, coding, size):
    """Photographs of many shapes, made square (and a little stretched) as a whole: a pet loses neither head nor tail."""
    image, raw = read_pair(item.image, item.mask)
    image = np.broadcast_to(smoothed(image, (size, size)), (size, size, 3))  # a few are grey
    return [Piece(item.name, image, coding(nearest(raw, (size, size)), item.mask))]


def _find_aerial(folder):
    files = sorted(folder.glob("*/Tile */images/*.jpg"))
    return [Item(f"{f.parts[-3]}/{f.stem}", f.parts[-3], f, f.parents[1] / "masks" / f"{f.stem}.png") for f in files]


def _read_aerial(item, coding, size):
    """At most four patches of a picture, or the two largest of the eight tiles would be two thirds of all patches."""
    pieces = _patches(item.name, *read_pair(item.image, item.mask, as_colours=True), size, most=4)
    return [piece._replace(ids=coding(piece.ids, item.mask)) for piece in pieces]


def _find_tiles(folder):
    """The same magnetic tile was taken under up to six exposures: pictures whose numbers lie within 80 are one group."""
    files = sorted(folder.glob("MT_*/Imgs/*num_[0-9]*.jpg"))
    number = {file: int(re.search(r"num_(\d+)", file.stem)[1]) for file in files}
    group, last, group_of = 0, 0, {}
    for k in sorted(set(number.values())):
        group, last = (group if k - last <= 80 else k), k
        group_of[k] = f"tile-{group}"
    return [
        Item(f"{f.parts[-3]}/{f.stem}", group_of[number[f]], f, f.with_suffix(".png"), kind=f.parts[-3]) for f in files
    ]


def _read_tiles(item, coding, size):
    """The patches that show a defect (64 pixels of it, not a sliver at the edge); of a tile without one, all patches."""
    image, raw = read_pair(item.image, item.mask)
    pieces = _patches(item.name, image, coding(raw, item.mask), size)
    shown = [piece for piece in pieces if piece.ids.any()]
    if not shown:
        return pieces
    return [piece for piece in shown if piece.ids.sum() >= 64] or [max(shown, key=lambda piece: piece.ids.sum())]


def _unsaid(path, what):
    """For what is true of all pictures of a set and stands in its description."""


def _patches(name, image, ids, size, most=None):
    """Pieces of size x size pixels, as many along each side as fit best, from border to border; at most `most`, spread.

    Smaller pictures are continued by their mirror image; a side that fits one patch gives its middle.
    """
    missing = [(0, max(0, size - side)) for side in ids.shape]
    image, ids = np.pad(image, [*missing, (0, 0)], "symmetric"), np.pad(ids, missing, "symmetric")
    rows, columns = (
        [(side - size) // 2] if side < 1.5 * size else np.linspace(0, side - size, round(side / size)).astype(int)
        for side in ids.shape
    )
    corners = [(int(r), int(c)) for r in rows for c in columns]
    if most and len(corners) > most:
        corners = [corners[i] for i in np.linspace(0, len(corners) - 1, most).astype(int)]
    return [
        Piece(f"{name}/{r},{c}", image[r : r + size, c : c + size], ids[r : r + size, c : c + size]) for r, c in corners
    ]


def _centred(plane, size):
    """The plane (H, W) in the middle of size x size pixels: zeros around it, or its border cut off."""
    missing = [max(0, size - side) for side in plane.shape]
    plane = np.pad(plane, [(m // 2, m - m // 2) for m in missing])
    top, left = ((side - size) // 2 for side in plane.shape)
    return plane[top : top + size, left : left + size]


# ------------------------------------------------------------------------------------------------------ what is known


@dataclass(frozen=True)
class RealSet:
    """One row of the table: where a set lies, what its masks mean, who made it and on what terms."""

    area: str
    folder: str  # below UNETLAB_DATA
    coding: Coding  # raw value or colour of a mask -> class id
    find: Callable  # (folder) -> list of Item
    read: Callable  # (Item, Coding, size) -> list of Piece
    size: int  # pixels a side, unless asked otherwise
    stand_in: str  # the synthetic scene that comes closest
    licence: str
    citation: str
    address: str
    note: str  # what the reader decided
    val_fraction: float = 0.2
    test_fraction: float = 0.2


REAL_SETS = {
    "nuclei": RealSet(
        area="medical",
        folder="nuclei_dsb2018",
        coding=Coding(("background", "nucleus"), {0: 0, 255: 1}),
        find=_find_nuclei,
        read=_read_nuclei,
        size=256,
        stand_in="cells",
        licence="CC0 1.0",
        citation="Caicedo et al., Nature Methods 16, 1247-1253 (2019), doi 10.1038/s41592-019-0612-7",
        address="https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip",
        note="made grey; patches of the pictures' own resolution, at most 4 of a picture",
    ),
    "membranes": RealSet(
        area="medical",
        folder="em_isbi2012",
        coding=Coding(("background", "membrane"), {0: 1, 255: 0}),  # the dark value is the object
        find=_find_membranes,
        read=_read_membranes,
        size=512,
        stand_in="cells",
        licence="non-commercial, cite",
        citation="Cardona et al., PLoS Biol 8(10): e1000502 (2010), doi 10.1371/journal.pbio.1000502; "
        "Arganda-Carreras et al., Front. Neuroanat. 9:142 (2015), doi 10.3389/fnana.2015.00142",
        address="http://brainiac2.mit.edu/isbi_challenge/home",
        note="slices of one stack, split in blocks of five neighbours; smaller sizes are patches of a slice",
    ),
    "hippocampus": RealSet(
        area="medical",
        folder="hippocampus_msd04",
        coding=Coding(("background", "anterior", "posterior"), {0: 0, 1: 1, 2: 2}),
        find=_find_hippocampus,
        read=_read_hippocampus,
        size=64,
        stand_in="cells",
        licence="CC BY-SA 4.0",
        citation="Antonelli et al., Nature Communications 13, 4128 (2022), doi 10.1038/s41467-022-30695-9",
        address="https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar",
        note="sagittal slices: all that show the hippocampus, every fourth of the others; each volume scaled by itself",
    ),
    "pets": RealSet(
        area="natural",
        folder="pets_oxford_sample",
        coding=Coding(("background", "pet"), {1: 1, 2: 0, 3: IGNORE}),
        find=_find_pets,
        read=_read_pets,
        size=128,
        stand_in="animals",
        licence="CC BY-SA 4.0, the pictures belong to their owners",
        citation="O. M. Parkhi, A. Vedaldi, A. Zisserman, C. V. Jawahar, Cats and Dogs, CVPR 2012",
        address="https://www.robots.ox.ac.uk/~vgg/data/pets/",
        note="stretched to squares; the border of the trimap, where even people are not sure, does not count",
    ),
    "aerial": RealSet(
        area="remote sensing",
        folder="aerial_dubai",
        # The colours of the masks, which are not those of the set's own classes.json; unlabelled and black do not count.
        coding=Coding(
            ("building", "land", "road", "vegetation", "water"),
            {0x3C1098: 0, 0x8429F6: 1, 0x6EC1E4: 2, 0xFEDD3A: 3, 0xE2A929: 4, 0x9B9B9B: IGNORE, 0x000000: IGNORE},
            as_colours=True,
        ),
        find=_find_aerial,
        read=_read_aerial,
        size=256,
        stand_in="roads",
        licence="CC0 1.0",
        citation="Humans in the Loop, Semantic segmentation of aerial imagery (2020)",
        address="https://humansintheloop.org/resources/datasets/semantic-segmentation-dataset/",
        note="split by tile; patches of the pictures' own resolution, at most 4 of a picture",
        val_fraction=0.25,  # two of the eight tiles: they differ too much for one to speak for the others
        test_fraction=0.15,
    ),
    "tiles": RealSet(
        area="industrial",
        folder="magnetic_tile",
        coding=Coding(("background", "defect"), {value: int(value > 127) for value in range(256)}),  # soft edges
        find=_find_tiles,
        read=_read_tiles,
        size=128,
        stand_in="defects",
        licence="none stated, use invited with citation",
        citation="Huang et al., Saliency of magnetic tile surface defects (2018)",
        address="https://github.com/abin24/Magnetic-tile-defect-datasets.",
        note="split by tile, not by exposure; patches that show a defect, and all patches of tiles without one",
    ),
}


class DataRow(NamedTuple):
    """One line of `unetlab data list`."""

    name: str
    area: str
    kind: str  # "real" or "synthetic"
    folder: Path | None  # where the files were found
    licence: str
    images: int | None  # pictures or volumes found; None for a scene, which has as many as one asks for


def available_datasets() -> list[DataRow]:
    """All sets by name: the scenes, which are always there, and the real sets with the folder they were found in."""
    rows = [DataRow(name, SCENE_AREAS[name], "synthetic", None, "ours", None) for name in SCENES]
    for name, known in REAL_SETS.items():
        folder = _folder_of(known)
        images = len(known.find(folder)) if folder else None
        rows.append(DataRow(name, known.area, "real", folder, known.licence, images))
    return rows


def load_dataset(name, size=None, n=None, seed=0, **knobs) -> Dataset:
    """A data set by name: a synthetic scene (always there) or a real set (where UNETLAB_DATA names its folder).

    size: pixels a side (a scene: 64; a real set: see REAL_SETS). n: pictures to train on, or three numbers for train,
    val and test (a scene: 96, 64, 64; a real set: at most so many, evenly spread). seed: of the scene, or of the split.
    knobs: those of `make_scene`, for scenes only.

    Raises ValueError for an unknown name or knob, DataError where the files of a real set are missing or damaged.
    """
    most = (n, None, None) if n is None or isinstance(n, int) else tuple(n)
    if any(number is not None and number < 1 for number in (size, *most)) or len(most) != 3:
        raise ValueError(f"size={size}, n={n}: must be 1 or more; n is one number, or three for train, val and test")
    known = REAL_SETS.get(name) or next((known for known in REAL_SETS.values() if known.folder == name), None)
    if name in SCENES:
        counts = [count or usual for count, usual in zip(most, (96, 64, 64), strict=True)]
        return load_scene(name, size or 64, counts, seed, **knobs)
    if known is None:
        names = [*SCENES, *REAL_SETS]
        close = difflib.get_close_matches(str(name), names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"there is no data set {name!r}.{hint} There are: {', '.join(names)}")
    if knobs:
        raise ValueError(f"{', '.join(knobs)}: only the synthetic scenes ({', '.join(SCENES)}) have such knobs")
    folder = _folder_of(known)
    if folder is None:
        root = os.environ.get("UNETLAB_DATA")
        wanted = f"{Path(root) / known.folder}: there is no such folder" if root else "UNETLAB_DATA is not set"
        raise DataError(
            f"{name}: {wanted}; set UNETLAB_DATA to the folder that holds {known.folder}/ (from {known.address}), "
            f'or use the synthetic stand-in, load_dataset("{known.stand_in}")'
        )
    items = known.find(folder)
    if not items:
        raise DataError(f"{folder}: no pictures of the set {name!r} are in it; fetch it again from {known.address}")
    groups, kinds = [item.group for item in items], [item.kind for item in items]
    parts = split_by_group(groups, known.val_fraction, known.test_fraction, seed, strata=kinds)
    splits = [
        _read_split(known, [items[i] for i in part], size or known.size, m) for part, m in zip(parts, most, strict=True)
    ]
    ignore = IGNORE if IGNORE in known.coding.ids.values() else None
    return Dataset(name, *splits, known.coding.names, ignore, notes=[known.note], seed=seed)


def _folder_of(known):
    """The folder of a real set, or None if it is not there."""
    root = os.environ.get("UNETLAB_DATA")
    folder = Path(root) / known.folder if root else None
    return folder if folder and folder.is_dir() else None


def _read_split(known, items, size, most):
    """Read and cut the pictures of one split, and keep at most so many pieces of it."""
    lists = read_all(items, lambda item: known.read(item, known.coding, size))
    rows = [(piece, item.group) for item, pieces in zip(items, lists, strict=True) for piece in pieces]
    if most is not None and len(rows) > most:
        rows = [rows[i] for i in np.linspace(0, len(rows) - 1, most).astype(int)]
    images = torch.from_numpy(np.stack([piece.image for piece, _ in rows])).permute(0, 3, 1, 2).contiguous()
    masks = torch.from_numpy(np.stack([piece.ids for piece, _ in rows]))
    return Split(images, masks, [piece.name for piece, _ in rows], [group for _, group in rows])

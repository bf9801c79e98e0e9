"""The real data sets of the course, and the one door to all data: `load_dataset`.

Chapter 2 (`02a_data`) walks through the table: where a set comes from, on what terms, what its masks mean. The files
lie in a folder per set below `data_root()`, put there by `unetlab data fetch` or by hand; `readers.py` knows them.

Two promises hold for every set: whole groups go to one split *before* a patch or slice is cut, and the same seed gives
the same split. Reading and cutting happens once: the pieces are kept in the cache (`cache.py`), and the split is made
of their numbers alone.
"""

import difflib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import torch

from unetlab import classes, datasets, files, readers
from unetlab.cache import cache_folder, cached
from unetlab.classes import IGNORE, Coding
from unetlab.datasets import Dataset, Notes, Split, load_scene, split_by_file, split_by_group
from unetlab.files import DataError, read_all
from unetlab.scenes import SCENES

SCENE_AREAS = {"cells": "medical", "animals": "natural", "roads": "remote sensing", "defects": "industrial"}


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
    address: str  # where the files lie, or, with `by_hand`, the page to begin at
    files: dict[str, str | None]  # the official files, and the checksum that is published for each
    note: str  # what the reader decided
    by_hand: str = ""  # what a person must do there first, where the address asks for an account
    val_fraction: float = 0.2
    test_fraction: float = 0.2


REAL_SETS = {
    "nuclei": RealSet(
        area="medical",
        folder="nuclei_dsb2018",
        coding=Coding(("background", "nucleus"), {0: 0, 255: 1}),
        find=readers.find_nuclei,
        read=readers.read_nuclei,
        size=256,
        stand_in="cells",
        licence="CC0 1.0",
        citation="Caicedo et al., Nature Methods 16, 1247-1253 (2019), doi 10.1038/s41592-019-0612-7",
        address="https://data.broadinstitute.org/bbbc/BBBC038/",
        files={"stage1_train.zip": None},
        note="made grey; patches of the pictures' own resolution, at most 4 of a picture",
    ),
    "membranes": RealSet(
        area="medical",
        folder="em_isbi2012",
        coding=Coding(("background", "membrane"), {0: 1, 255: 0}),  # the dark value is the object
        find=readers.find_membranes,
        read=readers.read_membranes,
        size=256,
        stand_in="cells",
        licence="non-commercial, cite",
        citation="Cardona et al., PLoS Biol 8(10): e1000502 (2010), doi 10.1371/journal.pbio.1000502; "
        "Arganda-Carreras et al., Front. Neuroanat. 9:142 (2015), doi 10.3389/fnana.2015.00142",
        address="http://brainiac2.mit.edu/isbi_challenge/home",
        files={"train-volume.tif": None, "train-labels.tif": None},
        by_hand="register there, download train-volume.tif and train-labels.tif into one folder",
        note="slices of one stack, split in blocks of five neighbours, then cut into patches",
    ),
    "hippocampus": RealSet(
        area="medical",
        folder="hippocampus_msd04",
        coding=Coding(("background", "anterior", "posterior"), {0: 0, 1: 1, 2: 2}),
        find=readers.find_hippocampus,
        read=readers.read_hippocampus,
        size=64,
        stand_in="cells",
        licence="CC BY-SA 4.0",
        citation="Antonelli et al., Nature Communications 13, 4128 (2022), doi 10.1038/s41467-022-30695-9",
        address="https://msd-for-monai.s3-us-west-2.amazonaws.com/",
        files={"Task04_Hippocampus.tar": "md5:9d24dba78a72977dbd1d2e110310f31b"},
        note="sagittal slices: all that show the hippocampus, every fourth of the others; each volume scaled by itself",
    ),
    "pets": RealSet(
        area="natural",
        folder="pets_oxford_sample",
        coding=Coding(("background", "pet"), {1: 1, 2: 0, 3: IGNORE}),
        find=readers.find_pets,
        read=readers.read_pets,
        size=128,
        stand_in="animals",
        licence="CC BY-SA 4.0, the pictures belong to their owners",
        citation="O. M. Parkhi, A. Vedaldi, A. Zisserman, C. V. Jawahar, Cats and Dogs, CVPR 2012",
        address="https://www.robots.ox.ac.uk/~vgg/data/pets/data/",
        files={
            "images.tar.gz": "md5:5c4f3ee8e5d25df40f4fd59a7f44e54c",
            "annotations.tar.gz": "md5:95a8c909bbe2e81eed6a22bccdf3f68f",
        },
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
        find=readers.find_aerial,
        read=readers.read_aerial,
        size=128,
        stand_in="roads",
        licence="CC0 1.0",
        citation="Humans in the Loop, Semantic segmentation of aerial imagery (2020)",
        address="https://www.kaggle.com/datasets/humansintheloop/semantic-segmentation-of-aerial-imagery",
        files={"archive.zip": None},
        by_hand="log in there, download the archive",
        note="split by tile; patches of the pictures' own resolution, at most 8 of a picture",
        val_fraction=0.25,  # two of the eight tiles: they differ too much for one to speak for the others
        test_fraction=0.15,
    ),
    "tiles": RealSet(
        area="industrial",
        folder="magnetic_tile",
        coding=Coding(("background", "defect"), {value: int(value > 127) for value in range(256)}),  # soft edges
        find=readers.find_tiles,
        read=readers.read_stretched,
        size=128,
        stand_in="defects",
        licence="none stated, use invited with citation",
        citation="Huang et al., Saliency of magnetic tile surface defects (2018)",
        address="https://github.com/abin24/Magnetic-tile-defect-datasets./archive/refs/heads/",
        files={"master.zip": None},
        note="split by tile, not by picture; stretched to squares",
    ),
}


def data_root() -> Path:
    """The folder of the real sets: UNETLAB_DATA if it is set, else a folder of this user's cache."""
    return Path(os.environ.get("UNETLAB_DATA") or cache_folder() / "data")


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
        folder = data_root() / known.folder
        found = folder.is_dir()
        images = len(known.find(folder)) if found else None
        rows.append(DataRow(name, known.area, "real", folder if found else None, known.licence, images))
    return rows


def load_dataset(name, size=None, n=None, seed=0, split=None, **knobs) -> Dataset:
    """A data set by name: a synthetic scene (always there) or a real set (see `data_root`).

    size: pixels a side (a scene: 64; a real set: see REAL_SETS). n: pictures to train on, or three numbers for train,
    val and test (a scene: 96, 64, 64; a real set: at most so many, evenly spread). seed: of the scene, or of the split.
    split: of a real set, the split.json of an earlier run; it decides, whatever the seed. knobs: those of `make_scene`.

    Raises ValueError for an unknown name or knob, DataError where the files of a real set are missing or damaged.
    """
    most = (n, None, None) if n is None or isinstance(n, int) else tuple(n)
    if any(number is not None and number < 1 for number in (size, *most)) or len(most) != 3:
        raise ValueError(f"size={size}, n={n}: must be 1 or more; n is one number, or three for train, val and test")
    name = real_name(name)
    if name in SCENES:
        if split is not None:
            raise ValueError(f"split={split}: only real sets are split by a file; {name} is drawn, from its seed alone")
        counts = [count or usual for count, usual in zip(most, (96, 64, 64), strict=True)]
        origin = {"name": name, "size": size or 64, "n": counts, "seed": seed, **knobs}
        return replace(load_scene(name, size or 64, counts, seed, **knobs), origin=origin)
    if knobs:
        raise ValueError(f"{', '.join(knobs)}: only the synthetic scenes ({', '.join(SCENES)}) have such knobs")
    known, folder = REAL_SETS[name], data_root() / REAL_SETS[name].folder
    if not folder.is_dir():
        raise DataError(
            f"{name}: {folder} is not there; get it with: unetlab data fetch {name} (from {known.address}), let "
            f"UNETLAB_DATA name the folder that holds {known.folder}/, or use the synthetic stand-in, "
            f'load_dataset("{known.stand_in}")'
        )
    origin = {"name": name, "size": size, "n": list(most), "seed": seed} if split is None else None
    return replace(load_real(name, folder, size, most, seed, split), origin=origin)


def real_name(name) -> str:
    """The name of a set; the folder of a real one serves as well. Raises ValueError if there is no such set."""
    for known, real in REAL_SETS.items():
        if real.folder == name:
            return known
    names = [*SCENES, *REAL_SETS]
    if name not in names:
        close = difflib.get_close_matches(str(name), names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"there is no data set {name!r}.{hint} There are: {', '.join(names)}")
    return name


def load_real(name, folder, size=None, most=(None, None, None), seed=0, split=None) -> Dataset:
    """A real set from a folder of its own; see load_dataset. Raises DataError."""
    known, notes = REAL_SETS[name], Notes()
    items = known.find(folder)
    if not items:
        raise DataError(
            f"{folder}: no pictures of the set {name!r} are in it; delete the folder, then: unetlab data fetch {name}"
        )
    groups, kinds = [item.group for item in items], [item.kind for item in items]
    if split is None:
        parts = split_by_group(groups, known.val_fraction, known.test_fraction, seed, strata=kinds)
    else:
        parts = split_by_file(groups, split, notes)
    arrays, about = _pieces(known, items, size or known.size)
    splits = []
    for part, count in zip(parts, most, strict=True):
        rows = np.flatnonzero(np.isin(about["items"], part))
        if count is not None and len(rows) > count:
            rows = rows[np.linspace(0, len(rows) - 1, count).astype(int)]
        images, masks = (torch.from_numpy(np.array(arrays[kind][rows])) for kind in ("images", "masks"))
        owners = [groups[about["items"][row]] for row in rows]
        splits.append(Split(images, masks, [about["names"][row] for row in rows], owners))
    ignore = IGNORE if IGNORE in known.coding.ids.values() else None
    return Dataset(name, *splits, known.coding.names, ignore, notes=[known.note, *notes.lines()], seed=seed)


def _pieces(known, items, size):
    """All pieces of a set: images (N, C, H, W) and masks (N, H, W), uint8; the name of each, and the item it is from."""

    def build():
        lists = read_all(items, lambda item: known.read(item, known.coding, size))
        pieces = [piece for pieces in lists for piece in pieces]
        arrays = {
            "images": np.ascontiguousarray(np.stack([piece.image for piece in pieces]).transpose(0, 3, 1, 2)),
            "masks": np.stack([piece.ids for piece in pieces]),
        }
        owners = [i for i, pieces in enumerate(lists) for _ in pieces]
        return arrays, {"names": [piece.name for piece in pieces], "items": owners}

    # All that the pieces depend on: the files, the code that reads them, the library that decodes them, the size.
    sources = [Path(module.__file__).read_bytes() for module in (classes, datasets, files, readers)]
    parts = [*sources, *read_all(items, _fingerprint), repr((known.coding, size, PIL.__version__)).encode()]
    return cached(f"{known.folder}-{size}-{hashlib.sha256(b''.join(parts)).hexdigest()[:32]}", build)


def _fingerprint(item):
    """32 bytes that change with any byte of the item's files, and with what is known about it."""
    digest = hashlib.sha256(repr((item.name, item.group, item.kind, item.page)).encode())
    for file in item.files():
        try:
            content = file.read_bytes()
        except OSError:  # its reader says what is wrong, in words
            content = b""
        digest.update(f"{file.name} {len(content)} ".encode() + hashlib.sha256(content).digest())
    return digest.digest()

"""The six real sets, one small reader each: which files belong together, which pictures form a group, how they are cut.

Chapter 2 (`02a_data`) teaches what each reader settles: which value is the object, which pictures belong together, at
what size to look. `find(folder)` knows the layout of the official archives and that of the copies the tests use;
`read(item, coding, size)` gives pieces of size x size pixels.

What comes from a microscope, a camera in a factory or an aeroplane is cut into patches (`_patches`), in which a pixel
keeps its size in the world, and so does a nucleus; only photographs of pets are made smaller instead.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from unetlab.datasets import nearest, read_pair, smoothed
from unetlab.files import (
    DataError,
    count_pages,
    picture_size,
    read_image,
    read_mask,
    read_page,
    read_text,
    read_volume,
    to_8_bits,
)


class Item(NamedTuple):
    """A picture or volume on disk."""

    name: str
    group: str  # what must not be divided between two splits
    image: Path
    mask: Path  # nuclei: the folder of the masks
    kind: str = ""  # every kind shall be in every split
    page: int | None = None  # of a TIFF stack

    def files(self) -> list[Path]:
        return [self.image, *(sorted(self.mask.glob("*.png")) if self.mask.is_dir() else [self.mask])]


class Piece(NamedTuple):
    """A part of it as the network sees it."""

    name: str
    image: np.ndarray  # uint8 (H, W, C)
    ids: np.ndarray  # uint8 (H, W), class ids


def _files(folder, *patterns):
    """The files of the first pattern that finds any, without the hidden ones that some systems put into archives."""
    for pattern in patterns:
        files = [
            f for f in folder.glob(pattern) if not any(p.startswith((".", "__")) for p in f.relative_to(folder).parts)
        ]
        if files:
            return sorted(files)
    return []


def find_nuclei(folder):
    """A picture is its own group: the set does not say which pictures come from one slide, or one laboratory.

    Pictures of one size look alike (the stained tissue is 320 x 256), so the size serves as the kind.
    """
    files = _files(folder, "*/images/*.png", "stage1_train/*/images/*.png", "*/stage1_train/*/images/*.png")
    return [Item(f.stem, f.stem, f, f.parents[1] / "masks", kind=str(picture_size(f))) for f in files]


def read_nuclei(item, coding, size):
    """One file per nucleus; together they are the mask. Grey, so that fluorescence and stained tissue share a network."""
    image = np.asarray(Image.fromarray(read_image(item.image, _unsaid)).convert("L"))
    masks = [read_mask(file) for file in item.files()[1:]] if item.mask.is_dir() else []
    if {mask.shape for mask in masks} != {image.shape}:
        raise DataError(f"{item.mask}: {len(masks)} masks, not all of the size of {item.image}; fetch the set again")
    ids = coding(np.maximum.reduce(masks), item.mask)
    return _patches(item.name[:8], image[..., None], ids, size, most=4)


def find_membranes(folder):
    """30 slices of one block of tissue. Neighbours look alike, so five in a row are a group: only its ends leak a bit."""
    files = [f for f in _files(folder, "train/image/*.png", "*/train/image/*.png") if f.stem.isdigit()]
    slices = {int(f.stem): (f, f.parents[1] / "label" / f.name, None) for f in files}
    for stack in _files(folder, "train-volume.tif", "*/train-volume.tif")[:1]:
        labels = stack.with_name("train-labels.tif")
        slices = {page: (stack, labels, page) for page in range(count_pages(stack))}
    return [Item(f"slice-{k}", f"block-{k // 5}", *slices[k][:2], page=slices[k][2]) for k in sorted(slices)]


def read_membranes(item, coding, size):
    if item.page is None:
        image, raw = read_pair(item.image, item.mask)
    else:
        image, raw = read_page(item.image, item.page)[..., None], read_page(item.mask, item.page)
        if image.shape[:2] != raw.shape:
            raise DataError(f"{item.mask}: its pages differ in size from those of {item.image}; fetch the set again")
    return _patches(item.name, image, coding(raw, item.mask), size)


def find_hippocampus(folder):
    """The volume is the group: the finest the set tells of."""
    files = _files(folder, "images/*.nii.gz", "imagesTr/*.nii.gz", "*/imagesTr/*.nii.gz")
    labels = {"images": "labels", "imagesTr": "labelsTr"}
    return [Item(f.name[:-7], f.name[:-7], f, f.parents[1] / labels[f.parent.name] / f.name) for f in files]


def read_hippocampus(item, coding, size):
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


def find_pets(folder):
    """Each photograph for itself. The official list leaves out a few of the 7,390 files, some of them damaged."""
    files = _files(folder, "images/**/*.jpg", "*/images/**/*.jpg")
    root = folder if (folder / "images").is_dir() else next((f.parents[1] for f in files), folder)
    trimaps = root / ("derived_trimaps" if (root / "derived_trimaps").is_dir() else "annotations/trimaps")
    table = root / "annotations/list.txt"
    if table.is_file():
        listed = {line.split(" ")[0] for line in read_text(table).splitlines() if not line.startswith("#")}
        files = [f for f in files if f.stem in listed]
    return [Item(f.stem, f.stem, f, trimaps / f"{f.stem}.png") for f in files]


def read_pets(item, coding, size):
    """As a whole, so that a pet loses neither head nor tail; a few photographs are grey."""
    (piece,) = read_stretched(item, coding, size)
    return [piece._replace(image=np.broadcast_to(piece.image, (size, size, 3)))]


def read_stretched(item, coding, size):
    """Pictures of many shapes, made square (and a little stretched) as a whole."""
    image, raw = read_pair(item.image, item.mask)
    return [Piece(item.name, smoothed(image, (size, size)), coding(nearest(raw, (size, size)), item.mask))]


def find_aerial(folder):
    files = _files(folder, *(f"{above}Tile */images/*.jpg" for above in ("", "*/", "*/*/")))
    return [Item(f"{f.parts[-3]}/{f.stem}", f.parts[-3], f, f.parents[1] / "masks" / f"{f.stem}.png") for f in files]


def read_aerial(item, coding, size):
    """At most eight patches of a picture, or the two largest of the eight tiles would be two thirds of all patches."""
    pieces = _patches(item.name, *read_pair(item.image, item.mask, as_colours=True), size, most=8)
    return [piece._replace(ids=coding(piece.ids, item.mask)) for piece in pieces]


def find_tiles(folder):
    """Pictures whose numbers lie within 1,200 are one group: the same magnetic tile, taken again.

    It was taken under up to six exposures in a row, whose numbers lie within 80, but some tiles came back later: of the
    392 pictures with a defect, near-identical pairs (`data_check.near_identical`) lie up to 1,186 numbers apart.
    """
    files = _files(folder, "MT_*/Imgs/*num_[0-9]*.jpg", "*/MT_*/Imgs/*num_[0-9]*.jpg")
    number = {file: int(re.search(r"num_(\d+)", file.stem)[1]) for file in files}
    group, last, group_of = 0, 0, {}
    for k in sorted(set(number.values())):
        group, last = (group if k - last <= 1200 else k), k
        group_of[k] = f"tile-{group}"
    return [
        Item(f"{f.parts[-3]}/{f.stem}", group_of[number[f]], f, f.with_suffix(".png"), kind=f.parts[-3]) for f in files
    ]


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

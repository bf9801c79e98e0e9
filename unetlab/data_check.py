"""What is in a data set, and what is wrong with it: `unetlab data check`.

Chapter 2 (`02a_data`) runs it before any training. Besides pairs, sizes and values, which loading checks, it looks for
pictures that are there twice. One that lies in two splits makes the validation score flatter, and such pairs are seldom
byte for byte the same: they are found by a difference hash (dHash: is a pixel of the 9 x 8 thumbnail brighter than its
left neighbour?; N. Krawetz, "Kind of like that", 2013) and then compared as 32 x 32 thumbnails.
"""

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from torch import Tensor

from unetlab import plots
from unetlab.classes import IGNORE, named
from unetlab.datasets import Dataset, how_to_pair, load_folder, match_files
from unetlab.files import DataError, DataNote

ALIKE = 0.985  # correlation of two 32 x 32 thumbnails from which on they show the same
MOST_BITS = 10  # of 64 in which the hashes of two such pictures may differ
FLAT = 3.0  # grey levels: a thumbnail that varies less shows nothing that could be compared
LISTED = 5  # examples of each kind of problem


def check_folder(
    images, masks, groups=None, classes=None, without_mask=None
) -> tuple[Dataset | None, list[str], list[str]]:
    """Load a folder of pictures without the files that are wrong: the data or None, a line a problem, the notes."""
    pairs, bare, orphans = match_files(images, masks)
    problems, leave_out = [f"{mask}: a mask without an image" for mask in orphans], set()
    remedy = [how_to_pair(bare[0])] if bare and without_mask is None else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataNote)
        while True:
            try:
                asked = {"groups": groups, "classes": classes, "without_mask": without_mask}
                data = load_folder(images, masks, **asked, leave_out=leave_out)
                notes = [note for note in data.notes if not note.startswith("masks without an image")]
                return data, problems, remedy + notes
            except DataError as error:
                problems += error.each or [str(error)]
                culprits = {
                    image
                    for image, *mask in [*pairs, *((image,) for image in bare)]
                    if any(_names(line, [image, *mask]) for line in error.each)
                }
                if not culprits - leave_out:  # it is not single files that are wrong
                    return None, problems, remedy
                leave_out |= culprits


def _names(line: str, files: Iterable[Path]) -> bool:
    return any(line.startswith((f"{file}:", f"{file} ")) for file in files)


def check_dataset(data: Dataset) -> tuple[list[str], list[str]]:
    """Lines that describe each split, and a line a problem."""
    splits = [
        (part, split) for part, split in (("train", data.train), ("val", data.val), ("test", data.test)) if len(split)
    ]
    lines, problems, seen = [], [], {}
    for part, split in splits:
        counts = torch.bincount(split.masks.flatten().long(), minlength=256)
        shares = dict(zip(data.class_names, (counts / counts.sum()).tolist(), strict=False))
        missing = [name for name, share in shares.items() if not share]
        if part == "train" and missing:
            problems.append(f"no mask of train holds {named(missing)}")
        if data.ignore_index is not None:
            shares["does not count"] = (counts[IGNORE] / counts.sum()).item()
        balance = ", ".join(f"{name} {share:.1%}" for name, share in shares.items() if share)
        about = f"{len(split):4} images, {len(set(split.groups)):4} groups"
        if data.class_names[0] == "background":
            empty = len(split) - int(((split.masks > 0) & (split.masks != IGNORE)).flatten(1).any(1).sum())
            about += f", {empty:3} empty"
            if empty == len(split):
                problems.append(f"no mask of {part} holds an object")
        lines.append(f"{part:5}  {about};  {balance}")
        for group in set(split.groups):
            if seen.setdefault(group, part) != part:
                problems.append(f"the group {group!r} is in {seen[group]} and in {part}")
        blank = split.images.flatten(1).max(1).values == split.images.flatten(1).min(1).values
        problems += [f"{split.names[i]}: all pixels have the same value" for i in blank.nonzero().flatten()]
    return lines, problems + _twins(splits)


def _twins(splits) -> list[str]:
    """A line for each kind of pictures that are there twice, with examples."""
    owner = [
        (part, name, group) for part, split in splits for name, group in zip(split.names, split.groups, strict=True)
    ]
    images = torch.cat([split.images for _, split in splits])
    masks = torch.cat([split.masks for _, split in splits])
    kinds: dict[str, list[str]] = {}
    for i, j in near_identical(images):
        (part, name, group), (other_part, other_name, other_group) = owner[i], owner[j]
        if torch.equal(images[i], images[j]):
            if not torch.equal(masks[i], masks[j]):
                kind = "the same picture twice, with different masks"
            elif part != other_part:
                kind = "the same picture in two splits"
            else:
                kind = "the same picture twice"
        elif part != other_part and group != other_group:
            kind = "nearly the same picture in two splits (give the two one group, see --groups)"
        else:
            continue
        kinds.setdefault(kind, []).append(f"{part} {name} and {other_part} {other_name}")
    return [
        f"{kind}: {'; '.join(pairs[:LISTED])}" + (f"; and {len(pairs) - LISTED} more" if len(pairs) > LISTED else "")
        for kind, pairs in kinds.items()
    ]


def near_identical(images: Tensor) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of images (N, C, H, W) uint8 that show the same, brightness and JPEG aside.

    Flat pictures are left out: without structure all look alike.
    """
    grey = torch.cat([block.float().mean(1, keepdim=True) for block in images.split(256)])
    small, large = (F.adaptive_avg_pool2d(grey, shape).squeeze(1) for shape in ((8, 9), (32, 32)))
    vivid = (small.flatten(1).std(1) > FLAT).nonzero().flatten()
    bits = torch.sign(small[vivid].diff(dim=2).flatten(1) - 0.5)  # 1 where it gets brighter to the right, else -1
    large = large[vivid].flatten(1)
    large = F.normalize(large - large.mean(1, keepdim=True), dim=1)
    pairs = []
    for start in range(0, len(vivid), 1024):
        rows = slice(start, start + 1024)
        alike = (bits[rows] @ bits.T >= 64 - 2 * MOST_BITS) & (large[rows] @ large.T >= ALIKE)
        pairs += [(vivid[start + i].item(), vivid[j].item()) for i, j in alike.nonzero().tolist() if start + i < j]
    return pairs


def contact_sheet(data: Dataset, rows: int = 2, columns: int = 8) -> bytes:
    """A PNG of pictures from all splits, evenly spread, each with the outline of its mask."""
    images, masks, titles = [], [], []
    for part, split in (("train", data.train), ("val", data.val), ("test", data.test)):
        chosen = np.linspace(0, len(split) - 1, min(len(split), rows * columns)).astype(int) if len(split) else []
        images += [split.images[i] for i in chosen]
        masks += [split.masks[i] for i in chosen]
        titles += [f"{part} {Path(split.names[i]).name[-14:]}" for i in chosen]
    figure = plots.plot_images(torch.stack(images), torch.stack(masks), titles, columns)
    png = plots.to_png(figure)
    plt.close(figure)
    return png

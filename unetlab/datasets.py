"""Datasets as plain tensors, split by group: a learner's own folder of pictures, or a synthetic scene.

Chapter 2 (`02a_data`) teaches both halves. The split: pictures of one patient, tile or slide resemble each other, so
a whole group goes to one side, or the validation score flatters (Kaufman et al. 2012, doi 10.1145/2382577.2382579, call
it leakage). The masks: a mask is a table of class ids, and whatever was read into it is said in `Dataset.notes`.
"""

import hashlib
import json
import re
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from unetlab.classes import IGNORE, Scan, read_classes, scan_mask
from unetlab.files import (
    DataError,
    DataNote,
    folder_and_pattern,
    image_files,
    picture_size,
    read_all,
    read_image,
    read_mask,
    read_table,
    read_text,
    warn_of,
)
from unetlab.scenes import make_scene

# Words that file names carry beside the name of the picture: 007_img.png and 007_mask.png belong together.
_MASK_WORD, _IMAGE_WORD = (
    re.compile(rf"^(?:{words})s?[-_. ]+|[-_. ]+(?:{words})s?$", re.IGNORECASE)
    for words in ("mask|label|seg|segmentation|gt|groundtruth|ground_truth|annotation|manual", "im|img|image|sat")
)


@dataclass
class Split:
    """One part of a data set: pictures that train, choose (validate) or judge (test)."""

    images: torch.Tensor  # uint8 (N, C, H, W)
    masks: torch.Tensor  # uint8 (N, H, W), class ids
    names: list[str]  # one per picture
    groups: list[str]  # the patient, tile, slide ... of each picture
    class_names: tuple[str, ...] = ()  # set by the Dataset, so that a Trainer needs no more than a split
    ignore_index: int | None = None
    origin: dict | None = None  # as in Dataset

    def __len__(self):
        return len(self.images)


@dataclass(repr=False)
class Dataset:
    """Three splits that share no group, and what one must know about them."""

    name: str
    train: Split
    val: Split
    test: Split  # may be empty
    class_names: tuple[str, ...]  # the class id is the position
    ignore_index: int | None = None  # class id of pixels that do not count
    real: bool = True  # photographed, not drawn by a program
    notes: list[str] = field(default_factory=list)  # what was interpreted or left out
    seed: int = 0  # of the split
    origin: dict | None = None  # the arguments of load_dataset that give it again, on any machine

    def __post_init__(self):
        for split in (self.train, self.val, self.test):
            split.class_names, split.ignore_index, split.origin = self.class_names, self.ignore_index, self.origin

    @property
    def num_classes(self) -> int:
        """Output channels of a network: 1 for two classes (object or not), else one per class."""
        return 1 if len(self.class_names) == 2 else len(self.class_names)

    @property
    def in_channels(self) -> int:
        return self.train.images.shape[1]

    def split_json(self) -> dict:
        """Which picture lies in which split, as JSON holds it: enough to repeat or to check the split."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        return {"seed": self.seed} | {part: {"names": s.names, "groups": s.groups} for part, s in parts.items()}

    def __repr__(self):
        channels, height, width = self.train.images.shape[1:]
        return (
            f"<Dataset {self.name!r} ({'real' if self.real else 'synthetic'}): "
            f"{len(self.train)} train, {len(self.val)} val, {len(self.test)} test; "
            f"{height}x{width} pixels, {channels} channel{'s' * (channels > 1)}; {', '.join(self.class_names)}>"
        )


def split_by_group(
    groups, val_fraction, test_fraction=0.0, seed=0, strata=None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of train, val and test, sorted; each group lies in one of them only.

    Validation and test take whole groups until another would exceed their fraction of the pictures (by more than
    half a picture), and at least one. Who goes first depends on the group's name and the seed alone, not on the order
    of the files. `strata` names the kind of each picture (of a group, that of its first): every kind is then spread
    over the parts as evenly as may be. Raises DataError if the fractions leave nothing to train on or there are too
    few groups.
    """
    if not (0 < val_fraction < 1 and 0 <= test_fraction < 1 - val_fraction):
        raise DataError(
            f"val_fraction {val_fraction} and test_fraction {test_fraction}: need val > 0, test >= 0 and val + test < 1"
        )
    sizes = Counter(groups)
    needed = 3 if test_fraction else 2
    if len(sizes) < needed:
        raise DataError(
            f"{len(groups)} pictures in {len(sizes)} group(s), but the split needs {needed} groups, one for each part; "
            "add pictures or make the groups smaller"
        )
    waiting = sorted(sizes, key=lambda group: hashlib.sha256(f"{seed}/{group}".encode()).digest())
    if strata is not None:  # the k-th of n groups of a kind queues at the place (k + 1/2) / n
        kind = dict(zip(reversed(groups), reversed(strata), strict=True))
        total, met = Counter(map(kind.get, waiting)), Counter()
        place = {}
        for group in waiting:
            place[group] = (met[kind[group]] + 0.5) / total[kind[group]]
            met[kind[group]] += 1
        waiting.sort(key=place.get)
    parts = []
    for fraction, reserved in ((test_fraction, 2), (val_fraction, 1)):
        part, room = [], fraction * len(groups) + 0.5
        for group in list(waiting):
            if fraction and sizes[group] <= room and len(waiting) > reserved:
                part.append(group)
                waiting.remove(group)
                room -= sizes[group]
        if fraction and not part:  # every group is larger than the fraction
            part = [min(waiting, key=sizes.get)]
            waiting.remove(part[0])
        parts.append(part)
    test, val = parts
    return tuple(np.array([i for i, g in enumerate(groups) if g in set(part)], int) for part in (waiting, val, test))


def split_by_file(groups, path, notes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of train, val and test as a split.json says (`Dataset.split_json`), group by group.

    Pictures of groups that the file does not name are left out, and `notes` hears of them. Raises DataError if the file
    is no split, puts a group into two parts, or names groups that are not there.
    """
    try:
        content = json.loads(read_text(path))
        parts = [set(content[part]["groups"]) for part in ("train", "val", "test")]
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path}: no split; it needs train, val and test, each with its groups, as split.json"
        ) from None
    named = set().union(*parts)
    if sum(map(len, parts)) > len(named):
        twice = sorted(group for group in named if sum(group in part for part in parts) > 1)
        raise DataError(f"{path}: the group {twice[0]!r} is in two parts ({len(twice)} such groups); keep it in one")
    if lost := sorted(named - set(groups)):
        raise DataError(
            f"{path}: the group {lost[0]!r} is not in the data ({len(lost)} such groups); is it this set's?"
        )
    if not (parts[0] and parts[1]):
        raise DataError(f"{path}: train or val has no group; both need one")
    if left := sorted(set(groups) - named):
        notes(None, f"{len(left)} groups that {Path(path).name} does not name, left out (first {left[0]})")
    return tuple(np.array([i for i, group in enumerate(groups) if group in part], int) for part in parts)


def load_scene(name, size=64, n=(96, 64, 64), seed=0, **knobs) -> Dataset:
    """A synthetic scene as a Dataset: n = (train, val, test) pictures of size x size; the knobs are `make_scene`'s.

    The three splits are drawn with seeds of their own, so they share neither pictures nor groups ("scanners").
    """
    splits = []
    for i, (part, count) in enumerate(zip(("train", "val", "test"), n, strict=True)):
        scene = make_scene(name, count, size=size, seed=3 * seed + i, **knobs)
        names = [f"{part}-{k}" for k in range(count)]
        splits.append(Split(scene.images, scene.masks, names, [f"{part}-{g}" for g in scene.groups.tolist()]))
    return Dataset(name, *splits, class_names=("background", name.removesuffix("s")), real=False, seed=seed)


# ------------------------------------------------------------------------------------------- a learner's own pictures


def load_folder(
    images,
    masks,
    *,
    size=256,
    val_fraction=0.2,
    test_fraction=0.0,
    groups=None,
    classes=None,
    seed=0,
    split=None,
    without_mask=None,
    leave_out=(),
) -> Dataset:
    """A folder of pictures and a folder of masks as a Dataset. Read the notes it gives: they say what it understood.

    Pairs: by the file's name without its ending, in subfolders too; words such as _mask, _label or _seg may stand
    beside the name, and so may what all names of a folder have in common (21_training.tif and 21_manual1.gif). Both
    folders may be the same one. Where other files lie beside them, a pattern says which: "gtFine/*_labelIds.png".
    Size: all pictures get the median aspect ratio and a longer side of `size` pixels, but none is made larger than the
    largest one is; images are smoothed (antialiased), masks take the nearest pixel.
    Masks: 0, 1, 2, ... are class ids; 0 and one other value, a JPEG, and soft edges from 0 to 255 are two classes.

    groups: None (each picture for itself), a regular expression whose first (...) finds the group in the file's name,
    or a CSV file with the columns name,group.
    classes: None (from the masks), their number, background included, "colours" (each colour of the masks is a class),
    or a file that names them. Text: a name a line,
    for the values 0, 1, 2, ...; CSV: the columns name,value or name,colour (#RRGGBB); JSON: a list of names, or
    {name: value or colour}. Pixels of a class named "ignore" get the id 255 and do not count.
    split: the split.json of an earlier run; it decides, whatever the fractions and the seed.
    without_mask: "skip" leaves images without a mask out, "empty" takes them as showing no object; None refuses them.
    leave_out: image files that shall not take part.

    Raises DataError: one line with the file (of several the first, and how many more) and the remedy.
    """
    if without_mask not in (None, "skip", "empty"):
        raise DataError(f"without_mask={without_mask!r}: must be 'skip', 'empty' or None")
    root, notes = folder_and_pattern(images)[0], Notes()
    pairs = _pair_files(images, masks, leave_out, without_mask, notes)
    names = [image.relative_to(root).as_posix() for image, _ in pairs]
    group_of = _groups(names, groups)
    if split is None:
        parts = split_by_group(group_of, val_fraction, test_fraction, seed)
    else:
        parts = split_by_file(group_of, split, notes)
    asked = read_classes(classes)
    scans = read_all(pairs, lambda pair: scan_mask(pair[1], asked.as_colours) if pair[1] else _nothing_in(pair[0]))
    coding = asked.completed(scans, notes)
    shape = _common_shape([scan.shape for scan in scans], size, notes)
    # The masks were read once to learn what they hold; now pictures and masks are read and made small one by one.
    items = [(*pair, scan) for pair, scan in zip(pairs, scans, strict=True)]
    pictures, ids = zip(*read_all(items, lambda item: _read_small(*item, coding, shape, notes)), strict=True)
    if all(p.shape[2] == 1 or (p == p[..., :1]).all() for p in pictures):
        stack = np.stack([p[..., :1] for p in pictures])
    else:  # one picture in colour makes the whole set RGB
        stack = np.stack([np.broadcast_to(p, (*shape, 3)) for p in pictures])
    stack, ids = torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(np.stack(ids))
    splits = [Split(stack[part], ids[part], [names[i] for i in part], [group_of[i] for i in part]) for part in parts]
    for line in notes.lines():
        warnings.warn(line, DataNote, stacklevel=2)
    ignore = IGNORE if IGNORE in coding.ids.values() else None
    return Dataset(root.resolve().name, *splits, coding.names, ignore, notes=notes.lines(), seed=seed)


class Notes:
    """Collects what was interpreted in a set of files, to say each kind once."""

    def __init__(self):
        self.files = {}  # what was interpreted -> the files it was found in

    def __call__(self, path, what):
        self.files.setdefault(what, set()).update([path] if path else [])

    def lines(self) -> list[str]:
        return [
            f"{what} ({len(files)} file{'s' * (len(files) > 1)}, first {min(files).name})" if files else what
            for what, files in sorted(self.files.items())
        ]


def _pair_files(images, masks, leave_out, without_mask, notes):
    """[(image, mask or None), ...] sorted by image."""
    pairs, bare, orphans = match_files(images, masks, leave_out)
    if bare and without_mask is None:
        root = folder_and_pattern(images)[0]
        some = ", ".join(str(file.relative_to(root)) for file in bare[:3]) + (", ..." if len(bare) > 3 else "")
        raise DataError(
            f"{some}: {len(bare)} of {len(pairs) + len(bare)} images have no mask in {masks}; {how_to_pair(bare[0])}",
            [f"{file}: has no mask in {masks}" for file in bare],
        )
    for file in bare:
        notes(
            file, "images without a mask, " + ("left out" if without_mask == "skip" else "taken as showing no object")
        )
    if without_mask == "empty":
        pairs = sorted([*pairs, *((file, None) for file in bare)])
    if len(pairs) < 2:
        number = "a single image" if pairs else "no image"
        raise DataError(f"{images}: {number}; at least two are needed, one to train on and one to validate")
    for mask in orphans:
        notes(mask, "masks without an image, left out")
    return pairs


def how_to_pair(image) -> str:
    """What to do about images without a mask; `image` is one of them."""
    return (
        f"name each mask after its image ({image.stem}.png or {image.stem}_mask.png), say which files are masks with a "
        'pattern in quotes ("masks/*_labels.png"), or say --without-mask skip or empty (in Python without_mask=...)'
    )


def match_files(images, masks, leave_out=()) -> tuple[list[tuple[Path, Path]], list[Path], list[Path]]:
    """Pairs (image, mask), images without a mask, masks without an image. Raises DataError for two of one name."""
    image_list, mask_list = image_files(images), image_files(masks)
    (images, _), (masks, pattern) = folder_and_pattern(images), folder_and_pattern(masks)
    if images.resolve() == masks.resolve():
        mask_list = [file for file in mask_list if pattern != "*" or _MASK_WORD.search(file.stem)]
        image_list = [file for file in image_list if file not in set(mask_list)]
    flat = any(all(file.parent == root for file in files) for root, files in ((images, image_list), (masks, mask_list)))

    def by_key(files, root):
        found = {}
        for file in files:
            folder = "" if flat else file.parent.relative_to(root).as_posix()
            key = (folder, _IMAGE_WORD.sub("", _MASK_WORD.sub("", file.stem)))
            if key in found:
                remedy = "take one out, or write _mask into its name"
                raise DataError(f"{found[key]} and {file}: two files for the picture {key[1]!r}; {remedy}")
            found[key] = file
        return found

    image_of, mask_of = by_key(image_list, images), by_key(mask_list, masks)
    if image_of and mask_of and not image_of.keys() & mask_of.keys():
        image_of, mask_of = _without_common_parts(image_of), _without_common_parts(mask_of)
    orphans = [mask_of[key] for key in mask_of.keys() - image_of.keys()]
    image_of = {key: file for key, file in image_of.items() if file not in leave_out}
    bare = [file for key, file in image_of.items() if key not in mask_of]
    return [(file, mask_of[key]) for key, file in image_of.items() if key in mask_of], bare, sorted(orphans)


def _without_common_parts(file_of):
    """The same files under keys without the parts, between _ - and ., with which all names begin or end."""
    parts = [re.split(r"[-_. ]+", name) for _, name in file_of]
    shortest = min(map(len, parts))
    first, last = (
        next((k for k in range(shortest) if len({p[step * k + min(step, 0)] for p in parts}) > 1), shortest - 1)
        for step in (1, -1)
    )
    names = ["_".join(p[first : len(p) - last]) for p in parts]
    keys = [(folder, name) for (folder, _), name in zip(file_of, names, strict=True)]
    return dict(zip(keys, file_of.values(), strict=True)) if len(set(keys)) == len(keys) else file_of


def _groups(names, groups):
    """The group of each picture; see load_folder."""
    if groups is None:
        return names
    if str(groups).lower().endswith(".csv"):
        table = {row["name"]: row["group"] for row in read_table(groups, "name", "group")}
        found = [table.get(name) or table.get(Path(name).name) or table.get(Path(name).stem) for name in names]
        remedy = f"add its row to {groups}"
    else:
        try:
            pattern = re.compile(str(groups))
        except re.error as error:
            raise DataError(f"groups {groups!r} is neither a .csv file nor a regular expression ({error})") from None
        if not pattern.groups:
            raise DataError(f"groups {groups!r}: put (...) around the part of the name that is the group")
        matches = [pattern.search(str(Path(name).with_suffix(""))) for name in names]
        found = [match and match[1] for match in matches]
        remedy = f"change the expression {groups!r}"
    missing = [name for name, group in zip(names, found, strict=True) if not group]
    if missing:
        raise DataError(f"{missing[0]}: no group found ({len(missing)} of {len(names)} images); {remedy}")
    return found


def _common_shape(shapes, size, notes):
    """(height, width): the median aspect ratio; the longer side is `size`, or that of the largest picture if less."""
    if size < 1:
        raise DataError(f"size={size}: the pictures need at least 1 pixel")
    longer = min(size, max(map(max, shapes)))
    ratio = float(np.median([width / height for height, width in shapes]))
    height, width = (longer, longer * ratio) if ratio < 1 else (longer / ratio, longer)
    shape = max(1, round(height)), max(1, round(width))
    if set(shapes) != {shape}:
        notes(None, f"pictures of {len(set(shapes))} size(s), all made {shape[1]} x {shape[0]} pixels")
    return shape


def read_pair(image_path, mask_path, as_colours=False, note=warn_of) -> tuple[np.ndarray, np.ndarray]:
    """A picture, uint8 (H, W, C), and the values of its mask (H, W). Raises DataError if their sizes differ."""
    image, raw = read_image(image_path, note), read_mask(mask_path, as_colours, note)
    (height, width), (mask_height, mask_width) = image.shape[:2], raw.shape
    if (height, width) != (mask_height, mask_width):
        turned = (height, width) == (mask_width, mask_height)
        remedy = "one of the two is turned: save both upright" if turned else "make the mask from this very picture"
        raise DataError(
            f"{image_path} has {width} x {height} pixels, its mask {mask_path} has {mask_width} x {mask_height}; {remedy}"
        )
    return image, raw


def _read_small(image_path, mask_path, scan, coding, shape, notes):
    """A picture (H, W, C) and its class ids (H, W), both uint8, in the common shape. Without a mask: all 0."""
    if mask_path is None:
        image = read_image(image_path, notes)
        raw = np.zeros(image.shape[:2], np.uint8)
    else:
        image, raw = read_pair(image_path, mask_path, coding.as_colours, notes)
    height, width = raw.shape
    if not 0.9 < (width / height) / (shape[1] / shape[0]) < 1.1:
        notes(image_path, "stretched by more than a tenth, to the common aspect ratio")
    ids = coding(nearest(raw, shape), mask_path)
    if {coding.ids[value] for value in scan.pixels} != set(np.unique(ids).tolist()):
        notes(mask_path, "a class of the mask vanished when it was made smaller; a larger size keeps it")
    return smoothed(image, shape), ids


def _nothing_in(image_path) -> Scan:
    """What stands in a mask that is not there: 0."""
    width, height = picture_size(image_path)
    return Scan(image_path, (height, width), {0: height * width}, {})


def nearest(mask, shape):
    """A mask (H, W) in another shape: each pixel takes the value of the nearest one, so no value is invented."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for old, new in zip(mask.shape, shape, strict=True)
    )
    return mask[rows[:, None], columns]


def smoothed(image, shape):
    """An image (H, W, C) in another shape, antialiased: each pixel is a weighted mean over the area it now stands for."""
    channels = [
        Image.fromarray(image[..., c]).resize(shape[::-1], Image.Resampling.BILINEAR) for c in range(image.shape[2])
    ]
    return np.stack([np.asarray(channel) for channel in channels], -1)

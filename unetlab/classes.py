"""What the values in masks mean: from the numbers or colours of a file to class ids 0, 1, 2, ...

Chapter 2 (`02a_data`) teaches it. Masks come as 0/1, 0/255, class numbers, palettes, colours, or blurred by JPEG, and a
loss function accepts all of them without a word: with 255 for the object a binary cross-entropy falls below zero.
So the meaning is settled once for the whole set, said in a note, and every value outside it is an error.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unetlab.files import DataError, palette_of, read_all, read_mask, read_table, read_text

IGNORE = 255  # the class id of pixels that neither train nor count
MOST_CLASSES = 32  # masks with more values than this number objects, not classes


@dataclass(frozen=True)
class Scan:
    """What stands in one mask file."""

    path: Path
    shape: tuple[int, int]
    pixels: dict[int, int]  # raw value -> number of pixels
    colours: dict[int, tuple]  # of a palette mask: raw value -> colour


def scan_mask(path, as_colours) -> Scan:
    """Look through one mask before its values have a meaning. Raises DataError if it cannot be read."""
    mask = read_mask(path, as_colours, note=lambda path, what: None)  # said when the pair is read
    values, counts = np.unique(mask, return_counts=True)
    values, palette = values.tolist(), None if as_colours else palette_of(path)
    colours = {value: palette[value] for value in values if value < len(palette)} if palette else {}
    return Scan(path, mask.shape, dict(zip(values, counts.tolist(), strict=True)), colours)


@dataclass(frozen=True)
class Coding:
    """Class names, and the class id of each raw value. Where one is empty, the masks must complete it."""

    names: tuple[str, ...] = ()
    ids: dict[int, int] = field(default_factory=dict)
    as_colours: bool = False

    def __call__(self, raw, path):
        """Class ids, uint8, of the raw values of a mask. Raises DataError if a value has none."""
        values = np.array(sorted(self.ids))
        place = np.searchsorted(values, raw).clip(max=len(values) - 1)
        strange = raw[values[place] != raw]
        if strange.size:
            show = "#{:06X}".format if self.as_colours else str
            raise DataError(
                f"{path}: the mask holds {show(strange[0])}, which is no class ({', '.join(map(show, self.ids))} are); "
                "mend the mask, or name the value in a file of classes"
            )
        return np.array([self.ids[value] for value in values.tolist()], np.uint8)[place]

    def completed(self, scans, notes):
        """The coding that fits all masks. Raises DataError if none does."""
        pixels = sum((Counter(scan.pixels) for scan in scans), Counter())
        if self.ids:
            coding = self
        elif self.as_colours:
            coding = _each_colour(pixels, scans)
        else:
            coding = _infer(self.names, pixels, scans, notes)
        read_all(scans, lambda scan: coding(np.array([*scan.pixels]), scan.path))
        found = {coding.ids[value] for value in pixels}
        if missing := [name for i, name in enumerate(coding.names) if i not in found]:
            notes(None, f"no mask holds {named(missing)}")
        return coding


def named(classes: list[str]) -> str:
    """In words, the first few of many: the class 'a'; 7 of the classes ('a', 'b', 'c', ...)."""
    if len(classes) == 1:
        return f"the class {classes[0]!r}"
    return f"{len(classes)} of the classes ({', '.join(map(repr, classes[:3]))}{', ...' * (len(classes) > 3)})"


def _each_colour(pixels, scans):
    """A class for every colour, in the order of their numbers; black, the first, is the background."""
    colours = sorted(pixels)
    if not 2 <= len(colours) <= MOST_CLASSES:
        raise DataError(
            f"{scans[0].path}: {len(colours)} colours in the masks, not 2 to {MOST_CLASSES}; blurred by JPEG or smoothing? "
            "Name those that mean something in a file of classes (see load_folder)"
        )
    names = ("background" if colour == 0 else f"#{colour:06X}" for colour in colours)
    return Coding(tuple(names), {colour: i for i, colour in enumerate(colours)}, as_colours=True)


def _infer(names, pixels, scans, notes):
    """The coding of grey or palette masks from what stands in them; `names` may be empty."""
    _check_palettes(scans)
    values = sorted(pixels)
    if len(values) == 1:
        raise DataError(f"{scans[0].path}: it and all other masks hold only the value {values[0]}; draw the objects in")
    lossy = [scan.path for scan in scans if scan.path.suffix.lower() in (".jpg", ".jpeg")]
    if len(names) in (0, 2):
        two = names or ("background", "foreground")
        if len(values) == 2 and values[0] == 0:
            if values[1] != 1:
                notes(None, f"masks of 0 and {values[1]}: read as 0 (background) and 1 (foreground)")
            return Coding(two, {0: 0, values[1]: 1})
        if _is_blurred(pixels, bool(lossy)):
            notes(None, "masks with values between 0 and 255 (JPEG or soft edges): above 127 is foreground")
            return Coding(two, {value: int(value > 127) for value in range(256)})
        usual = max(values[1:], key=lambda value: sum(value in scan.pixels for scan in scans))
        if usual == 255:  # a set of 0 and 255 with something strange in it, which the caller names
            return Coding(two, {0: 0, 255: 1})
    if lossy:
        raise DataError(f"{lossy[0]}: JPEG has blurred the class numbers of this mask; save masks as PNG")
    ids = {}
    if not names:
        run = next((k for k, value in enumerate(values) if k != value), len(values))  # 0, 1, ... run - 1 occur
        if run > MOST_CLASSES:
            raise DataError(
                f"{scans[0].path}: the masks hold the values 0 to {run - 1}, as if they numbered objects; "
                "write 1 for every object, or say --classes N"
            )
        if run > 2 and values[run:] == [IGNORE]:
            notes(None, f"the value {IGNORE} beside 0 to {run - 1}: such pixels do not count")
            ids = {IGNORE: IGNORE}
        elif len(values) > max(run + 1, 3) and values[-1] < IGNORE:  # some numbers do not occur: not for us to guess
            raise DataError(
                f"{scans[0].path}: the masks hold {len(values)} values from {values[0]} to {values[-1]} with gaps; say "
                f"--classes {values[-1] + 1} if they are class numbers, or name them in a file of classes"
            )
        names = _default_names(max(run, 2))
        rarest, where = min(((v, sum(v in s.pixels for s in scans)) for v in values), key=lambda pair: pair[1])
        notes(None, f"masks of {run} values: read as {run} classes; value {rarest} is in {where} of {len(scans)} masks")
    return Coding(names, {value: value for value in range(len(names))} | ids)


def _is_blurred(pixels, lossy):
    """Are these values 0 and 255 with blurred edges? Then those between are many but none is frequent, as a class is."""
    between = [count for value, count in pixels.items() if 32 <= value < 224]
    bright = sum(count for value, count in pixels.items() if value >= 224)
    few = sum(between) <= (4 * bright if lossy else bright) and max(between, default=0) <= (sum(between) + bright) / 8
    return few and bright > 0 and (lossy or len(pixels) > 8) and 0 <= min(pixels) and max(pixels) <= 255


def _check_palettes(scans):
    """A palette index means the same only where all palettes agree on its colour."""
    agreed = {}
    for scan in scans:
        for value, colour in scan.colours.items():
            path, first = agreed.setdefault(value, (scan.path, colour))
            if colour != first:
                raise DataError(
                    f"{scan.path}: palette entry {value} has the colour {colour}, but {first} in {path}; "
                    "name the colours in a file of classes (see load_folder)"
                )


def _default_names(count):
    return ("background", "foreground") if count == 2 else ("background", *(f"class {i}" for i in range(1, count)))


def read_classes(classes) -> Coding:
    """What `classes` says before a mask was seen: nothing, the names, or the names and the code of each."""
    if classes is None:
        return Coding()
    if str(classes) == "colours":
        return Coding(as_colours=True)
    if isinstance(classes, int):
        if not 2 <= classes < IGNORE:
            raise DataError(f"classes={classes}: must be 2 to {IGNORE - 1}, the background counts as one")
        return Coding(_default_names(classes))
    path = Path(classes)
    entries = _class_entries(path)
    names = tuple(dict.fromkeys(name for name, _ in entries if name != "ignore"))
    codes = [_class_code(path, name, code) for name, code in entries]
    if not 2 <= len(names) < IGNORE:
        raise DataError(f"{path}: {len(names)} classes; must be 2 to {IGNORE - 1}, the background counts as one")
    if all(code is None for code, _ in codes) and len(names) == len(entries):
        return Coding(names)
    kinds = {is_colour for _, is_colour in codes}
    if len(kinds) > 1 or None in kinds or len(set(codes)) < len(codes):
        raise DataError(f"{path}: give every class, 'ignore' too, a value of its own, or every class a colour #RRGGBB")
    ids = {
        code: IGNORE if name == "ignore" else names.index(name)
        for (name, _), (code, _) in zip(entries, codes, strict=True)
    }
    return Coding(names, ids, as_colours=kinds == {True})


def _class_entries(path):
    """[(name, value or colour or None), ...] of a file of classes."""
    if path.suffix.lower() == ".csv":
        rows = read_table(path, "name")
        return [(row["name"], row.get("value") or row.get("colour") or row.get("color")) for row in rows]
    text = read_text(path)
    if path.suffix.lower() != ".json":
        return [(line.strip(), None) for line in text.splitlines() if line.strip()]
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not JSON ({error}); see load_folder for the form") from None
    if isinstance(content, dict):
        return list(content.items())
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return [(name, None) for name in content]
    raise DataError(f"{path}: must be a list of names or {{name: value or #RRGGBB}}")


def _class_code(path, name, code):
    """(number, is it a colour?) of one class; (None, None) where none is given."""
    if code is None:
        return None, None
    if re.fullmatch("#[0-9A-Fa-f]{6}", str(code)):
        return int(code[1:], 16), True
    if re.fullmatch("[0-9]+", str(code)):
        return int(code), False
    raise DataError(f"{path}: class {name!r} has the code {code!r}; write a whole number or a colour as #RRGGBB")

"""The split inspector of ``02a_data``: which picture lands in which part, and which patients and near-identical
pictures are torn apart.

``photographs``, ``divide`` and ``inspect`` are the logic, plain functions over the package's own ``split_by_group`` and
``near_identical``; ``SplitInspector`` binds them to the instrument.
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL.ImageColor import getrgb

from unetlab.data_check import near_identical
from unetlab.datasets import Split, split_by_group
from unetlab.lab.instrument import Instrument
from unetlab.scenes import make_scene

PATIENTS, VIEWS, SHOTS, SIDE = 12, 3, 3, 32  # views of each patient, photographs of each view, pixels of a picture
FRAME, GAP = 3, 6  # pixels of the coloured frame, and between two patients
PARTS = {"train": "#0072B2", "val": "#E69F00", "test": "#009E73"}
TORN = "#CC0000"
WAYS = ["by picture", "by view", "by patient"]

CONTROLS = [
    {"id": "way", "kind": "select", "label": "Split", "options": WAYS},
    {"id": "share", "kind": "range", "label": "Validation and test, each", "min": 0.1, "max": 0.4, "step": 0.05},
    {"id": "seed", "kind": "range", "label": "Seed", "min": 0, "max": 20, "step": 1},
]


def photographs() -> Split:
    """108 synthetic pictures: 12 patients, 3 views of each, and of each view 3 shots under another light.

    Ordered by patient and view. The names say all three: ``p03-view1-shot2``.
    """
    scene = make_scene("cells", PATIENTS * VIEWS, size=SIDE, seed=0, groups=PATIENTS, group_shift=0.5)
    order = scene.groups.argsort(stable=True).repeat_interleave(SHOTS)
    light = torch.tensor([0.7, 0.85, 1.0]).repeat(PATIENTS * VIEWS)[:, None, None, None]
    images = (light * scene.images[order]).round().to(torch.uint8)
    groups = [f"p{group:02d}" for group in scene.groups[order].tolist()]
    places = [f"view{i // SHOTS % VIEWS}-shot{i % SHOTS}" for i in range(len(order))]
    names = [f"{group}-{place}" for group, place in zip(groups, places, strict=True)]
    return Split(images, scene.masks[order], names, groups)


def divide(photos: Split, way: str, share: float, seed: int) -> np.ndarray:
    """The part of each picture, "train", "val" or "test". ``way``: one of ``WAYS``, what is kept together."""
    kept = {
        "by picture": photos.names,
        "by view": [n.rsplit("-", 1)[0] for n in photos.names],
        "by patient": photos.groups,
    }
    parts = np.empty(len(photos), dtype="<U5")
    for part, index in zip(PARTS, split_by_group(kept[way], share, share, seed), strict=True):
        parts[index] = part
    return parts


@dataclass(frozen=True)
class Findings:
    """What ``inspect`` found: the patients that stand in more than one part, the pairs of near-identical pictures whose
    halves do, of how many pairs; and of each part its pictures, its patients and its share of object pixels."""

    torn: list[str]
    torn_pairs: int
    pairs: int
    parts: dict[str, tuple[int, int, float]]


def inspect(photos: Split, parts: np.ndarray, pairs: list[tuple[int, int]]) -> Findings:
    """Look for leaks in a split. ``pairs``: of pictures that show the same, from ``near_identical``."""
    groups, objects = np.array(photos.groups), (photos.masks > 0).float().mean((1, 2)).numpy()
    torn = [group for group in sorted(set(photos.groups)) if len(set(parts[groups == group])) > 1]
    told = {
        p: (int((parts == p).sum()), len(set(groups[parts == p])), float(objects[parts == p].mean())) for p in PARTS
    }
    return Findings(torn, sum(parts[i] != parts[j] for i, j in pairs), len(pairs), told)


def picture_of(photos: Split, parts: np.ndarray, torn: list[str]) -> np.ndarray:
    """A block for each patient, a row for each view, framed in the colour of the part: uint8 (H, W, 3).

    Under a patient who is torn runs a red bar.
    """
    blocks, cell = [], SIDE + 2 * FRAME
    for start in range(0, len(photos), VIEWS * SHOTS):
        block = np.full((VIEWS * cell + 2 * GAP, SHOTS * cell + GAP, 3), 128, np.uint8)
        for k in range(VIEWS * SHOTS):
            y, x = k // SHOTS * cell, k % SHOTS * cell + GAP // 2
            block[y : y + cell, x : x + cell] = getrgb(PARTS[parts[start + k]])
            grey = photos.images[start + k, 0].numpy()
            block[y + FRAME : y + FRAME + SIDE, x + FRAME : x + FRAME + SIDE] = grey[..., None]
        if photos.groups[start] in torn:
            block[-GAP:, GAP // 2 : -(GAP // 2)] = getrgb(TORN)
        blocks.append(block)
    return np.concatenate(blocks, axis=1)


class SplitInspector:
    """Choose a split and see what leaks; show it as the last line of a cell.

    Attributes:
        photos: the pictures. ``parts``: the part of each. ``findings``: what ``inspect`` says of them.
    """

    def __init__(self):
        self.photos = photographs()
        self._pairs = near_identical(self.photos.images)
        self._choices = {"way": "by picture", "share": 0.25, "seed": 0}
        self._instrument = Instrument("Split inspector", CONTROLS, self._touch)
        self._refresh()

    def _repr_mimebundle_(self, **options):
        return self._instrument._repr_mimebundle_(**options)

    def _touch(self, name: str, value) -> None:
        self._choices[name] = int(value) if name == "seed" else value
        self._refresh()

    def _refresh(self) -> None:
        self.parts = divide(self.photos, **self._choices)
        found = self.findings = inspect(self.photos, self.parts, self._pairs)
        instrument, patients = self._instrument, sorted(set(self.photos.groups))
        with instrument.hold_sync():
            instrument.values = dict(self._choices)
            instrument.show_strip(picture_of(self.photos, self.parts, found.torn))
            instrument.strip_titles = [name + " torn" * (name in found.torn) for name in patients]
            rows = "a row of three: one view, three shots"
            instrument.caption = [*PARTS.items(), ["a patient in more than one part", TORN], [rows, None]]
            rows = [[p, str(n), str(groups), f"{objects:.1%}"] for p, (n, groups, objects) in found.parts.items()]
            instrument.table = [["Part", "Pictures", "Patients", "Object pixels"], *rows]
            instrument.status = {"text": _told(found), "progress": None, "problem": _problem(found)}


def _told(found: Findings) -> str:
    return (
        f"{len(found.torn)} of {PATIENTS} patients torn; {found.torn_pairs} of {found.pairs} near-identical pairs torn"
    )


def _problem(found: Findings) -> str | None:
    if found.torn_pairs:
        return "Leak: pictures that are nearly the same stand in two parts. A network that remembers them scores well."
    if found.torn:
        return "Leak: no picture stands in two parts, but patients do. A network that knows the patient scores well."
    return None

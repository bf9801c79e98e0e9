"""The augmentation mixer of ``02a_data``: mix the strengths, see the views, and see what becomes of a mask left behind.

``mix`` is the logic, a plain function over the package's ``Augment``; ``AugmentationMixer`` binds it to the instrument.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL.ImageColor import getrgb
from torch import Tensor

from unetlab.augment import Augment
from unetlab.lab.instrument import Instrument
from unetlab.metrics import dice_score
from unetlab.plots import MISS
from unetlab.scenes import SCENES, make_scene

SIDE, ZOOM, VIEWS, GAP = 96, 2, 5, 4  # pixels of a picture, how much larger it is drawn, views beside it, space between
SEED = 3  # of the pictures
FILLINGS = ["nearest", "bilinear"]

CONTROLS = [
    {"id": "scene", "kind": "select", "label": "Picture", "options": list(SCENES)},
    {"id": "filling", "kind": "select", "label": "Mask pixels", "options": FILLINGS},
    {"id": "desync", "kind": "check", "label": "Desync", "hint": "the mask gets a draw of its own"},
    {"id": "flip", "kind": "check", "label": "Flips"},
    {"id": "draw", "kind": "button", "label": "Draw again", "style": "primary"},
    {"id": "none", "kind": "button", "label": "All to zero"},
    {"id": "rotate", "kind": "range", "label": "Rotation (degrees)", "row": 1, "min": 0, "max": 180, "step": 5},
    {"id": "scale", "kind": "range", "label": "Zoom", "row": 1, "min": 0, "max": 1, "step": 0.05},
    {"id": "shift", "kind": "range", "label": "Shift", "row": 1, "min": 0, "max": 0.5, "step": 0.05},
    {"id": "elastic", "kind": "range", "label": "Elastic (px)", "row": 1, "min": 0, "max": 20, "step": 0.5},
    {"id": "brightness", "kind": "range", "label": "Brightness", "row": 2, "min": 0, "max": 0.5, "step": 0.05},
    {"id": "contrast", "kind": "range", "label": "Contrast", "row": 2, "min": 0, "max": 2, "step": 0.1},
]


@dataclass(frozen=True)
class Views:
    """What ``mix`` made: images (V, C, H, W) in [0, 1]; masks (V, H, W), ids or, if interpolated, numbers between them.

    ``agreement``: the Dice score of each mask with the object as it lies in its image.
    """

    images: Tensor
    masks: Tensor
    agreement: list[float]


def mix(image: Tensor, mask: Tensor, augment: Augment, desync: bool, filling: str, seed: int) -> Views:
    """Views of one picture, uint8 (C, H, W) with mask (H, W).

    ``desync``: the mask is moved by another draw than its image. ``filling``: one of ``FILLINGS``, how it is resampled.
    """
    images, masks = (image.float() / 255).expand(VIEWS, *image.shape), mask.expand(VIEWS, *mask.shape)
    views, truth = augment(images, masks, torch.Generator().manual_seed(seed))
    warp = replace(augment, brightness=0, contrast=0)  # the same warp, with the mask as an image beside itself
    smooth, ids = warp(masks[:, None].float(), masks, torch.Generator().manual_seed(seed + desync))
    shown = ids if filling == "nearest" else smooth[:, 0]
    scores = [dice_score((m > 0.5).long()[None], t.long()[None]) for m, t in zip(shown, truth, strict=True)]
    return Views(views, shown, scores)


def picture_of(images: Tensor, masks: Tensor) -> np.ndarray:
    """Images (V, C, H, W) side by side with the outlines of their masks: uint8 (ZOOM * H, ..., 3)."""
    tiles = []
    for image, mask in zip(images, masks, strict=True):
        tile = (255 * image).round().to(torch.uint8).expand(3, -1, -1)
        tile, inside = (x.repeat_interleave(ZOOM, -1).repeat_interleave(ZOOM, -2).numpy() for x in (tile, mask > 0.5))
        edge = np.zeros_like(inside)
        edge[:, 1:] |= inside[:, 1:] != inside[:, :-1]
        edge[1:] |= inside[1:] != inside[:-1]
        tile = np.ascontiguousarray(tile.transpose(1, 2, 0))
        tile[edge] = getrgb(MISS)
        tiles += [tile, np.full((len(tile), GAP, 3), 128, np.uint8)]
    return np.concatenate(tiles[:-1], axis=1)


class AugmentationMixer:
    """Mix an augmentation and see it on one picture; show it as the last line of a cell.

    Attributes:
        augment: the ``Augment`` that the controls stand for: take it into a ``Trainer`` if you like it.
        views: what ``mix`` made of the picture.
    """

    def __init__(self):
        self.augment = Augment(flip=True, rotate=30)
        self._scenes = {name: make_scene(name, 1, size=SIDE, seed=SEED) for name in SCENES}
        self._choices = {"scene": "cells", "desync": False, "filling": "nearest"}
        self._draw = 0
        self._instrument = Instrument("Augmentation mixer", CONTROLS, self._touch)
        self._instrument.strip_titles = ["as it is", *(f"view {i + 1}" for i in range(VIEWS))]
        self._refresh()

    def _repr_mimebundle_(self, **options):
        return self._instrument._repr_mimebundle_(**options)

    def _touch(self, name: str, value) -> None:
        if name in self._choices:
            self._choices[name] = value
        elif name == "draw":
            self._draw += 2  # the next number is that of a mask on its own
        elif name == "none":
            self.augment = Augment()
        else:
            self.augment = replace(self.augment, **{name: value})
        self._refresh()

    def _refresh(self) -> None:
        scene, filling = self._scenes[self._choices["scene"]], self._choices["filling"]
        image, mask = scene.images[0], scene.masks[0]
        views = self.views = mix(image, mask, self.augment, self._choices["desync"], filling, self._draw)
        instrument = self._instrument
        with instrument.hold_sync():
            instrument.values = vars(self.augment) | self._choices
            images = torch.cat([image[None].float() / 255, views.images])
            instrument.show_strip(picture_of(images, torch.cat([mask[None], views.masks])))
            instrument.caption = [["outline of the mask", MISS], [_told(views), None]]
            problem = _problem(self._choices["desync"], views)
            instrument.status = {"text": _code(self.augment), "progress": None, "problem": problem}


def _told(views: Views) -> str:
    values = sorted(set(views.masks.float().mul(100).round().unique().tolist()))
    shown = ", ".join(f"{value / 100:g}" for value in values[:4]) + (", ..." if len(values) > 4 else "")
    scores = ", ".join(f"{score:.2f}" for score in views.agreement)
    return f"Dice of mask and object: {scores}; values in the masks: {shown}"


def _code(augment: Augment) -> str:
    """The call that makes it, to copy into a notebook."""
    changed = {name: value for name, value in vars(augment).items() if value != getattr(Augment, name)}
    return f"ul.Augment({', '.join(f'{name}={value}' for name, value in changed.items())})"


def _problem(desync: bool, views: Views) -> str | None:
    told = []
    if desync and min(views.agreement) < 0.95:
        told.append(
            "Desync: the mask lies beside its object. The network would be taught that background is object, and no "
            "error would be raised."
        )
    if ((views.masks > 0.005) & (views.masks < 0.995)).any():
        told.append(
            "Bilinear: some pixels now hold values that are no class. Rounded, a mask of classes 0 and 2 would get a "
            "rim of class 1."
        )
    return " ".join(told) or None

"""The loss bench of ``02b_losses``: move a predicted shape over a mask; what does each loss say, and where does it pull?

``truth``, ``predicted_logits``, ``measure`` and ``pixel_pulls`` are the logic, plain functions over the losses and scores
of the package; ``LossBench`` binds them to the instrument.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL.ImageColor import getrgb
from torch import Tensor

from unetlab.lab.instrument import Curves, Instrument
from unetlab.losses import CompoundLoss, DiceLoss, FocalLoss, TverskyLoss
from unetlab.metrics import class_ids, dice_score, iou_score
from unetlab.plots import FALSE_ALARM, MISS, error_map

SIDE, GAP = 48, 2  # pixels of a tile and between two tiles
TRUTHS = {"Disc, radius 10": 10.0, "Rare tiny object": 1.5, "Empty mask": 0.0}
LOSSES = {
    "Cross-entropy": CompoundLoss(lambda_dice=0.0),
    "Soft Dice loss": DiceLoss(),
    "Compound (CE + Dice)": CompoundLoss(),
    "Tversky loss (0.3, 0.7)": TverskyLoss(alpha=0.3, beta=0.7),
    "Focal loss (gamma 2)": FocalLoss(gamma=2.0),
}
PULLING = list(LOSSES)[:3]  # those whose pixels are drawn
LINES = {"Cross-entropy": ("#0072B2", "solid"), "Soft Dice loss": ("#D55E00", "dashed")}
LINES["Compound (CE + Dice)"] = ("#009E73", "dotted")
RAISED, LOWERED = "#B2182B", "#2166AC"  # red and blue, which colour-blind readers can tell apart

CONTROLS = [
    {"id": "truth", "kind": "select", "label": "Truth", "options": list(TRUTHS)},
    {"id": "same_scale", "kind": "check", "label": "One scale for all pulls"},
    {"id": "fit", "kind": "button", "label": "Back onto the truth"},
    {"id": "right", "kind": "range", "label": "Shift right", "row": 1, "min": -24, "max": 24, "step": 1},
    {"id": "down", "kind": "range", "label": "Shift down", "row": 1, "min": -24, "max": 24, "step": 1},
    {"id": "radius", "kind": "range", "label": "Radius", "row": 1, "min": 0, "max": 24, "step": 0.5},
    {"id": "sharpness", "kind": "range", "label": "Sharpness", "row": 1, "min": 0.1, "max": 5, "step": 0.1},
    {"id": "confidence", "kind": "range", "label": "Confidence", "row": 1, "min": 0.55, "max": 0.995, "step": 0.005},
]


@dataclass(frozen=True)
class Shape:
    """A predicted disc: its shift from the centre and its radius in pixels; ``sharpness``: logits a pixel at its outline;
    ``confidence``: the probability far inside, and one minus that far outside.

    A field may be a tensor (n, 1, 1): then it stands for n discs.
    """

    right: float = 6
    down: float = 0
    radius: float = 10
    sharpness: float = 1.0
    confidence: float = 0.95


def _distance(right, down) -> Tensor:
    """Distance of each pixel's centre from a point, (SIDE, SIDE), or from several points."""
    line = torch.arange(SIDE) - (SIDE - 1) / 2
    return torch.hypot(line - right, line[:, None] - down)


def truth(kind: str) -> Tensor:
    """The mask of ``TRUTHS``: uint8 (1, SIDE, SIDE), a disc in the middle or nothing."""
    return (_distance(0, 0) < TRUTHS[kind])[None].to(torch.uint8)


def predicted_logits(shape: Shape) -> Tensor:
    """Logits (n, 1, SIDE, SIDE) of discs with a soft edge, mostly n = 1; of radius 0: background everywhere."""
    most = math.log(shape.confidence / (1 - shape.confidence))
    radius = torch.as_tensor(shape.radius, dtype=torch.float32)
    inside = torch.where(radius > 0, radius - _distance(shape.right, shape.down), -math.inf)
    return most * torch.tanh(shape.sharpness * inside / most).reshape(-1, 1, SIDE, SIDE)


def measure(logits: Tensor, mask: Tensor) -> dict[str, float]:
    """Every loss, and the scores of the prediction cut at 0.5; an empty mask left empty scores 1."""
    losses = {name: loss(logits, mask).item() for name, loss in LOSSES.items()}
    return losses | {"Hard Dice": dice_score(logits, mask.long()), "IoU": iou_score(logits, mask.long())}


def pixel_pulls(logits: Tensor, mask: Tensor) -> dict[str, np.ndarray]:
    """Minus the gradient of each loss for every pixel's logit, (SIDE, SIDE): where a step would raise it, where lower."""
    result = {}
    for name, loss in LOSSES.items():
        leaf = logits.detach().clone().requires_grad_()
        loss(leaf, mask).backward()
        result[name] = -leaf.grad[0, 0].numpy()
    return result


def diverging(values: np.ndarray, scale: float) -> np.ndarray:
    """White at 0, orange up to ``scale``, blue down to ``-scale``: (H, W) -> uint8 (H, W, 3)."""
    share = np.clip(values / scale if scale else values, -1, 1)[..., None]
    end = np.where(share > 0, getrgb(RAISED), getrgb(LOWERED))
    return (255 + np.abs(share) * (end - 255.0)).round().astype(np.uint8)


class LossBench:
    """Move, grow and shrink a predicted shape; show it as the last line of a cell.

    Attributes:
        shape: the ``Shape`` that the controls stand for.
        values: ``measure`` of it.
    """

    def __init__(self):
        self._truth, self._same_scale = "Disc, radius 10", True
        self.shape = Shape()
        self._instrument = Instrument("Loss bench", CONTROLS, self._touch)
        self._instrument.strip_titles = [
            "truth",
            "predicted probability",
            "errors at 0.5",
            *(f"pull: {n}" for n in PULLING),
        ]
        self._refresh()

    def _repr_mimebundle_(self, **options):
        return self._instrument._repr_mimebundle_(**options)

    def _touch(self, name: str, value) -> None:
        if name == "truth":
            self._truth = value
        elif name == "same_scale":
            self._same_scale = value
        elif name == "fit":
            self.shape = replace(self.shape, right=0, down=0, radius=TRUTHS[self._truth])
        else:
            self.shape = replace(self.shape, **{name: value})
        self._refresh()

    def _refresh(self) -> None:
        mask, logits = truth(self._truth), predicted_logits(self.shape)
        self.values, pulls = measure(logits, mask), pixel_pulls(logits, mask)
        predicted = class_ids(logits)
        instrument, curves = self._instrument, Curves()
        with instrument.hold_sync():
            controls = {"truth": self._truth, "same_scale": self._same_scale}
            instrument.values = vars(self.shape) | controls
            instrument.show_curves([_landscape(curves, self.shape, mask, *axis) for axis in AXES], curves)
            instrument.show_strip(_mosaic(mask, logits, predicted, pulls, self._same_scale))
            instrument.table = _table(self.values, pulls)
            overlap = int((predicted * mask).sum())
            text = f"truth {int(mask.sum())} px, prediction {int(predicted.sum())} px, overlap {overlap} px"
            instrument.status = {"text": text, "progress": None, "problem": None}
            instrument.caption = [
                ["errors: missed", MISS],
                ["false alarm", FALSE_ALARM],
                ["pulls: a step raises the pixel", RAISED],
                ["a step lowers it", LOWERED],
                [_scales(pulls, self._same_scale), None],
            ]


AXES = [("right", "Shift right", range(-24, 25, 2)), ("radius", "Radius", range(0, 25))]


def _landscape(curves: Curves, shape: Shape, mask: Tensor, name: str, label: str, positions: range) -> dict:
    """The losses along one slider, with the others where they are."""
    logits = predicted_logits(replace(shape, **{name: torch.tensor(positions)[:, None, None]}))[:, None]
    values = {loss: torch.vmap(LOSSES[loss], in_dims=(0, None))(logits, mask).tolist() for loss in LINES}
    series = [
        curves.line(positions, values[loss], name=loss, color=colour, dash=dash)
        for loss, (colour, dash) in LINES.items()
    ]
    now = getattr(shape, name)
    return {
        "title": f"Losses along {label.lower()}",
        "label": f"Losses for {label.lower()} from {positions[0]} to {positions[-1]}; now at {now:g}",
        "xlabel": f"{label.lower()} (px)",
        "xlim": [positions[0], positions[-1]],
        "ylim": [0, 1.2 * max(map(max, values.values()))],  # room for the text of the mark
        "series": series,
        "marks": [{"x": now, "text": "now", "width": 2}],
    }


def _mosaic(mask: Tensor, logits: Tensor, predicted: Tensor, pulls: dict, same_scale: bool) -> np.ndarray:
    """Six tiles in a row."""
    probability = logits[0].sigmoid().numpy()
    errors = error_map(np.zeros((1, SIDE, SIDE)), mask[0], predicted[0])
    tiles = [np.repeat(255 * plane[..., None], 3, axis=2) for plane in (mask[0].numpy(), probability[0])]
    tiles.append(255 * errors)
    for name in PULLING:
        tiles.append(diverging(pulls[name], _scale(pulls, name, same_scale)))
    strip = np.full((SIDE, len(tiles) * (SIDE + GAP) - GAP, 3), 128, np.uint8)
    for i, tile in enumerate(tiles):
        left = i * (SIDE + GAP)
        strip[:, left : left + SIDE] = tile
    return strip


def _scale(pulls: dict, name: str, same_scale: bool) -> float:
    """The pull that has the full colour: the largest of the losses drawn, or of this one."""
    return float(max(np.abs(pulls[n]).max() for n in (PULLING if same_scale else [name])))


def _scales(pulls: dict, same_scale: bool) -> str:
    if same_scale:
        return f"full colour: {_scale(pulls, PULLING[0], True):.1e} in all three"
    return "full colour: " + ", ".join(f"{_scale(pulls, name, False):.1e}" for name in PULLING)


def _table(values: dict, pulls: dict) -> list[list[str]]:
    rows = [["", "Value", "Largest pull on a pixel"]]
    for name, value in values.items():
        pull = f"{np.abs(pulls[name]).max():.1e}" if name in pulls else "none: it is flat"
        rows.append([name, f"{value:.4f}", pull])
    return rows

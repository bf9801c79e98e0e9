"""The metric microscope of ``A2_metrics``: move, grow and erase a prediction over its truth and watch every metric at once.

Five small images, and a switchboard for how their scores become one: counts are summed over groups of 1 (per image), of a
batch, or of all five (pooled), divided, and averaged; a rule says what 0 / 0 counts as. ``predicted``, ``set_scores``,
``surface_distances``, ``hd95`` and ``nsd`` are the logic; ``MetricMicroscope`` binds them to the instrument.
Distances follow MONAI: outlines are the pixels that one erosion takes away, HD95 is the larger of the two directions.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL.ImageColor import getrgb
from scipy.ndimage import binary_erosion, distance_transform_edt
from torch import Tensor

from unetlab.lab.instrument import Curves, Instrument
from unetlab.metrics import SegmentationMetrics
from unetlab.plots import FALSE_ALARM, MISS, error_map

SIDE, GAP, TOLERANCE = 48, 3, 1.0  # pixels: a picture's side, the frame around it, how far a good outline may stray
TRUTHS = {"1 large": 14, "2 medium": 9, "3 small": 5, "4 tiny": 2, "5 empty": 0}  # radius in pixels
GROUPS = {1: "per image", 2: "batches of 2", 3: "batches of 3", 4: "batches of 4", 5: "pooled"}
EMPTY_RULES = {"1": 1.0, "0": 0.0, "left out": math.nan}
RATIOS = {  # weights of tp, fp, fn, tn above and below the line
    "Accuracy": ((1, 0, 0, 1), (1, 1, 1, 1)),
    "Precision": ((1, 0, 0, 0), (1, 1, 0, 0)),
    "Recall": ((1, 0, 0, 0), (1, 0, 1, 0)),
    "Dice": ((2, 0, 0, 0), (2, 1, 1, 0)),
    "IoU": ((1, 0, 0, 0), (1, 1, 1, 0)),
}
BLUE, ORANGE, GREEN, SKY = "#0072B2", "#D55E00", "#009E73", "#56B4E9"
SHIFTS = range(-12, 13)

CONTROLS = [
    {"id": "image", "kind": "select", "label": "Image", "options": list(TRUTHS)},
    {"id": "fit", "kind": "button", "label": "Onto the truth"},
    {"id": "silent", "kind": "button", "label": "Predict nothing"},
    {"id": "right", "kind": "range", "label": "Shift right", "row": 1, "min": -12, "max": 12, "step": 1},
    {"id": "down", "kind": "range", "label": "Shift down", "row": 1, "min": -12, "max": 12, "step": 1},
    {"id": "grow", "kind": "range", "label": "Grow", "row": 1, "min": -14, "max": 8, "step": 1},
    {"id": "erase", "kind": "range", "label": "Erase (%)", "row": 1, "min": 0, "max": 100, "step": 5},
    {"id": "speck", "kind": "range", "label": "False speck", "row": 1, "min": 0, "max": 6, "step": 1},
    {"id": "group", "kind": "range", "label": "Average", "row": 2, "min": 1, "max": 5, "step": 1, "texts": GROUPS},
    {"id": "empty", "kind": "select", "label": "0 / 0 counts as", "row": 2, "options": list(EMPTY_RULES)},
]


@dataclass(frozen=True)
class Edit:
    """What was done to the truth to get the prediction: shifted and grown in pixels, a share of its width erased from the
    left in percent, and a false speck of a radius in the corner."""

    right: int = 0
    down: int = 0
    grow: int = 0
    erase: int = 0
    speck: int = 0


def disc(x: float, y: float, radius: float) -> Tensor:
    """bool (SIDE, SIDE): the pixels up to ``radius`` from (x, y); none for a radius of 0."""
    line = torch.arange(float(SIDE))
    return (torch.hypot(line - x, line[:, None] - y) <= radius) & (radius > 0)


def predicted(radius: int, edit: Edit) -> Tensor:
    """The edited disc: bool (SIDE, SIDE)."""
    x, grown = SIDE // 2 + edit.right, radius + edit.grow if radius else 0
    kept = torch.arange(float(SIDE)) > x - grown - 1 + (2 * grown + 1) * edit.erase / 100
    return disc(x, SIDE // 2 + edit.down, grown) & kept | disc(6, 6, edit.speck)


def set_scores(counts: Tensor, group: int, empty: float) -> dict[str, float]:
    """Each ratio of a set: counts (images, 4) of tp, fp, fn, tn are summed over ``group`` images at a time and divided; the
    quotients are averaged. ``empty`` is the quotient of 0 / 0; nan leaves it out."""
    sums = torch.stack([part.sum(0) for part in counts.split(group)]).double()
    above, below = torch.tensor(list(RATIOS.values())).double().unbind(1)
    over, under = sums @ above.T, sums @ below.T  # (groups, ratios)
    means = torch.where(under > 0, over / under, empty).nanmean(0)
    return dict(zip(RATIOS, means.tolist(), strict=True))


def surface_distances(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each outline pixel of mask ``a`` lies from the outline of ``b``, and the other way round, in pixels."""
    edges = [mask & ~binary_erosion(mask) for mask in (a, b)]
    away = [distance_transform_edt(~edge) if edge.any() else np.full(edge.shape, np.inf) for edge in edges]
    return away[1][edges[0]], away[0][edges[1]]


def hd95(distances: tuple[np.ndarray, np.ndarray]) -> float:
    """The distance that 95 % of the outline pixels keep within, in the worse direction; inf if one mask is empty, nan if
    both are."""
    if not all(len(part) for part in distances):
        return math.inf if any(len(part) for part in distances) else math.nan
    return max(float(np.percentile(part, 95)) for part in distances)


def nsd(distances: tuple[np.ndarray, np.ndarray], tolerance: float = TOLERANCE) -> float:
    """Normalised surface Dice: the share of all outline pixels that lie within the tolerance; nan if there are none."""
    both = np.concatenate(distances)
    return float((both <= tolerance).mean()) if len(both) else math.nan


class MetricMicroscope:
    """Edit one of five predictions at a time; show it as the last line of a cell.

    Attributes:
        edits: an ``Edit`` for each of ``TRUTHS``.
        counts: int64 (5, 4): tp, fp, fn, tn of each image.
        scores: ``set_scores`` by the switchboard.
    """

    def __init__(self):
        self.edits = [Edit(right=3), Edit(grow=1), Edit(right=2, down=1), Edit(erase=100), Edit()]
        self._image, self._group, self._empty = "1 large", 1, "1"
        self._truths = [disc(SIDE // 2, SIDE // 2, radius) for radius in TRUTHS.values()]
        self._instrument = Instrument("Metric microscope", CONTROLS, self._touch)
        self._instrument.strip_titles = list(TRUTHS)
        self._refresh()

    def _repr_mimebundle_(self, **options):
        return self._instrument._repr_mimebundle_(**options)

    def _touch(self, name: str, value) -> None:
        chosen = list(TRUTHS).index(self._image)
        if name in ("image", "group", "empty"):
            setattr(self, f"_{name}", value)
        elif name == "fit":
            self.edits[chosen] = Edit()
        elif name == "silent":
            self.edits[chosen] = Edit(erase=100)
        else:
            self.edits[chosen] = replace(self.edits[chosen], **{name: value})
        self._refresh()

    def _refresh(self) -> None:
        chosen, group = list(TRUTHS).index(self._image), int(self._group)
        predictions = [predicted(radius, edit) for radius, edit in zip(TRUTHS.values(), self.edits, strict=True)]
        self.counts = _count(predictions, self._truths)
        self.scores = set_scores(self.counts, group, EMPTY_RULES[self._empty])
        pairs = zip(predictions, self._truths, strict=True)
        distances = [surface_distances(guess.numpy(), truth.numpy()) for guess, truth in pairs]
        instrument, curves = self._instrument, Curves()
        with instrument.hold_sync():
            switches = {"image": self._image, "group": group, "empty": self._empty}
            instrument.values = vars(self.edits[chosen]) | switches
            panels = [_conventions(curves, self.counts, group), self._along_shift(curves, chosen)]
            instrument.show_curves(panels, curves)
            instrument.show_strip(_mosaic(predictions, self._truths, chosen))
            instrument.table = self._table(chosen, distances)
            how = f"{GROUPS[group]}, 0 / 0 counts as {self._empty}"
            text = f"Dice of the five images ({how}): {_text(self.scores['Dice'])}"
            instrument.status = {"text": text, "progress": None, "problem": None}
            instrument.caption = [
                ["true positives", "#999999"],
                ["false negatives: missed", MISS],
                ["false positives: false alarm", FALSE_ALARM],
                ["true negatives", "#262626"],
                [f"framed: {self._image}", SKY],
            ]

    def _along_shift(self, curves: Curves, chosen: int) -> dict:
        """Dice, IoU and NSD of the chosen image for every shift to the right, all else as it is."""
        radius, truth, edit = list(TRUTHS.values())[chosen], self._truths[chosen], self.edits[chosen]
        guesses = [predicted(radius, replace(edit, right=shift)) for shift in SHIFTS]
        counts = _count(guesses, [truth] * len(SHIFTS))
        rows = [set_scores(row[None], 1, math.nan) for row in counts]
        values = {name: [row[name] for row in rows] for name in ("Dice", "IoU")}
        values["NSD"] = [nsd(surface_distances(guess.numpy(), truth.numpy())) for guess in guesses]
        looks = {"Dice": (BLUE, "solid"), "IoU": (ORANGE, "dashed"), "NSD": (GREEN, "dotted")}
        series = [curves.line(SHIFTS, values[name], name=name, color=c, dash=d) for name, (c, d) in looks.items()]
        return {
            "title": f"Image {self._image} along its shift",
            "label": f"Dice, IoU and NSD of image {self._image} for shifts from -12 to 12; now at {edit.right}",
            "xlabel": "shift right (px)",
            "ylim": [0, 1.1],
            "series": series,
            "marks": [{"x": edit.right, "text": "now", "width": 2}],
        }

    def _table(self, chosen: int, distances: list) -> list[list[str]]:
        rows = [["", f"Image {self._image}", "All five"]]
        sums = self.counts.sum(0).tolist()
        for name, one, all_five in zip(("tp", "fp", "fn", "tn"), self.counts[chosen].tolist(), sums, strict=True):
            rows.append([name, f"{one} px", f"{all_five} px"])
        own = set_scores(self.counts[chosen : chosen + 1], 1, math.nan)
        rows += [[name, _text(own[name]), _text(self.scores[name])] for name in RATIOS]
        for name, unit, function in (("HD95", " px", hd95), (f"NSD within {TOLERANCE:g} px", "", nsd)):
            values = [function(pair) for pair in distances]
            defined = [value for value in values if math.isfinite(value)]
            mean = _text(sum(defined) / len(defined), unit) if defined else "not defined"
            rows.append([name, _text(values[chosen], unit), f"{mean} (mean of {len(defined)})"])
        return rows


def _count(predictions: list[Tensor], truths: list[Tensor]) -> Tensor:
    metrics = SegmentationMetrics()
    metrics.update(torch.stack(predictions).long(), torch.stack(truths).long())
    return metrics.counts[:, 0]


def _text(value: float, unit: str = "") -> str:
    if math.isnan(value):
        return "not defined: 0 / 0"
    return "not defined: nothing there" if math.isinf(value) else f"{value:.3f}{unit}"


def _conventions(curves: Curves, counts: Tensor, group: int) -> dict:
    """The Dice of the set by every convention: the group's size along x, a line for each rule."""
    looks = dict(zip(EMPTY_RULES, ((BLUE, "solid"), (ORANGE, "dashed"), (GREEN, "dotted")), strict=True))
    values = {name: [set_scores(counts, k, rule)["Dice"] for k in GROUPS] for name, rule in EMPTY_RULES.items()}
    series = [
        curves.line(GROUPS, values[name], name=f"0 / 0 is {name}", color=c, dash=d, dots=3)
        for name, (c, d) in looks.items()
    ]
    low, high = (f(v for row in values.values() for v in row if v == v) for f in (min, max))
    return {
        "title": "One set, fifteen Dice scores",
        "label": f"Dice of the set by images a group and empty rule: from {low:.3f} to {high:.3f}",
        "xlabel": "images summed before dividing",
        "xlim": [0.8, 5.2],
        "ylim": [0, 1.1],
        "series": series,
        "marks": [{"x": group, "text": "now", "width": 2}],
    }


def _mosaic(predictions: list[Tensor], truths: list[Tensor], chosen: int) -> np.ndarray:
    """Five tiles in a row, each in a frame; the chosen one's is sky blue."""
    wide = SIDE + 2 * GAP
    strip = np.full((wide, len(truths) * wide, 3), 255, np.uint8)
    strip[:, chosen * wide : (chosen + 1) * wide] = getrgb(SKY)
    for i, (guess, truth) in enumerate(zip(predictions, truths, strict=True)):
        tile = error_map(truth[None].numpy().astype(float), truth, guess)
        strip[GAP:-GAP, i * wide + GAP : (i + 1) * wide - GAP] = (255 * tile).round()
    return strip

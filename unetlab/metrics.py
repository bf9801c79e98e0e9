"""Dice and IoU from counted pixels: how a segmentation is scored, and what must be said beside the number.

Taught in ``A2_metrics``. A score is a ratio of counts: true positives (tp), false positives (fp), false negatives (fn).
Two choices change it more than most training tricks do, so both are arguments here and neither is an accident:

* ``reduction``: "per_image" scores each image and takes the mean; "pooled" adds up the counts of all images first.
* ``zero_division``: the score of a class that is neither in the truth nor in the prediction (0 / 0). 1.0 calls that
  right, 0.0 wrong, ``nan`` leaves it out of the mean.

Counts are added up as integers on the device, so the score of a set does not depend on the evaluation batch size.
Source: Dice 1945; the identities D = 2J / (1 + J) and J = D / (2 - D) hold for the same counts, never for averages.
"""

import torch
from torch import Tensor


def class_ids(prediction: Tensor) -> Tensor:
    """Logits (N, C, H, W) -> class ids (N, H, W): above 0 for one channel, the argmax for several. Ids pass through."""
    if prediction.is_floating_point():
        if prediction.dim() != 4:
            raise ValueError(f"logits must have shape (N, C, H, W), not {tuple(prediction.shape)}")
        return (prediction[:, 0] > 0).long() if prediction.shape[1] == 1 else prediction.argmax(dim=1)
    return target_ids(prediction)


def target_ids(targets: Tensor) -> Tensor:
    """Integer class ids as (N, H, W); an axis of one channel is dropped."""
    if targets.dim() == 4 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.dim() != 3 or targets.is_floating_point():
        raise ValueError(f"masks must be integer class ids (N, H, W), not {targets.dtype} {tuple(targets.shape)}")
    return targets


class SegmentationMetrics:
    """Adds up tp, fp, fn, tn of each image and class over a set, batch by batch, and divides once at the end.

    Args:
        num_classes: 1 for binary (only the foreground is scored), otherwise the number of classes.
        reduction: "per_image" (mean over images of the mean over classes) or "pooled" (counts of all images together,
            then the mean over classes).
        zero_division: the score where a class is absent from truth and prediction: 1.0, 0.0 or ``float("nan")`` (left
            out of the mean).
        include_background: whether class 0 counts in the mean when there are several classes.
        ignore_index: pixels with this class id in the truth are not counted.

    Raises:
        ValueError: an unknown reduction; shapes that differ; class ids outside the classes (at ``compute``).

    The counts equal segmentation-models-pytorch's ``get_stats``; "per_image" is its "macro-imagewise", and "pooled" its
    "macro" reduction.
    """

    def __init__(
        self,
        num_classes: int = 1,
        reduction: str = "per_image",
        zero_division: float = 1.0,
        include_background: bool = True,
        ignore_index: int | None = None,
    ):
        if reduction not in ("per_image", "pooled"):
            raise ValueError(f"reduction must be per_image or pooled, not {reduction!r}")
        self.num_classes, self.reduction, self.zero_division = num_classes, reduction, zero_division
        self.include_background, self.ignore_index = include_background, ignore_index
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._counts: list[Tensor] = []
        self._outside: list[Tensor] = []

    @torch.no_grad()
    def update(self, prediction: Tensor, targets: Tensor) -> None:
        """Count a batch: logits (N, C, H, W) or class ids (N, H, W), and targets (N, H, W). Waits for no GPU."""
        prediction, targets = class_ids(prediction), target_ids(targets)
        if prediction.shape != targets.shape:
            raise ValueError(f"prediction {tuple(prediction.shape)} and targets {tuple(targets.shape)} differ in shape")
        valid = (
            torch.ones_like(targets, dtype=torch.bool) if self.ignore_index is None else targets != self.ignore_index
        )
        self._outside.append((((targets < 0) | (targets >= max(self.num_classes, 2))) & valid).sum())
        counts = []
        for c in [1] if self.num_classes == 1 else range(self.num_classes):
            guess, truth = (prediction == c) & valid, (targets == c) & valid
            tp, guessed, true, total = (x.flatten(1).sum(1) for x in (guess & truth, guess, truth, valid))
            counts.append(torch.stack([tp, guessed - tp, true - tp, total - guessed - true + tp], dim=1))
        self._counts.append(torch.stack(counts, dim=1))

    @property
    def counts(self) -> Tensor:
        """(images, classes, 4) int64 tensor of tp, fp, fn, tn. Several classes: one row a class, background first."""
        if not self._counts:
            raise ValueError("no image was counted: call update(prediction, targets) first")
        return torch.cat(self._counts)

    def compute(self, counts: Tensor | None = None) -> dict:
        """``dice`` and ``iou`` (floats), ``dice_per_class``, ``iou_per_class`` and ``dice_per_image`` (lists).

        ``counts``: those of the whole set, where several processes counted a part each; None for one's own.
        """
        counts = (self.counts if counts is None else counts).cpu()
        if any(outside.item() for outside in self._outside):
            raise ValueError(f"the targets hold class ids outside 0..{max(self.num_classes, 2) - 1} (0/255 masks?)")
        first = 0 if self.num_classes == 1 or self.include_background else 1
        result = {}
        for name in ("dice", "iou"):
            by_image = _ratio(counts, name, self.zero_division)  # (images, classes)
            by_class = _ratio(counts.sum(0), name, self.zero_division)  # (classes,), pooled
            score = by_class[first:].nanmean()
            if self.reduction == "per_image":
                score, by_class = by_image[:, first:].nanmean(1).nanmean(), by_image.nanmean(0)
            result |= {name: score.item(), f"{name}_per_class": by_class.tolist()}
        result["dice_per_image"] = _ratio(counts, "dice", self.zero_division)[:, first:].nanmean(1).tolist()
        return result


def _ratio(counts: Tensor, name: str, zero_division: float) -> Tensor:
    """Dice or IoU of counts (..., 4) in float64 -> (...)."""
    tp, fp, fn, _ = counts.double().unbind(-1)
    over, under = (2 * tp, 2 * tp + fp + fn) if name == "dice" else (tp, tp + fp + fn)
    return torch.where(under > 0, over / under.clamp_min(1), torch.full_like(under, zero_division))


def dice_score(prediction: Tensor, targets: Tensor, num_classes: int | None = None, **options) -> float:
    """Dice coefficient, ``2 tp / (2 tp + fp + fn)``, of hard predictions.

    Args:
        prediction: logits (N, C, H, W), or class ids (N, H, W).
        targets: class ids (N, H, W).
        num_classes: 1 for binary; taken from the logits' channels when None (from ids: binary).
        options: ``reduction``, ``zero_division``, ``include_background``, ``ignore_index`` of ``SegmentationMetrics``.

    Returns:
        a float in [0, 1] (nan if every score was left out).

    Raises:
        ValueError: as in ``SegmentationMetrics``.
    """
    return _score("dice", prediction, targets, num_classes, options)


def iou_score(prediction: Tensor, targets: Tensor, num_classes: int | None = None, **options) -> float:
    """Intersection over union (Jaccard index), ``tp / (tp + fp + fn)``; arguments, result and errors of ``dice_score``."""
    return _score("iou", prediction, targets, num_classes, options)


def _score(name: str, prediction: Tensor, targets: Tensor, num_classes: int | None, options: dict) -> float:
    if num_classes is None:
        num_classes = prediction.shape[1] if prediction.is_floating_point() and prediction.dim() == 4 else 1
    metrics = SegmentationMetrics(num_classes, **options)
    metrics.update(prediction, targets)
    return metrics.compute()[name]

"""Losses on logits: what the network is asked to make small.

Taught in ``02b_losses``. Cross-entropy is torch's own (``torch.nn.functional``); here are the region losses, the focal
loss, their sum, and the weight map of the U-Net paper. Every loss

* takes **logits** ``(N, C, H, W)``: ``C = 1`` means binary (a sigmoid), ``C > 1`` means classes (a softmax);
* takes targets ``(N, H, W)`` of integer class ids (binary also ``(N, 1, H, W)``);
* computes in float32 whatever the autocast says: in half precision the sum over a 512x512 image overflows to inf;
* is a mean over images, so it does not depend on how images are grouped into batches (``DiceLoss(per_image=False)``
  excepted, and said there).

Values of the targets are not checked here (that would make a GPU wait at every step): ``Trainer`` checks them once.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _check(logits: Tensor, targets: Tensor) -> Tensor:
    """Targets as (N, H, W); raises ValueError where the shapes or dtypes cannot mean a segmentation."""
    if logits.dim() != 4 or not logits.is_floating_point():
        raise ValueError(f"logits must be floats of shape (N, C, H, W), not {logits.dtype} {tuple(logits.shape)}")
    binary = logits.shape[1] == 1
    if binary and targets.dim() == 4 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.shape != logits.shape[:1] + logits.shape[2:]:
        raise ValueError(
            f"targets must be class ids of shape (N, H, W) = {tuple(logits.shape[:1] + logits.shape[2:])}, "
            f"not {tuple(targets.shape)}: is a channel axis too many?"
        )
    if targets.is_floating_point() and not binary:
        raise ValueError(f"targets of several classes must be integer class ids, not {targets.dtype}: use .long()")
    return targets


def _pixelwise_cross_entropy(logits: Tensor, targets: Tensor, ignore_index: int | None) -> tuple[Tensor, Tensor | None]:
    """Cross-entropy of every pixel (N, H, W) in float32, and a mask of the pixels that count (None: all)."""
    targets = _check(logits, targets)
    valid = None if ignore_index is None else targets != ignore_index
    if valid is not None:
        targets = targets.masked_fill(~valid, 0)
    if logits.shape[1] == 1:
        loss = F.binary_cross_entropy_with_logits(logits[:, 0].float(), targets.float(), reduction="none")
    else:
        loss = F.cross_entropy(logits.float(), targets.long(), reduction="none")
    return loss, valid


def _mean_per_image(loss: Tensor, weights: Tensor | None) -> Tensor:
    """Weighted mean over the pixels of each image, then over images. (N, H, W) -> scalar."""
    if weights is None:
        return loss.mean()
    weights = weights.to(loss.dtype).flatten(1)
    # An image without a pixel that counts adds 0 and not 0 / 0.
    return ((loss.flatten(1) * weights).sum(1) / weights.sum(1).clamp_min(1e-12)).mean()


class TverskyLoss(nn.Module):
    """One minus the soft Tversky index, ``(TP + s) / (TP + alpha FP + beta FN + s)``.

    ``alpha`` weighs false alarms, ``beta`` misses; ``alpha = beta = 0.5`` is the Dice loss up to ``smooth`` (halved),
    ``alpha = beta = 1`` the soft Jaccard loss. Source: Salehi, Erdogmus, Gholipour 2017, arXiv:1706.05721.

    Args:
        alpha, beta: at least 0.
        smooth, per_image, include_background, ignore_index: as in ``DiceLoss``.

    Shape: logits (N, C, H, W), targets (N, H, W) -> scalar in [0, 1].

    Raises:
        ValueError: shapes or dtypes that do not fit.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        smooth: float = 1e-5,
        per_image: bool = True,
        include_background: bool = True,
        ignore_index: int | None = None,
    ):
        super().__init__()
        self.alpha, self.beta, self.smooth = alpha, beta, smooth
        self.per_image, self.include_background, self.ignore_index = per_image, include_background, ignore_index

    def _probabilities_and_truth(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Both as float32 (groups, classes, pixels); ignored pixels are 0 in both, so they add to no sum."""
        targets = _check(logits, targets)
        logits, classes = logits.float(), logits.shape[1]
        valid = None if self.ignore_index is None else (targets != self.ignore_index)[:, None]
        if valid is not None:
            targets = targets.masked_fill(~valid[:, 0], 0)
        if classes == 1:
            probabilities, truth = logits.sigmoid(), targets[:, None].float()
        else:
            probabilities = logits.softmax(dim=1)
            truth = F.one_hot(targets.long(), classes).movedim(-1, 1).float()
        if valid is not None:
            probabilities, truth = probabilities * valid, truth * valid
        if classes > 1 and not self.include_background:
            probabilities, truth = probabilities[:, 1:], truth[:, 1:]
        probabilities, truth = probabilities.flatten(2), truth.flatten(2)
        if not self.per_image:  # one large image: (1, classes, N * pixels)
            probabilities, truth = (x.transpose(0, 1).flatten(1)[None] for x in (probabilities, truth))
        return probabilities, truth

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        probabilities, truth = self._probabilities_and_truth(logits, targets)
        hits = (probabilities * truth).sum(-1)
        false_alarms, misses = probabilities.sum(-1) - hits, truth.sum(-1) - hits
        index = (hits + self.smooth) / (hits + self.alpha * false_alarms + self.beta * misses + self.smooth)
        return 1 - index.mean()


class DiceLoss(TverskyLoss):
    """One minus the soft Dice coefficient, ``(2 sum(p g) + s) / (sum(p) + sum(g) + s)``, mean over images and classes.

    Source: Milletari, Navab, Ahmadi 2016 (V-Net), arXiv:1606.04797, section 3, which squares the denominator
    (``squared=True``). Equal to MONAI's ``DiceLoss(sigmoid=True)`` or ``softmax=True`` with the same smoothing
    (``per_image=False`` is its ``batch=True``); ``per_image=False`` is also segmentation-models-pytorch's, except that
    SMP gives a class that is absent from the whole batch the loss 0, and here it counts.

    An image without foreground: the loss is ``1 - s / (sum(p) + s)``, close to 1 for any false alarm, and its gradient
    is almost 0. So this loss alone does not teach the network to stay silent: pair it with cross-entropy
    (``CompoundLoss``). Empty and well predicted: 0.

    Args:
        smooth: added to both sides of the fraction, in pixels; it decides the value on empty masks.
        squared: square the probabilities (and the truth) in the denominator.
        per_image: one Dice an image, then the mean; False: one Dice over the whole batch, which depends on the batch.
        include_background: whether class 0 counts when there are several classes.
        ignore_index: pixels with this class id count nowhere.

    Shape: logits (N, C, H, W), targets (N, H, W) -> scalar in [0, 1].

    Raises:
        ValueError: shapes or dtypes that do not fit.
    """

    def __init__(
        self,
        smooth: float = 1e-5,
        squared: bool = False,
        per_image: bool = True,
        include_background: bool = True,
        ignore_index: int | None = None,
    ):
        super().__init__(0.5, 0.5, smooth, per_image, include_background, ignore_index)
        self.squared = squared

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        probabilities, truth = self._probabilities_and_truth(logits, targets)
        overlap = (probabilities * truth).sum(-1)
        if self.squared:
            probabilities, truth = probabilities.square(), truth.square()
        dice = (2 * overlap + self.smooth) / (probabilities.sum(-1) + truth.sum(-1) + self.smooth)
        return 1 - dice.mean()


class FocalLoss(nn.Module):
    """Cross-entropy that fades where the network is already right: ``(1 - p_t) ** gamma`` times the pixel's loss.

    Source: Lin et al. 2017, arXiv:1708.02002, equations 4 and 5. ``gamma=0`` is plain cross-entropy.

    Args:
        gamma: at least 0; how fast easy pixels fade.
        alpha: weight of the foreground, 1 - alpha of the background (one-channel logits only); None for no weights.
        ignore_index: pixels with this class id count nowhere.

    Shape: logits (N, C, H, W), targets (N, H, W) -> scalar, at least 0.

    Raises:
        ValueError: shapes or dtypes that do not fit; alpha with several classes.
    """

    def __init__(self, gamma: float = 2.0, alpha: float | None = None, ignore_index: int | None = None):
        super().__init__()
        self.gamma, self.alpha, self.ignore_index = gamma, alpha, ignore_index

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        loss, valid = _pixelwise_cross_entropy(logits, targets, self.ignore_index)
        # exp(-loss) is p_t, the probability given to the true class.
        loss = (1 - torch.exp(-loss)).clamp_min(1e-8) ** self.gamma * loss
        if self.alpha is not None:
            if logits.shape[1] != 1:
                raise ValueError("FocalLoss(alpha=...) is for one-channel logits; leave it None for several classes")
            foreground = _check(logits, targets) == 1
            loss = loss * torch.where(foreground, self.alpha, 1 - self.alpha)
        return _mean_per_image(loss, valid)


class CompoundLoss(nn.Module):
    """Cross-entropy plus Dice, the default of nnU-Net: ``lambda_ce * CE + lambda_dice * Dice``.

    Cross-entropy gives every pixel a gradient from the first step (and punishes false alarms on empty images); Dice
    counts objects by overlap, whatever their share of the image. Source: Isensee et al. 2021 (nnU-Net), Nature Methods
    18, 203-211; Ma et al. 2021, "Loss odyssey", Medical Image Analysis 71.

    Args:
        lambda_ce, lambda_dice: weights of the two terms.
        class_weights: one weight a class for the cross-entropy (for one-channel logits two: background, foreground).
        ignore_index: pixels with this class id count in neither term.
        dice: the region loss; ``DiceLoss(ignore_index=ignore_index)`` when None.

    Shape: logits (N, C, H, W), targets (N, H, W), pixel_weights (N, H, W) or None -> scalar.

    Raises:
        ValueError: shapes or dtypes that do not fit.
    """

    def __init__(
        self,
        lambda_ce: float = 1.0,
        lambda_dice: float = 1.0,
        class_weights=None,
        ignore_index: int | None = None,
        dice: nn.Module | None = None,
    ):
        super().__init__()
        self.lambda_ce, self.lambda_dice, self.ignore_index = lambda_ce, lambda_dice, ignore_index
        weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights)
        self.dice = DiceLoss(ignore_index=ignore_index) if dice is None else dice

    def forward(self, logits: Tensor, targets: Tensor, pixel_weights: Tensor | None = None) -> Tensor:
        loss, weights = _pixelwise_cross_entropy(logits, targets, self.ignore_index)
        if self.class_weights is not None:
            ids = _check(logits, targets).long()
            ids = ids if weights is None else ids.masked_fill(~weights, 0)
            by_class = self.class_weights.to(loss.device)[ids]
            weights = by_class if weights is None else by_class * weights
        if pixel_weights is not None:  # a weight map raises the loss, so it is not divided out again
            loss = loss * pixel_weights
        return self.lambda_ce * _mean_per_image(loss, weights) + self.lambda_dice * self.dice(logits, targets)


def weight_map(labels, w0: float = 10.0, sigma: float = 5.0) -> Tensor:
    """The pixel weights of the U-Net paper, which force the network to learn the gaps between touching cells.

    ``w(x) = w_c(x) + w0 * exp(-(d1(x) + d2(x))**2 / (2 sigma**2))`` with d1, d2 the distances in pixels to the border of
    the nearest and the second nearest object, and w_c the inverse share of the pixel's class (object or background),
    scaled to a mean of 1. Source: Ronneberger et al. 2015, section 3, equation 2, with w0 = 10 and sigma of about 5 px.

    Args:
        labels: (H, W) or (N, H, W) integer array or tensor of object ids, 0 for background. A binary mask works too: its
            connected parts are taken as the objects.

    Returns:
        float32 tensor of the same shape, at least 0. Use it as ``CompoundLoss()(logits, targets, pixel_weights)``.

    Raises:
        ValueError: another number of axes, or values that are not integers.
    """
    from scipy import ndimage  # half a second, which those who train without a weight map need not wait

    labels = np.asarray(labels)
    if labels.dtype == bool:
        labels = labels.astype(np.uint8)
    if labels.ndim not in (2, 3) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"weight_map takes integer labels (H, W) or (N, H, W), not {labels.dtype} {labels.shape}")
    if labels.ndim == 3:
        return torch.stack([weight_map(image, w0, sigma) for image in labels])

    if labels.max(initial=0) <= 1:
        labels, _ = ndimage.label(labels)
    weights = np.ones(labels.shape)
    for part in (labels == 0, labels != 0):
        if 0 < part.sum() < part.size:
            weights[part] = 0.5 / part.mean()
    objects = [labels == i for i in np.unique(labels) if i != 0]
    if len(objects) >= 2:
        nearest, second = np.sort([ndimage.distance_transform_edt(~o) for o in objects], axis=0)[:2]
        weights += w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    return torch.from_numpy(weights.astype(np.float32))

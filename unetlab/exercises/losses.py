"""Checkers for the exercises of ``02b_losses``. Each answers right, wrong (because ...) or not attempted."""

import math
from collections.abc import Callable
from numbers import Number

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from unetlab.exercises.verdict import Verdict, not_attempted, right, wrong
from unetlab.losses import weight_map


def check_border_weights(function: Callable) -> Verdict:
    """``border_weights(labels, w0, sigma)``: the second term of the paper's weights, ``w0 exp(-(d1 + d2)^2 / 2 sigma^2)``.

    ``labels`` is an integer array (H, W), 0 for background and another number for each cell; the answer has its shape.
    """
    for labels, w0, sigma in ((_three_cells(), 10.0, 5.0), (_three_cells().T.copy(), 4.0, 2.0)):
        try:
            answer = function(labels.copy(), w0, sigma)
        except Exception as error:
            return wrong(f"for three cells your function fails with {type(error).__name__}: {error}")
        if answer is None or answer is Ellipsis:
            return not_attempted("your function returns nothing yet: replace the dots and run the cell again.")
        answer = np.asarray(answer)
        if answer.shape != labels.shape or answer.dtype == object:
            return wrong(f"for labels of shape {labels.shape} the answer has shape {answer.shape}: one weight a pixel.")
        truth = (weight_map(labels, w0, sigma) - weight_map(labels, 0.0, sigma)).numpy()
        if np.allclose(answer, truth, atol=1e-4 * w0):
            continue
        for why, mistake in _border_mistakes(labels, w0, sigma).items():
            if np.allclose(answer, mistake, atol=1e-4 * w0):
                return wrong(why)
        y, x = np.unravel_index(np.abs(answer - truth).argmax(), truth.shape)
        return wrong(
            f"with w0 = {w0:g} and sigma = {sigma:g} pixel ({y}, {x}) has weight {truth[y, x]:.3f}, and you say "
            f"{answer[y, x]:.3f}. Take its distances to the nearest and the second nearest cell, and follow the formula."
        )
    one_cell = np.where(_three_cells() == 1, 1, 0)
    try:
        answer = np.asarray(function(one_cell, 10.0, 5.0), dtype=float)
    except Exception as error:
        return wrong(
            f"with one cell your function fails ({type(error).__name__}: {error}). There is no second cell, so no gap "
            "to learn: return zeros."
        )
    if answer.shape != one_cell.shape or answer.any():
        return wrong("with one cell there is no second one, and so no gap to learn: return zeros (H, W).")
    return right("narrow gaps weigh most, and a cell on its own gets no extra weight.")


def _three_cells() -> np.ndarray:
    """Labels (24, 30) of three cells of different shape: the third and the first are the closest."""
    y, x = np.mgrid[:24, :30]
    labels = np.zeros((24, 30), int)
    for i, (row, column, down, across) in enumerate([(6, 7, 4, 5), (17, 22, 5, 4), (8, 18, 3, 4)], start=1):
        labels[((y - row) / down) ** 2 + ((x - column) / across) ** 2 <= 1] = i
    return labels


def _border_mistakes(labels: np.ndarray, w0: float, sigma: float) -> dict[str, np.ndarray]:
    """What known mistakes compute, by what to say of them."""
    cells = [labels == i for i in np.unique(labels) if i]
    distances = np.stack([distance_transform_edt(~cell) for cell in cells])
    inside = np.sort([distance_transform_edt(cell) for cell in cells], axis=0)
    ordered = np.sort(distances, axis=0)
    nearest, second = ordered[:2]

    def bell(d, width=2 * sigma**2):
        return w0 * np.exp(-(d**2) / width)

    return {
        "you used d1 alone: every cell gets a halo. The sum d1 + d2 is small only where two cells are near.": bell(
            nearest
        ),
        "you used d2 alone. The exponent holds the sum of both distances.": bell(second),
        "you doubled d1: the distance to the nearest cell says nothing of a second one.": bell(2 * nearest),
        "each distance is squared by itself; the formula squares their sum, (d1 + d2)^2.": bell(
            np.hypot(nearest, second)
        ),
        "the sum is not squared: (d1 + d2)^2.": w0 * np.exp(-(nearest + second) / (2 * sigma**2)),
        "the width is 2 sigma^2; you divide by sigma^2.": bell(nearest + second, sigma**2),
        "the width is 2 sigma^2; you divide by 2 sigma.": bell(nearest + second, 2 * sigma),
        "w0 is missing: it says how much the narrowest gap weighs.": bell(nearest + second) / w0,
        "you took the first two cells of the list for every pixel; d1 and d2 are each pixel's own: sort the distances.": (
            bell(distances[0] + distances[1])
        ),
        "you took the two farthest cells: np.sort puts the nearest first.": bell(ordered[-1] + ordered[-2]),
        "you measured inside the cells: distance_transform_edt gives the distance to the nearest zero, so it wants "
        "True everywhere but in the cell.": bell(inside[0] + inside[1]),
        "you took the two largest distances inside the cells; invert each cell first (~), then take the smallest.": bell(
            inside[-1] + inside[-2]
        ),
        "that is the whole weight map, with the class weights w_c; asked is its second term alone.": weight_map(
            labels, w0, sigma
        ).numpy(),
    }


def check_dice_gradient(function: Callable) -> Verdict:
    """``dice_gradient(p, g, smooth)``: the derivative of ``1 - (2 sum(p g) + s) / (sum(p) + sum(g) + s)`` by every p.

    ``p`` and ``g`` are float tensors (pixels,): probabilities, and the truth in zeros and ones; the answer has their shape.
    """
    p = torch.tensor([0.9, 0.4, 0.3, 0.1, 0.6, 0.2], dtype=torch.float64)
    some = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    for g, smooth in ((some, 0.5), (torch.zeros_like(p), 1.0)):
        answer = function(p.clone(), g.clone(), smooth)
        case = "on the empty mask" if not g.any() else "for p = " + ", ".join(f"{v:g}" for v in p.tolist())
        if answer is None or answer is Ellipsis:
            return not_attempted("your function returns nothing yet: replace the dots and run the cell again.")
        if not isinstance(answer, torch.Tensor) or answer.shape != p.shape:
            shape = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
            return wrong(f"{case} it returns {shape}: a tensor {tuple(p.shape)} is asked, one derivative a pixel.")
        leaf = p.clone().requires_grad_()
        dice = (2 * (leaf * g).sum() + smooth) / (leaf.sum() + g.sum() + smooth)
        (truth,) = torch.autograd.grad(1 - dice, leaf)
        if torch.allclose(answer.double(), truth, atol=1e-6):
            continue
        for why, mistake in _gradient_mistakes(p, g, smooth).items():
            if torch.allclose(answer.double(), mistake, atol=1e-6):
                return wrong(why)
        said, true = (", ".join(f"{v:.3f}" for v in values.tolist()) for values in (answer, truth))
        return wrong(f"{case} autograd says {true}, and you say {said}. Begin with the quotient rule.")
    return right("it agrees with autograd, on the empty mask too.")


def _gradient_mistakes(p, g, smooth) -> dict[str, torch.Tensor]:
    """What known mistakes compute, by what to say of them."""
    over, under = 2 * (p * g).sum() + smooth, p.sum() + g.sum() + smooth
    dice = over / under
    truth = (dice - 2 * g) / under
    squares = p.square().sum() + g.sum() + smooth
    plain = under - smooth
    return {
        "the sign is turned: that is the derivative of Dice, and the loss is 1 - Dice.": -truth,
        "you differentiated the numerator only. A larger p makes the denominator larger too.": -2 * g / under,
        "you differentiated the denominator only; where g is 1 the numerator grows with p, by 2.": dice / under + 0 * g,
        "you lost a division: by the quotient rule the denominator divides everything once more.": dice - 2 * g,
        "the numerator is 2 sum(p g), so its derivative is 2 g, not g.": (dice - g) / under,
        "smooth is missing: it stands in numerator and denominator.": (2 * (p * g).sum() / plain - 2 * g) / plain,
        "smooth is missing in the denominator.": (over / plain - 2 * g) / plain,
        "smooth is missing in the numerator.": (2 * (p * g).sum() / under - 2 * g) / under,
        "that is the derivative with V-Net's squared denominator; here the sums are plain.": (
            2 * p * (over / squares) - 2 * g
        )
        / squares,
        "you multiplied by p (1 - p): that is the derivative by the logit. Asked is the one by p.": truth * p * (1 - p),
        "you divided by the number of pixels; the Dice loss is a ratio of sums, not a mean over pixels.": truth
        / len(p),
    }


def check_empty_mask_loss(answer) -> Verdict:
    """The Dice loss, smooth = 1, of p = 0.01 in each of the 64 x 64 pixels of an image without foreground: 0.976."""
    if answer is None or answer is Ellipsis:
        return not_attempted("put your number in place of the dots.")
    if not isinstance(answer, Number):
        return wrong(f"{answer!r} is a {type(answer).__name__}, not a number.")
    total = 0.01 * 64 * 64
    truth = 1 - 1 / (total + 1)
    known = {
        1 / (total + 1): "that is the soft Dice coefficient; the loss is one minus it.",
        0.0: "nothing is there, but something was said: 40.96 pixels' worth of foreground in all.",
        1.0: "that is the loss without smoothing. smooth = 1 stands in the numerator too, so a little is left.",
        total: "that is the sum of p. It goes into the denominator.",
        0.01: "that is p itself. Dice sums p over the image: 4096 times 0.01.",
        0.99: "that is 1 - p. Dice sums p over the image: 4096 times 0.01.",
        1 - 1 / 1.01: "you took the mean of p; Dice takes the sum, 4096 times 0.01.",
        -math.log(0.99): "that is the cross-entropy, which is a mean over pixels, and small.",
        1 - 1 / total: "smooth is missing in the denominator.",
        1 - 1 / (2 * total + 1): "p is counted twice: the truth adds nothing to the denominator.",
        1 - 1 / (0.64 + 1): "you summed 64 pixels; the image has 64 x 64.",
    }
    if math.isclose(answer, truth, abs_tol=5e-4):
        return right("almost the largest loss there is, though every pixel is called background with p = 0.01.")
    nearest = min(known, key=lambda mistake: abs(answer - mistake))
    if math.isclose(answer, nearest, rel_tol=1e-3, abs_tol=5e-4):
        return wrong(f"{answer:g} is not it: {known[nearest]}")
    return wrong(f"{answer:g} is not 1 - (2 sum(p g) + 1) / (sum(p) + sum(g) + 1) with g = 0 everywhere.")

"""The checkers of the notebook on losses: every known wrong answer has its message, the folded solutions are right."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from checkers import said, solved_by
from scipy.ndimage import distance_transform_edt

import unetlab as ul
from unetlab.exercises.losses import check_border_weights, check_dice_gradient, check_empty_mask_loss

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "02b_losses.ipynb"


@pytest.fixture
def solved():
    return solved_by("02b_losses")


def test_the_folded_solutions_are_right(solved):
    assert said(check_border_weights(solved["border_weights"]), "right", "narrow gaps weigh most")
    assert said(check_dice_gradient(solved["dice_gradient"]), "right", "agrees with autograd")
    assert said(check_empty_mask_loss(solved["my_loss"]), "right", "almost the largest loss")


@pytest.mark.parametrize("nothing", [None, ...])
def test_not_attempted(nothing):
    assert said(check_border_weights(lambda labels, w0, sigma: nothing), "not attempted", "replace the dots")
    assert said(check_dice_gradient(lambda p, g, smooth: nothing), "not attempted", "replace the dots")
    assert said(check_empty_mask_loss(nothing), "not attempted", "put your number in place of the dots")


# ----------------------------------------------------------------------------------------------------- border weights


def distances(labels, outside=True):
    cells = [labels == i for i in np.unique(labels) if i]
    return np.stack([distance_transform_edt(~cell if outside else cell) for cell in cells])


def weights(pick, measure=None, outside=True):
    """A learner's function that combines the sorted distances in its own way."""

    def function(labels, w0, sigma):
        d = np.sort(distances(labels, outside), axis=0)
        return (measure or (lambda d, w0, sigma: w0 * np.exp(-(d**2) / (2 * sigma**2))))(pick(d), w0, sigma)

    return function


def both(d):
    return d[0] + d[1]


def unsorted(labels, w0, sigma):
    return w0 * np.exp(-(both(distances(labels)) ** 2) / (2 * sigma**2))


def no_check(labels, w0, sigma):
    """Right but for an image with one cell, where d1 stands in for d2."""
    d = np.sort(distances(labels), axis=0)
    return w0 * np.exp(-((d[0] + d[min(1, len(d) - 1)]) ** 2) / (2 * sigma**2))


BORDERS = {
    "every cell gets a halo": weights(lambda d: d[0]),
    "you used d2 alone": weights(lambda d: d[1]),
    "you doubled d1": weights(lambda d: 2 * d[0]),
    "each distance is squared by itself": weights(lambda d: np.hypot(d[0], d[1])),
    "the sum is not squared": weights(both, lambda d, w0, sigma: w0 * np.exp(-d / (2 * sigma**2))),
    "you divide by sigma^2": weights(both, lambda d, w0, sigma: w0 * np.exp(-(d**2) / sigma**2)),
    "you divide by 2 sigma": weights(both, lambda d, w0, sigma: w0 * np.exp(-(d**2) / (2 * sigma))),
    "w0 is missing": weights(both, lambda d, w0, sigma: np.exp(-(d**2) / (2 * sigma**2))),
    "the first two cells of the list": unsorted,
    "the two farthest cells": weights(lambda d: d[-1] + d[-2]),
    "you measured inside the cells": weights(both, outside=False),
    "invert each cell first": weights(lambda d: d[-1] + d[-2], outside=False),
    "asked is its second term alone": lambda labels, w0, sigma: ul.weight_map(labels, w0, sigma),
    "the answer has shape (3, 24, 30)": lambda labels, w0, sigma: distances(labels),
    "the answer has shape ()": lambda labels, w0, sigma: 1.0,
    "for three cells your function fails with TypeError": lambda labels, w0, sigma: labels + None,
    "follow the formula": lambda labels, w0, sigma: np.ones(labels.shape),
    "with one cell your function fails (IndexError": weights(both),
    "with one cell there is no second one": no_check,
}


@pytest.mark.parametrize("message", BORDERS)
def test_wrong_border_weights(message):
    assert said(check_border_weights(BORDERS[message]), "wrong", message)


def test_the_sigma_of_the_call_is_used():
    def deaf(labels, w0, sigma):
        return weights(both)(labels, 10.0, 5.0)

    assert said(check_border_weights(deaf), "wrong", "with w0 = 4 and sigma = 2")


def test_border_weights_as_a_tensor_are_right():
    def function(labels, w0, sigma):
        return ul.weight_map(labels, w0, sigma) - ul.weight_map(labels, 0.0, sigma)

    assert said(check_border_weights(function), "right")


# ------------------------------------------------------------------------------------------------------ Dice gradient


def parts(p, g, s):
    over, under = 2 * (p * g).sum() + s, p.sum() + g.sum() + s
    return over, under, over / under


def right_one(p, g, s):
    _, under, dice = parts(p, g, s)
    return (dice - 2 * g) / under


def squared(p, g, s):
    leaf = p.clone().requires_grad_()
    loss = 1 - (2 * (leaf * g).sum() + s) / (leaf.square().sum() + g.square().sum() + s)
    return torch.autograd.grad(loss, leaf)[0]


GRADIENTS = {
    "the sign is turned": lambda p, g, s: -right_one(p, g, s),
    "you differentiated the numerator only": lambda p, g, s: -2 * g / parts(p, g, s)[1],
    "you differentiated the denominator only": lambda p, g, s: torch.full_like(
        p, parts(p, g, s)[2] / parts(p, g, s)[1]
    ),
    "you lost a division": lambda p, g, s: parts(p, g, s)[2] - 2 * g,
    "its derivative is 2 g, not g": lambda p, g, s: (parts(p, g, s)[2] - g) / parts(p, g, s)[1],
    "it stands in numerator and denominator": lambda p, g, s: right_one(p, g, 0.0),
    "smooth is missing in the denominator": lambda p, g, s: (
        (parts(p, g, s)[0] / parts(p, g, 0.0)[1] - 2 * g) / parts(p, g, 0.0)[1]
    ),
    "smooth is missing in the numerator": lambda p, g, s: (
        (parts(p, g, 0.0)[0] / parts(p, g, s)[1] - 2 * g) / parts(p, g, s)[1]
    ),
    "V-Net's squared denominator": squared,
    "that is the derivative by the logit": lambda p, g, s: right_one(p, g, s) * p * (1 - p),
    "a ratio of sums, not a mean over pixels": lambda p, g, s: right_one(p, g, s) / len(p),
    "it returns (): a tensor (6,) is asked": lambda p, g, s: right_one(p, g, s).sum(),
    "it returns float": lambda p, g, s: 0.5,
    "and you say 0.000, 0.000": lambda p, g, s: torch.zeros_like(p),
    "on the empty mask autograd says": lambda p, g, s: right_one(p, g, s) if g.any() else torch.ones_like(p),
}


@pytest.mark.parametrize("message", GRADIENTS)
def test_wrong_gradients(message):
    assert said(check_dice_gradient(GRADIENTS[message]), "wrong", message)


def test_the_right_gradient_in_single_precision():
    assert said(check_dice_gradient(lambda p, g, s: right_one(p, g, s).float()), "right")


# ----------------------------------------------------------------------------------------------------- the empty mask

ANSWERS = {
    0.0238: "that is the soft Dice coefficient",
    0: "40.96 pixels' worth of foreground",
    1.0: "that is the loss without smoothing",
    40.96: "that is the sum of p",
    0.01: "that is p itself",
    0.99: "that is 1 - p",
    0.0099: "you took the mean of p",
    0.0101: "that is the cross-entropy",
    1 - 1 / 40.96: "smooth is missing in the denominator",
    0.988: "p is counted twice",
    0.39: "you summed 64 pixels",
    0.5: "0.5 is not 1 - (2 sum(p g) + 1)",
    "0.976": "'0.976' is a str, not a number",
}


@pytest.mark.parametrize("answer", ANSWERS, ids=str)
def test_wrong_losses(answer):
    assert said(check_empty_mask_loss(answer), "wrong", ANSWERS[answer])


def test_the_right_loss_is_that_of_the_package():
    logits = torch.full((1, 1, 64, 64), 0.01).logit()
    loss = ul.DiceLoss(smooth=1.0)(logits, torch.zeros(1, 64, 64, dtype=torch.long)).item()
    for answer in (loss, 0.976, np.float64(0.97617)):
        assert said(check_empty_mask_loss(answer), "right")


# ------------------------------------------------------------------------------------------------------- the notebook


def test_every_choice_of_the_quiz_says_why():
    questions = [c.source for c in nbformat.read(NOTEBOOK, as_version=4).cells if c.id.startswith("quiz-")]
    assert len(questions) == 6
    for question in questions:
        choices = question.split("<details>")[1:]
        assert len(choices) >= 2
        assert sum("\n✓ " in choice for choice in choices) == 1
        assert all(len(choice.split("</summary>")[1].split()) > 8 for choice in choices)

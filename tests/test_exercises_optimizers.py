"""The checkers of appendix A1: every known wrong answer has its message, the folded solutions are right."""

import math

import numpy as np
import pytest
import torch
from checkers import said, solved_by

from unetlab.exercises.optimizers import check_adam, check_pixel_gradient, check_window


@pytest.fixture
def solved():
    return solved_by("A1_autograd_and_optimizers")


def test_the_folded_solutions_are_right(solved):
    assert said(check_pixel_gradient(solved["pixel_gradient"]), "right", "p - truth for the bias")
    assert said(check_window(solved["my_window"]), "right", "a hundred times as far")
    assert said(check_adam(solved["my_adam"]), "right", "those of AdamW, to 1e-6")


@pytest.mark.parametrize("nothing", [None, ...])
def test_not_attempted(nothing):
    assert said(check_pixel_gradient(lambda x, w, b, truth: nothing), "not attempted", "replace the dots")
    assert said(check_window(nothing), "not attempted", "in place of the dots")
    assert said(check_adam(lambda w, g, state, **settings: nothing), "not attempted", "must return the new weights")


# ---------------------------------------------------------------------------------------------------------- one pixel


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def pixel(formula):
    """A learner's function from a formula of x, w, z and the truth."""
    return lambda x, w, b, truth: formula(x, w, w * x + b, truth)


PIXELS = {
    "two numbers are asked for": pixel(lambda x, w, z, y: (sigmoid(z) - y) * x),
    "the two are swapped": pixel(lambda x, w, z, y: (sigmoid(z) - y, (sigmoid(z) - y) * x)),
    "the sign is turned round": pixel(lambda x, w, z, y: ((y - sigmoid(z)) * x, y - sigmoid(z))),
    "dz/dw is x, and only dz/db is 1": pixel(lambda x, w, z, y: (sigmoid(z) - y, sigmoid(z) - y)),
    "the truth is missing": pixel(lambda x, w, z, y: (sigmoid(z) * x, sigmoid(z))),
    "only for pixels of truth 1": pixel(lambda x, w, z, y: ((sigmoid(z) - 1) * x, sigmoid(z) - 1)),
    "the squared error's gradient": pixel(
        lambda x, w, z, y: tuple(f * (sigmoid(z) - y) * sigmoid(z) * sigmoid(-z) for f in (x, 1))
    ),
    "dL/dp is still missing": pixel(lambda x, w, z, y: tuple(f * sigmoid(z) * sigmoid(-z) for f in (x, 1))),
    "multiply by dp/dz": pixel(
        lambda x, w, z, y: tuple(f * (sigmoid(z) - y) / (sigmoid(z) * sigmoid(-z)) for f in (x, 1))
    ),
    "that is the gradient of the pixel": pixel(lambda x, w, z, y: ((sigmoid(z) - y) * w, sigmoid(z) - y)),
    "for x, w, b, truth = 0.8, 1.5, -1.0, 1 autograd says (-0.3601, -0.4502)": pixel(lambda x, w, z, y: (z - y, z)),
    "for x, w, b, truth = 0.8, 1.5, -1.0, 0 autograd says": pixel(
        lambda x, w, z, y: ((sigmoid(z) - y) * x, sigmoid(z) - y) if y else (0, 0)
    ),
}


@pytest.mark.parametrize("message", PIXELS)
def test_wrong_pixel_gradients(message):
    assert said(check_pixel_gradient(PIXELS[message]), "wrong", message)


def test_tensors_and_lists_are_right():
    def function(x, w, b, truth):
        w, b = (torch.tensor(v, requires_grad=True) for v in (w, b))
        p = (w * x + b).sigmoid()
        (-p.log() if truth else -(1 - p).log()).backward()
        return [w.grad, b.grad]

    assert said(check_pixel_gradient(function), "right")


# --------------------------------------------------------------------------------------------------------- the window

WINDOWS = {
    69: "the half-life",
    68.97: "the half-life",
    10: "momentum 0.9.",
    1000: "momentum 0.999",
    0.01: "its inverse",
    0.99: "of one step ago",
    1.99: "does not end after two steps",
    50: "momentum 0.98",
    7: "7 is not 1 + 0.99 + 0.99²",
    "100": "'100' is a str, not a number",
}


@pytest.mark.parametrize("answer", WINDOWS, ids=str)
def test_wrong_windows(answer):
    assert said(check_window(answer), "wrong", WINDOWS[answer])


@pytest.mark.parametrize("answer", [100, 100.0, 1 / (1 - 0.99), np.float64(100)])
def test_right_windows(answer):
    assert said(check_window(answer), "right", "a hundred times")


def test_the_mean_age_is_right_too():
    weights = 0.99 ** np.arange(10_000)
    assert (weights * np.arange(10_000)).sum() / weights.sum() == pytest.approx(99, abs=1e-6)
    assert said(check_window(99), "right", "mean age")


# --------------------------------------------------------------------------------------------------------------- Adam

LINES = """
def adam(w, g, state, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0):
    w = w * (1 - lr * decay)
    state["t"] = state.get("t", 0) + 1
    state["m"] = beta1 * state.get("m", 0) + (1 - beta1) * g
    state["s"] = beta2 * state.get("s", 0) + (1 - beta2) * g * g
    m = state["m"] / (1 - beta1 ** state["t"])
    s = state["s"] / (1 - beta2 ** state["t"])
    return w - lr * m / (s.sqrt() + eps)
"""


def adam_with(*changes):
    """The right Adam with some of its text replaced, as a learner might have written it."""
    text = LINES
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    names = {"torch": torch}
    exec(text, names)
    return names["adam"]


NO_M, NO_S = (' / (1 - beta1 ** state["t"])', ""), (' / (1 - beta2 ** state["t"])', "")
ADAMS = {
    "neither average is corrected": [NO_M, NO_S],
    "the second average s is not corrected": [NO_S],
    "the first average m is not corrected": [NO_M],
    "eps stands inside the square root": [("(s.sqrt() + eps)", "(s + eps).sqrt()")],
    "eps is added before s is corrected": [
        NO_S,
        ("(s.sqrt() + eps)", '((s.sqrt() + eps) / (1 - beta2 ** state["t"]) ** 0.5)'),
    ],
    "the square root is missing": [("s.sqrt()", "s")],
    "beta1 and beta2 are swapped": [("beta1", "beta_"), ("beta2", "beta1"), ("beta_", "beta2")],
    "enters m with the weight 1": [("(1 - beta1) * g", "g")],
    "enters s with the weight 1": [("(1 - beta2) * g", "g")],
    "enter both averages with the weight 1": [("(1 - beta1) * g", "g"), ("(1 - beta2) * g", "g")],
    "every step is taken like the first": [("    w = w", "    state = {}\n    w = w")],
    "divides by 1 - beta at every step": [(' ** state["t"]', "")],
    "t runs one ahead": [('state.get("t", 0) + 1', 'state.get("t", 1) + 1')],
    "count t up before using it": [('state.get("t", 0) + 1', 'state.get("t", -1) + 1')],
    "the second moment averages g * g": [("(1 - beta2) * g * g", "(1 - beta2) * g")],
    "that is RMSprop": [("lr * m /", "lr * g /")],
    "the rate is missing": [("- lr * m", "- m")],
    "the step goes uphill": [("w - lr * m", "w + lr * m")],
    "decay does nothing": [("    w = w * (1 - lr * decay)\n", "")],
    "That is L2": [("w = w * (1 - lr * decay)", "g = g + decay * w")],
    "torch multiplies it by the rate too": [("1 - lr * decay", "1 - decay")],
    "w shrinks after the step": [
        ("    w = w * (1 - lr * decay)\n", ""),
        ("return w - lr * m / (s.sqrt() + eps)", "return (w - lr * m / (s.sqrt() + eps)) * (1 - lr * decay)"),
    ],
    "the sign is turned round": [("1 - lr * decay", "1 + lr * decay")],
    "a tensor of shape (3,) here; at step 1 it is ": [
        ("return w - lr * m / (s.sqrt() + eps)", "return (w - lr * m / (s.sqrt() + eps)).sum()")
    ],
    "without decay it leaves torch's path at step 1": [("return w", "return 0.5 * w")],
    "with decay = 0.3 it leaves torch's path at step 1": [("1 - lr * decay", "1 - lr * decay * decay")],
}


@pytest.mark.parametrize("message", ADAMS)
def test_wrong_adams(message):
    assert said(check_adam(adam_with(*ADAMS[message])), "wrong", message)


def test_the_right_adam():
    assert said(check_adam(adam_with()), "right")


def test_working_in_place_is_right():
    def function(w, g, state, lr, beta1, beta2, eps, decay):
        for name in ("m", "s"):
            state.setdefault(name, torch.zeros_like(w))
        state["t"] = state.get("t", 0) + 1
        state["m"].mul_(beta1).add_(g, alpha=1 - beta1)
        state["s"].mul_(beta2).addcmul_(g, g, value=1 - beta2)
        root = state["s"].div(1 - beta2 ** state["t"]).sqrt_().add_(eps)
        return w.mul_(1 - lr * decay).sub_(lr * state["m"] / (1 - beta1 ** state["t"]) / root)

    assert said(check_adam(function), "right")

"""Checkers for the exercises of ``A1_autograd_and_optimizers``: right, wrong (because ...) or not attempted."""

import math
from collections.abc import Callable
from numbers import Number

import torch
from torch import Tensor
from torch.nn import functional as F

from unetlab.exercises.verdict import Verdict, not_attempted, right, wrong

# ------------------------------------------------------------------------------------------ the gradient of one pixel

_PIXELS = ((0.8, 1.5, -1.0, 1), (0.8, 1.5, -1.0, 0), (0.3, -2.0, 0.5, 1), (0.0, 0.7, -0.2, 0))  # x, w, b, truth


def check_pixel_gradient(function: Callable) -> Verdict:
    """``pixel_gradient(x, w, b, truth)``: dL/dw and dL/db of the cross-entropy of ``sigmoid(w * x + b)``."""
    answers = [function(*pixel) for pixel in _PIXELS]
    if answers[0] is None or answers[0] is Ellipsis:
        return not_attempted("your function returns nothing yet: replace the dots and run the cell again.")
    for answer in answers:
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            return wrong(f"it returns {answer!r}; two numbers are asked for: return dL_dw, dL_db.")
    answers = [[float(part) for part in answer] for answer in answers]
    if _same(answers, [_by_autograd(*pixel) for pixel in _PIXELS]):
        return right("p - truth for the bias, and the same times x for the weight: that is the whole chain.")
    for formula, message in _PIXEL_MISTAKES.items():
        if _same(answers, [formula(x, 1 / (1 + math.exp(-w * x - b)), w, y) for x, w, b, y in _PIXELS]):
            return wrong(message)
    pixel = next(p for p, a in zip(_PIXELS, answers, strict=True) if not _same([a], [_by_autograd(*p)]))
    by_weight, by_bias = _by_autograd(*pixel)
    return wrong(
        f"for x, w, b, truth = {', '.join(map(str, pixel))} autograd says ({by_weight:.4f}, {by_bias:.4f}). "
        "Multiply the links of the chain one by one: dL/dp, dp/dz, then dz/dw or dz/db."
    )


def _by_autograd(x, w, b, truth) -> list[float]:
    w, b = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (w, b))
    F.binary_cross_entropy_with_logits(w * x + b, torch.tensor(float(truth), dtype=torch.float64)).backward()
    return [w.grad.item(), b.grad.item()]


def _same(answers, others) -> bool:
    return torch.allclose(torch.tensor(answers).double(), torch.tensor(others).double(), rtol=0, atol=1e-6)


_PIXEL_MISTAKES = {  # x, p, w, truth -> what such an answer is
    lambda x, p, w, y: [p - y, (p - y) * x]: "the two are swapped: the gradient of the weight has the factor x.",
    lambda x, p, w, y: [(y - p) * x, y - p]: (
        "the sign is turned round: where p is too small, more weight must lower the loss, so the gradient is negative."
    ),
    lambda x, p, w, y: [p - y, p - y]: "the weight is multiplied with the pixel: dz/dw is x, and only dz/db is 1.",
    lambda x, p, w, y: [p * x, p]: "the truth is missing: this pushes every pixel down, whatever it is.",
    lambda x, p, w, y: [
        (p - 1) * x,
        p - 1,
    ]: "it holds only for pixels of truth 1: dL/dp is different where the truth is 0.",
    lambda x, p, w, y: [(p - y) * p * (1 - p) * x, (p - y) * p * (1 - p)]: (
        "a factor p (1 - p) is too many: that is the squared error's gradient. In the cross-entropy dL/dp holds "
        "1 / (p (1 - p)), which takes it out again."
    ),
    lambda x, p, w, y: [p * (1 - p) * x, p * (1 - p)]: "that is how p changes, not the loss: dL/dp is still missing.",
    lambda x, p, w, y: [(p - y) / (p * (1 - p)) * x, (p - y) / (p * (1 - p))]: (
        "the sigmoid is missing in the chain: multiply by dp/dz = p (1 - p)."
    ),
    lambda x, p, w, y: [(p - y) * w, p - y]: "dz/dw is x. You multiplied by w, and that is the gradient of the pixel.",
}

# ----------------------------------------------------------------------------------------------------------- the window


def check_window(answer) -> Verdict:
    """Over how many steps a momentum of 0.99 averages: the sum of its weights, 1 / (1 - 0.99) = 100."""
    if answer is None or answer is Ellipsis:
        return not_attempted("put your number in place of the dots.")
    if not isinstance(answer, Number):
        return wrong(f"{answer!r} is a {type(answer).__name__}, not a number of steps.")
    for value, message in {
        69: "that is the half-life, after which a gradient counts half. Sum up all weights instead.",
        10: "that is the window of momentum 0.9.",
        1000: "that is the window of momentum 0.999.",
        0.01: "that is 1 - 0.99; the sum of the weights is its inverse.",
        0.99: "that is the weight of the gradient of one step ago. Add up those of all steps.",
        1.99: "the sum does not end after two steps: 1 + 0.99 + 0.99² + ...",
        50: "a window of 50 belongs to momentum 0.98: take 1 / (1 - 0.99).",
    }.items():
        if math.isclose(answer, value, rel_tol=0.01):
            return wrong(message)
    if math.isclose(answer, 99):
        return right("99 steps is the mean age of the gradients in the velocity; the sum of their weights is 100.")
    if math.isclose(answer, 100, rel_tol=0.001):
        return right("1 / (1 - 0.99): a steady gradient moves the weight a hundred times as far as without momentum.")
    return wrong(f"{answer:g} is not 1 + 0.99 + 0.99² + ..., a geometric series.")


# ----------------------------------------------------------------------------------------------------------------- Adam

_SETTINGS = {"lr": 0.1, "beta1": 0.8, "beta2": 0.99, "eps": 1e-8}
_DECAY = 0.3
_START = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def _gradients() -> Tensor:
    """Eight steps of three weights: one gradient of ordinary size, one small, one as small as eps."""
    random = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return random * torch.tensor([1.0, 1e-2, 1e-8], dtype=torch.float64)


def check_adam(function: Callable) -> Verdict:
    """``adam(w, g, state, lr, beta1, beta2, eps, decay)``: the new weights, as ``torch.optim.AdamW`` has them to 1e-6.

    It is called with tensors (3,) in float64 and keyword settings, step after step with the same ``state``, a dict that
    is empty at first; ``decay`` is the decoupled weight decay.
    """
    for decay, mistakes in ((0.0, _ADAM_MISTAKES), (_DECAY, _DECAY_MISTAKES)):
        path = []
        w, state = _START.clone(), {}
        for step, g in enumerate(_gradients(), start=1):
            w = function(w, g.clone(), state, **_SETTINGS, decay=decay)
            if w is None or w is Ellipsis:
                return not_attempted("your function returns nothing yet: it must return the new weights.")
            if not isinstance(w, Tensor) or w.shape != _START.shape:
                return wrong(
                    f"it must return the new weights, a tensor of shape (3,) here; at step {step} it is {w!r}."
                )
            if not w.isfinite().all():
                return wrong(
                    f"at step {step} the weights are {w.tolist()}. Either a square root met a negative number (the second "
                    "moment averages g * g), or the correction divides by 1 - beta ** 0 (count t up before using it)."
                )
            path.append(w.clone())
        path, truth = torch.stack(path), _by_torch(decay)
        if torch.allclose(path, truth, rtol=0, atol=1e-6):
            continue
        for mistake, message in mistakes.items():
            if torch.allclose(path, _by_mistake(mistake, decay), rtol=0, atol=1e-6):
                return wrong(message)
        step = int((path - truth).abs().amax(dim=1).gt(1e-6).nonzero()[0]) + 1
        kind = f"with decay = {decay}" if decay else "without decay"
        return wrong(
            f"{kind} it leaves torch's path at step {step}, by {(path - truth).abs()[step - 1].max():.1e}. Compare line "
            "by line: the two averages, their corrections, the step."
        )
    return right("it takes the steps of torch.optim.Adam, and with decay those of AdamW, to 1e-6.")


def _by_torch(decay: float) -> Tensor:
    """The weights after each step, (8, 3)."""
    w, path = _START.clone().requires_grad_(), []
    betas = (_SETTINGS["beta1"], _SETTINGS["beta2"])
    optimizer = torch.optim.AdamW([w], _SETTINGS["lr"], betas, _SETTINGS["eps"], weight_decay=decay)
    for g in _gradients():
        w.grad = g
        optimizer.step()
        path.append(w.detach().clone())
    return torch.stack(path)


def _by_mistake(mistake: str, decay: float) -> Tensor:
    """The same with one known mistake in it."""
    lr, beta1, beta2, eps = _SETTINGS.values()
    if mistake == "betas swapped":
        beta1, beta2 = beta2, beta1
    new1 = 1.0 if mistake in ("first weight", "both weights") else 1 - beta1
    new2 = 1.0 if mistake in ("second weight", "both weights") else 1 - beta2
    w, m, s, path = _START, torch.zeros(3).double(), torch.zeros(3).double(), []
    for t, g in enumerate(_gradients(), start=1):
        if mistake == "l2":
            g = g + decay * w
        if mistake == "no memory":
            m, s, t = torch.zeros_like(m), torch.zeros_like(s), 1
        m, s = beta1 * m + new1 * g, beta2 * s + new2 * g * g
        t = {"t stands still": 1, "t one ahead": t + 1}.get(mistake, t)
        m_hat = m if mistake in ("no correction", "only the second") else m / (1 - beta1**t)
        s_hat = s if mistake in ("no correction", "only the first") else s / (1 - beta2**t)
        if mistake == "no momentum":
            m_hat = g
        divisor = s_hat.sqrt() + eps
        if mistake == "eps inside":
            divisor = (s_hat + eps).sqrt()
        elif mistake == "eps early":
            divisor = (s.sqrt() + eps) / math.sqrt(1 - beta2**t)
        elif mistake == "no root":
            divisor = s_hat + eps
        move = (1.0 if mistake == "no rate" else lr) * m_hat / divisor
        shrink = {"l2": 0, "ignored": 0, "not times lr": decay, "grows": -lr * decay}.get(mistake, lr * decay)
        if mistake == "uphill":
            w = w + move
        elif mistake == "after the step":
            w = (w - move) * (1 - shrink)
        else:
            w = w * (1 - shrink) - move
        path.append(w)
    return torch.stack(path)


_ADAM_MISTAKES = {
    "no correction": "neither average is corrected for its start at 0: divide m by 1 - beta1 ** t, and s by 1 - beta2 ** t.",
    "only the first": "the second average s is not corrected: divide it by 1 - beta2 ** t too.",
    "only the second": "the first average m is not corrected: divide it by 1 - beta1 ** t too.",
    "eps inside": "eps stands inside the square root. It is added after the root: sqrt(s) + eps.",
    "eps early": "eps is added before s is corrected. Correct first, then take the root, then add eps.",
    "no root": "the square root is missing: divide by sqrt(s) + eps, which has the unit of a gradient.",
    "betas swapped": "beta1 and beta2 are swapped: beta1 belongs to the mean of g, beta2 to the mean of g * g.",
    "first weight": "the new gradient enters m with the weight 1. In an average it has 1 - beta1.",
    "second weight": "the new square enters s with the weight 1. In an average it has 1 - beta2.",
    "both weights": "the new values enter both averages with the weight 1; they have 1 - beta1 and 1 - beta2.",
    "no memory": "every step is taken like the first: keep m, s and t in state, where the next call finds them.",
    "t stands still": "the correction divides by 1 - beta at every step. It fades: 1 - beta ** t, with t counted in state.",
    "t one ahead": "t runs one ahead: at the first step it is 1.",
    "no momentum": "the step uses g and not its average m: that is RMSprop, with a corrected s.",
    "no rate": "the rate is missing: multiply the step by lr.",
    "uphill": "the step goes uphill: the gradient points to where the loss grows, so subtract it.",
}
_DECAY_MISTAKES = {
    "ignored": "without decay it is right, but decay does nothing: multiply w by 1 - lr * decay before the step.",
    "l2": (
        "decay * w is added to the gradient. That is L2, as in torch.optim.Adam(weight_decay=...): the division by "
        "sqrt(s) then weakens it where gradients are large. Decoupled means: on w itself, past the averages."
    ),
    "not times lr": "w shrinks by decay; torch multiplies it by the rate too: 1 - lr * decay.",
    "after the step": "w shrinks after the step, so that the step shrinks too. Shrink the old w first.",
    "grows": "the sign is turned round: decay must make w smaller, 1 - lr * decay.",
}

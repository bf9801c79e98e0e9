"""Checkers for the exercises of ``03c_plateau_and_warmup``. Each answers right, wrong (because ...) or not attempted."""

import math
from collections.abc import Callable, Sequence
from numbers import Number

import numpy as np
import torch

from unetlab.exercises.verdict import Verdict, not_attempted, right, wrong
from unetlab.schedulers import schedule_preview

# Curves that tell the mistakes apart: (what it is, values, patience, factor, threshold).
CURVES = [
    ("a constant loss", [0.5] * 10, 2, 0.1, 1e-4),
    ("a loss that falls, rests and falls", [0.9, 0.7, 0.7, 0.8, 0.6, 0.6, 0.6, 0.7, 0.6, 0.6, 0.5, 0.5], 2, 0.5, 1e-4),
    ("a loss that rises and comes half the way back", [0.4, 0.9, 0.8, 0.7, 0.6, 0.5, 0.5, 0.5], 3, 0.1, 1e-4),
    ("a large loss that creeps down", [200 - 0.01 * i for i in range(12)], 1, 0.1, 1e-4),
    ("a small loss that creeps down", [0.5 - 2e-5 * i for i in range(10)], 1, 0.1, 1e-4),
    ("a loss that creeps up", [0.5 + 2e-5 * i for i in range(10)], 2, 0.1, 1e-4),
]


def check_plateau(function: Callable) -> Verdict:
    """``plateau(values, lr, patience, factor, threshold)``: the rate in force after each value, like torch's, mode "min"."""
    answers = []
    for what, values, patience, factor, threshold in CURVES:
        answer = function(list(values), 1.0, patience, factor, threshold)
        if answer is None or answer is Ellipsis:
            return not_attempted(
                "your function returns nothing yet: go through the values and note the rate after each."
            )
        if np.ndim(answer) != 1 or len(answer) != len(values):
            return wrong(f"for {what} of {len(values)} values you return {_size(answer)}: one rate for each value.")
        answers.append([float(rate) for rate in answer])
    if _same(answers, _traces()):
        return right(
            "it cuts where torch cuts: when the counter has passed its patience, measured from the best so far."
        )
    for because, mistake in MISTAKES.items():
        if _same(answers, _traces(**mistake)):
            return wrong(because)
    for (what, values, patience, factor, _), answer, truth in zip(CURVES, answers, _traces(), strict=True):
        for call, (mine, rate) in enumerate(zip(answer, truth, strict=True), 1):
            if not math.isclose(mine, rate, rel_tol=1e-6):
                return wrong(
                    f"for {what}, with patience {patience} and factor {factor:g}, your rate after call {call} is {mine:g} "
                    f"and torch's is {rate:g}. The values so far: {', '.join(f'{value:g}' for value in values[:call])}."
                )


MISTAKES = {
    "you cut when the counter reaches its patience. torch cuts when it is larger: with patience 2 at the third bad value.": {
        "reaches": True
    },
    "after a cut the counter goes back to 0. Yours stays, so each further bad value cuts again.": {"reset": False},
    "you compare with the value before. What counts is the best so far: half the way back is no improvement.": {
        "previous": True
    },
    "your threshold is an amount. torch's is relative: a loss must fall below best * (1 - threshold).": {
        "absolute": True
    },
    "your threshold has the wrong sign: a loss a little worse than the best passes for an improvement.": {"sign": -1},
    "your best moves with every small gain. A value that does not pass the threshold leaves the best as it was.": {
        "drift": True
    },
    "the threshold is missing: a gain of less than a ten-thousandth of the best is none.": {"sign": 0},
    "an improvement sets the counter back to 0. Yours counts all bad values of the run.": {"keep": True},
    "your best starts at the first value, which is then bad for being no better than itself. Start at infinity.": {
        "first": True
    },
    "your rates are one late: asked is the rate after each value, when the schedule has answered.": {"late": True},
    "you cut once only. Each time the counter passes its patience, the rate is multiplied by the factor again.": {
        "once": True
    },
}


def _traces(**mistake) -> list[list[float]]:
    """The rates on each of ``CURVES``: torch's, or those of a known mistake."""
    return [_trace(values, *options, **mistake) for _, values, *options in CURVES]


def _trace(values, patience, factor, threshold, **mistake) -> list[float]:
    if not mistake:
        options = {"patience": patience, "factor": factor, "threshold": threshold}
        return schedule_preview("plateau", len(values), 1.0, values, **options).tolist()
    best, bad, rate, rates = values[0] if "first" in mistake else math.inf, 0, 1.0, []
    for value in values:
        margin = threshold * mistake.get("sign", 1)
        goal = best - margin if "absolute" in mistake else best * (1 - margin)
        improved = value < goal
        bad = (bad if "keep" in mistake else 0) if improved else bad + 1
        if improved or "previous" in mistake or ("drift" in mistake and value < best):
            best = value
        rates.append(rate)
        if bad > patience - ("reaches" in mistake) and not ("once" in mistake and rate < 1):
            rate *= factor
            bad = 0 if mistake.get("reset", True) else bad
        if "late" not in mistake:
            rates[-1] = rate
    return rates


def _same(answers: list[list[float]], truth: list[list[float]]) -> bool:
    return all(np.allclose(mine, rates, rtol=1e-6, atol=0) for mine, rates in zip(answers, truth, strict=True))


def _size(answer) -> str:
    return f"{len(answer)} numbers" if np.ndim(answer) == 1 else f"a {type(answer).__name__}"


def check_patience_pair(stopping_patience: int | None, plateau_patience: int = 10) -> Verdict:
    """Whether early stopping waits long enough for two cuts of plateau, each with an epoch trained after it.

    Counted on a run that has stopped to improve, evaluated once an epoch.
    """
    if stopping_patience is None or stopping_patience is Ellipsis:
        return not_attempted("write a patience in place of None, and run the cell again.")
    if isinstance(stopping_patience, bool) or not isinstance(stopping_patience, Number) or stopping_patience % 1:
        return wrong(f"{stopping_patience!r} is no patience: a whole number of evaluations, such as 15.")
    cut = plateau_patience + 1  # bad evaluations from one cut to the next
    if stopping_patience < cut:
        return wrong(
            f"early stopping ends the run at bad evaluation {stopping_patience:g}, and plateau cuts at number {cut}: the "
            "rate is never lowered. The two counters run side by side and know nothing of each other."
        )
    if stopping_patience == cut:
        return wrong(
            f"at bad evaluation {cut} plateau cuts the rate and early stopping ends the run: no epoch is trained with it."
        )
    if stopping_patience < 2 * cut:
        return wrong(
            f"the first cut comes at bad evaluation {cut}, the second at {2 * cut}: your run ends at "
            f"{stopping_patience:g}, after one cut. A cut does not set early stopping's counter back."
        )
    if stopping_patience == 2 * cut:
        return wrong(f"the second cut comes at bad evaluation {2 * cut}, the very one that ends your run: one more.")
    return right(
        f"cuts at bad evaluations {cut} and {2 * cut}, and {stopping_patience - 2 * cut:g} more to show their worth. "
        "The rule: stopping patience > cuts * (plateau patience + 1)."
    )


def check_clip(function: Callable) -> Verdict:
    """``clip(gradients, max_norm)``: a list of tensors as ``clip_grad_norm_`` would leave them."""
    pairs = [([3.0, 0.0], [[0.0], [4.0]], 1.0), ([0.3], [0.4], 1.0), ([6.0, -8.0], [0.0, 24.0], 2.0)]
    answers, truths, cases = [], [], []
    for *values, max_norm in pairs:
        gradients = [torch.tensor(value) for value in values]
        answer = function([gradient.clone() for gradient in gradients], max_norm)
        if answer is None or answer is Ellipsis:
            return not_attempted("your function returns nothing yet: return the list of the clipped gradients.")
        shapes = [tuple(gradient.shape) for gradient in gradients]
        if not isinstance(answer, Sequence) or [tuple(getattr(a, "shape", ())) for a in answer] != shapes:
            return wrong(
                f"for tensors of shapes {shapes} you return something else: a list of tensors of these shapes."
            )
        answers.append(answer)
        cases.append((gradients, max_norm))
        truths.append(_clipped(gradients, max_norm))
    if _equal(answers, truths):
        return right("one length for all tensors together, one factor, and the direction is kept.")
    for because, mistake in CLIP_MISTAKES.items():
        if _equal(answers, [mistake(*case) for case in cases]):
            return wrong(because)
    for (gradients, max_norm), answer, truth in zip(cases, answers, truths, strict=True):
        if not _equal([answer], [truth]):
            norms = [_norm(part).item() for part in (gradients, answer, truth)]
            return wrong(
                f"a gradient of length {norms[0]:g} with max_norm {max_norm:g} comes out {norms[1]:.3g} long; it should be "
                f"{norms[2]:.3g} long, and each number multiplied by the same factor."
            )


def _norm(gradients) -> torch.Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients]).norm()


def _clipped(gradients, max_norm):
    parameters = [torch.nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    return [parameter.grad for parameter in parameters]


CLIP_MISTAKES = {
    "you clip each tensor by itself. The length is that of all of them together, or the direction is bent.": (
        lambda gradients, most: [g * min(1, most / max(g.norm().item(), 1e-12)) for g in gradients]
    ),
    "you cut off each number by itself (clamp). That bends the direction; multiply all of them by one factor.": (
        lambda gradients, most: [g.clamp(-most, most) for g in gradients]
    ),
    "you stretch a gradient that is shorter than max_norm. Clipping only shortens.": (
        lambda gradients, most: [g * most / _norm(gradients) for g in gradients]
    ),
    "you add up the lengths of the tensors. The length of all together is the root of the sum of all squares.": (
        lambda gradients, most: [g * min(1, most / sum(h.norm().item() for h in gradients)) for g in gradients]
    ),
    "the root is missing: the sum of the squares is the length squared.": (
        lambda gradients, most: [g * min(1, most / _norm(gradients).item() ** 2) for g in gradients]
    ),
    "the gradients are as they were. Multiply them by max_norm / length where the length is larger than max_norm.": (
        lambda gradients, most: gradients
    ),
    "you divide by the length and forget max_norm: the result should be max_norm long.": (
        lambda gradients, most: [g / max(1, _norm(gradients).item()) for g in gradients]
    ),
    "what is too long is set to zero. Shorten it to max_norm instead, and the step is still made.": (
        lambda gradients, most: [g * (_norm(gradients) <= most) for g in gradients]
    ),
}


def _equal(answers, truths) -> bool:
    return all(
        torch.allclose(mine, true.to(mine.dtype), rtol=1e-3, atol=1e-5)
        for answer, truth in zip(answers, truths, strict=True)
        for mine, true in zip(answer, truth, strict=True)
    )

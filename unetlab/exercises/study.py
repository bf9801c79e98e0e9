"""Checkers for the exercises of ``03e_study``. Each answers right, wrong (because ...) or not attempted."""

from collections.abc import Callable, Mapping
from math import sqrt

import numpy as np
from scipy.stats import t

from unetlab.exercises.verdict import Verdict, not_attempted, right, wrong

COSINE = [0.912, 0.884, 0.931, 0.897, 0.902]
CONSTANT = [0.899, 0.880, 0.913, 0.889, 0.885]
LEVEL = 1e-6


def check_paired_interval(function: Callable) -> Verdict:
    """``paired_interval(method, baseline)``: mean, low and high of the paired difference, by the t distribution, 95 %."""
    for method, baseline in ((COSINE, CONSTANT), (COSINE[:3], CONSTANT[:3])):
        answer = function(np.array(method), np.array(baseline))
        if answer is None or answer is Ellipsis:
            return not_attempted("your function returns nothing yet: the mean difference, and the two ends.")
        try:
            answer = np.array([float(part) for part in answer])
        except (TypeError, ValueError):
            return wrong(f"it returns a {type(answer).__name__}, not three numbers: mean, low, high.")
        if answer.shape != (3,):
            return wrong(f"it returns {len(answer)} numbers, not three: mean, low, high.")
        truth, known = _intervals(np.array(method), np.array(baseline))
        if np.allclose(answer, truth, atol=LEVEL, rtol=0):
            continue
        for because, values in known.items():
            if np.allclose(answer, values, atol=LEVEL, rtol=0):
                return wrong(because)
        mean, low, high = truth
        return wrong(
            f"for the {len(method)} pairs you say {answer[0]:.4f} [{answer[1]:.4f}, {answer[2]:.4f}]; it is {mean:.4f} "
            f"[{low:.4f}, {high:.4f}]. Print the differences, their standard deviation and t, one after the other."
        )
    return right("with the same five pairs anyone gets this interval. Note how much wider it is with three pairs.")


def _intervals(a: np.ndarray, b: np.ndarray) -> tuple[tuple, dict[str, tuple]]:
    """The answer, and those that known mistakes give, each with its message."""
    d, n = a - b, len(a)
    mean, sd = d.mean(), d.std(ddof=1)

    def around(half: float, centre: float = mean) -> tuple:
        return centre, centre - half, centre + half

    quantile = t.ppf(0.975, n - 1)
    half = quantile * sd / sqrt(n)
    known = {
        "the two groups are compared as if nothing tied them. Subtract within each seed first: that is the pairing.": around(
            quantile * sqrt(a.var(ddof=1) / n + b.var(ddof=1) / n)
        ),
        "so too, and with the freedom of two groups: subtract within each seed first, and n - 1 is left.": around(
            t.ppf(0.975, 2 * n - 2) * sqrt(a.var(ddof=1) / n + b.var(ddof=1) / n)
        ),
        "1.96 is for many pairs. With few, their spread is itself a guess, and t makes the interval wider.": around(
            1.96 * sd / sqrt(n)
        ),
        "the spread is that of NumPy's default. Say ddof=1: the mean was estimated from the same pairs.": around(
            quantile * d.std() / sqrt(n)
        ),
        "that is where single differences lie. Of their mean the spread is smaller: divide by the root of n.": around(
            quantile * sd
        ),
        "the spread was divided by n and not by its root.": around(quantile * sd / n),
        "t has n - 1 degrees of freedom, not n: one is spent on the mean.": around(t.ppf(0.975, n) * sd / sqrt(n)),
        "0.95 leaves 5 % on one side. For an interval of 95 % leave 2.5 % on each: t.ppf(0.975, ...).": around(
            t.ppf(0.95, n - 1) * sd / sqrt(n)
        ),
        "this is one standard error to each side. Multiply it by the quantile of t.": around(sd / sqrt(n)),
        "the sign is turned round: method minus baseline, so that above zero means better.": around(half, -mean),
        "these are the smallest and the largest difference. They widen with more seeds; an interval narrows.": (
            mean,
            d.min(),
            d.max(),
        ),
        "the ends are there, but in another order: mean, low, high.": (mean - half, mean, mean + half),
        "the ends are there, but in another order: mean, low, high, please.": (mean, mean + half, mean - half),
    }
    return around(half), known


# The claims of exercise 2: may it be made, and why (not).
CLAIMS = {
    "A": (True, "the interval lies above zero, and it was the one comparison that was planned."),
    "B": (False, "the interval holds zero. The mean is above it, and so it would be half of the time by chance."),
    "C": (False, "not to see a difference is not to see that there is none: the interval also holds +0.022."),
    "D": (False, "of 45 intervals of 95 % two or so miss zero where nothing is the matter: 45 x 0.05 = 2.25."),
    "E": (True, "the whole interval lies within 0.01 of zero, and that is all the claim says."),
    "F": (False, "the two were never compared with each other. Their intervals overlap; subtract in pairs and see."),
    "G": (
        False,
        "the validation Dice chose the epoch, so it flatters. On test images, which chose nothing, ask again.",
    ),
}


def check_claims(answers: Mapping[str, bool | None]) -> Verdict:
    """Which of the claims A to G may be made, True or False each."""
    if set(answers) != set(CLAIMS):
        return wrong(f"it needs an answer for each of {', '.join(CLAIMS)}, and has {', '.join(map(str, answers))}.")
    if all(answer is None for answer in answers.values()):
        return not_attempted("write True or False beside each claim.")
    if missing := [name for name, answer in answers.items() if answer is None]:
        return wrong(f"there is no answer yet for {', '.join(missing)}.")
    if strange := [name for name, answer in answers.items() if answer not in (True, False)]:
        return wrong(f"{strange[0]} is answered by {answers[strange[0]]!r}: write True or False.")
    mistakes = [
        f"{name} may {'' if may else 'not '}be made: {why}"
        for name, (may, why) in CLAIMS.items()
        if bool(answers[name]) != may
    ]
    if mistakes:
        return wrong(f"{len(mistakes)} of {len(CLAIMS)} were judged otherwise here.", *mistakes)
    return right("two claims out of seven: that is a usual harvest.")

"""Checkers for the exercises of ``03a_learning_rate``. Each answers right, wrong (because ...) or not attempted."""

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Number

from unetlab.exercises.verdict import Verdict, not_attempted, right, wrong

LEVEL = 0.03  # of Dice: within the spread of the seeds
FACTOR = 3  # from a rate to its neighbours


def check_edge(function: Callable) -> Verdict:
    """``edge(curvatures)``: the rate from which on plain gradient descent diverges, for a list of curvatures above 0."""
    for curvatures in ([2.0, 0.5, 8.0], [1.0, 50.0], [10.0]):
        answer, steepest, flattest = function(list(curvatures)), max(curvatures), min(curvatures)
        if answer is None or answer is Ellipsis:
            return not_attempted("your function returns nothing yet: which of the weights flies off first?")
        case = f"for curvatures {', '.join(f'{c:g}' for c in curvatures)}"
        if isinstance(answer, bool) or not isinstance(answer, Number):
            return wrong(f"{case} it returns a {type(answer).__name__}, not a rate.")
        known = [
            (
                2 / flattest,
                "the edge of the flattest weight. All share one rate, and the steepest flies off long before.",
            ),
            (1 / steepest, "where the steepest weight arrives in a single step. One can go on to twice that."),
            (2 * len(curvatures) / sum(curvatures), "the edge of the mean curvature, which no weight has to have."),
            (2 / sum(curvatures), "the edge of the sum. But each weight has its own factor 1 - lr * curvature."),
            (
                2 / (steepest + flattest),
                "where the flattest and the steepest shrink alike, which is best; the edge is further.",
            ),
            (2 * steepest, "a rate that grows with the curvature. The steeper the bowl, the smaller the edge."),
            (2 / curvatures[0], "the edge of the first weight in the list. Their order does not matter."),
        ]
        if math.isclose(answer, 2 / steepest, rel_tol=1e-6):
            continue
        for value, because in known:
            if math.isclose(answer, value, rel_tol=1e-6):
                return wrong(f"{case} you say {answer:g}: that is {because}")
        return wrong(f"{case} you say {answer:g}. At the edge 1 - lr * curvature is -1 for the steepest weight.")
    return right("the steepest weight sets the edge for all, and the flattest has to wait.")


def check_between(function: Callable) -> Verdict:
    """``between(low, high, n)``: n rates between two, none of which is tried again, evenly spaced on a log axis."""
    for low, high, n in ((1e-6, 0.1, 3), (1e-4, 1e-2, 1), (1e-5, 1.0, 4)):
        answer = function(low, high, n)
        if answer is None or answer is Ellipsis:
            return not_attempted("your function returns nothing yet: n rates between low and high.")
        case = f"for {n} between {low:g} and {high:g}"
        try:
            rates = [float(rate) for rate in answer]
        except (TypeError, ValueError):
            return wrong(f"{case} it returns a {type(answer).__name__}, not a list of rates.")
        listed = ", ".join(f"{rate:.3g}" for rate in rates)
        if (
            low in rates
            or high in rates
            or any(math.isclose(r, end, rel_tol=1e-6) for r in rates for end in (low, high))
        ):
            return wrong(f"{case} you try {listed}: of the two ends you know already what they do.")
        if len(rates) != n:
            return wrong(f"{case} you give {len(rates)} rates: {listed}.")
        if any(not low < rate < high for rate in rates):
            return wrong(f"{case} you try {listed}: not all of them lie between the two.")
        if rates != sorted(rates):
            return wrong(f"{case} you try {listed}: in rising order, please, so that a table can be read.")
        if all(math.isclose(r, low + (high - low) * (i + 1) / (n + 1), rel_tol=1e-4) for i, r in enumerate(rates)):
            return wrong(
                f"{case} you try {listed}: evenly spaced on a plain axis, so all lie in the last power of ten or so. "
                "A rate counts by factors: space its logarithm."
            )
        steps = [b / a for a, b in zip([low, *rates], [*rates, high], strict=True)]
        if max(steps) > 1.01 * min(steps):
            return wrong(f"{case} you try {listed}: the factor from one to the next is not the same everywhere.")
    return right("each is the one before times the same factor: three trials look through five powers of ten.")


def check_choice(rate: float | None, dice: Mapping[float, Sequence[float]]) -> Verdict:
    """Whether a rate can be defended: three seeds, and neither neighbour, a factor of 3 off, clearly better.

    Args:
        rate: your learning rate; None is not an attempt.
        dice: the validation Dice of each seed, by rate: yours, a third of it and three times it.
    """
    if rate is None or rate is Ellipsis:
        return not_attempted("write a learning rate in place of None, and run the cell again.")
    if isinstance(rate, bool) or not isinstance(rate, Number) or not 0 < rate < math.inf:
        return wrong(f"{rate!r} is no learning rate: a positive number, such as 0.002.")
    found = [_at(dice, rate * factor) for factor in (1 / FACTOR, 1, FACTOR)]
    if None in found:
        return wrong(
            f"a rate is defended against its neighbours: train at {rate / FACTOR:.2g} and {rate * FACTOR:.2g} too."
        )
    if min(map(len, found)) < 3:
        return wrong("fewer than three seeds were run, and a single one may just be lucky. Train at least three.")
    lower, own, higher = (sum(scores) / len(scores) for scores in found)
    score = f"mean Dice {lower:.2f} at a third of your rate, {own:.2f} at yours, {higher:.2f} at three times it"
    if own >= max(lower, higher) - LEVEL:
        return right(f"{score}: neither neighbour is clearly better. That is what can be said after three seeds.")
    if higher > lower:
        return wrong(f"{score}. Yours is too low: go up by factors of 3 until it no longer pays.")
    return wrong(f"{score}. Yours is too high: go down by factors of 3 until it no longer pays.")


def _at(dice: Mapping[float, Sequence[float]], rate: float) -> Sequence[float] | None:
    return next((scores for key, scores in dice.items() if math.isclose(key, rate, rel_tol=0.05)), None)

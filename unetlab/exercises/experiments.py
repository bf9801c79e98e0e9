"""Checkers for the exercises of ``05c_experiments``. Each answers right, wrong (because ...) or not attempted."""

import math
from collections.abc import Callable

from unetlab.exercises.verdict import Verdict, not_attempted, right, wrong

POWER = 2.8  # 1.96 for an interval of 95 %, and 0.84 so that four of five studies find the effect


def check_runs_needed(function: Callable) -> Verdict:
    """``runs_needed(sd, effect)``: seeds for a paired comparison, ceil((2.8 * sd / effect) ** 2)."""
    for sd, effect in ((0.02, 0.02), (0.02, 0.01), (0.005, 0.02), (0.03, 0.005)):
        ratio = POWER * sd / effect
        truth, case = math.ceil(ratio**2), f"for a spread of {sd} and an effect of {effect}"
        answer = function(sd, effect)
        if answer is None or answer is Ellipsis:
            return not_attempted("your function returns nothing yet: a number of seeds.")
        if not isinstance(answer, int | float) or isinstance(answer, bool):
            return wrong(f"{case} it returns a {type(answer).__name__}, not a number.")
        if answer == truth:
            continue
        if answer == math.ceil(ratio):
            return wrong(
                f"{case} you say {answer}, it is {truth}: square it. Half the effect needs four times the runs."
            )
        if answer in (math.floor(ratio**2), round(ratio**2)):
            return wrong(f"{case} you say {answer}, it is {truth}: round up, or the study is too small.")
        if abs(answer - ratio**2) < 1e-6:
            return wrong(f"{case} you say {answer:.2f}: there is no part of a run. Round up.")
        if answer == math.ceil((1.96 * sd / effect) ** 2):
            return wrong(f"{case} you say {answer}: with 1.96 alone every other study misses the effect. Take 2.8.")
        if answer == math.ceil((POWER * effect / sd) ** 2):
            return wrong(f"{case} you say {answer}: the ratio is upside down. Much spread needs many runs.")
        return wrong(f"{case} you say {answer:g}, it is {truth}: (2.8 · spread / effect)², rounded up.")
    return right(
        "half the effect, four times the runs. That is why small gains are so seldom shown, and so often claimed."
    )

"""The checkers of 03e_study: every known wrong answer has its message, the folded solutions are right."""

import numpy as np
import pytest
from checkers import said, solved_by
from scipy.stats import t

from unetlab.exercises.study import CLAIMS, check_claims, check_paired_interval


@pytest.fixture
def solved():
    return solved_by("03e_study")


def test_the_folded_solutions_are_right(solved):
    assert said(check_paired_interval(solved["paired_interval"]), "right", "with three pairs")
    assert said(check_claims(solved["may_be_made"]), "right", "two claims out of seven")


def interval(spread, quantile=lambda n: t.ppf(0.975, n - 1), order=(0, 1, 2), sign=1):
    def function(method, baseline):
        mean = sign * (method - baseline).mean()
        half = quantile(len(method)) * spread(method, baseline)
        parts = (mean, mean - half, mean + half)
        return tuple(parts[i] for i in order)

    return function


def standard_error(a, b):
    return (a - b).std(ddof=1) / len(a) ** 0.5


def unpaired(a, b):
    return (a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)) ** 0.5


WRONG = {
    "as if nothing tied them": interval(unpaired),
    "with the freedom of two groups": interval(unpaired, lambda n: t.ppf(0.975, 2 * n - 2)),
    "1.96 is for many pairs": interval(standard_error, lambda n: 1.96),
    "Say ddof=1": interval(lambda a, b: (a - b).std() / len(a) ** 0.5),
    "divide by the root of n": interval(lambda a, b: (a - b).std(ddof=1)),
    "by n and not by its root": interval(lambda a, b: (a - b).std(ddof=1) / len(a)),
    "n - 1 degrees of freedom, not n": interval(standard_error, lambda n: t.ppf(0.975, n)),
    "leave 2.5 % on each": interval(standard_error, lambda n: t.ppf(0.95, n - 1)),
    "one standard error to each side": interval(standard_error, lambda n: 1),
    "method minus baseline": interval(standard_error, sign=-1),
    "the smallest and the largest difference": lambda a, b: ((a - b).mean(), (a - b).min(), (a - b).max()),
    "in another order: mean, low, high.": interval(standard_error, order=(1, 0, 2)),
    "mean, low, high, please": interval(standard_error, order=(0, 2, 1)),
    "it returns a float, not three numbers": lambda a, b: 0.5,
    "it returns a str, not three numbers": lambda a, b: "0.5",
    "it returns 2 numbers, not three": lambda a, b: (0.1, 0.2),
    "for the 5 pairs you say 1.0000 [0.0000, 2.0000]; it is 0.0120": lambda a, b: (1, 0, 2),
    "for the 3 pairs you say": lambda a, b: interval(standard_error)(a, b) if len(a) == 5 else (1, 0, 2),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_intervals(message):
    assert said(check_paired_interval(WRONG[message]), "wrong", message)


@pytest.mark.parametrize("nothing", [None, ...])
def test_interval_not_attempted(nothing):
    assert said(check_paired_interval(lambda a, b: nothing), "not attempted", "the two ends")


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_the_right_interval_in_any_form(kind):
    assert said(check_paired_interval(lambda a, b: kind(interval(standard_error)(a, b))), "right")


# --------------------------------------------------------------------------------------------------------- the claims

RIGHT = {name: may for name, (may, _) in CLAIMS.items()}


@pytest.mark.parametrize("name", CLAIMS)
def test_each_claim_judged_wrongly_is_told_why(name):
    verdict = check_claims(RIGHT | {name: not RIGHT[name]})
    assert said(verdict, "wrong", f"{name} may {'' if RIGHT[name] else 'not '}be made")
    assert said(verdict, "wrong", "1 of 7")
    assert verdict.message.count("•") == 1


def test_all_answers_alike_are_not_right():
    assert said(check_claims(dict.fromkeys(CLAIMS, True)), "wrong", "5 of 7")
    assert said(check_claims(dict.fromkeys(CLAIMS, False)), "wrong", "2 of 7")


def test_claims_not_attempted():
    assert said(check_claims(dict.fromkeys(CLAIMS)), "not attempted", "True or False")
    assert said(check_claims(RIGHT | {"C": None}), "wrong", "no answer yet for C")
    assert said(check_claims(RIGHT | {"C": "no"}), "wrong", "C is answered by 'no'")
    assert said(check_claims({"A": True}), "wrong", "for each of A, B")
    assert said(check_claims({name: np.bool_(may) for name, may in RIGHT.items()}), "right")

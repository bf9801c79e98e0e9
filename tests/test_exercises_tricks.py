"""The checkers of 05a_tricks: every known wrong answer has its message, the folded solutions are right."""

import pytest
from checkers import said, solved_by

from unetlab.exercises.tricks import ROWS, check_flip_average, check_reading


def test_the_folded_solutions_are_right():
    solved = solved_by("05a_tricks")
    assert said(check_flip_average(solved["flip_average"]), "right", "twice the price")
    assert said(check_reading(solved["reading"]), "right", "reaches zero")


def mean(first, second):
    return (first + second) / 2


WRONG = {
    "was not mirrored back": lambda m, x: mean(m(x).sigmoid(), m(x.flip(3)).sigmoid()),
    "the logits were averaged": lambda m, x: mean(m(x), m(x.flip(3)).flip(3)).sigmoid(),
    "these are logits": lambda m, x: mean(m(x), m(x.flip(3)).flip(3)),
    "upside down": lambda m, x: mean(m(x).sigmoid(), m(x.flip(2)).sigmoid().flip(2)),
    "voted with finished masks": lambda m, x: mean((m(x) > 0).float(), (m(x.flip(3)).flip(3) > 0).float()),
    "the mirror had no say": lambda m, x: m(x).sigmoid(),
    "it is the sum": lambda m, x: m(x).sigmoid() + m(x.flip(3)).sigmoid().flip(3),
    "are not the mean over": lambda m, x: m(x.flip(3)).sigmoid().flip(3),
    "does not return a tensor (2, 1, 4, 6)": lambda m, x: m(x).sigmoid()[:, 0],
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_averages(message):
    assert said(check_flip_average(WRONG[message]), "wrong", message)


@pytest.mark.parametrize("nothing", [None, ...])
def test_average_not_attempted(nothing):
    assert said(check_flip_average(lambda m, x: nothing), "not attempted")


RIGHT = {"A": "no conclusion", "B": "helps", "C": "hurts", "D": "no conclusion"}


@pytest.mark.parametrize("nothing", [None, {}, dict.fromkeys(ROWS)])
def test_reading_not_attempted(nothing):
    assert said(check_reading(nothing), "not attempted", "beside each letter")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"A": "helps"}, "A has a gain, but its interval [-0.006, +0.014] holds zero"),
        ({"D": "helps"}, "D has a large gain, but"),
        ({"B": "no conclusion"}, "lies on one side of zero"),
        ({"C": "helps"}, "look at the sign of C"),
        ({"B": "hurts"}, "look at the sign of B"),
        ({"D": "maybe"}, "D has the word 'maybe'"),
        ({"C": None}, "C has the word None"),
    ],
)
def test_wrong_readings(change, message):
    assert said(check_reading(RIGHT | change), "wrong", message)

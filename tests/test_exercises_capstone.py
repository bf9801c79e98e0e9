"""The checkers of 05d_capstone: every known wrong answer has its message, the folded solutions are right."""

import numpy as np
import pytest
from checkers import said, solved_by

from unetlab.exercises.capstone import CARD, check_faults, check_keep


def test_the_folded_solutions_are_right():
    solved = solved_by("05d_capstone")
    assert said(check_keep(solved["keep"]), "right", "once in eight")
    assert said(check_faults(solved["faults"]), "right", "four lines")


@pytest.mark.parametrize("nothing", [None, ...])
def test_not_attempted(nothing):
    assert said(check_keep(lambda differences: nothing), "not attempted")
    assert said(check_faults(nothing), "not attempted")
    assert said(check_faults(set()), "not attempted")


WRONG = {
    "only because one seed gained a lot": lambda d: sum(d) > 0,
    "one seed lost, if only a little": lambda d: (
        len(d) >= 3 and sorted(d)[1] > 0 and sum(d) / len(d) > 0.02 or min(d) > 0
    ),
    "0 is no gain": lambda d: len(d) >= 3 and min(d) >= 0,
    "there is a single seed": lambda d: min(d) > 0,
    "there are two seeds": lambda d: len(d) >= 2 and min(d) > 0,
    "you drop the change, but each of three seeds gained": lambda d: min(d) > 0.05,
    "five seeds, and each of them gained": lambda d: len(d) == 3 and min(d) > 0,
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_rules(message):
    assert said(check_keep(WRONG[message]), "wrong", message)


def test_answers_of_numpy_are_taken():
    assert said(check_keep(lambda d: np.bool_(len(d) >= 3 and min(d) > 0)), "right")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"A", "C", "E"}, "F spoils the score"),
        ({"A", "C", "E", "F", "D"}, "D is no fault"),
        ("ABCEF", "B is no fault"),
        (["C"], "A spoils the score"),
        ({"G"}, "no line G"),
        ({"A", "C", "F"}, "E spoils the score"),
        ({"A", "E", "F"}, "C spoils the score"),
    ],
)
def test_wrong_faults(answer, message):
    assert said(check_faults(answer), "wrong", message)


def test_letters_in_any_form():
    assert said(check_faults(["a", "c", " e", "F"]), "right")
    assert set(CARD) == set("ABCDEF")

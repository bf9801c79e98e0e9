"""The checker of 05c_experiments: every known wrong answer has its message, the folded solution is right."""

import math

import pytest
from checkers import said, solved_by

from unetlab.exercises.experiments import check_runs_needed


def test_the_folded_solution_is_right():
    assert said(check_runs_needed(solved_by("05c_experiments")["runs_needed"]), "right", "four times the runs")


@pytest.mark.parametrize("nothing", [None, ...])
def test_not_attempted(nothing):
    assert said(check_runs_needed(lambda sd, effect: nothing), "not attempted")


WRONG = {
    "square it": lambda sd, effect: math.ceil(2.8 * sd / effect),
    "round up, or the study": lambda sd, effect: math.floor((2.8 * sd / effect) ** 2),
    "no part of a run": lambda sd, effect: (2.8 * sd / effect) ** 2,
    "with 1.96 alone": lambda sd, effect: math.ceil((1.96 * sd / effect) ** 2),
    "upside down": lambda sd, effect: math.ceil((2.8 * effect / sd) ** 2) if sd != effect else 8,
    "rounded up": lambda sd, effect: 1000,
    "a str, not": lambda sd, effect: "8",
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong(message):
    assert said(check_runs_needed(WRONG[message]), "wrong", message)

"""The checkers of 03a_learning_rate: every known wrong answer has its message, the folded solutions are right."""

import math

import numpy as np
import pytest
from checkers import said, solved_by

from unetlab.exercises.learning_rate import check_between, check_choice, check_edge
from unetlab.lab.lr_finder_view import sweep
from unetlab.lab.records import load_record


@pytest.fixture
def solved():
    return solved_by("03a_learning_rate")


def recorded(rate):
    """The Dice of recorded runs at a rate and its neighbours: those of the nearest recorded ones, a factor of 3 apart."""
    rates = sweep(load_record("lr_finder"))
    return {
        lr: [run["val_dice"][-1] for run in rates[min(rates, key=lambda r: abs(r - lr))]]
        for lr in (rate / 3, rate, rate * 3)
    }


def test_the_folded_solutions_are_right(solved):
    assert said(check_edge(solved["edge"]), "right", "the steepest weight sets the edge")
    assert said(check_between(solved["between"]), "right", "five powers of ten")
    assert said(check_choice(solved["my_rate"], recorded(solved["my_rate"])), "right", "neither neighbour")


# ------------------------------------------------------------------------------------------------------------- the edge


@pytest.mark.parametrize("nothing", [None, ...])
def test_edge_not_attempted(nothing):
    assert said(check_edge(lambda curvatures: nothing), "not attempted", "flies off first")


EDGES = {
    "that is the edge of the flattest weight": lambda c: 2 / min(c),
    "arrives in a single step": lambda c: 1 / max(c),
    "the edge of the mean curvature": lambda c: 2 / np.mean(c),
    "the edge of the sum": lambda c: 2 / sum(c),
    "where the flattest and the steepest shrink alike": lambda c: 2 / (max(c) + min(c)),
    "a rate that grows with the curvature": lambda c: 2 * max(c),
    "the edge of the first weight in the list": lambda c: 2 / c[0],
    "it returns a list, not a rate": lambda c: [2 / x for x in c],
    "it returns a bool, not a rate": lambda c: True,
    "1 - lr * curvature is -1 for the steepest weight": lambda c: 0.123,
}


@pytest.mark.parametrize("message", EDGES)
def test_wrong_edges(message):
    assert said(check_edge(EDGES[message]), "wrong", message)


@pytest.mark.parametrize("function", [lambda c: np.float64(2 / max(c)), lambda c: 2 / sorted(c)[-1]])
def test_right_edges(function):
    assert said(check_edge(function), "right")


# ------------------------------------------------------------------------------------------------------- rates between


@pytest.mark.parametrize("nothing", [None, ...])
def test_between_not_attempted(nothing):
    assert said(check_between(lambda low, high, n: nothing), "not attempted", "n rates between")


BETWEEN = {
    "evenly spaced on a plain axis": lambda low, high, n: np.linspace(low, high, n + 2)[1:-1],
    "of the two ends you know already": lambda low, high, n: np.geomspace(low, high, n + 2),
    "for 3 between 1e-06 and 0.1 you try 4.64e-05, 0.00215, 0.1: of the two ends": lambda low, high, n: [
        low * (high / low) ** ((i + 1) / n) for i in range(n)
    ],
    "you give 4 rates": lambda low, high, n: np.geomspace(low, high, n + 3)[1:-1],
    "not all of them lie between the two": lambda low, high, n: [low / 10, low * 10, high / 10],
    "in rising order, please": lambda low, high, n: np.geomspace(high, low, n + 2)[1:-1],
    "the factor from one to the next is not the same": lambda low, high, n: [1e-5, 1e-4, 1e-3],
    "it returns a float, not a list of rates": lambda low, high, n: math.sqrt(low * high),
    "it returns a str, not a list of rates": lambda low, high, n: "0.001",
}


@pytest.mark.parametrize("message", BETWEEN)
def test_wrong_rates_between(message):
    assert said(check_between(BETWEEN[message]), "wrong", message)


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_right_rates_of_any_type(kind):
    assert said(check_between(lambda low, high, n: kind(np.geomspace(low, high, n + 2)[1:-1])), "right")


# -------------------------------------------------------------------------------------------------------------- a rate


@pytest.mark.parametrize("nothing", [None, ...])
def test_choice_not_attempted(nothing):
    assert said(check_choice(nothing, {}), "not attempted", "in place of None")


@pytest.mark.parametrize("rate", [0, -0.01, math.nan, math.inf, "0.01", True])
def test_no_rate_at_all(rate):
    assert said(check_choice(rate, {}), "wrong", "is no learning rate")


@pytest.mark.parametrize(
    ("dice", "message"),
    [
        ({0.01: [0.8, 0.8, 0.8]}, "train at 0.0033 and 0.03 too"),
        ({0.01: [0.8] * 3, 0.02: [0.8] * 3, 0.005: [0.8] * 3}, "a rate is defended against its neighbours"),
        ({0.01: [0.8], 0.0033: [0.7], 0.03: [0.7]}, "fewer than three seeds"),
        ({0.01: [0.5] * 3, 0.0033: [0.3] * 3, 0.03: [0.7] * 3}, "Yours is too low"),
        ({0.01: [0.5] * 3, 0.0033: [0.7] * 3, 0.03: [0.3] * 3}, "Yours is too high"),
    ],
)
def test_wrong_choices(dice, message):
    assert said(check_choice(0.01, dice), "wrong", message)


def test_level_neighbours_are_no_objection():
    dice = {0.01: [0.80, 0.82, 0.81], 0.01 / 3: [0.79] * 3, 0.03: [0.83] * 3}
    assert said(
        check_choice(0.01, dice), "right", "0.79 at a third of your rate, 0.81 at yours, 0.83 at three times it"
    )


def test_the_recorded_runs_agree_with_the_messages():
    assert said(check_choice(1e-4, recorded(1e-4)), "wrong", "Yours is too low")
    assert said(check_choice(1e-2, recorded(1e-2)), "right")

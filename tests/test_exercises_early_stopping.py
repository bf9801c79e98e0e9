"""The checkers of 04a: the package's own class passes, and each mistake that learners make is told by name."""

import copy
import math

import numpy as np
import pytest
import torch
from checkers import said, solved_by

import unetlab as ul
from unetlab.exercises.early_stopping import (
    CHECKS,
    check_early_stopping,
    check_generalisation_loss,
    check_shortest_run,
)


def test_the_notebook_solves_its_own_exercises():
    names = solved_by("04a_early_stopping")
    assert said(check_early_stopping(names["EarlyStopping"]), "right", f"all {len(CHECKS)} checks pass")
    assert said(check_shortest_run(names["shortest_run"]), "right")
    assert said(check_generalisation_loss(names["generalisation_loss"]), "right")


# ------------------------------------------------------------------------------------------------------ the whole class


class Good:
    """What a careful learner writes; the mistakes below change one thing each."""

    def __init__(self, patience=10, min_delta=0.0, mode="min"):
        self.patience, self.min_delta, self.mode = patience, min_delta, mode
        self.best, self.wait, self.weights = self.start(), 0, None

    def start(self):
        return None

    def better(self, value):
        if self.best is None:
            return True
        return value < self.best - self.min_delta if self.mode == "min" else value > self.best + self.min_delta

    def keep(self, model):
        return copy.deepcopy(model.state_dict())

    def update(self, value, model):
        if math.isnan(value):
            return True
        if self.better(value):
            self.best, self.wait, self.weights = value, 0, self.keep(model)
        else:
            self.wait += 1
        return self.over()

    def over(self):
        return self.wait >= self.patience

    def restore(self, model):
        if self.weights is not None:
            model.load_state_dict(self.weights)

    def state_dict(self):
        return copy.deepcopy(vars(self))

    def load_state_dict(self, state):
        vars(self).update(copy.deepcopy(state))


class Ours:
    """The package's class, which leaves the weights to the trainer, with what the exercise asks for around it."""

    def __init__(self, patience=10, min_delta=0.0, mode="min"):
        self.inner, self.weights = ul.EarlyStopping("val_loss", mode, patience, min_delta), None

    def update(self, value, model):
        decision = self.inner.update(value)
        if decision.improved:
            self.weights = copy.deepcopy(model.state_dict())
        return decision.stop

    def restore(self, model):
        if self.weights is not None:
            model.load_state_dict(self.weights)

    def state_dict(self):
        return {"inner": self.inner.state_dict(), "weights": self.weights}

    def load_state_dict(self, state):
        self.inner.load_state_dict(state["inner"])
        self.weights = state["weights"]


@pytest.mark.parametrize("right", [Good, Ours])
def test_right_classes(right):
    assert said(check_early_stopping(right), "right", f"all {len(CHECKS)} checks pass")


def test_there_are_at_least_twelve_checks_each_with_a_mistake_that_fails_it():
    assert len(CHECKS) >= 12
    reasons = {check: {check(mistake) for mistake in MISTAKES.values() if runs(check, mistake)} for check in CHECKS}
    assert all(found - {None} for found in reasons.values()), [c.__name__ for c in CHECKS if not reasons[c] - {None}]
    assert all(check(Good) is None for check in CHECKS)


def runs(check, mistake):
    try:
        check(mistake)
    except Exception:
        return False
    return True


def but(**methods):
    return type("Learner", (Good,), methods)


def naive_update(self, value, model):
    if self.better(value):
        self.best, self.wait, self.weights = value, 0, self.keep(model)
    else:
        self.wait += 1
    return self.over()


def forgets_to_reset(self, value, model):
    wait = self.wait
    stop = Good.update(self, value, model)
    if self.wait == 0 and wait:
        self.wait = wait
    return stop


def compares_with_the_last(self, value, model):
    stop = Good.update(self, value, model)
    self.best = value
    return stop


def best_drifts(self, value, model):
    stop = Good.update(self, value, model)
    if not math.isnan(value):
        self.best = min(self.best, value) if self.mode == "min" else max(self.best, value)
    return stop


def nan_first_is_best(self, value, model):
    if self.best is None or self.better(value):
        self.best, self.wait, self.weights = value, 0, self.keep(model)
        return False
    self.wait += 1
    return self.over()


def keeps_at_nan(self, value, model):
    if math.isnan(value):
        self.weights = self.keep(model)
    return Good.update(self, value, model)


def restores_only_after_a_stop(self, model):
    if self.over():
        Good.restore(self, model)


def ties_to_the_model(self, model):
    model.weight.data = self.weights["weight"]  # the model goes on training in the kept tensor


class Shared(Good):
    memory = {"best": math.inf, "wait": 0}

    def __init__(self, patience=10, min_delta=0.0, mode="min"):
        self.patience, self.min_delta, self.mode, self.weights = patience, min_delta, mode, None

    def update(self, value, model):
        if value < self.memory["best"] - self.min_delta:
            self.memory.update(best=value, wait=0)
            self.weights = self.keep(model)
        else:
            self.memory["wait"] += 1
        return self.memory["wait"] >= self.patience


MISTAKES = {
    "you stop at evaluation 5": but(over=lambda self: self.wait > self.patience),
    "you stop at evaluation 3": but(over=lambda self: self.wait >= self.patience - 1),
    "you never stop": but(over=lambda self: False),
    "Each improvement sets the counter to 0": but(update=forgets_to_reset),
    "compare with the best so far, not with the value before": but(update=compares_with_the_last),
    "a value equal to the best is no improvement": but(
        better=lambda self, v: self.best is None or (v <= self.best if self.mode == "min" else v >= self.best)
    ),
    'mode "max", patience 2': but(better=lambda self, v: self.best is None or v < self.best - self.min_delta),
    "not at 0 or 1": but(start=lambda self: 1.0 if self.mode == "min" else 0.0),
    "min_delta has the wrong sign": but(
        better=lambda self, v: (
            self.best is None
            or (v < self.best + self.min_delta if self.mode == "min" else v > self.best - self.min_delta)
        )
    ),
    "a fall from 1.0 to 0.95 is too small to count": but(
        better=lambda self, v: self.best is None or (v < self.best if self.mode == "min" else v > self.best)
    ),
    'in mode "max" min_delta turns round': but(
        better=lambda self, v: (
            self.best is None
            or (v < self.best - self.min_delta if self.mode == "min" else v > self.best - self.min_delta)
        )
    ),
    "0.89 is 0.11 below the best that counted": but(update=best_drifts),
    "a NaN must stop the run at once": but(update=naive_update),
    "ask for it (math.isnan)": but(update=nan_first_is_best),
    "after a NaN the best weights must still be": but(update=keeps_at_nan),
    "state_dict() holds the model's own tensors": but(keep=lambda self, model: model.state_dict()),
    ".copy() copies only the dictionary": but(keep=lambda self, model: model.state_dict().copy()),
    "must get its best weights back too": but(restore=restores_only_after_a_stop),
    "restoring must not tie the kept weights": but(restore=ties_to_the_model),
    "keep the counter and the best value in the state": but(load_state_dict=lambda self, state: None),
    "After it you stop at evaluation 5": but(load_state_dict=lambda self, state: setattr(self, "best", 9.0)),
    "they belong into the state as well": but(
        state_dict=lambda self: {k: v for k, v in copy.deepcopy(vars(self)).items() if k != "weights"}
    ),
    "return a copy, not the object's own dictionary": but(state_dict=lambda self: vars(self)),
    "two objects share their memory": Shared,
    "it fails with AttributeError": but(restore=None, state_dict=lambda self: self.nothing),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_wrong_classes(message):
    verdict = check_early_stopping(MISTAKES[message])
    assert said(verdict, "wrong", message)
    assert f" of {len(CHECKS)} checks pass" in verdict.message


def test_every_reason_is_told():
    verdict = check_early_stopping(
        but(over=lambda self: self.wait > self.patience, keep=lambda self, m: m.state_dict())
    )
    assert said(verdict, "wrong", "Stop when the counter *reaches* it")
    assert "copy.deepcopy copies the numbers" in verdict.message


@pytest.mark.parametrize("nothing", [None, ...])
def test_class_not_attempted(nothing):
    assert said(
        check_early_stopping(but(update=lambda self, value, model: nothing)), "not attempted", "return True when"
    )


def test_a_class_that_cannot_be_made():
    assert said(check_early_stopping(type("Empty", (), {})), "wrong", "fail with TypeError")


def test_numbers_of_any_kind_are_answers():
    answers = but(update=lambda self, value, model: np.bool_(Good.update(self, value, model)))
    assert said(check_early_stopping(answers), "right")
    assert said(
        check_early_stopping(but(keep=lambda self, m: {n: t.clone() for n, t in m.state_dict().items()})), "right"
    )
    assert torch.is_grad_enabled()


# ------------------------------------------------------------------------------------------------------- shortest run

RUNS = {
    "that is the patience itself": lambda patience, every: patience,
    "that leaves no room for the first evaluation": lambda patience, every: patience * every,
    "that is the number of evaluations": lambda patience, every: patience + 1,
    "multiply it by the epochs between two": lambda patience, every: patience + every,
    "the first evaluation comes after 10 epochs": lambda patience, every: 1 + patience * every,
    "not after it": lambda patience, every: (patience + 2) * every,
    "you say 7, and it is 40: one good evaluation": lambda patience, every: 7,
    "you return a str": lambda patience, every: "40",
}


@pytest.mark.parametrize("message", RUNS)
def test_wrong_shortest_runs(message):
    assert said(check_shortest_run(RUNS[message]), "wrong", message)


def test_shortest_run():
    assert said(check_shortest_run(lambda patience, every: (patience + 1) * every), "right")
    assert said(check_shortest_run(lambda patience, every: None), "not attempted")


# ------------------------------------------------------------------------------------------------- generalisation loss


def lowest(losses):
    return np.minimum.accumulate(losses)


GLS = {
    "you looked into the future": lambda e: 100 * (np.array(e) / min(e) - 1),
    "GL is in per cent, 100 times as large": lambda e: np.array(e) / lowest(e) - 1,
    "at a new best it is 0": lambda e: 100 * np.array(e) / lowest(e),
    "that is the ratio": lambda e: np.array(e) / lowest(e),
    "the fraction is upside down": lambda e: 100 * (lowest(e) / e - 1),
    "is not 1 - E_opt / E": lambda e: 100 * (1 - lowest(e) / e),
    "you take the difference": lambda e: 100 * (np.array(e) - lowest(e)),
    "you compare with the first loss": lambda e: 100 * (np.array(e) / e[0] - 1),
    "you compare with the loss before": lambda e: 100 * (np.array(e) / np.array([e[0], *e[:-1]]) - 1),
    "you say 5, and GL is 0": lambda e: [5.0] * len(e),
    "return 6 numbers": lambda e: [0.0],
}


@pytest.mark.parametrize("message", GLS)
def test_wrong_generalisation_losses(message):
    assert said(check_generalisation_loss(GLS[message]), "wrong", message)


def test_generalisation_loss():
    assert said(check_generalisation_loss(lambda e: (100 * (np.array(e) / lowest(e) - 1)).tolist()), "right")
    assert said(check_generalisation_loss(lambda e: None), "not attempted")

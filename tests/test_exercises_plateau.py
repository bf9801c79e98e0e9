"""The checkers of 03c: torch's own answers are right, and each known mistake is told by name."""

import math

import pytest
import torch
from checkers import said, solved_by

from unetlab.exercises.plateau import CURVES, check_clip, check_patience_pair, check_plateau


def test_the_notebook_solves_its_own_exercises():
    names = solved_by("03c_plateau_and_warmup")
    assert said(check_plateau(names["plateau"]), "right", "when the counter has passed its patience")
    assert said(check_patience_pair(names["my_stopping_patience"]), "right", "cuts at bad evaluations 11 and 22")
    assert said(check_clip(names["clip"]), "right", "the direction is kept")


# ------------------------------------------------------------------------------------------------------------- plateau


def torch_plateau(values, lr, patience, factor, threshold):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=factor, patience=patience, threshold=threshold
    )
    rates = []
    for value in values:
        schedule.step(value)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_torch_is_right():
    assert said(check_plateau(torch_plateau), "right")
    assert said(check_plateau(lambda *case: torch.tensor(torch_plateau(*case))), "right")
    assert said(check_plateau(lambda *case: tuple(torch_plateau(*case))), "right")


@pytest.mark.parametrize("nothing", [None, ...])
def test_plateau_not_attempted(nothing):
    assert said(check_plateau(lambda *case: nothing), "not attempted", "note the rate after each")


def learner(improves=None, cuts=None, after_cut=lambda bad: 0, after_gain=lambda bad: 0, start=math.inf, best_of=None):
    """A loop as learners write it, with one thing changed."""
    improves = improves or (lambda value, best, threshold: value < best * (1 - threshold))
    cuts = cuts or (lambda bad, patience: bad > patience)
    best_of = best_of or (lambda value, best, improved: value if improved else best)

    def plateau(values, lr, patience, factor, threshold):
        best, bad, rates = values[0] if start is None else start, 0, []
        for value in values:
            improved = improves(value, best, threshold)
            bad = after_gain(bad) if improved else bad + 1
            best = best_of(value, best, improved)
            if cuts(bad, patience):
                lr *= factor
                bad = after_cut(bad)
            rates.append(lr)
        return rates

    return plateau


def one_late(values, lr, *options):
    return [lr, *torch_plateau(values, lr, *options)][:-1]


def only_once(values, lr, patience, factor, threshold):
    return [max(rate, lr * factor) for rate in torch_plateau(values, lr, patience, factor, threshold)]


PLATEAUS = {
    "you cut when the counter reaches its patience": learner(cuts=lambda bad, patience: bad >= patience),
    "Yours stays, so each further bad value cuts again": learner(after_cut=lambda bad: bad),
    "you compare with the value before": learner(best_of=lambda value, best, improved: value),
    "your threshold is an amount": learner(lambda value, best, threshold: value < best - threshold),
    "your threshold has the wrong sign": learner(lambda value, best, threshold: value < best * (1 + threshold)),
    "your best moves with every small gain": learner(best_of=lambda value, best, improved: min(value, best)),
    "the threshold is missing": learner(lambda value, best, threshold: value < best),
    "Yours counts all bad values of the run": learner(after_gain=lambda bad: bad),
    "your best starts at the first value": learner(start=None),
    "your rates are one late": one_late,
    "you cut once only": only_once,
    "of 10 values you return 3 numbers": lambda values, *options: [1, 1, 1],
    "you return a float: one rate for each value": lambda values, *options: 0.1,
    "your rate after call 1 is 2 and torch's is 1": lambda values, *options: [2.0] * len(values),
}


@pytest.mark.parametrize("message", PLATEAUS)
def test_wrong_plateaus(message):
    assert said(check_plateau(PLATEAUS[message]), "wrong", message)


def test_the_loop_of_a_learner_without_mistake_is_right():
    assert said(check_plateau(learner()), "right")


def test_the_learner_gets_a_copy_of_the_values():
    def greedy(values, *options):
        rates = torch_plateau(values, *options)
        values.clear()
        return rates

    assert said(check_plateau(greedy), "right")
    assert all(values for _, values, *_ in CURVES)


# ---------------------------------------------------------------------------------------------------- a pair of patience

PAIRS = {
    0: "ends the run at bad evaluation 0, and plateau cuts at number 11",
    10: "ends the run at bad evaluation 10, and plateau cuts at number 11: the rate is never lowered",
    11: "no epoch is trained with it",
    12: "your run ends at 12, after one cut",
    20: "the second at 22: your run ends at 20",
    22: "the very one that ends your run",
    10.5: "is no patience",
    True: "is no patience",
    "23": "is no patience",
}


@pytest.mark.parametrize("patience", PAIRS, ids=str)
def test_wrong_pairs(patience):
    assert said(check_patience_pair(patience), "wrong", PAIRS[patience])


@pytest.mark.parametrize("patience", [23, 30, 33.0])
def test_right_pairs(patience):
    assert said(check_patience_pair(patience), "right", f"and {patience - 22:g} more")


@pytest.mark.parametrize("nothing", [None, ...])
def test_pair_not_attempted(nothing):
    assert said(check_patience_pair(nothing), "not attempted")


@pytest.mark.parametrize("plateau", [0, 3, 10])
def test_the_pairs_agree_with_the_simulator(plateau):
    from unetlab.lab.stopping_simulator import Rule, simulate

    for stopping in range(1, 3 * plateau + 5):
        drops = simulate([0.5] * 60, Rule(patience=stopping, plateau_patience=plateau)).drops
        assert (check_patience_pair(stopping, plateau).status == "right") == (drops >= 2), (stopping, drops)


# ------------------------------------------------------------------------------------------------------------ clipping


def total(gradients):
    return math.sqrt(sum((g**2).sum().item() for g in gradients))


CLIPS = {
    "you clip each tensor by itself": lambda gs, m: [g * min(1, m / max(total([g]), 1e-9)) for g in gs],
    "you cut off each number by itself": lambda gs, m: [g.clamp(-m, m) for g in gs],
    "you stretch a gradient": lambda gs, m: [g * m / total(gs) for g in gs],
    "you add up the lengths of the tensors": lambda gs, m: [g * min(1, m / sum(total([h]) for h in gs)) for g in gs],
    "the root is missing": lambda gs, m: [g * min(1, m / total(gs) ** 2) for g in gs],
    "the gradients are as they were": lambda gs, m: gs,
    "forget max_norm": lambda gs, m: [g / max(1, total(gs)) for g in gs],
    "what is too long is set to zero": lambda gs, m: [g * (total(gs) <= m) for g in gs],
    "you return something else": lambda gs, m: gs[0],
    "a list of tensors of these shapes": lambda gs, m: [1.0, 2.0],
    "with max_norm 1 comes out 15 long; it should be 1 long": lambda gs, m: [3 * g for g in gs],
}


@pytest.mark.parametrize("message", CLIPS)
def test_wrong_clips(message):
    assert said(check_clip(CLIPS[message]), "wrong", message)


def test_clip_not_attempted():
    assert said(check_clip(lambda gradients, max_norm: None), "not attempted")


def test_clipping_in_place_is_right_too():
    def in_place(gradients, max_norm):
        factor = min(1.0, max_norm / total(gradients))
        for gradient in gradients:
            gradient *= factor
        return gradients

    assert said(check_clip(in_place), "right")

"""The checkers of 03b_schedules: every known wrong answer has its message, the folded solutions are right."""

import copy

import numpy as np
import pytest
import torch
from checkers import said, solved_by

from unetlab.exercises.schedules import BUGS, check_diagnosis, check_poly_factor, check_resume, mystery_traces
from unetlab.schedulers import schedule_preview

DIAGNOSIS = {"A": "horizon", "B": "per epoch", "C": "none", "D": "per batch", "E": "resume"}


@pytest.fixture
def solved():
    return solved_by("03b_schedules")


def test_the_folded_solutions_are_right(solved):
    assert said(check_poly_factor(solved["poly_factor"]), "right", "nnU-Net")
    assert said(check_resume(solved["pack"], solved["unpack"]), "right", "to the last step")
    assert said(check_diagnosis(solved["my_diagnosis"]), "right", "all five")


# --------------------------------------------------------------------------------------------------------- polynomial


@pytest.mark.parametrize("nothing", [None, ...])
def test_poly_not_attempted(nothing):
    assert said(check_poly_factor(lambda step, total, power: nothing), "not attempted", "the factor for one step")


POLY = {
    "a straight line": lambda t, total, p: max(1 - t / total, 0),
    "the power of the share that is done": lambda t, total, p: 1 - min(t / total, 1) ** p,
    "the power as a factor": lambda t, total, p: p * max(1 - t / total, 0),
    "a factor that rises": lambda t, total, p: (t / total) ** p,
    "// divides without a rest": lambda t, total, p: max(1 - t // total, 0) ** p,
    "0 a step too early": lambda t, total, p: max(1 - t / (total - 1), 0) ** p,
    "it starts at 0.01. LambdaLR multiplies": lambda t, total, p: 0.01 * max(1 - t / total, 0) ** p,
    "the complex number": lambda t, total, p: (1 - t / total) ** p,
    "the rate comes back": lambda t, total, p: abs(1 - t / total) ** p,
    "for step 20 of 20 and power 0.9 you say 1": lambda t, total, p: max(1 - t / total, 0) ** p if t < total else 1,
    "it returns a str, not a number": lambda t, total, p: "half",
}


@pytest.mark.parametrize("message", POLY)
def test_wrong_factors(message):
    assert said(check_poly_factor(POLY[message]), "wrong", message)


def test_the_right_factor_is_torchs():
    def factor(step, total, power):
        return (1 - min(step, total) / total) ** power

    assert said(check_poly_factor(factor), "right")
    weight = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    schedule = torch.optim.lr_scheduler.LambdaLR(weight, lambda step: factor(step, 30, 0.9))
    rates = []
    for _ in range(30):
        rates.append(weight.param_groups[0]["lr"])
        weight.step()
        schedule.step()
    np.testing.assert_allclose(rates, schedule_preview("polynomial", 30, 0.3), rtol=1e-6, atol=1e-12)


# ------------------------------------------------------------------------------------------------------------- resume


def pack(optimizer, scheduler):
    return copy.deepcopy((optimizer.state_dict(), scheduler.state_dict()))


def unpack(state, optimizer, scheduler):
    optimizer.load_state_dict(state[0])
    scheduler.load_state_dict(state[1])


def test_a_whole_state_is_right():
    assert said(check_resume(pack, unpack), "right")


@pytest.mark.parametrize("nothing", [None, ...])
def test_resume_not_attempted(nothing):
    assert said(check_resume(lambda optimizer, scheduler: nothing, unpack), "not attempted", "pack returns nothing")


def rates_only(state, optimizer, scheduler):
    scheduler.load_state_dict(state[1])
    optimizer.param_groups[0]["lr"] = scheduler.get_last_lr()[0]


RESUME = {
    "nothing of the first was restored": (pack, lambda state, optimizer, scheduler: None),
    "restore the optimizer too": (pack, lambda state, optimizer, scheduler: scheduler.load_state_dict(state[1])),
    "restore the scheduler too": (pack, lambda state, optimizer, scheduler: optimizer.load_state_dict(state[0])),
    "copy.deepcopy it": (lambda optimizer, scheduler: (optimizer.state_dict(), scheduler.state_dict()), unpack),
    "the momentum of the optimizer is lost": (pack, rates_only),
}


@pytest.mark.parametrize("message", RESUME)
def test_wrong_resumes(message):
    assert said(check_resume(*RESUME[message]), "wrong", message)


def test_a_base_rate_that_was_changed_shows_later():
    def other_base(state, optimizer, scheduler):
        unpack(state, optimizer, scheduler)
        scheduler.T_max = 20

    assert said(check_resume(pack, other_base), "wrong", "starts like the first and then leaves it")


# ---------------------------------------------------------------------------------------------------------- diagnosis


def test_the_traces_are_what_their_bugs_make():
    traces, meant = mystery_traces(), schedule_preview("cosine", 100)
    np.testing.assert_allclose(traces["C"], meant, atol=1e-12)
    np.testing.assert_allclose(traces["B"], np.repeat(meant[:10], 10), atol=1e-12)
    np.testing.assert_allclose(traces["E"], np.r_[meant[:60], meant[:40]], atol=1e-12)
    assert traces["A"][50] == pytest.approx(0) and traces["A"][-1] > 0.99
    assert (np.diff(np.sign(np.diff(traces["D"]))) != 0).sum() == 9, "ten half waves"


@pytest.mark.parametrize("nothing", [{}, {"A": None, "B": ...}])
def test_diagnosis_not_attempted(nothing):
    assert said(check_diagnosis(nothing), "not attempted", "beside each letter")


def test_diagnosis():
    assert said(check_diagnosis(DIAGNOSIS), "right", "none of these bugs prints an error")
    assert said(check_diagnosis(DIAGNOSIS | {"A": "order"}), "wrong", "order is none of the names")
    assert said(check_diagnosis({"A": "horizon"}), "wrong", "no answer yet: B, C, D, E")


@pytest.mark.parametrize("letter", DIAGNOSIS)
@pytest.mark.parametrize("bug", BUGS)
def test_each_wrong_diagnosis_is_told_why(letter, bug):
    verdict = check_diagnosis(DIAGNOSIS | {letter: bug})
    if bug == DIAGNOSIS[letter]:
        assert said(verdict, "right")
    else:
        assert said(verdict, "wrong", f"{letter} is not '{bug}': {BUGS[DIAGNOSIS[letter]]}")

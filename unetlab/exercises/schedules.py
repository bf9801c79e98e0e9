"""Checkers for the exercises of ``03b_schedules``. Each answers right, wrong (because ...) or not attempted."""

import math
import warnings
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch.optim import SGD, lr_scheduler

from unetlab.exercises.verdict import Verdict, not_attempted, right, wrong

TOTAL, POWER = 20, 0.9  # of the polynomial
STEPS, STOPPED = 10, 4  # of the run that is resumed


def check_poly_factor(function: Callable) -> Verdict:
    """``poly_factor(step, total, power)``: what the base rate is multiplied by, (1 - step / total) ** power, then 0."""
    steps = np.arange(TOTAL + 1)
    left = 1 - steps / TOTAL
    answers = [function(int(step), TOTAL, POWER) for step in steps]
    if answers[0] is None or answers[0] is Ellipsis:
        return not_attempted("your function returns nothing yet: the factor for one step.")
    try:
        answers = np.array([float(answer) for answer in answers])
    except (TypeError, ValueError):
        return wrong(f"for step 0 it returns a {type(answers[0]).__name__}, not a number.")
    known = [
        (left, "a straight line, the power left out. Here it bends a little: it is 0.9."),
        (1 - (steps / TOTAL) ** POWER, "the power of the share that is done. Take that of the share that is left."),
        (POWER * left, "the power as a factor. It is an exponent: ** and not *."),
        ((steps / TOTAL) ** POWER, "a factor that rises. It is the share that is left which counts."),
        ((1 - steps // TOTAL) ** POWER, "1 until the end. // divides without a rest: take /."),
        (
            np.maximum(1 - steps / (TOTAL - 1), 0) ** POWER,
            "0 a step too early: the last step would train with a rate of 0.",
        ),
    ]
    truth = left**POWER
    if not np.allclose(answers, truth, atol=1e-6):
        for values, because in known:
            if np.allclose(answers, values, atol=1e-6):
                return wrong(f"what you return is {because}")
        if answers[0] != 1 and np.allclose(answers, answers[0] * truth, atol=1e-6):
            return wrong(f"it starts at {answers[0]:g}. LambdaLR multiplies the base rate by it, so it starts at 1.")
        i = int(np.abs(answers - truth).argmax())
        return wrong(f"for step {i} of {TOTAL} and power {POWER} you say {answers[i]:.4g}; it is {truth[i]:.4g}.")
    for step in (TOTAL + 1, TOTAL + 5):
        answer = function(step, TOTAL, POWER)
        if isinstance(answer, complex):
            return wrong(
                f"after the end, at step {step} of {TOTAL}, it returns the complex number {answer:.2f}: 1 - step / total is "
                "negative there. Stop it at 0."
            )
        if abs(answer) > 1e-9:
            return wrong(
                f"after the end, at step {step} of {TOTAL}, it returns {answer:.2g}: the rate comes back. Stop it at 0."
            )
    return right("torch's PolynomialLR gives the same rates; with power 0.9 it is the schedule of nnU-Net.")


def check_resume(pack: Callable, unpack: Callable) -> Verdict:
    """``pack(optimizer, scheduler)`` returns a state; ``unpack(state, optimizer, scheduler)`` puts it into new ones.

    A run of 10 steps under a cosine is packed after 4 and goes on; a second one takes up the state and must follow it.
    """
    weight, optimizer, scheduler = _run(1.0)
    for _ in range(STOPPED):
        _step(weight, optimizer, scheduler)
    here, velocity = weight.item(), _velocity(optimizer, weight)
    rate = optimizer.param_groups[0]["lr"]
    state = pack(optimizer, scheduler)
    if state is None or state is Ellipsis:
        return not_attempted("pack returns nothing yet: what must be known to go on?")
    path = [_step(weight, optimizer, scheduler) for _ in range(STEPS - STOPPED)]
    last_velocity = _velocity(optimizer, weight)

    weight, optimizer, scheduler = _run(here)
    unpack(state, optimizer, scheduler)
    same_rate = math.isclose(optimizer.param_groups[0]["lr"], rate, rel_tol=1e-6)
    same_count = scheduler.last_epoch == STOPPED
    found = _velocity(optimizer, weight)
    if not same_rate and not same_count:
        return wrong(
            "the second run starts at the base rate, in step 0 of its schedule: nothing of the first was restored."
        )
    if not same_rate:
        return wrong(
            f"the schedule knows that it is in step {STOPPED}, but the rate is the base rate. It lives in the optimizer, "
            "and torch's cosine makes each rate from the one before: restore the optimizer too."
        )
    if not same_count:
        return wrong(
            "the rate is right at first, for the optimizer was restored. But the schedule counts from 0 again and will "
            "follow the wrong part of its curve: restore the scheduler too."
        )
    if not math.isclose(found, velocity, rel_tol=1e-6):
        if math.isclose(found, last_velocity, rel_tol=1e-6):
            return wrong(
                "the rates are right, but the momentum is that of the end of the first run, which went on after you packed "
                "it: state_dict() holds the tensors themselves. copy.deepcopy it, or write it to a file at once."
            )
        return wrong("the rates are right, but the momentum of the optimizer is lost: take its whole state_dict().")
    again = [_step(weight, optimizer, scheduler) for _ in range(STEPS - STOPPED)]
    if not np.allclose(again, path, rtol=1e-6):
        return wrong("the second run starts like the first and then leaves it: something of the state is missing.")
    return right("rates and weights of the second run are those of the first, to the last step.")


def _run(value: float):
    """One weight, SGD with momentum, and a cosine for ten steps."""
    weight = torch.tensor([value], dtype=torch.float64, requires_grad=True)
    optimizer = SGD([weight], lr=0.1, momentum=0.9)
    return weight, optimizer, lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS)


def _step(weight, optimizer, scheduler) -> tuple[float, float]:
    """One step on the loss w ** 2 / 2; returns the rate that it used and the new weight."""
    rate = optimizer.param_groups[0]["lr"]
    weight.grad = weight.detach().clone()
    optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns where a restored schedule moves before its optimizer
        scheduler.step()
    return rate, weight.item()


def _velocity(optimizer, weight) -> float:
    """The momentum buffer of the weight; nan if there is none."""
    buffer = optimizer.state.get(weight, {}).get("momentum_buffer")
    return math.nan if buffer is None else buffer.item()


BUGS = {
    "per epoch": "it moves in steps of an epoch and hardly leaves its start: made for all batches, stepped once an epoch",
    "per batch": "it goes through its whole curve many times: made for the epochs, stepped after every batch",
    "horizon": "it comes back: the run is twice as long as the curve was planned for",
    "resume": "it jumps back to the base rate in the middle: resumed without the scheduler's state",
    "none": "it falls once, from the base rate to 0, at the end of the run: a cosine as it should be",
}


def mystery_traces() -> dict[str, np.ndarray]:
    """The rates of five runs of 10 epochs of 10 steps, meant to be one cosine from 1 to 0; four have a bug."""
    steps = np.arange(100)

    def cosine(step, length):
        return 0.5 * (1 + np.cos(np.pi * step / length))

    return {
        "A": cosine(steps, 50),
        "B": cosine(steps // 10, 100),
        "C": cosine(steps, 100),
        "D": cosine(steps, 10),
        "E": cosine(steps % 60, 100),
    }


_TRUTH = {"A": "horizon", "B": "per epoch", "C": "none", "D": "per batch", "E": "resume"}


def check_diagnosis(answers: Mapping[str, str | None]) -> Verdict:
    """``{"A": bug, ...}`` for the five traces; each bug is one of ``BUGS``."""
    given = {name: answer for name, answer in answers.items() if answer is not None and answer is not Ellipsis}
    if not given:
        return not_attempted("write the name of a bug beside each letter.")
    strange = sorted({str(answer) for answer in given.values()} - BUGS.keys())
    if strange:
        return wrong(f"{', '.join(strange)} is none of the names: {', '.join(BUGS)}.")
    if given.keys() != _TRUTH.keys():
        return wrong(f"some letters have no answer yet: {', '.join(sorted(_TRUTH.keys() - given.keys()))}.")
    mistakes = [
        f"{name} is not '{given[name]}': {BUGS[_TRUTH[name]]}" for name in _TRUTH if given[name] != _TRUTH[name]
    ]
    if mistakes:
        return wrong("the traces say otherwise:", *mistakes)
    return right("all five. Draw the rate of every run that you start: none of these bugs prints an error.")

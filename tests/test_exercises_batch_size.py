"""The checkers of 02c_batch_size: every known wrong answer has its message, the folded solutions are right."""

import math

import numpy as np
import pytest
from checkers import said, solved_by

from unetlab.exercises.batch_size import check_accumulate, check_rate, check_steps_per_epoch
from unetlab.lab.budget_race import at_budget
from unetlab.lab.records import load_record


@pytest.fixture
def solved():
    return solved_by("02c_batch_size")


def recorded(batch, lr, steps):
    """The Dice of the recorded runs, which are those of the exercise with another order of the images."""
    runs = [run for run in load_record("batch_size")["runs"] if (run["batch"], run["lr"]) == (batch, lr)]
    return [at_budget(run, "val_dice", "Steps", steps, 96) for run in runs]


def test_the_folded_solutions_are_right(solved):
    assert said(check_steps_per_epoch(solved["steps_per_epoch"]), "right", "never when you evaluate")
    assert said(check_accumulate(solved["accumulate"]), "right", "four at a time")
    rate = solved["my_rate"]
    assert said(check_rate(rate, recorded(96, rate, 12), recorded(4, 0.01, 12)), "right", "the rate was")


# ---------------------------------------------------------------------------------------------------- steps per epoch


@pytest.mark.parametrize("nothing", [None, ...])
def test_steps_not_attempted(nothing):
    assert said(check_steps_per_epoch(lambda images, batch, drop: nothing), "not attempted", "count the batches")


STEPS = {
    "the 4 images left over make a short batch: a step too": lambda n, b, drop: n // b,
    "the short batch of 4 images is dropped, and its step with it": lambda n, b, drop: -(-n // b),
    "the images fill 6 batches and none is left": lambda n, b, drop: n // b + (not drop),
    "there is no part of a step": lambda n, b, drop: n / b,
    "the short batch of 12 images is dropped": lambda n, b, drop: round(n / b) if drop else -(-n // b),
    "No step, nothing is learnt": lambda n, b, drop: max(1, n // b) if drop else -(-n // b),
    "and drop_last=False you say 6: the 4 images": lambda n, b, drop: -(-n // b) if drop else n // b,
    "it returns a str, not a number of steps": lambda n, b, drop: "6",
    "it returns a bool, not a number of steps": lambda n, b, drop: True,
    "you say 16, it is 6": lambda n, b, drop: b,
    "6 full batches and 4 images left over": lambda n, b, drop: n // b if n % b == 0 else n,
}


@pytest.mark.parametrize("message", STEPS)
def test_wrong_steps(message):
    assert said(check_steps_per_epoch(STEPS[message]), "wrong", message)


@pytest.mark.parametrize("number", [int, float, np.int64])
def test_right_steps_of_any_type(number):
    def function(images, batch_size, drop_last):
        return number(images // batch_size if drop_last else math.ceil(images / batch_size))

    assert said(check_steps_per_epoch(function), "right")


# -------------------------------------------------------------------------------------------------------------- a rate

SMALL = [0.74, 0.75, 0.77]


@pytest.mark.parametrize("nothing", [None, ...])
def test_rate_not_attempted(nothing):
    assert said(check_rate(nothing, [], SMALL), "not attempted", "in place of None")


@pytest.mark.parametrize("rate", [0, -0.01, math.nan, math.inf, "0.01", True])
def test_no_rate_at_all(rate):
    assert said(check_rate(rate, SMALL, SMALL), "wrong", "is no learning rate")


@pytest.mark.parametrize(
    ("rate", "large", "message"),
    [
        (0.001, [0.3, 0.1, 0.6], "each of them must go further"),
        (0.0001, [0.3, 0.1, 0.3], "You kept the rate or lowered it"),
        (0.24, [0.3, 0.7, 0.6], "was found for SGD"),
        (0.003, [0.7, 0.5, 0.75], "follow the better one"),
        (0.01, [0.8], "fewer than three seeds"),
    ],
)
def test_wrong_rates(rate, large, message):
    assert said(check_rate(rate, large, SMALL), "wrong", message)


def test_the_order_is_judged_and_not_the_score():
    assert said(check_rate(0.02, [0.2, 0.2, 0.2], [0.2, 0.21, 0.19]), "right", "mean Dice of 0.20, the small one 0.20")
    assert said(check_rate(0.01, [0.72, 0.73, 0.75], SMALL), "right"), "a gap within the seeds' spread is level"
    assert said(check_rate(0.01, [0.9, 0.9, 0.9, 0.9], SMALL), "right")


def test_the_recorded_runs_agree_with_the_messages():
    small = recorded(4, 0.01, 12)
    assert said(check_rate(0.001, recorded(96, 0.001, 12), small), "wrong", "each of them must go further")
    assert said(check_rate(0.03, recorded(96, 0.03, 12), small), "right")


# -------------------------------------------------------------------------------------------------------- accumulation


def accumulation(weigh, zero=True, skip_short=False):
    """A learner's function: the weight of each part from its length, the batch's, and the usual length of a part."""

    def function(model, loss, images, masks, part):
        if zero:
            model.zero_grad()
        for start in range(0, len(images), part):
            x, y = images[start : start + part], masks[start : start + part]
            if skip_short and len(x) < part:
                break
            (loss(model(x), y) * weigh(len(x), len(images), part)).backward()

    return function


def zero_in_the_loop(weigh):
    def function(model, loss, images, masks, part):
        for x, y in zip(images.split(part), masks.split(part), strict=True):
            model.zero_grad()
            (loss(model(x), y) * weigh(len(x), len(images))).backward()

    return function


def no_backward(model, loss, images, masks, part):
    model.zero_grad()
    sum(loss(model(x), y) for x, y in zip(images.split(part), masks.split(part), strict=True))


def a_step_too_many(model, loss, images, masks, part):
    accumulation(lambda n, batch, part: n / batch)(model, loss, images, masks, part)
    for parameter in model.parameters():
        parameter.data -= 0.1 * parameter.grad


ACCUMULATIONS = {
    "you weigh the parts alike": accumulation(lambda n, batch, part: 1 / 3),
    "its weight is its own length over that of the batch": accumulation(lambda n, batch, part: part / batch),
    "you add up means": accumulation(lambda n, batch, part: 1),
    "you add up sums": accumulation(lambda n, batch, part: n),
    "the gradient of an earlier step is still in it": accumulation(lambda n, batch, part: n / batch, zero=False),
    "the gradients were set to zero inside the loop": zero_in_the_loop(lambda n, batch: n / batch),
    "zero the gradients before the loop, not in it": zero_in_the_loop(lambda n, batch: 1),
    "the loop ends too early": accumulation(lambda n, batch, part: n / batch, skip_short=True),
    "and each part weighs one half": accumulation(lambda n, batch, part: 1 / 2, skip_short=True),
    "did you call backward()": no_backward,
    "the weights changed": a_step_too_many,
    "your gradient is 0.50 times as long as that of the batch and 0 degrees off": accumulation(
        lambda n, batch, part: n / batch / 2
    ),
}


@pytest.mark.parametrize("message", ACCUMULATIONS)
def test_wrong_accumulations(message):
    assert said(check_accumulate(ACCUMULATIONS[message]), "wrong", message)


def test_accumulation_not_attempted():
    assert said(
        check_accumulate(lambda model, loss, images, masks, part: None), "not attempted", "go through the parts"
    )

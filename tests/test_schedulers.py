"""Schedules against torch's own, the traces of its traps, and what happens at the end and after a restart."""

import json
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torchs

import unetlab as ul
from unetlab.schedulers import SCHEDULES

BY_BATCH = [name for name in SCHEDULES if name != "plateau"]


def sgd(lr=1.0):
    return torch.optim.SGD([torch.zeros(1)], lr=lr, momentum=0.9)


def advance(scheduler, steps):
    """Rates in force at these many steps, moving on after each."""
    rates = []
    scheduler.optimizer.step()  # torch warns of schedules that move before the optimizer
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        scheduler.step()
    return rates


# ------------------------------------------------------------------------------------------------ the same as torch's


def torch_schedule(name, optimizer, total):
    """The schedules written out with torch alone, by the definitions in the docstrings."""
    warmup = max(total // 10, 1)
    made = {
        "constant": lambda: torchs.ConstantLR(optimizer, factor=1.0),
        "step": lambda: torchs.StepLR(optimizer, step_size=math.ceil(total / 3), gamma=0.1),
        "multistep": lambda: torchs.MultiStepLR(optimizer, [total // 2, total * 3 // 4], gamma=0.1),
        "exponential": lambda: torchs.ExponentialLR(optimizer, gamma=0.01 ** (1 / total)),
        "polynomial": lambda: torchs.PolynomialLR(optimizer, total_iters=total, power=0.9),
        "cosine": lambda: torchs.CosineAnnealingLR(optimizer, T_max=total),
        "cosine_restarts": lambda: torchs.CosineAnnealingWarmRestarts(optimizer, T_0=math.ceil(total / 7), T_mult=2),
        "one_cycle": lambda: torchs.OneCycleLR(optimizer, max_lr=0.3, total_steps=total),
        "warmup_cosine": lambda: torchs.SequentialLR(
            optimizer,
            [
                torchs.LinearLR(optimizer, start_factor=0.01, total_iters=warmup),
                torchs.CosineAnnealingLR(optimizer, T_max=total - warmup),
            ],
            milestones=[warmup],
        ),
    }
    return made[name]()


@pytest.mark.parametrize("name", BY_BATCH)
@pytest.mark.parametrize("total", [7, 10, 33, 250])
def test_equals_torch(name, total):
    optimizer = sgd(0.3)
    theirs = torch_schedule(name, optimizer, total)
    optimizer.step()
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        if len(rates) < total:
            theirs.step()
    np.testing.assert_array_equal(ul.schedule_preview(name, total, lr=0.3), rates)


@pytest.mark.parametrize(
    "name, options, theirs",
    [
        ("step", {"step_size": 4, "gamma": 0.5}, lambda o: torchs.StepLR(o, 4, 0.5)),
        ("multistep", {"milestones": [3, 11], "gamma": 0.2}, lambda o: torchs.MultiStepLR(o, [3, 11], 0.2)),
        ("exponential", {"gamma": 0.9}, lambda o: torchs.ExponentialLR(o, 0.9)),
        ("polynomial", {"power": 2.0}, lambda o: torchs.PolynomialLR(o, 20, 2.0)),
        ("cosine", {"eta_min": 0.1}, lambda o: torchs.CosineAnnealingLR(o, 20, 0.1)),
        ("cosine_restarts", {"T_0": 5, "T_mult": 1}, lambda o: torchs.CosineAnnealingWarmRestarts(o, 5, 1)),
        (
            "one_cycle",
            {"pct_start": 0.25, "div_factor": 10, "final_div_factor": 100, "anneal_strategy": "linear"},
            lambda o: torchs.OneCycleLR(
                o, 1.0, 20, pct_start=0.25, div_factor=10, final_div_factor=100, anneal_strategy="linear"
            ),
        ),
    ],
)
def test_options_reach_torch(name, options, theirs):
    optimizer = sgd()
    raw = theirs(optimizer)
    optimizer.step()
    rates = [raw.get_last_lr()[0]]
    for _ in range(19):
        raw.step()
        rates.append(raw.get_last_lr()[0])
    np.testing.assert_array_equal(ul.schedule_preview(name, 20, **options), rates)


def test_warmup_options():
    rates = ul.schedule_preview("warmup_cosine", 20, lr=2.0, warmup_steps=4, start_factor=0.5, eta_min=0.1)
    np.testing.assert_allclose(rates[:5], [1.0, 1.25, 1.5, 1.75, 2.0])
    assert rates.argmax() == 4
    scheduler = ul.make_scheduler("warmup_cosine", sgd(2.0), 20, warmup_steps=4, eta_min=0.1)
    assert advance(scheduler, 21)[-1] == pytest.approx(0.1)


def test_plateau_equals_torch():
    metrics = np.abs(np.sin(np.arange(60.0))) + 1 / (1 + np.arange(60.0))
    options = {"patience": 3, "factor": 0.5, "cooldown": 2, "threshold": 1e-3, "min_lr": 0.01}
    optimizer = sgd()
    raw, rates = torchs.ReduceLROnPlateau(optimizer, **options), []
    for metric in metrics:
        raw.step(metric)
        rates.append(optimizer.param_groups[0]["lr"])
    assert len(set(rates)) > 3
    np.testing.assert_array_equal(ul.schedule_preview("plateau", 60, metrics=metrics, **options), rates)


def test_every_parameter_group_has_its_own_rate():
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "lr": lr} for lr in (1.0, 0.1)], momentum=0.9)
    for name in BY_BATCH:
        scheduler = ul.make_scheduler(name, optimizer, 10)
        fast, slow = scheduler.get_last_lr()
        assert fast == pytest.approx(10 * slow)
        for group, lr in zip(optimizer.param_groups, (1.0, 0.1), strict=True):
            group["lr"] = group["initial_lr"] = lr


# -------------------------------------------------------------------------------------------------- traces and traps


def test_plateau_on_a_flat_metric():
    rates = ul.schedule_preview("plateau", 10, metrics=[0.5] * 10, patience=2, factor=0.1)
    np.testing.assert_allclose(rates, [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.001])


def test_plateau_in_the_wrong_direction():
    rising_dice = np.linspace(0.5, 0.9, 10)
    rates = ul.schedule_preview("plateau", 10, metrics=rising_dice, patience=3)
    np.testing.assert_allclose(rates, [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01])
    assert (ul.schedule_preview("plateau", 10, metrics=rising_dice, patience=3, mode="max") == 1).all()


def test_plateau_never_fires_on_a_creeping_metric():
    creeping = 0.9 + 1.01e-4 * np.arange(100)
    assert (ul.schedule_preview("plateau", 100, metrics=creeping, patience=2, mode="max") == 1).all()


def test_cosine_does_not_rise_again():
    """torch's own goes 1 .90 .65 .35 .10 0 .10 .35 .65 .90 1."""
    rates = advance(ul.make_scheduler("cosine", sgd(), 5), 11)
    np.testing.assert_allclose(rates, [1, 0.905, 0.655, 0.345, 0.095, 0, 0, 0, 0, 0, 0], atol=5e-4)


def test_one_cycle_counted_in_epochs_hardly_moves():
    """10 epochs of 25 steps, but moved on once an epoch: the trap of the wrong unit."""
    rates = ul.schedule_preview("one_cycle", 250)[:10]
    assert (rates[0], rates[-1]) == (pytest.approx(0.040, abs=5e-4), pytest.approx(0.075, abs=5e-4))


@settings(max_examples=150)
@given(name=st.sampled_from(BY_BATCH), total=st.integers(1, 60), extra=st.integers(1, 40))
def test_never_rises_past_its_end(name, total, extra):
    scheduler = ul.make_scheduler(name, sgd(), total)
    rates = advance(scheduler, total + extra)
    end = rates[total - 1]
    after = rates[total:]
    assert all(rate <= end for rate in after)
    assert len(set(after)) == 1
    assert all(0 <= rate <= 1 for rate in rates)


@pytest.mark.parametrize(
    "name, end",
    [
        ("constant", 1),
        ("step", 0.001),  # three equal parts, and the third drop falls on the end
        ("multistep", 0.01),
        ("exponential", 0.01),
        ("polynomial", 0),
        ("cosine", 0),
        ("one_cycle", 1 / 25 / 1e4),
        ("warmup_cosine", 0),
    ],
)
def test_where_it_ends(name, end):
    assert advance(ul.make_scheduler(name, sgd(), 30), 40)[-1] == pytest.approx(end, abs=1e-9)


def test_interval_and_horizon():
    bound = {name for name in SCHEDULES if ul.make_scheduler(name, sgd(), 10).horizon_bound}
    assert bound == {"polynomial", "cosine", "cosine_restarts", "one_cycle", "warmup_cosine"}
    intervals = {name: ul.make_scheduler(name, sgd(), 10).interval for name in SCHEDULES}
    assert intervals == dict.fromkeys(BY_BATCH, "batch") | {"plateau": "evaluation"}


# ------------------------------------------------------------------------------------------------------------- restart


def restarted(name, scheduler, **options):
    """The schedule and its optimizer in another process, from JSON."""
    state = json.loads(json.dumps(scheduler.state_dict()))
    optimizer = sgd(0.5)
    again = ul.make_scheduler(name, optimizer, scheduler.total_steps, **options)
    optimizer.load_state_dict(scheduler.optimizer.state_dict())
    again.load_state_dict(state)
    return again


@pytest.mark.parametrize("name", BY_BATCH)
def test_state_goes_on_from_every_step(name):
    whole = advance(ul.make_scheduler(name, sgd(0.5), 12), 20)
    for split in range(20):
        scheduler = ul.make_scheduler(name, sgd(0.5), 12)
        first = advance(scheduler, split)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's SequentialLR moves its parts while it is made
            again = restarted(name, scheduler)
        assert first + advance(again, 20 - split) == whole


def test_plateau_goes_on_from_every_evaluation():
    metrics = [1.0, 0.9, 0.95, 0.97, 0.8, 0.85, 0.83, 0.9, 0.7, 0.75, 0.75, 0.75]
    options = {"patience": 1, "factor": 0.5, "cooldown": 1}
    whole = ul.schedule_preview("plateau", 12, lr=0.5, metrics=metrics, **options)
    assert len(set(whole)) > 2
    for split in range(len(metrics)):
        scheduler, rates = ul.make_scheduler("plateau", sgd(0.5), 12, **options), []
        for i, metric in enumerate(metrics):
            if i == split:
                scheduler = restarted("plateau", scheduler, **options)
            scheduler.step(metric)
            rates += scheduler.get_last_lr()
        np.testing.assert_array_equal(rates, whole)


# -------------------------------------------------------------------------------------------------------------- errors


def test_unknown_name():
    with pytest.raises(ValueError, match="unknown schedule 'cosin': choose one of constant, step"):
        ul.make_scheduler("cosin", sgd(), 10)


@pytest.mark.parametrize("name", SCHEDULES)
def test_unknown_option(name):
    with pytest.raises(ValueError, match="gama"):
        ul.make_scheduler(name, sgd(), 10, gama=0.5)


@pytest.mark.parametrize("total", [0, -3])
def test_no_steps(total):
    with pytest.raises(ValueError, match="total_steps must be at least 1"):
        ul.make_scheduler("cosine", sgd(), total)


@pytest.mark.parametrize("name", BY_BATCH)
def test_a_metric_where_none_is_used(name):
    with pytest.raises(TypeError, match=r"takes step\(\) after each batch"):
        ul.make_scheduler(name, sgd(), 10).step(0.5)


def test_plateau_needs_a_metric():
    with pytest.raises(TypeError, match=r"takes step\(metric\) after each evaluation"):
        ul.make_scheduler("plateau", sgd(), 10).step()
    with pytest.raises(ValueError, match="pass metrics="):
        ul.schedule_preview("plateau", 10)


def test_plateau_refuses_nan():
    with pytest.raises(ValueError, match="NaN"):
        ul.make_scheduler("plateau", sgd(), 10).step(math.nan)


def test_plateau_refuses_a_relative_threshold_below_zero():
    """torch takes -0.79995 after -0.80000 for an improvement: minus one ten-thousandth of a negative number is added."""
    raw = torchs.ReduceLROnPlateau(sgd())
    raw.best = -0.80000
    assert raw._is_better(-0.79995, raw.best)
    with pytest.raises(ValueError, match="threshold_mode='abs'"):
        ul.make_scheduler("plateau", sgd(), 10).step(-0.8)
    rates = ul.schedule_preview("plateau", 4, metrics=[-0.8, -0.79995, -0.7999], patience=1, threshold_mode="abs")
    np.testing.assert_allclose(rates, [1, 1, 0.1])

"""The learning-rate range test: what it sees, what it suggests, and that it leaves no trace."""

import math

import numpy as np
import pytest
import torch
from tiny import EPOCHS, differences, random_states, rich_trainer, script, trainer, whole

import unetlab as ul


def everything(run) -> dict:
    """All that a range test could change: the whole state, the shown weights, gradients, modes, random states."""
    return whole(run) | {
        "modes": [module.training for module in run.model.modules()],
        "gradients": [parameter.grad is None for parameter in run.model.parameters()],
        "random": list(map(repr, random_states())),
        "rows": [len(run.history.epochs), len(run.history.steps), len(run.history.moves)],
        "snapshots": sorted(run.snapshots),
    }


def fresh():
    return trainer()


def with_everything():
    return rich_trainer("cosine")


def stopped_in_the_middle():
    run = rich_trainer("one_cycle")
    run.fit(EPOCHS, script((14, {"stop": True})), verbose=None)
    return run


def finished_and_showing_its_best():
    run = trainer(lr=1e-2, early_stopping=ul.EarlyStopping("val_loss", patience=50))
    run.fit(5, ul.Script([(12, {"lr": 3.0})]), verbose=None)
    assert run.early_stopping.best_epoch == 3, "the best weights must not be the last ones"
    return run


SITUATIONS = [fresh, with_everything, stopped_in_the_middle, finished_and_showing_its_best]


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda f: f.__name__)
def test_everything_is_put_back_bit_for_bit(situation):
    run = situation()
    run.optimizer.zero_grad()
    before = everything(run)
    test = ul.lr_range_test(run, num_iter=12, end_lr=100)
    assert len(test.losses) > 5
    assert differences(before, everything(run)) == []


def test_a_fresh_optimizer_stays_without_a_state():
    run = trainer()
    ul.lr_range_test(run, num_iter=10)
    assert run.optimizer.state == {} and run.step == 0


def test_training_goes_on_as_if_there_had_been_no_test():
    undisturbed = rich_trainer("one_cycle")
    undisturbed.fit(EPOCHS, script(), verbose=None)
    run = stopped_in_the_middle()
    ul.lr_range_test(run, num_iter=10)
    run.fit(EPOCHS, script(), verbose=None)
    assert differences(whole(undisturbed), whole(run)) == []


def test_it_trains_the_last_weights_also_where_the_best_ones_are_shown():
    run = finished_and_showing_its_best()
    test = ul.lr_range_test(run, num_iter=10)
    run.model.load_state_dict(run.state()["model"])  # now it shows the last ones
    assert ul.lr_range_test(run, num_iter=10).losses[0] == test.losses[0]


@pytest.mark.parametrize("call", [1, 4])
def test_an_error_in_the_loss_is_raised_after_everything_is_put_back(call):
    calls = []

    def loss(logits, masks):
        calls.append(1)
        if len(calls) == call:
            raise ZeroDivisionError("your loss")
        return ul.DiceLoss()(logits, masks)

    run = trainer(loss=loss, ema=0.9)
    state, random = run.state(), random_states()
    with pytest.raises(ZeroDivisionError, match="your loss"):
        ul.lr_range_test(run, num_iter=10)
    assert differences(state, run.state()) == []
    assert random == random_states()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("call", [1, 6])
def test_a_loss_that_is_not_finite_ends_the_test(value, call):
    calls = []

    def loss(logits, masks):
        calls.append(1)
        return ul.DiceLoss()(logits, masks) * (value if len(calls) == call else 1)

    run = trainer(loss=loss)
    before = run.state()
    test = ul.lr_range_test(run, start_lr=1e-5, end_lr=1, num_iter=11)
    assert len(test.lrs) == len(test.losses) == len(test.smoothed) == call - 1
    assert np.isfinite(test.losses).all()
    rate = np.geomspace(1e-5, 1, 11)[call - 1]
    assert test.stopped == f"the loss became {value} at a rate of {rate:.2g}"
    assert differences(before, run.state()) == []


def test_a_rate_that_breaks_the_network_is_survived():
    run = trainer()
    before = run.state()
    test = ul.lr_range_test(run, start_lr=1e-3, end_lr=1e30, num_iter=40)
    assert test.stopped is not None
    assert differences(before, run.state()) == []


# ------------------------------------------------------------------------------------------------------- what it sees


def on_a_curve(monkeypatch, loss_at, **options):
    """The range test of a run whose loss is a known function of the rate."""
    run = trainer()
    monkeypatch.setattr(run, "train_step", lambda indices: torch.tensor(loss_at(run.optimizer.param_groups[0]["lr"])))
    return ul.lr_range_test(run, **{"start_lr": 1e-6, "end_lr": 10, "num_iter": 141, "smooth_f": 1} | options)


def falls_at(rate):
    """A loss that falls from 2 to 1, fastest at this rate, and explodes at a hundred times it."""
    return lambda lr: 1 + 1 / (1 + lr / rate) + max(0.0, lr / (100 * rate) - 1)


@pytest.mark.parametrize("rate", [1e-4, 1e-3, 1e-2])
def test_the_suggestion_is_where_the_loss_falls_fastest(monkeypatch, rate):
    test = on_a_curve(monkeypatch, falls_at(rate))
    assert test.suggestion == pytest.approx(rate, rel=0.13)  # the rates are 12 % apart
    assert test.suggestion < test.lrs[test.smoothed.argmin()] / 10


def test_smoothing_is_a_mean_corrected_for_its_start(monkeypatch):
    losses = iter(range(10, 100))
    test = on_a_curve(monkeypatch, lambda lr: float(next(losses)), num_iter=10, smooth_f=0.3)
    weights = 0.7 ** np.arange(10)[::-1]
    expected = [np.average(np.arange(10, 11 + i), weights=weights[-i - 1 :]) for i in range(10)]
    np.testing.assert_allclose(test.smoothed, expected)
    np.testing.assert_allclose(test.losses, np.arange(10, 20))


def test_it_ends_when_the_loss_explodes(monkeypatch):
    test = on_a_curve(monkeypatch, falls_at(1e-4), diverge_th=2)
    assert test.stopped.startswith("the loss exceeded 2 times its lowest value at a rate of ")
    assert test.smoothed[-1] > 2 * test.smoothed.min() >= test.smoothed[-2]
    assert test.lrs[-1] < 10 and f"{test.lrs[-1]:.2g}" in test.stopped


def test_nothing_is_suggested_where_the_loss_only_rises(monkeypatch):
    test = on_a_curve(monkeypatch, lambda lr: 1 + lr)
    assert test.suggestion is None


def test_the_first_losses_which_a_mean_cannot_smooth_are_no_fall(monkeypatch):
    """One unlucky first batch: the mean of the first few losses falls faster than it ever does later."""
    losses = iter([4.0])
    test = on_a_curve(monkeypatch, lambda lr: next(losses, falls_at(1e-3)(lr)), smooth_f=0.1)
    slope = np.gradient(test.smoothed, np.log(test.lrs))
    assert slope.argmin() < 3
    assert 1e-3 < test.suggestion < 1e-2  # a mean of ten lags behind


def test_the_rates_grow_by_the_same_factor(monkeypatch):
    test = on_a_curve(monkeypatch, lambda lr: 1.0, start_lr=1e-4, end_lr=1, num_iter=21)
    np.testing.assert_allclose(test.lrs[1:] / test.lrs[:-1], 10**0.2)
    assert (test.lrs[0], test.lrs[-1]) == pytest.approx((1e-4, 1))
    assert test.stopped is None and len(test.losses) == 21


def test_on_a_real_network_the_suggestion_lies_on_the_falling_part():
    run = trainer(batch_size=8)
    test = ul.lr_range_test(run, start_lr=1e-5, end_lr=10, num_iter=60)
    lowest, place = test.smoothed.argmin(), list(test.lrs).index(test.suggestion)
    assert 0 < place < lowest
    assert test.smoothed[place - 1] > test.smoothed[place + 1]
    assert 1e-3 < test.suggestion < 1


def test_the_same_run_gives_the_same_test():
    first, second = (ul.lr_range_test(rich_trainer(), num_iter=10) for _ in range(2))
    np.testing.assert_array_equal(first.losses, second.losses)
    assert first.suggestion == second.suggestion


def test_accumulated_batches_count_as_one_step():
    one, two = (trainer(batch_size=b, accumulate=a, loss="ce") for b, a in ((4, 1), (2, 2)))
    for run in (one, two):
        run.model.eval()
        run.model.train = lambda mode=True: None  # BatchNorm would tell the batches apart
    tests = [ul.lr_range_test(run, num_iter=10, end_lr=1e-3) for run in (one, two)]
    np.testing.assert_allclose(tests[0].losses, tests[1].losses, rtol=1e-4)


@pytest.mark.parametrize(
    "wrong", [{"start_lr": 0}, {"start_lr": -1}, {"start_lr": 1, "end_lr": 1}, {"num_iter": 9}, {"start_lr": math.nan}]
)
def test_wrong_arguments(wrong):
    with pytest.raises(ValueError, match="0 < start_lr < end_lr and num_iter of at least 10"):
        ul.lr_range_test(trainer(), **wrong)

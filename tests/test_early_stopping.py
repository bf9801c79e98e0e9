"""Early stopping against Keras' own callback on thousands of random curves, and where it differs on purpose."""

import json
import math
import os

import numpy as np
import pytest

os.environ["KERAS_BACKEND"] = "torch"  # read once, when keras is imported
import keras

import unetlab as ul


class FakeModel:
    """What Keras' callback asks of a model. Its "weights" are the number of the epoch."""

    stop_training = False
    weights = None

    def get_weights(self):
        return self.weights

    def set_weights(self, weights):
        self.weights = weights


def keras_run(values, mode, patience, min_delta, start_from_epoch):
    """(stopped_epoch, epoch of the weights kept, best value, wait), as Keras' callback decides."""
    model = FakeModel()
    callback = keras.callbacks.EarlyStopping(
        "val_loss", min_delta, patience, mode=mode, restore_best_weights=True, start_from_epoch=start_from_epoch
    )
    callback.set_model(model)
    callback.on_train_begin()
    stopped = None
    for epoch, value in enumerate(values):
        model.weights = epoch
        callback.on_epoch_end(epoch, {"val_loss": value})
        if model.stop_training:
            stopped = epoch
            break
    callback.on_train_end()
    return stopped, callback.best_weights, callback.best, callback.wait


def our_run(values, mode, patience, min_delta, start_from_epoch):
    stopper = ul.EarlyStopping("val_loss", mode, patience, min_delta, start_from_epoch=start_from_epoch)
    for value in values:
        if stopper.update(value).stop:
            break
    return stopper.stopped_epoch, stopper.best_epoch, stopper.best, stopper.wait


def random_curves(count, seed):
    """Curves with falls, rises and many ties: multiples of 1/8, which are exact in every precision."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        length, kind = rng.integers(1, 15), rng.integers(4)
        steps = rng.integers(-2, 3, length)
        values = {0: np.cumsum(steps), 1: rng.integers(0, 4, length), 2: -np.arange(length), 3: np.zeros(length)}[kind]
        settings = {
            "mode": ("min", "max")[rng.integers(2)],
            "patience": int(rng.integers(0, 9)),
            "min_delta": float(rng.choice([0, 0, 1 / 8, 1 / 4])),
            "start_from_epoch": int(rng.choice([0, 0, 1, 3])),
        }
        yield (values / 8).tolist(), settings


@pytest.mark.parametrize("seed", range(4))
def test_equals_keras(seed):
    stopped = 0
    for values, settings in random_curves(750, seed):
        theirs, ours = keras_run(values, **settings), our_run(values, **settings)
        assert ours == theirs, (values, settings)
        stopped += ours[0] is not None
    assert 100 < stopped < 650  # both kinds of run were there


def test_patience_counts_evaluations():
    """Flat from the start: the first value is an improvement, and the run stops ``patience`` evaluations later."""
    for patience in range(1, 9):
        assert our_run([1.0] * 20, "min", patience, 0.0, 0)[0] == patience
    assert our_run([1.0] * 20, "min", 0, 0.0, 0)[0] == 1  # not at the very first


# -------------------------------------------------------------------------------------------------------- NaN and inf


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("when", [0, 3])
def test_nan_stops_and_says_when(mode, when):
    """Keras takes a first NaN for the best value ever, and then waits."""
    values = [0.5, 0.4, 0.6, 0.5][:when] + [math.nan]
    stopper = ul.EarlyStopping("val_dice", mode, patience=10)
    decisions = [stopper.update(value) for value in values]
    assert [d.stop for d in decisions] == [False] * when + [True]
    assert not decisions[-1].improved
    assert f"val_dice became NaN at epoch {when}" in decisions[-1].reason
    assert stopper.stopped_epoch == when
    assert stopper.best_epoch == (None if when == 0 else 1 if mode == "min" else 2)
    assert keras_run(values, mode, 10, 0.0, 0)[0] is None


def test_nan_stops_in_the_warm_up_too():
    assert ul.EarlyStopping(start_from_epoch=5).update(math.nan).stop


def test_infinity_is_never_an_improvement():
    """Keras takes it for one at the first evaluation; here nothing has been found yet."""
    stopper = ul.EarlyStopping(patience=2)
    assert [stopper.update(v).improved for v in (math.inf, 1.0, math.inf)] == [False, True, False]
    assert ul.EarlyStopping(mode="max").update(-math.inf).improved is False
    assert not ul.EarlyStopping(patience=0).update(math.inf).stop  # like Keras, never at the very first


# ------------------------------------------------------------------------------------------------------------ decisions


def test_decisions():
    stopper = ul.EarlyStopping("val_loss", patience=2)
    decisions = [stopper.update(value) for value in (0.5, 0.4, 0.4, 0.45)]
    assert [d.improved for d in decisions] == [True, True, False, False]
    assert [d.wait for d in decisions] == [0, 0, 1, 2]
    assert [d.stop for d in decisions] == [False, False, False, True]
    assert decisions[0].reason is None
    assert "val_loss did not improve for 2 evaluations" in decisions[-1].reason


def test_patience_can_be_moved():
    stopper = ul.EarlyStopping(patience=100)
    for value in (1.0, 1.0, 1.0, 1.0):
        assert not stopper.update(value).stop
    stopper.patience = 2
    assert stopper.update(1.0).stop


def test_min_delta_must_be_exceeded():
    stopper = ul.EarlyStopping(min_delta=0.25)
    assert [stopper.update(v).improved for v in (1.0, 0.75, 0.5, 0.25 - 2**-20)] == [True, False, True, True]


def test_reset_serves_the_next_run():
    stopper = ul.EarlyStopping(patience=1)
    fresh = stopper.state_dict()
    first = [stopper.update(v) for v in (1.0, 2.0)]
    stopper.reset()
    assert stopper.state_dict() == fresh
    assert [stopper.update(v) for v in (1.0, 2.0)] == first


# --------------------------------------------------------------------------------------------------------------- state


def test_state_goes_on_from_every_evaluation():
    for values, settings in random_curves(200, seed=9):
        expected = our_run(values, **settings)
        for split in range(len(values)):
            stopper = ul.EarlyStopping("val_loss", **settings)
            other = ul.EarlyStopping("x", "max", 99)
            for i, value in enumerate(values):
                if i == split:
                    other.load_state_dict(json.loads(json.dumps(stopper.state_dict())))
                    stopper = other
                if stopper.update(value).stop:
                    break
            assert (stopper.stopped_epoch, stopper.best_epoch, stopper.best, stopper.wait) == expected


def test_state_is_a_copy():
    stopper = ul.EarlyStopping()
    state = stopper.state_dict()
    stopper.update(1.0)
    assert state["best"] is None


def test_state_of_something_else():
    with pytest.raises(ValueError, match="not a state of EarlyStopping"):
        ul.EarlyStopping().load_state_dict({"best": 1.0, "num_bad_epochs": 2})


def test_settings_make_another_one():
    stopper = ul.EarlyStopping("val_dice", "max", 3, 0.1, False, 2)
    stopper.update(0.5)
    again = ul.EarlyStopping(**stopper.settings())
    assert again.settings() == stopper.settings()
    assert again.best is None


# -------------------------------------------------------------------------------------------------------------- replay


def test_replay_equals_a_live_run():
    for values, settings in random_curves(1000, seed=5):
        replay = ul.replay_early_stopping(values, **settings)
        stopped, best_epoch, best, _ = our_run(values, **settings)
        assert (replay.stopped_epoch, replay.best_epoch, replay.best_value) == (stopped, best_epoch, best)
        if best is not None:
            ideal = min(values) if settings["mode"] == "min" else max(values)
            assert replay.regret == abs(best - ideal)
        assert replay.epochs_saved == (0 if stopped is None else len(values) - 1 - stopped)


def test_replay_by_hand():
    curve = [1.0, 0.8, 0.9, 0.85, 0.5, 0.6]
    hasty = ul.replay_early_stopping(curve, patience=2)
    assert (hasty.stopped_epoch, hasty.best_epoch, hasty.best_value) == (3, 1, 0.8)
    assert (hasty.regret, hasty.epochs_saved) == (pytest.approx(0.3), 2)
    patient = ul.replay_early_stopping(np.array(curve), patience=3)
    assert (patient.stopped_epoch, patient.best_epoch, patient.regret, patient.epochs_saved) == (None, 4, 0, 0)


def test_replay_of_a_diverged_run():
    replay = ul.replay_early_stopping([1.0, 0.5, math.nan, 0.1], patience=10)
    assert (replay.stopped_epoch, replay.best_epoch, replay.epochs_saved) == (2, 1, 1)
    assert replay.regret == pytest.approx(0.4)
    nothing = ul.replay_early_stopping([math.nan, math.nan])
    assert (nothing.stopped_epoch, nothing.best_epoch, nothing.best_value) == (0, None, None)
    assert math.isnan(nothing.regret)


def test_replay_needs_values():
    with pytest.raises(ValueError, match="at least one value"):
        ul.replay_early_stopping([])


# ------------------------------------------------------------------------------------------------- Prechelt's criteria


def prechelt_by_definition(val, train, criterion, alpha, k):
    """The first epoch, counted from 1, at which the criterion holds as Prechelt 1998 writes it; None if it never does."""
    for t in range(1, len(val) + 1):
        gl = 100 * (val[t - 1] / min(val[:t]) - 1)
        if criterion == "GL" and gl > alpha:
            return t
        if criterion == "PQ" and t % k == 0:
            strip = train[t - k : t]
            progress = 1000 * (sum(strip) / (k * min(strip)) - 1)
            if gl / progress > alpha:
                return t
    return None


@pytest.mark.parametrize("criterion", ["GL", "PQ"])
def test_prechelt_equals_its_definition(criterion):
    rng = np.random.default_rng(3)
    stopped = 0
    for _ in range(500):
        val = np.exp(np.cumsum(rng.normal(-0.02, 0.1, 24)))
        train = np.exp(np.cumsum(rng.normal(-0.05, 0.03, 24)))
        alpha, k = (5, 10, 30)[rng.integers(3)] * (1 if criterion == "GL" else 0.02), int(rng.integers(2, 7))
        expected = prechelt_by_definition(val.tolist(), train.tolist(), criterion, alpha, k)
        replay = ul.replay_prechelt(val, train, criterion, alpha, k)
        assert replay.stopped_epoch == (None if expected is None else expected - 1)
        seen = val if expected is None else val[:expected]
        assert replay.best_epoch == seen.argmin()
        assert replay.regret == pytest.approx(seen.min() - val.min())
        assert replay.epochs_saved == len(val) - len(seen)
        stopped += expected is not None
    assert 50 < stopped < 490


def test_generalisation_loss_by_hand():
    curve = [1.0, 0.5, 0.52, 0.55, 0.4, 0.6]
    assert ul.replay_prechelt(curve, alpha=5).stopped_epoch == 3  # 0.55 is 10 % above 0.5, and 0.52 only 4 %
    patient = ul.replay_prechelt(curve, alpha=20)
    assert (patient.stopped_epoch, patient.best_epoch, patient.best_value, patient.regret) == (5, 4, 0.4, 0)
    assert ul.replay_prechelt(curve, alpha=50.1).stopped_epoch is None
    assert ul.replay_prechelt([1.0, 1.5], alpha=50).stopped_epoch is None  # exceeded, not reached


def test_progress_excuses_a_rise():
    val = [1.0, 1.1, 1.1, 1.1]
    falling, flat = [4.0, 2.0, 1.0, 0.5], [1.0, 1.0, 1.0, 1.0]
    assert ul.replay_prechelt(val, falling, "PQ", alpha=0.5, strip=2).stopped_epoch is None
    assert ul.replay_prechelt(val, flat, "PQ", alpha=0.5, strip=2).stopped_epoch == 1  # no progress, any loss stops
    assert ul.replay_prechelt(val, flat, "PQ", alpha=0.5, strip=3).stopped_epoch == 2  # only where a strip ends
    assert ul.replay_prechelt([1.0] * 4, flat, "PQ", alpha=0.5, strip=2).stopped_epoch is None


def test_prechelt_of_a_diverged_run():
    replay = ul.replay_prechelt([1.0, 0.5, math.nan, 0.1])
    assert (replay.stopped_epoch, replay.best_epoch, replay.epochs_saved) == (2, 1, 1)
    assert ul.replay_prechelt([math.inf, 1.0, math.inf]).stopped_epoch == 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([],), "at least one value"),
        (([1.0], None, "UP"), "criterion must be GL or PQ, not 'UP'"),
        (([1.0], None, "PQ"), "each of the 1 validation errors, not none"),
        (([1.0, 1.0], [1.0], "PQ"), "each of the 2 validation errors, not 1"),
        (([0.5, 0.0],), "above 0: for a Dice, pass 1 - Dice"),
        (([0.5], [-1.0], "PQ"), "above 0"),
        (([1.0], None, "GL", -1), "alpha must be at least 0"),
        (([1.0], None, "GL", math.nan), "alpha must be at least 0"),
        (([1.0], [1.0], "PQ", 1, 1), "strip must be at least 2"),
    ],
)
def test_wrong_arguments_of_prechelt(arguments, message):
    with pytest.raises(ValueError, match=message):
        ul.replay_prechelt(*arguments)


def test_smooth():
    assert ul.smooth([1.0, 0.0, 0.0], 0.5) == [1.0, 0.5, 0.25]
    assert ul.smooth(np.array([3.0, 1.0, 2.0]), 0) == [3.0, 1.0, 2.0]
    assert ul.smooth([]) == []
    assert math.isnan(ul.smooth([1.0, math.nan, 1.0])[-1])
    for decay in (-0.1, 1, math.nan):
        with pytest.raises(ValueError, match="decay must be at least 0 and below 1"):
            ul.smooth([1.0], decay)


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "options, message",
    [
        ({"mode": "auto"}, "mode must be min or max"),
        ({"patience": -1}, "patience must be at least 0"),
        ({"patience": math.nan}, "patience must be at least 0"),
        ({"min_delta": -0.1}, "min_delta must be at least 0"),
        ({"start_from_epoch": -1}, "start_from_epoch must be at least 0"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        ul.EarlyStopping(**options)
    replayed = {key: value for key, value in options.items() if key != "start_from_epoch"}
    if replayed:
        with pytest.raises(ValueError, match=message):
            ul.replay_early_stopping([1.0], **replayed)

"""The training loop: what it computes, how it ends, what it says, and what it leaves behind."""

import math
import re
import warnings
from types import SimpleNamespace

import pytest
import torch
from tiny import (
    STEPS,
    TRAIN,
    VAL,
    differences,
    random_states,
    rich_trainer,
    squares,
    trainer,
    unet,
    whole,
)
from torch import nn

import unetlab as ul
from unetlab.checkpoint import load_weights

CALLS = STEPS + 2  # of the loss in an epoch: three training batches, two for validation


def fit(run, epochs=4, *args, **options):
    run.fit(epochs, *args, **{"verbose": False} | options)
    return run


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def a_loss(at_call=None, do=None):
    """The usual loss as your own function, which does something else at one of its calls (counted from 1)."""
    usual, calls = ul.CompoundLoss(), []

    def loss(logits, masks):
        calls.append(1)
        value = usual(logits, masks)
        return do(value) if len(calls) == at_call else value

    return loss


# ------------------------------------------------------------------------------------------------------------- learning


def test_it_learns():
    run = fit(trainer(unet(base_channels=4), lr=2e-2), 30)
    first, last = run.history.epochs[0], run.history.epochs[-1]
    assert last["train_loss"] < 0.5 * first["train_loss"]
    assert last["val_dice"] > 0.9
    assert run.evaluate(VAL)["dice"] == pytest.approx(last["val_dice"])


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "rmsprop"])
@pytest.mark.parametrize("loss", ["compound", "ce", "dice", "tversky", "focal"])
def test_every_loss_with_every_optimizer_goes_down(optimizer, loss):
    lr = {"sgd": 0.05, "rmsprop": 1e-3}.get(optimizer, 1e-2)
    losses = fit(trainer(optimizer=optimizer, loss=loss, lr=lr), 8).history.column("train_loss")
    assert losses[-1] < 0.97 * losses[0]


def test_several_classes():
    images, masks = squares(6)
    images[:, :, :3], masks[:, :3] = 255, 2
    run = fit(ul.Trainer(unet(num_classes=3), (images, masks), (images, masks), lr=2e-2, batch_size=2), 20)
    assert run.num_classes == 3
    assert set(run.predict(images).unique().tolist()) <= {0, 1, 2}
    assert run.evaluate((images, masks))["dice_per_class"][2] > 0.5


def test_unpadded_network_is_scored_on_its_centre():
    data = squares(4, size=20)
    run = fit(ul.Trainer(unet(padding="valid", norm="none"), data, data), 2)
    assert run.predict(data[0]).shape == (4, 4, 4)
    logits = run.predict_logits(data[0])
    assert run.evaluate(data)["dice"] == pytest.approx(ul.dice_score(logits, data[1][:, 8:12, 8:12]))


def test_one_image_smaller_than_the_batch():
    data = squares(1)
    run = fit(ul.Trainer(unet(), data, data, batch_size=16), 2)
    assert run.steps_per_epoch == 1 and run.step == 2


class Recorder(nn.Module):
    """A network that writes down which images it was shown: their number stands in the first pixel."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = nn.Conv2d(1, 1, 1), []

    def forward(self, x):
        if self.training:
            self.seen.append((x[:, 0, 0, 0] * 255).round().int().tolist())
        return self.layer(x)


def test_every_image_once_an_epoch_in_a_new_order():
    images, masks = squares(10)
    images[:, 0, 0, 0] = torch.arange(10, dtype=torch.uint8)
    model = Recorder()
    fit(ul.Trainer(model, (images, masks), VAL, batch_size=4), 3)
    assert [len(batch) for batch in model.seen] == [4, 4, 2] * 3
    epochs = [sum(model.seen[i : i + 3], []) for i in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs} | {tuple(range(10))}) == 4


def run_best(run, i):
    """The epoch (0-based) with the best validation Dice so far, which is kept track of without early stopping too."""
    dice = run.history.column("val_dice")[: i + 1]
    return dice.index(max(dice))


def test_rows():
    run = fit(trainer(scheduler="cosine"), 4)
    assert [row["epoch"] for row in run.history.epochs] == [1, 2, 3, 4]
    assert [row["step"] for row in run.history.steps] == list(range(4 * STEPS))
    assert [row["epoch"] for row in run.history.steps] == [e for e in (1, 2, 3, 4) for _ in range(STEPS)]
    rates = ul.schedule_preview("cosine", 4 * STEPS, lr=1e-3)
    assert [row["lr"] for row in run.history.steps] == rates.tolist()
    for i, row in enumerate(run.history.epochs):
        steps = run.history.steps[i * STEPS : (i + 1) * STEPS]
        assert row["train_loss"] == pytest.approx(sum(s["loss"] for s in steps) / STEPS)
        assert row["lr"] == steps[-1]["lr"]
        assert row["seconds"] > 0 and row["wait"] == i - run_best(run, i)
    assert run.history.environment["parameters"] == sum(p.numel() for p in run.model.parameters())


@pytest.mark.parametrize("batch, times", [(2, 2), (3, 2), (1, 5)])
@pytest.mark.parametrize("loss", ["compound", "dice", "focal"])
def test_accumulating_equals_a_large_batch(batch, times, loss):
    """Also for the last step of an epoch, whose parts are not equally large. (BatchNorm would see the small batches.)"""
    small = fit(trainer(unet(norm="none"), batch_size=batch, accumulate=times, loss=loss, optimizer="sgd", lr=0.1), 3)
    large = fit(trainer(unet(norm="none"), batch_size=batch * times, loss=loss, optimizer="sgd", lr=0.1), 3)
    assert small.step == large.step
    assert differences(weights(large.model), weights(trainer(unet(norm="none")).model))  # they did move
    for a, b in zip(small.model.parameters(), large.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_gradient_clipping():
    lengths = {}
    for limit in (None, 1e-3):
        run = trainer(
            unet(norm="none"), optimizer={"name": "sgd", "momentum": 0, "nesterov": False}, lr=1.0, grad_clip=limit
        )
        before = [p.detach().clone() for p in run.model.parameters()]
        run.train_step(torch.arange(4))
        moved = [a.detach() - b for a, b in zip(run.model.parameters(), before, strict=True)]
        lengths[limit] = torch.cat([m.flatten() for m in moved]).norm().item()
    assert lengths[1e-3] == pytest.approx(1e-3, rel=1e-3)  # one plain step is as long as the gradient
    assert lengths[None] > 0.01


def test_augmentation_reaches_the_network_and_spares_validation():
    plain, augmented = (fit(trainer(unet(norm="none"), augment=name, lr=1e-9), 1) for name in (None, "flips"))
    assert plain.history.epochs[0]["train_loss"] != augmented.history.epochs[0]["train_loss"]
    assert plain.evaluate(VAL)["dice"] == augmented.evaluate(VAL)["dice"]


def test_moving_average_is_what_is_evaluated_and_kept():
    run = trainer(ema=0.9, lr=0.01)
    seen = []
    run.ema.update, update = lambda model: (update(model), seen.append(weights(model))), run.ema.update
    fit(run, 4)
    assert differences(weights(run.model), weights(run.ema.module)) == []
    assert differences(weights(run.model), seen[-1])  # not the last weights that were trained
    assert run.evaluate(VAL)["loss"] == pytest.approx(run.history.epochs[-1]["val_loss"])


def test_ignored_pixels_of_a_set():
    """The class id to ignore comes with the data, and those pixels count neither in the loss nor in the scores."""
    images, masks = squares(6)
    masks[:, :4] = 255
    train = SimpleNamespace(images=images, masks=masks, ignore_index=255)
    run = fit(ul.Trainer(unet(), train, (images, masks)), 2)
    guess = run.predict(images)
    assert run.evaluate(train)["dice"] == pytest.approx(ul.dice_score(guess, masks, ignore_index=255))
    assert run.evaluate(train)["dice"] == pytest.approx(ul.dice_score(guess[:, 4:], masks[:, 4:]))


@pytest.mark.parametrize("names, counts", [(("background", "a", "b"), False), (("a", "b", "c"), True), (None, True)])
def test_background_is_scored_only_where_it_is_a_class(names, counts):
    images, masks = squares(4)
    masks[:, :3] = 2
    data = SimpleNamespace(images=images, masks=masks, class_names=names)
    run = ul.Trainer(unet(num_classes=3), data, data)
    expected = ul.dice_score(
        run.predict(images), masks, 3, reduction="pooled", zero_division=math.nan, include_background=counts
    )
    assert run.evaluate(data)["dice"] == pytest.approx(expected)


class Echo(nn.Module):
    """Its images are class ids, and it says them again."""

    def __init__(self):
        super().__init__()
        self.ids = nn.Parameter(torch.arange(3.0).view(1, 3, 1, 1))

    def forward(self, images):
        return -((images - self.ids) ** 2)


def test_of_several_classes_a_missed_one_costs_more_than_false_alarms():
    """Image by image, one wrong pixel in each of ten pictures would cost more than never to find the rare class."""
    masks = torch.zeros(11, 8, 8, dtype=torch.uint8)
    masks[:, :, 4:] = 1
    masks[0, :4] = 2  # the rare class is in one picture of eleven
    daring, timid = masks.clone(), masks.clone()
    daring[1:, 0, 0] = 2
    timid[0, :4] = 0
    run = ul.Trainer(Echo(), (masks[:, None].float(), masks), (masks[:, None].float(), masks))
    score, by_image = [], []
    for guess in (daring, timid):
        score.append(run.evaluate((guess[:, None].float(), masks))["dice"])
        by_image.append(ul.dice_score(guess, masks, 3, zero_division=math.nan))
    assert score[0] > score[1] and by_image[0] < by_image[1]


def test_precision_bf16():
    run = fit(trainer(precision="bf16"), 2)
    assert run.history.environment["precision"] == "bf16"
    assert all(math.isfinite(row["loss"]) for row in run.history.steps)
    assert all(p.dtype == torch.float32 for p in run.model.parameters())


# ----------------------------------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize("options", [{}, {"num_classes": 3}, {"norm": "group"}])
def test_scores_do_not_depend_on_the_batch(options):
    images, masks = squares(7, seed=5)
    masks[2] = 0
    run = fit(ul.Trainer(unet(**options), TRAIN, VAL), 2)
    all_at_once = run.evaluate((images, masks), batch_size=7)
    for size in (1, 2, 5):
        scores = run.evaluate((images, masks), batch_size=size)
        assert scores.pop("loss") == pytest.approx(all_at_once["loss"], rel=1e-6)
        assert all(str(scores[key]) == str(all_at_once[key]) for key in scores)  # nan of absent classes included
        assert torch.equal(run.predict(images, batch_size=size), run.predict(images))


def test_history_does_not_depend_on_the_batch():
    """A run's validation scores are those of the whole set, its last short batch included."""
    run = fit(trainer(batch_size=3), 2)
    assert run.history.epochs[-1]["val_dice"] == pytest.approx(ul.dice_score(run.predict(VAL[0]), VAL[1]))


def test_empty_images_that_are_predicted_empty_score_one():
    images, masks = squares(4)
    masks[:] = 0
    model = unet()
    model.head.bias.data.fill_(-50)
    assert ul.Trainer(model, TRAIN, VAL).evaluate((images, masks))["dice"] == 1


def test_watched_images_are_predicted_after_every_epoch():
    run = trainer(lr=1e-2, ema=0.5)
    run.watched = [3, 0]
    fit(run, 4)
    assert sorted(run.watched_predictions) == [1, 2, 3, 4]
    for epoch in (3, 1):
        kept = run.watched_predictions[epoch]
        run.rewind(epoch)
        assert torch.equal(kept, run.predict(VAL[0])[[3, 0]]) and kept.dtype == torch.uint8
        assert max(run.watched_predictions) == epoch
    assert sorted(run.fork(1).watched_predictions) == [1]


@pytest.mark.parametrize("training", [True, False])
def test_evaluating_leaves_the_mode_alone(training):
    run = trainer(unet(dropout=0.5))
    run.model.train(training)
    before = weights(run.model)
    first, again = run.evaluate(VAL), run.evaluate(VAL)
    run.predict(VAL[0])
    assert run.model.training is training and run.model.dropout.training is training
    assert first == again  # no dropout while it is scored
    assert differences(weights(run.model), before) == []  # and no BatchNorm statistics taken


def test_a_trained_model_is_ready_to_predict():
    """Used by hand after the run, it drops nothing out and changes no BatchNorm statistics."""
    run = fit(trainer(unet(dropout=0.5)), 2)
    before = weights(run.model)
    x = VAL[0].float() / 255
    assert torch.equal(run.model(x), run.model(x))
    assert torch.equal(run.predict(VAL[0]), (run.model(x)[:, 0] > 0).to(torch.uint8))
    assert differences(weights(run.model), before) == []
    fit(run, 3)  # and it can be trained on
    assert differences(weights(run.model), before)


def test_predict():
    run = fit(trainer(), 1)
    ids = run.predict(VAL[0])
    assert (ids.dtype, ids.shape, ids.device.type) == (torch.uint8, (5, 16, 16), "cpu")
    assert torch.equal(ids, run.predict(VAL[0].numpy()))
    assert torch.equal(ids, run.predict(VAL[0].float() / 255))
    assert torch.equal(ids, (run.predict_logits(VAL[0])[:, 0] > 0).to(torch.uint8))


# --------------------------------------------------------------------------------------------------------------- random


def test_global_random_states_are_left_alone():
    """The learner's own torch.rand after a run is what it would have been without it."""
    before = random_states()
    run = rich_trainer(augment="elastic")
    fit(run, 2)
    run.evaluate(VAL)
    run.predict(VAL[0])
    run.fork(1).fit(verbose=False)
    assert random_states() == before


def test_global_random_states_do_not_matter():
    torch.manual_seed(1)
    first = whole(fit(rich_trainer(), 3))
    torch.manual_seed(2)
    torch.rand(7)
    assert differences(whole(fit(rich_trainer(), 3)), first) == []


def test_the_seed_matters():
    first, second = (fit(rich_trainer(seed=seed), 2) for seed in (0, 1))
    assert differences(weights(first.model), weights(second.model))


# ---------------------------------------------------------------------------------------- early stopping, best weights


WRECKED = ul.Script([(6 * STEPS, {"lr": 3.0})])  # the best weights are found first and lost then


def test_best_weights_are_put_back_when_it_stops(tmp_path):
    stopper = ul.EarlyStopping("val_loss", patience=3)
    run = fit(trainer(early_stopping=stopper, lr=1e-2), 40, WRECKED, run_dir=tmp_path)
    losses = run.history.column("val_loss")
    assert run.epoch < 40 and "early stopping" in run.history.stop_reason
    assert stopper.best == min(losses) < losses[-1]
    assert run.evaluate(VAL)["loss"] == pytest.approx(min(losses))
    assert stopper.stopped_epoch == stopper.best_epoch + 3 == run.epoch - 1


def test_best_weights_are_put_back_when_it_does_not_stop():
    """Keras forgot them then, for years."""
    run = fit(trainer(early_stopping=ul.EarlyStopping("val_loss", patience=100), lr=1e-2), 9, WRECKED)
    losses = run.history.column("val_loss")
    assert run.history.stop_reason is None and len(losses) == 9
    assert min(losses) < losses[-1]
    assert run.evaluate(VAL)["loss"] == pytest.approx(min(losses))


@pytest.mark.parametrize("ema", [None, 0.5])
def test_best_weights_are_no_alias(tmp_path, ema):
    """They stay what they were at their epoch, however much is trained or changed afterwards."""
    run = trainer(early_stopping=ul.EarlyStopping("val_loss", patience=100), lr=1e-2, ema=ema)
    fit(run, 9, WRECKED, run_dir=tmp_path)
    best, about = load_weights(tmp_path / "best.safetensors")
    assert about["epoch"] == run.early_stopping.best_epoch + 1 < 9
    assert differences(weights(run.model), best) == []
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.add_(1)
    fit(run, 12, run_dir=tmp_path)
    again = load_weights(tmp_path / "best.safetensors")[0]
    assert differences(weights(run.model), again) == []
    if run.early_stopping.best_epoch < 9:
        assert differences(again, best) == []


def test_training_goes_on_from_the_last_weights_not_the_best():
    short = fit(trainer(early_stopping=ul.EarlyStopping(patience=100), lr=1e-2), 8, WRECKED)
    long = fit(trainer(early_stopping=ul.EarlyStopping(patience=100), lr=1e-2), 11, WRECKED)
    fit(short, 11)
    assert short.history.column("val_loss") == long.history.column("val_loss")


def test_last_weights_are_kept_without_early_stopping():
    run = fit(trainer(lr=1e-2), 9, WRECKED)
    assert run.evaluate(VAL)["loss"] == pytest.approx(run.history.epochs[-1]["val_loss"])


@pytest.mark.parametrize("ema", [None, 0.9])
def test_the_best_weights_of_a_run_without_early_stopping(tmp_path, ema):
    run, other = (trainer(lr=1e-2, ema=ema) for _ in range(2))
    with pytest.raises(ValueError, match="no epoch has been trained"):
        run.restore_best()
    fit(run, 9, WRECKED, run_dir=tmp_path)
    run.restore_best()
    best, about = load_weights(tmp_path / "best.safetensors")
    assert about["epoch"] < 9 and differences(weights(run.model), best) == []
    assert run.evaluate(VAL)["dice"] == pytest.approx(run.history.epochs[about["epoch"] - 1]["val_dice"])
    fit(run, 11)  # goes on from the last step all the same
    fit(fit(other, 9, WRECKED), 11)
    assert run.history.column("val_loss") == other.history.column("val_loss")


def test_last_weights_are_kept_when_asked():
    keep_last = ul.EarlyStopping("val_loss", patience=100, restore_best_weights=False)
    run = fit(trainer(early_stopping=keep_last, lr=1e-2), 9, WRECKED)
    assert run.evaluate(VAL)["loss"] == pytest.approx(run.history.epochs[-1]["val_loss"])


@pytest.mark.parametrize(
    "monitor, mode", [("val_loss", "min"), ("val_dice", "max"), ("val_iou", "max"), ("train_loss", "min")]
)
def test_every_column_can_be_monitored(monitor, mode):
    stopper = ul.EarlyStopping(monitor, mode, patience=2)
    run = fit(trainer(early_stopping=stopper, lr=1e-2), 25, WRECKED)
    replay = ul.replay_early_stopping(run.history.column(monitor), patience=2, mode=mode)
    assert (replay.stopped_epoch, replay.best_epoch, replay.best_value) == (
        stopper.stopped_epoch,
        stopper.best_epoch,
        stopper.best,
    )
    assert replay.stopped_epoch == run.epoch - 1


def test_a_live_run_equals_the_replay_of_its_curve():
    curve = fit(trainer(lr=1e-2), 14, WRECKED).history.column("val_loss")
    for patience in (0, 1, 4):
        replay = ul.replay_early_stopping(curve, patience=patience)
        live = fit(trainer(lr=1e-2, early_stopping=ul.EarlyStopping(patience=patience)), 14, WRECKED)
        assert live.history.column("val_loss") == curve[: len(live.history)]
        assert live.epoch == (14 if replay.stopped_epoch is None else replay.stopped_epoch + 1)


def test_one_early_stopping_serves_runs_one_after_the_other():
    stopper = ul.EarlyStopping(patience=2)
    first = fit(trainer(early_stopping=stopper, lr=1e-2), 25, WRECKED)
    assert stopper.stopped_epoch is not None
    second = fit(trainer(early_stopping=stopper, lr=1e-2), 25, WRECKED)
    assert differences(whole(first), whole(second)) == []


@pytest.mark.parametrize("monitor", ["val_dicee", "loss", "lr"])
def test_an_unknown_column_fails_before_training(monitor):
    run = trainer(early_stopping=ul.EarlyStopping(monitor))
    with pytest.raises(ValueError, match=f"cannot monitor '{monitor}': choose one of train_loss, val_loss"):
        fit(run, 2)
    assert run.step == 0
    with pytest.raises(ValueError, match=f"cannot monitor '{monitor}'"):
        fit(trainer(scheduler={"name": "plateau", "monitor": monitor}), 2)


# ------------------------------------------------------------------------------------------ parts that do not go together


def warned(run, epochs=2):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(run, epochs)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("patience, warns", [(3, True), (10, True), (11, True), (12, False), (24, False)])
def test_patience_that_ends_the_run_before_plateau_acts(patience, warns):
    run = trainer(scheduler={"name": "plateau", "patience": 10}, early_stopping=ul.EarlyStopping(patience=patience))
    messages = warned(run)
    assert any("before plateau (patience 10) can lower the rate" in m for m in messages) == warns
    assert len(messages) == warns


def test_that_warning_is_right():
    """On a metric that never improves, the rate falls once if patience exceeds plateau's by two, and never if less."""
    lowered = {}
    for patience in (3, 4):
        flat = ul.EarlyStopping(patience=patience, min_delta=1)
        run = trainer(
            scheduler={"name": "plateau", "patience": 2, "threshold": 10, "threshold_mode": "abs"}, early_stopping=flat
        )
        warned(run, 20)
        lowered[patience] = len({row["lr"] for row in run.history.steps}) > 1
    assert lowered == {3: False, 4: True}


@pytest.mark.parametrize("scheduler", ["polynomial", "cosine", "cosine_restarts", "one_cycle", "warmup_cosine"])
def test_a_horizon_with_early_stopping(scheduler):
    messages = warned(trainer(scheduler=scheduler, early_stopping=ul.EarlyStopping()))
    assert len(messages) == 1 and f"the {scheduler} schedule does its best work at the end" in messages[0]
    assert warned(trainer(scheduler=scheduler)) == []


@pytest.mark.parametrize("scheduler", ["constant", "step", "multistep", "exponential"])
def test_no_horizon_no_warning(scheduler):
    assert warned(trainer(scheduler=scheduler, early_stopping=ul.EarlyStopping())) == []


def test_a_longer_run_than_planned():
    run = fit(trainer(scheduler="cosine"), 2)
    with pytest.warns(UserWarning, match="cosine schedule was planned for 2 epochs and stays at its end until epoch 4"):
        fit(run, 4)
    rates = [row["lr"] for row in run.history.steps]
    assert max(rates[2 * STEPS :]) <= rates[2 * STEPS - 1]
    assert warned(fit(trainer(), 2), 4) == []


def test_plateau_follows_what_is_monitored():
    """With a Dice it is the largest that counts, without being told."""
    run = fit(trainer(scheduler={"name": "plateau", "monitor": "val_dice", "patience": 0}), 6)
    assert run.scheduler.torch_scheduler.mode == "max"
    rates = ul.schedule_preview("plateau", 6, lr=1e-3, metrics=run.history.column("val_dice"), patience=0, mode="max")
    assert [row["lr"] for row in run.history.epochs[1:]] == rates[:-1].tolist()
    stopped = fit(trainer(scheduler="plateau", early_stopping=ul.EarlyStopping("val_iou", "max", 30)), 1)
    assert stopped.scheduler.torch_scheduler.mode == "max"
    assert fit(trainer(scheduler="plateau"), 1).scheduler.torch_scheduler.mode == "min"


def test_how_long():
    with pytest.raises(ValueError, match=r"how long shall the run be\? Call fit\(epochs="):
        fit(trainer(), None)
    with pytest.raises(ValueError, match="epochs must be at least 1, not 0"):
        fit(trainer(), 0)


# -------------------------------------------------------------------------------------------------- when it goes wrong


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("early_stopping", [None, ul.EarlyStopping(patience=100)])
def test_a_loss_that_is_not_finite(value, early_stopping):
    """The message holds what is needed to find the cause; the best weights and the last whole epoch are kept."""
    run = trainer(loss=a_loss(3 * CALLS + 2, lambda loss: loss * value), early_stopping=early_stopping)
    with pytest.warns(RuntimeWarning, match="the loss became"):
        fit(run, 9)
    reason = run.history.stop_reason
    assert re.search(rf"the loss became {value} at step 10 \(epoch 4, learning rate 0.001, gradient norm \S+\)", reason)
    for cause in ("learning rate is too high", "half precision", "images hold NaN"):
        assert cause in reason
    assert run.epoch == 3 and run.diverged
    monitor, better = ("val_loss", min) if early_stopping else ("val_dice", max)
    best = better(run.history.epochs, key=lambda row: row[monitor])
    assert run.evaluate(VAL)["loss"] == pytest.approx(best["val_loss"])


def test_a_validation_loss_that_is_not_finite():
    run = trainer(loss=a_loss(2 * CALLS, lambda loss: loss * math.nan))
    with pytest.warns(RuntimeWarning, match="the validation loss became nan after epoch 2"):
        fit(run, 5)
    assert run.epoch == 1
    assert all(p.isfinite().all() for p in run.model.parameters())


def test_after_a_divergence_the_run_can_go_on():
    """The loss fails once; the second attempt gives what an undisturbed run gives."""
    run = trainer(loss=a_loss(8, lambda loss: loss * math.nan))
    with pytest.warns(RuntimeWarning):
        fit(run, 5)
    fit(run, 5)
    assert run.history.stop_reason is None and not run.diverged
    assert differences(whole(run), whole(fit(trainer(loss=a_loss()), 5))) == []


def test_a_rate_far_too_high_is_caught():
    run = trainer(unet(norm="none"), optimizer="sgd", lr=1e6)
    with pytest.warns(RuntimeWarning):
        fit(run, 20)
    assert run.epoch < 20 and "learning rate 1e+06" in run.history.stop_reason
    assert all(p.isfinite().all() for p in run.model.parameters())


def raising(error):
    def do(loss):
        raise error

    return do


@pytest.mark.parametrize("call", range(1, 4 * CALLS + 1))
def test_an_interrupt_at_any_call_loses_nothing(call):
    """Ctrl-C in training or in evaluation: a whole state, rows that say so, and the same end when it goes on."""
    run = trainer(
        loss=a_loss(call, raising(KeyboardInterrupt)), scheduler="cosine", early_stopping=ul.EarlyStopping(patience=9)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a horizon with early stopping
        history = run.fit(4, verbose=False)
        done = (call - 1) // CALLS
        assert run.epoch == done
        assert history.stop_reason == f"interrupted in epoch {done + 1}; the state is that of epoch {done}"
        expected = fit(trainer(loss=a_loss(), scheduler="cosine", early_stopping=ul.EarlyStopping(patience=9)), 4)
        if done:
            best = min(row["val_loss"] for row in history.epochs[:done])
            assert run.evaluate(VAL)["loss"] == pytest.approx(best)
        fit(run, 4)
    assert differences(whole(run), whole(expected)) == []


@pytest.mark.parametrize("call", [1, 2, 4, 5, 9, 14])
def test_an_exception_is_not_swallowed(call):
    class Mistake(Exception):
        pass

    run = rich_trainer(loss=a_loss(call, raising(Mistake("in the loss"))))
    with pytest.raises(Mistake, match="in the loss"):
        fit(run, 4)
    fit(run, 4)
    assert differences(whole(run), whole(fit(rich_trainer(loss=a_loss()), 4))) == []


def test_random_states_survive_an_exception():
    before = random_states()
    with pytest.raises(ZeroDivisionError):
        fit(rich_trainer(loss=a_loss(2, raising(ZeroDivisionError()))), 2)
    assert random_states() == before


# --------------------------------------------------------------------------------------------------------- what it says


def test_the_first_line_says_what_runs(capsys):
    run = trainer(scheduler="cosine", batch_size=2, accumulate=2)
    run.fit(3)
    first, header, *rows = capsys.readouterr().out.splitlines()
    for part in (
        f"{sum(p.numel() for p in run.model.parameters()):,} parameters on cpu (fp32, {torch.get_num_threads()} threads)",
        "10 training and 5 validation images of 1x16x16",
        "batch 4: 3 steps an epoch, 9 in all",
        "rate 0.001, cosine",
    ):
        assert part in first
    assert header.split() == ["epoch", "train", "loss", "val", "loss", "val", "dice", "val", "iou", "lr", "seconds"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]
    assert float(rows[-1].split()[3]) == pytest.approx(run.history.epochs[-1]["val_dice"], abs=1e-4)


def test_a_stop_is_said(capsys):
    trainer().fit(3, ul.Script([(4, {"stop": True})]))
    assert "stopped: stopped by hand at step 4" in capsys.readouterr().out


def test_what_does_not_go_together_is_noted_for_a_caller_that_shows_it_itself():
    run = trainer(scheduler="cosine", early_stopping=ul.EarlyStopping(), loss=a_loss(2, lambda loss: loss * math.nan))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.fit(2, verbose=None)
    assert len(run.notes) == 1 and "cosine schedule does its best work" in run.notes[0]
    assert run.diverged and "the loss became nan" in run.history.stop_reason


def test_silence_on_request(capsys):
    fit(trainer(), 2)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_an_augmentation_of_your_own_is_a_function_of_images_masks_and_generator():
    def brighter(images, masks, generator):
        return images + torch.rand((), generator=generator), masks

    plain, own = trainer(), trainer(augment=brighter)
    losses = [[row["loss"] for row in run.fit(1, verbose=False).steps] for run in (plain, own)]
    assert losses[0] != losses[1]

"""The loss bench: values against hand arithmetic, pulls against the formulas, and the lessons it must show."""

import math

import numpy as np
import pytest
import torch
from lab_records import dead_text, series, touch
from PIL.ImageColor import getrgb

from unetlab.lab.loss_bench import (
    GAP,
    LOSSES,
    LOWERED,
    PULLING,
    RAISED,
    SIDE,
    TRUTHS,
    LossBench,
    Shape,
    diverging,
    measure,
    pixel_pulls,
    predicted_logits,
    truth,
)

DISC = "Disc, radius 10"


@pytest.fixture
def bench():
    return LossBench()


@pytest.mark.parametrize(("kind", "pixels"), [(DISC, math.pi * 100), ("Rare tiny object", 4), ("Empty mask", 0)])
def test_truths(kind, pixels):
    assert truth(kind).shape == (1, SIDE, SIDE)
    assert truth(kind).sum().item() == pytest.approx(pixels, rel=0.03)


def test_the_shape_moves_and_its_probability_is_the_confidence():
    p = predicted_logits(Shape(right=10, down=-5, radius=6, sharpness=2, confidence=0.9)).sigmoid()[0, 0]
    rows, columns = np.nonzero((p > 0.5).numpy())
    assert (columns.mean() - 23.5, rows.mean() - 23.5) == pytest.approx((10, -5), abs=0.1)
    assert (p.max().item(), p.min().item()) == pytest.approx((0.9, 0.1), abs=1e-3)
    assert (p > 0.5).sum().item() == pytest.approx(math.pi * 36, rel=0.05)


def test_a_radius_of_zero_predicts_nothing():
    assert (predicted_logits(Shape(radius=0)).sigmoid() < 0.5).all()


def test_on_the_truth_the_scores_are_1_and_the_losses_small():
    values = measure(predicted_logits(Shape(right=0, sharpness=5, confidence=0.995)), truth(DISC))
    assert values["Hard Dice"] == values["IoU"] == 1
    assert values["Cross-entropy"] < 0.05
    assert values["Soft Dice loss"] < 0.05
    assert values["Compound (CE + Dice)"] == pytest.approx(values["Cross-entropy"] + values["Soft Dice loss"], abs=1e-6)


def test_beside_the_truth_dice_is_0_and_only_the_soft_loss_still_pulls():
    logits, mask = predicted_logits(Shape(right=24, radius=5)), truth(DISC)
    values = measure(logits, mask)
    assert values["Hard Dice"] == values["IoU"] == 0
    assert np.abs(pixel_pulls(logits, mask)["Soft Dice loss"]).max() > 0


def test_scores_of_the_empty_mask():
    """Left empty it scores 1; one false alarm and it scores 0, with a Dice loss of almost 1."""
    empty = truth("Empty mask")
    assert measure(predicted_logits(Shape(radius=0)), empty)["Hard Dice"] == 1
    values = measure(predicted_logits(Shape(radius=5)), empty)
    assert values["Hard Dice"] == 0
    assert values["Soft Dice loss"] == pytest.approx(1, abs=1e-3)


def test_on_the_empty_mask_dice_hardly_pulls_and_cross_entropy_does():
    pulls = pixel_pulls(predicted_logits(Shape(radius=5)), truth("Empty mask"))
    dice, entropy = (np.abs(pulls[name]).max() for name in ("Soft Dice loss", "Cross-entropy"))
    assert dice < 1e-6 < 1e-4 < entropy


def test_for_a_tiny_object_dice_pulls_much_harder():
    pulls = pixel_pulls(predicted_logits(Shape(right=3, radius=1.5)), truth("Rare tiny object"))
    assert np.abs(pulls["Soft Dice loss"]).max() > 5 * np.abs(pulls["Cross-entropy"]).max()


def test_where_it_is_sure_and_wrong_dice_hardly_pulls():
    """The gradient of Dice has the factor p (1 - p); that of cross-entropy has not."""
    mask = truth(DISC)
    unsure, sure = (predicted_logits(Shape(right=24, radius=4, confidence=c)) for c in (0.6, 0.995))
    middle = (0, SIDE // 2, SIDE // 2)
    assert mask[middle] == 1
    for name, grows in (("Cross-entropy", True), ("Soft Dice loss", False)):
        weak, strong = (pixel_pulls(logits, mask)[name][middle[1:]] for logits in (unsure, sure))
        assert weak > 0 and strong > 0
        assert (strong > weak) == grows


def test_the_pull_of_cross_entropy_is_truth_minus_probability():
    logits, mask = predicted_logits(Shape()), truth(DISC)
    expected = (mask[0] - logits[0, 0].sigmoid()) / SIDE**2
    assert pixel_pulls(logits, mask)["Cross-entropy"] == pytest.approx(expected.numpy(), abs=1e-9)


def test_a_step_along_the_pull_lowers_each_loss():
    logits, mask = predicted_logits(Shape()), truth(DISC)
    for name, pull in pixel_pulls(logits, mask).items():
        assert LOSSES[name](logits + torch.from_numpy(pull) * 10, mask) < LOSSES[name](logits, mask)


def test_colours_of_the_pulls():
    picture = diverging(np.array([[-2.0, -1.0, 0.0, 1.0]]), 1.0)[0]
    assert picture.tolist() == [list(getrgb(LOWERED))] * 2 + [[255] * 3, list(getrgb(RAISED))]
    assert (diverging(np.zeros((2, 2)), 0.0) == 255).all()


def test_controls_move_the_shape_and_the_table(bench):
    touch(bench, "right", 0)
    touch(bench, "radius", 12)
    assert bench.shape == Shape(right=0, radius=12)
    assert bench.values == measure(predicted_logits(bench.shape), truth(DISC))
    table = {row[0]: row[1:] for row in bench._instrument.table}
    assert table["Hard Dice"] == [f"{bench.values['Hard Dice']:.4f}", "none: it is flat"]
    assert list(table)[1:] == [*LOSSES, "Hard Dice", "IoU"]


@pytest.mark.parametrize("kind", TRUTHS)
def test_back_onto_the_truth(bench, kind):
    touch(bench, "truth", kind)
    touch(bench, "sharpness", 5)
    touch(bench, "fit", True)
    assert bench.values["Hard Dice"] == 1


def test_the_curves_run_through_the_value_of_now(bench):
    touch(bench, "right", 8)
    for panel, position in ((0, 8), (1, 10)):
        for name in PULLING:
            x, y = series(bench, panel, name)
            assert y[x == position] == pytest.approx(bench.values[name], rel=1e-5)


def test_the_strip_has_a_column_for_each_title(bench):
    instrument = bench._instrument
    assert instrument.strip_size == [6 * (SIDE + GAP) - GAP, SIDE]
    assert len(instrument.strip_titles) == 6
    picture = np.frombuffer(instrument.strip, np.uint8).reshape(SIDE, -1, 3)
    assert (picture[:, :SIDE, 0] == 255 * truth(DISC)[0].numpy()).all()


def test_scales_are_shared_or_each_its_own(bench):
    touch(bench, "truth", "Empty mask")
    assert "in all three" in bench._instrument.caption[-1][0]
    dice = slice(4 * (SIDE + GAP), 5 * (SIDE + GAP) - GAP)
    tile = np.frombuffer(bench._instrument.strip, np.uint8).reshape(SIDE, -1, 3)[:, dice]
    assert (tile == 255).all()  # on one scale the pull of Dice cannot be seen
    touch(bench, "same_scale", False)
    tile = np.frombuffer(bench._instrument.strip, np.uint8).reshape(SIDE, -1, 3)[:, dice]
    assert (tile == getrgb(LOWERED)).all(-1).any()


def test_text_where_widgets_are_dead(bench):
    assert dead_text(bench) == "Loss bench: run this cell to use it"

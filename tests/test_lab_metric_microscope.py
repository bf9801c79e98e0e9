"""The metric microscope: its scores against the package's, its distances against MONAI, and what its controls do."""

import math

import numpy as np
import pytest
import torch
from lab_records import dead_text, series, touch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice

import unetlab as ul
from unetlab.lab.metric_microscope import (
    EMPTY_RULES,
    GAP,
    GROUPS,
    SIDE,
    SKY,
    TRUTHS,
    Edit,
    MetricMicroscope,
    disc,
    hd95,
    nsd,
    predicted,
    set_scores,
    surface_distances,
)


@pytest.fixture
def microscope():
    return MetricMicroscope()


def blobs(seed, n=20):
    """Pairs of random masks of about a dozen patches each."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(n, 2, 1, 48, 48, generator=generator)
    return (torch.nn.functional.avg_pool2d(noise.flatten(0, 1), 9, 1, 4).view(n, 2, 48, 48) > 0.52).numpy()


# -------------------------------------------------------------------------------------------------------- predictions


@pytest.mark.parametrize(("radius", "pixels"), [(2, 13), (20, 1257), (0, 0)])
def test_discs(radius, pixels):
    assert disc(24, 24, radius).sum() == pixels


def test_no_edit_is_the_truth():
    for radius in TRUTHS.values():
        assert torch.equal(predicted(radius, Edit()), disc(24, 24, radius))


def test_what_each_edit_does():
    rows, columns = np.nonzero(predicted(9, Edit(right=4, down=-3)).numpy())
    assert (columns.mean(), rows.mean()) == (28, 21)
    assert torch.equal(predicted(9, Edit(grow=2)), disc(24, 24, 11))
    assert torch.equal(predicted(9, Edit(grow=2, erase=40)) | disc(24, 24, 11), disc(24, 24, 11))
    assert torch.equal(predicted(0, Edit(speck=3)), disc(6, 6, 3))


@pytest.mark.parametrize("radius", [2, 9, 14])
def test_erasing_takes_ever_more_and_in_the_end_all(radius):
    left = [predicted(radius, Edit(erase=share)).sum().item() for share in range(0, 101, 5)]
    assert left[0] == disc(24, 24, radius).sum()
    assert left == sorted(left, reverse=True)
    assert left[10] == pytest.approx(left[0] / 2, abs=2 * radius + 1)  # a column
    assert left[-1] == 0


# ------------------------------------------------------------------------------------------------------------- scores


@pytest.mark.parametrize("empty", [1.0, 0.0, math.nan])
def test_set_scores_are_those_of_the_package(microscope, empty):
    guesses = torch.stack([predicted(r, e) for r, e in zip(TRUTHS.values(), microscope.edits, strict=True)]).long()
    truths = torch.stack([disc(24, 24, r) for r in TRUTHS.values()]).long()
    for group, reduction in ((1, "per_image"), (5, "pooled")):
        scores, options = set_scores(microscope.counts, group, empty), {"zero_division": empty, "reduction": reduction}
        assert scores["Dice"] == pytest.approx(ul.dice_score(guesses, truths, **options))
        assert scores["IoU"] == pytest.approx(ul.iou_score(guesses, truths, **options))


def test_ratios_by_hand():
    counts = torch.tensor([[30, 10, 20, 40], [0, 0, 0, 100]])
    scores = set_scores(counts, 1, math.nan)
    assert scores == pytest.approx({"Accuracy": 0.85, "Precision": 0.75, "Recall": 0.6, "Dice": 2 / 3, "IoU": 0.5})
    assert set_scores(counts, 1, 0.0)["Dice"] == pytest.approx(1 / 3)
    assert set_scores(counts, 2, 0.0)["Accuracy"] == 0.85  # 170 of 200


def test_a_last_batch_that_is_smaller_counts_like_a_full_one():
    counts = torch.tensor([[10, 0, 0, 0], [10, 0, 0, 0], [0, 5, 5, 0]])
    assert set_scores(counts, 2, 1.0)["Dice"] == 0.5


# ---------------------------------------------------------------------------------------------------------- distances


@pytest.mark.parametrize("seed", range(3))
def test_distances_are_those_of_monai(seed):
    for a, b in blobs(seed):
        distances = surface_distances(a, b)
        one_hot = [torch.from_numpy(mask)[None, None].float() for mask in (a, b)]
        theirs = compute_hausdorff_distance(*one_hot, include_background=True, percentile=95)
        assert hd95(distances) == pytest.approx(theirs.item(), abs=1e-4)
        for tolerance in (1.0, 2.0):
            theirs = compute_surface_dice(*one_hot, class_thresholds=[tolerance], include_background=True)
            assert nsd(distances, tolerance) == pytest.approx(theirs.item(), abs=1e-6)


def test_distances_of_empty_masks():
    full, empty = disc(24, 24, 5).numpy(), np.zeros((SIDE, SIDE), bool)
    for pair in ((full, empty), (empty, full)):
        assert (hd95(surface_distances(*pair)), nsd(surface_distances(*pair))) == (math.inf, 0)
    distances = surface_distances(empty, empty)
    assert math.isnan(hd95(distances)) and math.isnan(nsd(distances))


def test_a_far_speck_is_seen_by_hd95_and_hardly_by_dice():
    truth = disc(24, 24, 14).numpy()
    speck = predicted(14, Edit(speck=2))
    assert ul.dice_score(speck[None].long(), torch.from_numpy(truth)[None].long()) > 0.98
    assert hd95(surface_distances(speck.numpy(), truth)) > 5


# --------------------------------------------------------------------------------------------------------- the widget


def table(microscope):
    return {row[0]: row[1:] for row in microscope._instrument.table}


def test_it_begins_with_fifteen_scores_that_differ(microscope):
    scores = [set_scores(microscope.counts, k, rule)["Dice"] for k in GROUPS for rule in EMPTY_RULES.values()]
    assert max(scores) - min(scores) > 0.4
    assert f"from {min(scores):.3f} to {max(scores):.3f}" in microscope._instrument.panels[0]["label"]


def test_edits_belong_to_the_chosen_image(microscope):
    touch(microscope, "image", "3 small")
    before = list(microscope.edits)
    touch(microscope, "grow", 2)
    assert microscope.edits[2] == Edit(right=2, down=1, grow=2)
    assert microscope.edits[:2] + microscope.edits[3:] == before[:2] + before[3:]
    assert microscope._instrument.values == vars(microscope.edits[2]) | {"image": "3 small", "group": 1, "empty": "1"}
    assert table(microscope)["tp"][0] == f"{microscope.counts[2, 0]} px"


@pytest.mark.parametrize("image", TRUTHS)
def test_the_two_buttons(microscope, image):
    row, pixels = list(TRUTHS).index(image), int(disc(24, 24, TRUTHS[image]).sum())
    touch(microscope, "image", image)
    touch(microscope, "fit", True)
    assert microscope.counts[row].tolist() == [pixels, 0, 0, SIDE**2 - pixels]
    touch(microscope, "silent", True)
    assert microscope.counts[row].tolist() == [0, 0, pixels, SIDE**2 - pixels]


def test_the_switchboard(microscope):
    touch(microscope, "group", 5)
    pooled = microscope.scores["Dice"]
    touch(microscope, "empty", "0")
    assert microscope.scores["Dice"] == pooled  # pooled, nothing is empty here
    touch(microscope, "group", 1)
    zero = microscope.scores["Dice"]
    touch(microscope, "empty", "1")
    assert microscope.scores["Dice"] == pytest.approx(zero + 1 / 5)
    assert f"per image, 0 / 0 counts as 1): {zero + 0.2:.3f}" in microscope._instrument.status["text"]


def test_the_curves_run_through_now(microscope):
    x, y = series(microscope, 1, "Dice")
    assert y[x == 3] == pytest.approx(float(table(microscope)["Dice"][0]), abs=5e-4)
    x, y = series(microscope, 0, "0 / 0 is left out")
    assert y[x == 2] == pytest.approx(set_scores(microscope.counts, 2, math.nan)["Dice"], rel=1e-6)


def test_what_is_not_defined_is_said(microscope):
    touch(microscope, "image", "5 empty")
    assert table(microscope)["Dice"][0] == table(microscope)["HD95"][0] == "not defined: 0 / 0"
    touch(microscope, "speck", 1)
    assert table(microscope)["Dice"][0] == "0.000"
    assert table(microscope)["HD95"][0] == "not defined: nothing there"


def test_with_nothing_left_no_score_is_invented(microscope):
    for image in TRUTHS:
        touch(microscope, "image", image)
        touch(microscope, "silent", True)
    assert table(microscope)["HD95"][1] == "not defined (mean of 0)"
    assert microscope.scores["Accuracy"] > 0.9 and microscope.scores["Recall"] == 0.2


def test_the_chosen_image_is_framed(microscope):
    touch(microscope, "image", "2 medium")
    wide = SIDE + 2 * GAP
    assert microscope._instrument.strip_size == [5 * wide, wide]
    frame = np.frombuffer(microscope._instrument.strip, np.uint8).reshape(wide, -1, 3)[0, ::wide]
    sky = [int(SKY[i : i + 2], 16) for i in (1, 3, 5)]
    assert [pixel.tolist() == sky for pixel in frame] == [False, True, False, False, False]


def test_text_where_widgets_are_dead(microscope):
    assert dead_text(microscope) == "Metric microscope: run this cell to use it"

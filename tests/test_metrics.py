"""Counts, Dice and IoU against segmentation-models-pytorch and torchmetrics, and against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import smp
from torchmetrics.functional import classification, segmentation

import unetlab as ul

IGNORED = 255


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def ids(classes, n=7, size=10, seed=0):
    """Predicted and true class ids (n, size, size): all classes, one image empty on both sides, one in the truth only."""
    generator = torch.Generator().manual_seed(seed)
    prediction, truth = torch.randint(max(classes, 2), (2, n, size, size), generator=generator)
    prediction[1] = truth[1] = truth[2] = 0
    return prediction, truth


def counted(prediction, truth, classes, **options):
    metrics = ul.SegmentationMetrics(classes, **options)
    metrics.update(prediction, truth)
    return metrics


def same_results(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key], equal_nan=True) for key in a)


# -------------------------------------------------------------------------------------------------------------- counts


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("ignore_index", [None, IGNORED])
def test_counts_of_classes_equal_peers(classes, ignore_index):
    prediction, truth = ids(classes)
    if ignore_index is not None:
        truth[:, 2:5, 3:9] = ignore_index
        truth[3] = ignore_index
    counts = counted(prediction, truth, classes, ignore_index=ignore_index).counts

    theirs = smp("metrics", "functional").get_stats(
        prediction, truth, "multiclass", ignore_index=ignore_index, num_classes=classes
    )
    assert torch.equal(counts, torch.stack(theirs, dim=-1))

    tp, fp, tn, fn, _ = classification.multiclass_stat_scores(
        prediction, truth, classes, average=None, multidim_average="samplewise", ignore_index=ignore_index
    ).unbind(-1)
    assert torch.equal(counts, torch.stack([tp, fp, fn, tn], dim=-1))


def test_counts_of_binary_logits_equal_peers():
    logits, (_, truth) = torch.randn(7, 1, 10, 10), ids(1)
    counts = counted(logits, truth, 1).counts
    theirs = smp("metrics", "functional").get_stats(logits.sigmoid(), truth[:, None], "binary", threshold=0.5)
    assert torch.equal(counts, torch.stack(theirs, dim=-1))
    tp, fp, tn, fn, _ = classification.binary_stat_scores(
        logits.sigmoid()[:, 0], truth, multidim_average="samplewise"
    ).unbind(-1)
    assert torch.equal(counts[:, 0], torch.stack([tp, fp, fn, tn], dim=-1))


def test_binary_ignores_pixels():
    prediction, truth = ids(1)
    truth[:, :4] = IGNORED
    counts = counted(prediction, truth, 1, ignore_index=IGNORED).counts
    assert torch.equal(counts, counted(prediction[:, 4:], truth[:, 4:], 1).counts)


def test_logits_become_ids():
    """One channel: above 0, exactly 0 is background (p = 0.5 is not more likely than not). Several: the largest."""
    prediction = torch.tensor([-1.0, 0.0, 1e-6, 3.0]).view(1, 1, 2, 2)
    assert counted(prediction, torch.ones(1, 2, 2, dtype=torch.int64), 1).counts.tolist() == [[[2, 0, 2, 0]]]
    logits = torch.randn(3, 4, 8, 8)
    truth = torch.randint(4, (3, 8, 8))
    assert torch.equal(counted(logits, truth, 4).counts, counted(logits.argmax(1), truth, 4).counts)


# -------------------------------------------------------------------------------------------------------------- scores


@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("reduction, theirs", [("per_image", "macro-imagewise"), ("pooled", "macro")])
@pytest.mark.parametrize("zero_division", [1.0, 0.0])
@pytest.mark.parametrize("present", [True, False])
def test_scores_equal_smp(classes, reduction, theirs, zero_division, present):
    prediction, truth = ids(classes)
    if not present:  # the last class nowhere at all
        prediction, truth = prediction % max(classes - 1, 1), truth % max(classes - 1, 1)
    peer = smp("metrics", "functional")
    stats = (
        peer.get_stats(prediction[:, None], truth[:, None], "binary")
        if classes == 1
        else peer.get_stats(prediction, truth, "multiclass", num_classes=classes)
    )
    options = {"num_classes": classes, "reduction": reduction, "zero_division": zero_division}
    for ours, function in ((ul.dice_score, peer.f1_score), (ul.iou_score, peer.iou_score)):
        expected = function(*stats, reduction=theirs, zero_division=zero_division).item()
        assert ours(prediction, truth, **options) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("reduction", ["per_image", "pooled"])
def test_nan_leaves_absent_classes_out(classes, reduction):
    """SMP's nan would make the whole mean nan, so its unreduced scores are averaged here."""
    prediction, truth = ids(classes)
    peer = smp("metrics", "functional")
    stats = [torch.as_tensor(x) for x in counted(prediction, truth, classes).counts.unbind(-1)]
    if reduction == "pooled":
        stats = [x.sum(0, keepdim=True) for x in stats]
    for ours, function in ((ul.dice_score, peer.f1_score), (ul.iou_score, peer.iou_score)):
        scores = function(*stats, reduction=None, zero_division=math.nan)
        assert scores.isnan().any() == (reduction == "per_image")
        expected = scores.nanmean(1).nanmean().item()
        assert ours(prediction, truth, classes, reduction=reduction, zero_division=math.nan) == pytest.approx(expected)


@pytest.mark.parametrize("include_background", [True, False])
def test_per_image_equals_torchmetrics(include_background):
    """Its Dice leaves absent classes out of an image's mean, so an image that is empty on both sides has no score."""
    prediction, truth = (x[2:] for x in ids(4))
    theirs = segmentation.dice_score(
        prediction, truth, num_classes=4, include_background=include_background, input_format="index", average="none"
    )
    metrics = counted(prediction, truth, 4, zero_division=math.nan, include_background=include_background)
    np.testing.assert_allclose(metrics.compute()["dice_per_image"], theirs.nanmean(1), rtol=1e-6)
    assert metrics.compute()["dice"] == pytest.approx(theirs.nanmean(1).mean().item())


def test_per_class_scores():
    prediction, truth = ids(3)
    pooled = counted(prediction, truth, 3, reduction="pooled").compute()
    theirs = classification.multiclass_f1_score(prediction, truth, 3, average=None)
    np.testing.assert_allclose(pooled["dice_per_class"], theirs, rtol=1e-6)
    theirs = classification.multiclass_jaccard_index(prediction, truth, 3, average=None)
    np.testing.assert_allclose(pooled["iou_per_class"], theirs, rtol=1e-6)
    per_image = counted(prediction, truth, 3).compute()
    assert per_image["dice"] == pytest.approx(np.mean(per_image["dice_per_class"]))
    assert per_image["dice"] == pytest.approx(np.mean(per_image["dice_per_image"]))


def five_images():
    """Objects of 16, 16, 8, 4 and 0 pixels: found, half found, missed, over-painted (4 too many), and a false alarm of 4."""
    truth = torch.zeros(5, 4, 4, dtype=torch.long)
    prediction = torch.zeros_like(truth)
    truth[0], prediction[0] = 1, 1
    truth[1], prediction[1, :2] = 1, 1
    truth[2, :2] = 1
    truth[3, 0], prediction[3, :2] = 1, 1
    prediction[4, 0] = 1
    return prediction, truth


def test_five_images_by_hand():
    """The same five masks, honestly scored in four ways."""
    prediction, truth = five_images()
    per_image = [1, 16 / 24, 0, 8 / 12, 0]
    metrics = counted(prediction, truth, 1).compute()
    assert metrics["dice_per_image"] == pytest.approx(per_image)
    assert metrics["dice"] == pytest.approx(np.mean(per_image))
    assert ul.iou_score(prediction, truth) == pytest.approx(np.mean([1, 8 / 16, 0, 4 / 8, 0]))
    assert ul.dice_score(prediction, truth, reduction="pooled") == pytest.approx(2 * 28 / (36 + 44))
    assert ul.iou_score(prediction, truth, reduction="pooled") == pytest.approx(28 / (36 + 44 - 28))

    prediction[4] = 0  # now rightly silent on the empty image: 1, 0 or left out
    for rule, expected in (
        (1.0, [1, 2 / 3, 0, 2 / 3, 1]),
        (0.0, [1, 2 / 3, 0, 2 / 3, 0]),
        (math.nan, [1, 2 / 3, 0, 2 / 3]),
    ):
        assert ul.dice_score(prediction, truth, zero_division=rule) == pytest.approx(np.mean(expected))


def test_mean_of_batch_scores_would_depend_on_the_batches():
    prediction, truth = five_images()
    means = set()
    for size in (1, 2, 5):
        batches = zip(prediction.split(size), truth.split(size), strict=True)
        means.add(round(np.mean([ul.dice_score(p, t, reduction="pooled") for p, t in batches]), 3))
    assert len(means) == 3


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("reduction", ["per_image", "pooled"])
@pytest.mark.parametrize("zero_division", [1.0, 0.0, math.nan])
def test_evaluation_batch_does_not_matter(classes, reduction, zero_division):
    prediction, truth = ids(classes)
    options = {"reduction": reduction, "zero_division": zero_division}
    expected = counted(prediction, truth, classes, **options).compute()
    for size in (1, 2, 5):
        metrics = ul.SegmentationMetrics(classes, **options)
        for p, t in zip(prediction.split(size), truth.split(size), strict=True):
            metrics.update(p, t)
        assert same_results(metrics.compute(), expected)


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), classes=st.sampled_from([1, 2, 4]), size=st.integers(1, 6))
def test_identities(seed, classes, size):
    """D = 2J / (1 + J) for the same counts; scores lie in [0, 1]; truth and prediction can be exchanged."""
    prediction, truth = ids(classes, size=size, seed=seed)
    scores = counted(prediction, truth, classes, reduction="pooled").compute()
    for dice, iou in zip(scores["dice_per_class"], scores["iou_per_class"], strict=True):
        assert 0 <= iou <= dice <= 1
        assert dice == pytest.approx(2 * iou / (1 + iou))
    assert ul.dice_score(prediction, truth, classes) == pytest.approx(ul.dice_score(truth, prediction, classes))
    assert ul.dice_score(truth, truth, classes) == 1


def test_scores_take_the_classes_from_the_logits():
    logits, truth = torch.randn(3, 4, 8, 8), torch.randint(4, (3, 8, 8))
    assert ul.dice_score(logits, truth) == ul.dice_score(logits.argmax(1), truth, num_classes=4)
    binary = torch.randn(3, 1, 8, 8)
    assert ul.iou_score(binary, truth % 2) == ul.iou_score((binary[:, 0] > 0).long(), truth % 2)


def test_background_left_out():
    prediction, truth = ids(3)
    with_it, without = (counted(prediction, truth, 3, include_background=b).compute() for b in (True, False))
    assert with_it["dice_per_class"] == without["dice_per_class"]
    assert without["dice"] == pytest.approx(np.mean(with_it["dice_per_class"][1:]))
    assert with_it["dice"] != pytest.approx(without["dice"])


def test_reset_forgets():
    prediction, truth = ids(1)
    metrics = counted(truth, truth, 1)
    metrics.reset()
    metrics.update(prediction, truth)
    assert same_results(metrics.compute(), counted(prediction, truth, 1).compute())


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("classes, wrong", [(1, 255), (1, 2), (3, 3), (3, -1)])
def test_ids_outside_the_classes(classes, wrong):
    prediction, truth = ids(classes)
    truth[4, 0, 0] = wrong
    with pytest.raises(ValueError, match=f"outside 0..{max(classes, 2) - 1}"):
        counted(prediction, truth, classes).compute()
    counted(prediction, truth, classes, ignore_index=wrong).compute()  # unless it is the one to ignore


def test_nothing_counted():
    with pytest.raises(ValueError, match="no image was counted"):
        ul.SegmentationMetrics().compute()


def test_unknown_reduction():
    with pytest.raises(ValueError, match="per_image or pooled"):
        ul.SegmentationMetrics(reduction="micro")


@pytest.mark.parametrize(
    "prediction, truth, message",
    [
        (torch.zeros(2, 4, 4, dtype=torch.long), torch.zeros(2, 4, 5, dtype=torch.long), "differ in shape"),
        (torch.zeros(2, 1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long), "differ in shape"),
        (torch.zeros(2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long), "logits must have shape"),
        (torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4), "masks must be integer"),
        (torch.zeros(2, 1, 4, 4), torch.zeros(2, 3, 4, 4, dtype=torch.long), "masks must be integer"),
    ],
)
def test_wrong_shapes_and_types(prediction, truth, message):
    with pytest.raises(ValueError, match=message):
        ul.SegmentationMetrics().update(prediction, truth)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.bool])
def test_masks_of_every_integer_type(dtype):
    prediction, truth = ids(1)
    expected = counted(prediction, truth, 1).compute()
    assert same_results(counted(prediction.to(dtype), truth.to(dtype)[:, None], 1).compute(), expected)

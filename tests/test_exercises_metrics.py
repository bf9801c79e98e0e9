"""The checkers of the appendix on metrics: every known wrong answer has its message, the folded solutions are right."""

import math
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from checkers import said, solved_by
from monai.metrics import compute_hausdorff_distance, compute_surface_dice

import unetlab as ul
from unetlab.exercises.metrics import (
    DICE,
    MIOU,
    check_empty_rule,
    check_evaluate,
    check_iou_from_dice,
    check_two_numbers,
)

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "A2_metrics.ipynb"


@pytest.fixture
def solved():
    return solved_by("A2_metrics")


def test_the_folded_solutions_are_right(solved):
    assert said(check_iou_from_dice(solved["iou_from_dice"]), "right", "D = 0.8 is J = 0.667")
    assert said(check_evaluate(solved["evaluate"]), "right", "each of them counts once")
    assert said(check_empty_rule(solved["my_rule"], solved["my_defence"]), "right", "silence earns nothing")
    for counts, average, iou_of in (
        (solved["my_counts"], solved["my_average"], solved["my_iou_of"]),
        (solved["other_counts"], "per_image", "foreground"),
    ):
        assert said(check_two_numbers(counts, average, iou_of), "right", "It shows what is possible")


def test_the_distances_on_the_page_are_those_of_monai():
    cells = [cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    names = {"torch": torch, "np": np}
    exec(next(source for source in cells if "def outline_distances" in source), names)
    generator = torch.Generator().manual_seed(0)
    noise = torch.nn.functional.avg_pool2d(torch.rand(20, 2, 48, 48, generator=generator), 9, 1, 4)
    for a, b in noise > 0.52:
        distances = names["outline_distances"](a, b)
        pair = [mask[None, None].float() for mask in (a, b)]
        theirs = compute_hausdorff_distance(*pair, include_background=True, percentile=95)
        assert names["hd95"](distances) == pytest.approx(theirs.item(), abs=1e-4)
        theirs = compute_surface_dice(*pair, class_thresholds=[2.0], include_background=True)
        assert names["nsd"](distances, 2.0) == pytest.approx(theirs.item(), abs=1e-6)


@pytest.mark.parametrize("nothing", [None, ...])
def test_not_attempted(nothing):
    assert said(check_iou_from_dice(lambda dice: nothing), "not attempted", "solve D = 2J / (1 + J)")
    assert said(check_evaluate(lambda batches: nothing), "not attempted", "replace the dots")
    assert said(check_empty_rule(nothing, {"silent": 0, "perfect": 1, "noisy": 0.6}), "not attempted", "choose 1.0")
    assert said(check_empty_rule(1.0, {"silent": nothing, "perfect": 1, "noisy": 1}), "not attempted")
    assert said(check_empty_rule(1.0, None), "not attempted", "what the three networks score")
    assert said(check_two_numbers(nothing, "pooled", "both"), "not attempted", "choose two definitions")
    assert said(check_two_numbers([(1, 1, 1, 1)], "pooled", nothing), "not attempted")


# ------------------------------------------------------------------------------------------------------- IoU from Dice

CONVERSIONS = {
    "it is J = 0.6667. That is the way back": lambda d: 2 * d / (1 + d),
    "Halving is nearly right for a D near 0": lambda d: d / 2,
    "Squaring fits at 0 and at 1 only": lambda d: d * d,
    "Mind the sign": lambda d: d / (2 + d),
    "That is the Dice itself": lambda d: d,
    "for D = 0.8 you say 0.3, and it is J = 0.6667": lambda d: 0.3,
    "for D = 0.5 you say 0.6667": lambda d: 2 / 3,
    "it returns a str": lambda d: "0.667",
}


@pytest.mark.parametrize("message", CONVERSIONS)
def test_wrong_conversions(message):
    assert said(check_iou_from_dice(CONVERSIONS[message]), "wrong", message)


# ------------------------------------------------------------------------------------------------------- the evaluator


def per_image(prediction, truth, score=ul.dice_score, **options):
    return [score(p[None], t[None], **options) for p, t in zip(prediction, truth, strict=True)]


def joined(batches):
    return [torch.cat(parts) for parts in zip(*batches, strict=True)]


def by_hand(batches, eps=0.0, rule=None):
    scores = []
    for prediction, truth in batches:
        for p, t in zip(prediction.bool(), truth.bool(), strict=True):
            over, under = 2 * (p & t).sum().item(), (p.sum() + t.sum()).item()
            scores.append(rule if rule is not None and under == 0 else (over + eps) / (under + eps))
    return sum(scores) / len(scores)


def dropping_the_last(batches):
    return by_hand([batch for batch in batches if len(batch[0]) == len(batches[0][0])], rule=1.0)


EVALUATORS = {
    "You add up a batch before you divide": lambda b: np.mean(
        [ul.dice_score(*batch, reduction="pooled") for batch in b]
    ),
    "You average the means of the batches": lambda b: np.mean([ul.dice_score(*batch) for batch in b]),
    "The last batch, which is not full, is dropped": dropping_the_last,
    "That is the pooled score": lambda b: ul.dice_score(*joined(b), reduction="pooled"),
    "scores 0 in yours; here it shall score 1": lambda b: by_hand(b, rule=0.0),
    "is left out in yours": lambda b: np.nanmean(per_image(*joined(b), zero_division=math.nan)),
    "That is the mean IoU": lambda b: ul.iou_score(*joined(b)),
    "it divides by zero": by_hand,
    "it returns nan": lambda b: torch.tensor(per_image(*joined(b), zero_division=math.nan)).mean(),
    "it returns a list, not one number": lambda b: per_image(*joined(b)),
    "score each image, then average": lambda b: 0.5,
    "score 0.500, 0.500, 0.500, 0.500 in yours": lambda b: 0.5,
}


@pytest.mark.parametrize("message", EVALUATORS)
def test_wrong_evaluators(message):
    assert said(check_evaluate(EVALUATORS[message]), "wrong", message)


def test_every_way_to_a_right_evaluator():
    assert said(check_evaluate(lambda b: by_hand(b, rule=1.0)), "right")
    assert said(check_evaluate(lambda b: by_hand(b, eps=1e-6)), "right")  # the rule 1 in disguise
    assert said(check_evaluate(lambda b: torch.tensor(ul.dice_score(*joined(b)))), "right")


# -------------------------------------------------------------------------------------------------------- the empty rule

RIGHT = {
    1.0: {"silent": 0.4, "perfect": 1.0, "noisy": 0.6},
    0.0: {"silent": 0.0, "perfect": 0.6, "noisy": 0.6},
    math.nan: {"silent": 0.0, "perfect": 1.0, "noisy": 0.6},
}


def test_the_scores_of_the_rule_exercise_are_those_of_the_package():
    truth = torch.zeros(40, 4, 4, dtype=torch.long)
    truth[:24, 1:3, 1:3] = 1
    noisy = truth.clone()
    noisy[24:, 0, 0] = 1
    networks = {"silent": torch.zeros_like(truth), "perfect": truth, "noisy": noisy}
    for rule, scores in RIGHT.items():
        for name, prediction in networks.items():
            assert ul.dice_score(prediction, truth, zero_division=rule) == pytest.approx(scores[name])


DEFENCES = {
    "a network that never says anything earns 0.4": (1.0, RIGHT[1.0]),
    "nobody can score more than 0.6": (0, RIGHT[0.0]),
    "the silent network does not score 0: on each of the 16 clean parts both masks are empty, which scores 1": (
        1.0,
        RIGHT[1.0] | {"silent": 0},
    ),
    "which scores 0, and each defect scores 1": (0.0, RIGHT[0.0] | {"perfect": 1}),
    "which is left out of the mean, and each missed defect scores 0": (math.nan, RIGHT[math.nan] | {"silent": 0.4}),
    "with one false pixel a clean part is 0 / 1": (math.nan, RIGHT[math.nan] | {"noisy": 1}),
    "the noisy network is missing": (math.nan, {"silent": 0, "perfect": 1}),
    "0.5 is none of the three rules": (0.5, RIGHT[1.0]),
    "'nan' is none of the three rules": ("nan", RIGHT[1.0]),
}


@pytest.mark.parametrize("message", DEFENCES)
def test_wrong_rules_and_defences(message):
    assert said(check_empty_rule(*DEFENCES[message]), "wrong", message)


# --------------------------------------------------------------------------------------------------- two numbers, true?

FOREGROUND = (8133, 1867, 1867)  # Dice 81.33 %
TWO_NUMBERS = {
    "forces an IoU of 68.53%": ([(*FOREGROUND, 33643)], "pooled", "foreground"),
    "forces an IoU of 68.53%. No counts": ([(*FOREGROUND, 33643)], "per_image", "foreground"),
    "your Dice is 79.27%": ([(7927, 2073, 2073, 100)], "pooled", "both"),
    "fp + fn is 0.4591 times tp": ([(7927, 2073, 2073, 100)], "pooled", "both"),
    "More tn: it moves the background only": ([(*FOREGROUND, 10000)], "pooled", "both"),
    "68.53% of the foreground and 96.40% of the background. Less tn": ([(*FOREGROUND, 100000)], "pooled", "both"),
    "make your images more unequal": ([(*FOREGROUND, 0)] * 3, "per_image", "foreground"),
    "make your images more alike": (
        [(0, 0, 1, 0)] * 1867 + [(1, 0, 0, 0)] * 8133,
        "per_image",
        "foreground",
    ),
    '"per_image" or "pooled"': ([(*FOREGROUND, 0)], "batch", "both"),
    '"foreground" or "both"': ([(*FOREGROUND, 0)], "pooled", "background"),
    "rows of four numbers": ([FOREGROUND], "pooled", "both"),
    "none negative": ([(*FOREGROUND, -1)], "pooled", "both"),
    "one row an image": ((*FOREGROUND, 33643), "pooled", "both"),
    "leave it out here": ([(*FOREGROUND, 1), (0, 0, 0, 9)], "per_image", "both"),
}


@pytest.mark.parametrize("message", TWO_NUMBERS)
def test_two_numbers_that_do_not_fit(message):
    assert said(check_two_numbers(*TWO_NUMBERS[message]), "wrong", message)


@pytest.mark.parametrize("average", ["pooled", "per_image"])
def test_with_the_background_both_are_true(average):
    counts = [(*FOREGROUND, 33643)] * (1 if average == "pooled" else 7)
    assert said(check_two_numbers(counts, average, "both"), "right", "a foreground of 22% of the pixels")


def test_what_the_checker_calls_true_is_true_in_the_package():
    """The counts as a picture, scored by the package."""
    tp, fp, fn, tn = counts = (8133, 1867, 1867, 33643)
    truth = torch.tensor([1] * tp + [0] * fp + [1] * fn + [0] * tn)[None, None]
    prediction = torch.tensor([1] * tp + [1] * fp + [0] * fn + [0] * tn)[None, None]
    assert said(check_two_numbers([counts], "pooled", "both"), "right")
    assert ul.dice_score(prediction, truth) == pytest.approx(DICE, abs=5e-5)
    assert ul.iou_score(prediction, truth, num_classes=2) == pytest.approx(MIOU, abs=5e-5)

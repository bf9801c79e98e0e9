"""Checkers for the exercises of ``A2_metrics``. Each answers right, wrong (because ...) or not attempted."""

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Number

import torch
from torch import Tensor

from unetlab.exercises.verdict import Verdict, not_attempted, right, wrong
from unetlab.metrics import dice_score, iou_score

# ----------------------------------------------------------------------------------------------------- IoU from Dice

_CONVERSIONS = {
    "That is the way back, from IoU to Dice.": lambda d: 2 * d / (1 + d),
    "Halving is nearly right for a D near 0; a perfect D = 1 must stay 1.": lambda d: d / 2,
    "Squaring fits at 0 and at 1 only. Start from D = 2J / (1 + J).": lambda d: d * d,
    "Mind the sign: D (1 + J) = 2J gives 2 - D below the line.": lambda d: d / (2 + d),
    "That is the Dice itself; between 0 and 1 the IoU is smaller.": lambda d: d,
}


def check_iou_from_dice(function: Callable) -> Verdict:
    """``iou_from_dice(dice)``: the IoU of one case whose Dice is known, J = D / (2 - D)."""
    for dice in (0.8, 0.5, 1.0, 0.0):
        answer, truth = function(dice), dice / (2 - dice)
        if answer is None or answer is Ellipsis:
            return not_attempted("your function returns nothing yet: solve D = 2J / (1 + J) for J.")
        if not isinstance(answer, Number):
            return wrong(f"for D = {dice} it returns a {type(answer).__name__}, not a number.")
        if not math.isclose(answer, truth, abs_tol=1e-9):
            why = next((why for why, rule in _CONVERSIONS.items() if math.isclose(rule(dice), answer)), "")
            return wrong(f"for D = {dice} you say {answer:.4g}, and it is J = {truth:.4g}. {why}".strip())
    return right("D = 0.8 is J = 0.667, and both ends stay where they are. It holds for one case, not for means.")


# ------------------------------------------------------------------------------- an evaluator that ignores the batches

_CUTS = [[5], [1, 1, 1, 1, 1], [2, 2, 1], [3, 2]]


def _five_images() -> tuple[Tensor, Tensor]:
    """Predictions and truths (5, 8, 8): half found, nearly right, missed, a false alarm, and an empty pair."""
    prediction, truth = torch.zeros(2, 5, 8, 8, dtype=torch.uint8)
    truth[0, :6] = prediction[0, 3:] = 1
    truth[1, 2:5, 2:5] = prediction[1, 2:5, 2:6] = 1
    truth[2, 6, 6:8] = prediction[3, 0, :3] = 1
    return prediction, truth


def _batches(cut: list[int]) -> list[tuple[Tensor, Tensor]]:
    prediction, truth = _five_images()
    return list(zip(prediction.split(cut), truth.split(cut), strict=True))


def _evaluators() -> dict[str, Callable]:
    """The known mistakes, each as an evaluator of its own."""

    def over_images(score=dice_score, **options):
        return lambda cut: score(*_five_images(), **options)

    def over_batches(**options):
        return lambda cut: sum(dice_score(*batch, **options) for batch in _batches(cut)) / len(cut)

    def full_batches(cut):
        kept = sum(n for n in cut if n == cut[0])
        return dice_score(*(x[:kept] for x in _five_images()))

    return {
        "You add up a batch before you divide, and average the batches. Divide image by image.": over_batches(
            reduction="pooled"
        ),
        "You average the means of the batches, so an image of a small last batch weighs more. Add up the scores of all "
        "images and divide once.": over_batches(),
        "The last batch, which is not full, is dropped: its images are never scored.": full_batches,
        "That is the pooled score. The batches do not matter to it, but asked is the mean over images.": over_images(
            reduction="pooled"
        ),
        "The pair of empty masks scores 0 in yours; here it shall score 1.": over_images(zero_division=0.0),
        "The pair of empty masks is left out in yours; here it shall score 1.": over_images(zero_division=math.nan),
        "That is the mean IoU: for Dice the hits count twice, above and below the line.": over_images(iou_score),
    }


def check_evaluate(function: Callable) -> Verdict:
    """``evaluate(batches)``: the mean Dice over images, two empty masks scoring 1, however the images are cut.

    ``batches`` is a list of pairs (prediction, truth) of class ids (n, H, W); n may differ from batch to batch.
    """
    try:
        answers = [function(_batches(cut)) for cut in _CUTS]
    except ZeroDivisionError:
        return wrong("it divides by zero: an image may be empty in truth and prediction. Such a pair shall score 1.")
    if answers[0] is None or answers[0] is Ellipsis:
        return not_attempted("your function returns nothing yet: replace the dots and run the cell again.")
    if not all(isinstance(answer, Number) or (isinstance(answer, Tensor) and answer.dim() == 0) for answer in answers):
        return wrong(f"it returns a {type(answers[0]).__name__}, not one number.")
    answers = [float(answer) for answer in answers]
    if any(map(math.isnan, answers)):
        return wrong("it returns nan: an image may be empty in truth and prediction. Such a pair shall score 1.")
    expected = dice_score(*_five_images())
    if _alike(answers, [expected] * len(_CUTS)):
        return right(f"{expected:.3f}, however the images are cut: each of them counts once.")
    why = f"The mean over images is {expected:.3f}, whatever the batches: score each image, then average."
    for message, evaluator in _evaluators().items():
        if _alike(answers, [evaluator(cut) for cut in _CUTS]):
            why = message
            break
    scores = ", ".join(f"{answer:.3f}" for answer in answers)
    return wrong(f"the same five images, cut into batches in four ways, score {scores} in yours. {why}")


def _alike(a: list[float], b: list[float]) -> bool:
    return all(math.isclose(x, y, abs_tol=1e-4) for x, y in zip(a, b, strict=True))  # a small eps is no mistake


# ----------------------------------------------------------------------------------------------- the empty-mask rule

PARTS, CLEAN = 40, 16  # pictures of metal parts, and those without a defect
_DEFECTS = (PARTS - CLEAN) / PARTS
_RULES = {  # scores of the three networks by what a pair of empty masks counts as
    "1.0": {"silent": 1 - _DEFECTS, "perfect": 1.0, "noisy": _DEFECTS},
    "0.0": {"silent": 0.0, "perfect": _DEFECTS, "noisy": _DEFECTS},
    "nan": {"silent": 0.0, "perfect": 1.0, "noisy": _DEFECTS},
}


def check_empty_rule(rule: float | None, defence: Mapping[str, float] | None) -> Verdict:
    """The rule for 0 / 0 (1.0, 0.0 or nan), and what three networks score under it: ``silent``, ``perfect``, ``noisy``."""
    if rule in (None, ...) or not defence or any(score in (None, ...) for score in defence.values()):
        return not_attempted("choose 1.0, 0.0 or nan, and write down what the three networks score under it.")
    name = str(float(rule)) if isinstance(rule, Number) else repr(rule)
    if name not in _RULES:
        return wrong(f"{name} is none of the three rules: 1.0, 0.0 or float('nan').")
    for network, truth in _RULES[name].items():
        if network not in defence:
            return wrong(f"the {network} network is missing in your defence.")
        if not math.isclose(defence[network], truth, abs_tol=0.006):
            return wrong(_miscounted(name, network, defence[network], truth))
    if name == "1.0":
        return wrong(
            f"your numbers are right, and they speak against the rule: a network that never says anything earns "
            f"{1 - _DEFECTS:g}, once for each clean part."
        )
    if name == "0.0":
        return wrong(
            f"your numbers are right, and they speak against the rule: nobody can score more than {_DEFECTS:g}, however "
            "good, and for a perfect network a false alarm costs nothing."
        )
    return right(
        f"silence earns nothing, perfection earns 1, and false alarms cost. Print the rule beside the score, and how many "
        f"pairs it left out: {CLEAN} for the perfect network, none for the noisy one, so the two means are not over the "
        "same images."
    )


def _miscounted(rule: str, network: str, said: float, truth: float) -> str:
    """Why the score of a network under a rule is another one."""
    start = f"under the rule {rule} the {network} network does not score {said:g}:"
    if network == "noisy":
        return f"{start} with one false pixel a clean part is 0 / 1, which is 0 and no case for the rule; {truth:g} is left."
    both_empty = {"1.0": "scores 1", "0.0": "scores 0", "nan": "is left out of the mean"}[rule]
    rest = {"silent": "and each missed defect scores 0", "perfect": "and each defect scores 1"}[network]
    return f"{start} on each of the {CLEAN} clean parts both masks are empty, which {both_empty}, {rest}. Count again."


# ----------------------------------------------------------------------------------------------- two published numbers

DICE, MIOU = 0.8133, 0.7927  # ResUNet++ on Kvasir-SEG, arXiv:1911.07067, abstract
_CLOSE = 5e-4


def check_two_numbers(counts: Sequence[Sequence[float]] | None, average: str | None, iou_of: str | None) -> Verdict:
    """Counts and definitions under which the Dice of the foreground is 81.33 % and the mean IoU 79.27 %.

    Args:
        counts: rows (tp, fp, fn, tn), one an image.
        average: "per_image" or "pooled", for both scores.
        iou_of: "foreground", or "both" for the mean of foreground and background.
    """
    if any(answer is None or answer is Ellipsis for answer in (counts, average, iou_of)):
        return not_attempted("choose two definitions, and give the counts that prove them possible.")
    if average not in ("per_image", "pooled"):
        return wrong(f'{average!r} is no way to average here: write "per_image" or "pooled".')
    if iou_of not in ("foreground", "both"):
        return wrong(f'{iou_of!r} names no classes: write "foreground" or "both".')
    rows = torch.as_tensor(counts, dtype=torch.float64)
    if rows.dim() != 2 or rows.shape[1] != 4 or (rows < 0).any():
        return wrong("the counts must be rows of four numbers (tp, fp, fn, tn), none negative, one row an image.")
    if (rows[:, :3].sum(1) == 0).any():
        return wrong("an image without foreground in truth and prediction is 0 / 0: leave it out here.")
    if average == "pooled" or len(rows) == 1:
        rows = rows.sum(0, keepdim=True)
    dice, iou, background = (score.mean().item() for score in _three_scores(rows))
    exact = DICE / (2 - DICE)
    if iou_of == "foreground" and len(rows) == 1:
        return wrong(
            f"both scores come from the same tp, fp and fn, so a Dice of {DICE:.2%} forces an IoU of {exact:.2%}. No counts "
            "can help: another definition must."
        )
    if abs(dice - DICE) > _CLOSE:
        return wrong(
            f"your Dice is {dice:.2%}. Begin with it: in one image it is {DICE:.2%} where fp + fn is "
            f"{2 * (1 - DICE) / DICE:.4f} times tp; tn plays no part."
        )
    mean = iou if iou_of == "foreground" else (iou + background) / 2
    if abs(mean - MIOU) <= _CLOSE:
        share = (rows[:, 0] + rows[:, 2]).sum().item() / rows.sum().item()
        proof = (
            f"with the background in the mean, and a foreground of {share:.0%} of the pixels, both are true."
            if iou_of == "both"
            else "averaged over images that differ this much, both are true."
        )
        return right(f"{proof} It shows what is possible, not what the authors did: for that one needs their code.")
    if iou_of == "both":
        more = "More" if mean < MIOU else "Less"
        return wrong(
            f"the Dice fits, and the mean IoU is {mean:.2%}: {iou:.2%} of the foreground and {background:.2%} of the "
            f"background. {more} tn: it moves the background only."
        )
    other = "more unequal" if mean < MIOU else "more alike"
    return wrong(
        f"the Dice fits, and the mean IoU is {mean:.2%}. It lies between {exact:.2%}, where all images are alike, and the "
        f"Dice, where each is 0 or 1: make your images {other}."
    )


def _three_scores(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Dice and IoU of the foreground and IoU of the background, of each row (tp, fp, fn, tn)."""
    tp, fp, fn, tn = rows.unbind(1)
    errors = fp + fn
    return 2 * tp / (2 * tp + errors), tp / (tp + errors), tn / (tn + errors).clamp_min(1e-12)

"""Checkers for the exercises of ``02a_data``. Each answers right, wrong (because ...) or not attempted."""

from collections.abc import Callable

import torch

from unetlab.exercises.verdict import Verdict, not_attempted, right, wrong

# ------------------------------------------------------------------------------------------------ 1. no leak

# What stands in train, val and test; the group that leaks, or None; the mistake of a function that decides wrongly.
_SPLITS = [
    (["a", "b"], ["c"], ["d"], None, "no group is shared"),
    (["a", "b"], ["b", "c"], ["d"], "b", "the first two share one group of several: equal lists are not the question"),
    (["a", "b"], ["c"], ["d", "c"], "c", "choosing on a patient that also judges is a leak too: compare val with test"),
    (["a", "b"], ["c"], ["a"], "a", "the first and the last share a group: there are three pairs to compare"),
    (["a", "a", "a", "b"], ["c", "c"], ["d"], None, "several pictures of one group in one part are no leak"),
    (["a", "b"], ["c"], [], None, "a part may be empty"),
    (["p10", "p2"], ["p1"], ["p3"], None, "'p1' is not 'p10': compare whole names"),
]


def check_assert_no_leak(function: Callable) -> Verdict:
    """``assert_no_leak(train, val, test)``: three lists with the group of each picture; raises AssertionError on a leak."""
    outcomes = []
    for *parts, _, _ in _SPLITS:
        try:
            outcomes.append(function(*(list(part) for part in parts)))
        except AssertionError as error:
            outcomes.append(error)
        except Exception as error:
            shown = ", ".join(map(str, parts))
            return wrong(f"for {shown} it raises {type(error).__name__} ({error}), not AssertionError.")
    if all(outcome in (None, ...) for outcome in outcomes):
        return not_attempted("your function lets every split pass: raise AssertionError where two parts share a group.")
    for (train, val, test, leak, why), outcome in zip(_SPLITS, outcomes, strict=True):
        case = f"for train {train}, val {val}, test {test}"
        if isinstance(outcome, bool):
            return wrong(f"{case} it returns {outcome}. Nobody reads a returned value: raise AssertionError.")
        if leak is None and isinstance(outcome, AssertionError):
            return wrong(f"{case} it raises, but there is no leak: {why}.")
        if leak is not None and not isinstance(outcome, AssertionError):
            return wrong(f"{case} it raises nothing: {why}.")
        if leak is not None and repr(leak) not in str(outcome) and leak not in str(outcome).split():
            return wrong(f"{case} the message {str(outcome)!r} does not name the group {leak!r}: which is it?")
    return right("all three pairs of parts are compared, and the message names the group.")


# ------------------------------------------------------------------------------------------- 2. resize a mask

_IDS = torch.tensor([[0, 0, 2, 2], [0, 5, 5, 2], [0, 5, 5, 0]], dtype=torch.uint8)  # no class between 0, 2 and 5
_MASK = _IDS.repeat_interleave(4, 0).repeat_interleave(4, 1)  # 12 x 16, classes at least 4 pixels wide


def check_resize_mask(function: Callable) -> Verdict:
    """``resize_mask(mask, height, width)``: class ids (H, W) uint8 -> (height, width) uint8, each the nearest pixel's."""
    for height, width in ((24, 32), (6, 8), (9, 20), (12, 16)):
        result = function(_MASK.clone(), height, width)
        case = f"from 12x16 to {height}x{width}"
        if result is None or result is Ellipsis:
            return not_attempted(
                "your function returns nothing yet: each new pixel takes the id of the nearest old one."
            )
        if not isinstance(result, torch.Tensor):
            return wrong(f"{case} it returns {type(result).__name__}, not a tensor.")
        if result.shape == (1, 1, height, width):
            return wrong(f"{case} the shape is {tuple(result.shape)}: take the two axes that you added away again.")
        if result.shape == (width, height) != (height, width):
            return wrong(f"{case} the result is {width}x{height}: height comes first.")
        if result.shape != (height, width):
            return wrong(f"{case} the shape is {tuple(result.shape)}, not {(height, width)}.")
        invented = sorted(set(result.unique().tolist()) - {0, 2, 5})
        if invented and any(value != int(value) for value in invented):
            return wrong(
                f"{case} there are values such as {invented[0]:.2f}: an interpolated id is no class. Take nearest."
            )
        if invented:
            return wrong(
                f"{case} class {int(invented[0])} appears, which the mask never held: halfway between 0 and 5 lies a "
                "number, not an object. Rounding hides that and does not cure it. Take nearest."
            )
        if result.dtype != _MASK.dtype:
            return wrong(f"{case} the ids come back as {result.dtype}: a loss wants integers. Give the dtype back.")
        if not any((result == _nearest(height, width, offset)).all() for offset in (0.0, 0.5)):
            return wrong(
                f"{case} the ids are allowed, but they stand elsewhere: shrink or stretch, do not crop or pad."
            )
    return right("larger or smaller, the mask keeps its classes 0, 2 and 5, their places and its dtype.")


def _nearest(height: int, width: int, offset: float) -> torch.Tensor:
    """The mask by torch's "nearest" (offset 0: the pixel's corner) or "nearest-exact" (0.5: its centre)."""
    rows = ((torch.arange(height) + offset) * 12 / height).long()
    columns = ((torch.arange(width) + offset) * 16 / width).long()
    return _MASK[rows[:, None], columns]


# ----------------------------------------------------------------------------------------- 3. what comes first

STEPS = {
    "split": "divide the patients among train, val and test",
    "tile": "cut the pictures into overlapping tiles",
    "fit": "compute mean and standard deviation of the training tiles",
    "normalise": "subtract that mean from all tiles and divide by that deviation",
    "augment": "rotate and flip the training tiles, anew at every step",
    "choose": "compare settings by their validation Dice",
    "judge": "score the chosen network on the test tiles",
}

# (this, before that, or else)
_BEFORE = [
    ("split", "tile", "tiles of one picture overlap: cut first, and a random split puts shared pixels on both sides."),
    ("split", "fit", "the mean would be taken over patients that are to be strangers. Split first."),
    ("split", "augment", "turned copies of one picture would lie on both sides. Split first."),
    ("tile", "fit", "the mean is that of the training tiles: there are none yet."),
    ("fit", "normalise", "there is no mean to subtract yet."),
    ("normalise", "choose", "a network trained on normalised tiles needs them in validation too."),
    ("tile", "augment", "it is the training tiles that are turned: cut them first."),
    ("augment", "choose", "augmentation is one of the settings that you compare: it belongs to the training before."),
    ("choose", "judge", "the test set would help to choose, and then it no longer judges strangers."),
]


def check_order(answer) -> Verdict:
    """The keys of ``STEPS`` as a list, first to last."""
    if answer is None or answer is Ellipsis or (isinstance(answer, list) and not answer):
        return not_attempted(f"put the seven words in order: {', '.join(sorted(STEPS))}.")
    if isinstance(answer, str) or not isinstance(answer, list | tuple):
        return wrong('it must be a list of words, such as ["augment", "choose", ...].')
    unknown = [step for step in answer if step not in STEPS]
    if unknown:
        return wrong(f"{unknown[0]!r} is none of the seven: {', '.join(sorted(STEPS))}.")
    missing = [step for step in STEPS if step not in answer]
    if missing:
        return wrong(f"{missing[0]!r} is missing: {STEPS[missing[0]]}.")
    if len(answer) > len(STEPS):
        return wrong("a word stands twice. Each step is done once; above all, the test set is opened once.")
    place = {step: i for i, step in enumerate(answer)}
    for first, then, why in _BEFORE:
        if place[first] > place[then]:
            return wrong(f"with {then!r} before {first!r}: {why}")
    return right("split, then everything that learns from data, on train alone; the test set last, once.")

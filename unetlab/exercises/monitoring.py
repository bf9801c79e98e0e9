"""Checkers for the exercises of ``04b_what_to_monitor``. Each answers right, wrong (because ...) or not attempted."""

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Number

from unetlab.early_stopping import replay_early_stopping, smooth
from unetlab.exercises.verdict import Verdict, not_attempted, right, wrong

# Validation and test Dice of a run, epoch by epoch. The best validation epoch is the third, and the fifth ties with it.
_VAL = [0.50, 0.71, 0.83, 0.79, 0.83, 0.80]
_TEST = [0.48, 0.70, 0.76, 0.81, 0.78, 0.77]


def check_honest_score(function: Callable) -> Verdict:
    """``honest_score(val, test)``: the test Dice of the epoch that validation chose (of equals the earliest).

    ``val`` and ``test`` are lists of one Dice an epoch.
    """
    answer = function(list(_VAL), list(_TEST))
    if answer is None or answer is Ellipsis:
        return not_attempted(
            "your function returns nothing yet: which epoch would you keep, and what does the test say?"
        )
    if isinstance(answer, bool) or not isinstance(answer, Number):
        return wrong(f"it returns a {type(answer).__name__}, not a score.")
    known = {
        _TEST[2]: None,
        max(_VAL): "is the validation score of the epoch that validation chose. That it is high is why it was chosen.",
        max(_TEST): "is the best test score. It lets the test set choose the epoch; then nothing is left to judge it.",
        _TEST[4]: "belongs to the later of two equal epochs. Equal is no improvement: a stopper keeps the first.",
        _TEST[-1]: "is the test score of the last epoch. The weights that were kept are older.",
        _VAL[-1]: "is the validation score of the last epoch. Which weights were kept, and which set judges them?",
        _TEST[0]: "is the test score where validation is lowest. A Dice is better when it is larger.",
        (max(_VAL) + _TEST[2]) / 2: "is a mean of both scores. Validation chose; averaging does not undo that.",
        2.0: "is the number of the epoch. Asked is the test score there.",
        3.0: "is the number of the epoch. Asked is the test score there.",
    }
    nearest = min(known, key=lambda score: abs(score - answer))
    if not math.isclose(answer, nearest, abs_tol=1e-9):
        return wrong(f"for val = {_VAL} and test = {_TEST} you say {answer:g}, it is {_TEST[2]}.")
    if known[nearest]:
        return wrong(f"{answer:g} {known[nearest]}")
    longer = [0.9, *_VAL], [0.6, *_TEST]
    if not math.isclose(function(*longer), 0.6, abs_tol=1e-9):
        return wrong("it fails when the best epoch is the first one: find the place of the best by its value.")
    return right("validation chooses the epoch, and the test set only judges the choice.")


CASES = {
    "A": (
        "The best of 120 epochs was chosen by 20 validation images. The test set was opened once, for that epoch.",
        "test",
    ),
    "B": (
        "Five patience values were tried. Each time the vault was opened, and the value with the best test score was kept.",
        "neither",
    ),
    "C": (
        "Length and settings were fixed beforehand. The validation images chose nothing; they were scored once, at the end.",
        "validation",
    ),
    "D": ("The best of 120 epochs was chosen by 20 validation images. There is no test set.", "neither"),
}
_WHY_NOT = {
    ("A", "validation"): "its validation score is the highest of 120. It was chosen for being high.",
    ("A", "neither"): "the test images chose nothing and were opened once: their score may be claimed.",
    ("B", "test"): "the test set chose the patience, so it was a second validation set. Its best score flatters.",
    ("B", "validation"): "validation chose the epoch in each of the five runs. Its best score flatters twice.",
    ("C", "test"): "there is none. But a set that chose nothing is a test set, whatever its name.",
    ("C", "neither"): "nothing was chosen on these images. A set that chose nothing is a test set, whatever its name.",
    ("D", "validation"): "it is the best of 120. Say so and it may be printed, but it is no estimate for new images.",
    ("D", "test"): "there is none, and the validation set has been used up by choosing.",
}


def check_claims(claims: Mapping[str, str | None] | None) -> Verdict:
    """Which score of each of the four cases on the page may stand as "the Dice on new images".

    Args:
        claims: by case ("A" to "D") one of "validation", "test", "neither".
    """
    claims = {case: claim for case, claim in (claims or {}).items() if claim is not None}
    if not claims:
        return not_attempted('choose "validation", "test" or "neither" for each case.')
    for case, claim in claims.items():
        if case not in CASES:
            return wrong(f"there is no case {case!r}: the cases are {', '.join(CASES)}.")
        if claim not in ("validation", "test", "neither"):
            return wrong(f'{claim!r}, given for case {case}, is none of "validation", "test" and "neither".')
    reasons = [f"case {case}: {_WHY_NOT[case, claim]}" for case, claim in claims.items() if claim != CASES[case][1]]
    if reasons:
        return wrong(f"{len(reasons)} of your {len(claims)} claims would not stand:", *reasons)
    if len(claims) < len(CASES):
        return not_attempted(f"so far all right. Still to judge: {', '.join(c for c in CASES if c not in claims)}.")
    return right("a score may be claimed if its images chose nothing, and if it was not the best of several looks.")


BUDGET = 0.5  # share of all epochs that may be trained
LOSS = 0.01  # of mean test Dice that may be given up for it
ASLEEP = 0.1  # a Dice below which a network has not begun to find anything
REASONS = {
    "a": "it trains at most half of all epochs",
    "b": "on average it gives up at most 0.01 of test Dice against training all epochs",
    "c": "in every run the network that it keeps is better on the test images than the last one",
    "d": "in every run it keeps the epoch that is best on the test images",
}
_MODES = {"val_loss": "min", "val_dice": "max"}


def check_policy(policy: Mapping | None, reasons: Sequence[str], runs: Sequence[Mapping]) -> Verdict:
    """Whether a stopping policy keeps to half the budget, and whether the reasons given for it are what the runs show.

    Args:
        policy: ``monitor`` ("val_loss" or "val_dice"), ``mode``, ``patience``, and if wanted ``start_from_epoch`` and
            ``smoothing``, the decay of a moving average of the monitor.
        reasons: letters of ``REASONS``.
        runs: recorded runs with lists ``val_loss``, ``val_dice`` and ``test_dice``, one value an epoch.
    """
    policy = {name: value for name, value in (policy or {}).items() if value is not None}
    if not policy:
        return not_attempted("choose a monitor, its mode and a patience.")
    problem = _flaw(policy)
    if problem:
        return wrong(problem)
    kept = [_follow(policy, run) for run in runs]
    trained = sum(epochs for epochs, _ in kept) / sum(len(run["test_dice"]) for run in runs)
    given_up = sum(run["test_dice"][-1] - run["test_dice"][epoch] for run, (_, epoch) in zip(runs, kept, strict=True))
    given_up /= len(runs)
    score = f"it trains {100 * trained:.0f} % of the epochs and gives up {given_up:.3f} of test Dice on average"
    asleep = [run for run, (_, epoch) in zip(runs, kept, strict=True) if run["test_dice"][epoch] < ASLEEP]
    if asleep:
        return wrong(
            f"{len(asleep)} of {len(runs)} runs are stopped in their sleep, before they find a cell. Do not look at the "
            "first epochs."
        )
    if trained > BUDGET:
        return wrong(f"{score}. That is over the budget of {100 * BUDGET:.0f} %: be less patient.")
    if given_up > LOSS:
        return wrong(f"{score}. {LOSS} is the most: be more patient, or let the monitor start later.")
    better = [run["test_dice"][epoch] > run["test_dice"][-1] for run, (_, epoch) in zip(runs, kept, strict=True)]
    best = [run["test_dice"][epoch] == max(run["test_dice"]) for run, (_, epoch) in zip(runs, kept, strict=True)]
    shown = {"a": None, "b": None, "c": better, "d": best}
    if not reasons:
        return not_attempted(
            f"{score}: within the budget. Now defend it: which of the sentences a to d do the runs show?"
        )
    false = []
    for letter in reasons:
        if letter not in REASONS:
            return wrong(f"there is no sentence {letter!r}: the sentences are {', '.join(REASONS)}.")
        if shown[letter] is not None and not all(shown[letter]):
            false.append(f"{letter}: it is so in {sum(shown[letter])} of {len(runs)} runs, not in every one.")
    if false:
        return wrong(f"{score}, but your defence says more than the runs show:", *false)
    missing = [letter for letter in REASONS if letter not in reasons and (shown[letter] is None or all(shown[letter]))]
    if missing:
        return wrong(f"{score}, but your defence leaves out what the runs show: {', '.join(missing)}.")
    return right(f"{score}, and the defence claims that and no more. On other data it has to be shown again.")


def _flaw(policy: Mapping) -> str | None:
    """What is wrong with a policy before it meets a run, as the rest of "wrong, because"; None if nothing is."""
    missing = {"monitor", "mode", "patience"} - policy.keys()
    if missing:
        return f"a policy needs {', '.join(sorted(missing))} as well."
    unknown = policy.keys() - {"monitor", "mode", "patience", "start_from_epoch", "smoothing"}
    if unknown:
        return f"a policy has no {', '.join(sorted(unknown))}."
    monitor, mode = policy["monitor"], policy["mode"]
    if str(monitor).startswith("test"):
        return "the test images would decide when to stop, and no set would be left to judge."
    if monitor == "train_loss":
        return "the training loss sinks on while the network over-fits: it says nothing of new images."
    if monitor not in _MODES:
        return f"{monitor!r} is no monitor of these runs: val_loss or val_dice."
    if mode != _MODES[monitor]:
        return f"with mode {mode!r} the stopper waits for the worst {monitor} and keeps it: use {_MODES[monitor]!r}."
    if isinstance(policy["patience"], bool) or not isinstance(policy["patience"], int) or policy["patience"] < 1:
        return f"patience counts evaluations, a whole number from 1 on, not {policy['patience']!r}."
    if not 0 <= policy.get("smoothing", 0) < 1:
        return f"smoothing is the weight of the past, at least 0 and below 1, not {policy['smoothing']!r}."
    return None


def _follow(policy: Mapping, run: Mapping) -> tuple[int, int]:
    """How many epochs of a recorded run a policy trains, and which one it keeps (from 0)."""
    curve = smooth(run[policy["monitor"]], policy.get("smoothing", 0.0))
    start = policy.get("start_from_epoch", 0)
    replay = replay_early_stopping(curve, policy["patience"], mode=policy["mode"], start_from_epoch=start)
    return len(curve) - replay.epochs_saved, replay.best_epoch

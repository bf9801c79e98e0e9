"""The checkers of 04b_what_to_monitor: every known wrong answer has its message, the folded solutions are right."""

import nbformat
import numpy as np
import pytest
from checkers import TESTS, said, solved_by

from unetlab.exercises.monitoring import CASES, REASONS, check_claims, check_honest_score, check_policy
from unetlab.lab.records import load_record

NOTEBOOK = TESTS.parent / "notebooks" / "04b_what_to_monitor.ipynb"


@pytest.fixture
def solved():
    return solved_by("04b_what_to_monitor")


@pytest.fixture
def recorded():
    return load_record("monitor")["runs"]


def test_the_folded_solutions_are_right(solved, recorded):
    assert said(check_honest_score(solved["honest_score"]), "right", "only judges the choice")
    assert said(check_claims(solved["my_claims"]), "right", "chose nothing")
    assert said(check_policy(solved["my_policy"], solved["my_reasons"], recorded), "right", "and no more")


# -------------------------------------------------------------------------------------------------- the honest number


@pytest.mark.parametrize("nothing", [None, ...])
def test_score_not_attempted(nothing):
    assert said(check_honest_score(lambda val, test: nothing), "not attempted", "which epoch would you keep")


def last_of_equals(val, test):
    return test[len(val) - 1 - val[::-1].index(max(val))]


SCORES = {
    "That it is high is why it was chosen": lambda val, test: max(val),
    "It lets the test set choose the epoch": lambda val, test: max(test),
    "a stopper keeps the first": last_of_equals,
    "The weights that were kept are older": lambda val, test: test[-1],
    "is the validation score of the last epoch": lambda val, test: val[-1],
    "A Dice is better when it is larger": lambda val, test: test[val.index(min(val))],
    "averaging does not undo that": lambda val, test: (max(val) + test[val.index(max(val))]) / 2,
    "is the number of the epoch": lambda val, test: val.index(max(val)),
    "3 is the number of the epoch": lambda val, test: val.index(max(val)) + 1,
    "not a score": lambda val, test: test,
    "it is 0.76": lambda val, test: 0.123,
    "it fails when the best epoch is the first one": lambda val, test: test[2],
}


@pytest.mark.parametrize("message", SCORES)
def test_wrong_scores(message):
    assert said(check_honest_score(SCORES[message]), "wrong", message)


def test_a_right_score_of_any_type():
    assert said(check_honest_score(lambda val, test: np.array(test)[np.argmax(val)]), "right")


# ------------------------------------------------------------------------------------------------- what may be claimed

ANSWERS = {case: answer for case, (_, answer) in CASES.items()}


@pytest.mark.parametrize("nothing", [None, {}, dict.fromkeys(CASES)])
def test_claims_not_attempted(nothing):
    assert said(check_claims(nothing), "not attempted", "for each case")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("claim", ["validation", "test", "neither"])
def test_every_wrong_claim_is_told_why(case, claim):
    if claim != ANSWERS[case]:
        assert said(
            check_claims(ANSWERS | {case: claim}), "wrong", f"1 of your 4 claims would not stand:\n• case {case}"
        )


def test_some_claims_are_not_all():
    assert said(check_claims({"A": "test", "B": None}), "not attempted", "Still to judge: B, C, D")


def test_claims_that_are_none():
    assert said(check_claims({"E": "test"}), "wrong", "there is no case 'E'")
    assert said(check_claims({"A": "both"}), "wrong", "'both', given for case A")


def test_the_page_shows_the_cases_and_the_sentences_as_they_are_checked():
    page = "\n".join(cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells)
    for case, (text, _) in CASES.items():
        assert f"| {case} | {text} |" in page
    for letter, sentence in REASONS.items():
        assert f"| {letter} | {sentence[0].upper()}{sentence[1:]}. |" in page


# ------------------------------------------------------------------------------------------------------------ a policy


def run(peak=40, end=0.8, sleep=0):
    """A hundred epochs: the validation scores are best at `peak`, the test Dice is 0.8 there and `end` at the end."""
    epochs = np.arange(100)
    dice = 0.9 - 0.005 * np.abs(epochs - peak)
    dice[1:sleep] = 0
    test = np.interp(epochs, [0, max(sleep, 1), peak, 99], [0.02, 0.05 if sleep else 0.6, 0.8, end])
    return {"val_loss": (1 - dice).tolist(), "val_dice": dice.tolist(), "test_dice": test.tolist()}


POLICY = {"monitor": "val_dice", "mode": "max", "patience": 5}
RUNS = [run(), run(30)]


@pytest.mark.parametrize("nothing", [None, {}, dict.fromkeys(POLICY)])
def test_policy_not_attempted(nothing):
    assert said(check_policy(nothing, [], RUNS), "not attempted", "choose a monitor")


FLAWS = {
    "a policy needs mode, patience as well": {"mode": None, "patience": None},
    "a policy has no min_detla": {"min_detla": 0.1},
    "the test images would decide": {"monitor": "test_dice"},
    "it says nothing of new images": {"monitor": "train_loss", "mode": "min"},
    "'dice' is no monitor of these runs": {"monitor": "dice"},
    "waits for the worst val_dice": {"mode": "min"},
    "waits for the worst val_loss": {"monitor": "val_loss"},
    "patience counts evaluations": {"patience": 0},
    "a whole number from 1 on, not 2.5": {"patience": 2.5},
    "smoothing is the weight of the past": {"smoothing": 1.0},
}


@pytest.mark.parametrize("message", FLAWS)
def test_flaws(message):
    assert said(check_policy(POLICY | FLAWS[message], ["a"], RUNS), "wrong", message)


def test_a_policy_may_cost_too_much():
    assert said(check_policy(POLICY | {"patience": 60}, [], RUNS), "wrong", "over the budget of 50 %: be less patient")


def test_a_policy_may_give_up_too_much():
    runs = [run(end=0.9), run(30, end=0.9)]
    assert said(check_policy(POLICY, [], runs), "wrong", "be more patient, or let the monitor start later")


def test_a_policy_may_end_a_run_in_its_sleep():
    runs = [run(), run(sleep=20)]
    assert said(check_policy(POLICY, [], runs), "wrong", "1 of 2 runs are stopped in their sleep")
    assert said(check_policy(POLICY | {"start_from_epoch": 20}, ["a", "b", "d"], runs), "right")


def test_a_policy_wants_a_defence():
    assert said(check_policy(POLICY, [], RUNS), "not attempted", "Now defend it")


def test_a_defence_says_what_the_runs_show_and_no_more():
    assert said(check_policy(POLICY, ["a", "b", "d"], RUNS), "right", "trains 41 % of the epochs")
    assert said(check_policy(POLICY, ["a", "b", "c", "d"], RUNS), "wrong", "c: it is so in 0 of 2 runs")
    assert said(check_policy(POLICY, ["b", "d"], RUNS), "wrong", "leaves out what the runs show: a")


def test_smoothing_keeps_a_later_epoch():
    runs, policy = [run(end=0.79), run(30, end=0.79)], POLICY | {"smoothing": 0.8}
    assert said(check_policy(policy, ["a", "b", "c", "d"], runs), "wrong", "d: it is so in 0 of 2 runs")
    assert said(check_policy(policy, ["a", "b", "c"], runs), "right")


def test_a_gain_over_the_last_epoch_has_to_be_claimed_too():
    runs = [run(end=0.7), run(30, end=0.7)]
    assert said(check_policy(POLICY, ["a", "b", "d"], runs), "wrong", "leaves out what the runs show: c")
    assert said(check_policy(POLICY, ["a", "b", "c", "d"], runs), "right")


def test_a_sentence_that_there_is_not():
    assert said(check_policy(POLICY, ["e"], RUNS), "wrong", "there is no sentence 'e'")

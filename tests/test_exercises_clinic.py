"""The bug clinic: every symptom appears, every cure cures, every probe that tells tells, and what a visit costs."""

import math
from pathlib import Path

import nbformat
import pytest
import torch
from checkers import said, solved_by
from torch import nn

from unetlab.exercises.clinic import CASES, Clinic
from unetlab.exercises.clinic.bench import PlainUNet, dice, fit, pictures
from unetlab.exercises.clinic.card import card_html, static_html
from unetlab.exercises.clinic.case import WARDS
from unetlab.exercises.clinic.chart import curves, draw, picture, printed
from unetlab.exercises.clinic.checks import check_round, check_vital_signs
from unetlab.exercises.clinic.probes import PROBES
from unetlab.exercises.clinic.run import run
from unetlab.plots import to_png

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "05b_bug_clinic.ipynb"
BY_KEY = {case.key: case for case in CASES.values()}
CRASHES = {"odd_size", "one_axis_too_many", "last_batch"}
# Here the probe shows a circumstance that the cure leaves as it is: rare objects, empty images, the shape of the masks.
CIRCUMSTANCES = {"all_black", "nan_when_large", "one_axis_too_many", "another_score", "not_a_number", "rising_loss"}
NAMES = {"SGD", "ExponentialLR", "CrossEntropyLoss"}  # may begin a clause
each_case = pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.key)


# ------------------------------------------------------------------------------------------------------- all patients


@each_case
def test_the_symptom_appears_and_the_cure_cures(case):
    sick, cured = (case.run(cured) for cured in (False, True))
    assert case.is_sick(sick) and not case.is_sick(cured)
    assert (sick.error is not None) == (case.key in CRASHES)
    assert cured.error is None


@each_case
def test_the_telling_probe_tells(case):
    sick, cured = case.run(), case.run(cured=True)
    probe = PROBES[case.tell]
    assert probe.applies(sick) and probe.look(sick)
    if case.key not in CIRCUMSTANCES and probe.applies(cured):
        assert probe.look(sick) != probe.look(cured)


@each_case
def test_the_texts_are_whole(case):
    assert len(case.causes) == 4 and sum(cause.is_right for cause in case.causes.values()) == 1
    for text in (case.complaint, case.sees, *(cause.why for cause in case.causes.values())):
        assert len(text.split()) >= 6 and text.endswith((".", "?", "!", ".)"))
    for cause in case.causes.values():  # it goes on after "wrong, because"
        assert cause.is_right or not cause.why[0].isupper() or cause.why.split()[0] in NAMES
    assert all(name.count("/") == 1 and name.split("#")[1].isdigit() for name in case.threads)


@each_case
def test_the_script_shows_no_cure(case):
    assert "fix:" not in case.code() + case.code(cured=True)
    assert case.code() != case.code(cured=True)
    changed = [line for line in case.difference().splitlines() if line.startswith(("+", "-"))]
    assert 1 <= len(changed) <= 2, "a cure is one line, changed or moved"
    assert max(map(len, case.code().splitlines())) <= 116


@each_case
def test_what_the_learner_saw_is_there(case):
    sick = case.run()
    assert case.key in CRASHES or set(curves(case, sick)) == set(case.shows)
    assert case.shows or case.picture or printed(sick)
    if case.picture:
        shown = picture(case, sick)
        assert shown.ndim == 3 and shown.shape[2] == 3 and shown.dtype == "uint8"


def test_every_script_is_a_patient():
    scripts = [script for ward in WARDS.values() for script in vars(ward).values() if hasattr(script, "symptom")]
    assert sorted(script.__name__ for script in scripts) == sorted(BY_KEY)
    assert len(CASES) == 34 and list(CASES) == list(range(1, 35))


def test_the_right_answer_is_every_letter_at_times():
    assert {case.answer for case in CASES.values()} == set("abcd")


# ---------------------------------------------------------------------------------------------------- exact symptoms


def ran(key, cured=False):
    return BY_KEY[key].run(cured)


def test_dice_of_a_perfect_answer_to_masks_of_255():
    _, masks = pictures(8, 0)
    assert dice(masks, 255 * masks) == pytest.approx(2 * 255 / 256)
    assert "255 (" in PROBES["mask_values"].look(ran("below_zero"))


def test_the_floors_of_a_sigmoid_and_a_softmax_too_many():
    share = ran("high_floor")["share"]
    floor = -share * math.log(1 / (1 + math.exp(-1))) + (1 - share) * math.log(2)
    assert min(ran("high_floor")["losses"]) >= floor - 1e-6 > min(ran("high_floor", cured=True)["losses"])
    assert min(ran("never_below_half")["losses"]) > math.log(math.e + 2) - 1 == pytest.approx(0.5514, abs=1e-4)


def test_sums_in_half_precision():
    assert torch.ones(512, 512).half().sum().isinf()
    assert "65504" in PROBES["pixel_sums"].look(ran("nan_when_large")).replace("6.55e+04", "65504")


def test_rates():
    assert ran("lost_first_rate").rates[::5] == pytest.approx([0.01, 0.001, 0.0001])
    assert ran("lost_first_rate", cured=True).rates[::5] == pytest.approx([0.1, 0.01, 0.001])
    assert len(set(ran("never_fires").rates)) == 1
    assert max(ran("never_warm").rates) < 0.05 < 0.095 < max(ran("never_warm", cured=True).rates)
    rates = ran("rises_again").rates
    assert min(rates) == pytest.approx(rates[15], abs=1e-9) and rates[-1] > 0.9 * rates[0]


def test_the_order_of_scheduler_and_optimizer_is_warned_of():
    assert "optimizer.step()" in PROBES["warnings"].look(ran("lost_first_rate"))
    assert PROBES["warnings"].look(ran("lost_first_rate", cured=True)) == "nothing"


def test_a_clipped_step_has_a_longest_length():
    assert max(ran("spikes").moves) > 0.2 > 0.1001 > max(ran("spikes", cured=True).moves)


def test_modes():
    trace = PROBES["mode_trace"].look(ran("slow_after_epoch_one"))
    assert trace.startswith("passes with gradients: training mode x 4, evaluation mode x 28")
    assert "evaluation" not in PROBES["mode_trace"].look(ran("slow_after_epoch_one", cured=True)).splitlines()[0]
    assert "[8, 8, 1]: 17 of 17" in PROBES["batch_sizes"].look(ran("last_batch"))


def test_a_mean_of_ratios_depends_on_the_cut():
    scores = list(ran("another_score")["report"].values())
    assert len(set(scores)) == 3 and len(set(ran("another_score", cured=True)["report"].values())) == 1


def test_two_images_are_never_judged():
    assert "8 of 10" in PROBES["batch_sizes"].look(ran("score_of_the_day"))


def test_an_alias_moves_with_the_weights():
    assert PROBES["kept_weights"].look(ran("best_is_last")).endswith("True")
    cured = ran("best_is_last", cured=True)["report"]
    assert cured["loss of the restored network"] == pytest.approx(cured["best loss"])


def test_equal_patience_stops_before_the_rate_falls():
    assert len(set(ran("lost_race").rates)) == 1 and len(set(ran("lost_race", cured=True).rates)) > 1


# ----------------------------------------------------------------------------------------------------- the instruments


def test_the_instruments_leave_random_numbers_and_hooks_as_they_were():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    run(BY_KEY["another_score"].script)
    assert torch.equal(torch.rand(1), expected)
    noticed = run(lambda seed: {})
    nn.Linear(1, 1)(torch.ones(1, 1))
    assert noticed.passes == []


def test_the_same_seed_gives_the_same_run():
    script = BY_KEY["below_zero"].script
    assert run(script, 1)["losses"] == run(script, 1)["losses"] != run(script, 2)["losses"]


def test_a_script_that_breaks_leaves_its_memory():
    def script(seed):
        half_way = 7
        raise ValueError(f"stuck at {half_way}")

    broken = run(script)
    assert broken.error == "ValueError: stuck at 7" and broken["half_way"] == 7


def test_steps_are_recorded():
    net = nn.Linear(1, 1, bias=False)

    def script(seed):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
        fit(net, optimizer, nn.MSELoss(), torch.ones(1, 1), torch.zeros(1, 1), steps=2)
        return {"net": net}

    seen = run(script)
    assert seen.rates == [0.5, 0.5]
    assert seen.moves == pytest.approx([0.5 * gradient for gradient in seen.gradients], rel=1e-4)
    assert [one.training for one in seen.network_passes()] == [True, True]


def test_the_plain_network_takes_multiples_only():
    net = PlainUNet(depth=2)
    assert net(torch.zeros(2, 1, 8, 12)).shape == (2, 1, 8, 12)
    with pytest.raises(RuntimeError, match="must match"):
        net(torch.zeros(2, 1, 10, 12))


# --------------------------------------------------------------------------------------------------------------- a visit


@pytest.fixture
def clinic():
    return Clinic()


def test_a_visit_and_its_price(clinic):
    visit = clinic.patient(1)
    assert "values" in visit.probes()["mask_values"].asks.lower()
    assert "255" in repr(visit.probe("mask_values"))
    visit.probe("mask_values")
    assert visit.points == 9
    assert "files = 255 * drawn" in repr(visit.code())
    assert visit.points == 6
    other = next(letter for letter in "abcd" if letter != visit.case.answer)
    assert said(clinic.diagnose(1, other), "wrong", "3 of 10 points")
    assert said(clinic.diagnose(1, other), "wrong", "3 of 10 points")
    assert said(clinic.diagnose(1, visit.case.answer.upper()), "right", "3 of 10 points")
    assert visit.score == 3
    assert "+ masks = (files > 127).float()" in repr(clinic.treat(1))
    assert "symptom before: True, after: False" in repr(clinic.treat(1))
    assert clinic.score() == "1 of 34 patients diagnosed, 3 of 10 points for them"


def test_a_diagnosis_after_the_cure_is_worth_nothing(clinic):
    clinic.treat(2)
    assert said(clinic.diagnose(2, CASES[2].answer), "right", "no points")
    assert clinic.patient(2).score == 0


def test_a_diagnosis_is_worth_a_point_at_least(clinic):
    visit = clinic.patient(3)
    visit.code()
    for letter in sorted(set("abcd") - {visit.case.answer}):
        visit.diagnose(letter)
    assert visit.points <= 0
    assert said(visit.diagnose(visit.case.answer), "right", "1 of 10")


def test_the_text_of_a_cause_is_an_answer_too(clinic):
    assert said(clinic.diagnose(5, CASES[5].causes[CASES[5].answer].text), "right")


@pytest.mark.parametrize("nothing", [None, ...])
def test_not_attempted(clinic, nothing):
    assert said(clinic.diagnose(1, nothing), "not attempted", "by its letter")
    assert said(check_vital_signs(lambda images, masks, classes: nothing), "not attempted")
    assert said(check_round(clinic), "not attempted", "choose one")


def test_answers_and_names_that_are_none(clinic):
    assert said(clinic.diagnose(1, "e"), "wrong", "'e' is none of the causes")
    assert clinic.patient(1).points == 10
    with pytest.raises(ValueError, match="no patient has the number 35; there are 1 to 34"):
        clinic.patient(35)
    with pytest.raises(ValueError, match="no probe 'blood' for patient 1; there are mask_values, "):
        clinic.patient(1).probe("blood")


@each_case
def test_each_cause_says_why(case):
    for letter, cause in case.causes.items():
        assert said(Clinic().diagnose(case.number, letter), "right" if cause.is_right else "wrong", cause.why)


def test_the_card_and_the_symptom_as_text(clinic):
    visit = clinic.patient(1)
    assert "The loss below zero" in repr(visit) and "mask_values 1" in repr(visit) and "code 3" in repr(visit)
    assert "below zero" in repr(visit.symptom()) and "Dice: 1.9" in repr(visit.symptom())
    html = card_html(visit.case, visit.probes().values(), 3)
    assert all(cause.text.split()[0] in html for cause in visit.case.causes.values())
    assert not any(cause.why in html for cause in visit.case.causes.values())


def test_a_page_without_widgets_holds_all_patients_with_their_answers_folded():
    html = static_html()
    assert html.count("Answer and cure") == 34
    assert "https://github.com/milesial/Pytorch-UNet/issues/173" in html


@pytest.mark.parametrize("key", ["below_zero", "rims", "odd_size", "last_batch", "rising_loss"])
def test_figures(key):
    case = BY_KEY[key]
    assert to_png(draw(case, case.run(), case.run(cured=True))).startswith(b"\x89PNG")


# ------------------------------------------------------------------------------------------------------------- exercises


def see(clinic, numbers, probes=("warnings",), guesses=0):
    for number in numbers:
        visit = clinic.patient(number)
        for name in probes:
            visit.probe(name)
        for letter in sorted(set("abcd") - {visit.case.answer})[:guesses]:
            visit.diagnose(letter)
        visit.diagnose(visit.case.answer)


def test_a_round(clinic):
    see(clinic, range(1, 4))
    assert said(check_round(clinic, known=[1]), "wrong", "2 of 10 patients")
    assert said(check_round(clinic, known=[1]), "wrong", "patient 4")
    see(clinic, range(4, 12))
    assert said(check_round(clinic, known=[1]), "right", "10 diagnoses at 9.0 of 10")


def test_a_round_of_guesses_and_one_of_probes(clinic):
    see(clinic, range(1, 11), guesses=2)
    assert said(check_round(clinic), "wrong", "you named causes before you had a finding")
    bought = Clinic()
    for number in range(1, 11):
        see(bought, [number], probes=bought.patient(number).probes())
    assert said(check_round(bought), "wrong", "you bought many probes")


def signs(**leave_out):
    """A right answer to the second exercise, without some of its parts."""

    def function(images, masks, classes):
        found = {
            "nan": not images.isfinite().all(),
            "shape": masks.shape != images[:, 0].shape,
            "count": len(masks) != len(images),
            "values": not set(masks.unique().tolist()) <= set(range(classes)),
            "empty": not (masks > 0).any() and not (masks < 0).any(),
        }
        return [name for name, bad in found.items() if bad and name not in leave_out]

    return function


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (signs(values=0), "it says nothing about masks of 0 and 255"),
        (signs(nan=0), "it says nothing about an image with nan"),
        (signs(empty=0), "it says nothing about masks without any object"),
        (signs(shape=0), "it says nothing about masks of another height"),
        (lambda images, masks, classes: ["no"], "it complains about a healthy set of two classes"),
        (
            lambda i, m, c: ["2"] * bool(m.max() >= 2) + ["e"] * bool((m.flatten(1).sum(1) == 0).any()),
            "it complains about a healthy set of three",
        ),
        (
            lambda i, m, c: ["v"] * bool(m.max() >= c) + ["e"] * bool((m.flatten(1).sum(1) == 0).any()),
            "it complains about a set in which one image of two has no object",
        ),
        (lambda i, m, c: ["t"] * (m.dtype != torch.long), "it complains about a healthy set with masks of type float"),
        (lambda i, m, c: ["v"] * bool(m.max() >= c), "a value of -1"),
        (lambda i, m, c: ["v"] * bool(m.max() >= c or m.min() < 0), "values between the classes"),
        (lambda i, m, c: 1 / 0, "it fails (ZeroDivisionError"),
        (lambda i, m, c: True, "it returns a bool"),
    ],
)
def test_wrong_vital_signs(function, message):
    assert said(check_vital_signs(function), "wrong", message)


def test_right_vital_signs():
    assert said(check_vital_signs(signs()), "right", "silent on four healthy sets")


# ------------------------------------------------------------------------------------------------------------ the notebook


def test_the_folded_solutions_are_right():
    assert said(check_vital_signs(solved_by("05b_bug_clinic")["vital_signs"]), "right")


def test_every_choice_of_the_quiz_says_why():
    questions = [c.source for c in nbformat.read(NOTEBOOK, as_version=4).cells if c.id.startswith("quiz-")]
    assert len(questions) >= 5
    for question in questions:
        choices = question.split("<details>")[1:]
        assert len(choices) >= 2
        assert sum("\n✓ " in choice for choice in choices) == 1
        assert all(len(choice.split("</summary>")[1].split()) > 8 for choice in choices)

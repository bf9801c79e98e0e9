"""The early-stopping simulator: the same answers as the replay and torch's plateau, drawing, and the classic mistakes."""

import math

import lab_records
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab_records import dead_text, series, touch

from unetlab.early_stopping import replay_early_stopping
from unetlab.lab.stopping_simulator import (
    DRAWN,
    FLAT,
    LR,
    RISING,
    SKETCHES,
    Rule,
    StoppingSimulator,
    advice,
    drawn,
    reading,
    simulate,
)

CURVES = st.lists(st.floats(0, 10), min_size=1, max_size=40)


@pytest.fixture
def simulator():
    return StoppingSimulator(lab_records.stopping())


@given(CURVES, st.integers(1, 12), st.sampled_from([0.0, 0.01, 0.5]), st.sampled_from(["min", "max"]))
def test_plain_rules_agree_with_the_replay(curve, patience, min_delta, mode):
    outcome = simulate(curve, Rule(patience, min_delta, mode))
    replay = replay_early_stopping(curve, patience, min_delta, mode)
    assert outcome.stopped == (None if replay.stopped_epoch is None else replay.stopped_epoch + 1)
    assert (outcome.kept, outcome.value) == (replay.best_epoch + 1, replay.best_value)
    assert (outcome.regret, outcome.saved) == (replay.regret, replay.epochs_saved)


@given(CURVES, st.integers(1, 10), st.integers(1, 8), st.floats(0, 0.9))
def test_invariants(curve, interval, patience, smoothing):
    if interval > len(curve):
        interval = len(curve)
    outcome = simulate(curve, Rule(patience, interval=interval, smoothing=smoothing))
    assert outcome.epochs == [interval * (i + 1) for i in range(len(outcome.epochs))]
    assert outcome.regret >= 0
    assert outcome.value == curve[outcome.kept - 1]
    assert max(outcome.waits) <= patience
    assert outcome.saved == (0 if outcome.stopped is None else len(curve) - outcome.stopped)


def test_plateau_with_patience_2_acts_on_the_fourth_equal_value():
    """After each evaluation torch's recorded trace is 1 1 1 .1 .1 .1 .01 .01 .01 .001; it acts on the epoch after."""
    outcome = simulate([0.5] * 10, Rule(patience=60, plateau_patience=2))
    assert [round(math.log10(rate / LR)) for rate in outcome.rates] == [0, 0, 0, 0, -1, -1, -1, -2, -2, -2]
    assert outcome.bad == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]


def test_mode_min_on_a_rising_dice_cuts_the_rate():
    """torch's recorded trace with the default mode and patience 3 is 1 1 1 1 .1 .1 .1 .1 .01 .01"""
    rising = [0.1 * i for i in range(1, 11)]
    outcome = simulate(rising, Rule(patience=60, mode="min", plateau_patience=3))
    assert [round(math.log10(rate / LR)) for rate in outcome.rates] == [0, 0, 0, 0, 0, -1, -1, -1, -1, -2]
    assert simulate(rising, Rule(patience=60, mode="max", plateau_patience=3)).drops == 0


@pytest.mark.parametrize(("patience", "drops"), [(10, 0), (11, 0), (12, 1), (22, 1), (23, 2)])
def test_equal_patience_stops_before_the_rate_ever_falls(patience, drops):
    """Plateau with patience 10 lowers the rate at the 11th bad evaluation; the run must still train after it."""
    outcome = simulate([0.5] * 60, Rule(patience=patience, plateau_patience=10))
    assert outcome.stopped == patience + 1
    assert outcome.drops == drops


@pytest.mark.parametrize(("cooldown", "cuts"), [(0, [4, 7, 10, 13, 16]), (1, [4, 8, 12, 16]), (3, [4, 10, 16])])
def test_cooldown_is_not_counted(cooldown, cuts):
    outcome = simulate([0.5] * 16, Rule(patience=60, plateau_patience=2, cooldown=cooldown))
    assert outcome.cuts == cuts
    assert outcome.drops == len(cuts) - 1  # no epoch is trained after the last one


def test_a_reading_says_what_both_machines_made_of_an_evaluation():
    rule = Rule(patience=5, plateau_patience=2, interval=2)
    outcome = simulate([0.5] * 20, rule)
    assert reading(outcome, rule, 1) == "Epoch 1: nothing evaluated yet"
    assert reading(outcome, rule, 3).startswith("Evaluated at epoch 2: 0.5. Early stopping: a new best. Plateau: 0 bad")
    assert "Early stopping: wait 2 of 5. Plateau: 2 bad, it cuts at 3" in reading(outcome, rule, 6)
    assert "wait 3 of 5. Plateau: it cuts the rate and counts from 0" in reading(outcome, rule, 8)
    assert "wait 5 of 5, so the run stops" in reading(outcome, rule, 12)


def test_the_cursor_reads_the_counters(simulator):
    touch(simulator, "look", 24)
    assert "Evaluated at epoch 24: 0.24. Early stopping: wait 4 of 10" in simulator._instrument.caption[0][0]
    assert simulator._instrument.panels[1]["marks"][0]["x"] == 24
    touch(simulator, "patience", 2)  # the run ends at 22, and the cursor with it
    assert simulator._instrument.values["look"] == 22
    assert "so the run stops" in simulator._instrument.caption[0][0]


def test_sketches_show_the_traps_and_can_be_drawn_on(simulator):
    touch(simulator, "curve", RISING)
    assert (simulator.outcomes[DRAWN].kept, simulator.outcomes[DRAWN].drops) == (1, 1)
    assert simulator.outcomes[DRAWN].regret > 0.7
    assert "where larger is better" in simulator._instrument.status["problem"]
    touch(simulator, "mode", "max")
    assert (simulator.outcomes[DRAWN].kept, simulator.outcomes[DRAWN].drops) == (60, 0)
    touch(simulator, "curve", FLAT)
    touch(simulator, "mode", "min")
    touch(simulator, "draw", [30, 0.1, True])
    assert simulator._instrument.values["curve"] == DRAWN
    assert simulator._shown() == [0.5] * 29 + [0.1] + [0.5] * 30
    assert SKETCHES[FLAT] == [0.5] * 60


def test_patience_counts_evaluations():
    """Evaluated every 10 epochs, patience 3: the run trains 40 epochs at least."""
    assert simulate([0.5] * 60, Rule(patience=3, interval=10)).stopped == 40


def test_smoothing_looks_through_noise():
    noisy = [1 - 0.01 * epoch - 0.2 * (epoch == 5) for epoch in range(1, 41)]  # one lucky evaluation
    plain, smooth = (simulate(noisy, Rule(patience=3, smoothing=weight)) for weight in (0.0, 0.9))
    assert (plain.stopped, plain.kept) == (8, 5)
    assert smooth.stopped is None
    assert smooth.monitored[1] == pytest.approx(0.9 * noisy[0] + 0.1 * noisy[1])
    assert smooth.value == noisy[smooth.kept - 1]  # the weights kept are of an epoch, not of an average


def test_a_stroke_changes_the_epochs_between_its_ends():
    flat = [0.5] * 10
    assert drawn(flat, (2, 0.2), (4, 0.4)) == pytest.approx([0.5, 0.2, 0.3, 0.4] + [0.5] * 6)
    assert drawn(flat, (4, 0.4), (2, 0.2)) == drawn(flat, (2, 0.2), (4, 0.4))
    assert drawn(flat, (3.2, 0.1), (2.9, 0.1)) == [0.5, 0.5, 0.1] + [0.5] * 7
    assert drawn(flat, (10, 0.1), (10, -3)) == [0.5] * 9 + [0.0]


def test_advice_names_the_mistakes():
    assert advice(Rule(patience=10, plateau_patience=4), "min") is None
    assert "ends the run before plateau (patience 10)" in advice(Rule(10, plateau_patience=10), "min")
    assert "Mode min, where larger is better" in advice(Rule(mode="min"), "max")


def test_regret_is_counted_the_right_way_although_the_rule_is_not():
    rising = [0.1, 0.2, 0.9]
    assert simulate(rising, Rule(mode="min"), better="max").regret == pytest.approx(0.8)
    assert simulate(rising, Rule(mode="min")).regret == 0


def test_controls_move_the_rule_and_the_outcomes(simulator):
    touch(simulator, "patience", 5)
    assert simulator.rule == Rule(patience=5)
    assert {seed: o.stopped for seed, o in simulator.outcomes.items()} == {0: 25, 1: 35}
    table = {row[0]: row[1:] for row in simulator._instrument.table}
    assert table["Stopped after epoch"] == ["25", "35"]
    assert table["Best kept: epoch"] == ["20", "30"]
    assert table["Epochs saved of 60"] == ["35", "25"]
    assert (
        "Stops after epoch 25 of 60; keeps epoch 20 (0.2000), the best epoch of all"
        in simulator._instrument.status["text"]
    )
    touch(simulator, "seed", "1")
    assert simulator._instrument.status["text"].startswith("Stops after epoch 35")


def test_the_mode_follows_the_monitor_and_can_be_set_wrong(simulator):
    touch(simulator, "monitor", "Validation Dice")
    assert simulator.rule.mode == "max"
    assert simulator.outcomes[0].kept == 20
    touch(simulator, "mode", "min")
    assert (simulator.outcomes[0].stopped, simulator.outcomes[0].kept) == (11, 1)
    assert "where larger is better" in simulator._instrument.status["problem"]
    assert simulator.outcomes[0].regret == pytest.approx(0.19)


def test_both_counters_are_drawn_against_their_patience(simulator):
    touch(simulator, "patience", 8)
    assert series(simulator, 1, "early stopping: wait")[1].tolist() == [0] * 20 + list(range(1, 9))
    assert series(simulator, 1, "plateau: bad evaluations")[1].tolist() == [0] * 20 + [1, 2, 3, 4, 0, 1, 2, 3]
    lines = [s["y"] for s in simulator._instrument.panels[1]["series"]]
    assert len(lines) == 4


def test_marks_say_where_it_stops_and_what_it_keeps(simulator):
    assert [mark["text"] for mark in simulator._instrument.panels[0]["marks"]] == ["keeps 20", "stops after 30"]
    touch(simulator, "patience", 60)
    assert [mark["text"] for mark in simulator._instrument.panels[0]["marks"]] == ["keeps 20"]


def test_drawing_on_a_recorded_curve_makes_it_yours(simulator):
    touch(simulator, "draw", [40, 0.05, True])
    touch(simulator, "draw", [44, 0.09, False])
    assert simulator._instrument.values["curve"] == DRAWN
    shown = simulator._shown()
    assert shown[39:44] == pytest.approx([0.05, 0.06, 0.07, 0.08, 0.09])
    assert shown[:39] == lab_records.stopping()["runs"][0]["val_loss"][:39]
    touch(simulator, "draw", [2, 0.7, True])  # the pen was lifted: no line from 44 to 2
    assert simulator._shown()[20:39] == shown[20:39]
    assert list(simulator.outcomes) == [DRAWN]
    touch(simulator, "curve", "Valley")
    assert simulator._shown() == lab_records.stopping()["runs"][0]["val_loss"]


def test_a_curve_can_be_drawn_from_the_keyboard(simulator):
    assert simulator._instrument.enabled == {"point": None, "height": None}
    touch(simulator, "curve", FLAT)
    assert simulator._instrument.enabled == {"point": None, "height": None, "seed": None, "monitor": None}
    touch(simulator, "curve", DRAWN)
    assert simulator._instrument.enabled == {"seed": None, "monitor": None}
    touch(simulator, "point", 12)
    touch(simulator, "height", 0.01)
    assert simulator.outcomes[DRAWN].kept == 12
    assert simulator._instrument.values["height"] == 0.01


def test_text_where_widgets_are_dead(simulator):
    assert dead_text(simulator) == "Early-stopping simulator: run this cell to use it"

"""The budget race: the three axes against the record, the standings, and that the ranking may flip."""

import time

import numpy as np
import pytest
from lab_records import HEAD, dead_text, series, touch

from unetlab.lab.budget_race import BudgetRace, along, at_budget, standings
from unetlab.lab.records import load_record


def run(batch, lr, seed, last):
    """Ten steps of a runner whose Dice ends at ``last``; a step of one image takes 0.1 s, and of eight 0.2 s."""
    step = [1, 2, 5, 10]
    seconds = [(0.1 if batch == 1 else 0.2) * s for s in step]
    dice = [last * s / 10 + 0.01 * seed for s in step]
    loss = [1 - d for d in dice]
    key = {"batch": batch, "lr": lr, "seed": seed}
    return key | {"step": step, "seconds": seconds, "train_loss": loss, "val_loss": loss, "val_dice": dice}


@pytest.fixture
def record():
    """Batch 8 learns more a step, batch 1 more an epoch; a higher rate makes batch 8 better still."""
    runs = [
        run(b, lr, s, d) for b, lr, d in ((1, 0.01, 0.4), (1, 0.1, 0.2), (8, 0.01, 0.59), (8, 0.1, 0.9)) for s in (0, 1)
    ]
    return HEAD | {"settings": HEAD["settings"] | {"images": 8}, "runs": runs}


@pytest.fixture
def race(record):
    return BudgetRace(record)


@pytest.mark.parametrize(
    ("axis", "small", "large"),
    [
        ("Epochs", [0.125, 0.25, 0.625, 1.25], [1, 2, 5, 10]),
        ("Steps", [1, 2, 5, 10], [1, 2, 5, 10]),
        ("Seconds", [0.1, 0.2, 0.5, 1.0], [0.2, 0.4, 1.0, 2.0]),
    ],
)
def test_the_axes(record, axis, small, large):
    assert along(record["runs"][0], axis, 8) == pytest.approx(small)
    assert along(record["runs"][4], axis, 8) == pytest.approx(large)


def test_between_two_evaluations_a_line_in_the_logarithm(record):
    first = record["runs"][0]
    assert at_budget(first, "val_dice", "Steps", 5, 8) == pytest.approx(0.2)
    assert at_budget(first, "val_dice", "Steps", 50**0.5, 8) == pytest.approx(0.3)


@pytest.mark.parametrize("budget", [0.9, 10.1])
def test_beyond_what_was_recorded_nothing_is_known(record, budget):
    assert np.isnan(at_budget(record["runs"][0], "val_dice", "Steps", budget, 8))


def test_the_ranking_flips(race):
    touch(race, "budget", 1.0)
    assert [batch for batch, _ in standings(race.racing, "Epochs", 1.0, 8)] == [1, 8]
    assert "Epochs: 1 for each. Validation Dice: batch 1 0.3" in race._instrument.status["text"]
    touch(race, "axis", "Steps")
    touch(race, "budget", 10.0)
    assert race._instrument.status["text"].endswith("batch 8 0.59, batch 1 0.41.")
    assert [row[0] for row in race._instrument.table[1:]] == ["batch 8", "batch 1"]


def test_another_axis_has_its_own_budget_and_range(race):
    touch(race, "axis", "Seconds")
    assert (race.axis, race.budget) == ("Seconds", 3.0)
    assert race._instrument.ranges["budget"] == pytest.approx([0.1, 2.0])
    assert race._instrument.panels[0]["xlabel"] == "processor seconds (log)"
    assert race._instrument.panels[0]["xlim"] == pytest.approx([-1, np.log10(2)])


def test_a_rate_for_each_runner(race):
    assert race.rates == {1: 0.01, 8: 0.01}
    touch(race, "axis", "Steps")
    touch(race, "budget", 10.0)
    touch(race, "8", "0.1")
    assert race._instrument.values["8"] == "0.1"
    x, y = series(race, 0, "batch 8")
    assert 10 ** x[-1] == pytest.approx(10)
    assert y[-1] == pytest.approx(0.905)
    assert race._instrument.table[1] == ["batch 8", "0.905", "0.90 to 0.91", "0.09", "0.09", "10"]


def test_a_runner_can_stay_out(race):
    touch(race, "1", "not in the race")
    assert list(race.racing) == [8]
    touch(race, "8", "not in the race")
    assert race._instrument.status["text"] == "Epochs: 3 for each. No chosen run was recorded there."
    assert race._instrument.panels[0]["series"] == []


def test_a_budget_that_a_runner_never_had_is_said(race):
    touch(race, "budget", 8.0)  # epochs: batch 1 was recorded for 1.25
    assert race._instrument.table[2][:2] == ["batch 1", "not recorded there"]
    assert "batch 1" not in race._instrument.status["text"]


def test_the_shipped_record_is_replayed_at_once():
    race = BudgetRace()
    assert list(race.rates) == [1, 4, 16, 96]
    started = time.perf_counter()
    for axis in ("Steps", "Seconds", "Epochs"):
        touch(race, "axis", axis)
        assert [row[0] for row in race._instrument.table[1:]].count("batch 96") == 1
    assert (time.perf_counter() - started) / 3 < 0.1
    order = [batch for batch, _ in standings(race.racing, "Epochs", 3, 96)]
    assert order == [1, 4, 16, 96]


def test_seeds_are_thin_lines_and_losses_come_in_pairs(race):
    dice, losses = race._instrument.panels
    assert [line["width"] for line in dice["series"]] == [2.5, 1, 1] * 2
    assert [line["width"] for line in losses["series"]] == [2.5, 1] * 2


def test_text_where_widgets_are_dead(race):
    assert dead_text(race) == "Budget race: run this cell to use it"


def test_recorded_numbers_are_plausible():
    record = load_record("batch_size")
    assert record["settings"]["images"] == 96
    for run in record["runs"]:
        columns = np.array([run[name] for name in ("step", "seconds", "train_loss", "val_loss", "val_dice")])
        assert np.isfinite(columns).all()
        assert (np.diff(columns[:2]) > 0).all(), "steps and seconds only grow"
        assert (columns[4] >= 0).all() and (columns[4] <= 1).all()
        assert run["step"][0] <= 12 and run["step"][-1] >= 48
        assert run["step"][-1] * run["batch"] >= 3 * 96, "three epochs, the budget at which the race starts"

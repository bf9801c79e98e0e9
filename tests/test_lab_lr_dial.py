"""The learning-rate dial: which recorded runs it shows, what it says of them, and runs that diverged."""

import lab_records
import numpy as np
import pytest
from lab_records import dead_text, series, touch

from unetlab.lab.lr_dial import START, LRDial, describe, last_dice
from unetlab.lab.lr_finder_view import sweep

RECORD = lab_records.lr_finder()


@pytest.fixture
def dial():
    return LRDial(record=RECORD)


def test_a_run_that_diverged_has_no_dice():
    assert last_dice(sweep(RECORD, "SGD")[1e-3]) == pytest.approx([0.8, 0.82])
    assert np.isnan(last_dice(sweep(RECORD, "SGD")[1e-2])).all()


def test_it_says_what_became_of_the_seeds():
    text = describe("SGD", 1e-2, sweep(RECORD, "SGD")[1e-2])
    assert text == "SGD at 0.01. 2 of 2 seeds diverged, in step 4, 4."
    text = describe("AdamW", 1e-3, sweep(RECORD)[1e-3])
    assert text == "AdamW at 0.001. Validation Dice after 2 epochs: 0.80 to 0.82."


def test_it_starts_low_with_adamw(dial):
    assert (dial.setup, dial.pick) == ("AdamW", START)
    assert {run["base_lr"] for run in dial.runs} == {1e-4}
    assert "recorded at 0.0001" in dial._instrument.panels[0]["title"]


def test_the_dial_and_the_chart_turn_it(dial):
    touch(dial, "pick", 2e-3)
    assert {run["base_lr"] for run in dial.runs} == {1e-3}
    touch(dial, "drag", [-2.1, 0.5, True])
    assert dial.pick == pytest.approx(10**-2.1)
    assert {run["base_lr"] for run in dial.runs} == {1e-2}
    assert dial._instrument.values["pick"] == dial.pick
    assert dial._instrument.table[1] == ["seed 0", "1.5", "0.8", "0.900"]


def test_another_set_up_shows_its_own_runs(dial):
    touch(dial, "setup", "SGD")
    touch(dial, "pick", 1.0)
    assert {(run["setup"], run["base_lr"]) for run in dial.runs} == {("SGD", 1e-2)}
    assert dial._instrument.table[2] == ["seed 1", "1.5", "1.1", "diverged in step 4"]
    steps, loss = series(dial, 0, "seed 0")
    assert steps.tolist() == [1, 2, 3]
    assert loss == pytest.approx([1.5, 1.2, 1.1])
    assert dial._instrument.panels[0]["xlim"] == [0, 6]


def test_both_hills_are_drawn_and_end_where_runs_diverge(dial):
    x, y = series(dial, 1, "SGD, mean")
    assert 10**x == pytest.approx([1e-4, 1e-3, 1e-2])
    assert y[:2] == pytest.approx([0.41, 0.81])
    assert np.isnan(y[2])
    assert series(dial, 1, "AdamW, mean")[1] == pytest.approx([0.51, 0.81, 0.91])


def test_the_guess_is_marked_and_none_is_not():
    assert [m["text"] for m in LRDial(0.02, RECORD)._instrument.panels[1]["marks"]] == [
        "dial 0.0001",
        "your guess 0.02",
    ]
    assert len(LRDial(None, RECORD)._instrument.panels[1]["marks"]) == 1


def test_the_shipped_record_has_three_set_ups():
    dial = LRDial()
    assert list(dial._sweeps) == ["AdamW", "SGD", "SGD, no norm"]
    touch(dial, "setup", "SGD, no norm")
    touch(dial, "pick", 10.0)
    assert "3 of 3 seeds diverged" in dial._instrument.status["text"]


def test_text_where_widgets_are_dead(dial):
    assert dead_text(dial) == "Learning-rate dial: run this cell to use it"

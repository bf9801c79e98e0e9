"""The imbalance dial: recorded runs by their loss, and what the charts and the table say at an epoch."""

import time

import numpy as np
import pytest
from lab_records import HEAD, dead_text, series, touch

from unetlab.lab.imbalance_dial import ImbalanceDial, at_epoch, by_loss
from unetlab.lab.records import load_record


def run(loss, lr, seed):
    """Ten epochs in which Dice grows to 0.5 (CE) or 0.9, plus 0.02 for seed 1; alarms on a tenth, or on all, images."""
    end = (0.5 if loss == "CE" else 0.9) + 0.02 * seed
    columns = {"pooled_dice": np.linspace(0, end, 10).tolist(), "false_alarms": [0.1 if loss == "CE" else 1.0] * 10}
    return {"loss": loss, "base_lr": lr, "seed": seed} | columns


RECORD = HEAD | {"runs": [run(*key, seed) for key in (("CE", 1e-3), ("Dice", 1e-3), ("CE", 3e-3)) for seed in (0, 1)]}


@pytest.fixture
def dial():
    return ImbalanceDial(RECORD)


def test_runs_by_their_loss_and_by_a_rate_that_is_not_the_usual_one():
    groups = by_loss(RECORD)
    assert list(groups) == ["CE", "Dice", "CE, rate 0.003"]
    assert groups["CE"]["pooled_dice"].shape == groups["CE"]["false_alarms"].shape == (2, 10)


def test_the_numbers_of_an_epoch():
    groups = by_loss(RECORD)
    assert at_epoch(groups["CE"], 10) == ["0.51", "0.50", "0.52", "10%"]
    assert at_epoch(groups["Dice"], 1) == ["0.00", "0.00", "0.00", "100%"]


def test_it_begins_with_two_losses_at_the_last_epoch(dial):
    assert (dial.first, dial.second, dial.epoch) == ("CE", "Dice", 10)
    assert dial._instrument.values == {"first": "CE", "second": "Dice", "epoch": 10}


def test_the_thick_line_is_the_mean_of_the_runs(dial):
    epochs, mean = series(dial, 0, "Dice, mean of 2")
    assert epochs.tolist() == list(range(1, 11))
    assert mean == pytest.approx(np.linspace(0, 0.91, 10), abs=1e-6)
    assert series(dial, 1, "CE, mean of 2")[1] == pytest.approx(np.full(10, 0.1))


def test_an_epoch_moves_the_mark_and_the_table(dial):
    touch(dial, "epoch", 1)
    assert [panel["marks"][0]["x"] for panel in dial._instrument.panels] == [1, 1]
    assert dial._instrument.table[0][0] == "After epoch 1"
    assert dial._instrument.table[1][1] == "0.00"


def test_another_loss_is_shown(dial):
    touch(dial, "second", "CE, rate 0.003")
    assert [row[0] for row in dial._instrument.table[1:]] == ["CE", "CE, rate 0.003"]
    assert len(series(dial, 0, "CE, rate 0.003, mean of 2")[0]) == 10


def test_the_label_of_a_chart_says_where_the_curves_are(dial):
    assert dial._instrument.panels[0]["label"].endswith("after epoch 10, means: CE 0.51, Dice 0.91")


def test_a_touch_takes_less_than_100_ms_on_the_real_record():
    dial = ImbalanceDial()
    started = time.process_time()
    for epoch in range(1, 11):
        touch(dial, "epoch", epoch)
    assert (time.process_time() - started) / 10 < 0.1


def test_the_record_holds_what_the_page_needs():
    groups = by_loss(load_record("imbalance"))
    assert {"CE", "CE, weight 20", "Dice", "CE + Dice"} < set(groups)
    for columns in groups.values():
        assert all(((values >= 0) & (values <= 1)).all() for values in columns.values())


def test_text_where_widgets_are_dead(dial):
    assert dead_text(dial) == "Imbalance dial: run this cell to use it"

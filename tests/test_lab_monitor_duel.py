"""The duel of two monitors: the same answers as the replay, the flags, the judge, and the table over the seeds."""

import time

import numpy as np
import pytest
from lab_records import HEAD, dead_text, series, touch

from unetlab.early_stopping import replay_early_stopping
from unetlab.lab.monitor_duel import MonitorDuel, obey


def run(name, seed):
    """Sixty epochs: the loss turns at epoch 20 (seed 1: 22), Dice at 40; the test Dice grows by 0.01 an epoch."""
    epochs = np.arange(1, 61)
    loss = 0.2 + 0.01 * np.abs(epochs - 20 - 2 * seed)
    dice = 0.9 - 0.01 * np.abs(epochs - 40)
    columns = {"train_loss": 1 / epochs, "val_loss": loss, "val_dice": dice, "test_dice": 0.01 * epochs}
    return {"run": name, "seed": seed} | {column: values.tolist() for column, values in columns.items()}


def short(seed):
    """The first twenty epochs alone."""
    return {column: v[:20] if isinstance(v, list) else v for column, v in run("Short", seed).items()}


RUNS = [run(name, seed) for name in ("Plain", "Flips") for seed in (0, 1)]
RECORD = HEAD | {"runs": [*RUNS, short(0), short(1)]}


@pytest.fixture
def duel():
    return MonitorDuel(RECORD)


def marks(duel, panel):
    return {mark["text"]: mark["x"] for mark in duel._instrument.panels[panel]["marks"]}


@pytest.mark.parametrize("patience", [1, 5, 30, 60])
@pytest.mark.parametrize("monitor", ["Loss", "Dice"])
def test_without_smoothing_it_is_the_replay(monitor, patience):
    recorded = run("Plain", 0)
    column, mode = {"Loss": ("val_loss", "min"), "Dice": ("val_dice", "max")}[monitor]
    replay = replay_early_stopping(recorded[column], patience, mode=mode)
    kept = obey(recorded, monitor, patience)
    assert kept.epoch == replay.best_epoch + 1
    assert kept.stopped == (None if replay.stopped_epoch is None else replay.stopped_epoch + 1)
    assert kept.trained == 60 - replay.epochs_saved


def test_the_kept_network_is_judged_on_the_test_images():
    assert obey(run("Plain", 0), "Loss", 10).test_dice == pytest.approx(0.20)
    assert obey(run("Plain", 0), "Dice", 10).test_dice == pytest.approx(0.40)


def test_smoothing_stops_later_and_looks_through_one_lucky_epoch():
    recorded = run("Plain", 0)
    recorded["val_dice"][4] = 0.95
    assert obey(recorded, "Dice", 10).epoch == 5
    smoothed = obey(recorded, "Dice", 10, smoothing=0.9)
    assert (smoothed.stopped, smoothed.epoch) > (15, 5)


def test_the_first_epochs_can_be_passed_over():
    """A Dice that is 0 at first would end the run before it has begun."""
    recorded = run("Plain", 0)
    recorded["val_dice"][:15] = [0.02] + [0.0] * 14
    assert (obey(recorded, "Dice", 10).stopped, obey(recorded, "Dice", 10).epoch) == (11, 1)
    assert obey(recorded, "Dice", 10, start=15).epoch == 40


def test_each_monitor_has_its_two_flags_and_both_stand_on_the_judge(duel):
    assert marks(duel, 0) == {"keeps 20": 20, "stops after 30": 30}
    assert marks(duel, 1) == {"keeps 40": 40, "stops after 50": 50}
    assert marks(duel, 2) == {"Loss keeps 20": 20, "Dice keeps 40": 40}


def test_a_monitor_that_never_stops_has_one_flag(duel):
    touch(duel, "patience", 60)
    assert marks(duel, 0) == {"keeps 20": 20}
    assert duel.kept["Loss"].stopped is None
    assert "Loss: never stops, keeps epoch 20, test Dice 0.200." in duel._instrument.status["text"]


def test_the_table_holds_every_seed(duel):
    touch(duel, "seed", "1")
    assert marks(duel, 0) == {"keeps 22": 22, "stops after 32": 32}
    table = {row[0]: row[1:] for row in duel._instrument.table}
    assert table[""] == ["Seed 0", "Seed 1"]
    assert table["Loss: stopped after epoch"] == ["30", "32"]
    assert table["Dice: test Dice kept"] == ["0.400", "0.400"]
    assert table["Test Dice after the last epoch"] == ["0.600", "0.600"]


def test_smoothing_shows_what_the_monitor_sees(duel):
    names = [line["name"] for line in duel._instrument.panels[1]["series"]]
    assert names == ["validation Dice"]
    touch(duel, "smoothing", 0.5)
    _, seen = series(duel, 1, "what the monitor sees")
    recorded = run("Plain", 0)["val_dice"]
    assert seen[1] == pytest.approx((recorded[0] + recorded[1]) / 2)


def test_another_run_is_shown(duel):
    touch(duel, "run", "Flips")
    assert duel._instrument.values["run"] == "Flips"
    assert len(series(duel, 2, "test Dice")[0]) == 60


def test_a_short_run_is_looked_at_from_its_middle_at_the_latest(duel):
    touch(duel, "start", 40)
    touch(duel, "run", "Short")
    assert duel.start == duel._instrument.values["start"] == 10
    assert duel._instrument.ranges["start"] == [0, 10]
    assert duel.kept["Loss"].epoch == 20


def test_the_charts_say_what_their_curves_do(duel):
    labels = [panel["label"] for panel in duel._instrument.panels]
    assert labels[0] == "validation loss: from 0.390 to 0.600; the monitor keeps epoch 20"
    assert labels[2].startswith("Test Dice: ends at 0.600; Loss: stops after epoch 30")


def test_a_touch_takes_less_than_100_ms_on_the_real_record():
    duel = MonitorDuel()
    started = time.process_time()
    for patience in range(1, 11):
        touch(duel, "patience", patience)
    assert (time.process_time() - started) / 10 < 0.1


def test_text_where_widgets_are_dead(duel):
    assert dead_text(duel) == "Loss-against-Dice duel: run this cell to use it"

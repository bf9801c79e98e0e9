"""The stop-o-meter: the same answers as the replays of the package, on invented curves and on the recorded ones."""

import lab_records
import pytest
from lab_records import dead_text, series, touch

from unetlab.early_stopping import replay_early_stopping, replay_prechelt, smooth
from unetlab.lab.records import load_record
from unetlab.lab.stop_o_meter import FAMILIES, Criterion, StopOMeter, judge, replay


def stopping():
    """The invented curves with a training loss that keeps falling."""
    record = lab_records.stopping()
    for run in record["runs"]:
        run["train_loss"] = [1 / epoch for epoch in range(1, 61)]
    return record


@pytest.fixture
def meter():
    return StopOMeter(stopping())


def test_a_valley_by_hand():
    """The loss falls to 0.2 at epoch 20 and rises by 0.01 an epoch: GL is 5 % at 21, 10 % at 22."""
    valley = stopping()["runs"][0]
    assert judge(valley, Criterion("Patience", 5)) == (25 / 60, 0)
    assert judge(valley, Criterion("GL", 7)) == (22 / 60, 0)
    assert replay(valley, Criterion("PQ", 0.01)).stopped_epoch + 1 == 25  # the first strip that ends after the valley


@pytest.mark.parametrize("smoothing", [0.0, 0.8])
def test_the_criteria_are_those_of_the_package(smoothing):
    for run in load_record("stopping")["runs"][::4]:
        val, train = smooth(run["val_loss"], smoothing), smooth(run["train_loss"], smoothing)
        assert replay(run, Criterion("Patience", 4, smoothing)) == replay_early_stopping(val, 4)
        for family in ("GL", "PQ"):
            assert replay(run, Criterion(family, 0.3, smoothing)) == replay_prechelt(val, train, family, 0.3)


def test_slower_criteria_of_a_family_cost_more_and_lose_less_on_the_recorded_curves():
    runs = load_record("stopping")["runs"]
    for family, amounts in FAMILIES.items():
        spent, lost = zip(*(StopOMeter._mean(_of(runs), Criterion(family, amount)) for amount in amounts), strict=True)
        assert list(spent) == sorted(spent)
        assert list(lost) == sorted(lost, reverse=True)


def _of(runs):
    meter = StopOMeter.__new__(StopOMeter)
    meter._record = {"runs": runs}
    return meter


def test_the_controls_move_the_criterion(meter):
    touch(meter, "Patience", 3)
    assert meter.criterion == Criterion("Patience", 3)
    touch(meter, "family", "GL")
    assert meter.criterion == Criterion("GL", 5)
    assert meter._instrument.enabled == {"Patience": None, "PQ": None}
    touch(meter, "GL", 7)
    touch(meter, "smoothing", 0.5)
    assert meter.criterion == Criterion("GL", 7, 0.5)
    touch(meter, "family", "Patience")
    assert meter.criterion == Criterion("Patience", 3, 0.5)  # each family keeps its slider
    assert str(meter.criterion) == "Patience 3 evaluations, smoothed 0.5"


def test_the_table_and_the_status_tell_the_price(meter):
    touch(meter, "Patience", 5)
    table = {row[0]: row[1:] for row in meter._instrument.table}
    assert table["Valley"] == ["50%", "0.000"]  # 25 and 35 of 60 epochs
    assert table["Flat"] == ["10%", "0.000"]
    assert table["All curves"] == ["30%", "0.000"]
    assert "Patience 5 evaluations: spends 30% of the epochs" in meter._instrument.status["text"]


def test_the_charts_show_the_stop_and_the_price(meter):
    touch(meter, "Patience", 5)
    epochs, loss = series(meter, 0, "seed 0, keeps 20")
    assert epochs.tolist() == list(range(1, 26))
    assert loss[19] == pytest.approx(0.2)
    assert [float(part[0]) for part in series(meter, 1, "yours")] == pytest.approx([0.3, 0.0])
    assert len(series(meter, 1, "Patience (3, 5, 10, 20)")[0]) == 4
    touch(meter, "curve", "Flat")
    assert meter._instrument.panels[0]["label"] == "Flat: the seeds end at epochs 6 (stopped), 6 (stopped)"
    touch(meter, "Patience", 60)
    assert meter._instrument.panels[0]["label"] == "Flat: the seeds end at epochs 60 (the end), 60 (the end)"


def test_text_where_widgets_are_dead(meter):
    assert dead_text(meter) == "Stop-o-meter: run this cell to use it"

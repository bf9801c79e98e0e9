"""The finder's view: the pick, the suggestion, and the recorded runs nearest to it."""

import lab_records
import numpy as np
import pytest
from lab_records import dead_text, series, touch

from unetlab.lab.lr_finder_view import LRFinderView, describe, nearest_rate, recorded_test, sweep
from unetlab.lr_finder import RangeTest

RECORD = lab_records.lr_finder()


@pytest.fixture
def view():
    return LRFinderView(record=RECORD)


def test_the_recorded_test_is_a_range_test():
    test = recorded_test(RECORD)
    assert isinstance(test, RangeTest)
    assert test.suggestion == 1e-3
    assert test.lrs[test.smoothed.argmin()] == pytest.approx(1e-2, rel=0.3)


def test_runs_by_their_rate():
    assert {lr: len(runs) for lr, runs in sweep(RECORD).items()} == {1e-4: 2, 1e-3: 2, 1e-2: 2}


@pytest.mark.parametrize(("pick", "nearest"), [(1e-9, 1e-4), (3.1e-4, 1e-4), (3.3e-4, 1e-3), (10, 1e-2)])
def test_nearest_rate_is_on_a_log_scale(pick, nearest):
    assert nearest_rate([1e-4, 1e-3, 1e-2], pick) == nearest


@pytest.mark.parametrize(
    ("pick", "words"),
    [
        (1e-7, "below the rates that were tested"),
        (3e-6, "too low"),
        (1e-3, "on the falling side"),
        (0.1, "beyond the lowest loss: already too high"),
    ],
)
def test_it_says_where_the_pick_lies(pick, words):
    assert words in describe(recorded_test(RECORD), pick)


def test_an_early_end_is_said():
    test = RangeTest(np.array([1e-3, 1e-2, 1e-1]), np.ones(3), np.array([1, 0.5, 2]), 1e-2, "the loss became nan")
    assert "ended early: the loss became nan." in describe(test, 1e-2)


def test_the_pick_starts_at_the_suggestion_and_can_return_to_it(view):
    assert view.pick == 1e-3
    touch(view, "pick", 0.5)
    assert view.pick == view._instrument.values["pick"] == 0.5
    touch(view, "suggestion", True)
    assert view.pick == 1e-3


def test_dragging_on_the_chart_picks(view):
    touch(view, "drag", [-2.0, 0.7, True])
    assert view.pick == pytest.approx(1e-2)
    assert view._instrument.table[0][0] == "Recorded at 0.01, 2 epochs"
    assert view._instrument.table[-1] == ["mean", "0.100", "0.910"]
    assert view._instrument.panels[0]["marks"][0]["x"] == pytest.approx(-2)


def test_charts_show_the_test_and_the_sweep(view):
    x, y = series(view, 0, "smoothed")
    assert 10 ** x[y.argmin()] == pytest.approx(1e-2, rel=0.3)
    x, y = series(view, 1, "mean of the seeds")
    assert (x, y) == (pytest.approx([-4, -3, -2]), pytest.approx([0.51, 0.81, 0.91]))


def test_a_test_that_never_fell_has_no_suggestion():
    rising = RangeTest(np.geomspace(1e-6, 1, 10), np.arange(10.0), np.arange(10.0), None, None)
    view = LRFinderView(rising, RECORD)
    assert view.pick == 1e-6
    assert view._instrument.enabled == {"suggestion": False}
    assert [mark["text"] for mark in view._instrument.panels[0]["marks"]] == ["your pick 1e-06"]


def test_your_own_test_is_not_taken_for_the_recorded_network():
    assert "another network" in LRFinderView(recorded_test(RECORD), RECORD)._instrument.caption[0][0]
    assert "another network" not in LRFinderView(record=RECORD)._instrument.caption[0][0]


def test_text_where_widgets_are_dead(view):
    assert dead_text(view) == "Learning-rate finder: run this cell to use it"

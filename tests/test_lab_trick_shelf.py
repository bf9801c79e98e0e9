"""The trick shelf: its numbers are those of the paired t, a row appears only after its prediction, the bill adds up."""

import re
import time

import numpy as np
import pytest
from lab_records import HEAD
from scipy import stats

from unetlab.lab.records import load_record
from unetlab.lab.trick_shelf import REACH, WIDTH, TrickShelf, drawing, measure

VIEW = "application/vnd.jupyter.widget-view+json"
GAINS = {
    "baseline": (0, 0, 0),
    "sure": (0.02, 0.03, 0.025),
    "bad <b>": (-0.03, -0.03, -0.02),
    "moody": (0.03, -0.03, 0.01),
}


@pytest.fixture
def record():
    """Three tricks on three seeds; "sure" trains twice as long as the baseline and predicts eight times as long."""
    runs = []
    for trick, gains in GAINS.items():
        slow = (2.0, 8.0) if trick == "sure" else (1.0, 1.0)
        for seed, gain in enumerate(gains):
            run = {"trick": trick, "seed": seed, "test_dice": 0.7 + 0.02 * seed + gain}
            runs.append(run | {"train_seconds": slow[0] * (4 + seed), "predict_seconds": 0.1 * slow[1]})
    return HEAD | {"seeds": [0, 1, 2], "runs": runs}


@pytest.fixture
def shelf(record):
    return TrickShelf(record)


def choose(shelf, trick, word=None):
    shelf._choice.value = trick
    if word is not None:
        shelf._words[word].click()


def test_the_interval_is_that_of_the_paired_t(record):
    row = measure(record, "moody", 3)
    low, high = stats.ttest_1samp(GAINS["moody"], 0).confidence_interval(0.95)
    assert row.gains.mean() - row.half == pytest.approx(low) and row.gains.mean() + row.half == pytest.approx(high)


@pytest.mark.parametrize(("trick", "word"), [("sure", "helps"), ("bad <b>", "hurts"), ("moody", "no conclusion")])
def test_the_word_of_a_row(record, trick, word):
    assert measure(record, trick, 3).word == word


def test_the_price_is_a_multiple_of_the_baseline(record):
    assert measure(record, "sure", 3).training == pytest.approx(2)
    assert measure(record, "sure", 3).prediction == pytest.approx(8)


def test_a_row_comes_after_its_prediction_only(shelf):
    choose(shelf, "sure")
    assert "<svg" not in shelf._rows.value and "Say it first" in shelf._told.value
    choose(shelf, "sure", "hurts")
    assert shelf._rows.value.count("<svg") == 1 and "◀ hurts ✗" in shelf._rows.value
    assert "You said “hurts”; with 3 seeds it is “helps”. 0 of 1 predicted rightly." in shelf._told.value


def test_the_first_word_counts(shelf):
    choose(shelf, "sure", "hurts")
    assert all(button.disabled for button in shelf._words.values())
    shelf._predict("helps")
    assert shelf.predictions == {"sure": "hurts"}
    choose(shelf, "moody")
    assert not any(button.disabled for button in shelf._words.values())


def test_rows_keep_their_order_and_names_are_escaped(shelf):
    for trick in ("moody", "bad <b>"):
        choose(shelf, trick, "no conclusion")
    assert re.findall(r'scope="row".*?&ensp;(.*?)</th>', shelf._rows.value) == ["bad &lt;b&gt;", "moody"]
    assert "<b>" not in shelf._rows.value


def test_the_bill_holds_what_helps(shelf):
    for trick in shelf.tricks:
        choose(shelf, trick, "helps")
    assert "1 of 3 predicted rightly" in shelf._told.value
    assert "Bill of the 1 that help, if their extra times add up: training × 2.0, prediction × 8.0" in shelf._told.value


def test_with_fewer_seeds_less_can_be_said(shelf):
    choose(shelf, "sure", "helps")
    three = measure(shelf._record, "sure", 3).half
    shelf._seeds.value = 2
    assert shelf.seeds == 2 and measure(shelf._record, "sure", 2).half > 3 * three
    assert "with 2 seeds it is “no conclusion”" in shelf._told.value and "0 of 1" in shelf._told.value


def test_the_drawing_stays_inside_and_says_what_it_shows(record):
    row = measure(record, "moody", 2)
    assert row.half > 2 * REACH
    svg = drawing(row, "moody: no conclusion")
    assert 'role="img" aria-label="moody: no conclusion"' in svg
    ends = [float(x) for x in re.findall(r'(?:x1|x2|cx)="([-0-9.]+)"', svg)]
    assert min(ends) >= 0 and max(ends) <= WIDTH


def test_controls_have_names(shelf):
    assert shelf._choice.description == "Trick" and shelf._seeds.description == "Seeds"
    assert [b.description for b in shelf._words.values()] == ["▶ Helps", "◀ Hurts", "◆ No conclusion"]


def test_the_shipped_record_is_replayed_at_once():
    shelf = TrickShelf()
    assert len(shelf.tricks) == 13 and (shelf.seeds, shelf._seeds.max) == (5, 10)
    for trick in shelf.tricks:
        choose(shelf, trick, "no conclusion")
    started = time.process_time()
    for seeds in (2, 3, 5, 10):
        shelf._seeds.value = seeds
    assert (time.process_time() - started) / 4 < 0.1
    assert shelf._rows.value.count("<svg") == 13
    record = load_record("tricks")
    assert all(np.isfinite(measure(record, trick, 10).gains).all() for trick in shelf.tricks)


def test_text_where_widgets_are_dead(shelf):
    bundle = shelf._repr_mimebundle_()
    assert VIEW in bundle
    assert bundle["text/plain"] == "Trick shelf: 3 tricks, 0 predicted; run this cell to use it"

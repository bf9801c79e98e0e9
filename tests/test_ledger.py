"""The ledger: a row trains what it says, pairs and intervals are right, and the shipped record is that of its plan."""

from pathlib import Path

import make_records
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from scipy import stats

from unetlab import ledger
from unetlab.lab.records import load_record

ROOT = Path(__file__).parent.parent


@pytest.fixture
def quick(monkeypatch):
    """The same code on a few small pictures."""
    monkeypatch.setattr(ledger, "TASK", ledger.TASK | {"size": 16, "images": 6, "val_images": 2, "test_images": 4})
    monkeypatch.setattr(ledger, "BASELINE", ledger.BASELINE | {"epochs": 2, "batch_size": 3})


def made_up(**dice):
    """A record of rows a, b, ... on pages 01, 02c, ..., each against the one before."""
    names, pages = list(dice), ["01", "02c", "03c", "04b"]
    runs = [
        {"page": page, "row": name, "against": names[i - 1] if i else None, "changes": {"lr": i}, "seed": seed}
        | {"test_dice": values[seed], "epochs": 10 + seed, "seconds": 1.0 + i}
        for i, ((name, values), page) in enumerate(zip(dice.items(), pages, strict=False))
        for seed in reversed(range(3))  # rows sort them
    ]
    return {"runs": runs}


def test_the_same_seed_gives_the_same_run_and_another_seed_another(quick):
    one, again, other = (ledger.train(seed, lr=1e-2) for seed in (0, 0, 1))
    assert one["changes"] == {"lr": 1e-2} and one["epochs"] == 2 and one["seconds"] > 0
    assert one["test_dice"] == again["test_dice"] != other["test_dice"]
    assert 0 <= one["test_dice"] <= 1


def test_a_change_reaches_the_trainer(quick, monkeypatch):
    seen = {}

    class Watched(ledger.Trainer):
        def __init__(self, *arguments, **options):
            seen.update(options)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(ledger, "Trainer", Watched)
    ledger.train(3, loss="dice", batch_size=2, ema=0.9, patience=4)
    stopping = seen["early_stopping"]
    assert (seen["loss"], seen["batch_size"], seen["ema"], seen["seed"], seen["lr"]) == ("dice", 2, 0.9, 3, 1e-3)
    assert (stopping.monitor, stopping.mode, stopping.patience) == ("val_dice", "max", 4)
    assert stopping.restore_best_weights


def test_patience_ends_a_run_that_stands_still(quick):
    assert ledger.train(0, lr=1e-12, epochs=9, patience=2)["epochs"] < 9


def test_eight_views_train_the_same_and_predict_otherwise(quick, monkeypatch):
    asked = []
    views = ledger.average_views
    monkeypatch.setattr(ledger, "average_views", lambda *a: asked.append(1) or views(*a))
    ledger.train(0)
    assert not asked
    ledger.train(0, views=8)
    assert asked
    with pytest.raises(ValueError, match="views must be 1 or 8, not 4"):
        ledger.train(0, views=4)
    with pytest.raises(ValueError, match="unknown loss"):
        ledger.train(0, loss="nothing")


def test_train_draws_from_its_seed_alone(quick):
    torch.manual_seed(5)
    one = ledger.train(0)
    torch.manual_seed(6)
    assert ledger.train(0)["test_dice"] == one["test_dice"]


def test_rows_are_in_order_up_to_a_page_with_seeds_in_order():
    record = made_up(a=(0.5, 0.6, 0.7), b=(0.6, 0.7, 0.9), c=(0.7, 0.6, 0.8))
    table = ledger.rows(record, "02c")
    assert [(row.number, row.name, row.page, row.against) for row in table] == [
        (1, "a", "01", None),
        (2, "b", "02c", "a"),
    ]
    assert table[0].dice.tolist() == [0.5, 0.6, 0.7]
    assert (table[1].epochs, table[1].seconds, table[1].changes) == (11, 2, {"lr": 1})
    assert ledger.rows(record, "00") == []
    assert ledger.find(table, "b") is table[1]
    with pytest.raises(KeyError, match="no row 'c' in the ledger: choose one of a, b"):
        ledger.find(table, "c")


def test_a_gain_has_the_interval_of_a_paired_t_test():
    a, b = ledger.rows(made_up(a=(0.5, 0.6, 0.7), b=(0.6, 0.65, 0.9)), "05c")
    mean, half = ledger.gain(b, a)
    low, high = stats.ttest_rel(b.dice, a.dice).confidence_interval(0.95)
    assert mean == pytest.approx(0.35 / 3)
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_runs_agree_with_a_row_of_their_recipe():
    (row,) = ledger.rows(made_up(a=(0.59, 0.6, 0.61)), "05c")
    runs = [{"changes": {"lr": 0}, "test_dice": dice} for dice in (0.7, 0.6, 0.55)]
    assert ledger.agrees(runs, row)
    runs[0]["test_dice"] = 0.9
    assert not ledger.agrees(runs, row)
    (wide,) = ledger.rows(made_up(a=(0.5, 0.6, 0.7)), "05c")
    assert ledger.agrees(runs, wide)
    with pytest.raises(ValueError, match="recorded with {'lr': 0}, and you trained with {'lr': 1}"):
        ledger.agrees([{"changes": {"lr": 1}, "test_dice": 0.6}], row)


def test_the_picture_tells_a_clear_gain_a_clear_loss_and_neither():
    table = ledger.rows(made_up(a=(0.5, 0.6, 0.7), b=(0.6, 0.7, 0.81), c=(0.6, 0.71, 0.8), d=(0.5, 0.6, 0.71)), "05c")
    figure = ledger.plot(table, guess=0.4)
    (axis,) = figure.axes
    texts = {text.get_text(): text.get_color() for text in axis.texts}
    assert texts["+0.103 ± 0.014"] == "C2"  # green: clear of zero
    assert texts["-0.100 ± 0.025"] == "C1"
    assert [colour for text, colour in texts.items() if text.startswith("+0.000")] == ["0.45"]
    assert [label.get_text().split()[0] for label in axis.get_yticklabels()] == ["a", "b", "c", "d"]
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    assert [line.get_xdata().tolist() for line in dots] == [row.dice.tolist() for row in table]
    (diamond,) = [line for line in axis.lines if line.get_marker() == "D"]
    assert (float(diamond.get_xdata()[0]), float(diamond.get_ydata()[0])) == (0.4, 4)
    plt.close(figure)


def test_a_row_that_changed_nothing_is_neither():
    figure = ledger.plot(ledger.rows(made_up(a=(0.5, 0.6, 0.7), b=(0.5, 0.6, 0.7)), "05c"))
    assert {text.get_text(): text.get_color() for text in figure.axes[0].texts}["+0.000 ± 0.000"] == "0.45"
    plt.close(figure)


def test_without_a_guess_there_is_no_diamond_and_without_a_row_no_picture():
    figure = ledger.plot(ledger.rows(made_up(a=(0.5, 0.6, 0.7)), "05c"))
    assert all(line.get_marker() != "D" for line in figure.axes[0].lines)
    plt.close(figure)
    with pytest.raises(ValueError, match="no row to draw"):
        ledger.plot([])


# ---------------------------------------------------------------------------------------------- the shipped record


def test_the_record_is_that_of_its_plan():
    record = load_record("ledger", ROOT / "notebooks" / "records")
    keys = [key | {"seed": seed} for key, _ in make_records.ledger() for seed in ledger.SEEDS]
    assert [{part: run[part] for part in key} for key, run in zip(keys, record["runs"], strict=True)] == keys
    assert record["settings"].items() >= (ledger.TASK | ledger.BASELINE).items()
    table = ledger.rows(record, "05c")
    assert {row.page for row in table} == {"01", "02c", "03c", "04b", "05a", "05c"}
    assert table[0].against is None and table[0].changes == {}
    for row in table[1:]:  # a row changes one thing: an argument or two that belong together
        other = ledger.find(table, row.against).changes
        assert 1 <= len(row.changes.items() ^ other.items()) <= 2, row.name
        assert np.isfinite(row.dice).all() and row.seconds > 0


def test_a_recorded_run_can_be_made_again():
    row = ledger.rows(load_record("ledger"), "01")[0]
    again = ledger.train(ledger.SEEDS[0], **row.changes)
    assert abs(again["test_dice"] - row.dice[0]) < 2 * ledger.TOLERANCE

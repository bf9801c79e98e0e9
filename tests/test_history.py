"""The record of a run: rows, tables, JSON, and what becomes of NaN."""

import json
import math

import pandas as pd
import pytest
import torch

import unetlab as ul
from unetlab.history import environment


def recorded():
    history = ul.History({"torch": "2.x", "seed": 0})
    for epoch in (1, 2, 3):
        history.epochs.append(
            {
                "epoch": epoch,
                "train_loss": 1 / epoch,
                "val_loss": 2 / epoch,
                "val_dice": 0.1 * epoch,
                "val_iou": 0.05 * epoch,
                "lr": 0.1,
                "seconds": 1.5,
            }
        )
        for step in (2 * epoch - 2, 2 * epoch - 1):
            history.steps.append({"step": step, "epoch": epoch, "loss": 1 / (step + 1), "lr": 0.1})
    history.moves += [ul.Move(2, 2, "lr", 0.1, 0.01), ul.Move(4, 3, "lr", 0.01, None)]
    history.stop_reason = "stopped by hand at step 6"
    return history


def test_columns():
    history = recorded()
    assert len(history) == 3
    assert history.column("epoch") == [1, 2, 3]
    assert history.column("val_loss") == [2, 1, 2 / 3]
    with pytest.raises(KeyError, match="no column 'val_dicee' in the history: choose one of epoch, train_loss"):
        history.column("val_dicee")


def test_frame():
    frame = recorded().to_frame()
    assert frame.index.name == "epoch" and list(frame.index) == [1, 2, 3]
    assert list(frame.columns) == ["train_loss", "val_loss", "val_dice", "val_iou", "lr", "seconds"]
    assert frame.loc[2, "train_loss"] == 0.5
    assert isinstance(ul.History().to_frame(), pd.DataFrame) and ul.History().to_frame().empty


def test_json_round_trip(tmp_path):
    history = recorded()
    text = history.to_json(tmp_path / "history.json")
    again = ul.History.from_json(tmp_path / "history.json")
    assert json.loads(text) == json.loads((tmp_path / "history.json").read_text()) == history.to_dict()
    assert again.to_dict() == history.to_dict()
    assert again.moves == history.moves
    assert (again.environment, again.stop_reason) == (history.environment, history.stop_reason)


def test_json_is_the_promised_file():
    record = json.loads(recorded().to_json())
    assert record.keys() >= {"epochs", "moves", "environment"}
    assert record["epochs"][0].keys() == {"epoch", "train_loss", "val_loss", "val_dice", "val_iou", "lr", "seconds"}
    assert record["moves"][0] == {"step": 2, "epoch": 2, "name": "lr", "old": 0.1, "new": 0.01}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite(value):
    """JSON knows no NaN: other readers would refuse the file."""
    history = recorded()
    history.epochs[1]["val_loss"] = history.steps[3]["loss"] = value
    record = json.loads(history.to_json(), parse_constant=pytest.fail)
    assert record["epochs"][1]["val_loss"] is None and record["steps"][3]["loss"] is None
    again = ul.History.from_dict(record)
    assert math.isnan(again.epochs[1]["val_loss"]) and math.isnan(again.steps[3]["loss"])
    assert again.moves[1].new is None  # a released rate stays None


def test_truncated_is_a_copy():
    history = recorded()
    short = history.truncated(epochs=1, steps=2, moves=0)
    assert (len(short), len(short.steps), short.moves, short.stop_reason) == (1, 2, [], None)
    short.epochs[0]["val_loss"] = -1
    short.environment["seed"] = 9
    assert history.epochs[0]["val_loss"] == 2 and history.environment["seed"] == 0
    assert len(history) == 3


def test_repr():
    assert repr(ul.History()) == "History(no epoch yet)"
    assert repr(recorded()) == "History(3 epochs, val_loss 0.6667, val_dice 0.3000, stopped by hand at step 6)"


def test_moves_cannot_be_changed():
    with pytest.raises(AttributeError):
        recorded().moves[0].new = 1.0


def test_environment():
    facts = environment(torch.device("cpu"), seed=3)
    assert facts["torch"] == torch.__version__
    assert (facts["device"], facts["threads"], facts["seed"]) == ("cpu", torch.get_num_threads(), 3)
    assert json.loads(json.dumps(facts)) == facts

"""The hand on the run: what it may ask for, from any thread, and that a script is the same hand without a person."""

import json
import math
import threading
import time
from collections import Counter

import pytest
from tiny import EPOCHS, STEPS, differences, rich_trainer, script, trainer, whole

import unetlab as ul

ALL = ("lr", "weight_decay", "grad_clip", "patience", "min_delta")


def in_thread(run, epochs, **options):
    """Train in a background thread, as the live lab does."""
    thread = threading.Thread(target=run.fit, args=(epochs,), kwargs={"verbose": False} | options)
    thread.start()
    return thread


def finish(thread):
    thread.join(60)
    assert not thread.is_alive()


# -------------------------------------------------------------------------------------------------------- what is asked


@pytest.mark.parametrize(
    "changes",
    [
        {"lr": 1e-5},
        {"lr": 10},
        {"weight_decay": 0},
        {"grad_clip": None},
        {"grad_clip": 0.5},
        {"patience": 0},
        {"patience": 7.0},
        {"min_delta": 0.0},
        {"lr": 0.1, "patience": 3},
    ],
)
def test_what_makes_sense(changes):
    controls = ul.Controls(ALL)
    controls.set(**changes)
    assert controls.collect() == list(changes.items())
    assert controls.collect() == []


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"lr": 0}, "lr must be a finite learning rate above 0, not 0"),
        ({"lr": -1e-3}, "lr must be"),
        ({"lr": math.nan}, "lr must be"),
        ({"lr": math.inf}, "lr must be"),
        ({"lr": None}, "lr must be"),
        ({"lr": "fast"}, "lr must be"),
        ({"weight_decay": -0.1}, "weight_decay must be a finite number of at least 0"),
        ({"weight_decay": math.inf}, "weight_decay must be"),
        ({"grad_clip": 0}, "grad_clip must be a gradient norm above 0, or None"),
        ({"grad_clip": math.nan}, "grad_clip must be"),
        ({"patience": 2.5}, "patience must be a whole number of evaluations, at least 0"),
        ({"patience": -1}, "patience must be"),
        ({"patience": math.nan}, "patience must be"),
        ({"patience": math.inf}, "patience must be"),
        ({"patience": None}, "patience must be"),
        ({"min_delta": -1e-9}, "min_delta must be a finite number of at least 0"),
        ({"min_delta": "0"}, "min_delta must be"),
        ({"momentum": 0.5}, "'momentum' cannot be moved: choose one of lr, weight_decay, grad_clip, patience"),
        ({"lr": 0.1, "patience": -1}, "patience must be"),
    ],
)
def test_what_makes_none(changes, message):
    controls = ul.Controls(ALL)
    with pytest.raises(ValueError, match=message):
        controls.set(**changes)
    assert controls.collect() == []  # nothing of it, not even its good half


def test_pending_requests():
    controls = ul.Controls(ALL)
    controls.set(lr=0.1, patience=3)
    controls.set(lr=0.2)
    controls.release()
    assert controls.pending == {"lr": None, "patience": 3}
    controls.stop()
    assert controls.pending["stop"] is True
    controls.withdraw_stop()
    assert controls.collect() == [("lr", 0.1), ("patience", 3), ("lr", 0.2), ("lr", None)]
    assert controls.pending == {}


def test_no_early_stopping_no_patience():
    run = trainer()
    with pytest.raises(ValueError, match=r"'patience' cannot be moved \(this run has no early stopping\)"):
        run.controls.set(patience=3)


def test_only_the_rate_can_be_released():
    with pytest.raises(ValueError, match="only the learning rate has a schedule"):
        ul.Controls(ALL).release("patience")


# -------------------------------------------------------------------------------------------------------------- threads


def test_many_hands_at_once():
    """Eight threads ask fifty times each while the run trains: every request becomes one move, none is lost or doubled."""
    run = trainer()
    training = in_thread(run, 100_000)

    def hand(number):
        for i in range(50):
            run.controls.set(lr=(number * 50 + i + 1) * 1e-5)

    hands = [threading.Thread(target=hand, args=(number,)) for number in range(8)]
    for thread in hands:
        thread.start()
    for thread in hands:
        finish(thread)
    run.controls.stop()
    finish(training)

    moves = [move for move in run.history.moves if move.name == "lr"]
    assert Counter(move.new for move in moves) == Counter((k + 1) * 1e-5 for k in range(400))
    assert [move.old for move in moves] == [1e-3] + [move.new for move in moves[:-1]]
    assert [move.step for move in moves] == sorted(move.step for move in moves)
    for row in run.history.steps:  # in force from its own step on
        assert row["lr"] == ([1e-3] + [move.new for move in moves if move.step <= row["step"]])[-1]


def test_pause_holds_the_run():
    run = trainer()
    run.controls.pause()
    assert run.controls.paused
    training = in_thread(run, 2)
    training.join(0.3)
    assert training.is_alive() and run.step == 0
    run.controls.resume()
    finish(training)
    assert not run.controls.paused
    assert run.step == 2 * STEPS
    assert differences(whole(run), whole(fitted(2))) == []  # the pause left no trace


def fitted(epochs):
    run = trainer()
    run.fit(epochs, verbose=False)
    return run


def test_pause_in_mid_run():
    stepped, run = threading.Event(), trainer()
    train_step = run.train_step

    def pause_at_4(indices):
        if run.step == 4:
            run.controls.pause()
            stepped.set()
        return train_step(indices)

    run.train_step = pause_at_4
    training = in_thread(run, 5)
    assert stepped.wait(60)
    training.join(0.3)
    assert training.is_alive() and run.step == 5  # step 4 was under way; no other is begun
    run.controls.resume()
    finish(training)
    assert run.step == 5 * STEPS


def test_the_pace_is_kept_from_the_next_step_on_and_leaves_no_trace():
    controls = ul.Controls(ALL)
    controls.pace = 0.05
    controls.collect()
    started = time.monotonic()
    controls.set(lr=1.0)
    assert controls.collect() == [("lr", 1.0)] and time.monotonic() - started >= 0.049

    run = trainer()
    run.controls.pace = 0.01
    started = time.monotonic()
    run.fit(2, verbose=False)
    assert time.monotonic() - started >= 0.01 * (2 * STEPS - 1)
    assert differences(whole(run), whole(fitted(2))) == []


@pytest.mark.parametrize("paused", [False, True])
def test_stop_ends_the_run(paused):
    run = trainer()
    if paused:
        run.controls.pause()
    training = in_thread(run, 1_000_000)
    run.controls.stop()
    finish(training)
    assert run.history.stop_reason == f"stopped by hand at step {run.step}"
    assert run.history.moves[-1].name == "stop"
    assert len(run.history.steps) == run.step


# ----------------------------------------------------------------------------------------------------------- the moves


def test_moves_are_written_down():
    run = trainer(early_stopping=ul.EarlyStopping(patience=9))
    moves = [(0, {"lr": 0.01}), (4, {"weight_decay": 0.5, "grad_clip": 2.0}), (5, {"lr": None, "patience": 3})]
    history = run.fit(3, ul.Script(moves), verbose=False)
    assert history.moves == [
        ul.Move(0, 1, "lr", 1e-3, 0.01),
        ul.Move(4, 2, "weight_decay", 0.01, 0.5),
        ul.Move(4, 2, "grad_clip", None, 2.0),
        ul.Move(5, 2, "lr", 0.01, None),
        ul.Move(5, 2, "patience", 9, 3),
    ]
    assert [row["lr"] for row in history.steps] == [0.01] * 5 + [1e-3] * 4
    assert run.optimizer.param_groups[0]["weight_decay"] == 0.5
    assert (run.grad_clip, run.early_stopping.patience) == (2.0, 3)


@pytest.mark.parametrize("scheduler", ["cosine", "one_cycle", "exponential", "warmup_cosine", "cosine_restarts"])
def test_release_gives_the_rate_back_to_its_schedule(scheduler):
    """Under the hand's rate the schedule goes its own way, so that it is where it would have been."""
    held = ul.Script([(4, {"lr": 0.5}), (9, {"lr": None})])
    rates = [row["lr"] for row in trainer(scheduler=scheduler).fit(5, held, verbose=False).steps]
    expected = ul.schedule_preview(scheduler, 5 * STEPS, lr=1e-3)
    expected[4:9] = 0.5
    assert rates == expected.tolist()


def test_controls_release():
    run = trainer(scheduler="cosine")
    run.controls.set(lr=0.5)
    run.controls.release()
    rates = [row["lr"] for row in run.fit(3, verbose=False).steps]
    assert rates == ul.schedule_preview("cosine", 3 * STEPS, lr=1e-3).tolist()
    assert [move.new for move in run.history.moves] == [0.5, None]


def test_patience_takes_effect_at_the_next_evaluation():
    """Nothing improves by 1, so after five epochs four evaluations have been in vain: patience 2 stops at the next."""
    flat = ul.EarlyStopping(patience=100, min_delta=1)
    run = trainer(early_stopping=flat)
    run.fit(50, ul.Script([(5 * STEPS + 1, {"patience": 2})]), verbose=False)
    assert run.epoch == 6
    assert "early stopping at epoch 6" in run.history.stop_reason


def test_patience_can_be_raised_in_time():
    run = trainer(early_stopping=ul.EarlyStopping(patience=3, min_delta=1))
    run.fit(8, ul.Script([(2 * STEPS, {"patience": 100})]), verbose=False)
    assert run.epoch == 8 and run.history.stop_reason is None


# -------------------------------------------------------------------------------------------------------------- scripts


def test_a_script_equals_its_replay():
    run = rich_trainer("exponential")
    run.fit(EPOCHS, script(), verbose=False)
    assert len(run.history.moves) == 7
    replay = rich_trainer("exponential")
    replay.fit(EPOCHS, ul.Script(run.history.moves), verbose=False)
    assert differences(whole(run), whole(replay)) == []


def test_a_hand_equals_its_replay():
    """What a person did at no planned moment can be done again."""
    run = trainer(scheduler="exponential")
    training = in_thread(run, 30)
    run.controls.set(lr=0.01)
    run.controls.release()
    run.controls.set(weight_decay=0.3, lr=0.02)
    finish(training)
    replay = trainer(scheduler="exponential")
    replay.fit(30, ul.Script(run.history.moves), verbose=False)
    assert differences(whole(run), whole(replay)) == []


def test_script_from_a_list_in_json(tmp_path):
    (tmp_path / "moves.json").write_text('[[3, {"lr": 0.03}], [3, {"patience": 5}], [7, {"lr": null, "stop": true}]]')
    moves = ul.Script.from_json(tmp_path / "moves.json")
    assert moves.at(3) == [("lr", 0.03), ("patience", 5)]
    assert moves.at(7) == [("lr", None), ("stop", True)]
    assert moves.at(4) == []


def test_script_from_a_history(tmp_path):
    run = rich_trainer()
    run.fit(EPOCHS, script(), verbose=False)
    run.history.to_json(tmp_path / "history.json")
    replay = rich_trainer()
    replay.fit(EPOCHS, ul.Script.from_json(tmp_path / "history.json"), verbose=False)
    assert replay.history.moves == run.history.moves
    assert differences(whole(run), whole(replay)) == []


@pytest.mark.parametrize("moves", [[3], [(1, 2)], [("x", {"lr": 1})], [(1, {"lr": 1}, 2)], ["ab"], [None]])
def test_what_is_no_script(tmp_path, moves):
    with pytest.raises(ValueError, match=r"a script is a list of \(step, {name: value}\)"):
        ul.Script(moves)
    (tmp_path / "moves.json").write_text(json.dumps(moves))
    with pytest.raises(ValueError, match="moves.json is no list of moves"):
        ul.Script.from_json(tmp_path / "moves.json")


@pytest.mark.parametrize("text", ["", "{", '{"epochs": []}', '{"moves": [{"step": 1}]}', "3", '"text"', "null"])
def test_what_is_no_script_file(tmp_path, text):
    (tmp_path / "moves.json").write_text(text)
    with pytest.raises(ValueError, match="moves.json is no list of moves"):
        ul.Script.from_json(tmp_path / "moves.json")


def test_no_script_file(tmp_path):
    with pytest.raises(ValueError, match="missing.json is no list of moves"):
        ul.Script.from_json(tmp_path / "missing.json")


@pytest.mark.parametrize("changes, message", [({"lr": -1}, "lr must be"), ({"patience": 3}, "no early stopping")])
def test_a_senseless_move_in_a_script_ends_the_run(changes, message):
    run = trainer()
    with pytest.raises(ValueError, match=message):
        run.fit(2, ul.Script([(1, changes)]), verbose=False)
    run.fit(2, verbose=False)
    assert differences(whole(run), whole(fitted(2))) == []

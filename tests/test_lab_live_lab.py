"""The live lab without a browser: what each control does when it is touched, and what the lab then shows.

``touch`` is what the page sends; the numbers of the charts are read from the bytes that the page gets.
"""

import gc
import json
import threading
import tracemalloc

import matplotlib
import numpy as np
import pytest
import torch
from gate import gated_trainer, rows, until
from hands_of import a_trainer
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from tiny import STEPS, TRAIN, VAL, squares, trainer, unet

import unetlab as ul
from unetlab.hands import read_hand
from unetlab.history import History
from unetlab.lab.live_lab import COLOURS, CONTROLS, POINTS, LiveCurves, Speed
from unetlab.plots import FALSE_ALARM, IGNORED, MISS, TRUTH, error_map

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def make_lab():
    """Makes labs and closes them at the end."""
    labs, gates = [], []

    def make(run=None, epochs=4, script=None, pace=0.0, **options):
        labs.append(ul.LiveLab(run or trainer(**options), epochs, script, pace))
        return labs[-1]

    def make_gated(epochs=20, **options):
        run, gate = gated_trainer(**options)
        gates.append(gate)
        return make(run, epochs), gate

    make.gated = make_gated
    yield make
    for gate in gates:
        gate.open()
    for lab in labs:
        lab.close()
    assert not our_threads()


@pytest.fixture
def notebook():
    """A kernel's shell without a kernel, so that what is displayed can be captured."""
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def our_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("unetlab")]


def touch(lab, name, value=True):
    lab.instrument._receive(lab.instrument, {"id": name, "value": value}, [])


def trained(lab):
    """The lab after its run, as the learner sees it then."""
    lab.start()
    lab.session.wait(60)
    lab._refresher.join()
    return lab


def enabled(lab):
    return {name for name, usable in lab.instrument.enabled.items() if usable}


def panel(lab, title):
    return next(panel for panel in lab.instrument.panels if panel["title"] == title)


def curve(lab, title, number=0):
    """The points of a curve, as the page reads them."""
    line, data = panel(lab, title)["series"][number], np.frombuffer(lab.instrument.data, np.float32)
    return tuple(data[start : start + length] for start, length in (line["x"], line["y"]))


def strip(lab):
    width, height = lab.instrument.strip_size
    return np.frombuffer(lab.instrument.strip, np.uint8).reshape(height, width, 3)


def tiles(lab, size):
    """The pictures of the strip, by row and column."""
    picture, (height, width) = strip(lab), size
    tops, lefts = range(0, picture.shape[0], height + 2), range(5, picture.shape[1], width + 2)
    return [[picture[t : t + height, left : left + width] for left in lefts] for t in tops]


def rgb(colour):
    return (np.array(matplotlib.colors.to_rgb(colour)) * 255).round()


def is_colour(picture, colour):
    return (picture == rgb(colour)).all(-1)


# ------------------------------------------------------------------------------------------------------- the controls


def test_the_names_of_the_controls_are_the_agreed_ones():
    names = {kind: [c["label"] for c in CONTROLS if c["kind"] == kind] for kind in ("range", "button")}
    assert {"Learning rate", "Patience", "Min delta"} < set(names["range"])
    assert {"Start", "Pause", "Resume", "Stop", "Rewind", "Fork", "Replay"} < set(names["button"])
    assert len({c["id"] for c in CONTROLS}) == len(CONTROLS) == len(names["range"]) + len(names["button"])


def test_start_pause_resume_and_stop(make_lab):
    lab, gate = make_lab.gated()
    going_back = {"rewind", "fork", "replay"}
    assert enabled(lab) == {"start"}
    assert lab.instrument.status["text"].startswith("run 1: ready · epoch 0 of 20 · step 0 of 60")
    touch(lab, "start")
    gate.let(2)
    lab.refresh()
    assert enabled(lab) == {"pause", "stop"} | going_back
    touch(lab, "pause")
    assert enabled(lab) == {"resume", "stop"} | going_back and "run 1: paused" in lab.instrument.status["text"]
    gate.open()
    until(lambda: lab.session.trainer.step == 3)
    touch(lab, "resume")
    assert enabled(lab) == {"pause", "stop"} | going_back and "run 1: training" in lab.instrument.status["text"]
    touch(lab, "stop")
    assert enabled(lab) == {"start", "save"} | going_back and not lab.session.training
    assert "run 1: stopped" in lab.instrument.status["text"] and lab.instrument.status["problem"] is None
    touch(lab, "start")
    lab.wait(60)
    assert lab.session.trainer.epoch == 20 and lab.instrument.status["progress"] == 1
    assert enabled(lab) == going_back and lab.instrument.status["problem"] is None


def test_a_touched_rate_is_that_of_the_next_step(make_lab):
    lab, gate = make_lab.gated()
    touch(lab, "start")
    gate.let(2)
    touch(lab, "lr", 0.05)
    lab.refresh()
    assert lab.instrument.values["lr"] == 0.05  # the slider stays where the hand put it
    assert lab.session.trainer.optimizer.param_groups[0]["lr"] == 1e-3
    gate.let(1)
    assert lab.session.trainer.optimizer.param_groups[0]["lr"] == 0.05
    gate.let(1)
    assert [row["lr"] for row in lab.session.trainer.history.steps] == [1e-3] * 3 + [0.05]
    touch(lab, "release")
    gate.let(1)
    lab.refresh()
    assert lab.session.trainer.optimizer.param_groups[0]["lr"] == lab.instrument.values["lr"] == 1e-3


def test_touched_patience_ends_the_run_at_the_next_evaluation(make_lab):
    lab, gate = make_lab.gated(early_stopping=ul.EarlyStopping(patience=50))
    touch(lab, "min_delta", 1)  # nothing improves by 1
    assert lab.instrument.values == {"lr": 1e-3, "epoch": 0, "patience": 50, "min_delta": 1}
    touch(lab, "start")
    gate.let(4 * STEPS + 1)
    touch(lab, "patience", 2)
    gate.open()
    history = lab.wait(60)
    assert len(history) == 5 and "early stopping at epoch 5" in lab.instrument.status["problem"]
    assert lab.session.trainer.early_stopping.patience == lab.instrument.values["patience"] == 2
    assert panel(lab, "Evaluations without improvement")["marks"][-1]["text"] == "patience 2"


def test_while_it_trains_a_dragged_slider_does_not_draw(make_lab, monkeypatch):
    """Sixty messages a second would otherwise be sixty drawings."""
    lab, gate = make_lab.gated()
    touch(lab, "start")
    gate.let(1)
    drawn_by = []
    monkeypatch.setattr(lab, "refresh", lambda: drawn_by.append(threading.current_thread()))
    for i in range(100):
        touch(lab, "lr", 1e-3 + i * 1e-5)
    assert threading.current_thread() not in drawn_by
    gate.let(1)
    assert [move.new for move in lab.session.trainer.history.moves] == [1e-3 + i * 1e-5 for i in range(100)]


def test_senseless_values_are_said_in_the_lab(make_lab):
    lab = make_lab()
    touch(lab, "lr", 0)
    assert lab.instrument.status["problem"] == "lr must be a finite learning rate above 0, not 0"
    touch(lab, "lr", 0.01)
    assert lab.instrument.status["problem"] is None


def test_without_early_stopping_there_is_no_patience(make_lab):
    lab = trained(make_lab())
    assert lab.instrument.enabled["patience"] is lab.instrument.enabled["min_delta"] is False
    assert set(lab.instrument.values) == {"lr", "epoch"}
    assert [p["title"] for p in lab.instrument.panels] == ["Loss", "Validation Dice", "Learning rate (log)"]
    touch(lab, "patience", 3)
    assert "this run has no early stopping" in lab.instrument.status["problem"]


def test_sliders_have_room_for_what_the_run_starts_with(make_lab):
    lab = make_lab(lr=2.0, early_stopping=ul.EarlyStopping(patience=200, min_delta=0.3))
    most = {control["id"]: control.get("max") for control in lab.instrument.controls}
    assert (most["lr"], most["patience"], most["min_delta"]) == (2.0, 200, 0.3)
    most = {control["id"]: control.get("max") for control in make_lab().instrument.controls}
    assert (most["lr"], most["patience"], most["min_delta"]) == (1, 60, 0.05)


# ------------------------------------------------------------------------------------------------ back in the epochs


def test_the_scrubber_goes_back_through_the_predictions(make_lab):
    lab = trained(make_lab())
    newest = strip(lab)
    assert lab.instrument.ranges["epoch"] == [0, 4] and lab.instrument.values["epoch"] == 4
    touch(lab, "epoch", 2)
    assert lab.instrument.caption[0][0].startswith("epoch 2, worst first")
    assert lab.instrument.values["epoch"] == 2 and (strip(lab) != newest).any()
    touch(lab, "epoch", 4)
    assert lab.instrument.caption[0][0].startswith("epoch 4") and (strip(lab) == newest).all()


def test_rewind_goes_back_to_the_chosen_epoch(make_lab):
    lab = trained(make_lab(script=ul.Script([(7, {"lr": 0.01})])))
    before = rows(lab.session.trainer.history)
    touch(lab, "epoch", 2)
    touch(lab, "rewind")
    assert (lab.session.trainer.epoch, lab.session.state) == (
        2,
        "ready" if lab.session.trainer.step == 0 else "stopped",
    )
    assert lab.instrument.values == {"lr": 1e-3, "epoch": 2} and lab.instrument.ranges["epoch"] == [0, 2]
    assert curve(lab, "Validation Dice")[0].tolist() == [1, 2]
    assert curve(lab, "Learning rate (log)")[0].tolist() == pytest.approx([i / 3 for i in range(7)])
    touch(lab, "start")
    lab.wait(60)
    assert rows(lab.session.trainer.history) == before


def test_rewind_while_it_trains_takes_the_epoch_back_to_its_start(make_lab):
    lab, gate = make_lab.gated()
    touch(lab, "start")
    gate.let(STEPS + 1)
    gate.open()
    touch(lab, "rewind")
    run = lab.session.trainer
    assert not lab.session.training and run.step == run.epoch * STEPS and run.epoch >= 1


def test_fork_takes_the_rate_in_hand(make_lab):
    lab = trained(make_lab())
    touch(lab, "epoch", 2)
    touch(lab, "lr", 0.03)
    touch(lab, "fork")
    lab.wait(60)
    run = lab.session.run
    assert run.name == "fork 1 at epoch 2"
    assert [row["lr"] for row in run.trainer.history.steps] == [1e-3] * 6 + [0.03] * 6
    touch(lab, "epoch", 1)
    touch(lab, "fork")  # the hand still holds that rate
    lab.wait(60)
    assert {row["lr"] for row in lab.session.trainer.history.steps[3:]} == {0.03}


def test_fork_without_a_rate_in_hand_follows_the_schedule(make_lab):
    moves = ul.Script([(1, {"lr": 0.05}), (4, {"lr": None})])
    lab = trained(make_lab(script=moves, scheduler="cosine"))
    touch(lab, "epoch", 2)
    touch(lab, "fork")
    lab.wait(60)
    parent, fork = (run.trainer.history for run in lab.session.runs)
    assert rows(fork) == rows(parent)


def test_fork_takes_what_was_asked_for_along(make_lab):
    lab = trained(make_lab(early_stopping=ul.EarlyStopping(patience=30)))
    touch(lab, "patience", 12)
    touch(lab, "epoch", 1)
    touch(lab, "fork")
    lab.wait(60)
    assert lab.session.trainer.early_stopping.patience == 12
    assert lab.session.runs[0].trainer.early_stopping.patience == 30


def test_replay_equals_the_original(make_lab):
    lab, gate = make_lab.gated(epochs=6, early_stopping=ul.EarlyStopping(patience=30))
    touch(lab, "start")
    gate.let(2)
    touch(lab, "lr", 0.02)
    gate.let(5)
    touch(lab, "patience", 5)
    gate.let(2)
    touch(lab, "release")
    gate.open()
    lab.wait(60)
    touch(lab, "replay")
    lab.wait(60)
    original, replay = (run.trainer.history for run in lab.session.runs)
    assert lab.session.run.name == "replay 1"
    assert rows(replay) == rows(original) and [move.step for move in original.moves] == [3, 8, 10]


def test_save_and_replay_of_a_file(make_lab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lab = trained(make_lab(script=ul.Script([(4, {"lr": 0.02})])))
    touch(lab, "save")
    assert "moves.json" in lab.instrument.status["problem"]
    other = trained(make_lab())
    other.replay(ul.Script.from_json("moves.json"))
    other.wait(60)
    assert rows(other.session.trainer.history) == rows(lab.session.trainer.history)
    lab.save_moves(tmp_path / "mine.json")
    assert json.loads((tmp_path / "mine.json").read_text())["best_val_dice"] > 0


def test_a_hand_for_a_class(make_lab, tmp_path):
    run = a_trainer()
    trained(make_lab(run)).save_hand(tmp_path / "hand.json", name="Ada")
    hand = read_hand(tmp_path / "hand.json")
    assert hand.name == "Ada" and list(hand.val_dice) == run.history.column("val_dice")


def test_a_hand_that_no_class_can_replay_is_refused(make_lab, tmp_path):
    with pytest.raises(ValueError, match="not the train and val of one ul.load_dataset"):
        trained(make_lab()).save_hand(tmp_path / "hand.json")


def test_a_file_that_cannot_be_written_is_said(make_lab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "moves.json").mkdir()
    lab = make_lab()
    touch(lab, "save")
    assert "moves.json" in lab.instrument.status["problem"] and "directory" in lab.instrument.status["problem"]


def test_no_way_back_is_said(make_lab):
    lab = make_lab()
    touch(lab, "replay")
    assert lab.instrument.status["problem"] == "there is no snapshot of epoch 0; snapshots: none yet"


# ----------------------------------------------------------------------------------------------------------- charts


def test_the_charts_show_the_history(make_lab):
    lab = trained(make_lab(epochs=6, early_stopping=ul.EarlyStopping(patience=30), scheduler="exponential"))
    history = lab.session.trainer.history
    columns = {
        ("Loss", 0): ([(row["step"] + 1) / STEPS for row in history.steps], [row["loss"] for row in history.steps]),
        ("Loss", 1): (history.column("epoch"), history.column("val_loss")),
        ("Validation Dice", 0): (history.column("epoch"), history.column("val_dice")),
        ("Learning rate (log)", 0): (  # each from the start of its step on, the last to its end
            [step / STEPS for step in range(len(history.steps) + 1)],
            [row["lr"] for row in history.steps + history.steps[-1:]],
        ),
        ("Evaluations without improvement", 0): (history.column("epoch"), history.column("wait")),
    }
    for (title, number), expected in columns.items():
        for shown, column in zip(curve(lab, title, number), expected, strict=True):
            assert shown.tolist() == pytest.approx(column), title
    assert [line["name"] for line in panel(lab, "Loss")["series"]] == ["training", "validation"]
    assert panel(lab, "Learning rate (log)")["log"] and panel(lab, "Validation Dice")["ylim"] == [0, 1]
    assert all(panel["xlabel"] == "epoch" and panel["xlim"] == [0, 6] for panel in lab.instrument.panels)


def test_charts_say_in_words_where_the_curves_are(make_lab):
    lab = make_lab(early_stopping=ul.EarlyStopping(patience=30))
    assert panel(lab, "Loss")["label"] == "Loss over the epochs; run 1 now: training none yet, validation none yet"
    trained(lab)
    row = lab.session.trainer.history.epochs[-1]
    assert f"validation {row['val_loss']:.3g}" in panel(lab, "Loss")["label"]
    assert f"run 1 now: {row['val_dice']:.3g}" in panel(lab, "Validation Dice")["label"]
    assert panel(lab, "Evaluations without improvement")["label"].endswith(f"{row['wait']} of patience 30")
    touch(lab, "fork")
    assert "over the epochs, 2 runs; fork 1" in panel(lab, "Loss")["label"]


def test_charts_name_their_axes(make_lab):
    lab = make_lab(early_stopping=ul.EarlyStopping())
    names = [(panel["xlabel"], panel["ylabel"]) for panel in lab.instrument.panels]
    assert names == [("epoch", name) for name in ("loss", "Dice", "rate", "evaluations")]


def test_a_loss_that_explodes_does_not_flatten_the_others(make_lab):
    lab = make_lab()
    assert not panel(lab, "Loss")["log"]
    lab.session.trainer.history.steps += [
        {"step": i, "epoch": 1, "loss": loss, "lr": 1e-3} for i, loss in enumerate([1.0, 1e3, float("nan"), 0.5])
    ]
    lab.refresh()
    assert panel(lab, "Loss")["log"] and panel(lab, "Loss")["ylabel"] == "loss (log)"


def test_every_move_has_a_mark(make_lab):
    moves = [(2, {"lr": 0.02}), (2, {"lr": 0.03}), (11, {"patience": 9}), (16, {"lr": None})]
    lab = trained(make_lab(epochs=6, script=ul.Script(moves), early_stopping=ul.EarlyStopping()))
    places = [2 / STEPS, 11 / STEPS, 16 / STEPS]
    assert panel(lab, "Learning rate (log)")["marks"] == [
        {"x": places[0], "text": "0.03"},
        {"x": places[1]},
        {"x": places[2], "text": "schedule"},
    ]
    for title in ("Loss", "Validation Dice", "Evaluations without improvement"):
        plain = [mark for mark in panel(lab, title)["marks"] if set(mark) == {"x"}]
        assert [mark["x"] for mark in plain] == places


def test_the_rates_of_a_drag_are_not_written_over_each_other(make_lab):
    drag = [(step, {"lr": 1e-3 * (1 + step)}) for step in range(10, 16)]
    lab = trained(make_lab(epochs=12, script=ul.Script([(1, {"lr": 0.1}), *drag])))
    marks = panel(lab, "Learning rate (log)")["marks"]
    assert len(marks) == 7
    assert [mark["text"] for mark in marks if "text" in mark] == ["0.1", "0.016"]


def test_the_best_epoch_is_the_one_that_is_kept(make_lab):
    stopping = ul.EarlyStopping("val_dice", "max", patience=30, min_delta=0.05)
    for options in ({}, {"early_stopping": stopping}):
        lab = trained(make_lab(epochs=8, **options))
        best = (
            stopping.best_epoch + 1 if options else 1 + int(np.argmax(lab.session.trainer.history.column("val_dice")))
        )
        for title in ("Loss", "Validation Dice"):
            assert {"x": best, "text": f"best: epoch {best}", "color": TRUTH, "dash": "dashed"} in panel(lab, title)[
                "marks"
            ]


def test_no_best_epoch_before_the_first():
    lab = ul.LiveLab(trainer(early_stopping=ul.EarlyStopping()), 4)
    assert panel(lab, "Loss")["marks"] == []
    lab.close()


def test_runs_can_be_told_apart_without_colour(make_lab):
    lab = trained(make_lab(epochs=3))
    parent = curve(lab, "Validation Dice")
    for _ in range(2):
        touch(lab, "epoch", 1)
        touch(lab, "lr", 0.02)
        touch(lab, "fork")
        lab.wait(60)
    lines = panel(lab, "Validation Dice")["series"]
    assert [line["name"] for line in lines] == ["run 1", "fork 1 at epoch 1", "fork 2 at epoch 1"]
    assert [line["color"] for line in lines] == list(COLOURS[:3])
    assert len({line["dash"] for line in lines}) == 3
    np.testing.assert_array_equal(curve(lab, "Validation Dice"), parent)
    assert curve(lab, "Validation Dice", 1)[0].tolist() == [1, 2, 3]  # from its fork on
    assert [(text, colour) for text, colour in lab.instrument.caption if "1" in text and colour] == [
        (line["name"], line["color"]) for line in lines
    ]


def test_a_long_run_is_thinned():
    """What is sent does not grow with the run."""
    run = trainer()
    for step in range(20_000):
        run.history.steps.append({"step": step, "epoch": 1, "loss": 1.0, "lr": 1e-3})
    live = LiveCurves()
    live.update(run)
    x, losses, rates = live.steps_since(0)
    assert POINTS <= len(x) == len(losses) == len(rates) < 2 * POINTS
    assert len(live.losses) == 20_000


def test_curves_of_a_run_that_was_rolled_back_are_those_of_its_history():
    """It went on from an earlier step and has come further than before when it is drawn again."""
    run, live = trainer(), LiveCurves()
    run.fit(3, ul.Script([(7, {"lr": 1e38})]), verbose=None)
    live.update(run)
    assert run.diverged and len(live.losses) == len(run.history.steps) > 2 * STEPS
    run.fit(3, verbose=None)
    live.update(run)
    assert live.losses == [row["loss"] for row in run.history.steps]
    assert live.epochs == [1, 2, 3] and live.dices == run.history.column("val_dice")


def test_a_run_longer_than_the_lab(make_lab):
    run = trainer()
    run.fit(5, verbose=False)
    lab = make_lab(run, epochs=3)
    assert lab.instrument.status["progress"] == 1 and panel(lab, "Loss")["xlim"] == [0, 5]
    assert curve(lab, "Validation Dice")[0].tolist() == [1, 2, 3, 4, 5]


def test_a_trainer_that_was_trained_before(make_lab):
    run = trainer()
    run.fit(2, verbose=False)
    lab = make_lab(run, epochs=4)
    assert curve(lab, "Validation Dice")[0].tolist() == [1, 2]
    assert lab.instrument.caption[0][0].startswith("epoch 2")
    trained(lab)
    assert curve(lab, "Validation Dice")[0].tolist() == [1, 2, 3, 4]
    assert lab.instrument.caption[0][0].startswith("epoch 4")
    touch(lab, "epoch", 1)
    touch(lab, "fork")
    lab.wait(60)
    assert rows(lab.session.trainer.history) == rows(run.history)


def test_speed_is_that_of_the_last_seconds(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("unetlab.lab.live_lab.time.monotonic", lambda: now[0])
    speed = Speed()
    assert speed.update(0) is None
    for second in range(1, 21):
        now[0] += 1
        speed.update(2 * second if second < 15 else 28 + 6 * (second - 14))
    assert speed.update(64) == 6


# ------------------------------------------------------------------------------------------------------- the strip


def scored(lab):
    """Dice of each picture of the strip, as the caption says."""
    return [float(word) for word in lab.instrument.caption[0][0].split("Dice ")[1][:-1].split(", ")]


def test_the_strip_shows_truth_prediction_and_errors_worst_first(make_lab):
    lab = trained(make_lab(epochs=6, lr=0.01))
    run, images, masks = lab.session.trainer, *VAL
    guesses = run.predict(images)
    scores = [ul.dice_score(g[None], m[None]) for g, m in zip(guesses, masks, strict=True)]
    order = np.argsort(scores, kind="stable")
    assert scored(lab) == pytest.approx(np.sort(scores), abs=0.005)
    truth = tiles(lab, (16, 16))
    assert (len(truth), len(truth[0])) == (4, 5)
    for column, i in enumerate(order):
        image, mask, guess, errors = (row[column] for row in truth)
        np.testing.assert_array_equal(image[..., 0], images[i, 0])
        np.testing.assert_array_equal(mask[..., 1], masks[i] * 255)
        np.testing.assert_array_equal(guess[..., 2], guesses[i] * 255)
        np.testing.assert_array_equal(is_colour(errors, MISS), (masks[i] == 1) & (guesses[i] == 0))
        np.testing.assert_array_equal(is_colour(errors, FALSE_ALARM), (masks[i] == 0) & (guesses[i] == 1))
    assert [part for part in lab.instrument.caption if part[1]] == [["missed", MISS], ["false alarm", FALSE_ALARM]]


def test_the_strip_begins_with_what_the_untrained_network_predicts(make_lab):
    lab = make_lab()
    assert lab.instrument.caption[0][0].startswith("epoch 0, worst first")
    untrained = strip(lab)
    trained(lab)
    assert (strip(lab) != untrained).any()
    touch(lab, "epoch", 0)
    np.testing.assert_array_equal(strip(lab), untrained)


def test_forks_have_their_colour_in_the_strip(make_lab):
    lab = trained(make_lab(epochs=2))
    touch(lab, "epoch", 1)
    touch(lab, "fork")
    lab.wait(60)
    assert len(tiles(lab, (16, 16))) == 5
    for top, colour in zip((3 * 18, 4 * 18), COLOURS, strict=False):
        assert is_colour(strip(lab)[top : top + 16, :4], colour).all()


@pytest.mark.parametrize("count", [1, 3])
def test_fewer_validation_images_than_the_strip_has(make_lab, count):
    run = ul.Trainer(unet(), TRAIN, squares(count, seed=2), batch_size=4, device="cpu")
    lab = trained(make_lab(run, 2))
    assert len(scored(lab)) == count == len(tiles(lab, (16, 16))[0])


@pytest.mark.parametrize("channels", [2, 3, 5])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_images_of_several_channels(make_lab, channels, dtype):
    train, val = squares(8, channels=channels), squares(4, channels=channels)
    if dtype == torch.float32:
        train, val = ((images / 255, masks) for images, masks in (train, val))
    run = ul.Trainer(unet(in_channels=channels), train, val, batch_size=4, device="cpu")
    lab = trained(make_lab(run, 1))
    picture = tiles(lab, (16, 16))[0][0]
    grey = (picture[..., 0] == picture[..., 1]).all()
    assert grey == (channels == 2)
    shown = val[0] if dtype == torch.uint8 else val[0] * 255
    assert any(np.abs(picture[..., 0] - image[0].numpy().round()).max() <= 1 for image in shown)


def test_large_images_are_thinned(make_lab):
    sizes = (200, 120)
    images = torch.randint(0, 255, (4, 1, *sizes), dtype=torch.uint8)
    masks = (images[:, 0] > 127).to(torch.uint8)
    lab = trained(make_lab(ul.Trainer(unet(), (images, masks), (images, masks), device="cpu"), 1))
    rows_of = tiles(lab, (67, 40))
    assert (len(rows_of), len(rows_of[0])) == (4, 4)
    assert any((rows_of[0][0][..., 0] == image[0, ::3, ::3].numpy()).all() for image in images)


def test_unpadded_networks_are_shown_on_their_centre(make_lab):
    train, val = squares(6, size=32), squares(4, size=32, seed=1)
    model = unet(padding="valid", norm="none")
    lab = trained(make_lab(ul.Trainer(model, train, val, batch_size=3, device="cpu"), 2))
    side = model.output_size(32)
    edge = (32 - side) // 2
    assert side < 32
    centre = val[0][:, 0, edge : edge + side, edge : edge + side]
    picture = tiles(lab, (side, side))[0][0][..., 0]
    assert any((picture == image.numpy()).all() for image in centre)
    dice = lab.session.trainer.history.epochs[-1]["val_dice"]
    assert np.mean(scored(lab)) == pytest.approx(dice, abs=0.01)


def three_classes(count, names):
    images, masks = squares(count)
    masks[:, :, 8:] *= 2
    masks[:, :2] = 255
    return ul.Split(images, masks, [""] * count, [""] * count, names, ignore_index=255)


@pytest.mark.parametrize("names", [("background", "left", "right"), ("ground", "left", "right")])
def test_several_classes_with_pixels_that_do_not_count(make_lab, names):
    train, val = three_classes(8, names), three_classes(4, names)
    run = ul.Trainer(unet(num_classes=3), train, val, batch_size=4, device="cpu")
    lab = trained(make_lab(run, 3))
    rows_of = tiles(lab, (16, 16))
    assert all(is_colour(mask[:2], IGNORED).all() for mask in rows_of[1])
    background = 0 if names[0] == "background" else None
    words = ["missed", "false alarm"] if background == 0 else ["wrong class"]
    assert [part[0] for part in lab.instrument.caption if part[1]] == [*names, "does not count", *words]
    guesses = run.predict(val.images)
    expected = [error_map(*trio, 255, background) for trio in zip(val.images, val.masks, guesses, strict=True)]
    for picture in rows_of[3]:
        assert any(np.abs(picture - (one * 255).round()).max() <= 1 for one in expected)
    assert scored(lab) == pytest.approx(sorted(run.evaluate(val)["dice_per_image"]), abs=0.01)


# -------------------------------------------------------------------------------------------- how a run can go wrong


def test_an_exception_is_shown_and_raised(make_lab):
    lab, gate = make_lab.gated()
    touch(lab, "start")
    gate.let(2)
    gate.loss = None  # TypeError: 'NoneType' object is not callable
    gate.open()
    with pytest.raises(TypeError, match="not callable"):
        lab.wait(60)
    lab._refresher.join()
    assert lab.instrument.status["problem"].startswith(
        "The run ended with TypeError: 'NoneType' object is not callable"
    )
    assert "run 1: failed" in lab.instrument.status["text"] and "start" in enabled(lab)
    gate.loss = ul.DiceLoss()
    touch(lab, "start")
    assert lab.instrument.status["problem"] is None
    assert len(lab.wait(60)) == 20


def test_a_diverging_run_is_shown_and_warned_of(make_lab):
    lab = make_lab(script=ul.Script([(1, {"lr": 1e38})]))
    lab.start()
    with pytest.warns(RuntimeWarning, match="learning rate 1e[+]38"):
        lab.wait(60)
    assert "Likely causes: the learning rate is too high" in lab.instrument.status["problem"]


def test_what_does_not_go_together_is_shown(make_lab):
    lab = trained(make_lab(scheduler="cosine", early_stopping=ul.EarlyStopping(patience=9)))
    assert "early stopping may cut it off" in lab.instrument.status["problem"]


def test_a_machine_without_cuda(make_lab, monkeypatch):
    for name in ("memory_allocated", "synchronize", "current_device"):
        monkeypatch.setattr(torch.cuda, name, lambda *args: pytest.fail("asked for CUDA"))
    lab = trained(make_lab(epochs=2))
    assert lab.instrument.status["text"].endswith(" · cpu")


def test_drawing_goes_on_whatever_ends_and_starts(make_lab):
    """A drawing thread that is about to end must not be taken for one that draws the next run."""
    lab, gate = make_lab.gated(epochs=30)
    touch(lab, "start")
    gate.let(STEPS + 1)
    gate.open()
    for how in ["stop", "start", "rewind", "start", "fork", "stop", "start", "replay"] * 3:
        touch(lab, how)
    lab.session.wait(60)
    until(lambda: f"{lab.session.run.name}: " in lab.instrument.status["text"])
    until(lambda: "run" not in our_threads() and not our_threads())
    assert any(word in lab.instrument.status["text"] for word in ("finished", "stopped"))
    assert len(curve(lab, "Validation Dice", -1)[0]) == len(lab.session.trainer.history)


# ------------------------------------------------------------------------------------------- in and around a notebook


def test_show_displays_the_widget_and_says_how_to_go_on_without(make_lab, notebook):
    lab = make_lab()
    with capture_output() as captured:
        lab.show()
    (output,) = captured.outputs
    assert output.data[VIEW]["model_id"] == lab.instrument.model_id
    assert "lab.wait() trains all the same" in output.data["text/plain"]


def test_wait_leaves_one_picture_with_alt_text(make_lab, notebook):
    lab = make_lab(epochs=3)
    lab.start()
    with capture_output() as captured:
        history = lab.wait(60)
    assert history is lab.session.trainer.history and len(history) == 3
    pictures = [output for output in captured.outputs if "image/png" in output.data]
    assert len(pictures) == 1 and len(captured.outputs) == 2  # the picture, and its words for those who do not see it
    alt = pictures[0].metadata["image/png"]["alt"]
    assert alt.startswith("Over 3 epochs the training loss goes from")
    assert alt in captured.outputs[1].data["text/html"]
    assert not captured.stdout and not captured.stderr


def test_wait_starts_what_nobody_has_started_and_nothing_else(make_lab, notebook):
    lab = make_lab(epochs=2)
    assert len(lab.wait(60)) == 2 and lab.session.state == "finished"
    other = ul.LiveLab(trainer(), epochs=4, script=ul.Script([(2, {"stop": True})]))
    for _ in range(2):  # the second one finds a run that was stopped by hand, and leaves it so
        other.wait(60)
        assert other.session.state == "stopped" and other.session.trainer.step == 2
    other.close()


def test_a_script_is_the_hand_where_nobody_has_started(make_lab, notebook):
    script = ul.Script([(2, {"lr": 0.02})])
    for started, moves in ((False, [("lr", 0.02)]), (True, [])):
        lab = make_lab(pace=0.01)
        if started:
            touch(lab, "start")
        with capture_output():
            history = lab.wait(60, script=script)
        assert [(move.name, move.new) for move in history.moves] == moves
        assert len(history) == 4
    with capture_output():  # a run that was trained before is no run that was started here
        history = make_lab(lab.session.trainer.fork(2), epochs=3).wait(60, script=ul.Script([(6, {"lr": 0.03})]))
    assert [(move.step, move.new) for move in history.moves] == [(6, 0.03)] and len(history) == 3


def test_the_picture_shows_all_runs(make_lab, notebook):
    lab = trained(make_lab(epochs=2))
    touch(lab, "epoch", 1)
    touch(lab, "fork")
    with capture_output() as captured:
        lab.wait(60)
    assert "run 1: Over 2 epochs" in captured.outputs[1].data["text/html"]
    assert "fork 1 at epoch 1: Over 2 epochs" in captured.outputs[1].data["text/html"]


def test_a_wait_with_a_limit_draws_what_there_is(make_lab, notebook):
    lab, gate = make_lab.gated()
    with capture_output() as captured:
        lab.wait(0.01)
        lab.start()
        gate.let(1)
        lab.wait(0.01)
    assert captured.outputs == []  # no epoch yet
    gate.let(2 * STEPS)
    with capture_output() as captured:
        history = lab.wait(0.01)
    assert lab.session.training and len(history) == 2
    assert "Over 2 epochs" in captured.outputs[1].data["text/html"]


def test_a_picture_is_drawn_from_a_copy(make_lab, notebook, monkeypatch):
    """The run writes on while it is drawn."""
    run = trainer()
    run.fit(2, verbose=False)
    lab = make_lab(run, 4)
    column = History.column

    def slow_column(history, name):
        values = column(history, name)
        run.history.epochs.append(run.history.epochs[-1] | {"epoch": len(run.history) + 1})
        return values

    monkeypatch.setattr(History, "column", slow_column)
    with capture_output() as captured:
        lab.wait()
    assert len(captured.outputs) == 2


def test_two_labs_do_not_mix(make_lab):
    one, other = make_lab.gated()[0], make_lab(epochs=3)
    trained(other)
    before = dict(other.instrument.values), other.instrument.status, other.instrument.data
    touch(one, "lr", 0.3)
    touch(one, "start")
    other.refresh()
    assert (dict(other.instrument.values), other.instrument.status, other.instrument.data) == before
    assert other.session.trainer.controls.pending == {}
    assert other.instrument.model_id != one.instrument.model_id
    touch(other, "lr", 0.2)
    until(lambda: one.session.trainer.history.moves)
    assert [move.new for move in one.session.trainer.history.moves] == [0.3]
    assert one.session.trainer.controls.pending == {}


def test_closing_ends_the_threads_and_leaves_the_trainer_whole():
    run, gate = gated_trainer()
    lab = ul.LiveLab(run, epochs=20)
    lab.start()
    gate.let(STEPS + 1)
    assert our_threads() == ["unetlab-training", "unetlab-drawing"]
    gate.open()
    lab.close()
    assert our_threads() == [] and lab.instrument.comm is None
    assert rows(run.fit(20, verbose=False)) == rows(trainer().fit(20, verbose=False))
    lab.close()  # twice does no harm


def test_a_thousand_refreshes_take_no_memory(make_lab):
    lab = trained(make_lab(epochs=6, early_stopping=ul.EarlyStopping(patience=30)))

    def refresh(times):
        for i in range(times):
            touch(lab, "epoch", i // 10 % 7)  # every tenth draws the strip, too
        gc.collect()

    refresh(50)
    tracemalloc.start()
    refresh(50)
    before = tracemalloc.get_traced_memory()[0]
    refresh(1000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 100_000, f"{grown} bytes"

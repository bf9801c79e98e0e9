"""A session: what the hand may do to a run, and what it does to the optimizer and to early stopping."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from gate import gated_trainer, rows, until
from tiny import STEPS, TRAIN, VAL, trainer, unet

import unetlab as ul
from unetlab.lab.session import Session


@pytest.fixture
def held():
    """A session of 20 epochs whose steps wait at a gate; at the end it is opened and the run ended."""
    run, gate = gated_trainer(early_stopping=ul.EarlyStopping(patience=100))
    session = Session(run, epochs=20)
    yield session, gate
    gate.is_open = True
    for _ in range(3):
        gate.passes.release()
    session.stop()


def rate(session):
    return session.trainer.optimizer.param_groups[0]["lr"]


def finished(trainer, epochs, script=None):
    """A session that trained to its end."""
    session = Session(trainer, epochs, script)
    session.start()
    session.wait(60)
    assert not session.training
    return session


# --------------------------------------------------------------------------------------------------- start, pause, stop


def test_the_states_of_a_run(held):
    session, gate = held
    states = [session.state]
    session.start()
    gate.let(2)
    states.append(session.state)
    session.pause()
    states.append(session.state)
    session.resume()
    states.append(session.state)
    gate.open()
    session.stop()
    states.append(session.state)
    session.start()
    session.wait(60)
    states.append(session.state)
    assert states == ["ready", "training", "paused", "training", "stopped", "finished"]
    assert session.trainer.epoch == 20


def test_a_pause_holds_the_run_between_two_steps(held):
    session, gate = held
    session.start()
    gate.let(1)
    session.pause()
    gate.passes.release()  # the step that has begun
    until(lambda: session.trainer.step == 2)
    gate.open()
    time.sleep(0.2)
    assert (session.trainer.step, session.state) == (2, "paused")
    session.resume()
    session.wait(60)
    assert session.state == "finished"


def test_what_does_not_train_cannot_be_paused_or_stopped():
    session = Session(trainer(), epochs=2)
    session.pause()
    session.stop()
    assert session.state == "ready"
    session.resume()  # starts it
    session.wait(60)
    session.pause()
    session.stop()
    assert session.state == "finished" and session.trainer.history.stop_reason is None


def test_starting_twice_trains_once(held):
    session, gate = held
    session.start()
    session.start()
    session.resume()
    assert sum(thread.name == "unetlab-training" for thread in threading.enumerate()) == 1


@pytest.mark.parametrize("paused", [False, True])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(held, paused):
    session, gate = held
    session.start()
    gate.let(4)
    if paused:
        session.pause()
    gate.open()
    session.stop()
    assert session.state == "stopped" and 4 < session.trainer.step < 20 * STEPS
    assert session.trainer.history.stop_reason == f"stopped by hand at step {session.trainer.step}"
    session.start()
    session.wait(60)
    assert rows(session.trainer.history) == rows(trainer(early_stopping=ul.EarlyStopping(patience=100)).fit(20))


def test_a_stop_that_comes_too_late_does_not_end_the_next_run():
    run, gate = gated_trainer()
    session = Session(run, epochs=2)
    session.start()
    gate.let(2 * STEPS - 1)
    threading.Timer(0.1, gate.open).start()
    session.stop()  # the last step is under way: the run ends by itself
    assert session.state == "finished"
    session.rewind(1)
    session.start()
    session.wait(60)
    assert session.state == "finished" and session.trainer.history.moves == []


# --------------------------------------------------------------------------------------------------------- the moves


def test_the_rate_changes_at_the_next_step(held):
    session, gate = held
    session.start()
    gate.let(4)  # steps 0 to 3 are done, 4 is under way
    session.set(lr=0.05)
    assert rate(session) == 1e-3
    gate.let(1)
    assert rate(session) == 0.05
    gate.let(1)
    assert [row["lr"] for row in session.trainer.history.steps] == [1e-3] * 5 + [0.05]
    assert session.trainer.history.moves == [ul.Move(5, 2, "lr", 1e-3, 0.05)]


def test_a_rate_set_before_the_start_holds_from_the_first_step():
    session = Session(trainer(), epochs=1)
    session.set(lr=0.05)
    assert session.trainer.controls.pending == {"lr": 0.05}
    session.start()
    session.wait(60)
    assert {row["lr"] for row in session.trainer.history.steps} == {0.05}
    assert session.trainer.controls.pending == {}


def test_a_released_rate_follows_its_schedule():
    """Under the hand's rate the schedule went its own way."""
    script = ul.Script([(2, {"lr": 0.5}), (5, {"lr": None})])
    schedule = ul.schedule_preview("cosine", 4 * STEPS, lr=1e-3).tolist()
    run, gate = gated_trainer(scheduler="cosine")
    session = Session(run, epochs=4)
    session.start()
    gate.let(1)
    session.set(lr=0.5)
    gate.let(3)
    session.release()
    gate.open()
    session.wait(60)
    assert [row["lr"] for row in run.history.steps] == schedule[:2] + [0.5] * 3 + schedule[5:]
    assert run.history.moves == finished(trainer(scheduler="cosine"), 4, script).trainer.history.moves


def test_patience_ends_the_run_at_the_next_evaluation(held):
    session, gate = held
    session.set(min_delta=1)  # nothing improves by 1
    session.start()
    gate.let(5 * STEPS + 1)  # five evaluations, four of them in vain
    assert session.trainer.early_stopping.patience == 100
    session.set(patience=2)
    gate.let(1)
    assert session.trainer.early_stopping.patience == 2 and session.training
    gate.open()
    session.wait(60)
    assert session.trainer.epoch == 6 and session.state == "stopped"
    assert "early stopping at epoch 6" in session.trainer.history.stop_reason


def test_min_delta_acts_at_the_next_evaluation(held):
    session, gate = held
    session.start()
    gate.let(3 * STEPS)
    session.set(min_delta=0.9)
    gate.let(2 * STEPS)
    waits = session.trainer.history.column("wait")
    assert session.trainer.early_stopping.min_delta == 0.9
    assert waits[3:] == [waits[2] + 1, waits[2] + 2]


def test_senseless_moves_change_nothing(held):
    session, gate = held
    session.start()
    gate.let(1)
    for change, problem in [({"lr": 0}, "above 0"), ({"lr": 0.1, "patience": -1}, "patience must be")]:
        with pytest.raises(ValueError, match=problem):
            session.set(**change)
    gate.let(2)
    assert rate(session) == 1e-3 and session.trainer.history.moves == []


# ------------------------------------------------------------------------------------------- rewind, fork, replay


def test_a_rewound_run_trains_the_same_again(held):
    session, gate = held
    session.start()
    gate.let(2 * STEPS)
    session.set(lr=0.02)
    gate.open()
    until(lambda: session.trainer.epoch > 6)
    session.rewind(2)
    assert not session.training and (session.trainer.epoch, session.trainer.step) == (2, 2 * STEPS)
    assert (rate(session), session.trainer.history.moves) == (1e-3, [])
    session.start()
    session.wait(60)
    assert rows(session.trainer.history) == rows(trainer(early_stopping=ul.EarlyStopping(patience=100)).fit(20))


def test_what_was_asked_for_survives_a_rewind(held):
    """Stop, move the rate, rewind, start: the rate in the hand is the one that is meant."""
    session, gate = held
    session.start()
    gate.let(2 * STEPS)
    gate.open()
    session.stop()
    session.set(lr=0.02)
    session.rewind(1)
    session.start()
    session.wait(60)
    assert session.trainer.history.moves[0] == ul.Move(STEPS, 2, "lr", 1e-3, 0.02)


@pytest.mark.parametrize("go_back", [Session.rewind, Session.fork])
def test_no_way_back_to_what_was_not_kept(go_back):
    session = finished(trainer(), 2)
    with pytest.raises(ValueError, match="no snapshot of epoch 7; snapshots: 0, 1, 2"):
        go_back(session, 7)
    assert len(session.runs) == 1 and session.trainer.epoch == 2


def test_a_fork_without_changes_equals_its_parent():
    session = finished(trainer(scheduler="exponential"), 4)
    parent = session.trainer
    before = rows(parent.history)
    run = session.fork(2)
    session.wait(60)
    assert (run.name, run.since) == ("fork 1 at epoch 2", 2)
    assert session.run is run and session.trainer is not parent
    assert rows(session.trainer.history) == rows(parent.history) == before


def test_a_fork_with_another_rate_keeps_its_parents_curve():
    session = finished(trainer(), 4)
    parent = session.trainer
    before, weights = rows(parent.history), {k: v.clone() for k, v in parent.model.state_dict().items()}
    session.fork(2, lr=0.03)
    session.wait(60)
    epochs, steps, moves = rows(session.trainer.history)
    assert (epochs[:2], steps[: 2 * STEPS]) == (before[0][:2], before[1][: 2 * STEPS])
    assert {row["lr"] for row in steps[2 * STEPS :]} == {0.03}
    assert moves == [ul.Move(2 * STEPS, 3, "lr", 1e-3, 0.03)]
    assert epochs[3]["val_loss"] != before[0][3]["val_loss"]
    assert rows(parent.history) == before
    assert all(torch.equal(v, weights[k]) for k, v in parent.model.state_dict().items())


def test_a_fork_stops_its_parent(held):
    session, gate = held
    session.start()
    gate.let(STEPS + 1)
    gate.open()
    parent = session.trainer
    session.fork(1, lr=0.02, patience=7)
    session.wait(60)
    assert parent.history.stop_reason.startswith("stopped by hand")
    assert session.trainer.early_stopping.patience == 7 and parent.early_stopping.patience == 100


def test_a_fork_with_a_senseless_rate_is_refused():
    session = finished(trainer(), 2)
    with pytest.raises(ValueError, match="lr must be"):
        session.fork(1, lr=-1)
    assert len(session.runs) == 1 and session.state == "finished"


def test_forks_of_forks():
    session = finished(trainer(), 3)
    for _ in range(2):
        session.fork(2, lr=0.01)
        session.wait(60)
    assert [run.name for run in session.runs] == ["run 1", "fork 1 at epoch 2", "fork 2 at epoch 2"]
    assert rows(session.runs[1].trainer.history)[0] == rows(session.runs[2].trainer.history)[0]


def test_a_replay_equals_the_original(held):
    session, gate = held
    session.start()
    gate.let(2)
    session.set(lr=0.02)
    gate.let(STEPS)
    session.set(patience=4, min_delta=1e-4)
    gate.let(STEPS)
    session.release()
    gate.open()
    session.wait(60)
    original = session.trainer
    run = session.replay()
    session.wait(60)
    assert run.name == "replay 1" and session.trainer is not original
    assert len(original.history.moves) == 4
    assert rows(session.trainer.history) == rows(original.history)
    assert all(
        torch.equal(a, b)
        for a, b in zip(original.model.state_dict().values(), session.trainer.model.state_dict().values(), strict=True)
    )


def test_a_replay_of_a_fork_makes_all_its_moves():
    session = finished(trainer(), 4, ul.Script([(1, {"lr": 0.01})]))
    session.fork(2, lr=0.03)
    session.wait(60)
    fork = session.trainer
    session.replay()
    session.wait(60)
    assert rows(session.trainer.history) == rows(fork.history)


@pytest.mark.parametrize("moves", [[(4, {"lr": 0.02})], ul.Script([(4, {"lr": 0.02})])], ids=["list", "script"])
def test_a_replay_of_given_moves(moves):
    session = finished(trainer(), 3)
    session.replay(moves)
    session.wait(60)
    assert [row["lr"] for row in session.trainer.history.steps] == [1e-3] * 4 + [0.02] * 5


def test_a_script_for_one_stretch_is_not_kept():
    session = Session(trainer(), 3)
    session.start(ul.Script([(4, {"lr": 0.02}), (5, {"stop": True})]))
    session.wait(60)
    assert session.state == "stopped" and len(session.trainer.history.steps) == 5
    session.rewind(0)
    session.start()
    session.wait(60)
    assert session.trainer.history.moves == [] and session.state == "finished"


def test_a_replayed_stop_ends_the_run_once():
    session = finished(trainer(), 3, ul.Script([(4, {"lr": 0.02, "stop": True}), (6, {"lr": 0.03})]))
    assert (session.trainer.step, session.state) == (4, "stopped")
    original = rows(session.trainer.history)
    session.replay()
    session.wait(60)
    assert (session.trainer.step, session.state) == (4, "stopped")
    assert rows(session.trainer.history) == original
    for run, rates in [(session.runs[1], [0.02]), (session.runs[0], [0.02, 0.03])]:  # Start goes on, the script too
        session.run = run
        session.start()
        session.wait(60)
        assert session.state == "finished"
        assert [move.new for move in run.trainer.history.moves] == rates


def test_moves_are_saved_and_loaded(tmp_path):
    path = tmp_path / "moves.json"
    session = finished(trainer(scheduler="cosine"), 4, ul.Script([(2, {"lr": 0.02}), (7, {"lr": None})]))
    session.save_moves(path)
    assert path.stat().st_size < 2000
    session.replay(ul.Script.from_json(path))
    session.wait(60)
    assert rows(session.trainer.history) == rows(session.runs[0].trainer.history)


def test_moves_can_be_saved_before_the_first_epoch(tmp_path):
    session = Session(trainer(), epochs=2)
    session.save_moves(tmp_path / "moves.json")
    assert ul.Script.from_json(tmp_path / "moves.json").moves == []


# ------------------------------------------------------------------------------------------------ pace and the ledger


def test_a_hand_gets_its_pace_and_who_waits_does_not():
    session = Session(trainer(), 10**6, pace=0.05)
    session.start()
    until(lambda: session.trainer.step > 1)
    step, started = session.trainer.step, time.monotonic()
    until(lambda: session.trainer.step >= step + 4)
    assert time.monotonic() - started >= 0.15
    session.wait(0.01)
    assert session.trainer.controls.pace == 0
    session.stop()
    session.start()
    assert session.trainer.controls.pace == 0.05
    session.stop()
    replay = session.replay()
    assert replay.trainer.controls.pace == 0  # no hand is needed
    session.stop()


def test_the_ledger_keeps_what_a_rewind_forgets():
    session = finished(trainer(), 4)
    losses = session.trainer.history.column("val_loss")
    session.rewind(1)
    session.start()
    session.wait(60)
    assert [row["val_loss"] for row in session.ledger] == losses + losses[1:]
    assert [row["step"] for row in session.ledger] == [STEPS * epoch for epoch in (1, 2, 3, 4, 2, 3, 4)]
    assert [row["paid"] for row in session.ledger] == [STEPS * epochs for epochs in range(1, 8)]
    assert session.steps_paid == 7 * STEPS and len(session.trainer.history) == 4


def test_the_ledger_of_forks_and_replays():
    session = finished(trainer(), 3)
    session.fork(2, lr=0.02)
    session.wait(60)
    session.replay()
    session.wait(60)
    assert [row["run"] for row in session.ledger] == ["run 1"] * 3 + ["fork 1 at epoch 2"] + ["replay 1"] * 3
    assert [row["paid"] // STEPS for row in session.ledger] == list(range(1, 8))


def test_steps_of_a_broken_epoch_are_paid():
    session = finished(trainer(), 4, ul.Script([(STEPS + 1, {"stop": True})]))
    assert (session.steps_paid, len(session.ledger)) == (STEPS + 1, 1)
    session.run.script = None
    session.start()  # the same epoch goes on
    session.wait(60)
    assert session.steps_paid == 4 * STEPS and [row["paid"] // STEPS for row in session.ledger] == [1, 2, 3, 4]

    diverged = finished(trainer(), 4, ul.Script([(STEPS, {"lr": 1e38})]))
    assert diverged.trainer.diverged and diverged.trainer.step == STEPS < diverged.steps_paid


def test_what_was_trained_before_is_in_the_ledger_and_costs_nothing():
    run = trainer()
    run.fit(2, verbose=None)
    session = finished(run, 3)
    assert [row["paid"] for row in session.ledger] == [-STEPS, 0, STEPS] and session.steps_paid == STEPS


# ------------------------------------------------------------------------------------------- how a run can end


def test_an_exception_is_kept_and_raised_by_wait(held):
    session, gate = held
    session.start()
    gate.let(STEPS + 1)

    def broken(logits, masks):
        raise ZeroDivisionError("the loss is broken")

    gate.loss.forward = broken
    gate.open()
    with pytest.raises(ZeroDivisionError, match="the loss is broken"):
        session.wait(60)
    assert session.state == "failed"
    del gate.loss.forward
    session.start()  # from the last whole epoch
    session.wait(60)
    assert session.state == "finished" and session.error is None
    assert rows(session.trainer.history) == rows(trainer(early_stopping=ul.EarlyStopping(patience=100)).fit(20))


def test_a_rewound_run_has_no_error():
    class Broken(Exception):
        pass

    def loss(logits, masks):
        if torch.is_grad_enabled() and session.trainer.step == 4:
            raise Broken
        return ul.DiceLoss()(logits, masks)

    session = Session(trainer(loss=loss), epochs=3)
    session.start()
    with pytest.raises(Broken):
        session.wait(60)
    session.rewind(0)
    session.wait(60)
    assert session.state == "ready"


def test_a_diverging_run_says_so_and_can_go_on():
    session = finished(trainer(), 6, ul.Script([(4, {"lr": 1e38})]))
    run = session.trainer
    assert session.state == "stopped" and run.diverged
    assert "learning rate 1e+38" in run.history.stop_reason
    session.fork(1, lr=1e-3)
    session.wait(60)
    assert session.state == "finished"


def test_a_wait_with_a_limit_returns_while_the_run_goes_on(held):
    session, gate = held
    session.wait(0.01)
    session.start()
    started = time.monotonic()
    session.wait(0.1)
    assert session.training and time.monotonic() - started < 30


@pytest.mark.skipif(os.name != "posix", reason="sends itself a signal as a terminal does; only POSIX systems can")
def test_an_interrupt_of_the_wait_stops_the_run_cleanly(held):
    session, gate = held
    session.start()
    gate.let(STEPS + 1)
    main = threading.main_thread().ident
    threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()
    threading.Timer(0.5, gate.open).start()
    session.wait(60)
    assert session.state == "stopped"
    assert session.trainer.history.stop_reason == f"stopped by hand at step {session.trainer.step}"
    assert len(session.trainer.history.steps) == session.trainer.step
    session.start()
    session.wait(60)
    assert rows(session.trainer.history) == rows(trainer(early_stopping=ul.EarlyStopping(patience=100)).fit(20))


@pytest.mark.parametrize("lab", ["Session(trainer(), 10**6)", "ul.LiveLab(trainer(), 10**6)"])
def test_a_process_ends_while_the_run_trains(lab):
    """torch aborts a process whose threads are in the middle of a step."""
    code = f"""
from tiny import trainer
import unetlab as ul
from unetlab.lab.session import Session
lab = {lab}
lab.start()
while getattr(lab, "session", lab).trainer.step < 5: pass
"""
    here = os.path.dirname(__file__)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([here, os.path.dirname(here)])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


# -------------------------------------------------------------------------------------------- what it starts from


def test_a_trainer_that_was_trained_before():
    run = trainer()
    run.fit(2, verbose=False)
    session = Session(run, epochs=4)
    assert session.state == "stopped"  # on its way, and not training
    session.start()
    session.wait(60)
    assert session.state == "finished" and len(run.history) == 4
    session.replay()
    session.wait(60)
    assert rows(session.trainer.history) == rows(run.history)


def test_a_trainer_that_was_trained_for_longer():
    run = trainer()
    run.fit(3, verbose=False)
    session = finished(run, 2)
    assert session.state == "finished" and run.epoch == 3


def test_two_sessions_in_one_process_do_not_mix():
    """Both train at once, with dropout, and each gives the numbers that it gives alone."""

    def make(seed):
        return ul.Trainer(unet(dropout=0.5), TRAIN, VAL, batch_size=4, device="cpu", seed=seed)

    scripts = {0: ul.Script([(3, {"lr": 0.02})]), 1: ul.Script([(5, {"lr": 0.005})])}
    sessions = {seed: Session(make(seed), 8, script) for seed, script in scripts.items()}
    for session in sessions.values():
        session.start()
    for session in sessions.values():
        session.wait(60)
    for seed, script in scripts.items():
        assert rows(sessions[seed].trainer.history) == rows(finished(make(seed), 8, script).trainer.history)

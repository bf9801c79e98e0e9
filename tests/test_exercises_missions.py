"""The missions of the live lessons: what is missing is said, and every step that was paid for counts."""

import pytest
from checkers import said
from gate import gated_trainer
from tiny import STEPS, trainer

import unetlab as ul
from unetlab.exercises.missions import (
    _MISTAKES,
    _STOPS,
    Duel,
    Rescue,
    Sprint,
    Thrift,
    _stop,
    check_as_moves,
    check_stop,
)
from unetlab.history import History
from unetlab.lab.session import Session

PER_EPOCH = 10  # optimizer steps in an epoch of a made-up run


def ran(*dices, rates=(0.01,)):
    """The history of a run with these scores; the rates are in force for equal parts of it."""
    history, steps = History(), PER_EPOCH * len(dices)
    history.steps = [
        {"step": i, "epoch": 1 + i // PER_EPOCH, "loss": 1.0, "lr": rates[i * len(rates) // steps]}
        for i in range(steps)
    ]
    history.epochs = [{"epoch": i + 1, "val_dice": dice} for i, dice in enumerate(dices)]
    return history


def played(epochs=6, lr=0.02):
    """A session whose run has ended."""
    session = Session(trainer(lr=lr), epochs)
    session.start()
    session.wait(60)
    return session


def rises(session):
    """An epoch, not the first one, that is better than all before it."""
    dices = session.trainer.history.column("val_dice")
    return next(epoch for epoch in range(2, len(dices) + 1) if dices[epoch - 1] > max(dices[: epoch - 1]))


# ---------------------------------------------------------------------------------------------------------- not ended

MISSIONS = [Sprint(), Rescue(), Duel(ran(0.8)), Thrift(ran(0.8))]


@pytest.mark.parametrize("mission", MISSIONS)
def test_nothing_was_trained(mission):
    for nothing in (History(), Session(trainer(), 3)):
        assert said(mission.judge(nothing), "not attempted", "press Start")


@pytest.mark.parametrize("mission", MISSIONS)
def test_what_was_trained_before_the_session_is_no_attempt(mission):
    run = trainer()
    run.fit(2, verbose=None)
    assert said(mission.judge(Session(run, 4)), "not attempted", "press Start")


@pytest.mark.parametrize("mission", MISSIONS)
def test_a_run_under_way_is_not_judged(mission):
    run, gate = gated_trainer()
    session = Session(run, 3)
    session.start()
    gate.let(1)
    assert said(mission.judge(session), "not yet", "still under way: wait for its end")
    session.pause()
    assert said(mission.judge(session), "not yet", "paused: press Resume")
    gate.open()
    session.stop()


def test_stopped_within_the_first_epoch():
    session = Session(trainer(), 3, ul.Script([(1, {"stop": True})]))
    session.start()
    session.wait(60)
    assert said(Sprint().judge(session), "not attempted", "press Start")


# -------------------------------------------------------------------------------------------------------------- sprint


def test_the_score_is_the_share_of_the_budget_that_is_left():
    sprint = Sprint(dice=0.85, steps=40)
    assert said(sprint.judge(ran(0.5, 0.86, 0.9, 0.8)), "won", "Dice 0.86 after 20 of 40 steps. Score 50.")
    assert said(sprint.judge(ran(0.85)), "won", "after 10 of 40 steps. Score 75.")
    assert said(sprint.judge(ran(0.1, 0.2, 0.3, 0.85)), "won", "after 40 of 40 steps. Score 0.")


def test_too_late():
    verdict = Sprint(dice=0.85, steps=20).judge(ran(0.5, 0.6, 0.9))
    assert said(verdict, "not yet", "the Dice of 0.85 came after 30 steps, and 20 are the budget.")


SPRINTS = {
    "The rate was 0.0001 from the first step to the last. Move it up, tenfold": (0.0001,),
    "The rate was 0.02 from the first step to the last.": (0.02,),
    "The rate is still at 0.3: lower it": (0.01, 0.3),
    "The rate is still at 1: lower it": (1,),
    "The last rate was 0.0003, and at that the network hardly moves": (0.01, 0.0003),
    "The rate is a good one now: train on, press Start again": (0.0001, 0.01),
}


@pytest.mark.parametrize("advice", SPRINTS)
def test_a_sprint_that_fails_is_told_what_to_try(advice):
    verdict = Sprint().judge(ran(0.3, 0.6, 0.5, rates=SPRINTS[advice]))
    assert said(verdict, "not yet", "the best Dice in 30 steps was 0.60, and 0.85 is the goal. " + advice)


def test_steps_that_were_rewound_are_paid():
    session = played()
    goal = rises(session)
    sprint = Sprint(dice=session.trainer.history.epochs[goal - 1]["val_dice"], steps=100)
    assert said(sprint.judge(session), "won", f"after {goal * STEPS} of 100 steps. Score {100 - goal * STEPS}.")

    again = Session(trainer(lr=0.02), goal - 1)
    for _ in range(3):  # the same epochs three times, and never the one that counts
        again.start()
        again.wait(60)
        again.rewind(0)
    again.epochs = goal
    again.start()
    again.wait(60)
    thrown = 3 * (goal - 1) * STEPS
    paid = thrown + goal * STEPS
    score = round(100 * (1 - paid / 100))
    said(
        sprint.judge(again),
        "won",
        f"after {paid} of 100 steps ({thrown} of them were rewound or forked away). Score {score}.",
    )
    assert again.steps_paid == paid
    assert said(Sprint(sprint.dice, paid - 1).judge(again), "not yet", f"came after {paid} steps ({thrown} of them")


def test_steps_of_another_branch_are_paid():
    session = played(epochs=4)
    session.fork(1, lr=0.03)
    session.wait(60)
    assert session.steps_paid == (4 + 3) * STEPS
    best = max(row["val_dice"] for row in session.trainer.history.epochs)
    before = max(row["val_dice"] for row in session.ledger if row["run"] == "run 1")
    if best > before:  # else the goal was reached on the first branch
        assert said(Sprint(best, 100).judge(session), "won", f"({3 * STEPS} of them were rewound or forked away)")
    assert session.ledger[4]["paid"] == 5 * STEPS and session.ledger[4]["step"] == 2 * STEPS


# -------------------------------------------------------------------------------------------------------------- rescue


def test_broken_and_mended():
    rescue = Rescue(broken=0.5, near=0.05, steps=100)
    verdict = rescue.judge(ran(0.6, 0.8, 0.41, 0.4, 0.6, 0.76))
    assert said(
        verdict,
        "won",
        "the Dice fell from 0.80 to 0.40 and was mended in the same run after 20 steps of 100. Score 80.",
    )
    late = rescue.judge(ran(0.8, 0.0, *[0.5] * 10, 0.8))
    assert said(late, "not yet", "it was mended in the same run, but after 110 steps, and 100 are the budget.")


def test_nothing_broke():
    verdict = Rescue().judge(ran(0.6, 0.8, 0.5, 0.7))
    assert said(verdict, "not yet", "nothing broke: the Dice was 0.80 at its best, and never fell below 0.50")
    assert said(Rescue().judge(ran(0.0, 0.0, 0.5)), "not yet", "nothing broke"), (
        "a network that has not begun is not broken"
    )


RESCUES = {
    "The rate is still at 0.3: lower it": (0.01, 0.3),
    "The last rate was 0.001, and at that the network hardly moves": (0.01, 0.3, 0.001),
    "The rate is a good one now: train on, press Start again, or rewind to a better epoch": (0.01, 0.3, 0.01),
}


@pytest.mark.parametrize("advice", RESCUES)
def test_a_rescue_that_fails_is_told_what_to_try(advice):
    verdict = Rescue().judge(ran(0.8, 0.1, 0.3, 0.2, rates=RESCUES[advice]))
    fall = "the Dice fell from 0.80 to 0.10 and came back to 0.30, and 0.75 is the goal. "
    assert said(verdict, "not yet", fall + advice)


def test_going_back_is_a_way_to_mend():
    run = trainer(lr=0.02)
    run.fit(20, verbose=None)
    best = max(run.history.column("val_dice"))
    assert best > 0.5
    for how in ("rewind", "fork"):
        session = Session(run.fork(20), 22, ul.Script([(60, {"lr": 100.0})]))
        session.start()
        session.wait(60)
        crash = session.ledger[20:]
        assert min(row["val_dice"] for row in crash) < best / 2
        assert said(Rescue(near=0.3).judge(session), "not yet", "The rate is still at 1e+02")
        session.run.script = None
        if how == "rewind":
            session.rewind(20)
            session.start()
        else:
            session.fork(20)
        session.wait(60)
        assert said(Rescue(near=0.3).judge(session), "won", "was mended by going back after")


def test_going_back_may_take_longer_than_the_way_to_the_crash():
    session = Session(trainer(), 9)
    rows = [(1, 0.9), (2, 0.1), (3, 0.2), (2, 0.6), (3, 0.7), (4, 0.9)]  # epoch and Dice; after epoch 3 back to 1
    session.ledger = [
        {"run": "run 1", "step": 10 * epoch, "paid": 10 * i, "val_dice": dice}
        for i, (epoch, dice) in enumerate(rows, 1)
    ]
    assert said(Rescue().judge(session), "won", "was mended by going back after 40 steps of 200. Score 80.")


def test_what_was_trained_before_is_the_best_to_come_back_to():
    """The first epoch in the session may be the one that breaks."""
    rows = ran(0.9, 0.9, 0.1, 0.9)
    session = Session(trainer(), 9)
    session.ledger = [
        row | {"run": "run 1", "step": 10 * i, "paid": 10 * (i - 2)} for i, row in enumerate(rows.epochs, 1)
    ]
    assert said(Rescue().judge(session), "won", "fell from 0.90 to 0.10 and was mended in the same run after 10 steps")


# ---------------------------------------------------------------------------------------------------------------- duel


def test_a_duel_is_won_by_the_last_dice():
    duel = Duel(ran(0.5, 0.9, 0.8))
    assert said(
        duel.judge(ran(0.5, 0.6, 0.83)), "won", "ends at 0.830, the schedule at 0.800, after 30 of 30 steps. Score 3.0."
    )
    assert said(duel.judge(ran(0.8)), "won", "after 10 of 30 steps. Score 0.0.")


DUELS = {
    "lower the rate towards the end": ((0.2, 0.95, 0.7), (0.01,)),
    "Bring it higher before you calm it down": ((0.2, 0.6, 0.7), (0.01, 0.001)),
}


@pytest.mark.parametrize("advice", DUELS)
def test_a_duel_that_is_lost_is_told_what_to_try(advice):
    dices, rates = DUELS[advice]
    verdict = Duel(ran(0.5, 0.9, 0.8)).judge(ran(*dices, rates=rates))
    assert said(verdict, "not yet", "your hand ends at 0.700, the schedule at 0.800. ")
    assert advice in verdict.message


def test_a_duel_with_too_many_steps():
    session = played(epochs=3)
    session.rewind(2)
    session.start()
    session.wait(60)
    schedule = session.trainer.history
    verdict = Duel(schedule).judge(session)
    assert said(verdict, "not yet", f"you paid for {4 * STEPS} steps, and the schedule for {3 * STEPS}")
    assert said(Duel(schedule).judge(played(epochs=3)), "won", "Score 0.0")


# -------------------------------------------------------------------------------------------------------------- thrift

WHOLE = ran(0.5, 0.8, 0.86, 0.85, 0.86, 0.87, 0.8, 0.8, 0.7, 0.7)


def stopped(
    waits, dices=(0.5, 0.8, 0.86, 0.85, 0.86, 0.87, 0.8, 0.8, 0.7, 0.7), reason="early stopping at epoch 4: ..."
):
    """A run that ended with these counters of early stopping."""
    history = ran(*dices[: len(waits)])
    history.epochs = [row | {"wait": wait} for row, wait in zip(history.epochs, waits, strict=True)]
    history.stop_reason = reason
    return history


def test_the_score_is_the_compute_that_was_saved():
    verdict = Thrift(WHOLE).judge(stopped([0, 0, 0, 1]))
    assert said(
        verdict,
        "won",
        "epoch 3 was kept, with a Dice of 0.86; the whole run has 0.87. You paid for 40 of 100 steps. Score 60.",
    )


@pytest.mark.parametrize(
    ("history", "message"),
    [
        (stopped([0, 0, 0, 1], reason=None), "the run went on to its last epoch, and patience had no part in it"),
        (stopped([0, 0, 0, 1], reason="stopped by hand at step 40"), "it was stopped by hand"),
        (stopped([0, 0, 1]), "epoch 2 was kept, with a Dice of 0.80; the whole run has 0.87. That was too impatient"),
        (stopped([0, 0, 0, 1, 2, 3]), "But you paid for 60 steps, and 50% of 100 is the goal."),
    ],
)
def test_no_thrift(history, message):
    assert said(Thrift(WHOLE).judge(history), "not yet", message)


def test_what_is_rewound_is_not_saved():
    def stopping():
        return trainer(early_stopping=ul.EarlyStopping(min_delta=10.0, patience=2))  # only the first epoch improves

    session = Session(stopping(), 20)
    session.start()
    session.wait(60)
    mission = Thrift(ran(0.0, 0.0, 0.0), near=1.0, share=0.5)
    assert session.trainer.epoch == 3 and session.steps_paid == 3 * STEPS
    assert said(mission.judge(session), "won", f"You paid for {3 * STEPS} of 30 steps.")
    session.rewind(1)
    session.start()
    session.wait(60)
    assert said(mission.judge(session), "won" if 5 * STEPS <= 15 else "not yet")
    session.rewind(1)
    session.start()
    session.wait(60)
    assert said(mission.judge(session), "not yet", f"But you paid for {7 * STEPS} steps, and 50% of 30")


# -------------------------------------------------------------------------------------- patience that is moved on the way


@pytest.mark.parametrize("nothing", [None, ...])
def test_stops_not_attempted(nothing):
    assert said(check_stop(lambda losses, patience, moves: nothing), "not attempted", "a counter")


def test_the_right_stops_are_those_of_the_package():
    for losses, patience, moves in _STOPS:
        stopper, epochs = ul.EarlyStopping(patience=patience), []
        for epoch, loss in enumerate(losses, 1):
            stopper.patience = moves.get(epoch, stopper.patience)
            if stopper.update(loss).stop:
                epochs.append(epoch)
                break
        assert (epochs or [None])[0] == _stop(losses, patience, moves)
    assert said(check_stop(lambda losses, patience, moves: _stop(losses, patience, moves)), "right", "only then")


@pytest.mark.parametrize("message", _MISTAKES)
def test_wrong_stops(message):
    mistake = _MISTAKES[message]
    assert said(check_stop(lambda losses, patience, moves: _stop(losses, patience, moves, **mistake)), "wrong", message)


def test_an_unknown_mistake_shows_its_case():
    assert said(check_stop(lambda losses, patience, moves: 4), "wrong", "you say 4, and it is 5.")


# ----------------------------------------------------------------------------------------------- a schedule as a hand


@pytest.mark.parametrize("nothing", [None, ...])
def test_as_moves_not_attempted(nothing):
    assert said(check_as_moves(lambda rates: nothing), "not attempted", "a step and a dict")


def changes_only(rates):
    return [(i, {"lr": rate}) for i, rate in enumerate(rates) if i == 0 or rate != rates[i - 1]]


@pytest.mark.parametrize("function", [lambda rates: [(i, {"lr": r}) for i, r in enumerate(rates)], changes_only])
def test_right_moves(function):
    assert said(check_as_moves(function), "right", "never looks at it")


MOVES = {
    "Steps are counted from 0": lambda rates: [(i, {"lr": r}) for i, r in enumerate(rates, 1)],
    "is a list of (step, {name: value})": lambda rates: rates,
    "the learning rate is called 'lr'": lambda rates: [(i, {"rate": r}) for i, r in enumerate(rates)],
    "at step 3 your hand holds 0.01, and the schedule 0.004": lambda rates: [(0, {"lr": rates[0]})],
    "you also move before step 8": lambda rates: [(i, {"lr": r}) for i, r in enumerate([*rates, 0.1])],
}


@pytest.mark.parametrize("message", MOVES)
def test_wrong_moves(message):
    assert said(check_as_moves(MOVES[message]), "wrong", message)

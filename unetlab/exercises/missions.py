"""The missions of the live lessons ``03d_live_learning_rate`` and ``04c_live_patience``: a goal, a budget, a score.

A mission judges what a hand did in a ``Session`` of the live lab, or what a run did without one (its ``History``). It
counts every optimizer step that was paid for: a rewind takes an epoch out of the history, and not off the bill.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from unetlab.controls import Script
from unetlab.exercises.verdict import Verdict, not_attempted, not_yet, right, won, wrong
from unetlab.history import History
from unetlab.lab.session import Session

LOW, HIGH = (
    3e-3,
    0.1,
)  # below the one AdamW is slow on the small networks of the lessons, above the other it breaks them


@dataclass(frozen=True)
class Sprint:
    """Reach a validation Dice of ``dice`` within ``steps`` optimizer steps. Half of them left is a score of 50."""

    dice: float = 0.85
    steps: int = 400

    def judge(self, work: Session | History) -> Verdict:
        """Won with a score, or what is missing: a higher rate, a lower one, or steps that a rewind threw away."""
        unfinished = _unfinished(work)
        if unfinished:
            return unfinished
        rows = [row for row in _ledger(work) if row["paid"] > 0]
        goal = next((row for row in rows if row["val_dice"] >= self.dice), None)
        paid = _steps_paid(work) if goal is None else goal["paid"]
        if goal is None:
            best = max((row["val_dice"] for row in rows), default=0)
            short = f"the best Dice in {paid} steps was {best:.2f}, and {self.dice:g} is the goal"
            return not_yet(f"{short}. {_advice(_history(work))}")
        thrown = goal["paid"] - goal["step"]
        detour = f" ({thrown} of them were rewound or forked away)" if thrown > 0 else ""
        if paid > self.steps:
            return not_yet(
                f"the Dice of {self.dice:g} came after {paid} steps{detour}, and {self.steps} are the budget."
            )
        score = round(100 * (1 - paid / self.steps))
        return won(f"Dice {goal['val_dice']:.2f} after {paid} of {self.steps} steps{detour}. Score {score}.")


@dataclass(frozen=True)
class Rescue:
    """Break a trained network: its Dice falls to ``broken`` of its best. Then mend it: the Dice comes within ``near`` of it.

    What is scored are the steps from the first evaluation of the broken network to the mended one, at most ``steps``.
    """

    broken: float = 0.5
    near: float = 0.05
    steps: int = 200

    def judge(self, work: Session | History) -> Verdict:
        """Won with a score and the way it was mended, or what is missing: the break, or the way back."""
        unfinished = _unfinished(work)
        if unfinished:
            return unfinished
        rows, best, crash = _ledger(work), 0.0, None
        for row in rows:
            if row["paid"] > 0 and row["val_dice"] <= self.broken * best < best:
                crash = row
                break
            best = max(best, row["val_dice"])
        if crash is None:
            lowest = min(row["val_dice"] for row in rows if row["paid"] > 0)
            return not_yet(
                f"nothing broke: the Dice was {best:.2f} at its best, and never fell below {lowest:.2f}. "
                "Move the rate far up, to 0.3 or 1, and watch the training loss."
            )
        after = [row for row in rows if row["paid"] > crash["paid"]]
        mended = next((row for row in after if row["val_dice"] >= best - self.near), None)
        fall = f"the Dice fell from {best:.2f} to {crash['val_dice']:.2f}"
        if mended is None:
            back = max((row["val_dice"] for row in after), default=crash["val_dice"])
            short = f"{fall} and came back to {back:.2f}, and {best - self.near:.2f} is the goal"
            return not_yet(f"{short}. {_advice(_history(work))}")
        cost = mended["paid"] - crash["paid"]
        back = any(
            row["run"] != crash["run"] or row["step"] <= crash["step"] for row in after[: after.index(mended) + 1]
        )
        way = "by going back" if back else "in the same run"
        if cost > self.steps:
            return not_yet(f"{fall}; it was mended {way}, but after {cost} steps, and {self.steps} are the budget.")
        score = round(100 * (1 - cost / self.steps))
        return won(f"{fall} and was mended {way} after {cost} steps of {self.steps}. Score {score}.")


@dataclass(frozen=True)
class Duel:
    """End as high as a schedule: the last validation Dice against its last one, after no more steps than it took."""

    schedule: History

    def judge(self, work: Session | History) -> Verdict:
        """Won with the difference in hundredths as the score, or what is missing: Dice, or steps that were too many."""
        unfinished = _unfinished(work)
        if unfinished:
            return unfinished
        mine, theirs = _ledger(work)[-1]["val_dice"], self.schedule.epochs[-1]["val_dice"]
        paid, budget = _steps_paid(work), len(self.schedule.steps)
        ends = f"your hand ends at {mine:.3f}, the schedule at {theirs:.3f}"
        if paid > budget:
            return not_yet(f"you paid for {paid} steps, and the schedule for {budget}: {ends}. Rewinds count, too.")
        if mine < theirs:
            rates = [row["lr"] for row in _history(work).steps]
            late = "The schedule ends near 0, which calms the last steps: lower the rate towards the end."
            return not_yet(f"{ends}. " + (late if rates[-1] >= LOW else "Bring it higher before you calm it down."))
        return won(f"{ends}, after {paid} of {budget} steps. Score {100 * (mine - theirs):.1f}. One seed, one duel.")


@dataclass(frozen=True)
class Thrift:
    """Let early stopping end a run by ``share`` of the steps of the ``whole`` one, at a Dice within ``near`` of its best.

    The Dice is that of the weights that early stopping keeps: those of the last evaluation that improved.
    """

    whole: History
    share: float = 0.5
    near: float = 0.02

    def judge(self, work: Session | History) -> Verdict:
        """Won with the share of the steps saved as the score, or what is missing: the stop, the Dice, or the saving."""
        unfinished = _unfinished(work)
        if unfinished:
            return unfinished
        history, paid, total = _history(work), _steps_paid(work), len(self.whole.steps)
        if not (history.stop_reason or "").startswith("early stopping"):
            end = "it was stopped by hand" if history.stop_reason else "the run went on to its last epoch"
            return not_yet(f"{end}, and patience had no part in it. Lower the patience to meet the counter.")
        kept = [row for row in history.epochs if row["wait"] == 0][-1]
        best = max(self.whole.column("val_dice"))
        keeps = f"epoch {kept['epoch']} was kept, with a Dice of {kept['val_dice']:.2f}; the whole run has {best:.2f}"
        if kept["val_dice"] < best - self.near:
            return not_yet(f"{keeps}. That was too impatient: rewind, raise the patience, and press Start.")
        if paid > self.share * total:
            return not_yet(f"{keeps}. But you paid for {paid} steps, and {self.share:.0%} of {total} is the goal.")
        return won(f"{keeps}. You paid for {paid} of {total} steps. Score {round(100 * (1 - paid / total))}.")


def check_as_moves(function: Callable) -> Verdict:
    """``as_moves(rates)``: a schedule as the moves of a hand, pairs (step, {"lr": rate}), from its rate at every step."""
    rates = [0.01, 0.01, 0.01, 0.004, 0.004, 0.004, 0.001, 0.001]
    answer = function(list(rates))
    if answer is None or answer is Ellipsis:
        return not_attempted(
            "your function returns nothing yet: make a list of pairs, a step and a dict with its rate."
        )
    try:
        moves = Script(answer).moves
    except (TypeError, ValueError) as error:
        return wrong(str(error))
    strange = {name for _, changes in moves for name in changes} - {"lr"}
    if strange:
        return wrong(f"there is no control {strange.pop()!r} to move: the learning rate is called 'lr'.")
    hand = Script(moves)
    played, rate = [], math.nan
    for step in range(len(rates)):
        rate = ([rate] + [value for _, value in hand.at(step)])[-1]
        played.append(rate)
    if played == rates:
        extra = [step for step, _ in moves if step >= len(rates)]
        if extra:
            return wrong(
                f"{len(rates)} rates are for steps 0 to {len(rates) - 1}; you also move before step {extra[0]}."
            )
        return right("a schedule is a hand that knows all its moves before the run begins, and never looks at it.")
    if math.isnan(played[0]):
        return wrong("no move is made before step 0. Steps are counted from 0, so the first rate belongs there.")
    step = next(i for i, (mine, asked) in enumerate(zip(played, rates, strict=True)) if mine != asked)
    return wrong(f"at step {step} your hand holds {played[step]:g}, and the schedule {rates[step]:g}.")


# Losses of an epoch each, the patience at the start, and {epoch: new patience}: cases that tell the mistakes apart.
_STOPS = [
    ([0.9, 0.7, 0.8, 0.8, 0.8, 0.8, 0.8], 3, {}),
    ([0.9, 0.7, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8], 9, {5: 2}),
    ([0.9, 0.8, 0.9, 0.9, 0.9, 0.5, 0.6, 0.6, 0.6], 9, {6: 2}),
    ([0.9, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], 4, {5: 6}),
    ([0.5, 0.9, 0.8, 0.7, 0.6, 0.55, 0.52, 0.51], 4, {3: 5}),
    ([0.9, 0.8, 0.7, 0.6, 0.5], 2, {3: 1}),
]
_MISTAKES = {
    "your counter starts anew when the patience is moved. A move changes the limit; the counter goes on.": {
        "reset": True
    },
    "you stop at the moved limit though that evaluation improves. First the loss is compared, then the counter.": {
        "at_once": True
    },
    "you stop one epoch late: the run ends when the counter *reaches* the patience.": {"late": True},
    "your patience never moves: look up the epoch in `moves` before you compare.": {"deaf": True},
    "you compare with the epoch before. The counter asks for the *best* so far.": {"previous": True},
    "you count from 0. The lab counts epochs from 1.": {"shift": -1},
}


def check_stop(function: Callable) -> Verdict:
    """``stops_at(losses, patience, moves)``: the epoch, counted from 1, at which early stopping ends the run, or None.

    ``moves`` is {epoch: patience}: a patience that is in force from the evaluation of that epoch on.
    """
    answers = [function(list(losses), patience, dict(moves)) for losses, patience, moves in _STOPS]
    truths = [_stop(*case) for case in _STOPS]
    if all(answer is None or answer is Ellipsis for answer in answers):
        return not_attempted("your function returns nothing yet: go through the losses with a best one and a counter.")
    if answers == truths:
        return right("compare with the best, count, and only then look at the limit, whatever it is by then.")
    for because, mistake in _MISTAKES.items():
        if answers == [_stop(*case, **mistake) for case in _STOPS]:
            return wrong(because)
    case, answer, truth = next(trio for trio in zip(_STOPS, answers, truths, strict=True) if trio[1] != trio[2])
    losses, patience, moves = case
    return wrong(f"for losses {losses}, patience {patience} and moves {moves} you say {answer}, and it is {truth}.")


def _stop(losses, patience, moves, reset=False, at_once=False, late=False, deaf=False, previous=False, shift=0):
    """The epoch of the stop, counted from 1; the options are the mistakes that are known."""
    best, wait = math.inf, 0
    for epoch, loss in enumerate(losses, 1):
        if epoch in moves and not deaf:
            patience = moves[epoch]
            if at_once and wait >= patience:
                return epoch
            wait = 0 if reset else wait
        wait = 0 if loss < best else wait + 1
        best = loss if previous else min(best, loss)
        if wait and wait >= patience + late:
            return epoch + shift
    return None


def _ledger(work: Session | History) -> list[dict]:
    """A row for each evaluation that was paid for, in order."""
    if isinstance(work, Session):
        return work.ledger
    steps = _steps_per_epoch(work)
    return [row | {"run": "", "step": row["epoch"] * steps, "paid": row["epoch"] * steps} for row in work.epochs]


def _steps_paid(work: Session | History) -> int:
    return work.steps_paid if isinstance(work, Session) else len(work.steps)


def _steps_per_epoch(history: History) -> int:
    return sum(row["epoch"] == 1 for row in history.steps)


def _history(work: Session | History) -> History:
    """That of the run in hand."""
    return work.trainer.history if isinstance(work, Session) else work


def _unfinished(work: Session | History) -> Verdict | None:
    """Why there is nothing to judge yet, if so."""
    if isinstance(work, Session) and work.training:
        held = (
            "paused: press Resume, or Stop"
            if work.state == "paused"
            else "still under way: wait for its end, or press Stop"
        )
        return not_yet(f"the run is {held}.")
    if not any(row["paid"] > 0 for row in _ledger(work)):
        return not_attempted("nothing was trained yet: press Start in the lab, or let lab.wait() start the run.")
    return None


def _advice(history: History) -> str:
    """What to try next, from the rates that were used."""
    rates = [row["lr"] for row in history.steps]
    if rates[-1] >= HIGH:
        return f"The rate is still at {rates[-1]:.2g}: lower it, tenfold at a time, until the loss falls again."
    if max(rates) == min(rates):
        where = f"The rate was {rates[0]:.2g} from the first step to the last"
        return f"{where}. Move it up, tenfold at a time, as long as the loss falls." if rates[0] < LOW else f"{where}."
    if rates[-1] < LOW:
        return f"The last rate was {rates[-1]:.2g}, and at that the network hardly moves: raise it."
    return "The rate is a good one now: train on, press Start again, or rewind to a better epoch."

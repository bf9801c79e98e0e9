"""Checkers for the exercises of ``04a_early_stopping``. Each answers right, wrong (because ...) or not attempted."""

import copy
import math
from collections.abc import Callable
from numbers import Number

import numpy as np
import torch

from unetlab.exercises.verdict import Verdict, not_attempted, right, wrong

# ------------------------------------------------------------------------------------------------------ the whole class


def check_early_stopping(stopper_class: type) -> Verdict:
    """A class like this, put through the checks of ``CHECKS``; every one that fails is told.

    * ``EarlyStopping(patience=10, min_delta=0.0, mode="min")``
    * ``update(value, model)``: one evaluation; True if the run shall stop. Keeps the weights if it improved.
    * ``restore(model)``: puts the best weights back.
    * ``state_dict()``, ``load_state_dict(state)``: all of its memory, so that a new one goes on where the old one was.
    """
    try:
        answers = _Run(stopper_class, patience=1).through([1.0] * 4)
    except Exception as error:
        return wrong(f"the first four updates, with patience=1, fail with {type(error).__name__}: {error}")
    if all(answer is None or answer is Ellipsis for answer in answers):
        return not_attempted(
            "update returns nothing yet: let it return True when the run shall stop, and False before."
        )
    failures = []
    for check in CHECKS:
        try:
            reason = check(stopper_class)
        except Exception as error:
            reason = f"{check.__name__.lstrip('_').replace('_', ' ')}: it fails with {type(error).__name__}: {error}"
        if reason:
            failures.append(reason)
    if failures:
        passed = len(CHECKS) - len(failures)
        return wrong(f"{passed} of {len(CHECKS)} checks pass. What the others found:", *failures)
    return right(f"all {len(CHECKS)} checks pass. Yours could stand in a training loop.")


class _Run:
    """A run of a learner's class over a curve. The model's only weight is the number of the evaluation, from 1."""

    def __init__(self, stopper_class: type, **options):
        self.stopper = stopper_class(**options)
        self.model = torch.nn.Linear(1, 1, bias=False)
        self.count = 0

    def through(self, values: list[float]) -> list:
        """The answers of ``update``, one a value, whatever they are."""
        answers = []
        for value in values:
            self.count += 1
            with torch.no_grad():
                self.model.weight.fill_(float(self.count))  # in place, as an optimizer does
            answers.append(self.stopper.update(value, self.model))
        return answers

    def stop(self, values: list[float]) -> int | None:
        """The evaluation, from 1, at which it says stop; None if it never does."""
        answers = self.through(values)
        return next((i for i, answer in enumerate(answers, 1) if answer), None)

    def restored(self) -> float:
        """The evaluation whose weights are put back."""
        self.stopper.restore(self.model)
        return self.model.weight.item()


def _when(stopped: int | None) -> str:
    return f"stop at evaluation {stopped}" if stopped else "never stop"


def _patience_counts_evaluations(cls):
    stopped = _Run(cls, patience=3).stop([1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    if stopped == 5:
        return "patience 3 on a constant loss: you stop at evaluation 5. Stop when the counter *reaches* it (>=): at 4."
    if stopped == 3:
        return (
            "patience 3 on a constant loss: you stop at evaluation 3. The first one is an improvement, so the third bad one "
            "is number 4."
        )
    if stopped != 4:
        return f"patience 3 on a constant loss: you {_when(stopped)}. The third bad evaluation is number 4."


def _an_improvement_sets_the_counter_back(cls):
    stopped = _Run(cls, patience=2).stop([1.0, 1.1, 0.9, 1.1, 0.8, 1.1, 0.7, 1.1, 0.6])
    if stopped:
        return (
            f"patience 2, every second value a new best: you stop at {stopped}. Each improvement sets the counter to 0."
        )


def _the_best_so_far_counts(cls):
    stopped = _Run(cls, patience=3).stop([0.5, 0.9, 0.8, 0.7, 0.6, 0.55])
    if stopped != 4:
        return (
            "losses 0.5, 0.9, 0.8, 0.7 with patience 3 end the run at 0.7: compare with the best so far, not with the value "
            "before."
        )


def _a_tie_is_no_improvement(cls):
    if _Run(cls, patience=2).stop([1.0, 1.0, 1.0, 1.0]) is None:
        return "a value equal to the best is no improvement: a constant loss must stop the run (< and not <=)."


def _mode_max(cls):
    rising, falling = (_Run(cls, patience=2, mode="max").stop(v) for v in ([0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]))
    if rising or falling != 3:
        return 'mode "max", patience 2: a rising Dice must go on, and a falling one stop at evaluation 3.'


def _the_first_value_is_a_best(cls):
    high, low = _Run(cls, patience=1).stop([700.0, 600.0]), _Run(cls, patience=1, mode="max").stop([-9.0, -8.0])
    if high or low:
        return "the first value is an improvement, however bad it is: let the best start at None or infinity, not at 0 or 1."


def _min_delta_asks_for_more(cls):
    stopped = _Run(cls, patience=2, min_delta=0.1).stop([1.0, 0.95, 0.94])
    if stopped is None:
        worse = _Run(cls, patience=2, min_delta=0.1).stop([1.0, 1.05, 1.04])
        if worse is None:
            return (
                "min_delta has the wrong sign: 1.05 after 1.0 passes for an improvement with min_delta 0.1. It makes an "
                "improvement harder, not easier: value < best - min_delta."
            )
        return "with min_delta 0.1 a fall from 1.0 to 0.95 is too small to count: value < best - min_delta."


def _min_delta_in_mode_max(cls):
    small = _Run(cls, patience=2, min_delta=0.1, mode="max").stop([0.5, 0.55, 0.56])
    large = _Run(cls, patience=2, min_delta=0.1, mode="max").stop([0.5, 0.65, 0.8, 0.95])
    if small != 3 or large:
        return 'in mode "max" min_delta turns round with the comparison: value > best + min_delta.'


def _small_gains_add_up(cls):
    if _Run(cls, patience=3, min_delta=0.1).stop([1.0, 0.95, 0.92, 0.89, 0.89, 0.89]) is not None:
        return (
            "1.0, 0.95, 0.92, 0.89 with min_delta 0.1: 0.89 is 0.11 below the best that counted, an improvement. Keep the "
            "best where it was when a gain is too small."
        )


def _nan_stops_at_once(cls):
    if _Run(cls, patience=5).stop([1.0, math.nan, 0.5]) != 2 or _Run(cls, patience=5).stop([math.nan, 0.5]) != 1:
        return "a NaN must stop the run at once: every comparison with NaN is False, so ask for it (math.isnan)."


def _nan_is_never_the_best(cls):
    run = _Run(cls, patience=5)
    run.through([1.0, math.nan])
    if run.restored() != 1:
        return "after a NaN the best weights must still be those of the best finite value."


def _the_best_weights_are_a_copy(cls):
    run = _Run(cls, patience=2)
    run.through([1.0, 0.5, 0.8, 0.9])
    restored = run.restored()
    if restored == 4:
        return (
            "the weights that come back are the last ones: state_dict() holds the model's own tensors, which training keeps "
            "changing, and .copy() copies only the dictionary. copy.deepcopy copies the numbers."
        )
    if restored != 2:
        return f"the best evaluation was number 2, and the weights of number {restored:g} come back."


def _restored_when_nothing_stopped_the_run(cls):
    run = _Run(cls, patience=9)
    if run.stop([1.0, 0.5, 0.8]) is None and run.restored() != 2:
        return "a run that reached its last epoch without a stop must get its best weights back too."


def _kept_weights_survive_more_training(cls):
    run = _Run(cls, patience=9)
    run.through([1.0, 0.5, 0.8])
    run.stopper.restore(run.model)
    run.through([0.9])
    if run.restored() != 2:
        return "restoring must not tie the kept weights to the model: after more training they must still be the best."


def _it_goes_on_after_a_restart(cls):
    first = _Run(cls, patience=4)
    first.through([1.0, 0.5, 0.8, 0.9])
    state = copy.deepcopy(first.stopper.state_dict())
    second = _Run(cls, patience=4)
    second.count = 4
    second.stopper.load_state_dict(state)
    stopped = second.stop([0.8, 0.8, 0.8, 0.8, 0.8])
    if stopped != 2:
        return (
            "after state_dict and load_state_dict, two bad evaluations before the restart and two after make patience 4. "
            f"After it you {_when(stopped)}: keep the counter and the best value in the state."
        )
    if second.restored() != 2:
        return "after a restart the best weights of before are gone: they belong into the state as well."


def _a_state_is_a_picture(cls):
    run = _Run(cls, patience=4)
    run.through([1.0, 0.9])
    state = run.stopper.state_dict()
    run.through([0.5, 0.4])
    late = _Run(cls, patience=4)
    late.stopper.load_state_dict(state)
    if late.stop([0.8, 1.0, 1.0, 1.0, 1.0]) != 5:
        return "a state that was saved changes when the run goes on: return a copy, not the object's own dictionary."


def _two_runs_share_nothing(cls):
    first, second = _Run(cls, patience=3), _Run(cls, patience=3)
    first.through([0.1, 0.2])
    if second.stop([0.9, 0.8, 0.7, 0.6]) is not None:
        return "two objects share their memory: set the counter and the best in __init__, not in the class."


CHECKS = [
    _patience_counts_evaluations,
    _an_improvement_sets_the_counter_back,
    _the_best_so_far_counts,
    _a_tie_is_no_improvement,
    _mode_max,
    _the_first_value_is_a_best,
    _min_delta_asks_for_more,
    _min_delta_in_mode_max,
    _small_gains_add_up,
    _nan_stops_at_once,
    _nan_is_never_the_best,
    _the_best_weights_are_a_copy,
    _restored_when_nothing_stopped_the_run,
    _kept_weights_survive_more_training,
    _it_goes_on_after_a_restart,
    _a_state_is_a_picture,
    _two_runs_share_nothing,
]


# ---------------------------------------------------------------------------------------------------- the other exercises


def check_shortest_run(function: Callable) -> Verdict:
    """``shortest_run(patience, every)``: the epochs of the shortest run that early stopping can end.

    The network is evaluated after each ``every`` epochs, for the first time after epoch ``every``; patience is at least 1.
    """
    for patience, every in ((3, 10), (5, 1), (1, 4), (10, 5)):
        truth, answer = (patience + 1) * every, function(patience, every)
        case = f"with patience {patience}, evaluated every {every} epochs,"
        if answer is None or answer is Ellipsis:
            return not_attempted("your function returns nothing yet: count the evaluations of the shortest run.")
        if isinstance(answer, bool) or not isinstance(answer, Number):
            return wrong(f"{case} you return a {type(answer).__name__}, not a number of epochs.")
        if answer == truth:
            continue
        known = {
            patience: "that is the patience itself: it counts evaluations, not epochs.",
            patience * every: "that leaves no room for the first evaluation, which is an improvement and never bad.",
            patience + 1: f"that is the number of evaluations; there are {every} epochs to each.",
            patience + every: "the patience counts evaluations: multiply it by the epochs between two of them.",
            1 + patience * every: f"the first evaluation comes after {every} epochs, not after one.",
            (patience + 2)
            * every: "the run ends at the evaluation at which the counter reaches the patience, not after it.",
        }
        return wrong(
            f"{case} you say {answer:g}, and it is {truth}: {known.get(answer, 'one good evaluation, then the bad')}"
        )
    return right("one evaluation to improve on nothing, then as many bad ones as the patience: (patience + 1) * every.")


def check_generalisation_loss(function: Callable) -> Verdict:
    """``generalisation_loss(val_losses)``: Prechelt's GL after each evaluation, in per cent."""
    for losses in ([0.4, 0.2, 0.22, 0.3, 0.1, 0.15], [1.0, 0.5, 0.6, 0.45]):
        answer = function(list(losses))
        if answer is None or answer is Ellipsis:
            return not_attempted("your function returns nothing yet: return one number for each loss.")
        if np.ndim(answer) != 1 or len(answer) != len(losses):
            return wrong(f"for {len(losses)} losses return {len(losses)} numbers, one after each evaluation.")
        lowest, losses_ = np.minimum.accumulate(losses), np.array(losses)
        truth = 100 * (losses_ / lowest - 1)
        if np.allclose(answer, truth, atol=1e-6):
            continue
        known = {
            "you looked into the future: the lowest loss *so far* counts, not that of the whole curve.": (
                100 * (losses_ / min(losses) - 1)
            ),
            "that is a fraction; GL is in per cent, 100 times as large.": losses_ / lowest - 1,
            "take 1 off: GL is how far the loss is *above* its lowest, so at a new best it is 0.": 100
            * losses_
            / lowest,
            "that is the ratio; GL is how far it is above 1, in per cent.": losses_ / lowest,
            "the fraction is upside down: divide the loss by the lowest so far.": 100 * (lowest / losses_ - 1),
            "that is upside down: E / E_opt - 1 is not 1 - E_opt / E.": 100 * (1 - lowest / losses_),
            "you take the difference. GL is relative: divide by the lowest so far.": 100 * (losses_ - lowest),
            "you compare with the first loss. Take the lowest so far.": 100 * (losses_ / losses[0] - 1),
            "you compare with the loss before. Take the lowest so far.": (
                100 * (losses_ / np.array([losses[0], *losses[:-1]]) - 1)
            ),
        }
        for because, mistake in known.items():
            if np.allclose(answer, mistake, atol=1e-6):
                return wrong(because)
        i = int(np.argmax(~np.isclose(answer, truth, atol=1e-6)))
        return wrong(
            f"after the losses {losses[: i + 1]} you say {float(answer[i]):g}, and GL is {truth[i]:g}: the last one against "
            "the lowest of them, in per cent."
        )
    return right("0 at each new best, and else how far the loss has risen above it. It never looks ahead.")

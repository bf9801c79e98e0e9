"""Early stopping: stop when the monitored value has not improved for ``patience`` evaluations, and keep the best.

Taught in ``04a_early_stopping``. Names and meanings are those of Keras' ``EarlyStopping``; the algorithm is 7.1 of
Goodfellow, Bengio, Courville, "Deep Learning" (2016), section 7.8. What is decided here on purpose:

* ``patience`` counts **evaluations**, and the run stops at the evaluation where ``wait`` reaches it;
* a NaN or infinite-in-the-wrong-direction value is never an improvement, and a NaN stops the run at once;
* this class only decides. Who holds the weights (``Trainer``) keeps clones of the best ones and puts them back
  whatever ended the run.

Rules can be compared on recorded curves, without training: patience (``replay_early_stopping``), the criteria GL and PQ
of Prechelt, "Early Stopping - But When?" (1998), doi 10.1007/3-540-49430-8_3 (``replay_prechelt``), and either on a
curve that was smoothed first (``smooth``). Used in ``03e_study`` and ``04b_what_to_monitor``.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Decision:
    """What one evaluation meant. ``wait`` counts the evaluations since the last improvement."""

    improved: bool
    stop: bool
    wait: int
    reason: str | None = None


class EarlyStopping:
    """Decides after each evaluation whether to go on.

    Args:
        monitor: the column of the history to watch: val_loss, val_dice, val_iou or train_loss.
        mode: "min" (smaller is better) or "max".
        patience: evaluations without improvement before the run stops, at least 0. Change it at any time.
        min_delta: an improvement must be larger than this (in units of the monitored value), at least 0.
        restore_best_weights: whether the trainer puts the best weights back at the end, whatever ended the run.
        start_from_epoch: the first evaluations that are not looked at.

    Attributes:
        best, best_epoch: best value and its evaluation (0-based), None before the first improvement.
        wait: evaluations since then.
        stopped_epoch: the evaluation (0-based) that stopped the run, None if none did.

    Raises:
        ValueError: an unknown mode; a negative patience, min_delta or start_from_epoch.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        mode: str = "min",
        patience: int = 10,
        min_delta: float = 0.0,
        restore_best_weights: bool = True,
        start_from_epoch: int = 0,
    ):
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be min or max, not {mode!r}")
        for name, value in (("patience", patience), ("min_delta", min_delta), ("start_from_epoch", start_from_epoch)):
            if not value >= 0:
                raise ValueError(f"{name} must be at least 0, not {value}")
        self.monitor, self.mode, self.patience, self.min_delta = monitor, mode, patience, min_delta
        self.restore_best_weights, self.start_from_epoch = restore_best_weights, start_from_epoch
        self.reset()

    def reset(self) -> None:
        """Forget everything seen so far."""
        self.epoch = -1
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.wait = 0
        self.stopped_epoch: int | None = None

    def is_improvement(self, value: float) -> bool:
        """Whether ``value`` beats the best so far by more than ``min_delta``."""
        if self.mode == "min":
            return value + self.min_delta < (math.inf if self.best is None else self.best)
        return value - self.min_delta > (-math.inf if self.best is None else self.best)

    def update(self, value: float) -> Decision:
        """Take the monitored value of one evaluation and decide."""
        self.epoch += 1
        if math.isnan(value):
            self.stopped_epoch = self.epoch
            return Decision(False, True, self.wait, f"{self.monitor} became NaN at epoch {self.epoch}")
        if self.epoch < self.start_from_epoch:
            return Decision(False, False, self.wait)
        if self.is_improvement(value):
            self.best, self.best_epoch, self.wait = value, self.epoch, 0
            return Decision(True, False, 0)
        self.wait += 1
        if self.wait < self.patience or self.epoch == 0:
            return Decision(False, False, self.wait)
        self.stopped_epoch = self.epoch
        best = "never improved" if self.best is None else f"best {self.best:.4g}, {self.wait} before"
        reason = f"{self.monitor} did not improve for {self.wait} evaluations ({best})"
        return Decision(False, True, self.wait, reason)

    def settings(self) -> dict:
        """The arguments that make another one like this."""
        names = ("monitor", "mode", "patience", "min_delta", "restore_best_weights", "start_from_epoch")
        return {name: getattr(self, name) for name in names}

    def state_dict(self) -> dict:
        """Settings and memory, as plain numbers and strings."""
        return dict(vars(self))

    def load_state_dict(self, state: dict) -> None:
        """Take over settings and memory. Raises ValueError if the state has other fields than this class."""
        if set(state) != set(vars(self)):
            raise ValueError(f"not a state of EarlyStopping: fields {sorted(state)}")
        vars(self).update(state)


@dataclass(frozen=True)
class EarlyStoppingReplay:
    """Where a recorded curve would have stopped, what it would have kept, and what that cost.

    Attributes:
        stopped_epoch: 0-based evaluation at which it stops, None if it never does.
        best_epoch, best_value: what would have been kept (None if nothing improved).
        regret: how much worse that is than the best of the whole curve, at least 0.
        epochs_saved: evaluations that would not have been run.
    """

    stopped_epoch: int | None
    best_epoch: int | None
    best_value: float | None
    regret: float
    epochs_saved: int


def replay_early_stopping(
    values: Iterable[float], patience: int = 10, min_delta: float = 0.0, mode: str = "min", start_from_epoch: int = 0
) -> EarlyStoppingReplay:
    """Run ``EarlyStopping`` over a recorded curve, without training.

    Args:
        values: the monitored value of each evaluation, at least one.
        patience, min_delta, mode, start_from_epoch: as in ``EarlyStopping``.

    Returns:
        ``EarlyStoppingReplay``.

    Raises:
        ValueError: no values; arguments as in ``EarlyStopping``.
    """
    values = [float(value) for value in values]
    if not values:
        raise ValueError("replay_early_stopping needs at least one value")
    stopper = EarlyStopping("value", mode, patience, min_delta, start_from_epoch=start_from_epoch)
    for value in values:
        if stopper.update(value).stop:
            break
    return _outcome(stopper, values)


def replay_prechelt(
    val_errors: Iterable[float],
    train_errors: Iterable[float] | None = None,
    criterion: str = "GL",
    alpha: float = 5.0,
    strip: int = 5,
) -> EarlyStoppingReplay:
    """Run one of Prechelt's stopping criteria over a recorded curve, without training.

    * GL, the generalisation loss: how far the validation error is above its lowest so far, in per cent,
      ``100 * (E_va / E_opt - 1)``. The run stops at the first evaluation where it exceeds ``alpha``.
    * PQ, the progress quotient: GL divided by the training progress of the last ``strip`` evaluations,
      ``P_k = 1000 * (mean(E_tr) / min(E_tr) - 1)``, so that a training error which still falls excuses a rise. It is
      looked at where a strip ends (at the evaluations ``strip``, ``2 * strip``, ... counted from 1), and the run stops at
      the first where it exceeds ``alpha``.

    Args:
        val_errors: the validation loss of each evaluation, at least one, all above 0 (for a Dice, pass 1 - Dice).
        train_errors: the training loss before each evaluation, for PQ.
        criterion: "GL" or "PQ".
        alpha: the threshold, at least 0: per cent for GL; for PQ per cent of loss for each thousandth of progress.
        strip: k, evaluations in a strip, at least 2.

    Returns:
        ``EarlyStoppingReplay``; what would have been kept is the lowest validation error before the stop. As in
        ``EarlyStopping``, a NaN stops the run at once.

    Raises:
        ValueError: no values; errors that are not above 0; PQ without training errors, or of another length; an unknown
            criterion; a negative alpha; a strip below 2.
    """
    val_errors = [float(value) for value in val_errors]
    train_errors = None if train_errors is None else [float(value) for value in train_errors]
    if not val_errors:
        raise ValueError("replay_prechelt needs at least one value")
    if criterion not in ("GL", "PQ"):
        raise ValueError(f"criterion must be GL or PQ, not {criterion!r}")
    if criterion == "PQ" and (train_errors is None or len(train_errors) != len(val_errors)):
        there = "none" if train_errors is None else len(train_errors)
        raise ValueError(f"PQ needs a training error for each of the {len(val_errors)} validation errors, not {there}")
    if any(error <= 0 for error in val_errors + (train_errors or [])):
        raise ValueError("Prechelt's criteria divide by the errors, which must be above 0: for a Dice, pass 1 - Dice")
    if not alpha >= 0:
        raise ValueError(f"alpha must be at least 0, not {alpha}")
    if strip < 2:
        raise ValueError(f"strip must be at least 2 evaluations, as one alone shows no progress, not {strip}")
    stopper = EarlyStopping("val_error", patience=math.inf)  # keeps the best, and stops at NaN alone
    for count, error in enumerate(val_errors, start=1):
        if stopper.update(error).stop:
            break
        allowed = alpha
        if criterion == "PQ":
            if count % strip:
                continue
            recent = train_errors[count - strip : count]
            # GL / P > alpha, written so that a strip without progress (P = 0) needs no division.
            allowed *= 1000 * (sum(recent) / (strip * min(recent)) - 1)
        if stopper.best is not None and 100 * (error / stopper.best - 1) > allowed:
            stopper.stopped_epoch = count - 1
            break
    return _outcome(stopper, val_errors)


def _outcome(stopper: EarlyStopping, values: list[float]) -> EarlyStoppingReplay:
    finite = [value for value in values if not math.isnan(value)]
    regret = math.nan
    if stopper.best is not None:
        regret = stopper.best - min(finite) if stopper.mode == "min" else max(finite) - stopper.best
    saved = 0 if stopper.stopped_epoch is None else len(values) - 1 - stopper.stopped_epoch
    return EarlyStoppingReplay(stopper.stopped_epoch, stopper.best_epoch, stopper.best, regret, saved)


def smooth(values: Iterable[float], decay: float = 0.9) -> list[float]:
    """Exponential moving average of a curve: ``s = decay * s + (1 - decay) * value``, begun at the first value.

    Args:
        values: one value an evaluation.
        decay: at least 0 (the curve itself), below 1. The average looks back over about ``1 / (1 - decay)`` values.

    Raises:
        ValueError: a decay outside [0, 1).
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be at least 0 and below 1, not {decay}")
    smoothed: list[float] = []
    for value in values:
        before = smoothed[-1] if smoothed else float(value)
        smoothed.append(decay * before + (1 - decay) * float(value))
    return smoothed

"""Early stopping: stop when the monitored value has not improved for ``patience`` evaluations, and keep the best.

Taught in ``04a_early_stopping``. Names and meanings are those of Keras' ``EarlyStopping``; the algorithm is 7.1 of
Goodfellow, Bengio, Courville, "Deep Learning" (2016), section 7.8. What is decided here on purpose:

* ``patience`` counts **evaluations**, and the run stops at the evaluation where ``wait`` reaches it;
* a NaN or infinite-in-the-wrong-direction value is never an improvement, and a NaN stops the run at once;
* this class only decides. Who holds the weights (``Trainer``) keeps clones of the best ones and puts them back
  whatever ended the run.
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
    finite = [value for value in values if not math.isnan(value)]
    regret = math.nan
    if stopper.best is not None:
        regret = stopper.best - min(finite) if mode == "min" else max(finite) - stopper.best
    saved = 0 if stopper.stopped_epoch is None else len(values) - 1 - stopper.stopped_epoch
    return EarlyStoppingReplay(stopper.stopped_epoch, stopper.best_epoch, stopper.best, regret, saved)

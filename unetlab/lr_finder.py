"""The learning-rate range test: raise the rate at every step, watch the loss, and put everything back.

Taught in ``03a_learning_rate``. Source: Smith 2017, "Cyclical learning rates for training neural networks",
arXiv:1506.01186, section 3.3. The lowest point of the curve lies at a rate that is already too high, so what is suggested
is where the smoothed loss falls fastest over the logarithm of the rate.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class RangeTest:
    """What a range test saw.

    Attributes:
        lrs, losses, smoothed: one value a step (the smoothed losses are an exponential mean, corrected for its start).
        suggestion: the rate where the smoothed loss falls fastest, its first 1 / smooth_f steps left out; None if it never
            falls there.
        stopped: why the test ended before ``end_lr``; None if it did not.
    """

    lrs: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float | None
    stopped: str | None


def lr_range_test(
    trainer,
    start_lr: float = 1e-6,
    end_lr: float = 10.0,
    num_iter: int = 100,
    smooth_f: float = 0.1,
    diverge_th: float = 3.0,
) -> RangeTest:
    """Train ``num_iter`` steps while the rate grows from ``start_lr`` to ``end_lr``, then undo them, bit for bit.

    Weights, optimizer, BatchNorm buffers and the step come back from the trainer's own state, even after an error; no
    random state is used (see ``Trainer``).

    Args:
        trainer: a ``Trainer`` that is not training.
        start_lr, end_lr: first and last rate, 0 < start_lr < end_lr; the rate grows by the same factor at every step.
        num_iter: steps, at least 10.
        smooth_f: weight of the newest loss in the smoothed curve, in (0, 1].
        diverge_th: the test ends when the smoothed loss exceeds its lowest value by this factor.

    Returns:
        ``RangeTest``.

    Raises:
        ValueError: rates or num_iter outside the ranges above.
    """
    if not 0 < start_lr < end_lr or num_iter < 10:
        raise ValueError("lr_range_test needs 0 < start_lr < end_lr and num_iter of at least 10")
    rates = np.geomspace(start_lr, end_lr, num_iter)
    losses, smoothed, stopped = [], [], None
    mean, start = 0.0, trainer.state()
    shows_kept, mode = trainer._training_weights is not None, trainer.model.training
    order = np.random.default_rng(trainer.seed)
    size = trainer.batch_size * trainer.accumulate
    try:
        trainer.load_state(start)  # a finished run shows its best weights, but it would go on from its last ones
        for i, rate in enumerate(rates):
            for group in trainer.optimizer.param_groups:
                group["lr"] = rate
            batch = order.choice(len(trainer.images), size=min(size, len(trainer.images)), replace=False)
            loss = trainer.train_step(torch.from_numpy(batch).to(trainer.device)).item()
            if not math.isfinite(loss):
                stopped = f"the loss became {loss} at a rate of {rate:.2g}"
                break
            losses.append(loss)
            mean += smooth_f * (loss - mean)
            smoothed.append(mean / (1 - (1 - smooth_f) ** (i + 1)))
            if smoothed[-1] > diverge_th * min(smoothed):
                stopped = f"the loss exceeded {diverge_th:g} times its lowest value at a rate of {rate:.2g}"
                break
    finally:
        trainer.load_state(start)
        trainer.optimizer.zero_grad()
        if shows_kept:
            trainer._present_kept_weights()
        trainer.model.train(mode)
    rates, smoothed = rates[: len(losses)], np.array(smoothed)
    return RangeTest(rates, np.array(losses), smoothed, _steepest(rates, smoothed, round(1 / smooth_f)), stopped)


def _steepest(rates: np.ndarray, smoothed: np.ndarray, settled: int) -> float | None:
    """The rate of the steepest fall before the lowest point.

    ``settled``: the first steps, which are left out. There the mean is one of few losses and jumps with each of them.
    """
    lowest = int(smoothed.argmin()) if len(smoothed) else 0
    if lowest < settled + 2:
        return None
    slope = np.gradient(smoothed[: lowest + 1], np.log(rates[: lowest + 1]))[settled:]
    return float(rates[settled + slope.argmin()]) if slope.min() < 0 else None

"""Learning-rate schedules: torch's own, under one roof, with one meaning of "step" and no surprise at the end.

Taught in ``03b_schedules`` and ``03c_plateau_and_warmup``. Three traps are closed here:

* granularity: every schedule is counted in **optimizer steps** (``interval == "batch"``), except ``plateau``, which is
  asked once after each evaluation (``interval == "evaluation"``);
* the end: after ``total_steps`` the rate stays where it ended. torch's cosine would rise again and its one-cycle raise;
* the plateau: a relative threshold with a negative metric takes a worse value for a better one, so that is refused.

Sources: torch.optim.lr_scheduler; Loshchilov and Hutter 2017 (cosine, restarts), arXiv:1608.03983; Smith and Topin 2017
(one-cycle), arXiv:1708.07120; Goyal et al. 2017 (warm-up), arXiv:1706.02677; Isensee et al. 2021 (polynomial, 0.9).
"""

import math

import numpy as np
import torch
from torch.optim import Optimizer, lr_scheduler

HORIZON_BOUND = ("polynomial", "cosine", "cosine_restarts", "one_cycle", "warmup_cosine")


def _build(name: str, optimizer: Optimizer, total_steps: int, kw: dict):
    """The torch scheduler behind a name. Defaults are shares of the run, so that one name fits runs of any length."""
    base_lr = [group["lr"] for group in optimizer.param_groups]
    if name == "constant":
        return lr_scheduler.LambdaLR(optimizer, lambda step: 1.0, **kw)
    if name == "step":
        return lr_scheduler.StepLR(optimizer, **{"step_size": math.ceil(total_steps / 3), "gamma": 0.1} | kw)
    if name == "multistep":
        milestones = [total_steps // 2, total_steps * 3 // 4]
        return lr_scheduler.MultiStepLR(optimizer, **{"milestones": milestones, "gamma": 0.1} | kw)
    if name == "exponential":
        return lr_scheduler.ExponentialLR(optimizer, **{"gamma": 0.01 ** (1 / total_steps)} | kw)
    if name == "polynomial":
        return lr_scheduler.PolynomialLR(optimizer, total_iters=total_steps, **{"power": 0.9} | kw)
    if name == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=total_steps, **kw)
    if name == "cosine_restarts":  # three cycles, each twice as long as the one before: 1 + 2 + 4 parts
        first = {"T_0": math.ceil(total_steps / 7), "T_mult": 2}
        return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, **first | kw)
    if name == "one_cycle":
        return lr_scheduler.OneCycleLR(optimizer, max_lr=base_lr, total_steps=total_steps, **kw)
    if name == "warmup_cosine":
        kw = {"warmup_steps": max(total_steps // 10, 1), "start_factor": 0.01, "eta_min": 0.0} | kw
        warmup = min(kw.pop("warmup_steps"), total_steps - 1)  # the end is never on the way up
        return lr_scheduler.SequentialLR(
            optimizer,
            [
                lr_scheduler.LinearLR(optimizer, start_factor=kw.pop("start_factor"), total_iters=warmup),
                lr_scheduler.CosineAnnealingLR(optimizer, T_max=total_steps - warmup, **kw),
            ],
            milestones=[warmup],
        )
    return lr_scheduler.ReduceLROnPlateau(optimizer, **kw)


SCHEDULES = (
    "constant step multistep exponential polynomial cosine cosine_restarts one_cycle warmup_cosine plateau".split()
)


class Scheduler:
    """One of torch's schedulers, stepped the right way. Made by ``make_scheduler``.

    Attributes:
        name: one of ``SCHEDULES``.
        interval: "batch" (call ``step()`` after every optimizer step) or "evaluation" (call ``step(metric)`` after every
            evaluation). A call of the other kind raises ``TypeError``.
        total_steps: the horizon in optimizer steps.
        horizon_bound: True if the schedule only makes sense when the run reaches ``total_steps``, so that early stopping
            would cut it off.
        torch_scheduler: the scheduler inside.
    """

    def __init__(self, name: str, optimizer: Optimizer, total_steps: int, **kw):
        if name not in SCHEDULES:
            raise ValueError(f"unknown schedule {name!r}: choose one of {', '.join(SCHEDULES)}")
        if total_steps < 1:
            raise ValueError(f"total_steps must be at least 1 optimizer step, not {total_steps}")
        self.name, self.optimizer, self.total_steps = name, optimizer, total_steps
        self.interval = "evaluation" if name == "plateau" else "batch"
        self.horizon_bound = name in HORIZON_BOUND
        self.steps_taken = 0
        try:
            self.torch_scheduler = _build(name, optimizer, total_steps, kw)
        except TypeError as error:
            raise ValueError(f"schedule {name!r}: {error}") from None

    def step(self, metric: float | None = None) -> None:
        """Move on by one step. ``metric``: the monitored value, for ``plateau`` only.

        Raises:
            TypeError: a metric where none is used, or none where one is needed.
            ValueError: a NaN metric, or a negative one with plateau's relative threshold.
        """
        if (self.interval == "evaluation") != (metric is not None):
            needs = "step(metric) after each evaluation" if self.interval == "evaluation" else "step() after each batch"
            raise TypeError(f"the schedule {self.name!r} takes {needs}")
        if self.interval == "evaluation":
            if math.isnan(metric):
                raise ValueError("the plateau schedule was given NaN: the run has diverged")
            if metric < 0 and self.torch_scheduler.threshold_mode == "rel":
                raise ValueError(
                    "plateau with a negative metric needs threshold_mode='abs': a relative one is reversed"
                )
            self.torch_scheduler.step(metric)
        elif self.steps_taken < self._last_step:  # after its end a schedule stays where it is
            self.steps_taken += 1
            self.torch_scheduler.step()

    @property
    def _last_step(self) -> int:
        # One step further torch's one-cycle would raise and its restarts begin anew; the others just reach their end.
        return self.total_steps - (self.name in ("one_cycle", "cosine_restarts"))

    def get_last_lr(self) -> list[float]:
        """The learning rate of each parameter group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict:
        """Everything but the optimizer, as plain numbers and lists."""
        return {"steps_taken": self.steps_taken, "torch": _plain(self.torch_scheduler.state_dict())}

    def load_state_dict(self, state: dict) -> None:
        """Take over a state of the same schedule (same name, options and ``total_steps``)."""
        self.steps_taken = state["steps_taken"]
        inner = dict(state["torch"])
        if self.name == "multistep":  # torch keeps a Counter with integer keys, which JSON turns into text
            milestones = {int(step): count for step, count in inner["milestones"].items()}
            inner["milestones"] = type(self.torch_scheduler.milestones)(milestones)
        self.torch_scheduler.load_state_dict(inner)


def _plain(state):
    """Drop what is not data (bound methods, lambdas) from a torch scheduler's state, at any depth."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items() if not callable(value)}
    return [_plain(value) for value in state] if isinstance(state, list) else state


def make_scheduler(name: str, optimizer: Optimizer, total_steps: int, **kw) -> Scheduler:
    """A learning-rate schedule for an optimizer whose ``lr`` is the base rate (for ``one_cycle`` the highest one).

    Args:
        name: constant, step, multistep, exponential, polynomial, cosine, cosine_restarts, one_cycle, warmup_cosine,
            plateau.
        optimizer: any torch optimizer.
        total_steps: length of the run in optimizer steps (epochs times steps per epoch), at least 1.
        kw: options of the torch scheduler, in steps: ``step_size`` and ``gamma`` (step), ``milestones`` and ``gamma``
            (multistep), ``gamma`` (exponential), ``power`` (polynomial), ``eta_min`` (cosine), ``T_0``, ``T_mult``,
            ``eta_min`` (cosine_restarts), ``pct_start``, ``div_factor``, ``final_div_factor`` ... (one_cycle),
            ``warmup_steps``, ``start_factor``, ``eta_min`` (warmup_cosine), ``mode``, ``factor``, ``patience``,
            ``threshold`` ... (plateau, in evaluations).

    Returns:
        a ``Scheduler``; its ``interval`` says when to call ``step``.

    Raises:
        ValueError: unknown name, unknown option, ``total_steps`` below 1.
    """
    return Scheduler(name, optimizer, total_steps, **kw)


def schedule_preview(name: str, total_steps: int, lr: float = 1.0, metrics=None, **kw) -> np.ndarray:
    """The learning rate used at every step, without training.

    Args:
        name, total_steps, kw: as in ``make_scheduler``.
        lr: the base rate.
        metrics: for ``plateau``, the monitored value after each evaluation; one rate is returned for each.

    Returns:
        float64 array: ``total_steps`` rates, or for ``plateau`` ``len(metrics)`` rates, each in force *after* its
        evaluation.

    Raises:
        ValueError: as in ``make_scheduler``; ``plateau`` without metrics.
    """
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr)
    scheduler = make_scheduler(name, optimizer, total_steps, **kw)
    rates = []
    if scheduler.interval == "evaluation":
        if metrics is None:
            raise ValueError("plateau follows a metric: pass metrics=[...], one value an evaluation")
        for metric in metrics:
            scheduler.step(metric)
            rates.append(scheduler.get_last_lr()[0])
    else:
        optimizer.step()  # torch warns when a schedule moves before the optimizer has
        for _ in range(total_steps):
            rates.append(scheduler.get_last_lr()[0])
            scheduler.step()
    return np.array(rates)

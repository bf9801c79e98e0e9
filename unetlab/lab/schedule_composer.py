"""The schedule composer of ``03b_schedules``: shape a schedule, see its curve, and see what recorded runs made of it.

``rates``, ``stepped_per_epoch`` and ``recorded_runs`` are the logic; ``ScheduleComposer`` binds them to the instrument.
Nothing is trained: the curve is that of ``unetlab.schedulers``, the losses are recorded (``notebooks/records``).
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np

from unetlab.lab.instrument import Curves, Instrument
from unetlab.lab.records import load_record, provenance
from unetlab.schedulers import SCHEDULES, schedule_preview

EPOCHS, STEPS_PER_EPOCH = 12, 12  # of the recorded runs
WATCHED = "Noisy, 4 validation images"  # the recorded curve that plateau watches

# The sliders of each schedule, with the values that the recorded runs had.
SHAPES = {
    "constant": {},
    "step": {"first_drop": 1 / 3, "gamma": 0.1},
    "multistep": {"first_drop": 1 / 2, "gamma": 0.1},
    "exponential": {"gamma": 0.01 ** (1 / EPOCHS)},
    "polynomial": {"power": 0.9},
    "cosine": {"end": 0.0},
    "cosine_restarts": {"first_cycle": 1 / 7, "cycle_factor": 2, "end": 0.0},
    "one_cycle": {"warmup": 0.3, "start_divisor": 25},
    "warmup_cosine": {"warmup": 0.1, "end": 0.0},
    "plateau": {"patience": 2, "factor": 0.1},
}

CONTROLS = [
    {"id": "schedule", "kind": "select", "label": "Schedule", "options": SCHEDULES},
    {"id": "base_lr", "kind": "range", "label": "Base rate", "min": 1e-5, "max": 1, "step": 0.02, "log": True},
    {"id": "epochs", "kind": "range", "label": "Total epochs", "min": 2, "max": 50, "step": 1},
    {"id": "steps_per_epoch", "kind": "range", "label": "Steps per epoch", "min": 2, "max": 50, "step": 1},
    {"id": "per_epoch", "kind": "check", "label": "Stepped per epoch (bug)"},
    {"id": "warmup", "kind": "range", "label": "Warm-up share", "row": 1, "min": 0.01, "max": 0.9, "step": 0.01},
    {"id": "start_divisor", "kind": "range", "label": "Start divisor", "row": 1, "min": 1, "max": 100, "step": 1},
    {
        "id": "first_drop",
        "kind": "range",
        "label": "First drop at share",
        "row": 1,
        "min": 0.05,
        "max": 0.95,
        "step": 0.01,
    },
    {
        "id": "first_cycle",
        "kind": "range",
        "label": "First cycle's share",
        "row": 1,
        "min": 0.05,
        "max": 1,
        "step": 0.01,
    },
    {"id": "cycle_factor", "kind": "range", "label": "Cycles grow by", "row": 1, "min": 1, "max": 3, "step": 1},
    {"id": "gamma", "kind": "range", "label": "Gamma", "row": 1, "min": 0.05, "max": 1, "step": 0.01},
    {"id": "power", "kind": "range", "label": "Power", "row": 1, "min": 0.1, "max": 4, "step": 0.1},
    {"id": "end", "kind": "range", "label": "End, share of base", "row": 1, "min": 0, "max": 1, "step": 0.01},
    {"id": "patience", "kind": "range", "label": "Plateau patience", "row": 1, "min": 0, "max": 10, "step": 1},
    {"id": "factor", "kind": "range", "label": "Factor", "row": 1, "min": 0.05, "max": 0.9, "step": 0.05},
]
LABELS = {control["id"]: control["label"] for control in CONTROLS}
BLUE, SKY, ORANGE = "#0072B2", "#56B4E9", "#D55E00"


@dataclass(frozen=True)
class Plan:
    """A schedule for a run: its name, base rate, length, and the values of its sliders (``SHAPES``)."""

    schedule: str
    base_lr: float = 3e-3
    epochs: int = EPOCHS
    steps_per_epoch: int = STEPS_PER_EPOCH
    per_epoch: bool = False
    shape: dict = field(default_factory=dict)


def torch_options(plan: Plan) -> dict:
    """The sliders of a plan, which are shares of the run, as the options of ``make_scheduler``, in steps."""
    shape = SHAPES[plan.schedule] | plan.shape
    total = plan.epochs * plan.steps_per_epoch
    steps = {
        name: max(round(shape[name] * total), 1) for name in ("first_drop", "first_cycle", "warmup") if name in shape
    }
    if plan.schedule == "step":
        return {"step_size": steps["first_drop"], "gamma": shape["gamma"]}
    if plan.schedule == "multistep":  # the second drop halves what is left
        return {"milestones": [steps["first_drop"], (steps["first_drop"] + total) // 2], "gamma": shape["gamma"]}
    if plan.schedule == "exponential":  # the slider is the factor of an epoch
        return {"gamma": shape["gamma"] ** (1 / plan.steps_per_epoch)}
    if plan.schedule == "cosine":
        return {"eta_min": shape["end"] * plan.base_lr}
    if plan.schedule == "cosine_restarts":
        return {"T_0": steps["first_cycle"], "T_mult": shape["cycle_factor"], "eta_min": shape["end"] * plan.base_lr}
    if plan.schedule == "one_cycle":
        return {"pct_start": shape["warmup"], "div_factor": shape["start_divisor"]}
    if plan.schedule == "warmup_cosine":
        return {"warmup_steps": steps["warmup"], "eta_min": shape["end"] * plan.base_lr}
    return shape  # polynomial and plateau call theirs as torch does


def rates(plan: Plan, metrics: list[float]) -> np.ndarray:
    """The rate at every step of the run as the schedule means it, (epochs * steps_per_epoch,).

    ``metrics``: one value an epoch, which ``plateau`` watches; the others do not look at it.
    """
    total = plan.epochs * plan.steps_per_epoch
    if plan.schedule == "plateau":
        after = schedule_preview("plateau", total, plan.base_lr, metrics[: plan.epochs], **torch_options(plan))
        return np.repeat([plan.base_lr, *after[:-1]], plan.steps_per_epoch)
    return schedule_preview(plan.schedule, total, plan.base_lr, **torch_options(plan))


def stepped_per_epoch(meant: np.ndarray, steps_per_epoch: int) -> np.ndarray:
    """The bug: a schedule made for all steps of a run moves on only once an epoch, so it never gets far."""
    return np.repeat(meant[: len(meant) // steps_per_epoch], steps_per_epoch)


def watched_loss() -> list[float]:
    """The validation loss of a recorded run of 100 epochs, one value an epoch."""
    return next(run["val_loss"] for run in load_record("stopping")["runs"] if run["curve"] == WATCHED)


def recorded_runs(record: dict, schedule: str, base_lr: float, per_epoch: bool = False) -> list[dict]:
    """The runs of all seeds with this schedule and the nearest base rate (on a log scale), [] if there are none."""
    stepped = "epoch" if per_epoch else "batch"
    runs = [run for run in record["runs"] if (run["schedule"], run["stepped"]) == (schedule, stepped)]
    nearest = min((run["base_lr"] for run in runs), key=lambda lr: abs(math.log(lr / base_lr)), default=None)
    return [run for run in runs if run["base_lr"] == nearest]


def differences(plan: Plan, runs: list[dict]) -> list[str]:
    """What of the plan is not as in these runs, in words."""
    same = Plan(plan.schedule, runs[0]["base_lr"])
    names = {"base_lr": "base rate", "epochs": "total epochs", "steps_per_epoch": "steps per epoch"}
    words = [word for name, word in names.items() if not math.isclose(getattr(plan, name), getattr(same, name))]
    if plan.per_epoch != (runs[0]["stepped"] == "epoch"):
        words.append("stepped per epoch")
    shape = SHAPES[plan.schedule]
    return words + [LABELS[name].lower() for name, value in shape.items() if plan.shape.get(name, value) != value]


class ScheduleComposer:
    """Choose and tune a schedule; show it as the last line of a cell.

    Args:
        record: the recorded runs, ``load_record("schedules")`` if None.
        metrics: one value an epoch for ``plateau`` to watch, at least 50; ``watched_loss()`` if None.

    Attributes:
        plan: the ``Plan`` that the controls stand for.
    """

    def __init__(self, record: dict | None = None, metrics: list[float] | None = None):
        self._record = load_record("schedules") if record is None else record
        self._metrics = watched_loss() if metrics is None else metrics
        self._watched = f"the recorded loss '{WATCHED}'" if metrics is None else "the metric given"
        self.plan = Plan("one_cycle")
        self._instrument = Instrument("Schedule composer", CONTROLS, self._touch)
        self._refresh()

    def _repr_mimebundle_(self, **options):
        return self._instrument._repr_mimebundle_(**options)

    def _touch(self, name: str, value) -> None:
        if name == "schedule":
            late = self.plan.per_epoch and value != "plateau"  # plateau is asked once an epoch anyway
            self.plan = replace(self.plan, schedule=value, shape={}, per_epoch=late)  # its sliders as recorded
        elif name in SHAPES[self.plan.schedule]:
            self.plan = replace(self.plan, shape=self.plan.shape | {name: value})
        else:
            self.plan = replace(self.plan, **{name: value})
        self._refresh()

    def _refresh(self) -> None:
        plan, instrument = self.plan, self._instrument
        shape = SHAPES[plan.schedule] | plan.shape
        runs = recorded_runs(self._record, plan.schedule, plan.base_lr, plan.per_epoch)
        runs = runs or recorded_runs(self._record, plan.schedule, plan.base_lr)  # the bug was recorded for one only
        constant = recorded_runs(self._record, "constant", runs[0]["base_lr"])
        curves = Curves()
        with instrument.hold_sync():
            instrument.values = {c["id"]: getattr(plan, c["id"], shape.get(c["id"])) for c in CONTROLS}
            instrument.enabled = {name: None for name in LABELS if name not in shape and not hasattr(plan, name)} | {
                "per_epoch": None if plan.schedule == "plateau" else True
            }
            instrument.show_curves([self._rate_panel(curves), *_recorded_panels(curves, runs, constant)], curves)
            instrument.table = _table(runs, constant)
            instrument.status = {"text": describe(plan, runs), "progress": None, "problem": None}
            instrument.caption = [[provenance(self._record), None]]

    def _rate_panel(self, curves: Curves) -> dict:
        plan = self.plan
        meant = rates(plan, self._metrics)
        lr = stepped_per_epoch(meant, plan.steps_per_epoch) if plan.per_epoch else meant
        name = "learning rate" + f", watching {self._watched}" * (plan.schedule == "plateau")
        series = [curves.line(range(len(lr)), lr, name=name, color=BLUE, steps=plan.per_epoch)]
        facts = f"{lr[0]:.2g} at first, {lr.max():.2g} at most, {lr[-1]:.2g} at the end"
        if plan.per_epoch:
            series.append(curves.line(range(len(meant)), meant, name="as it is meant", color=ORANGE, dash="dashed"))
        return {
            "title": f"Learning rate: {facts}",
            "wide": True,
            "label": f"Learning rate over {len(lr)} steps: {facts}",
            "xlabel": "optimizer step",
            "ylim": [0, plan.base_lr * 1.05],
            "series": series,
        }


def describe(plan: Plan, runs: list[dict]) -> str:
    """Which runs are shown, and how they differ from the plan."""
    stepped = "once an epoch (the bug)" if runs[0]["stepped"] == "epoch" else "at every step"
    if plan.schedule == "plateau":
        stepped = "after every evaluation"
    seeds = ", ".join(str(run["seed"]) for run in runs)
    shown = f"Losses: recorded with base rate {runs[0]['base_lr']:g}, {EPOCHS} epochs of {STEPS_PER_EPOCH} steps, "
    shown += f"schedule moved {stepped}, seeds {seeds}."
    other = differences(plan, runs)
    return shown + (f" Your settings differ: {', '.join(other)}." if other else " Your settings are the same.")


def _recorded_panels(curves: Curves, runs: list[dict], constant: list[dict]) -> list[dict]:
    """Validation loss and Dice over the epochs: each seed thin, their mean thick, a constant rate to compare with."""
    panels = []
    for column, title in (("val_loss", "Recorded validation loss"), ("val_dice", "Recorded validation Dice")):
        epochs = range(1, len(runs[0][column]) + 1)
        mean, flat = (np.mean([run[column] for run in group], axis=0) for group in (runs, constant))
        series = [curves.line(epochs, run[column], color=SKY, width=1) for run in runs]
        series.append(curves.line(epochs, mean, name=f"{runs[0]['schedule']}, mean of seeds", color=BLUE, width=2.5))
        if runs[0]["schedule"] != "constant":
            series.append(curves.line(epochs, flat, name="constant rate, mean", color=ORANGE, dash="dashed"))
        label = f"{title}: {mean[0]:.2f} after the first epoch, {mean[-1]:.3f} after the last"
        panels.append({"title": title, "label": label, "xlabel": "epoch", "xlim": [1, EPOCHS], "series": series})
    panels[1]["ylim"] = [0, 1]
    return panels


def _table(runs: list[dict], constant: list[dict]) -> list[list[str]]:
    """The last epoch: mean of the seeds (lowest to highest)."""
    groups = [runs] if runs[0]["schedule"] == "constant" else [runs, constant]
    rows = [[f"After {EPOCHS} epochs at {runs[0]['base_lr']:g}", *(group[0]["schedule"] for group in groups)]]
    for column, name in (("val_loss", "Validation loss"), ("val_dice", "Validation Dice")):
        ends = [[run[column][-1] for run in group] for group in groups]
        rows.append([name, *(f"{np.mean(end):.3f} ({min(end):.3f} to {max(end):.3f})" for end in ends)])
    return rows

"""The budget race of ``02c_batch_size``: the same recorded runs over epochs, steps or seconds; who leads, and at what?

``along``, ``at_budget`` and ``standings`` are the logic, plain functions; ``BudgetRace`` binds them to the instrument.
Nothing is trained: the runs are recorded (``notebooks/records/batch_size.json``).
"""

import numpy as np

from unetlab.lab.instrument import Curves, Instrument
from unetlab.lab.records import load_record, provenance

BUDGETS = {"Epochs": 3.0, "Steps": 48.0, "Seconds": 3.0}  # the axis, and the budget at which its slider starts
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"]
DASHES = ["solid", "dashed", "dashdot", "dotted"]
OUT = "not in the race"
START = 0.01  # the rate of all runners at first


def along(run: dict, axis: str, images: int) -> np.ndarray:
    """Where on an axis of ``BUDGETS`` a run was evaluated; ``images``: of the training set, which make an epoch."""
    if axis == "Epochs":
        return np.array(run["step"]) * run["batch"] / images
    return np.array(run["step" if axis == "Steps" else "seconds"], float)


def at_budget(run: dict, column: str, axis: str, budget: float, images: int) -> float:
    """A column of a run when the budget is spent, between two evaluations by a line in the logarithm of the axis.

    nan before the first evaluation and beyond the last: nothing is known there.
    """
    x = np.log(along(run, axis, images))
    return float(np.interp(np.log(budget), x, run[column], left=np.nan, right=np.nan))


def standings(groups: dict[int, list[dict]], axis: str, budget: float, images: int) -> list[tuple[int, list[float]]]:
    """[(batch size, validation Dice of each seed), ...] at a budget, the best mean first; who has none stands last.

    ``groups``: the runs of all seeds by batch size.
    """
    scores = {b: [at_budget(run, "val_dice", axis, budget, images) for run in runs] for b, runs in groups.items()}
    return sorted(scores.items(), key=lambda item: -np.nan_to_num(np.mean(item[1]), nan=-1))


class BudgetRace:
    """Choose the budget, and a learning rate for each batch size; show it as the last line of a cell.

    Args:
        record: the recorded runs, ``load_record("batch_size")`` if None.

    Attributes:
        axis, budget: what is held equal, and how much of it each runner gets.
        rates: the chosen rate by batch size, None for a batch size that is out of the race.
    """

    def __init__(self, record: dict | None = None):
        self._record = load_record("batch_size") if record is None else record
        self._images = self._record["settings"]["images"]
        batches, rates = (sorted({run[name] for run in self._record["runs"]}) for name in ("batch", "lr"))
        self.axis, self.budget = "Epochs", BUDGETS["Epochs"]
        self.rates: dict[int, float | None] = dict.fromkeys(batches, START)
        controls = [
            {"id": "axis", "kind": "select", "label": "Equal", "options": list(BUDGETS)},
            {"id": "budget", "kind": "range", "label": "Budget", "min": 0.1, "max": 100, "step": 0.01, "log": True},
        ]
        options = [*(f"{lr:g}" for lr in rates), OUT]
        controls += [
            {"id": f"{b}", "kind": "select", "label": f"Batch {b}, rate", "row": 1, "options": options} for b in batches
        ]
        self._instrument = Instrument("Budget race", controls, self._touch)
        self._refresh()

    def _repr_mimebundle_(self, **options):
        return self._instrument._repr_mimebundle_(**options)

    def _touch(self, name: str, value) -> None:
        if name == "axis":
            self.axis, self.budget = value, BUDGETS[value]
        elif name == "budget":
            self.budget = value
        else:
            self.rates[int(name)] = None if value == OUT else float(value)
        self._refresh()

    @property
    def racing(self) -> dict[int, list[dict]]:
        """The runs of all seeds, by batch size, at the chosen rates."""
        runs = self._record["runs"]
        groups = {b: [r for r in runs if (r["batch"], r["lr"]) == (b, lr)] for b, lr in self.rates.items()}
        return {batch: group for batch, group in groups.items() if group}

    def _refresh(self) -> None:
        instrument, curves, racing = self._instrument, Curves(), self.racing
        marks = [along(run, self.axis, self._images) for run in self._record["runs"]]
        ends = [min(x[0] for x in marks), max(x[-1] for x in marks)]
        with instrument.hold_sync():
            instrument.ranges = {"budget": ends}
            chosen = {f"{batch}": OUT if lr is None else f"{lr:g}" for batch, lr in self.rates.items()}
            instrument.values = {"axis": self.axis, "budget": self.budget} | chosen
            panels = [self._panel(curves, racing, ends, "val_dice", "Validation Dice")]
            panels.append(self._panel(curves, racing, ends, "val_loss", "Loss: validation thick, training thin"))
            instrument.show_curves(panels, curves)
            instrument.table = self._table(racing)
            instrument.status = {"text": self.describe(), "progress": None, "problem": None}
            seconds = "Seconds are processor seconds of the training steps on that machine."
            instrument.caption = [[f"{provenance(self._record)}. {seconds}", None]]

    def describe(self) -> str:
        """Who leads at this budget, in words."""
        order = standings(self.racing, self.axis, self.budget, self._images)
        known = [(batch, np.mean(scores)) for batch, scores in order if np.isfinite(scores).all()]
        given = f"{self.axis}: {self.budget:.3g} for each."
        if not known:
            return f"{given} No chosen run was recorded there."
        return f"{given} Validation Dice: " + ", ".join(f"batch {b} {dice:.2f}" for b, dice in known) + "."

    def _panel(self, curves: Curves, racing: dict, ends: list[float], column: str, title: str) -> dict:
        series = []
        for batch, runs in racing.items():
            i = list(self.rates).index(batch)
            x = np.log10(np.mean([along(run, self.axis, self._images) for run in runs], axis=0))
            mean = np.mean([run[column] for run in runs], axis=0)
            look = {"color": COLOURS[i % 4], "dash": DASHES[i % 4]}
            series.append(curves.line(x, mean, name=f"batch {batch}", width=2.5, **look))
            thin = (
                [r["val_dice"] for r in runs] if column == "val_dice" else [np.mean([r["train_loss"] for r in runs], 0)]
            )
            series += [curves.line(x, y, width=1, **look) for y in thin]
        unit = {"Epochs": "epochs", "Steps": "optimizer steps", "Seconds": "processor seconds"}[self.axis]
        return {
            "title": title,
            "label": f"{title}, over {unit}. {self.describe()}",
            "xlabel": f"{unit} (log)",
            "xlog": True,
            "xlim": np.log10(ends).tolist(),
            "ylim": [0, 1.1] if column == "val_dice" else [0, 1.8],
            "series": series,
            "marks": [{"x": float(np.log10(self.budget)), "text": "budget", "width": 2}],
        }

    def _table(self, racing: dict) -> list[list[str]]:
        """The runners in their order at the budget: means of the seeds, and the lowest and highest Dice."""
        rows = [[f"{self.axis}: {self.budget:.3g}", "Dice", "of the seeds", "Train loss", "Val. loss", "Steps"]]
        for batch, scores in standings(racing, self.axis, self.budget, self._images):
            if not np.isfinite(scores).all():
                rows.append([f"batch {batch}", "not recorded there", "", "", "", ""])
                continue
            train, val, step = (
                np.mean([at_budget(run, name, self.axis, self.budget, self._images) for run in racing[batch]])
                for name in ("train_loss", "val_loss", "step")
            )
            dice, seeds = f"{np.mean(scores):.3f}", f"{min(scores):.2f} to {max(scores):.2f}"
            rows.append([f"batch {batch}", dice, seeds, f"{train:.2f}", f"{val:.2f}", f"{step:.0f}"])
        return rows

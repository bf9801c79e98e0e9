"""The learning-rate dial of ``03a_learning_rate``: turn the rate, and see what recorded runs made of it.

``last_dice`` and ``describe`` are the logic, plain functions; ``LRDial`` binds them to the instrument. Nothing is trained:
three optimizers and networks, twelve rates, three seeds are recorded (``notebooks/records/lr_finder.json``).
"""

import math

import numpy as np

from unetlab.lab.instrument import Curves, Instrument
from unetlab.lab.lr_finder_view import LIMITS, nearest_rate, sweep
from unetlab.lab.records import load_record, provenance

LOOKS = [("#0072B2", "solid"), ("#D55E00", "dashed"), ("#009E73", "dotted")]  # one a set-up
SEEDS = [("#0072B2", "solid"), ("#D55E00", "dashed"), ("#CC79A7", "dotted")]
START = 1e-4


def last_dice(runs: list[dict]) -> list[float]:
    """The validation Dice after the last epoch, one value a seed; nan for a run that diverged."""
    return [math.nan if run["diverged_at"] is not None else run["val_dice"][-1] for run in runs]


def describe(setup: str, lr: float, runs: list[dict]) -> str:
    """What became of the runs of all seeds, in words."""
    gone = [run["diverged_at"] + 1 for run in runs if run["diverged_at"] is not None]
    text = f"{setup} at {lr:g}. "
    if gone:
        text += f"{len(gone)} of {len(runs)} seeds diverged, in step {', '.join(map(str, gone))}. "
    dice = [d for d in last_dice(runs) if math.isfinite(d)]
    if dice:
        text += f"Validation Dice after {len(runs[0]['val_dice'] or dice)} epochs: {min(dice):.2f} to {max(dice):.2f}."
    return text.strip()


class LRDial:
    """Turn the learning rate of recorded runs; show it as the last line of a cell.

    Drag on the right chart, or use the slider *Learning rate*.

    Args:
        guess: the rate that you expect to be the best one for AdamW, marked in the chart; None marks nothing.
        record: the recorded runs, ``load_record("lr_finder")`` if None.

    Attributes:
        setup, pick: the optimizer and network, and the rate that the dial stands at.
    """

    def __init__(self, guess: float | None = None, record: dict | None = None):
        self._record = load_record("lr_finder") if record is None else record
        self._guess, self.pick = guess, START
        names = dict.fromkeys(run["setup"] for run in self._record["runs"])
        self._sweeps = {name: sweep(self._record, name) for name in names}
        self.setup = next(iter(names))
        controls = [
            {"id": "setup", "kind": "select", "label": "Optimizer and network", "options": list(names)},
            {"id": "pick", "kind": "range", "label": "Learning rate", "log": True, "style": "large"}
            | {"min": 10 ** LIMITS[0], "max": 10 ** LIMITS[1], "step": 0.02},
        ]
        self._instrument = Instrument("Learning-rate dial", controls, self._touch)
        self._refresh()

    def _repr_mimebundle_(self, **options):
        return self._instrument._repr_mimebundle_(**options)

    def _touch(self, name: str, value) -> None:
        if name == "setup":
            self.setup = value
        else:
            self.pick = value if name == "pick" else 10 ** value[0]  # the axis of the chart holds exponents
        self._refresh()

    @property
    def runs(self) -> list[dict]:
        """The recorded runs of all seeds, at the rate nearest to the dial."""
        rates = self._sweeps[self.setup]
        return rates[nearest_rate(rates, self.pick)]

    def _refresh(self) -> None:
        instrument, curves, runs = self._instrument, Curves(), self.runs
        with instrument.hold_sync():
            instrument.values = {"setup": self.setup, "pick": self.pick}
            instrument.show_curves([self._loss_panel(curves, runs), self._sweep_panel(curves)], curves)
            instrument.table = _table(runs)
            text = describe(self.setup, runs[0]["base_lr"], runs)
            instrument.status = {"text": text, "progress": None, "problem": None}
            instrument.caption = [[provenance(self._record), None]]

    def _loss_panel(self, curves: Curves, runs: list[dict]) -> dict:
        series = []
        for run, (color, dash) in zip(runs, SEEDS, strict=False):
            steps = range(1, len(run["loss"]) + 1)
            series.append(curves.line(steps, run["loss"], name=f"seed {run['seed']}", color=color, dash=dash))
        title = f"Loss of each step, recorded at {runs[0]['base_lr']:g}"
        label = f"{title}. {describe(self.setup, runs[0]['base_lr'], runs)}"
        limits = {"xlim": [0, max(len(run["loss"]) for run in self._record["runs"] if "loss" in run)], "ylim": [0, 2]}
        return {"title": title, "label": label, "xlabel": "optimizer step", "series": series} | limits

    def _sweep_panel(self, curves: Curves) -> dict:
        series = []
        for (name, rates), (color, dash) in zip(self._sweeps.items(), LOOKS, strict=False):
            x, dice = [math.log10(lr) for lr in rates], np.array([last_dice(runs) for runs in rates.values()])
            chosen = name == self.setup
            look = {"color": color, "dash": dash, "width": 2.8 if chosen else 1.2}
            series.append(curves.line(x, dice.mean(axis=1), name=f"{name}, mean", **look))
            if chosen:
                series += [curves.line(x, seed, color=color, width=0.01, dots=3) for seed in dice.T]
        marks = [{"x": math.log10(self.pick), "text": f"dial {self.pick:.2g}", "color": "#8C8C8C", "width": 2}]
        if self._guess is not None:
            marks.append({"x": math.log10(self._guess), "text": f"your guess {self._guess:.2g}", "row": 1})
        return {
            "title": "Validation Dice at the end: drag to turn",
            "label": f"Validation Dice over the rate, a hill for each set-up; dial at {self.pick:.2g}",
            "xlabel": "learning rate (log)",
            "xlog": True,
            "xlim": LIMITS,
            "ylim": [0, 1.2],  # room for the texts of the marks
            "series": series,
            "marks": marks,
            "touch": "drag",
        }


def _table(runs: list[dict]) -> list[list[str]]:
    """A row a seed: the loss of the first and of the last step, and the Dice at the end."""
    rows = [[f"At {runs[0]['base_lr']:g}", "First loss", "Last loss", "Validation Dice"]]
    for run, dice in zip(runs, last_dice(runs), strict=True):
        end = f"{dice:.3f}" if math.isfinite(dice) else f"diverged in step {run['diverged_at'] + 1}"
        rows.append([f"seed {run['seed']}", *(f"{run['loss'][i]:.3g}" for i in (0, -1)), end])
    return rows

"""The stop-o-meter of ``04a_early_stopping``: what does a stopping criterion cost and save on all recorded curves?

``replay`` and ``judge`` are the logic, plain functions over the replays of the package; ``StopOMeter`` binds them to the
instrument. The curves are recorded (``notebooks/records/stopping.json``); nothing is trained.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from unetlab.early_stopping import EarlyStoppingReplay, replay_early_stopping, replay_prechelt, smooth
from unetlab.lab.instrument import Curves, Instrument
from unetlab.lab.records import load_record, provenance

ORANGE, GREEN = "#D55E00", "#009E73"
COLOURS = ("#0072B2", "#CC79A7", "#56B4E9")  # of the seeds, and of the families
DASHES = ("solid", "dashed", "dotted")
FAMILIES = {
    "Patience": (3, 5, 10, 20),
    "GL": (1, 2, 5, 10),
    "PQ": (0.05, 0.1, 0.2, 0.5),
}  # twelve criteria to compare with
FORMS = {"Patience": "{:g} evaluations", "GL": "{:g} %", "PQ": "{:g}"}


@dataclass(frozen=True)
class Criterion:
    """When to stop, on the validation loss: ``family`` is Patience, or GL or PQ of ``replay_prechelt``; ``amount`` is its
    patience or alpha, ``smoothing`` the weight of the past in a moving average of the losses (0: as they are)."""

    family: str = "Patience"
    amount: float = 10
    smoothing: float = 0.0

    def __str__(self):
        smoothed = f", smoothed {self.smoothing:g}" if self.smoothing else ""
        return f"{self.family} {FORMS[self.family].format(self.amount)}{smoothed}"


def replay(run: dict, criterion: Criterion) -> EarlyStoppingReplay:
    """Where the criterion would have stopped a recorded run (``val_loss`` and ``train_loss``), and what it keeps."""
    val, train = (smooth(run[column], criterion.smoothing) for column in ("val_loss", "train_loss"))
    if criterion.family == "Patience":
        return replay_early_stopping(val, patience=int(criterion.amount))
    return replay_prechelt(val, train, criterion.family, criterion.amount)


def judge(run: dict, criterion: Criterion) -> tuple[float, float]:
    """The share of the run's epochs that are trained, and the Dice lost against the best epoch of the whole run."""
    outcome, epochs = replay(run, criterion), len(run["val_loss"])
    spent = epochs if outcome.stopped_epoch is None else outcome.stopped_epoch + 1
    return spent / epochs, max(run["val_dice"]) - run["val_dice"][outcome.best_epoch]


class StopOMeter:
    """Choose a criterion; see its price on every recorded curve. Show it as the last line of a cell.

    Args:
        record: the recorded runs, ``load_record("stopping")`` if None.

    Attributes:
        criterion: the ``Criterion`` that the controls stand for.
        spent, lost: its means over all runs.
    """

    def __init__(self, record: dict | None = None):
        self._record = load_record("stopping") if record is None else record
        self._names = list(dict.fromkeys(run["curve"] for run in self._record["runs"]))
        self._curve = self._names[0]
        self._amounts = {"Patience": 10, "GL": 5, "PQ": 0.1}
        self.criterion = Criterion()
        grid = {family: [Criterion(family, amount) for amount in amounts] for family, amounts in FAMILIES.items()}
        self._grid = {family: [self._mean(criterion) for criterion in row] for family, row in grid.items()}
        self._instrument = Instrument("Stop-o-meter", self._controls(), self._touch)
        self._refresh()

    def _repr_mimebundle_(self, **options):
        return self._instrument._repr_mimebundle_(**options)

    def _controls(self) -> list[dict]:
        slider = partial(dict, kind="range", row=1)
        return [
            {"id": "family", "kind": "select", "label": "Criterion", "options": list(FAMILIES)},
            {"id": "curve", "kind": "select", "label": "Curve", "options": self._names},
            slider(id="Patience", label="Patience", min=1, max=60, step=1),
            slider(id="GL", label="GL above (%)", min=0.5, max=30, step=0.5),
            slider(id="PQ", label="PQ above", min=0.01, max=1, step=0.01),
            slider(id="smoothing", label="Smoothing (EMA)", min=0, max=0.95, step=0.05),
        ]

    def _touch(self, name: str, value) -> None:
        if name == "curve":
            self._curve = value
        elif name == "smoothing":
            self.criterion = replace(self.criterion, smoothing=value)
        else:
            family = value if name == "family" else name
            if name in self._amounts:
                self._amounts[name] = value
            self.criterion = replace(self.criterion, family=family, amount=self._amounts[family])
        self._refresh()

    def _mean(self, criterion: Criterion, curve: str | None = None) -> tuple[float, float]:
        runs = [run for run in self._record["runs"] if curve in (None, run["curve"])]
        return tuple(np.mean([judge(run, criterion) for run in runs], axis=0).tolist())

    def _refresh(self) -> None:
        instrument, curves, criterion = self._instrument, Curves(), self.criterion
        self.spent, self.lost = self._mean(criterion)
        by_curve = {name: self._mean(criterion, name) for name in self._names}
        with instrument.hold_sync():
            instrument.values = self._amounts | {
                "family": criterion.family,
                "curve": self._curve,
                "smoothing": criterion.smoothing,
            }
            instrument.enabled = {family: None for family in FAMILIES if family != criterion.family}
            instrument.show_curves([self._curve_panel(curves), self._price_panel(curves)], curves)
            rows = [["All curves", *_texts(self.spent, self.lost)]]
            rows += [[name, *_texts(*means)] for name, means in by_curve.items()]
            instrument.table = [["Mean of the seeds", "Epochs spent", "Dice lost"], *rows]
            text = f"{criterion}: spends {self.spent:.0%} of the epochs and loses {self.lost:.3f} of Dice, mean of all runs."
            instrument.status = {"text": text, "progress": None, "problem": None}
            instrument.caption = [[provenance(self._record), None]]

    def _curve_panel(self, curves: Curves) -> dict:
        """The loss of each seed up to its stop, what would have come, and the epoch that is kept."""
        series, texts = [], []
        for run, colour in zip([r for r in self._record["runs"] if r["curve"] == self._curve], COLOURS, strict=False):
            outcome, loss = replay(run, self.criterion), run["val_loss"]
            end, kept = (
                len(loss) if outcome.stopped_epoch is None else outcome.stopped_epoch + 1,
                outcome.best_epoch + 1,
            )
            name = f"seed {run['seed']}, keeps {kept}"
            series.append(
                curves.line(range(end, len(loss) + 1), loss[end - 1 :], color=colour, dash="dotted", alpha=0.6)
            )
            series.append(curves.line(range(1, end + 1), loss[:end], name=name, color=colour))
            series.append(curves.line([kept], [loss[kept - 1]], color=GREEN, dots=5))
            texts.append(f"{end} ({'the end' if outcome.stopped_epoch is None else 'stopped'})")
        return {
            "title": f"{self._curve}: validation loss (log)",
            "label": f"{self._curve}: the seeds end at epochs {', '.join(texts)}",
            "xlabel": "epoch",
            "log": True,
            "series": series,
            "wide": True,
        }

    def _price_panel(self, curves: Curves) -> dict:
        series = []
        for (family, points), colour, dash in zip(self._grid.items(), COLOURS, DASHES, strict=True):
            spent, lost = zip(*points, strict=True)
            series.append(
                curves.line(spent, lost, name=f"{family} {FAMILIES[family]}", color=colour, dash=dash, dots=3)
            )
        series.append(curves.line([self.spent], [self.lost], name="yours", color=ORANGE, dots=6))
        return {
            "title": "The price: Dice lost against epochs spent, mean of all runs",
            "label": f"The more epochs are spent, the less Dice is lost; yours: {self.spent:.2f} and {self.lost:.3f}",
            "xlabel": "share of the epochs spent",
            "xlim": [0, 1],
            "ylim": [0, 0.3],
            "series": series,
            "wide": True,
        }


def _texts(spent: float, lost: float) -> list[str]:
    return [f"{spent:.0%}", f"{lost:.3f}"]

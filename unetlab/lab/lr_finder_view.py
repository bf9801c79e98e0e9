"""The learning-rate finder of ``03a_learning_rate``: a range test with a pick that can be dragged.

``nearest_rate`` and ``sweep`` are the logic, plain functions; ``LRFinderView`` binds them to the instrument. The runs
beside the range test are recorded (``notebooks/records/lr_finder.json``); nothing is trained.
"""

import math

import numpy as np

from unetlab.lab.instrument import Curves, Instrument
from unetlab.lab.records import load_record, provenance
from unetlab.lr_finder import RangeTest

CONTROLS = [
    {"id": "pick", "kind": "range", "label": "Learning rate", "min": 1e-6, "max": 10, "step": 0.02, "log": True},
    {"id": "suggestion", "kind": "button", "label": "Take the suggestion"},
]
BLUE, SKY, ORANGE, GREEN = "#0072B2", "#56B4E9", "#D55E00", "#009E73"


def recorded_test(record: dict) -> RangeTest:
    """The range test of a record, of its first set-up (AdamW) and seed."""
    run = next(run for run in record["runs"] if run["kind"] == "range test")
    arrays = (np.array(run[name]) for name in ("lrs", "losses", "smoothed"))
    return RangeTest(*arrays, run["suggestion"], run["stopped"])


def sweep(record: dict, setup: str = "AdamW") -> dict[float, list[dict]]:
    """The recorded runs of a set-up by their rate, in order, each a list over seeds."""
    runs = [run for run in record["runs"] if (run["kind"], run["setup"]) == ("run", setup)]
    return {lr: [run for run in runs if run["base_lr"] == lr] for lr in sorted({run["base_lr"] for run in runs})}


def nearest_rate(rates, pick: float) -> float:
    """The rate next to ``pick`` on a log scale."""
    return min(rates, key=lambda lr: abs(math.log(lr / pick)))


class LRFinderView:
    """A range test, its suggestion, your pick, and what recorded runs made of such a rate.

    Show it as the last line of a cell. Drag on the chart, or use the slider *Learning rate*.

    Args:
        test: what ``lr_range_test`` returned; None shows the recorded one.
        record: the recorded runs, ``load_record("lr_finder")`` if None.

    Attributes:
        pick: the rate that is picked; at first the suggestion.
    """

    def __init__(self, test: RangeTest | None = None, record: dict | None = None):
        self._record = load_record("lr_finder") if record is None else record
        self._own = test is not None
        self._test = test or recorded_test(self._record)
        self._sweep = sweep(self._record)
        self.pick = self._test.suggestion or float(self._test.lrs[0])
        self._instrument = Instrument("Learning-rate finder", CONTROLS, self._touch)
        self._refresh()

    def _repr_mimebundle_(self, **options):
        return self._instrument._repr_mimebundle_(**options)

    def _touch(self, name: str, value) -> None:
        if name == "pick":
            self.pick = value
        elif name == "drag":
            self.pick = 10 ** value[0]  # the axis of the chart holds exponents
        else:
            self.pick = self._test.suggestion
        self._refresh()

    def _refresh(self) -> None:
        instrument, curves, shown = self._instrument, Curves(), nearest_rate(self._sweep, self.pick)
        with instrument.hold_sync():
            instrument.values = {"pick": self.pick}
            instrument.enabled = {"suggestion": self._test.suggestion is not None}
            instrument.show_curves([self._test_panel(curves), self._sweep_panel(curves, shown)], curves)
            instrument.table = self._table(shown)
            instrument.status = {"text": describe(self._test, self.pick), "progress": None, "problem": None}
            other = " The recorded runs are of another network and other data than your test." if self._own else ""
            instrument.caption = [[provenance(self._record) + other, None]]

    def _test_panel(self, curves: Curves) -> dict:
        test, exponents = self._test, np.log10(self._test.lrs)
        series = [
            curves.line(exponents, test.losses, name="loss of a step", color=SKY, width=1),
            curves.line(exponents, test.smoothed, name="smoothed", color=BLUE, width=2.5),
        ]
        style = {"width": 2, "before": True}
        marks = [{"x": math.log10(self.pick), "text": f"your pick {self.pick:.2g}", "color": ORANGE} | style]
        if test.suggestion:
            mark = {"x": math.log10(test.suggestion), "text": f"suggested {test.suggestion:.2g}", "row": 1}
            marks.append(mark | {"color": GREEN, "dash": "dashed"} | style)
        lowest = test.lrs[test.smoothed.argmin()]
        return {
            "title": "Range test: drag to pick",
            "label": f"Training loss over a growing rate, lowest at {lowest:.2g}",
            "xlabel": "learning rate (log)",
            "xlog": True,
            "xlim": LIMITS,
            "series": series,
            "marks": marks,
            "touch": "drag",
        }

    def _sweep_panel(self, curves: Curves, shown: float) -> dict:
        exponents = [math.log10(lr) for lr in self._sweep]
        ends = np.array([[run["val_dice"][-1] for run in runs] for runs in self._sweep.values()]).T
        series = [curves.line(exponents, seed, color=SKY, width=0.01, dots=3) for seed in ends]
        series.append(curves.line(exponents, ends.mean(0), name="mean of the seeds", color=BLUE, width=2.5))
        near = list(self._sweep).index(shown)
        series.append(
            curves.line([exponents[near]], [ends.mean(0)[near]], name=f"nearest, {shown:g}", color=GREEN, dots=6)
        )
        best = exponents[int(ends.mean(0).argmax())]
        return {
            "title": "Validation Dice of recorded runs",
            "label": f"Validation Dice over the rate: highest at {10**best:.2g}",
            "xlabel": "learning rate (log)",
            "xlog": True,
            "xlim": LIMITS,
            "ylim": [0, 1.15],  # room for the text of the mark
            "series": series,
            "marks": [{"x": math.log10(self.pick), "text": f"your pick {self.pick:.2g}", "color": ORANGE, "width": 2}],
            "touch": "drag",
        }

    def _table(self, shown: float) -> list[list[str]]:
        runs = self._sweep[shown]
        rows = [[f"Recorded at {shown:g}, {len(runs[0]['val_dice'])} epochs", "Validation loss", "Validation Dice"]]
        rows += [[f"seed {r['seed']}", f"{r['val_loss'][-1]:.3f}", f"{r['val_dice'][-1]:.3f}"] for r in runs]
        loss, dice = (np.mean([r[name][-1] for r in runs]) for name in ("val_loss", "val_dice"))
        return [*rows, ["mean", f"{loss:.3f}", f"{dice:.3f}"]]


LIMITS = [-6, 1]  # exponents of the slider's range


def describe(test: RangeTest, pick: float) -> str:
    """Where the pick lies in the range test."""
    lowest = test.lrs[test.smoothed.argmin()]
    side = "beyond the lowest loss: already too high" if pick > lowest else "on the falling side"
    if pick < test.lrs[0]:
        side = "below the rates that were tested"
    elif np.interp(math.log(pick), np.log(test.lrs), test.smoothed) > 0.98 * test.smoothed[0] and pick < lowest:
        side = "where the loss does not fall yet: too low"
    end = f" The test ended early: {test.stopped}." if test.stopped else ""
    return f"Your pick {pick:.2g} lies {side}. The lowest loss is at {lowest:.2g}.{end}"

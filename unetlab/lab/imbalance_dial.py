"""The imbalance dial of ``02b_losses``: two losses on rare objects, run by run, and an epoch to stop the film at.

``by_loss`` and ``at_epoch`` are the logic, plain functions; ``ImbalanceDial`` binds them to the instrument. The runs are
recorded (``notebooks/records/imbalance.json``); nothing is trained.
"""

import numpy as np

from unetlab.lab.instrument import Curves, Instrument
from unetlab.lab.records import load_record, provenance

USUAL_RATE = 1e-3  # not named in the list of losses
COLOURS = {"first": "#0072B2", "second": "#D55E00"}
DASHES = {"first": "solid", "second": "dashed"}
COLUMNS = {"pooled_dice": "Validation Dice, all pixels pooled", "false_alarms": "Empty images with a false alarm"}


def by_loss(record: dict) -> dict[str, dict[str, np.ndarray]]:
    """The runs of a record by their loss (and rate, if it is not the usual one): each column as (runs, epochs)."""
    groups = {}
    for run in record["runs"]:
        rate = "" if run["base_lr"] == USUAL_RATE else f", rate {run['base_lr']:g}"
        groups.setdefault(run["loss"] + rate, []).append(run)
    return {name: {c: np.array([run[c] for run in runs]) for c in COLUMNS} for name, runs in groups.items()}


def at_epoch(columns: dict[str, np.ndarray], epoch: int) -> list[str]:
    """Mean, lowest and highest Dice of the runs after an epoch (1 is the first), and their mean share of false alarms."""
    dice, alarms = (columns[name][:, epoch - 1] for name in COLUMNS)
    return [f"{dice.mean():.2f}", f"{dice.min():.2f}", f"{dice.max():.2f}", f"{alarms.mean():.0%}"]


class ImbalanceDial:
    """Choose two losses and an epoch; show it as the last line of a cell.

    Args:
        record: the recorded runs, ``load_record("imbalance")`` if None.

    Attributes:
        first, second: the losses that are shown. ``epoch``: the one that the table speaks of.
    """

    def __init__(self, record: dict | None = None):
        self._record = load_record("imbalance") if record is None else record
        self._losses = by_loss(self._record)
        names = list(self._losses)
        self.first, self.second, self.epoch = names[0], names[1], len(self._record["runs"][0]["pooled_dice"])
        controls = [
            {"id": "first", "kind": "select", "label": "First loss", "options": names},
            {"id": "second", "kind": "select", "label": "Second loss", "options": names},
            {"id": "epoch", "kind": "range", "label": "Epoch", "row": 1, "min": 1, "max": self.epoch, "step": 1},
        ]
        self._instrument = Instrument("Imbalance dial", controls, self._touch)
        self._refresh()

    def _repr_mimebundle_(self, **options):
        return self._instrument._repr_mimebundle_(**options)

    def _touch(self, name: str, value) -> None:
        setattr(self, name, int(value) if name == "epoch" else value)
        self._refresh()

    def _refresh(self) -> None:
        instrument, curves = self._instrument, Curves()
        with instrument.hold_sync():
            instrument.values = {"first": self.first, "second": self.second, "epoch": self.epoch}
            instrument.show_curves([self._panel(curves, column) for column in COLUMNS], curves)
            instrument.table = self._table()
            instrument.caption = [[provenance(self._record), None]]

    def _panel(self, curves: Curves, column: str) -> dict:
        series, ends = [], []
        for place in COLOURS:
            name = getattr(self, place)
            runs, style = self._losses[name][column], {"color": COLOURS[place], "dash": DASHES[place]}
            epochs = np.arange(1, runs.shape[1] + 1)
            series += [curves.line(epochs, run, width=1, alpha=0.4, **style) for run in runs]
            series.append(curves.line(epochs, runs.mean(0), name=f"{name}, mean of {len(runs)}", width=3, **style))
            ends.append(f"{name} {runs[:, self.epoch - 1].mean():.2f}")
        return {
            "title": COLUMNS[column],
            "label": f"{COLUMNS[column]} after epoch {self.epoch}, means: {', '.join(ends)}",
            "xlabel": "epoch",
            "xlim": [1, len(epochs)],
            "ylim": [0, 1.15],  # room for the text of the mark
            "series": series,
            "marks": [{"x": self.epoch, "text": f"epoch {self.epoch}", "before": True}],
        }

    def _table(self) -> list[list[str]]:
        header = [f"After epoch {self.epoch}", "Mean Dice", "Lowest run", "Highest run", "False alarms"]
        return [header] + [[name, *at_epoch(self._losses[name], self.epoch)] for name in (self.first, self.second)]

"""The loss-against-Dice duel of ``04b_what_to_monitor``: one recorded run, two monitors, and where each of them stops.

``obey`` is the logic, a plain function over ``replay_early_stopping``; ``MonitorDuel`` binds it to the instrument. The
runs are recorded (``notebooks/records/monitor.json``); nothing is trained. What a monitor was worth is read from test
images, which neither of the two has seen.
"""

from dataclasses import dataclass

from unetlab.early_stopping import replay_early_stopping, smooth
from unetlab.lab.instrument import Curves, Instrument
from unetlab.lab.records import load_record, provenance

MONITORS = {"Loss": ("val_loss", "min"), "Dice": ("val_dice", "max")}
COLOURS = {"Loss": "#D55E00", "Dice": "#0072B2"}
DASHES = {"Loss": "dashed", "Dice": "solid"}
SKY, GREEN, PINK = "#56B4E9", "#009E73", "#CC79A7"
ROOM = [0, 1.1]  # of a Dice, with space for the flags


@dataclass(frozen=True)
class Kept:
    """What a monitor made of a run. Epochs count from 1.

    Attributes:
        stopped: the last epoch that is trained, None if the monitor never stops the run.
        epoch: the one whose weights are kept. test_dice: their Dice on the test images.
        trained: how many epochs were paid for.
    """

    stopped: int | None
    epoch: int
    test_dice: float
    trained: int


def obey(run: dict, monitor: str, patience: int, smoothing: float = 0.0, start: int = 0) -> Kept:
    """Stop a recorded run by a monitor of ``MONITORS``.

    Args:
        run: a run of the record.
        smoothing: weight of the past in the moving average that the monitor sees; 0 shows it the curve itself.
        start: so many first epochs are not looked at.
    """
    column, mode = MONITORS[monitor]
    replay = replay_early_stopping(smooth(run[column], smoothing), patience, mode=mode, start_from_epoch=start)
    stopped = None if replay.stopped_epoch is None else replay.stopped_epoch + 1
    epoch = replay.best_epoch + 1
    return Kept(stopped, epoch, run["test_dice"][epoch - 1], stopped or len(run[column]))


class MonitorDuel:
    """Move the rule over one run that two monitors watch; show it as the last line of a cell.

    Args:
        record: the recorded runs, ``load_record("monitor")`` if None.

    Attributes:
        run, seed: what is shown. patience, smoothing, start: of both monitors, as in ``obey``.
        kept: a ``Kept`` by monitor, for the run that is shown.
    """

    def __init__(self, record: dict | None = None):
        self._record = load_record("monitor") if record is None else record
        self._names = list(dict.fromkeys(run["run"] for run in self._record["runs"]))
        self.run, self.seed = self._names[0], self._record["seeds"][0]
        self.patience, self.smoothing, self.start = 10, 0.0, 0
        seeds = [str(seed) for seed in self._record["seeds"]]
        controls = [
            {"id": "run", "kind": "select", "label": "Run", "options": self._names},
            {"id": "seed", "kind": "select", "label": "Seed", "options": seeds},
            _slider("patience", "Patience", 1, 60, 1),
            _slider("start", "Start from epoch", 0, 60, 1),
            _slider("smoothing", "Smoothing (EMA)", 0, 0.95, 0.05),
        ]
        self._instrument = Instrument("Loss-against-Dice duel", controls, self._touch)
        self._refresh()

    def _repr_mimebundle_(self, **options):
        return self._instrument._repr_mimebundle_(**options)

    def _touch(self, name: str, value) -> None:
        setattr(self, name, int(value) if name == "seed" else value)
        self._refresh()

    def _runs(self) -> list[dict]:
        """The chosen run, with each seed."""
        return [run for run in self._record["runs"] if run["run"] == self.run]

    def _refresh(self) -> None:
        instrument, curves, runs = self._instrument, Curves(), self._runs()
        shown = next(run for run in runs if run["seed"] == self.seed)
        half = len(shown["val_dice"]) // 2
        self.start = min(self.start, half)
        by_seed = {m: [obey(run, m, self.patience, self.smoothing, self.start) for run in runs] for m in MONITORS}
        self.kept = {m: kept[runs.index(shown)] for m, kept in by_seed.items()}
        with instrument.hold_sync():
            shown_values = {name: getattr(self, name) for name in ("run", "patience", "smoothing", "start")}
            instrument.values = shown_values | {"seed": str(self.seed)}
            instrument.ranges = {"start": [0, half]}
            panels = [self._panel(curves, shown, monitor) for monitor in MONITORS]
            instrument.show_curves([*panels, self._judge(curves, shown)], curves)
            instrument.table = self._table(by_seed)
            instrument.status = {"text": self.describe(), "progress": None, "problem": None}
            instrument.caption = [[provenance(self._record), None]]

    def describe(self) -> str:
        """What each of the two monitors does to the run, in words."""
        words = []
        for monitor, kept in self.kept.items():
            end = f"stops after epoch {kept.stopped}" if kept.stopped else "never stops"
            words.append(f"{monitor}: {end}, keeps epoch {kept.epoch}, test Dice {kept.test_dice:.3f}.")
        return " ".join(words)

    def _panel(self, curves: Curves, run: dict, monitor: str) -> dict:
        """A monitor over the epochs, and its two flags."""
        column, kept, colour = MONITORS[monitor][0], self.kept[monitor], COLOURS[monitor]
        epochs = range(1, len(run[column]) + 1)
        name = f"validation {monitor.replace('Loss', 'loss')}"
        series = [curves.line(epochs, run[column], name=name, color=colour, dash=DASHES[monitor])]
        if monitor == "Loss":
            series.append(curves.line(epochs, run["train_loss"], name="training loss", color=SKY, dash="dotted"))
        if self.smoothing:
            seen = smooth(run[column], self.smoothing)
            series.append(curves.line(epochs, seen, name="what the monitor sees", color=PINK))
        return {
            "title": name.capitalize().replace("dice", "Dice"),
            "label": f"{name}: from {run[column][0]:.3f} to {run[column][-1]:.3f}; the monitor keeps epoch {kept.epoch}",
            "xlabel": "epoch",
            "xlim": [1, len(epochs)],
            "series": series,
            "marks": _flags(kept, colour),
            **({"ylim": ROOM} if monitor == "Dice" else {}),
        }

    def _judge(self, curves: Curves, run: dict) -> dict:
        """The test Dice, with the epoch that each monitor keeps."""
        epochs = range(1, len(run["test_dice"]) + 1)
        marks = [
            {"x": kept.epoch, "text": f"{m} keeps {kept.epoch}", "row": i, "color": COLOURS[m], "dash": DASHES[m]}
            for i, (m, kept) in enumerate(self.kept.items())
        ]
        return {
            "title": "The judge: Dice on test images",
            "label": f"Test Dice: ends at {run['test_dice'][-1]:.3f}; {self.describe()}",
            "xlabel": "epoch",
            "xlim": [1, len(epochs)],
            "series": [curves.line(epochs, run["test_dice"], name="test Dice", color=GREEN)],
            "marks": marks,
            "ylim": ROOM,
            "wide": True,
        }

    def _table(self, by_seed: dict[str, list[Kept]]) -> list[list[str]]:
        seeds = [f"Seed {seed}" for seed in self._record["seeds"]]
        rows = [["", *seeds]]
        for monitor, kept in by_seed.items():
            rows.append([f"{monitor}: stopped after epoch", *(str(k.stopped or "never") for k in kept)])
            rows.append([f"{monitor}: test Dice kept", *(f"{k.test_dice:.3f}" for k in kept)])
        return rows + [["Test Dice after the last epoch", *(f"{run['test_dice'][-1]:.3f}" for run in self._runs())]]


def _flags(kept: Kept, colour: str) -> list[dict]:
    keeps = {"x": kept.epoch, "text": f"keeps {kept.epoch}", "before": True, "color": GREEN, "dash": "dashed"}
    if kept.stopped is None:
        return [keeps]
    return [keeps, {"x": kept.stopped, "text": f"stops after {kept.stopped}", "row": 1, "color": colour, "width": 2}]


def _slider(name: str, label: str, low: float, high: float, step: float) -> dict:
    return {"id": name, "kind": "range", "label": label, "row": 1, "min": low, "max": high, "step": step}

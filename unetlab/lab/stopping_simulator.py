"""The early-stopping simulator of ``04a_early_stopping`` and ``03c_plateau_and_warmup``: where would this run have stopped?

``simulate`` is the logic, a plain function over ``EarlyStopping`` and torch's plateau schedule; ``StoppingSimulator``
binds it to the instrument. The curves are recorded (``notebooks/records/stopping.json``) or drawn by hand. Nothing is
trained, and a recorded curve cannot answer to the rate that plateau would have set: that needs the live lab.
"""

from bisect import bisect
from dataclasses import dataclass, replace

import numpy as np
import torch

from unetlab.early_stopping import EarlyStopping
from unetlab.lab.instrument import Curves, Instrument
from unetlab.lab.records import load_record, provenance
from unetlab.schedulers import make_scheduler

DRAWN = "Drawn by hand"
FLAT, RISING = "Sketch: flat from the start", "Sketch: a Dice that rises"
SKETCHES = {  # what the textbook traps are shown on; drawing on one makes it yours
    FLAT: [0.5] * 60,
    RISING: [round(0.9 - 0.8 * 0.95**epoch, 4) for epoch in range(60)],
}
MONITORS = {"Validation loss": ("val_loss", "min"), "Validation Dice": ("val_dice", "max")}
LR = 1e-3  # where plateau starts; only its drops mean something
BLUE, SKY, ORANGE, GREEN = "#0072B2", "#56B4E9", "#D55E00", "#009E73"


@dataclass(frozen=True)
class Rule:
    """When to stop. ``patience`` and ``plateau_patience`` count evaluations, ``interval`` is epochs between two of them.

    ``smoothing`` is the weight of the past in an exponential moving average of the monitored value; 0 takes it as it is.
    ``cooldown``: evaluations after a cut of the rate that plateau does not count.
    """

    patience: int = 10
    min_delta: float = 0.0
    mode: str = "min"
    smoothing: float = 0.0
    interval: int = 1
    plateau_patience: int = 4
    cooldown: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a rule made of a curve. Epochs count from 1, as in a history.

    Attributes:
        epochs, monitored, waits, bad: at each evaluation up to the stop: its epoch, the (smoothed) value, the counter of
            early stopping and that of plateau.
        rates: the rate of each epoch that is trained. cuts: the epochs after whose evaluation plateau lowered it.
        stopped: the last epoch, None if the rule never stops. kept: the epoch whose weights are kept, and its ``value``.
        regret: by how much ``value`` is worse than the best epoch of the whole curve, at least 0.
        saved: epochs that were not trained. drops: how often the rate fell in time for an epoch to be trained with it.
    """

    epochs: list[int]
    monitored: list[float]
    waits: list[int]
    bad: list[int]
    rates: list[float]
    cuts: list[int]
    stopped: int | None
    kept: int
    value: float
    regret: float
    saved: int
    drops: int


def simulate(curve: list[float], rule: Rule, better: str | None = None) -> Outcome:
    """Run early stopping and plateau (from the rate ``LR`` on) over a curve with one value an epoch.

    ``better``: "min" or "max", by which the regret is counted; the rule's mode if None, but that can be wrong.
    """
    stopper = EarlyStopping("value", rule.mode, rule.patience, rule.min_delta)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=LR)
    options = {"mode": rule.mode, "patience": rule.plateau_patience, "cooldown": rule.cooldown}
    plateau = make_scheduler("plateau", optimizer, len(curve), **options)
    epochs, monitored, waits, bad, rates, cuts = [], [], [], [], [], []
    for epoch, value in enumerate(curve, 1):
        rates.append(plateau.get_last_lr()[0])
        if epoch % rule.interval:
            continue
        if monitored:
            value = rule.smoothing * monitored[-1] + (1 - rule.smoothing) * value
        decision = stopper.update(value)
        plateau.step(value)
        if plateau.get_last_lr()[0] < rates[-1]:
            cuts.append(epoch)
        epochs.append(epoch)
        monitored.append(value)
        waits.append(decision.wait)
        bad.append(plateau.torch_scheduler.num_bad_epochs)
        if decision.stop:
            break
    stopped = None if stopper.stopped_epoch is None else epochs[-1]
    kept = epochs[stopper.best_epoch]
    value = curve[kept - 1]
    regret = value - min(curve) if (better or rule.mode) == "min" else max(curve) - value
    drops = sum(cut < len(rates) for cut in cuts)
    saved = len(curve) - stopped if stopped else 0
    return Outcome(epochs, monitored, waits, bad, rates, cuts, stopped, kept, value, regret, saved, drops)


def drawn(curve: list[float], start: tuple[float, float], end: tuple[float, float]) -> list[float]:
    """The curve with a straight stroke from ``start`` to ``end``, both (epoch, value); it changes at least one epoch."""
    (x0, y0), (x1, y1) = sorted([start, end])
    first, last = (min(max(round(x), 1), len(curve)) for x in (x0, x1))
    stroke = np.interp(range(first, last + 1), [x0, x1], [y0, y1]) if last > first else [end[1]]
    return curve[: first - 1] + [max(float(y), 0.0) for y in stroke] + curve[last:]


def advice(rule: Rule, better: str | None = None) -> str | None:
    """What is wrong with a rule before it has seen any curve. ``better``: as in ``simulate``."""
    notes = []
    if better not in (None, rule.mode):
        words = {"min": "smaller", "max": "larger"}
        notes.append(f"Mode {rule.mode}, where {words[better]} is better: the rule waits for the worst and keeps it.")
    if rule.patience <= rule.plateau_patience + 1:
        notes.append(
            f"Early stopping (patience {rule.patience}) ends the run before plateau (patience {rule.plateau_patience}) can "
            f"help: the rate falls after {rule.plateau_patience + 1} bad evaluations, and then needs time."
        )
    return "\n".join(notes) or None


class StoppingSimulator:
    """Move the knobs of early stopping over a curve; show it as the last line of a cell.

    Drag on the chart to draw a curve of your own, or use the sliders *Point* and *Its value*.

    Args:
        record: the recorded runs, ``load_record("stopping")`` if None.

    Attributes:
        rule: the ``Rule`` that the controls stand for.
        outcomes: an ``Outcome`` by seed (for a drawn curve: one, by ``DRAWN``).
    """

    def __init__(self, record: dict | None = None):
        self._record = load_record("stopping") if record is None else record
        self.rule = Rule()
        self._names = list(dict.fromkeys(run["curve"] for run in self._record["runs"]))
        self._curve, self._monitor, self._seed = self._names[0], "Validation loss", self._record["seeds"][0]
        epochs = np.arange(1, 61)
        self._drawing = [float(y) for y in 0.25 + 0.6 * np.exp(-epochs / 8) + 0.002 * epochs]
        self._pen, self._point, self._top, self._look = (1.0, 0.0), 30, 1.0, 10
        self._instrument = Instrument("Early-stopping simulator", self._controls(), self._touch)
        self._refresh()

    def _repr_mimebundle_(self, **options):
        return self._instrument._repr_mimebundle_(**options)

    def _controls(self) -> list[dict]:
        seeds = [str(seed) for seed in self._record["seeds"]]
        return [
            {"id": "curve", "kind": "select", "label": "Curve", "options": [*self._names, *SKETCHES, DRAWN]},
            {"id": "seed", "kind": "select", "label": "Seed", "options": seeds},
            {"id": "monitor", "kind": "select", "label": "Monitor", "options": list(MONITORS)},
            {"id": "mode", "kind": "select", "label": "Mode", "options": ["min", "max"]},
            {"id": "patience", "kind": "range", "label": "Patience", "row": 1, "min": 0, "max": 60, "step": 1},
            {"id": "min_delta", "kind": "range", "label": "Min delta", "row": 1, "min": 0, "max": 0.05, "step": 0.001},
            {
                "id": "smoothing",
                "kind": "range",
                "label": "Smoothing (EMA)",
                "row": 1,
                "min": 0,
                "max": 0.95,
                "step": 0.05,
            },
            {
                "id": "interval",
                "kind": "range",
                "label": "Evaluation interval",
                "row": 1,
                "min": 1,
                "max": 10,
                "step": 1,
            },
            {
                "id": "plateau_patience",
                "kind": "range",
                "label": "Plateau patience",
                "row": 1,
                "min": 0,
                "max": 60,
                "step": 1,
            },
            {"id": "cooldown", "kind": "range", "label": "Plateau cooldown", "row": 1, "min": 0, "max": 20, "step": 1},
            {"id": "look", "kind": "range", "label": "Look at epoch", "row": 2, "min": 1, "max": 60, "step": 1},
            {"id": "point", "kind": "range", "label": "Point", "row": 2, "min": 1, "max": 60, "step": 1},
            {"id": "height", "kind": "range", "label": "Its value", "row": 2, "min": 0, "max": 1, "step": 0.01},
        ]

    # ------------------------------------------------------------------------------------------ what was touched

    def _touch(self, name: str, value) -> None:
        if name == "curve":
            self._curve = value
        elif name == "seed":
            self._seed = int(value)
        elif name == "monitor":
            self._monitor = value
            self.rule = replace(self.rule, mode=MONITORS[value][1])  # the mode that fits; it can be set wrong
        elif name == "draw":
            self._draw(*value)
        elif name in ("point", "look"):
            setattr(self, f"_{name}", value)
        elif name == "height":
            self._drawing = drawn(self._drawing, (self._point, value), (self._point, value))
        else:
            self.rule = replace(self.rule, **{name: value})
        self._refresh()

    def _draw(self, x: float, y: float, pen_down: bool) -> None:
        """A pointer on the chart. A recorded curve is copied first."""
        if self._curve != DRAWN:
            self._drawing = list(self._shown())
            self._top = max(1.0, *self._drawing)
            self._curve = DRAWN
            self._point = min(self._point, len(self._drawing))
        self._drawing = drawn(self._drawing, (x, y) if pen_down else self._pen, (x, y))
        self._pen = (x, y)

    def _curves(self) -> dict:
        """The curves under the rule: by seed, or the drawn one."""
        if self._by_hand:
            return {DRAWN: SKETCHES.get(self._curve, self._drawing)}
        column = MONITORS[self._monitor][0]
        return {run["seed"]: run[column] for run in self._record["runs"] if run["curve"] == self._curve}

    @property
    def _by_hand(self) -> bool:
        return self._curve not in self._names

    def _shown(self) -> list[float]:
        return self._curves()[DRAWN if self._by_hand else self._seed]

    # --------------------------------------------------------------------------------------------------- drawing

    def _refresh(self) -> None:
        rule, instrument = self.rule, self._instrument
        by_hand = self._by_hand
        better = {RISING: "max"}.get(self._curve) if by_hand else MONITORS[self._monitor][1]
        self.outcomes = {name: simulate(curve, rule, better) for name, curve in self._curves().items()}
        curve, outcome = self._shown(), self.outcomes[DRAWN if by_hand else self._seed]
        look = min(self._look, len(outcome.rates))
        curves = Curves()
        with instrument.hold_sync():
            instrument.values = vars(rule) | {
                "curve": self._curve,
                "seed": str(self._seed),
                "monitor": self._monitor,
                "point": self._point,
                "height": round(self._drawing[self._point - 1], 3),
                "look": look,
            }
            hidden = ["point", "height"] if self._curve != DRAWN else []
            instrument.enabled = dict.fromkeys(hidden + (["seed", "monitor"] if by_hand else []))
            instrument.ranges = {"point": [1, len(self._drawing)], "height": [0, self._top], "look": [1, len(curve)]}
            panels = [self._curve_panel(curves, curve, outcome), _counters(curves, outcome, rule, len(curve), look)]
            instrument.show_curves([*panels, _rate(curves, outcome, len(curve))], curves)
            instrument.table = self._table(len(curve))
            text = describe(outcome, len(curve))
            instrument.status = {"text": text, "progress": None, "problem": advice(rule, better)}
            instrument.caption = [[reading(outcome, rule, look), ORANGE]]
            instrument.caption += [] if by_hand else [[provenance(self._record), None]]

    def _curve_panel(self, curves: Curves, curve: list[float], outcome: Outcome) -> dict:
        by_hand, trained = self._by_hand, outcome.stopped or len(curve)
        series = []
        if outcome.stopped:
            rest = range(trained, len(curve) + 1)
            series.append(
                curves.line(rest, curve[trained - 1 :], name="what would have come", color=SKY, dash="dotted")
            )
        series.append(curves.line(range(1, trained + 1), curve[:trained], name="trained", color=BLUE))
        if self.rule.interval > 1 or self.rule.smoothing > 0:
            series.append(
                curves.line(
                    outcome.epochs, outcome.monitored, name="what the rule sees", color=ORANGE, dash="dashed", dots=2.5
                )
            )
        marks = [
            {
                "x": outcome.kept,
                "text": f"keeps {outcome.kept}",
                "before": True,
                "color": GREEN,
                "dash": "dashed",
                "width": 2,
            }
        ]
        if outcome.stopped:
            text = f"stops after {outcome.stopped}"
            marks.append({"x": outcome.stopped, "text": text, "row": 1, "color": ORANGE, "width": 2})
        title = "Curve: drag to draw" if by_hand else f"{self._monitor}: drag to draw your own"
        panel = {
            "title": title,
            "xlabel": "epoch",
            "xlim": [1, len(curve)],
            "series": series,
            "marks": marks,
            "wide": True,
        }
        ends = f"from {curve[0]:.3g} at the first epoch to {curve[-1]:.3g} at epoch {len(curve)}"
        panel |= {"label": f"{self._curve}, {ends}", "touch": "draw"}
        return panel | ({"ylim": [0, self._top]} if by_hand else {})

    def _table(self, epochs: int) -> list[list[str]]:
        outcomes = self.outcomes.items()
        return [
            ["", *(name if name == DRAWN else f"Seed {name}" for name, _ in outcomes)],
            ["Stopped after epoch", *(str(o.stopped or "never") for _, o in outcomes)],
            ["Best kept: epoch", *(str(o.kept) for _, o in outcomes)],
            ["Its value", *(f"{o.value:.4f}" for _, o in outcomes)],
            ["Regret", *(f"{o.regret:.4f}" for _, o in outcomes)],
            [f"Epochs saved of {epochs}", *(str(o.saved) for _, o in outcomes)],
            ["Rate drops", *(str(o.drops) for _, o in outcomes)],
        ]


def describe(outcome: Outcome, epochs: int) -> str:
    """The outcome in a sentence."""
    end = f"Stops after epoch {outcome.stopped} of {epochs}" if outcome.stopped else f"Never stops in {epochs} epochs"
    worse = f"{outcome.regret:.4f} worse than the best epoch" if outcome.regret else "the best epoch of all"
    return f"{end}; keeps epoch {outcome.kept} ({outcome.value:.4f}), {worse}. Rate drops: {outcome.drops}."


def reading(outcome: Outcome, rule: Rule, epoch: int) -> str:
    """What both machines made of the last evaluation up to an epoch, in a sentence."""
    i = bisect(outcome.epochs, epoch) - 1
    if i < 0:
        return f"Epoch {epoch}: nothing evaluated yet"
    at, wait, bad = outcome.epochs[i], outcome.waits[i], outcome.bad[i]
    stopping = f"wait {wait} of {rule.patience}" if wait else "a new best"
    stopping += ", so the run stops" if at == outcome.stopped else ""
    plateau = f"{bad} bad, it cuts at {rule.plateau_patience + 1}"
    plateau = "it cuts the rate and counts from 0" if at in outcome.cuts else plateau
    return f"Evaluated at epoch {at}: {outcome.monitored[i]:.4g}. Early stopping: {stopping}. Plateau: {plateau}"


def _counters(curves: Curves, outcome: Outcome, rule: Rule, epochs: int, look: int) -> dict:
    """Both counters against their patience: early stopping acts when it is reached, plateau when it is exceeded."""
    style = {"steps": True}
    limit = {"dash": "dotted", "width": 1.5}
    series = [
        curves.line(outcome.epochs, outcome.waits, name="early stopping: wait", color=ORANGE, **style),
        curves.line([1, epochs], [rule.patience] * 2, name="its patience", color=ORANGE, **limit),
        curves.line(outcome.epochs, outcome.bad, name="plateau: bad evaluations", color=BLUE, dash="dashed", **style),
        curves.line([1, epochs], [rule.plateau_patience] * 2, name="its patience", color=BLUE, **limit),
    ]
    return {
        "title": "Evaluations without improvement",
        "label": f"Counters: early stopping up to {max(outcome.waits)}, plateau up to {max(outcome.bad)}",
        "xlabel": "epoch",
        "xlim": [1, epochs],
        "ylim": [0, max(rule.patience, rule.plateau_patience, *outcome.waits) * 1.1 + 0.5],
        "series": series,
        "marks": [{"x": look, "text": "", "color": "#808080", "dash": "dotted"}],
    }


def _rate(curves: Curves, outcome: Outcome, epochs: int) -> dict:
    trained = range(1, len(outcome.rates) + 1)
    line = curves.line(trained, outcome.rates, name="learning rate", color=GREEN, steps=True)
    return {
        "title": "Rate that plateau would set (log)",
        "label": f"Learning rate: {outcome.drops} drops before the end",
        "xlabel": "epoch",
        "xlim": [1, epochs],
        "log": True,
        "series": [line],
    }

"""The optimizer playground of ``A1_autograd_and_optimizers``: a valley of two weights, and the path that an optimizer takes.

``valley``, ``descend`` and ``stability_edge`` are the logic, plain functions; ``OptimizerPlayground`` binds them to the
instrument. Everything is computed at once: 200 steps of two weights take milliseconds.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from unetlab.lab.instrument import Curves, Instrument

OPTIMIZERS = ["SGD", "Momentum", "Nesterov", "RMSprop", "Adam"]
WITH_MOMENTUM = ["Momentum", "Nesterov", "Adam"]
STEPS = 200
START = np.array([-2.4, 0.6])  # along the valley, and across it
GOAL = 1e-3  # share of the first loss: when the table calls a run arrived
FLOOR, CEILING = 1e-6, 1e6  # shares of the first loss between which the charts tell losses apart
RATES = np.geomspace(1e-4, 10, 61)
WIDE, HIGH = 3.2, 1.3  # half the sides of the map

CONTROLS = [
    {"id": "optimizer", "kind": "select", "label": "Optimizer", "options": OPTIMIZERS},
    {"id": "lr", "kind": "range", "label": "Learning rate", "min": 1e-4, "max": 10, "step": 0.01, "log": True},
    {"id": "momentum", "kind": "range", "label": "Momentum", "min": 0, "max": 0.99, "step": 0.01},
    {
        "id": "condition",
        "kind": "range",
        "label": "Condition number",
        "row": 1,
        "min": 1,
        "max": 1000,
        "step": 0.05,
        "log": True,
    },
    {"id": "angle", "kind": "range", "label": "Turn of the valley (°)", "row": 1, "min": 0, "max": 45, "step": 5},
]
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8C8C8C"


@dataclass(frozen=True)
class Settings:
    """What the controls stand for. ``condition``: the steep curvature; the flat one is 1. ``angle`` in degrees."""

    optimizer: str = "SGD"
    lr: float = 0.02
    momentum: float = 0.9
    condition: float = 30.0
    angle: float = 0.0


def valley(condition: float, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """The Hessian (2, 2) of the loss ``w H w / 2``, and the start (2,), both turned by ``angle`` degrees."""
    turn = math.radians(angle)
    axes = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    return axes @ np.diag([1.0, condition]) @ axes.T, axes @ START


def loss(hessian: np.ndarray, w: np.ndarray) -> np.ndarray:
    """``w H w / 2`` for weights (..., 2)."""
    with np.errstate(over="ignore", invalid="ignore"):  # beyond the stability edge the numbers run away
        return 0.5 * (w @ hessian * w).sum(-1)


def descend(
    optimizer: str, lr, momentum: float, hessian: np.ndarray, start: np.ndarray, steps: int = STEPS
) -> np.ndarray:
    """The path of an optimizer, (steps + 1, 2); for an array of rates (n, 1) n paths at once, (steps + 1, n, 2).

    The rules are those of torch.optim, with its defaults: RMSprop's alpha 0.99, Adam's second beta 0.999, eps 1e-8.
    """
    w = np.broadcast_to(start, np.broadcast_shapes(np.shape(lr), start.shape)).copy()
    path, velocity, square = [w], np.zeros_like(w), np.zeros_like(w)
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(1, steps + 1):
            g = w @ hessian
            if optimizer == "SGD":
                step = g
            elif optimizer == "Momentum":
                step = velocity = momentum * velocity + g
            elif optimizer == "Nesterov":
                velocity = momentum * velocity + g
                step = g + momentum * velocity
            elif optimizer == "RMSprop":
                square = 0.99 * square + 0.01 * g * g
                step = g / (np.sqrt(square) + 1e-8)
            else:
                velocity = momentum * velocity + (1 - momentum) * g
                square = 0.999 * square + 0.001 * g * g
                step = velocity / (1 - momentum**t) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
            w = w - lr * step
            path.append(w)
    return np.array(path)


def stability_edge(optimizer: str, momentum: float, curvature: float) -> float | None:
    """The rate beyond which a quadratic of this largest curvature diverges; None for the optimizers that rescale."""
    if optimizer == "SGD":
        return 2 / curvature
    if optimizer == "Momentum":
        return 2 * (1 + momentum) / curvature
    if optimizer == "Nesterov":
        return 2 * (1 + momentum) / (curvature * (1 + 2 * momentum))
    return None


class OptimizerPlayground:
    """Choose an optimizer, its rate and its momentum, and a valley; show it as the last line of a cell.

    Drag on the third chart, or use the slider *Learning rate*.

    Attributes:
        settings: the ``Settings`` that the controls stand for.
    """

    def __init__(self):
        self.settings = Settings()
        self._instrument = Instrument("Optimizer playground", CONTROLS, self._touch)
        self._refresh()

    def _repr_mimebundle_(self, **options):
        return self._instrument._repr_mimebundle_(**options)

    def _touch(self, name: str, value) -> None:
        if name == "drag":
            name, value = "lr", 10 ** value[0]  # the axis of the chart holds exponents
        self.settings = replace(self.settings, **{name: value})
        self._refresh()

    def _refresh(self) -> None:
        s, instrument, curves = self.settings, self._instrument, Curves()
        hessian, start = valley(s.condition, s.angle)
        edge = stability_edge(s.optimizer, s.momentum, s.condition)
        paths = {name: descend(name, s.lr, s.momentum, hessian, start) for name in OPTIMIZERS}
        losses = {name: loss(hessian, path) for name, path in paths.items()}
        sweep = loss(hessian, descend(s.optimizer, RATES[:, None], s.momentum, hessian, start)[-1])
        with instrument.hold_sync():
            instrument.values = vars(s)
            instrument.enabled = {"momentum": True if s.optimizer in WITH_MOMENTUM else None}
            panels = [
                _map(curves, s, hessian, paths),
                _losses(curves, s, losses),
                _sweep(curves, s, sweep, losses, edge),
            ]
            instrument.show_curves(panels, curves)
            instrument.table = _table(losses)
            instrument.status = {"text": describe(s, losses[s.optimizer], edge), "progress": None, "problem": None}


def describe(s: Settings, losses: np.ndarray, edge: float | None) -> str:
    """Which side of the edge the rate lies on, and what became of the loss."""
    share = losses[-1] / losses[0]
    end = f"After {STEPS} steps the loss is {share:.1e} of the first."
    if not share < 1:
        end = f"After {STEPS} steps the loss is higher than at the start."
    if edge is None:
        return f"{s.optimizer} divides by the size of the gradient: no fixed edge. {end}"
    side = "below" if s.lr < edge else "at or beyond"
    return f"Steepest curvature λ = {s.condition:.3g}. The rate {s.lr:.2g} lies {side} the edge {edge:.2g}. {end}"


def _height(losses: np.ndarray, first: float) -> np.ndarray:
    """Losses as the charts show them: a run that diverged is at the top, and what is below ``FLOOR`` lies on it."""
    return np.nan_to_num(losses, nan=np.inf).clip(FLOOR * first, CEILING * first)


def _map(curves: Curves, s: Settings, hessian: np.ndarray, paths: dict) -> dict:
    """The valley from above: contours, and the path from the start to the last step."""
    turns, root = np.linspace(0, 2 * np.pi, 73), np.linalg.inv(np.linalg.cholesky(hessian)).T
    ring = root @ np.array([np.cos(turns), np.sin(turns)])  # where the loss is 1/2
    levels = [math.sqrt(2 * loss(hessian, paths["SGD"][0])) * 0.6**k for k in range(-2, 6)]
    rings = np.hstack([np.hstack([level * ring, [[np.nan], [np.nan]]]) for level in levels])
    path = np.where(np.abs(paths[s.optimizer]) < 1e6, paths[s.optimizer], np.nan)  # what ran away leaves a gap
    series = [
        curves.line(*rings, name="equal loss", color=GREY, width=0.8, alpha=0.7),
        curves.line(*path.T, name=f"path of {s.optimizer}", color=BLUE, width=1.4, dots=1.6),
        curves.line([0], [0], name="minimum", color=GREEN, dots=5),
    ]
    return {
        "title": "The valley, from above (second weight upwards)",
        "label": f"Contours of the loss and the path of {s.optimizer}: from the left end of the valley to its middle",
        "xlabel": "first weight",
        "xlim": [-WIDE, WIDE],
        "ylim": [-HIGH, HIGH] if s.angle < 10 else [-WIDE, WIDE],
        "series": series,
        "wide": True,
    }


def _losses(curves: Curves, s: Settings, losses: dict) -> dict:
    first, chosen = losses["SGD"][0], losses[s.optimizer]
    series = [curves.line(range(STEPS + 1), _height(chosen, first), name=s.optimizer, color=BLUE)]
    if s.optimizer != "SGD":
        plain = _height(losses["SGD"], first)
        series.append(curves.line(range(STEPS + 1), plain, name="SGD, same rate", color=ORANGE, dash="dashed"))
    return {
        "title": "Loss against step",
        "label": f"Loss of {s.optimizer} over {STEPS} steps, from {first:.2g} to {chosen[-1]:.1e}",
        "xlabel": "step",
        "xlim": [0, STEPS],
        "ylim": [0.3 * FLOOR * first, 1e2 * first],
        "log": True,
        "series": series,
    }


def _sweep(curves: Curves, s: Settings, sweep: np.ndarray, losses: dict, edge: float | None) -> dict:
    first, exponents, best = losses["SGD"][0], np.log10(RATES), RATES[np.nan_to_num(sweep, nan=np.inf).argmin()]
    marks = [{"x": math.log10(s.lr), "text": f"your rate {s.lr:.2g}", "color": BLUE, "width": 2}]
    if edge is not None:
        name = {"SGD": "edge 2/λ", "Momentum": "edge 2(1+β)/λ", "Nesterov": "edge 2(1+β)/(1+2β)λ"}[s.optimizer]
        marks.append(
            {"x": math.log10(edge), "text": f"{name} = {edge:.2g}", "row": 1, "color": ORANGE, "dash": "dashed"}
        )
    return {
        "title": f"Loss after {STEPS} steps at every rate: drag",
        "label": f"Final loss of {s.optimizer} over the learning rate, lowest at {best:.2g}",
        "xlabel": "learning rate (log)",
        "xlog": True,
        "xlim": [-4, 1],
        "ylim": [0.3 * FLOOR * first, 1e3 * first],  # room for the texts of the marks
        "log": True,
        "series": [curves.line(exponents, _height(sweep, first), name=s.optimizer, color=BLUE)],
        "marks": marks,
        "touch": "drag",
    }


def _table(losses: dict) -> list[list[str]]:
    """All optimizers at this rate: when the loss fell under ``GOAL`` of the first for good."""
    rows = [["At this rate", f"Steps to {GOAL:g} of the loss"]]
    for name, values in losses.items():
        above = np.flatnonzero(~(values <= GOAL * values[0]))  # a loss that is no number has not arrived
        rows.append([name, f"more than {STEPS}" if above[-1] == STEPS else str(above[-1] + 1)])
    return rows

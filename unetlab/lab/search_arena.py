"""The search arena of ``05c_experiments``: ten trials by hand against ten at random and ten of a grid.

``nearest``, ``best_so_far`` and ``lead`` are the logic, plain functions; ``SearchArena`` binds them to the instrument.
Nothing is trained: a trial is the recorded one that lies nearest (``notebooks/records/search.json``: 25 pairs of a grid
and 25 random ones). A search sees the first seed; the other seeds are the second look at its winner.
"""

import numpy as np

from unetlab.lab.instrument import Curves, Instrument
from unetlab.lab.records import load_record, provenance

TRIALS = 10  # of a search
ORDERS = 500  # over which the rivals' leads are averaged
KNOBS = {"lr": "Learning rate", "weight_decay": "Weight decay"}
RANGE = [1e-4, 1.0]  # of both knobs
STEPS = [(0.0, "below 0.4", "#CC79A7", 3), (0.4, "from 0.4", "#E69F00", 4)]  # from a Dice on: name, colour, radius
STEPS += [(0.6, "from 0.6", "#56B4E9", 5), (0.7, "from 0.7", "#009E73", 6.5)]
RIVALS = {"random": ("#D55E00", "dashed"), "grid": ("#7F7F7F", "dashdot")}
YOU = ("#0072B2", "solid")

CONTROLS = [
    {"id": name, "kind": "range", "label": label, "min": RANGE[0], "max": RANGE[1], "step": 0.05, "log": True}
    for name, label in KNOBS.items()
]
CONTROLS += [
    {"id": "try", "kind": "button", "label": "Try", "style": "primary", "hint": "Spend a trial on this pair"},
    {"id": "again", "kind": "button", "label": "Start afresh"},
    {"id": "guess", "kind": "range", "label": "Your best will be", "min": 0, "max": 1, "step": 0.01, "row": 1},
    {"id": "luck", "kind": "range", "label": "Rivals' order", "min": 0, "max": 20, "step": 1, "row": 1},
]


def trials_of(record: dict) -> dict[str, np.ndarray]:
    """The recorded pairs as columns: ``kind``, ``lr``, ``weight_decay``, ``searched`` (validation Dice on the first seed),
    ``again`` (its mean on the others)."""
    found: dict[tuple, dict[int, dict]] = {}
    for run in record["runs"]:
        found.setdefault((run["kind"], run["trial"]), {})[run["seed"]] = run
    first, *others = record["seeds"]
    pairs = [(kind, runs) for (kind, _), runs in found.items()]
    columns = {name: np.array([runs[first][name] for _, runs in pairs]) for name in KNOBS}
    columns["kind"] = np.array([kind for kind, _ in pairs])
    columns["searched"] = np.array([runs[first]["val_dice"] for _, runs in pairs])
    columns["again"] = np.array([np.mean([runs[seed]["val_dice"] for seed in others]) for _, runs in pairs])
    return columns


def nearest(trials: dict[str, np.ndarray], lr: float, weight_decay: float, used: list[int]) -> int:
    """The recorded trial nearest to a pair, in the logarithms of both, among those that are not used."""
    apart = np.hypot(np.log(trials["lr"] / lr), np.log(trials["weight_decay"] / weight_decay))
    apart[used] = np.inf
    return int(apart.argmin())


def best_so_far(values: np.ndarray) -> np.ndarray:
    """The highest value up to each trial; along the last axis."""
    return np.maximum.accumulate(values, axis=-1)


def lead(trials: dict[str, np.ndarray], chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The winner's lead over the second best: in the search, and of the same two pairs on the other seeds.

    ``chosen``: indices of the trials of a search along the last axis; of many searches along those before it.
    """
    order = np.argsort(-trials["searched"][chosen], axis=-1)[..., :2]
    ranked = np.take_along_axis(chosen, order, axis=-1)
    both = (trials[name][ranked] for name in ("searched", "again"))
    return tuple(values[..., 0] - values[..., 1] for values in both)


class SearchArena:
    """Spend ten trials, by the sliders or on the map; show it as the last line of a cell.

    Args:
        record: the recorded runs, ``load_record("search")`` if None.

    Attributes:
        chosen: indices of the trials spent so far. ``trials``: the recorded ones, from ``trials_of``.
        rivals: the ten indices of "random" and of "grid", drawn from their 25 without repetition.
    """

    def __init__(self, record: dict | None = None):
        self._record = load_record("search") if record is None else record
        self.trials = trials_of(self._record)
        self.chosen: list[int] = []
        self._values = {"lr": 1e-2, "weight_decay": 1e-2, "guess": 0.5, "luck": 0}
        self._mean_leads = {kind: np.mean(lead(self.trials, self._orders(kind, ORDERS)), axis=1) for kind in RIVALS}
        self._instrument = Instrument("Search arena", CONTROLS, self._touch)
        self._refresh()

    def _repr_mimebundle_(self, **options):
        return self._instrument._repr_mimebundle_(**options)

    def _orders(self, kind: str, orders: int, seed: int = 0) -> np.ndarray:
        """Ten indices of a kind's trials in random order, so many times: (orders, 10)."""
        pool = np.flatnonzero(self.trials["kind"] == kind)
        return np.random.default_rng(seed).permuted(np.tile(pool, (orders, 1)), axis=1)[:, :TRIALS]

    @property
    def rivals(self) -> dict[str, np.ndarray]:
        return {kind: self._orders(kind, 1, seed=self._values["luck"])[0] for kind in RIVALS}

    def _touch(self, name: str, value) -> None:
        if name == "again":
            self.chosen = []
        elif name == "map":
            x, y, down = value
            if down:
                self._values |= {"lr": 10.0**x, "weight_decay": y}
                self._try()
        elif name == "try":
            self._try()
        else:
            self._values[name] = int(value) if name == "luck" else value
        self._refresh()

    def _try(self) -> None:
        if len(self.chosen) < TRIALS:
            found = nearest(self.trials, self._values["lr"], self._values["weight_decay"], self.chosen)
            self._values |= {name: float(self.trials[name][found]) for name in KNOBS}
            self.chosen.append(found)

    def describe(self) -> str:
        """What the last trial gave, and how the search stands, in words."""
        if not self.chosen:
            return f"{TRIALS} trials: set both knobs and press Try, or point at the map. Guess your best Dice first."
        last, searched = self.chosen[-1], self.trials["searched"]
        pair = f"rate {self.trials['lr'][last]:.2g}, decay {self.trials['weight_decay'][last]:.2g}"
        spent = len(self.chosen)
        told = (
            f"Trial {spent} of {TRIALS}, {pair}: Dice {searched[last]:.3f}; your best {searched[self.chosen].max():.3f}"
        )
        rivals = ", ".join(f"{kind} {searched[order[:spent]].max():.3f}" for kind, order in self.rivals.items())
        return f"{told}; after as many: {rivals}."

    def _refresh(self) -> None:
        instrument, curves = self._instrument, Curves()
        with instrument.hold_sync():
            instrument.values = dict(self._values)
            instrument.enabled = {"try": len(self.chosen) < TRIALS, "again": bool(self.chosen)}
            instrument.show_curves([self._map(curves), self._race(curves)], curves)
            instrument.table = self._table()
            instrument.status = {"text": self.describe(), "progress": len(self.chosen) / TRIALS, "problem": None}
            note = "Your trial is the nearest recorded one (small dots); six epochs each, Dice on the first seed."
            instrument.caption = [[f"{provenance(self._record)}. {note}", None]]

    def _map(self, curves: Curves) -> dict:
        """The square of both knobs: what was not tried as small dots, what was by its Dice."""
        x, y = np.log10(self.trials["lr"]), self.trials["weight_decay"]
        left = np.setdiff1d(np.arange(len(x)), self.chosen)
        # A dot is a series of its own, as a series would join its dots by a line.
        series = [curves.line([x[i]], [y[i]], color="#9A9A9A", dots=1.5) for i in left]
        named = set()
        for i in self.chosen:
            _, name, color, radius = next(step for step in reversed(STEPS) if self.trials["searched"][i] >= step[0])
            legend = {} if name in named else {"name": f"Dice {name}"}
            named.add(name)
            series.append(curves.line([x[i]], [y[i]], color=color, dots=radius, **legend))
        told = "; ".join(f"{10 ** x[i]:.2g}, {y[i]:.2g}: {self.trials['searched'][i]:.2f}" for i in self.chosen)
        return {
            "title": "Your trials",
            "label": f"Map of learning rate and weight decay. Tried: {told or 'nothing yet'}.",
            "xlabel": "learning rate (log)",
            "ylabel": "weight decay (log)",
            "xlog": True,
            "log": True,
            "xlim": [np.log10(RANGE[0]) - 0.15, np.log10(RANGE[1]) + 0.15],
            "ylim": [RANGE[0] * 0.7, RANGE[1] * 1.4],
            "series": series,
            "marks": [{"x": float(np.log10(self._values["lr"]))}, {"y": self._values["weight_decay"]}],
            "touch": "map",
        }

    def _race(self, curves: Curves) -> dict:
        searches = {"you": (np.array(self.chosen, int), *YOU)}
        searches |= {kind: (order, *RIVALS[kind]) for kind, order in self.rivals.items()}
        series = []
        for name, (order, color, dash) in searches.items():
            best = best_so_far(self.trials["searched"][order])
            shown = best if len(self.chosen) == TRIALS else best[: len(self.chosen)]
            x = range(1, len(shown) + 1)
            series.append(curves.line(x, shown, name=name, color=color, dash=dash, steps=True, width=2.5))
        return {
            "title": "Best Dice so far",
            "label": f"Best validation Dice so far over the trials. {self.describe()}",
            "xlabel": "trials",
            "xlim": [0.5, TRIALS + 0.5],
            "ylim": [0, 1],
            "series": series,
            "marks": [{"y": self._values["guess"], "text": "your guess", "dash": "dotted"}],
        }

    def _table(self) -> list[list[str]]:
        """The second look, once all trials are spent: is the winner still ahead of the second on other seeds?"""
        if len(self.chosen) < TRIALS:
            return []
        head = ["", "Winner", "Its lead over the second", "the same on other seeds"]
        searches = {"you": np.array(self.chosen)} | self.rivals
        rows = []
        for name, order in searches.items():
            winner = self.trials["searched"][order].max()
            rows.append([name, f"{winner:.3f}", *(f"{value:+.3f}" for value in lead(self.trials, order))])
        mean = [
            [f"{kind}, mean of {ORDERS} orders", "", *(f"{value:+.3f}" for value in leads)]
            for kind, leads in self._mean_leads.items()
        ]
        return [head, *rows, *mean]

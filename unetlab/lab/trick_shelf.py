"""The trick shelf of ``05a_tricks``: say what a trick will do, and only then see its row, its interval and its price.

``measure`` is the logic, a plain function over the recorded runs (``notebooks/records/tricks.json``); ``TrickShelf`` binds
it to widgets. With fewer seeds the intervals grow, and the words change: that is what the slider is for.
"""

from dataclasses import dataclass
from html import escape

import ipywidgets as widgets
import numpy as np
from scipy import stats

from unetlab.exercises.tricks import WORDS
from unetlab.lab.records import load_record, provenance

BASELINE = "baseline"
COLOURS = {"helps": "#009E73", "hurts": "#D55E00", "no conclusion": "#808080"}
SIGNS = {"helps": "▶", "hurts": "◀", "no conclusion": "◆"}
WIDTH, HEIGHT, REACH = 240, 22, 0.06  # pixels of a row; the gain in Dice at its ends


@dataclass(frozen=True)
class Row:
    """A trick against the baseline. ``gains``: in Dice, one a seed; ``half``: of the 95 % interval around their mean;
    ``training``, ``prediction``: processor time as a multiple of the baseline's."""

    gains: np.ndarray
    half: float
    training: float
    prediction: float

    @property
    def word(self) -> str:
        """What the interval allows one to say, one of ``WORDS``."""
        mean = self.gains.mean()
        return "helps" if mean > self.half else "hurts" if mean < -self.half else "no conclusion"


def measure(record: dict, trick: str, seeds: int) -> Row:
    """Compare the runs of a trick with those of the baseline, in pairs of the same seed; the first ``seeds`` of a record."""

    def column(name: str, what: str) -> np.ndarray:
        runs = {run["seed"]: run[what] for run in record["runs"] if run["trick"] == name}
        return np.array([runs[seed] for seed in record["seeds"][:seeds]])

    gains = column(trick, "test_dice") - column(BASELINE, "test_dice")
    half = stats.t.ppf(0.975, seeds - 1) * gains.std(ddof=1) / seeds**0.5
    times = [(column(trick, w) / column(BASELINE, w)).mean() for w in ("train_seconds", "predict_seconds")]
    return Row(gains, float(half), *map(float, times))


class TrickShelf:
    """Choose a trick, predict, and its row appears; show it as the last line of a cell.

    Args:
        record: the recorded runs, ``load_record("tricks")`` if None.

    Attributes:
        tricks: their names, in order. predictions: one of ``WORDS`` by trick; the first word counts.
        seeds: how many are looked at.
    """

    def __init__(self, record: dict | None = None):
        self._record = load_record("tricks") if record is None else record
        self.tricks = [name for name in dict.fromkeys(run["trick"] for run in self._record["runs"]) if name != BASELINE]
        self.predictions: dict[str, str] = {}
        most = len(self._record["seeds"])
        names = [(f"{number}  {name}", name) for number, name in enumerate(self.tricks, 1)]
        wide = {"description_width": "4em"}
        self._choice = widgets.Dropdown(description="Trick", options=names, layout={"width": "34em"}, style=wide)
        self._words = {word: widgets.Button(description=f"{SIGNS[word]} {word.capitalize()}") for word in WORDS}
        self._seeds = widgets.IntSlider(min(most, 5), 2, most, description="Seeds", style=wide)
        self._told, self._rows = widgets.HTML(), widgets.HTML()
        for word, button in self._words.items():
            button.on_click(lambda _, word=word: self._predict(word))
        self._choice.observe(lambda _: self._refresh(), "value")
        self._seeds.observe(lambda _: self._refresh(), "value")
        buttons = widgets.HBox(list(self._words.values()), layout={"flex_flow": "row wrap"})
        parts = [self._choice, buttons, self._seeds, self._told, self._rows]
        self._widget = widgets.VBox(parts, layout={"padding": "8px 0"})
        self._refresh()

    @property
    def seeds(self) -> int:
        return self._seeds.value

    def _predict(self, word: str) -> None:
        self.predictions.setdefault(self._choice.value, word)
        self._refresh()

    def _refresh(self) -> None:
        trick = self._choice.value
        for button in self._words.values():
            button.disabled = trick in self.predictions
        rows = {name: measure(self._record, name, self.seeds) for name in self.tricks if name in self.predictions}
        self._told.value = f'<p role="status" style="line-height: 1.5; margin: 4px 0">{escape(self.describe(rows))}</p>'
        numbers = {name: self.tricks.index(name) + 1 for name in rows}
        table = rows_html(rows, numbers, self.predictions, trick) if rows else ""
        self._rows.value = table + (
            f'<p style="font-size: 12px; max-width: 60em; line-height: 1.4">{escape(provenance(self._record))}. Time: '
            "processor time against the baseline's on a busy machine, differences under a half are no finding.</p>"
        )

    def describe(self, rows: dict[str, Row]) -> str:
        """The row of the chosen trick in words, how many were predicted rightly, and the bill of those that help."""
        trick = self._choice.value
        if trick not in rows:
            return "What will it do, alone, on new scanners? Say it first; the row comes then."
        row = rows[trick]
        said = self.predictions[trick]
        agreed = sum(self.predictions[name] == row.word for name, row in rows.items())
        helping = [row for row in rows.values() if row.word == "helps"]
        bill = [1 + sum(getattr(row, what) - 1 for row in helping) for what in ("training", "prediction")]
        return (
            f"You said “{said}”; with {self.seeds} seeds it is “{row.word}”. {agreed} of {len(rows)} predicted rightly. "
            f"Bill of the {len(helping)} that help, if their extra times add up: training × {bill[0]:.1f}, "
            f"prediction × {bill[1]:.1f}."
        )

    def _repr_mimebundle_(self, **options) -> dict:
        text = f"Trick shelf: {len(self.tricks)} tricks, {len(self.predictions)} predicted; run this cell to use it"
        return self._widget._repr_mimebundle_(**options) | {"text/plain": text}


def rows_html(rows: dict[str, Row], numbers: dict[str, int], predictions: dict[str, str], chosen: str) -> str:
    """The forest: a table with a drawing in each row, whose numbers stand beside it."""
    head = ("", "you said", f"gain in test Dice, from -{REACH} to +{REACH}", "mean", "95 % interval", "training", "use")
    cells = [f"<tr>{''.join(f'<th scope=col style={_CELL!r}>{text}</th>' for text in head)}</tr>"]
    for name, row in sorted(rows.items(), key=lambda item: numbers[item[0]]):
        mean = row.gains.mean()
        said = predictions[name]
        texts = (
            f"{SIGNS[said]} {said} {'✓' if said == row.word else '✗'}",
            drawing(row, f"{name}: {row.word}"),
            _signed(mean),
            f"{_signed(mean - row.half)} to {_signed(mean + row.half)}",
            f"× {row.training:.1f}",
            f"× {row.prediction:.1f}",
        )
        weight = "bold" if name == chosen else "normal"
        title = f'<th scope="row" style="{_CELL}; font-weight: {weight}">{numbers[name]}&ensp;{escape(name)}</th>'
        numbered = "".join(f'<td style="{_CELL}; white-space: nowrap">{text}</td>' for text in texts)
        cells.append(f"<tr>{title}{numbered}</tr>")
    return f'<div style="overflow-x: auto"><table style="border-collapse: collapse">{"".join(cells)}</table></div>'


_CELL = "text-align: left; padding: 1px 12px 1px 0; line-height: 1.4; font-variant-numeric: tabular-nums"


def _signed(gain: float) -> str:
    """Three digits, and no negative zero."""
    return f"{round(gain, 3) + 0.0:+.3f}"


def drawing(row: Row, label: str) -> str:
    """An interval, its seeds as dots, the mean as a stroke, and zero, as SVG. What lies outside stands at the edge."""

    def x(gain: float) -> float:
        return (np.clip(gain, -REACH, REACH) / REACH + 1) / 2 * (WIDTH - 8) + 4

    mean, colour, y = row.gains.mean(), COLOURS[row.word], HEIGHT / 2
    dots = "".join(f'<circle cx="{x(gain):.1f}" cy="{y}" r="3" fill="{colour}" opacity="0.7"/>' for gain in row.gains)
    lines = [(0, 0, 0, HEIGHT, "currentColor", 1), (mean - row.half, y, mean + row.half, y, colour, 2.5)]
    lines.append((mean, y - 7, mean, y + 7, "currentColor", 2))
    drawn = "".join(
        f'<line x1="{x(a):.1f}" y1="{b}" x2="{x(c):.1f}" y2="{d}" stroke="{ink}" stroke-width="{width}"/>'
        for a, b, c, d, ink, width in lines
    )
    return f'<svg role="img" aria-label="{escape(label)}" width="{WIDTH}" height="{HEIGHT}">{drawn}{dots}</svg>'

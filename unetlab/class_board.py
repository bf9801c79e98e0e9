"""The leaderboard of a class, to be read from the last row: a picture, a page around it, and a table for the terminal."""

import base64
import math
import unicodedata
import warnings
from html import escape

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from unetlab.classroom import Board, Row, one_line
from unetlab.plots import STYLE, to_png

_WIDTH, _HEIGHT = 16, 9  # inches; at 144 pixels an inch sharp on any projector
_FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Microsoft YaHei",
    "PingFang SC",
    "WenQuanYi Zen Hei",
)  # names in any script
_LARGE = {
    "font.size": 17,
    "axes.titlesize": 20,
    "axes.labelsize": 17,
    "legend.fontsize": 15,
    "axes.prop_cycle": matplotlib.cycler(color=["#0072B2", "#D55E00", "#009E73"]),
}
_SCHEDULE, _FAINT = "#6E6E6E", "#B9B9B9"
_COLOURED = 3  # hands with a colour of their own

# -------------------------------------------------------------------------------------------------------- in words


def headline(board: Board) -> str:
    """Who leads, or that nobody does."""
    first, tied = board.finalists[0], board.tied
    if len(tied) == 1:
        return f"{first.label} leads: every one of its runs is better than every run of all others."
    names = ", ".join(row.label for row in tied[:4]) + (f" and {len(tied) - 4} more" if len(tied) > 4 else "")
    return f"Nobody leads. {len(tied)} cannot be told apart on {len(board.seeds)} seeds: {names}."


def against_schedules(board: Board) -> str:
    """How the hands of the final stand to the best schedule."""
    best = next((row for row in board.finalists if not row.is_hand), None)
    if best is None:
        return "No schedule could be run."
    hands = [row for row in board.finalists if row.is_hand]
    above, below = sum(row.leads(best) for row in hands), sum(best.leads(row) for row in hands)
    return (
        f"Best {best.label} (rates up to {board.lr:g}, as the hands'), {best.mean:.3f}. Of {len(hands)} hands in the final "
        f"{above} beat it, {below} lie below it; {len(hands) - above - below} cannot be told from it."
    )


def game_in_words(board: Board) -> str:
    """What was played, in a line."""
    game = board.game
    (pictures, _, height, width), settings = game["fingerprint"][0][0], game["trainer"]
    schedule = settings["scheduler"] if isinstance(settings["scheduler"], str) else settings["scheduler"]["name"]
    return (
        f"{game['data']['name']}, {pictures} pictures of {height}x{width}; U-Net of base {game['model']['base_channels']}, "
        f"depth {game['model']['depth']}; {game['epochs']} epochs, batch {settings['batch_size']}, "
        f"{schedule.replace('_', '-')} from {settings['lr']:g}"
    )


def _standing(row: Row, board: Board) -> str:
    if row is board.finalists[0]:
        return "leads" if len(board.tied) == 1 else "no lead"
    return "tied with the first" if row in board.tied else "behind"


def to_text(board: Board) -> str:
    """The whole result for the terminal, with the files."""
    lines = [f"Game: {game_in_words(board)}", _counts(board), ""]
    width = max(_columns(row.label) for row in board.finalists + board.others)
    seeds = ", ".join(map(str, board.seeds))
    lines.append(f"The final, best validation Dice on seeds {seeds}:")
    lines.append(f"{'':4}{'':{width}}   mean  lowest - highest  own seed  standing             replay")
    for place, row in enumerate(board.finalists, 1):
        own = f"{row.curve.score:.3f}" if row.is_hand else "-"
        spread = f"{min(row.finals):.3f} - {max(row.finals):.3f}"
        note = f"{row.note}  {one_line(row.file)}" if row.is_hand else ""
        label, standing = _padded(row.label, width), _standing(row, board)
        lines.append(f"{place:3} {label}  {row.mean:.3f}  {spread:16}  {own:8}  {standing:19}  {note}")
    if board.others:
        lines += ["", "Not in the final, own seed only:"]
        lines += [
            f"    {_padded(row.label, width)}  {row.curve.score:.3f}  {row.note}  {one_line(row.file)}"
            for row in board.others
        ]
    lines += ["", headline(board), against_schedules(board)]
    return "\n".join(line.rstrip() for line in lines)


def _columns(text: str) -> int:
    """How wide a text is in a terminal, where a Chinese letter takes two columns."""
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _columns(text))


def _counts(board: Board) -> str:
    refused = f"; {len(board.refused)} files refused" if board.refused else ""
    return f"{board.hands} hands played again with the score that their files say{refused}."


# ------------------------------------------------------------------------------------------------------- as a picture


def picture(board: Board) -> bytes:
    """``draw`` as PNG. Letters that no font here has become boxes; the page shows them, with the fonts of the browser."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = draw(board)
        png = to_png(figure)
    plt.close(figure)
    return png


def draw(board: Board) -> Figure:
    """All hands and schedules over the epochs, their learning rates, and the final with its spread."""
    fonts = [name for name in _FONTS if name in font_manager.get_font_names()]
    # A name is text, not mathematics: "$" in it is a dollar.
    with plt.style.context([STYLE, _LARGE | {"font.family": fonts, "text.parse_math": False}]):
        figure = plt.figure(figsize=(_WIDTH, _HEIGHT))
        left, final = figure.add_gridspec(1, 2, width_ratios=(1, 1))
        dice, rate = (figure.add_subplot(part) for part in left.subgridspec(2, 1, height_ratios=(3, 2)))
        _draw_runs(dice, rate, board)
        _draw_final(figure.add_subplot(final), board)
    return figure


def _colours(board: Board) -> dict[str, str]:
    """The colour of each of the first hands; the others are grey."""
    cycle = _LARGE["axes.prop_cycle"].by_key()["color"]
    return dict(zip([row.label for row in board.finalists if row.is_hand], cycle, strict=False))


def _draw_runs(dice: Axes, rate: Axes, board: Board) -> None:
    colours = _colours(board)
    per_epoch = math.ceil(board.game["fingerprint"][0][0][0] / _batch(board))
    rows = sorted(board.others + board.finalists, key=lambda row: (row.label in colours, row.is_hand))
    named = {"hand": "other hands", "schedule": "schedules"}  # what the legend has still to say
    for row in rows:
        colour = colours.get(row.label, _FAINT if row.is_hand else _SCHEDULE)
        look = {
            "color": colour,
            "linewidth": 3 if row.label in colours else 1.4,
            "linestyle": "-" if row.is_hand else "--",
        }
        label = row.label if row.label in colours else named.pop("hand" if row.is_hand else "schedule", None)
        scores = row.curve.val_dice
        dice.plot(np.arange(1, len(scores) + 1), scores, label=label, **look)
        rate.plot(np.arange(len(row.curve.lr)) / per_epoch, row.curve.lr, drawstyle="steps-post", **look)
    last = board.game["epochs"]
    dice.set(title="Validation Dice, each on its own seed", xlim=(0, last), ylim=(0, 1))
    # The coloured ones are drawn last, and named first, by rank.
    handles = dict(zip(*dice.get_legend_handles_labels()[::-1], strict=True))
    labels = [label for label in colours if label in handles] + [label for label in handles if label not in colours]
    lines = [handles[label] for label in labels]
    dice.legend(lines, labels, loc="lower right", frameon=True, framealpha=0.85, edgecolor="none")
    rate.set(title="Learning rate (log)", xlabel="epoch", xlim=(0, last), yscale="log")
    for axis in (dice, rate):
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    low, high = rate.get_ylim()
    rate.set_ylim(max(low, high / 1e5), high)


def _batch(board: Board) -> int:
    return board.game["trainer"]["batch_size"] * board.game["trainer"]["accumulate"]


def _draw_final(axis: Axes, board: Board) -> None:
    rows, first, colours = board.finalists, board.finalists[0], _colours(board)
    low, high = _window(rows)
    axis.axvspan(min(first.finals), max(first.finals), color="#F0E442", alpha=0.45, linewidth=0)
    for place, row in enumerate(rows):
        colour = colours.get(row.label, "#333333" if row.is_hand else _SCHEDULE)
        style = "-" if row.is_hand else (0, (2, 1.2))
        axis.plot([min(row.finals), max(row.finals)], [place, place], color=colour, linewidth=4, linestyle=style)
        axis.plot(row.finals, [place] * len(row.finals), "o", color=colour, markersize=11, alpha=0.8)
        axis.plot([row.mean], [place], "|", color="black", markersize=26, markeredgewidth=3)
        if min(row.finals) < low:  # a run that failed, far to the left of all others
            axis.annotate(f"◀ {min(row.finals):.2f}", (low, place), (4, 12), textcoords="offset points", color=colour)
    axis.set_yticks(range(len(rows)), [_tick(row, board) for row in rows])
    for tick, row in zip(axis.get_yticklabels(), rows, strict=True):
        tick.set(weight="bold" if row in board.tied else "normal", style="normal" if row.is_hand else "italic")
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set(title=f"The final: {len(board.seeds)} seeds nobody played", xlim=(low, high))
    axis.set_xlabel("best validation Dice (stroke: mean; yellow: the first's spread)")
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.grid(axis="y", visible=False)


def _window(rows: list[Row]) -> tuple[float, float]:
    """The stretch of Dice to show: all middle runs, and the others unless they would press these together."""
    lowest, highest = min(min(row.finals) for row in rows), max(max(row.finals) for row in rows)
    middle = min(float(np.median(row.finals)) for row in rows)
    low = max(lowest, middle - max(highest - middle, 0.02))
    margin = 0.05 * max(highest - low, 0.02)
    return low - margin, highest + margin


def _tick(row: Row, board: Board) -> str:
    """The name of a row, and the epochs of a hand that stopped early: it trained less than the schedules did."""
    epochs = len(row.curve.val_dice)
    return _short(row.label) + (f", {epochs} ep." if epochs < board.game["epochs"] else "")


def _short(label: str, length: int = 24) -> str:
    label = label.removeprefix("schedule: ")
    return label if len(label) <= length else label[: length - 1] + "…"


def describe(board: Board) -> str:
    """The alternative text of the picture."""
    table = "; ".join(
        f"{row.label} {row.mean:.3f} ({min(row.finals):.3f} to {max(row.finals):.3f})" for row in board.finalists
    )
    return f"Curves of {board.hands} hands and of the schedules. The final, mean (lowest to highest): {table}."


# ---------------------------------------------------------------------------------------------------------- as a page

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>The class</title>
<style>
body {{ font: 28px/1.35 system-ui, sans-serif; margin: 1rem 2rem; color: #111; background: #fff; }}
h1 {{ font-size: 44px; margin: 0 0 0.3rem; }}
img {{ width: 100%; }}
table {{ border-collapse: collapse; margin: 1rem 0; }}
th, td {{ text-align: left; padding: 0.15rem 1.2rem 0.15rem 0; border-bottom: 1px solid #ccc; }}
.first {{ background: #fbf6b8; font-weight: bold; }}
.schedule {{ font-style: italic; color: #555; }}
</style>
</head>
<body>
<h1>{headline}</h1>
<p>{schedules}</p>
<img src="data:image/png;base64,{picture}" alt="{alt}">
<p>A lead counts if the lowest run of the one lies above the highest run of the other. Yellow: the spread of the first.
Epochs behind a name: this hand stopped early, and trained less than the schedules did.</p>
<table>
<tr><th></th><th>hand</th><th>mean</th><th>lowest to highest</th><th>own seed</th><th>standing</th><th>replay</th></tr>
{rows}
</table>
<p>{counts}<br>{game}</p>
</body>
</html>
"""


def to_html(board: Board, png: bytes) -> str:
    """A page around the picture that needs no other file and runs no script. It names no files: those may name people."""
    lines = []
    for place, row in enumerate(board.finalists + board.others, 1):
        final = bool(row.finals)
        cells = [
            str(place) if final else "",
            row.label,
            f"{row.mean:.3f}" if final else "",
            f"{min(row.finals):.3f} to {max(row.finals):.3f}" if final else "",
            f"{row.curve.score:.3f}" if row.is_hand else "",
            _standing(row, board) if final else "not in the final",
            row.note,
        ]
        kinds = ["first"] * (final and row in board.tied) + ["schedule"] * (not row.is_hand)
        lines.append(
            f'<tr class="{" ".join(kinds)}">' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        )
    picture = base64.b64encode(png).decode()
    words = {"headline": headline(board), "schedules": against_schedules(board), "alt": describe(board)}
    words |= {"counts": _counts(board), "game": game_in_words(board)}
    return _PAGE.format(picture=picture, rows="\n".join(lines), **{name: escape(text) for name, text in words.items()})

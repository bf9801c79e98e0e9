"""What a learner with a sick run has before their eyes: its curves, its predictions, the numbers it printed, its error."""

import copy
import textwrap

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from unetlab.exercises.clinic.case import Case
from unetlab.exercises.clinic.run import Run
from unetlab.plots import FALSE_ALARM, MISS, STYLE, class_colours, error_map, painted

LABELS = {  # the list in the script: (what it is, what its axis counts)
    "losses": ("training loss", "optimizer step"),
    "val_loss": ("validation loss", "evaluation"),
    "val_dice": ("validation Dice", "evaluation"),
}
PICTURES = 4


def curves(case: Case, run: Run) -> dict[str, list[float]]:
    """The lists that the learner plotted, by their name in the script; a script that broke may have none."""
    return {name: run.memory[name] for name in case.shows if run.memory.get(name)}


def printed(run: Run) -> list[str]:
    """What the script printed at its end, a line each, or the error."""
    lines = [f"{name}: {_number(value)}" for name, value in run.memory.get("report", {}).items()]
    return lines + ([run.error] if run.error else [])


def picture(case: Case, run: Run) -> np.ndarray | None:
    """Some images side by side, uint8 (H, W, 3): misses orange, false alarms magenta; None for a patient without.

    Masks of several classes have no prediction: their colours are shown (class 1 light blue, class 2 yellow).
    """
    if not case.picture:
        return None
    masks = run["masks"][:PICTURES, 0]
    if not _has_predictions(run):
        tiles = [painted(mask.long().numpy(), 3, None) for mask in masks]
    else:
        truth = (masks > 0).long()
        tiles = [error_map(*three) for three in zip(run["images"], truth, _found(run), strict=False)]
    gap = np.ones((tiles[0].shape[0], 2, 3))
    parts = [part for tile in tiles for part in (tile, gap)][:-1]
    return (255 * np.concatenate(parts, axis=1)).astype(np.uint8)


def _has_predictions(run: Run) -> bool:
    return bool({"found", "net"} & run.memory.keys())


def legend(run: Run) -> list[tuple[str, str]]:
    """What the colours of the picture mean: (text, colour)."""
    if _has_predictions(run):
        return [("miss", MISS), ("false alarm", FALSE_ALARM)]
    return list(zip(("class 1", "class 2"), class_colours(3)[1:], strict=True))


def _found(run: Run) -> torch.Tensor:
    """What was found, as class ids; a copy of the network is asked, since BatchNorm remembers every pass."""
    if "found" in run.memory:
        return run["found"][:, 0].long()
    with torch.no_grad():
        return (copy.deepcopy(run["net"])(run["images"])[:, 0] > 0).long()


def draw(case: Case, run: Run, cured: Run | None = None) -> Figure:
    """All of it in one figure; the cured run beside the sick one, if there is one."""
    names, pictured = list(curves(case, run) or curves(case, cured or run)), case.picture
    rows = [("as it was", run)] + ([("cured", cured)] if cured else [])
    with plt.style.context(STYLE):
        written = any(printed(one) for _, one in rows)
        columns = len(names) + pictured + written
        figure, axes = plt.subplots(1, columns, figsize=(max(3.2 * columns, 5), 2.6 if names or pictured else 1.2))
        axes = list(np.atleast_1d(axes))
        for name in names:
            axis, (label, counted) = axes.pop(0), LABELS[name]
            for (what, one), dash in zip(rows, ("-", "--"), strict=False):
                values = curves(case, one).get(name, [])
                axis.plot(range(1, len(values) + 1), values, dash, label=what if cured else None)
            axis.set(title=label[0].upper() + label[1:], xlabel=counted, ylabel=label)
            if cured:
                axis.legend()
        if pictured:
            _draw_pictures(axes.pop(0), case, rows)
        if written:
            _write(axes[0], rows)
    return figure


def _draw_pictures(axis, case: Case, rows: list[tuple[str, Run]]) -> None:
    strips = [picture(case, run) for _, run in rows]
    axis.imshow(np.concatenate([part for strip in strips for part in (strip, np.full_like(strip[:2], 255))])[:-2])
    axis.set_title("Images and errors" if _has_predictions(rows[0][1]) else "Masks")
    marks = [Patch(color=colour, label=text, linestyle="-") for text, colour in legend(rows[0][1])]
    axis.legend(handles=marks, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, fontsize="small")
    axis.axis("off")


def _write(axis, rows: list[tuple[str, Run]]) -> None:
    lines = []
    for what, run in rows:
        lines += [f"{what}:"] * (len(rows) > 1) + [part for line in printed(run) for part in textwrap.wrap(line, 40)]
    axis.text(0, 1, "\n".join(lines), va="top", family="monospace", fontsize=8, transform=axis.transAxes)
    axis.axis("off")


def _number(value) -> str:
    return f"{value}" if isinstance(value, int) else f"{value:.4g}"

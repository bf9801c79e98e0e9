"""Every static figure of the course, in one style: histories, images with their masks, predictions worst first.

Functions return a matplotlib ``Figure``; ``show`` puts it on the page with its alternative text. Colours are those of
Okabe and Ito (2008), which colour-blind readers can tell apart; line styles differ too, for print in grey.
"""

import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from unetlab.history import History

STYLE = Path(__file__).with_name("unetlab.mplstyle")
TRUTH, MISS, FALSE_ALARM, IGNORED = "#009E73", "#E69F00", "#CC3FA0", "#9A9A9A"
_CLASSES = ("#000000", "#56B4E9", "#F0E442", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#E69F00")
_PIXELS_PER_INCH = 144


def use_style() -> None:
    """Draw every later figure in the style of the course."""
    plt.style.use(STYLE)


def to_png(figure: Figure) -> bytes:
    """A figure as PNG, sharp on screens of high resolution; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with plt.style.context(STYLE):  # ticks are made, and margins cut, while a figure is saved
        figure.savefig(buffer, format="png", dpi=_PIXELS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def show(figure: Figure, alt: str) -> None:
    """Display a figure in a notebook with its alternative text, and close it.

    JupyterLab passes no alternative text on to its images, so the text also stands below the figure, as its caption.

    Args:
        figure: any matplotlib figure.
        alt: what a reader who cannot see the figure must know: not what it is, but what the curves do.

    Raises:
        ValueError: an empty alt text.
    """
    from IPython.display import HTML, Image, display  # only notebooks have IPython

    if not alt.strip():
        raise ValueError("a figure needs an alt text that says what the curve does")
    png = to_png(figure)
    width = int(np.frombuffer(png[16:20], ">u4")[0] * 100 / _PIXELS_PER_INCH)
    display(Image(png, width=width, alt=alt))
    display(HTML(f'<div style="font-size: 90%; opacity: 0.75; max-width: {width}px">{escape(alt)}</div>'))
    plt.close(figure)


def plot_history(histories: History | Mapping[str, History]) -> Figure:
    """Loss, Dice and learning rate over the epochs of one run or of several named ones.

    The best epoch (by validation Dice) has a dot, a dotted vertical line marks each move of the hand.

    Raises:
        ValueError: no run, or one without an epoch.
    """
    runs = histories if isinstance(histories, Mapping) else {"": histories}
    if not runs or not all(len(history) for history in runs.values()):
        raise ValueError("plot_history needs at least one run with at least one epoch")
    with plt.style.context(STYLE):
        figure, (loss, dice, rate) = plt.subplots(1, 3, figsize=(10, 3), sharex=True)
        colours = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
        for i, (name, history) in enumerate(runs.items()):
            colour = colours[i % len(colours)]
            train_colour = colours[1] if len(runs) == 1 else colour
            epochs, scores = history.column("epoch"), history.column("val_dice")
            best = int(np.nanargmax(scores)) if np.isfinite(scores).any() else 0
            look = {"linestyle": "-", "color": colour, "marker": "o" if len(history) == 1 else None}
            loss.plot(
                epochs,
                history.column("train_loss"),
                **look | {"linestyle": "--", "color": train_colour},
                label=f"{name} training".strip(),
            )
            loss.plot(epochs, history.column("val_loss"), **look, label=f"{name} validation".strip())
            dice.plot(epochs, scores, **look, label=f"{name}, best {scores[best]:.3f}")
            dice.plot(epochs[best], scores[best], "o", color=colour)
            if len(runs) == 1:  # several would lie on each other; theirs stand in the legend
                point, above = (epochs[best], scores[best]), (0, 6)
                dice.annotate(f"{scores[best]:.3f}", point, above, textcoords="offset points", ha="center")
            per_epoch = sum(row["epoch"] == 1 for row in history.steps)
            edges = np.arange(len(history.steps) + 1) / per_epoch
            rate.stairs([row["lr"] for row in history.steps], edges, baseline=None, color=colour, linewidth=1.8)
            faint = max(0.15, min(1.0, 8 / max(len(history.moves), 1)))  # a drag of the slider leaves many
            for k, move in enumerate(history.moves):
                for axis in (loss, dice, rate):
                    line = axis.axvline(move.step / per_epoch, color=colour, linestyle=":", linewidth=1, alpha=faint)
                if k == 0:
                    line.set_label(f"move {name}".strip())
        loss.set(title="Loss", xlabel="epoch", ylabel="loss")
        if is_wide(x for history in runs.values() for name in ("train_loss", "val_loss") for x in history.column(name)):
            loss.set(yscale="log", ylabel="loss (log scale)")
        over = {history.environment.get("reduction") for history in runs.values()}
        label = "Dice, mean over " + ("classes" if over == {"pooled"} else "images")
        dice.set(title="Validation Dice", xlabel="epoch", ylabel=label, ylim=(0, 1.1))
        dice.set_yticks(np.linspace(0, 1, 6))
        rate.set(title="Learning rate", xlabel="epoch", ylabel="rate (log scale)", yscale="log", xlim=(0, None))
        # The last steps of some schedules are all but 0: four decades show what matters.
        low, high = rate.get_ylim()
        low = max(low / 2, high / 1e4)
        rate.set_ylim(low, high * 2)
        rate.yaxis.set(major_locator=LogLocator(subs=(1,) if high > 30 * low else (1, 3)), minor_locator=NullLocator())
        rate.yaxis.set_major_formatter(_power_of_ten)
        loss.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        loss.legend()
        if len(runs) > 1:
            dice.legend(loc="lower right")
        if any(history.moves for history in runs.values()):
            rate.legend(loc="lower left")
    return figure


def is_wide(values) -> bool:
    """Whether losses need a logarithmic axis: all above 0, and the largest more than a hundred times the smallest."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and max(finite) > 100 * min(finite) > 0


def _power_of_ten(value: float, position: int) -> str:
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def describe_history(history: History) -> str:
    """What the curves of one run do, in a sentence: the alt text of ``plot_history``."""
    train, scores = history.column("train_loss"), history.column("val_dice")
    best = int(np.nanargmax(scores)) if np.isfinite(scores).any() else 0
    return (
        f"Over {len(history)} epochs the training loss goes from {train[0]:.2f} to {train[-1]:.2f}; the validation Dice "
        f"starts at {scores[0]:.2f}, is highest at epoch {history.epochs[best]['epoch']} with {scores[best]:.2f} and ends "
        f"at {scores[-1]:.2f}."
    )


def plot_images(images, masks=None, titles=None, columns: int = 8) -> Figure:
    """A grid of images, each with the outline of its mask.

    Args:
        images: (N, C, H, W) uint8 or floats in [0, 1], C 1 or 3.
        masks: (N, H, W) class ids or None; every class boundary is outlined.
        titles: N short texts or None.
        columns: images a row.
    """
    images, masks = np.asarray(images), None if masks is None else np.asarray(masks)
    rows = -(-len(images) // columns)
    columns, ratio = min(columns, len(images)), float(np.clip(images.shape[2] / images.shape[3], 0.5, 2))
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(
            rows, columns, figsize=(1.25 * columns, 1.25 * rows * ratio + 0.2 * bool(titles)), squeeze=False
        )
        for axis in axes.flat:
            axis.axis("off")
        for i, axis in enumerate(axes.flat[: len(images)]):
            _draw_image(axis, images[i])
            if masks is not None:
                _outline(axis, masks[i])
            if titles is not None:
                axis.set_title(titles[i], fontsize=8, fontweight="normal", loc="center")
    return figure


def plot_predictions(
    images,
    masks,
    predictions,
    scores=None,
    count: int = 6,
    ignore_index: int | None = None,
    class_names: Sequence[str] | None = None,
) -> Figure:
    """Truth, prediction and errors of the ``count`` images with the lowest scores, worst first.

    Args:
        images: (N, C, H, W) uint8 or floats in [0, 1]; masks, predictions: (N, H, W) class ids.
        scores: one score an image (its Dice), which orders and titles them; None leaves them in order.
        count: how many to show.
        ignore_index: class id that is no error.
        class_names: by class id; more than two are named in a legend. Where the first is not "background", every class
            is an object, and an error is just a wrong class.
    """
    images, masks, predictions = (np.asarray(x) for x in (images, masks, predictions))
    order = np.arange(len(images)) if scores is None else np.argsort(scores, kind="stable")
    order = order[:count]
    classes = 1 + int(max(masks[masks != ignore_index].max(initial=1), predictions.max()))
    names = class_names or [f"class {i}" for i in range(classes)]
    background = 0 if class_names is None or class_names[0] == "background" else None
    cell, ratio = 1.45, float(np.clip(images.shape[2] / images.shape[3], 0.5, 2))
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(
            4, len(order), figsize=(max(cell * len(order), 3), 4 * cell * ratio + 0.7), squeeze=False
        )
        for column, i in enumerate(order):
            for axis in axes[:, column]:
                axis.set(xticks=[], yticks=[])
                axis.grid(False)
                axis.spines[:].set_visible(False)
            _draw_image(axes[0, column], images[i])
            axes[1, column].imshow(painted(masks[i], len(names), ignore_index))
            axes[2, column].imshow(painted(predictions[i], len(names), ignore_index))
            axes[3, column].imshow(error_map(images[i], masks[i], predictions[i], ignore_index, background))
            if scores is not None:
                axes[0, column].set_title(f"Dice {scores[i]:.2f}", loc="center", fontsize=9, fontweight="normal")
        for axis, label in zip(axes[:, 0], ("image", "truth", "prediction", "errors"), strict=True):
            axis.set_ylabel(label, fontsize=9)
        if scores is not None:
            figure.suptitle(f"Worst first: {len(order)} of {len(images)}", fontsize=11, fontweight="bold")
        legend = list(zip(names, class_colours(len(names)), strict=True)) if len(names) > 2 else []
        legend += [("does not count", IGNORED)] if (masks[order] == ignore_index).any() else []
        legend += [("wrong class", MISS)] if background is None else [("missed", MISS), ("false alarm", FALSE_ALARM)]
        handles = [Patch(facecolor=colour, edgecolor="0.6", label=name) for name, colour in legend]
        rows = math.ceil(len(handles) / max(2, len(order)))
        figure.legend(handles=handles, loc="outside lower center", ncols=math.ceil(len(handles) / rows))
    return figure


def class_colours(count: int) -> list[str]:
    """A colour for each class id: black and white for two, of Okabe and Ito for up to eight, of a colour map for more."""
    if count == 2:
        return ["#000000", "#FFFFFF"]
    if count <= len(_CLASSES):
        return list(_CLASSES[:count])
    return [matplotlib.colors.to_hex(colour) for colour in matplotlib.colormaps["turbo"](np.linspace(0, 1, count))]


def error_map(image, mask, prediction, ignore_index: int | None = None, background: int | None = 0) -> np.ndarray:
    """The image in faint grey with misses and false alarms in colour: (H, W, 3) floats in [0, 1].

    A miss is an object (any class but ``background``) that was given another class; a false alarm is background called an
    object. Without a background (None) every error is a miss.
    """
    image, mask, prediction = np.asarray(image), np.asarray(mask), np.asarray(prediction)
    grey = _unit(image).mean(0)
    picture = np.repeat((0.15 + 0.45 * grey)[..., None], 3, axis=2)
    wrong = mask != prediction
    if ignore_index is not None:
        wrong &= mask != ignore_index
    for where, colour in ((wrong & (mask != background), MISS), (wrong & (mask == background), FALSE_ALARM)):
        picture[where] = matplotlib.colors.to_rgb(colour)
    return picture


def painted(ids: np.ndarray, classes: int, ignore_index: int | None) -> np.ndarray:
    """Class ids (H, W) in their colours: (H, W, 3); what does not count is grey."""
    table = np.full((256, 3), matplotlib.colors.to_rgb(IGNORED))
    table[:classes] = matplotlib.colors.to_rgba_array(class_colours(classes))[:, :3]
    if ignore_index is not None:
        table[ignore_index] = matplotlib.colors.to_rgb(IGNORED)
    return table[ids]


def _draw_image(axis, image: np.ndarray) -> None:
    axis.imshow(_unit(image).transpose(1, 2, 0), vmin=0, vmax=1)


def _unit(image: np.ndarray) -> np.ndarray:
    return image / 255 if image.dtype == np.uint8 else np.clip(image, 0, 1)


def _outline(axis, mask: np.ndarray) -> None:
    # One contour between neighbouring class ids; a mask of one class has none, and contour would warn.
    for boundary in np.unique(mask)[1:]:
        axis.contour(mask >= boundary, levels=[0.5], colors=[TRUTH], linewidths=1)

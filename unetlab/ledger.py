"""The ledger that runs through the course: one network, one split, three seeds, and a row for what a chapter changes.

Kept in ``notebooks/records/ledger.json`` (``python course.py records ledger``). Chapters 1 to 5 each compute a row of it
on their last page; ``05c_experiments`` reads the whole. A row is a recipe: ``BASELINE`` with some of its entries changed.
It is compared seed by seed with the row that it changes, so that what the seed decides cancels out.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy import stats

from unetlab.datasets import load_scene
from unetlab.early_stopping import EarlyStopping
from unetlab.metrics import dice_score
from unetlab.model import UNet
from unetlab.plots import STYLE
from unetlab.training import Trainer
from unetlab.tricks import average_views

SEEDS = (0, 1, 2)  # of the first weights and of the order; the pictures are the same for all
TASK = {"size": 40, "images": 24, "val_images": 16, "test_images": 64, "groups": 12, "group_shift": 0.5}
BASELINE = {"loss": "ce", "batch_size": 16, "lr": 1e-3, "scheduler": "constant", "epochs": 12}
BASELINE |= {"patience": None, "views": 1}
TOLERANCE = 0.05  # in Dice: another processor rounds otherwise, and a short training enlarges that


@dataclass(frozen=True)
class Row:
    """A row of the ledger. ``dice``: test Dice, one a seed; ``seconds``, ``epochs``: means over the seeds."""

    number: int
    page: str  # the notebook that computes it
    name: str
    changes: dict
    against: str | None  # the row that this one changes
    dice: np.ndarray
    seconds: float
    epochs: float


def train(seed: int, **changes) -> dict:
    """Train the U-Net of the ledger (base 8, depth 3) once, on cells of some scanners, and score it on those of others.

    Args:
        seed: of the first weights and of the order of the pictures.
        changes: what differs from ``BASELINE``: arguments of ``Trainer``; ``epochs``; ``patience``, to stop after so many
            epochs without a better validation Dice and keep the best weights; ``views=8``, to average the prediction
            over flips and quarter turns.

    Returns:
        ``changes``; ``test_dice``, the mean over 64 test images, which choose no epoch; ``epochs`` trained; ``seconds``
        of processor time, training and prediction.

    Raises:
        ValueError: another number of views; what ``Trainer`` refuses.
    """
    options = BASELINE | changes
    epochs, patience, views = (options.pop(name) for name in ("epochs", "patience", "views"))
    if views not in (1, 8):
        raise ValueError(f"views must be 1 or 8, not {views}")
    sizes = tuple(TASK[name] for name in ("images", "val_images", "test_images"))
    data = load_scene("cells", n=sizes, **{name: TASK[name] for name in ("size", "groups", "group_shift")})
    if patience is not None:
        options["early_stopping"] = EarlyStopping("val_dice", mode="max", patience=patience)
    torch.manual_seed(seed)
    model = UNet(base_channels=8, depth=3)
    trainer = Trainer(model, data.train, data.val, device="cpu", precision="fp32", seed=seed, **options)
    started = time.process_time()
    history = trainer.fit(epochs, verbose=None)
    if views == 8:
        prediction = average_views(trainer.model, data.test.images.float() / 255)[:, 0] > 0.5
    else:
        prediction = trainer.predict(data.test.images)
    seconds = time.process_time() - started
    dice = dice_score(prediction, data.test.masks)
    return {"changes": changes, "test_dice": round(dice, 4), "epochs": len(history), "seconds": round(seconds, 2)}


def rows(record: dict, page: str) -> list[Row]:
    """The rows of a record of the ledger, in order, up to and with those of a page such as "03c"."""
    found: dict[str, list[dict]] = {}
    for run in sorted(record["runs"], key=lambda run: run["seed"]):
        if run["page"] <= page:
            found.setdefault(run["row"], []).append(run)
    return [
        Row(
            number,
            runs[0]["page"],
            name,
            runs[0]["changes"],
            runs[0]["against"],
            np.array([run["test_dice"] for run in runs]),
            float(np.mean([run["seconds"] for run in runs])),
            float(np.mean([run["epochs"] for run in runs])),
        )
        for number, (name, runs) in enumerate(found.items(), 1)
    ]


def find(table: list[Row], name: str) -> Row:
    """The row of a name. Raises KeyError naming those there are."""
    for row in table:
        if row.name == name:
            return row
    raise KeyError(f"no row {name!r} in the ledger: choose one of {', '.join(row.name for row in table)}")


def gain(row: Row, other: Row) -> tuple[float, float]:
    """Mean of the paired differences in Dice, and half of its 95 % interval by Student's t."""
    pairs = row.dice - other.dice
    return float(pairs.mean()), float(stats.t.ppf(0.975, len(pairs) - 1) * pairs.std(ddof=1) / len(pairs) ** 0.5)


def agrees(runs: list[dict], row: Row) -> bool:
    """Whether runs of ``train`` have the mean Dice of a recorded row, within what another processor or seed may change.

    That is ``TOLERANCE``, or twice the standard deviation over the seeds where this is larger.

    Raises:
        ValueError: the runs are of another recipe than the row.
    """
    for run in runs:
        if run["changes"] != row.changes:
            raise ValueError(f"row {row.name!r} was recorded with {row.changes}, and you trained with {run['changes']}")
    apart = abs(np.mean([run["test_dice"] for run in runs]) - row.dice.mean())
    return bool(apart < max(TOLERANCE, 2 * row.dice.std(ddof=1)))


def plot(table: list[Row], guess: float | None = None) -> Figure:
    """The ledger: Dice of each seed as a dot, their mean as a bar; beside it the paired gain and the seconds of a run.

    Args:
        table: from ``rows``.
        guess: the reader's guess of the mean Dice of the last row, drawn as a diamond.

    Raises:
        ValueError: a table without a row.
    """
    if not table:
        raise ValueError("the ledger has no row to draw")
    numbers = {row.name: row for row in table}
    with plt.style.context(STYLE):
        figure, axis = plt.subplots(figsize=(9, 1.2 + 0.36 * len(table)))
        beside = axis.get_yaxis_transform()
        for row in table:
            colour, said, against = "0.45", "", ""
            if row.against in numbers:
                mean, half = gain(row, numbers[row.against])
                colour = "C2" if mean > half else "C1" if mean < -half else "0.45"
                said, against = f"{mean:+.3f} ± {half:.3f}", f"{numbers[row.against].number}"
            axis.plot(row.dice, [row.number] * len(row.dice), "o", color=colour, markersize=5, alpha=0.7)
            axis.plot(row.dice.mean(), row.number, "|", color="black", markersize=14)
            for x, text in ((1.09, against), (1.38, said), (1.5, f"{row.seconds:.1f}")):
                axis.text(x, row.number, text, transform=beside, va="center", ha="right", color=colour)
        if guess is not None:
            axis.plot(guess, table[-1].number, "D", color="C0", markersize=7, label="your guess")
            axis.legend(loc="lower left")
        for x, text in ((1.09, "against"), (1.38, "gain, 95 %"), (1.5, "s a run")):
            axis.text(x, 0.35, text, transform=beside, va="bottom", ha="right")
        axis.set(
            yticks=[row.number for row in table],
            yticklabels=[f"{row.name}   {row.page}  {row.number:2}" for row in table],
        )
        axis.set(ylim=(len(table) + 0.6, 0.4), xlim=(0.2, 0.9), xlabel="test Dice: three seeds and their mean")
    return figure

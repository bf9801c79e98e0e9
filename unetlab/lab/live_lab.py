"""The live lab: a training run that you hold in your hand. ``ul.LiveLab(trainer, epochs=60).show()``

Taught in ``03d_live_learning_rate`` and ``04c_live_patience``. The run trains in a background thread, so the cell
returns and the notebook stays free. What a control means is in ``session.py``; what it looks like in ``instrument.js``;
this file binds the two: it draws the session four times a second and passes on what was touched.
"""

import threading
import time
from bisect import bisect_left, bisect_right

import numpy as np
import torch
from IPython.display import display

from unetlab.controls import Script
from unetlab.history import History
from unetlab.lab.instrument import Curves, Instrument
from unetlab.lab.session import Session
from unetlab.metrics import dice_score
from unetlab.plots import FALSE_ALARM, MISS, describe_history, error_map, plot_history, show
from unetlab.training import Trainer

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
DASHES = ("solid", "dashed", "dashdot", "dotted", "dashed")
REFRESH = 0.25  # seconds between two drawings
POINTS = 400  # a curve is thinned to so many
PICTURES, PICTURE_SIDE = 6, 96  # validation images in the strip, and their largest side in pixels

CONTROLS = [
    {"id": "start", "kind": "button", "label": "Start", "style": "primary", "hint": "Train to the last epoch"},
    {"id": "pause", "kind": "button", "label": "Pause", "hint": "Hold before the next step"},
    {"id": "resume", "kind": "button", "label": "Resume", "hint": "Go on after a pause"},
    {"id": "stop", "kind": "button", "label": "Stop", "style": "danger", "hint": "End the run; Start goes on"},
    {"id": "lr", "kind": "range", "label": "Learning rate", "row": 1, "min": 1e-6, "max": 1, "step": 0.02, "log": True},
    {"id": "release", "kind": "button", "label": "Back to schedule", "row": 1, "hint": "Let the schedule set the rate"},
    {"id": "patience", "kind": "range", "label": "Patience", "row": 1, "min": 0, "max": 60, "step": 1},
    {"id": "min_delta", "kind": "range", "label": "Min delta", "row": 1, "min": 0, "max": 0.05, "step": 0.001},
    {"id": "epoch", "kind": "range", "label": "Epoch", "row": 2, "min": 0, "max": 1, "step": 1},
    {"id": "rewind", "kind": "button", "label": "Rewind", "row": 2, "hint": "Go back to the end of this epoch"},
    {"id": "fork", "kind": "button", "label": "Fork", "row": 2, "hint": "A second run from this epoch, at this rate"},
    {"id": "replay", "kind": "button", "label": "Replay", "row": 2, "hint": "Train again from the start, same moves"},
    {"id": "save", "kind": "button", "label": "Save moves", "row": 2, "hint": "Write moves.json beside the notebook"},
]


class LiveLab:
    """The dashboard of a run.

    Args:
        trainer: a ``Trainer``; it may have been trained already.
        epochs: length of the run in epochs, in all.
        script: moves that are made without a hand, for a page that runs without a reader.

    Example:
        ``lab = ul.LiveLab(trainer, epochs=60)``, ``lab.show()`` in one cell; press *Start*, or call ``lab.start()``.
        ``lab.wait()`` in a later cell waits for the end and leaves a static picture in the notebook.
    """

    def __init__(self, trainer: Trainer, epochs: int = 60, script: Script | None = None):
        self.session = Session(trainer, epochs, script)
        count = len(trainer.val_images)
        trainer.watched = np.unique(np.linspace(0, count - 1, PICTURES).astype(int)).tolist()
        self._curves = {}  # Run name -> LiveCurves
        self._touched: dict[str, tuple[float, float]] = {}  # control -> (value, when): a hand is not overruled at once
        self._scrubbed: int | None = None  # the epoch that the strip shows; None follows the run
        self._strip_key = None
        self._speed = Speed()
        self._message: str | None = None
        self._drawing = threading.Lock()
        self._refresher: threading.Thread | None = None
        self._closed = False
        adjustable = trainer.controls.adjustable
        self.instrument = Instrument("Live lab", CONTROLS, self._touch)
        self._fixed = {name: name in adjustable for name in ("patience", "min_delta")}
        self.refresh()

    # ------------------------------------------------------------------------------------------- for the notebook

    def show(self) -> None:
        """Display the lab in this cell. Where widgets are dead a line says how to go on without them."""
        bundle = self.instrument._repr_mimebundle_()
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        text = "Live lab: no widgets here? lab.start() trains all the same, and lab.wait() draws the result."
        display(data | {"text/plain": text}, metadata=metadata, raw=True)

    def start(self) -> None:
        """Train, as the button Start does."""
        self.session.start()
        self._keep_drawing()

    def wait(self, timeout: float | None = None) -> History:
        """Wait for the end of the run (at most ``timeout`` seconds) and leave a picture of it in the notebook.

        Returns:
            the ``History`` of the run in hand.

        Raises:
            the exception that ended the run, if one did.
        """
        self.session.wait(timeout)
        self.refresh()
        runs = {run.name: run.trainer.history for run in self.session.runs if len(run.trainer.history)}
        if runs:
            alt = " ".join(f"{name}: {describe_history(history)}" for name, history in runs.items())
            show(plot_history(runs if len(runs) > 1 else next(iter(runs.values()))), alt)
        return self.session.trainer.history

    def close(self) -> None:
        """Stop the run and its drawing, and take the lab off the page."""
        self._closed = True
        self.session.stop()
        if self._refresher is not None:
            self._refresher.join()
        self.instrument.close()

    def replay(self, moves: Script | list) -> None:
        """Train a run from the start with these moves, for example ``Script.from_json("moves.json")``."""
        self.session.replay(moves)
        self._keep_drawing()

    def save_moves(self, path="moves.json") -> None:
        """Write the moves of the run in hand, and what came of them, as a small JSON file."""
        self.session.save_moves(path)

    # --------------------------------------------------------------------------------------- what was touched

    def _touch(self, name: str, value) -> None:
        session = self.session
        self._message = None
        try:
            if name in ("start", "resume"):
                session.resume()
            elif name == "pause":
                session.pause()
            elif name == "stop":
                session.stop()
            elif name in ("lr", "patience", "min_delta"):
                self._touched[name] = (value, time.monotonic())
                session.set(**{name: value})
            elif name == "release":
                self._touched.pop("lr", None)
                session.release()
            elif name == "epoch":
                self._scrubbed = int(value) if value < session.trainer.epoch else None
            elif name == "rewind":
                session.rewind(self._chosen_epoch)
                self._scrubbed = None
            elif name == "fork":
                session.fork(self._chosen_epoch, lr=self._hand("lr"))
                self._scrubbed = None
            elif name == "replay":
                session.replay()
                self._scrubbed = None
            elif name == "save":
                session.save_moves("moves.json")
                self._message = "The moves are in moves.json, beside this notebook."
        except (ValueError, OSError) as error:  # the lab is where a learner looks, so it is said there
            self._message = str(error)
        self.refresh()
        self._keep_drawing()

    @property
    def _chosen_epoch(self) -> int:
        return self.session.trainer.epoch if self._scrubbed is None else self._scrubbed

    def _hand(self, name: str) -> float | None:
        """The value that a control was moved to since the last run was taken up, None if it was not touched."""
        return self._touched[name][0] if name in self._touched else None

    # ----------------------------------------------------------------------------------------------- drawing

    def _keep_drawing(self) -> None:
        """Draw four times a second while the run trains, in a thread that ends with it."""
        if self.session.training and (self._refresher is None or not self._refresher.is_alive()):
            self._refresher = threading.Thread(target=self._draw_while_training, name="unetlab-drawing", daemon=True)
            self._refresher.start()

    def _draw_while_training(self) -> None:
        while self.session.training and not self._closed:
            self.refresh()
            time.sleep(REFRESH)
        if not self._closed:
            self.refresh()

    def refresh(self) -> None:
        """Draw the session as it is now."""
        with self._drawing:
            session, trainer = self.session, self.session.trainer
            self.instrument.values = self._values(trainer)
            self.instrument.enabled = self._enabled()
            self.instrument.ranges = {"epoch": [0, max(trainer.epoch, 1)]}
            self.instrument.status = self._status(trainer)
            curves = Curves()
            self.instrument.show_curves(self._panels(curves), curves)
            key = [(run.name, self._shown_epoch(run.trainer)) for run in session.runs]
            if key != self._strip_key and self._shown_epoch(trainer) is not None:
                self._strip_key = key
                self._draw_strip()

    def _values(self, trainer: Trainer) -> dict:
        now = {"lr": trainer.optimizer.param_groups[0]["lr"], "epoch": self._chosen_epoch}
        if trainer.early_stopping:
            now |= {"patience": trainer.early_stopping.patience, "min_delta": trainer.early_stopping.min_delta}
        for name, (value, when) in self._touched.items():
            # Until the next step has taken a move up, the slider shows the hand's value.
            if time.monotonic() - when < 2 * REFRESH or not self.session.training:
                now[name] = value
        return now

    def _enabled(self) -> dict:
        state = self.session.state
        trained = self.session.trainer.step > 0
        return self._fixed | {
            "start": state in ("ready", "stopped", "failed"),
            "pause": state == "training",
            "resume": state == "paused",
            "stop": state in ("training", "paused"),
            "rewind": trained,
            "fork": trained,
            "replay": trained,
            "save": bool(self.session.trainer.history.moves),
        }

    def _status(self, trainer: Trainer) -> dict:
        session = self.session
        total = session.epochs * trainer.steps_per_epoch
        parts = [f"{session.run.name}: {session.state}", f"epoch {trainer.epoch} of {session.epochs}"]
        parts.append(f"step {trainer.step} of {total}")
        if session.state == "training":
            speed = self._speed.update(trainer.step)
            if speed:
                batch = min(trainer.batch_size * trainer.accumulate, len(trainer.images))
                parts += [f"{speed * batch:.0f} images/s", f"{_duration((total - trainer.step) / speed)} left"]
        else:
            self._speed = Speed()
        device = trainer.device.type
        if device == "cuda":
            device += f", {torch.cuda.memory_allocated(trainer.device) / 2**30:.1f} GiB"
        problem = None
        if session.error is not None:
            problem = f"The run ended with {type(session.error).__name__}: {session.error}"
        elif trainer.history.stop_reason and not session.training:
            problem = f"The run ended: {trainer.history.stop_reason}"
        lines = [line for line in (problem, self._message, *trainer.notes) if line]
        return {
            "text": " · ".join([*parts, device]),
            "progress": trainer.step / total,
            "problem": "\n".join(lines) or None,
        }

    def _panels(self, curves: Curves) -> list[dict]:
        runs, trainer = self.session.runs, self.session.trainer
        loss, dice, rate, counter = [], [], [], []
        for i, run in enumerate(runs):
            live = self._curves.setdefault(run.name, LiveCurves())
            live.update(run.trainer)
            name = run.name if len(runs) > 1 else ""
            colour = {"color": COLOURS[i % len(COLOURS)]}
            style = colour | {"dash": DASHES[i % len(DASHES)]}
            x, losses, rates = live.steps_since(run.since)
            epochs, val_losses, dices, waits = live.epochs_since(run.since)
            loss.append(curves.line(x, losses, name=f"{name} training".strip(), width=1, alpha=0.45, **colour))
            loss.append(curves.line(epochs, val_losses, name=f"{name} validation".strip(), dots=2.5, **style))
            dice.append(curves.line(epochs, dices, name=name, dots=2.5, **style))
            rate.append(curves.line(x, rates, name=name, steps=True, **style))
            if run.trainer.early_stopping:
                counter.append(curves.line(epochs, waits, name=name, dots=2.5, **style))
        moves = [{"x": m.step / trainer.steps_per_epoch} for m in trainer.history.moves if m.name != "stop"]
        panels = [
            {"title": "Loss", "series": loss, "marks": moves},
            {"title": "Validation Dice", "series": dice, "marks": moves + self._best_mark(), "ylim": [0, 1]},
            {"title": "Learning rate (log)", "series": rate, "marks": moves + _rate_marks(trainer), "log": True},
        ]
        if trainer.early_stopping:
            patience, waits = trainer.early_stopping.patience, self._curves[self.session.run.name].waits
            line = {"y": patience, "text": f"patience {patience}", "color": "#D55E00", "dash": "dashed", "width": 1.5}
            panel = {"title": "Evaluations without improvement", "series": counter, "marks": [*moves, line]}
            panels.append(panel | {"ylim": [0, max([patience, *waits, 1]) * 1.15]})
        furthest = max(run.trainer.epoch for run in runs) + 1
        xlim = [0, min(self.session.epochs, max(5, round(1.3 * furthest)))]
        described = f"over the epochs, {len(runs)} run{'s' * (len(runs) > 1)}"
        return [panel | {"xlabel": "epoch", "xlim": xlim, "label": f"{panel['title']} {described}"} for panel in panels]

    def _best_mark(self) -> list[dict]:
        best = self._curves[self.session.run.name].best
        if best is None:
            return []
        return [{"x": best[0], "text": f"best {best[1]:.3f}", "color": "#009E73", "dash": "dashed"}]

    def _shown_epoch(self, trainer: Trainer) -> int | None:
        """The newest epoch with predictions, up to the one that is scrubbed to."""
        last = trainer.epoch if self._scrubbed is None else self._scrubbed
        return max((epoch for epoch in list(trainer.watched_predictions) if epoch <= last), default=None)

    def _draw_strip(self) -> None:
        trainer = self.session.trainer
        step = max(-(-max(trainer.val_images.shape[-2:]) // PICTURE_SIDE), 1)
        images = trainer.val_images[trainer.watched][..., ::step, ::step].cpu()
        masks = trainer.val_masks[trainer.watched]
        epoch = self._shown_epoch(trainer)
        guesses = trainer.watched_predictions[epoch]
        classes = trainer.num_classes
        truth = masks.cpu()
        scores = [
            dice_score(g[None], m[None], classes, ignore_index=trainer.ignore_index)
            for g, m in zip(guesses, truth, strict=True)
        ]
        order = np.argsort(scores, kind="stable")
        top = max(classes - 1, 1)
        rows = [[_rgb(images[i]) for i in order]]
        rows += [[_grey(m[i][::step, ::step], top) for i in order] for m in (truth, guesses)]
        shown = [run for run in self.session.runs if self._shown_epoch(run.trainer) is not None][-3:]
        bars = [None, None, None]
        for run in shown:
            predictions = run.trainer.watched_predictions[self._shown_epoch(run.trainer)]
            errors = [
                error_map(images[i], truth[i][::step, ::step], predictions[i][::step, ::step], trainer.ignore_index)
                for i in order
            ]
            rows.append([(error * 255).astype(np.uint8) for error in errors])
            bars.append(COLOURS[self.session.runs.index(run) % len(COLOURS)])
        self.instrument.show_strip(_mosaic(rows, bars))
        self.instrument.caption = [
            [f"epoch {epoch}, worst first (Dice {', '.join(f'{scores[i]:.2f}' for i in order)})", None],
            ["rows: image, truth, prediction, errors", None],
            ["missed", MISS],
            ["false alarm", FALSE_ALARM],
            *([run.name, colour] for run, colour in zip(shown, bars[3:], strict=True) if len(shown) > 1),
        ]


def _rate_marks(trainer: Trainer) -> list[dict]:
    """The values of the last moves of the rate, to be written at their marks."""
    return [
        {"x": m.step / trainer.steps_per_epoch, "text": "schedule" if m.new is None else f"{m.new:.2g}"}
        for m in trainer.history.moves
        if m.name == "lr"
    ][-8:]


class LiveCurves:
    """The numbers of one run's curves, kept up to date without reading the whole history at every refresh."""

    def __init__(self):
        self._clear()

    def _clear(self) -> None:
        self.step_epochs, self.losses, self.rates = [], [], []
        self.epochs, self.val_losses, self.dices, self.waits = [], [], [], []
        self.best: tuple[int, float] | None = None  # (epoch, Dice)
        self._history = None

    def update(self, trainer: Trainer) -> None:
        history = trainer.history
        if (
            history is not self._history
            or len(history.epochs) < len(self.epochs)
            or len(history.steps) < len(self.losses)
        ):
            self._clear()  # rewound, or rolled back
            self._history = history
        for row in history.steps[len(self.losses) :]:
            self.step_epochs.append((row["step"] + 1) / trainer.steps_per_epoch)
            self.losses.append(row["loss"])
            self.rates.append(row["lr"])
        for row in history.epochs[len(self.epochs) :]:
            self.epochs.append(row["epoch"])
            self.val_losses.append(row["val_loss"])
            self.dices.append(row["val_dice"])
            self.waits.append(row["wait"])
            if self.best is None or row["val_dice"] > self.best[1]:
                self.best = (row["epoch"], row["val_dice"])

    def steps_since(self, epoch: int) -> tuple[list, list, list]:
        """Epochs (as fractions), losses and rates of the steps after an epoch, thinned to what a chart can show."""
        start = bisect_right(self.step_epochs, epoch)
        thin = max((len(self.losses) - start) // POINTS, 1)
        return tuple(column[start::thin] for column in (self.step_epochs, self.losses, self.rates))

    def epochs_since(self, epoch: int) -> tuple[list, list, list, list]:
        """Epochs, validation losses, Dice and counters from an epoch on."""
        start = bisect_left(self.epochs, epoch)
        return tuple(column[start:] for column in (self.epochs, self.val_losses, self.dices, self.waits))


class Speed:
    """Steps per second over the last few seconds."""

    def __init__(self):
        self._seen: list[tuple[float, int]] = []

    def update(self, step: int) -> float | None:
        now = time.monotonic()
        self._seen = [(when, done) for when, done in self._seen if now - when < 5] + [(now, step)]
        (first, before), (last, after) = self._seen[0], self._seen[-1]
        return (after - before) / (last - first) if after > before else None


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _rgb(image: torch.Tensor) -> np.ndarray:
    """(C, H, W) uint8 or scaled floats -> (H, W, 3) uint8."""
    array = image.numpy() if image.dtype == torch.uint8 else (image.clamp(0, 1) * 255).byte().numpy()
    return np.broadcast_to(array.transpose(1, 2, 0), (*array.shape[1:], 3))


def _grey(labels: torch.Tensor, top: int) -> np.ndarray:
    levels = (labels.long().clamp(0, top) * (255 // top)).byte().numpy()
    return np.repeat(levels[..., None], 3, axis=2)


def _mosaic(rows: list[list[np.ndarray]], bars: list[str | None]) -> np.ndarray:
    """Pictures (H, W, 3) in rows with a gap of 2 pixels; a row may have a bar of colour at its left."""
    height, width = rows[0][0].shape[:2]
    gap, margin = 2, 5
    mosaic = np.full(
        (len(rows) * (height + gap) - gap, margin + len(rows[0]) * (width + gap) - gap, 3), 128, dtype=np.uint8
    )
    for i, (row, bar) in enumerate(zip(rows, bars, strict=True)):
        top = i * (height + gap)
        if bar is not None:
            mosaic[top : top + height, : margin - 1] = [int(bar[k : k + 2], 16) for k in (1, 3, 5)]
        for j, picture in enumerate(row):
            left = margin + j * (width + gap)
            mosaic[top : top + height, left : left + width] = picture
    return mosaic

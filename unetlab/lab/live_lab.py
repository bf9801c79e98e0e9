"""The live lab: a training run that you hold in your hand. ``ul.LiveLab(trainer, epochs=60).show()``

Taught in ``03d_live_learning_rate`` and ``04c_live_patience``. The run trains in a background thread, so the cell
returns and the notebook stays free. What a control means is in ``session.py``; what it looks like in ``instrument.js``;
this file binds the two: it draws the session four times a second and passes on what was touched.
"""

import atexit
import math
import threading
import time
import warnings
from bisect import bisect_left, bisect_right

import matplotlib
import numpy as np
import torch
from IPython.display import display

from unetlab.controls import Script
from unetlab.history import History
from unetlab.ingredients import crop_to
from unetlab.lab.instrument import Curves, Instrument
from unetlab.lab.session import Session
from unetlab.plots import (
    FALSE_ALARM,
    IGNORED,
    MISS,
    class_colours,
    describe_history,
    error_map,
    is_wide,
    painted,
    plot_history,
    show,
)
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
    {"id": "lr", "kind": "range", "label": "Learning rate", "row": 1, "min": 1e-6, "max": 1, "step": 0.02, "log": True}
    | {"style": "large"},
    {"id": "release", "kind": "button", "label": "Back to schedule", "row": 1, "hint": "Let the schedule set the rate"},
    {
        "id": "patience",
        "kind": "range",
        "label": "Patience",
        "row": 1,
        "min": 0,
        "max": 60,
        "step": 1,
        "style": "large",
    },
    {"id": "min_delta", "kind": "range", "label": "Min delta", "row": 1, "min": 0, "max": 0.05, "step": 0.001},
    {"id": "epoch", "kind": "range", "label": "Epoch", "row": 2, "min": 0, "max": 1, "step": 1},
    {"id": "rewind", "kind": "button", "label": "Rewind", "row": 2, "hint": "Go back to the end of this epoch"},
    {"id": "fork", "kind": "button", "label": "Fork", "row": 2, "hint": "A second run from this epoch, at this rate"},
    {"id": "replay", "kind": "button", "label": "Replay", "row": 2, "hint": "Train again from the start, same moves"},
    {"id": "save", "kind": "button", "label": "Save moves", "row": 2, "hint": "Write moves.json beside the notebook"},
]
SLIDERS = {control["id"] for control in CONTROLS if control["kind"] == "range"}


class LiveLab:
    """The dashboard of a run.

    Args:
        trainer: a ``Trainer``; it may have been trained already.
        epochs: length of the run in epochs, in all.
        script: moves that are made without a hand, for a page that runs without a reader.
        pace: seconds that a step takes at least while a hand may steer, so that a small network leaves time to act.

    Example:
        ``lab = ul.LiveLab(trainer, epochs=60)``, ``lab.show()`` in one cell; press *Start*, or call ``lab.start()``.
        ``lab.wait()`` in a later cell waits for the end and leaves a static picture in the notebook.
    """

    def __init__(self, trainer: Trainer, epochs: int = 60, script: Script | None = None, pace: float = 0.0):
        self.session = Session(trainer, epochs, script, pace)
        count = len(trainer.val_images)
        trainer.watched = np.unique(np.linspace(0, count - 1, PICTURES).astype(int)).tolist()
        self._images = trainer.val_images[trainer.watched].cpu()  # once and here: a GPU is for the training thread
        self._masks = trainer.val_masks[trainer.watched].cpu()
        trainer.watched_predictions[trainer.epoch] = trainer.predict(trainer.val_images[trainer.watched])
        self._curves = {}  # Run name -> LiveCurves
        self._scrubbed: int | None = None  # the epoch that the strip shows; None follows the run
        self._strip_key = None
        self._speed = Speed()
        self._message: str | None = None
        self._drawing = threading.RLock()  # held while the lab is drawn, and while a hand changes what there is to draw
        self._drawn = self.session.ended  # that of the training thread which is being drawn
        self._refresher: threading.Thread | None = None
        self._closed = False
        values = self._values(trainer)  # a slider has room for the value that the run starts with
        controls = [c | {"max": max(c["max"], values.get(c["id"], 0))} if "max" in c else c for c in CONTROLS]
        self.instrument = Instrument("Live lab", controls, self._touch)
        self.refresh()

    # ------------------------------------------------------------------------------------------- for the notebook

    def show(self) -> None:
        """Display the lab in this cell. Where widgets are dead a line says how to go on without them."""
        bundle = self.instrument._repr_mimebundle_()
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        text = "Live lab: no widgets here? lab.wait() trains all the same and draws the result."
        display(data | {"text/plain": text}, metadata=metadata, raw=True)

    def start(self, script: Script | None = None) -> None:
        """Train, as the button Start does; ``script`` is the hand until the run ends or is stopped."""
        self.session.start(script)
        self._keep_drawing()

    def wait(self, timeout: float | None = None, script: Script | None = None) -> History:
        """Wait for the end of the run (at most ``timeout`` seconds) and leave a picture of it in the notebook.

        A run that nobody has started is started here, so that a page without a reader, or without widgets, trains too;
        ``script`` is its hand then.

        Returns:
            the ``History`` of the run in hand.

        Raises:
            the exception that ended the run, if one did. A loss that is no longer finite is a warning.
        """
        if self.session.state == "ready" or not self.session.begun:
            self.start(script)
        self.session.wait(timeout)
        self.refresh()
        runs = {run.name: _so_far(run.trainer.history) for run in self.session.runs if len(run.trainer.history)}
        if runs:
            words = {name: describe_history(history) for name, history in runs.items()}
            if len(runs) > 1:
                show(plot_history(runs), " ".join(f"{name}: {text}" for name, text in words.items()))
            else:
                show(plot_history(*runs.values()), *words.values())
        trainer = self.session.trainer
        if trainer.diverged:
            warnings.warn(trainer.history.stop_reason, RuntimeWarning, stacklevel=2)
        return trainer.history

    def close(self) -> None:
        """Stop the run and its drawing, and take the lab off the page."""
        self._closed = True
        self.session.stop()
        if self._refresher is not None:
            self._refresher.join()
        self.instrument.close()

    def replay(self, moves: Script | list) -> None:
        """Train a run from the start with these moves, for example ``Script.from_json("moves.json")``."""
        with self._drawing:
            self.session.replay(moves)
        self._keep_drawing()

    def save_moves(self, path="moves.json") -> None:
        """Write the moves of the run in hand, and what came of them, as a small JSON file."""
        self.session.save_moves(path)

    def save_hand(self, path="hand.json", name: str | None = None) -> None:
        """Write the run in hand for a class: a teacher collects such files and runs ``unetlab class FOLDER``.

        Args:
            path: the file.
            name: yours, if the class shall see it.

        Raises:
            ValueError: another machine could not make this run again; the message says why.
        """
        self.session.save_hand(path, name)

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
                session.set(**{name: value})
            elif name == "release":
                session.release()
            elif name == "epoch":
                self._scrubbed = int(value) if value < session.trainer.epoch else None
            elif name == "save":
                session.save_moves("moves.json")
                self._message = "The moves are in moves.json, beside this notebook."
            else:
                self._go_back(name)
        except (ValueError, OSError) as error:  # the lab is where a learner looks, so it is said there
            self._message = str(error)
        self._keep_drawing()
        if not (session.training and name in SLIDERS):  # while it trains, a dragged slider waits for the next drawing
            self.refresh()

    def _go_back(self, how: str) -> None:
        """Rewind, fork or replay. Nothing is drawn meanwhile, for it changes what there is to draw."""
        session, epoch = self.session, self._chosen_epoch
        with self._drawing:
            if how == "rewind":
                session.rewind(epoch)
            elif how == "fork":
                session.fork(epoch, **self._in_hand())
            else:
                session.replay()
            self._scrubbed = None

    @property
    def _chosen_epoch(self) -> int:
        return self.session.trainer.epoch if self._scrubbed is None else self._scrubbed

    def _in_hand(self) -> dict:
        """What a fork takes along: the rate that the hand holds, and what it asked for since the last step."""
        trainer = self.session.trainer
        rates = [move.new for move in trainer.history.moves if move.name == "lr"]
        held = {"lr": rates[-1] if rates else None} | trainer.controls.pending
        return {name: v for name, v in held.items() if name in trainer.controls.adjustable and v is not None}

    # ----------------------------------------------------------------------------------------------- drawing

    def _keep_drawing(self) -> None:
        """Draw four times a second while the run trains, in a thread that ends with that of the run."""
        ended = self.session.ended
        if ended is not self._drawn:
            self._drawn = ended
            self._refresher = threading.Thread(target=self._draw, args=(ended,), name="unetlab-drawing", daemon=True)
            self._refresher.start()

    def _draw(self, ended: threading.Event) -> None:
        atexit.register(self.close)  # as in Session: no thread may be at work when the process ends
        try:
            while not (ended.is_set() or self._closed):
                self.refresh()
                ended.wait(REFRESH)
            if not self._closed:
                self.refresh()
        finally:
            atexit.unregister(self.close)

    def refresh(self) -> None:
        """Draw the session as it is now."""
        with self._drawing, self.instrument.hold_sync():
            session, trainer, instrument = self.session, self.session.trainer, self.instrument
            instrument.ranges = {"epoch": [0, max(trainer.epoch, 1)]}
            instrument.values = self._values(trainer)
            instrument.enabled = self._enabled(trainer)
            instrument.status = self._status(trainer)
            curves = Curves()
            instrument.show_curves(self._panels(curves), curves)
            key = [(run.name, self._shown_epoch(run.trainer)) for run in session.runs]
            if key != self._strip_key and self._shown_epoch(trainer) is not None:
                self._strip_key = key
                self._draw_strip()

    def _values(self, trainer: Trainer) -> dict:
        now = {"lr": trainer.optimizer.param_groups[0]["lr"], "epoch": self._chosen_epoch}
        if trainer.early_stopping:
            now |= {"patience": trainer.early_stopping.patience, "min_delta": trainer.early_stopping.min_delta}
        # Until the next step takes it up, a slider shows what the hand asked for.
        return now | {name: v for name, v in trainer.controls.pending.items() if name in now and v is not None}

    def _enabled(self, trainer: Trainer) -> dict:
        state, trained = self.session.state, trainer.step > 0
        return {
            "patience": "patience" in trainer.controls.adjustable,
            "min_delta": "min_delta" in trainer.controls.adjustable,
            "start": state in ("ready", "stopped", "failed"),
            "pause": state == "training",
            "resume": state == "paused",
            "stop": state in ("training", "paused"),
            "rewind": trained,
            "fork": trained,
            "replay": trained,
            "save": bool(trainer.history.moves),
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
        problem, by_hand = None, [move.name for move in trainer.history.moves[-1:]] == ["stop"]
        if session.error is not None:
            problem = f"The run ended with {type(session.error).__name__}: {session.error}"
        elif trainer.history.stop_reason and not (session.training or by_hand):
            problem = f"The run ended: {trainer.history.stop_reason}"
        lines = [line for line in (problem, self._message, *trainer.notes) if line]
        return {
            "text": " · ".join([*parts, device]),
            "progress": min(trainer.step / total, 1),
            "problem": "\n".join(lines) or None,
        }

    def _panels(self, curves: Curves) -> list[dict]:
        runs, trainer = self.session.runs, self.session.trainer
        loss, dice, rate, counter, heights = [], [], [], [], []
        for i, run in enumerate(runs):
            live = self._curves.setdefault(run.name, LiveCurves())
            live.update(run.trainer)
            name = run.name if len(runs) > 1 else ""
            colour = {"color": COLOURS[i % len(COLOURS)]}
            style = colour | {"dash": DASHES[i % len(DASHES)]}
            x, losses, rates = live.steps_since(run.since)
            epochs, val_losses, dices, waits = live.epochs_since(run.since)
            heights += losses + val_losses
            loss.append(curves.line(x, losses, name=f"{name} training".strip(), width=1, alpha=0.6, **colour))
            loss.append(curves.line(epochs, val_losses, name=f"{name} validation".strip(), dots=2.5, **style))
            dice.append(curves.line(epochs, dices, name=name, dots=2.5, **style))
            starts = [at - 1 / trainer.steps_per_epoch for at in x] + x[-1:]
            rate.append(curves.line(starts, rates + rates[-1:], name=name, steps=True, **style))
            if run.trainer.early_stopping:
                counter.append(curves.line(epochs, waits, name=name, dots=2.5, **style))
        furthest = max(run.trainer.epoch for run in runs)
        end = max(furthest, min(self.session.epochs, max(5, round(1.3 * (furthest + 1)))))
        live = self._curves[self.session.run.name]
        rates = _move_marks(trainer, apart=end / 6)
        moves = [{"x": mark["x"]} for mark in rates]
        best = _best_mark(trainer, live)
        now = f"training {_last(live.losses)}, validation {_last(live.val_losses)}"
        panels = [
            {"title": "Loss", "series": loss, "marks": moves + best, "label": now, "log": is_wide(heights)},
            {"title": "Validation Dice", "series": dice, "marks": moves + best, "label": _last(live.dices)},
            {"title": "Learning rate (log)", "series": rate, "marks": rates, "log": True, "label": _last(live.rates)},
        ]
        for panel, name in zip(panels, ("loss", "Dice", "rate"), strict=True):
            panel["ylabel"] = name
        panels[0]["ylabel"] += " (log)" * panels[0]["log"]
        panels[1]["ylim"] = [0, 1]
        if trainer.early_stopping:
            patience = trainer.early_stopping.patience
            line = {"y": patience, "text": f"patience {patience}", "color": "#D55E00", "dash": "dashed", "width": 1.5}
            panel = {"title": "Evaluations without improvement", "series": counter, "marks": [*moves, line]}
            panel["label"] = f"{_last(live.waits)} of patience {patience}"
            panels.append(panel | {"ylabel": "evaluations", "ylim": [0, max([patience, *live.waits, 1]) * 1.15]})
        others = f", {len(runs)} runs" if len(runs) > 1 else ""
        for panel in panels:
            label = f"{panel['title']} over the epochs{others}; {self.session.run.name} now: {panel['label']}"
            panel |= {"xlabel": "epoch", "xlim": [0, end], "label": label}
        return panels

    def _shown_epoch(self, trainer: Trainer) -> int | None:
        """The newest epoch with predictions, up to the one that is scrubbed to."""
        last = trainer.epoch if self._scrubbed is None else self._scrubbed
        return max((epoch for epoch in list(trainer.watched_predictions) if epoch <= last), default=None)

    def _draw_strip(self) -> None:
        trainer = self.session.trainer
        classes, ignored = trainer.num_classes, trainer.ignore_index
        names = trainer.class_names or [f"class {i}" for i in range(max(classes, 2))]
        epoch = self._shown_epoch(trainer)
        guesses = trainer.watched_predictions[epoch]
        images, truth = crop_to(self._images, guesses), crop_to(self._masks, guesses)
        metrics = trainer.metrics()
        metrics.update(guesses, truth)
        scores = metrics.compute()["dice_per_image"]
        order = np.argsort(scores, kind="stable")
        thin = slice(None, None, -(-max(guesses.shape[1:]) // PICTURE_SIDE))
        images, truth, guesses = (part[order][..., thin, thin].numpy() for part in (images, truth, guesses))
        rows = [_rgb(images), painted(truth, len(names), ignored), painted(guesses, len(names), ignored)]
        background = 0 if classes == 1 or not trainer.include_background else None
        shown = [run for run in self.session.runs if self._shown_epoch(run.trainer) is not None][-3:]
        bars = [None, None, None]
        for run in shown:
            guesses = run.trainer.watched_predictions[self._shown_epoch(run.trainer)][order][..., thin, thin]
            rows.append([error_map(*trio, ignored, background) for trio in zip(images, truth, guesses, strict=True)])
            bars.append(COLOURS[self.session.runs.index(run) % len(COLOURS)])
        self.instrument.show_strip(_mosaic(rows, bars))
        self.instrument.caption = [
            [f"epoch {epoch}, worst first (Dice {', '.join(f'{scores[i]:.2f}' for i in order)})", None],
            ["rows: image, truth, prediction, errors", None],
            *([name, colour] for name, colour in zip(names, class_colours(len(names)), strict=True) if len(names) > 2),
            *([["does not count", IGNORED]] if (truth == ignored).any() else []),
            *([["wrong class", MISS]] if background is None else [["missed", MISS], ["false alarm", FALSE_ALARM]]),
            *([run.name, colour] for run, colour in zip(shown, bars[3:], strict=True) if len(shown) > 1),
        ]


def _so_far(history: History) -> History:
    """A copy, for a run may go on while it is drawn (``wait(timeout)``)."""
    return history.truncated(len(history), len(history.steps), len(history.moves))


def _move_marks(trainer: Trainer, apart: float) -> list[dict]:
    """A mark at every step with a move. Those of the rate name the new one; of moves close together, only the last."""
    marks = {}
    for move in trainer.history.moves:
        if move.name != "stop":
            mark = marks.setdefault(move.step, {"x": move.step / trainer.steps_per_epoch})
            if move.name == "lr":
                mark["text"] = "schedule" if move.new is None else f"{move.new:.2g}".replace("e-0", "e-")
    rates = [mark for mark in marks.values() if "text" in mark]
    for mark, following in zip(rates, rates[1:], strict=False):
        if following["x"] - mark["x"] < apart:
            del mark["text"]
    return list(marks.values())


def _best_mark(trainer: Trainer, live: "LiveCurves") -> list[dict]:
    """The epoch whose weights early stopping keeps; without it, that with the highest Dice."""
    if trainer.early_stopping:
        evaluation = trainer.early_stopping.best_epoch
        best = None if evaluation is None else evaluation + 1
    else:
        scores = [pair for pair in zip(live.epochs, live.dices, strict=True) if not math.isnan(pair[1])]
        best = max(scores, key=lambda pair: pair[1], default=(None, 0))[0]
    return [] if best is None else [{"x": best, "text": f"best: epoch {best}", "color": "#009E73", "dash": "dashed"}]


def _last(values: list) -> str:
    return f"{values[-1]:.3g}" if values else "none yet"


class LiveCurves:
    """The numbers of one run's curves, kept up to date without reading the whole history at every refresh."""

    def __init__(self):
        self._clear()

    def _clear(self) -> None:
        self.step_epochs, self.losses, self.rates = [], [], []
        self.epochs, self.val_losses, self.dices, self.waits = [], [], [], []
        self._newest: dict | None = None  # the last row of a step that was taken

    def update(self, trainer: Trainer) -> None:
        history, known = trainer.history, len(self.losses)
        if known and history.steps[known - 1 : known] != [self._newest]:
            self._clear()  # rewound, or rolled back
        for row in history.steps[len(self.losses) :]:
            self.step_epochs.append((row["step"] + 1) / trainer.steps_per_epoch)
            self.losses.append(row["loss"])
            self.rates.append(row["lr"])
            self._newest = row
        for row in history.epochs[len(self.epochs) :]:
            self.epochs.append(row["epoch"])
            self.val_losses.append(row["val_loss"])
            self.dices.append(row["val_dice"])
            self.waits.append(row["wait"])

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


def _rgb(images: np.ndarray) -> np.ndarray:
    """(N, C, H, W) uint8 or scaled floats -> (N, H, W, 3) in [0, 1]; of more than three channels the first three."""
    images = images / 255 if images.dtype == np.uint8 else images.clip(0, 1)
    images = images[:, :3] if images.shape[1] >= 3 else images[:, :1]
    return np.broadcast_to(images.transpose(0, 2, 3, 1), (len(images), *images.shape[2:], 3))


def _mosaic(rows: list, bars: list[str | None]) -> np.ndarray:
    """Rows of pictures (H, W, 3) in [0, 1], 2 pixels apart, as uint8; a row may have a bar of colour at its left."""
    height, width = rows[0][0].shape[:2]
    gap, margin = 2, 5
    size = len(rows) * (height + gap) - gap, margin + len(rows[0]) * (width + gap) - gap, 3
    mosaic = np.full(size, 128, dtype=np.uint8)
    for i, (row, bar) in enumerate(zip(rows, bars, strict=True)):
        top = i * (height + gap)
        if bar is not None:
            mosaic[top : top + height, : margin - 1] = np.multiply(matplotlib.colors.to_rgb(bar), 255).round()
        for j, picture in enumerate(row):
            left = margin + j * (width + gap)
            mosaic[top : top + height, left : left + width] = (picture * 255).round()
    return mosaic

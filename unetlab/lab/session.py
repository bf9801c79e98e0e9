"""A training session: runs in a background thread, and what a hand may do to them. Plain Python, no widgets.

The live lab shows a ``Session``; tests and notebooks without a browser drive it directly. One run trains at a time; a
fork or a replay adds a run and leaves the others as they are, to be compared.
"""

import atexit
import json
import threading
from dataclasses import dataclass
from pathlib import Path

from unetlab.checkpoint import write_atomically
from unetlab.controls import Script
from unetlab.hands import record_of
from unetlab.training import Trainer


@dataclass
class Run:
    """One curve on the charts: a name, the trainer, the script that plays moves to it, and the epoch it forked at."""

    name: str
    trainer: Trainer
    script: Script | None = None
    since: int = 0


class Session:
    """Start, pause, stop, rewind, fork and replay runs of one trainer.

    Args:
        trainer: the first run; it may have been trained already.
        epochs: length of every run in epochs, in all.
        script: moves that are made on the first run.
        pace: seconds that a step takes at least while a hand may steer; a replay, and whoever waits, does not keep it.

    Attributes:
        runs: all runs; ``run`` is the one that the hand holds.
        ledger: a row for each evaluation, in the order in which they were paid for: those of ``History.epochs``, with
            ``run`` (its name), ``step`` (optimizer steps of this run) and ``paid`` (those of all runs since the session
            began; at most 0 for what was trained before). What a rewind takes out of the history stays here.
        steps_paid: optimizer steps of all runs until the newest training thread ended.
        begun: whether anything was trained in this session.
        ended: an event, set when the newest training thread has ended.
        error: the exception that ended it, None if none did.
    """

    def __init__(self, trainer: Trainer, epochs: int, script: Script | None = None, pace: float = 0.0):
        self.runs = [Run("run 1", trainer, script)]
        self.run = self.runs[0]
        self.epochs = epochs
        self.pace = pace
        self.ledger: list[dict] = []
        self.steps_paid = -len(trainer.history.steps)
        self._book(self.run, since=0)
        self.begun = False
        self.error: BaseException | None = None
        self.ended = threading.Event()
        self.ended.set()

    @property
    def trainer(self) -> Trainer:
        return self.run.trainer

    @property
    def training(self) -> bool:
        """Whether a run is under way, also while it is paused."""
        return not self.ended.is_set()

    @property
    def state(self) -> str:
        """ready, training, paused, stopped, finished or failed."""
        if self.training:
            return "paused" if self.trainer.controls.paused else "training"
        if self.error is not None:
            return "failed"
        if self.trainer.history.stop_reason is not None:
            return "stopped"
        if self.trainer.epoch >= self.epochs:
            return "finished"
        return "ready" if self.trainer.step == 0 else "stopped"

    def start(self, script: Script | None = None) -> None:
        """Train the run that the hand holds, to its end; nothing happens if it is training already.

        Args:
            script: moves for this stretch alone, in place of the run's own.
        """
        if self.training:
            return
        self.begun, self.error = True, None
        self.trainer.controls.pace = self.pace
        self.trainer.controls.resume()
        self.ended = threading.Event()
        arguments = self.run, self.ended, script or _still_to_make(self.run)
        threading.Thread(target=self._train, args=arguments, name="unetlab-training", daemon=True).start()

    def _train(self, run: Run, ended: threading.Event, script: Script | None) -> None:
        atexit.register(self.stop)  # a process must not end in the middle of a step: torch aborts then
        start = run.trainer.step
        try:
            run.trainer.fit(self.epochs, script, verbose=None)
        except BaseException as error:  # kept, shown in the lab and raised by wait(): nothing is swallowed
            self.error = error
        finally:
            self._book(run, since=start)
            atexit.unregister(self.stop)
            ended.set()

    def _book(self, run: Run, since: int) -> None:
        """Enter what a run has done since one of its steps, and what it cost."""
        trainer, before = run.trainer, self.steps_paid - since
        for row in trainer.history.epochs[since // trainer.steps_per_epoch :]:
            step = row["epoch"] * trainer.steps_per_epoch
            self.ledger.append(row | {"run": run.name, "step": step, "paid": before + step})
        self.steps_paid = before + len(trainer.history.steps)  # with those of an epoch that was rolled back

    def pause(self) -> None:
        if self.training:
            self.trainer.controls.pause()

    def resume(self) -> None:
        """Let a paused run go on; start one that does not train."""
        self.trainer.controls.resume()
        self.start()

    def stop(self) -> None:
        """End the run before its next step, and wait until it has ended. ``start`` goes on from there."""
        if self.training:
            self.trainer.controls.stop()
            self.ended.wait()
            self.trainer.controls.withdraw_stop()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the run has ended, or ``timeout`` seconds, at full speed. An interrupt stops the run cleanly.

        Raises:
            whatever ended the training thread, if it was an exception.
        """
        self.trainer.controls.pace = 0.0
        try:
            self.ended.wait(timeout)  # an interrupted Thread.join takes a living thread for dead (before Python 3.13)
        except KeyboardInterrupt:
            self.stop()
        if self.error is not None and not self.training:
            raise self.error

    def set(self, **changes) -> None:
        """Move the learning rate, the patience ... of the run in hand; raises ValueError as ``Controls.set`` does."""
        self.trainer.controls.set(**changes)

    def release(self) -> None:
        """Give the learning rate back to its schedule."""
        self.trainer.controls.release("lr")

    def rewind(self, epoch: int) -> None:
        """Stop, and go back to the end of an epoch (0: the start). Raises ValueError if there is no snapshot of it."""
        self.stop()
        self.trainer.rewind(epoch)
        self.error = None

    def fork(self, epoch: int, **changes) -> Run:
        """Stop, and train a second run from that epoch on, with these changes: ``fork(5, lr=1e-2)``.

        Raises:
            ValueError: no snapshot of that epoch; a change that ``Controls.set`` does not take.
        """
        self.stop()
        trainer = self.trainer.fork(epoch)
        trainer.controls.set(**changes)
        number = sum(run.name.startswith("fork") for run in self.runs) + 1
        return self._take(Run(f"fork {number} at epoch {epoch}", trainer, since=epoch))

    def replay(self, moves: Script | list | None = None) -> Run:
        """Stop, and train a run from the start that makes the same moves as this one, or the given ones."""
        self.stop()
        script = moves if isinstance(moves, Script) else Script(self.trainer.history.moves if moves is None else moves)
        number = sum(run.name.startswith("replay") for run in self.runs) + 1
        run = self._take(Run(f"replay {number}", self.trainer.fork(0), script))
        run.trainer.controls.pace = 0.0
        return run

    def _take(self, run: Run) -> Run:
        self.runs.append(run)
        self.run = run
        self.start()
        return run

    def save_moves(self, path: str | Path) -> None:
        """Write the hand's moves and what came of them as a small JSON file, for ``Script.from_json``."""
        _write(path, record_of(self.trainer))

    def save_hand(self, path: str | Path, name: str | None = None) -> None:
        """The same file for ``unetlab class``, with a name if one is given.

        Raises:
            ValueError: another machine could not make this run again; the message says why.
        """
        record = record_of(self.trainer, name)
        if record["game"] is None:
            raise ValueError(f"a class cannot replay this run: {record['why_no_game']}")
        _write(path, record)


def _write(path: str | Path, record: dict) -> None:
    write_atomically(path, json.dumps(record, indent=1, allow_nan=False).encode() + b"\n")


def _still_to_make(run: Run) -> Script | None:
    """The script of a run; without the moves of a step at which it was stopped, for they are made."""
    moves = run.trainer.history.moves
    if run.script is None or not moves or moves[-1].name != "stop":
        return run.script
    return Script(move for move in run.script.moves if move[0] > moves[-1].step)

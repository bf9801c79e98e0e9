"""The hand on the run: changes that a person, a widget or a script makes while the network trains.

Taught in ``03d_live_learning_rate`` and ``04c_live_patience``. ``Controls`` takes requests from any thread and hands
them to the training loop, which collects them before each optimizer step. ``Script`` is a hand without a person: the
same moves at the same steps give the same run.
"""

import json
import math
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from unetlab.history import Move

# What can be moved, and which values make sense.
_RULES = {
    "lr": (lambda v: v > 0 and math.isfinite(v), "a finite learning rate above 0"),
    "weight_decay": (lambda v: v >= 0 and math.isfinite(v), "a finite number of at least 0"),
    "grad_clip": (lambda v: v is None or v > 0, "a gradient norm above 0, or None"),
    "patience": (lambda v: v >= 0 and v == int(v), "a whole number of evaluations, at least 0"),
    "min_delta": (lambda v: v >= 0 and math.isfinite(v), "a finite number of at least 0"),
}


def check_change(name: str, value, adjustable: Iterable[str]) -> None:
    """Raise ValueError if ``name`` cannot be moved in this run or ``value`` makes no sense for it."""
    if name not in adjustable:
        hint = " (this run has no early stopping)" if name in ("patience", "min_delta") else ""
        raise ValueError(f"{name!r} cannot be moved{hint}: choose one of {', '.join(adjustable)}")
    works, meaning = _RULES[name]
    try:
        good = works(value)
    except (TypeError, OverflowError):  # int(inf) overflows
        good = False
    if not good:
        raise ValueError(f"{name} must be {meaning}, not {value!r}")


class Controls:
    """Thread-safe requests to a running ``Trainer``. Each takes effect at the next optimizer step.

    Args:
        adjustable: the names that ``set`` takes in this run: lr, weight_decay, grad_clip and, where the run has early
            stopping, patience and min_delta.

    Attributes:
        pace: seconds that a step takes at least, so that a hand can follow a small network. Change it at any time.
    """

    def __init__(self, adjustable: tuple[str, ...]):
        self.adjustable = adjustable
        self.pace = 0.0
        self._next_step = -math.inf  # not before this time
        self._lock = threading.Lock()
        self._requests: list[tuple[str, object]] = []
        self._running = threading.Event()
        self._running.set()

    def set(self, **changes) -> None:
        """Ask for new values: ``set(lr=3e-3, patience=5)``.

        Raises:
            ValueError: a name that cannot be moved in this run, or a value that makes no sense. Nothing is changed then.
        """
        for name, value in changes.items():
            check_change(name, value, self.adjustable)
        with self._lock:
            self._requests += changes.items()

    def release(self, name: str = "lr") -> None:
        """Give the learning rate back to its schedule. Raises ValueError for any other name."""
        if name != "lr":
            raise ValueError(f"only the learning rate has a schedule to go back to, not {name!r}")
        with self._lock:
            self._requests.append(("lr", None))

    def pause(self) -> None:
        """Hold the run before its next step."""
        self._running.clear()

    def resume(self) -> None:
        """Let a paused run go on."""
        self._running.set()

    def stop(self) -> None:
        """End the run before its next step (also when it is paused). ``fit`` can go on from there."""
        with self._lock:
            self._requests.append(("stop", True))
        self._running.set()

    def withdraw_stop(self) -> None:
        """Take back a ``stop`` that came when the run had ended by itself, so that it does not end the next one."""
        with self._lock:
            self._requests = [request for request in self._requests if request[0] != "stop"]

    @property
    def paused(self) -> bool:
        return not self._running.is_set()

    @property
    def pending(self) -> dict:
        """What was asked for and has not taken effect yet, the newest value of each name."""
        with self._lock:
            return dict(self._requests)

    def collect(self) -> list[tuple[str, object]]:
        """For the training loop: wait while paused or too fast, then return the requests made since the last call."""
        time.sleep(max(self._next_step - time.monotonic(), 0))
        self._running.wait()
        self._next_step = time.monotonic() + self.pace
        with self._lock:
            requests, self._requests = self._requests, []
        return requests


class Script:
    """A list of moves with their steps, played to a run by ``Trainer.fit(epochs, script=...)``.

    Args:
        moves: pairs ``(step, {"lr": 3e-2, "patience": 5})`` or ``Move`` items of a recorded run. ``step`` is the
            optimizer step (0-based) before which the change is made. ``{"lr": None}`` gives the rate back to its
            schedule, ``{"stop": True}`` ends the run.

    Raises:
        ValueError: something that is not such a list.
    """

    def __init__(self, moves: Iterable):
        self.moves: list[tuple[int, dict]] = []
        for move in moves:
            if isinstance(move, Move):
                move = (move.step, {move.name: move.new})
            try:
                step, changes = move
                if step != int(step) or step < 0:
                    raise ValueError
                self.moves.append((int(step), dict(changes)))
            except (TypeError, ValueError, OverflowError):
                raise ValueError(
                    f"a script is a list of (step, {{name: value}}), steps being whole numbers from 0, not {move!r}"
                ) from None

    @classmethod
    def from_json(cls, path: str | Path) -> "Script":
        """Read a JSON file: a list ``[[step, {name: value}], ...]``, or the ``history.json`` of a run, for its moves.

        Raises:
            ValueError: a file that is neither; the message names it.
        """
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
            if isinstance(record, dict):
                return cls(Move(**move) for move in record["moves"])
            return cls(record)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no list of moves ({error})") from None

    def at(self, step: int) -> list[tuple[str, object]]:
        """The changes to make before this step."""
        return [change for when, changes in self.moves if when == step for change in changes.items()]

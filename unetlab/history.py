"""What happened in a run, as plain rows: one an epoch, one an optimizer step, one a move of the hand.

Used from the first chapter on; taught in ``03d_live_learning_rate``. Rows turn into a pandas table, JSON and plots.
"""

import json
import math
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Move:
    """One change made by a hand or a script: in force from optimizer step ``step`` (0-based) on. ``new=None``: released."""

    step: int
    epoch: int
    name: str
    old: float | int | bool | None
    new: float | int | bool | None


class History:
    """The record of a run.

    Attributes:
        epochs: rows ``epoch`` (from 1), ``train_loss``, ``val_loss``, ``val_dice``, ``val_iou``, ``lr`` (of the epoch's
            last step), ``seconds``, ``wait`` (evaluations since the last improvement).
        steps: rows ``step`` (from 0), ``epoch`` (from 1), ``loss``, ``lr``.
        moves: ``Move`` items in the order in which they took effect.
        environment: versions, device, threads, seed.
        stop_reason: why the run ended before its last epoch, None if it did not.
    """

    def __init__(self, environment: dict | None = None):
        self.epochs: list[dict] = []
        self.steps: list[dict] = []
        self.moves: list[Move] = []
        self.environment = environment or {}
        self.stop_reason: str | None = None

    def __len__(self) -> int:
        return len(self.epochs)

    def __repr__(self) -> str:
        if not self.epochs:
            return "History(no epoch yet)"
        last = self.epochs[-1]
        end = f", {self.stop_reason}" if self.stop_reason else ""
        return f"History({len(self)} epochs, val_loss {last['val_loss']:.4f}, val_dice {last['val_dice']:.4f}{end})"

    def column(self, name: str) -> list:
        """One column of the epochs. Raises KeyError naming the columns there are."""
        if self.epochs and name not in self.epochs[0]:
            raise KeyError(f"no column {name!r} in the history: choose one of {', '.join(self.epochs[0])}")
        return [row[name] for row in self.epochs]

    def truncated(self, epochs: int, steps: int, moves: int) -> "History":
        """A copy that ends after so many epochs, steps and moves."""
        copy = History(dict(self.environment))
        copy.epochs = [dict(row) for row in self.epochs[:epochs]]
        copy.steps = [dict(row) for row in self.steps[:steps]]
        copy.moves = self.moves[:moves]
        return copy

    def to_frame(self):
        """The epochs as a pandas table, indexed by epoch."""
        import pandas as pd  # half a second, which a run without tables need not wait

        frame = pd.DataFrame(self.epochs)
        return frame.set_index("epoch") if len(frame) else frame

    def to_dict(self) -> dict:
        """Everything as plain lists and dicts; what is not finite becomes None (JSON has no NaN)."""
        return {
            "epochs": [_finite(row) for row in self.epochs],
            "steps": [_finite(row) for row in self.steps],
            "moves": [asdict(move) for move in self.moves],
            "environment": self.environment,
            "stop_reason": self.stop_reason,
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """``to_dict`` as JSON text, written to ``path`` if given."""
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    @classmethod
    def from_dict(cls, record: dict) -> "History":
        """The inverse of ``to_dict`` (None becomes NaN where a number is meant)."""
        history = cls(record["environment"])
        history.epochs = [{k: math.nan if v is None else v for k, v in row.items()} for row in record["epochs"]]
        history.steps = [{k: math.nan if v is None else v for k, v in row.items()} for row in record["steps"]]
        history.moves = [Move(**move) for move in record["moves"]]
        history.stop_reason = record["stop_reason"]
        return history

    @classmethod
    def from_json(cls, path: str | Path) -> "History":
        """Read a ``history.json``."""
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))


def _finite(row: dict) -> dict:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def environment(device: torch.device, **more) -> dict:
    """The machine and the versions behind a run, to stand beside its numbers."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.system(),
        "device": device.type,
        "device_name": name,
        "threads": torch.get_num_threads(),
        **more,
    }

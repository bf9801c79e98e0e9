"""What a run says while it trains: a progress bar, and one line an epoch."""

import sys

from tqdm import tqdm

_COLUMNS = {  # width and format of each column
    "epoch": (5, "d"),
    "train_loss": (10, ".4f"),
    "val_loss": (8, ".4f"),
    "val_dice": (8, ".4f"),
    "val_iou": (7, ".4f"),
    "lr": (8, ".1e"),
    "seconds": (7, ".1f"),
}


class Progress:
    """A bar over optimizer steps (only where a terminal can redraw it) and a table of epochs on standard output.

    Args:
        title: the first line.
        first, total: optimizer steps already done, and in the whole run.
        verbose: False says nothing at all.
    """

    def __init__(self, title: str, first: int, total: int, verbose: bool):
        self.verbose = verbose
        hidden = None if verbose else True  # None lets tqdm hide itself where the output is not a terminal
        self._bar = tqdm(initial=first, total=total, unit="step", leave=False, disable=hidden, file=sys.stderr)
        self.say(title)
        self.say("  ".join(name.replace("_", " ").rjust(width) for name, (width, _) in _COLUMNS.items()))

    def say(self, text: str) -> None:
        if self.verbose:
            tqdm.write(text)

    def step(self, done: int) -> None:
        self._bar.update(done - self._bar.n)

    def epoch(self, row: dict, improved: bool) -> None:
        cells = "  ".join(f"{row[name]:{width}{form}}" for name, (width, form) in _COLUMNS.items())
        self.say(cells + ("  *" if improved else ""))

    def close(self) -> None:
        self._bar.close()

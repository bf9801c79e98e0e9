"""Small invented records in the form of notebooks/records, so that widgets are tested without the real ones."""

import numpy as np

from unetlab.schedulers import SCHEDULES

HEAD = {
    "seeds": [0, 1],
    "settings": {"scene": "cells", "size": 48, "base_channels": 8, "depth": 3, "optimizer": "adamw"},
    "environment": {"torch": "2.13.0", "device_name": "x86_64", "threads": 1},
}


def schedules() -> dict:
    """Dice at the end tells the runs apart: 0.8 for constant, 0.9 for the others, 0.5 with the bug, plus 0.01 for seed 1."""
    runs = []
    for name in SCHEDULES:
        for stepped in ["batch", "epoch"] if name == "one_cycle" else ["batch"]:
            for lr in (3e-4, 3e-3, 3e-2):
                for seed in HEAD["seeds"]:
                    end = (0.5 if stepped == "epoch" else 0.8 if name == "constant" else 0.9) + 0.01 * seed
                    columns = {"val_loss": np.linspace(1, 0.3, 12).tolist(), "val_dice": [0.1] * 11 + [end]}
                    runs.append({"schedule": name, "stepped": stepped, "base_lr": lr, "seed": seed} | columns)
    return HEAD | {"runs": runs}


def stopping() -> dict:
    """Two curves of 60 epochs: one that falls until epoch 20 (seed 1: 30) and rises again, and one that never improves."""
    epochs = np.arange(1, 61)
    runs = []
    for seed in HEAD["seeds"]:
        loss = 0.2 + 0.01 * np.abs(epochs - 20 - 10 * seed)
        runs.append({"curve": "Valley", "seed": seed, "val_loss": loss.tolist(), "val_dice": (1 - loss).tolist()})
    for seed in HEAD["seeds"]:
        runs.append({"curve": "Flat", "seed": seed, "val_loss": [0.5] * 60, "val_dice": [0.5] * 60})
    return HEAD | {"runs": runs}


def lr_finder() -> dict:
    """A range test that falls fastest at 1e-3 and is lowest at 1e-2; runs at three rates, of which SGD's last diverge."""
    lrs = np.geomspace(1e-6, 1, 61)
    smoothed = 1 / (1 + (lrs / 1e-3)) + (lrs / 1e-2) ** 2 / 25
    test = {"lrs": lrs.tolist(), "losses": smoothed.tolist(), "smoothed": smoothed.tolist()}
    runs = [{"kind": "range test", "setup": "AdamW", "seed": 0} | test | {"suggestion": 1e-3, "stopped": None}]
    for setup, lowest in (("AdamW", 0.5), ("SGD", 0.4)):
        for lr, dice in ((1e-4, lowest), (1e-3, 0.8), (1e-2, 0.9)):
            for seed in HEAD["seeds"]:
                key = {"kind": "run", "setup": setup, "base_lr": lr, "seed": seed}
                gone = 3 if (setup, lr) == ("SGD", 1e-2) else None  # in the fourth of its six steps, in epoch 2 of 2
                runs.append(key | {"loss": [1.5, 1.2, 1.1, 1.0, 0.9, 0.8][:gone], "diverged_at": gone})
                runs[-1] |= {
                    "val_loss": [1.0, 1 - dice][: gone and 1],
                    "val_dice": [0.1, dice + 0.02 * seed][: gone and 1],
                }
    return HEAD | {"runs": runs}


def touch(widget, name, value) -> None:
    """What the front end sends when a control is touched."""
    widget._instrument._receive(widget._instrument, {"id": name, "value": value}, [])


def dead_text(widget) -> str:
    """What a page without widgets shows."""
    bundle = widget._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "application/vnd.jupyter.widget-view+json" in data
    return data["text/plain"]


def series(widget, panel: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """x and y of a named series, as the front end reads them."""
    numbers = np.frombuffer(widget._instrument.data, dtype=np.float32)
    line = next(s for s in widget._instrument.panels[panel]["series"] if s.get("name") == name)
    return tuple(numbers[start : start + length] for start, length in (line["x"], line["y"]))

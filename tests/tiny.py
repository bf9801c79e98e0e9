"""Data and runs so small that a test can train hundreds of them, and the tools to compare and to kill runs."""

import math
import multiprocessing
import os
import random
import signal
import tempfile
from pathlib import Path

import numpy as np
import torch

import unetlab as ul
from unetlab import checkpoint

STEPS = 3  # optimizer steps in an epoch of a tiny run: 10 images in batches of 4, the last one short


def squares(n=10, size=16, channels=1, seed=0):
    """Bright squares on noise: images uint8 (n, channels, size, size) and masks uint8 (n, size, size)."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 100, (n, channels, size, size), dtype=np.uint8)
    masks = np.zeros((n, size, size), np.uint8)
    for image, mask in zip(images, masks, strict=True):
        top, left = rng.integers(0, size - 6, 2)
        image[:, top : top + 6, left : left + 6] += 150
        mask[top : top + 6, left : left + 6] = 1
    return torch.from_numpy(images), torch.from_numpy(masks)


def unet(seed=1, **options):
    """A tiny network, always with the same weights; the global random state is left alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ul.UNet(**{"base_channels": 2, "depth": 1} | options)


TRAIN, VAL = squares(10, seed=0), squares(5, seed=1)


def trainer(model=None, **options) -> ul.Trainer:
    return ul.Trainer(model or unet(), TRAIN, VAL, **{"batch_size": 4, "device": "cpu"} | options)


# A run with everything that has a state: moving average, dropout, augmentation, clipping, early stopping, moves.
EPOCHS = 10
MOVES = [
    (2, {"lr": 5e-3}),
    (8, {"weight_decay": 0.1, "grad_clip": 0.5}),
    (13, {"lr": None}),
    (20, {"patience": 50, "min_delta": 0.5}),
    (25, {"lr": 2e-3}),
]


def rich_trainer(scheduler="constant", **options) -> ul.Trainer:
    if scheduler == "plateau":  # impatient, so that it lowers the rate several times within ten epochs
        scheduler = {"name": "plateau", "patience": 0, "factor": 0.5, "threshold": 0.05}
    rich = {
        "scheduler": scheduler,
        "ema": 0.9,
        "augment": ul.Augment(flip=True, turn=True, brightness=0.1),
        "grad_clip": 1.0,
        "early_stopping": ul.EarlyStopping(patience=100),
    }
    return trainer(unet(depth=2, dropout=0.3), **rich | options)


def script(*more) -> ul.Script:
    """The moves of the rich run, and more."""
    return ul.Script(MOVES + list(more))


def random_states() -> tuple:
    """The global random states that a learner's own code may depend on."""
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()


def whole(run) -> dict:
    """Everything a run can save (training state, history, settings) and the weights it shows; seconds left out."""
    with tempfile.TemporaryDirectory() as folder:
        run.save(Path(folder) / "state.safetensors")
        state = checkpoint.load_state(Path(folder) / "state.safetensors")
    return without_seconds(state | {"shown": {k: v.clone() for k, v in run.model.state_dict().items()}})


def without_seconds(state: dict) -> dict:
    for row in state["history"]["epochs"]:
        del row["seconds"]
    return state


def differences(a, b, name="state") -> list[str]:
    """The places where two nested states differ; bit for bit, and NaN equals NaN."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        a_bytes, b_bytes = (x.detach().contiguous().reshape(-1).view(torch.uint8) for x in (a, b))
        return [] if a.dtype == b.dtype and a.shape == b.shape and torch.equal(a_bytes, b_bytes) else [name]
    if isinstance(a, dict) and isinstance(b, dict):
        missing = [f"{name}.{key} is on one side only" for key in a.keys() ^ b.keys()]
        return missing + [
            place for key in a.keys() & b.keys() for place in differences(a[key], b[key], f"{name}.{key}")
        ]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [place for i, (x, y) in enumerate(zip(a, b, strict=True)) for place in differences(x, y, f"{name}[{i}]")]
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return []
    return [] if type(a) is type(b) and a == b else [f"{name}: {a!r} and {b!r}"]


# ------------------------------------------------------------------------------------------------ processes and kills

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows knows no other than this, which kills at once there


def process(function, *args) -> multiprocessing.Process:
    """A fresh process that shares nothing with this one, started. A fork server has the imports ready (not on Windows)."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload(["unetlab"])
    child = context.Process(target=function, args=args)
    child.start()
    return child


def exit_code(child: multiprocessing.Process) -> int:
    child.join(120)
    code = child.exitcode
    child.kill()
    child.join()
    child.close()
    return code


def save_for_ever(folder, number):
    """Save one state after the other, each filled with its number."""
    while True:
        number += 1
        checkpoint.save_numbered(
            folder, {"number": number, "weights": [torch.full((2**18,), float(number))] * 4}, number
        )


def train_and_die(folder, scheduler, step):
    """Train the rich run with a run folder; the process is killed by the system's hardest signal before this step."""
    train_step = ul.Trainer.train_step

    def step_or_die(run, indices):
        if run.step == step:
            os.kill(os.getpid(), KILL)
        return train_step(run, indices)

    ul.Trainer.train_step = step_or_die
    rich_trainer(scheduler).fit(EPOCHS, script(), run_dir=folder, verbose=False)


def resume_and_finish(folder, path):
    """Go on from a run folder to the planned end and write the whole state to a file."""
    run = ul.Trainer.resume(folder, TRAIN, VAL)
    run.fit(script=script(), run_dir=folder, verbose=False)
    run.save(path)

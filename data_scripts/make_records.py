"""Make notebooks/records/*.json: runs that widgets and pages replay, so that no slider ever trains.

python course.py records [NAME ...]   makes all records, or those named; over an hour on one core for all.

Every file says its seeds, settings, versions and hardware. A seed is that of the weights and of the data order; the
images are the same for all, except in tricks and search, where the seed decides them too. The file is written after
every run: an interrupted command goes on where it stopped, and a complete file that was made with the same versions,
hardware and settings is left as it is.
"""

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

import unetlab as ul
from unetlab import ledger as the_ledger
from unetlab.checkpoint import write_atomically
from unetlab.datasets import load_scene
from unetlab.history import environment
from unetlab.tricks import DeepSupervision, average_views, smooth_labels

FOLDER = Path(__file__).parents[1] / "notebooks" / "records"
SEEDS = [0, 1, 2]
OTHER_SETTINGS = {"ledger": the_ledger.TASK | the_ledger.BASELINE}
MORE_SEEDS = {"tricks": list(range(10))}  # effects too small for three; five, and five others to look again
DEFAULTS = {
    "images": 96,
    "val_images": 32,
    "size": 48,
    "epochs": 12,
    "batch_size": 8,
    "lr": 3e-3,
    "optimizer": "adamw",
    "scheduler": "constant",
    "norm": "batch",
    "loss": "compound",
    "augment": None,
    "foreground": None,
}
DIGITS = {"train_loss": "{:.4f}", "val_loss": "{:.4f}", "val_dice": "{:.4f}", "lr": "{:.3g}"}


def make_trainer(seed: int, settings: dict) -> ul.Trainer:
    """A U-Net of base 8 and depth 3 (121,033 parameters) on the synthetic cells."""
    s = DEFAULTS | settings
    data = load_scene("cells", size=s["size"], n=(s["images"], s["val_images"], 1), foreground=s["foreground"])
    torch.manual_seed(seed)
    model = ul.UNet(base_channels=8, depth=3, norm=s["norm"])
    options = {name: s[name] for name in ("lr", "optimizer", "scheduler", "loss", "augment", "batch_size")}
    return ul.Trainer(model, data.train, data.val, device="cpu", seed=seed, **options)


def curves(seed: int, settings: dict, script: ul.Script | None = None) -> dict:
    """Train once; the columns of the history, rounded."""
    history = make_trainer(seed, settings).fit((DEFAULTS | settings)["epochs"], script=script, verbose=False)
    return rounded_columns(history)


def rounded_columns(history: ul.History) -> dict:
    return {name: [float(form.format(v)) for v in history.column(name)] for name, form in DIGITS.items()}


# Each record is a list of (key, settings) and a function that makes one run. A key stands in the file beside its curves.


def schedules() -> Iterator[tuple[dict, dict]]:
    """Ten schedules at three base rates, stepped as they should be, and one-cycle stepped once an epoch."""
    for schedule in ul.schedulers.SCHEDULES:
        options = {"patience": 2} if schedule == "plateau" else {}
        for stepped in ["batch", "epoch"] if schedule == "one_cycle" else ["batch"]:
            for lr in (3e-4, 3e-3, 3e-2):
                key = {"schedule": schedule, "options": options, "stepped": stepped, "base_lr": lr}
                yield key, {"lr": lr, "scheduler": {"name": schedule} | options}


def schedule_run(seed: int, key: dict, settings: dict) -> dict:
    if key["stepped"] == "batch":
        return curves(seed, settings)
    # The bug: made for all steps, moved on only once an epoch. A scripted hand sets the rates that come of it.
    trainer = make_trainer(seed, settings)
    rates = ul.schedule_preview(key["schedule"], DEFAULTS["epochs"] * trainer.steps_per_epoch, key["base_lr"])
    moves = [(epoch * trainer.steps_per_epoch, {"lr": rates[epoch]}) for epoch in range(DEFAULTS["epochs"])]
    return curves(seed, settings, ul.Script(moves))


def stopping() -> Iterator[tuple[dict, dict]]:
    """Six kinds of validation curves that an early-stopping rule meets."""
    few = {"images": 10, "epochs": 120, "batch_size": 4, "norm": "group", "loss": "ce"}
    some = {"images": 24, "epochs": 100}
    restarts = {
        "name": "cosine_restarts"
    }  # 14, 28 and 57 epochs: at each restart the loss jumps, then it beats its best
    for name, settings in {
        "Few images": few,
        "Few images, flips and turns": few | {"augment": "flips"},
        "Noisy, 4 validation images": some | {"val_images": 4, "batch_size": 4, "norm": "group", "lr": 3e-2},
        "Warm restarts, late improvement": some | {"augment": "flips", "lr": 1e-2, "scheduler": restarts},
        "Slow and steady": some | {"lr": 3e-4},
        "Rare objects, slow start": {"images": 48, "epochs": 100, "foreground": 0.01, "loss": "ce", "lr": 3e-4},
    }.items():
        yield {"curve": name, "settings": settings}, settings


def lr_finder() -> Iterator[tuple[dict, dict]]:
    """Range tests, and runs of six epochs at twelve rates: AdamW, SGD, and SGD on a network without normalisation."""
    sgd = {"optimizer": "sgd"}
    for setup, settings in {"AdamW": {}, "SGD": sgd, "SGD, no norm": sgd | {"norm": "none"}}.items():
        for steps in (100, 30, 300) if setup == "AdamW" else (100,):
            yield {"kind": "range test", "setup": setup, "steps": steps}, settings
        for lr in (1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 10.0):
            yield {"kind": "run", "setup": setup, "base_lr": lr}, settings | {"lr": lr, "epochs": 6}


def lr_finder_run(seed: int, key: dict, settings: dict) -> dict:
    """Of a run: the columns of its whole epochs, and the loss of every step up to the one where it diverged."""
    trainer = make_trainer(seed, settings)
    if key["kind"] == "range test":
        test = ul.lr_range_test(trainer, num_iter=key["steps"])
        rounded = {name: [float(f"{v:.4g}") for v in getattr(test, name)] for name in ("lrs", "losses", "smoothed")}
        return rounded | {"suggestion": test.suggestion and float(f"{test.suggestion:.4g}"), "stopped": test.stopped}
    history = trainer.fit(settings["epochs"], verbose=None)
    losses = [float(f"{row['loss']:.3g}") for row in history.steps if math.isfinite(row["loss"])]
    return rounded_columns(history) | {"loss": losses, "diverged_at": len(losses) if trainer.diverged else None}


# Steps after which a run of each batch size is evaluated. All hold three epochs of 96 images and 48 steps.
EVALUATED = {
    1: (12, 24, 48, 96, 144, 192, 288, 384),
    4: (3, 6, 12, 24, 48, 72, 120, 168, 240),
    16: (1, 3, 6, 12, 18, 24, 36, 48, 72, 120),
    96: (1, 2, 3, 6, 12, 18, 24, 36, 48),
}


def batch_size() -> Iterator[tuple[dict, dict]]:
    """Four batch sizes at four constant rates, evaluated on training and validation images as they go."""
    for batch in EVALUATED:
        for lr in (1e-3, 3e-3, 1e-2, 3e-2):
            yield {"batch": batch, "lr": lr}, {"batch_size": batch, "lr": lr, "norm": "group"}


def batch_size_run(seed: int, key: dict, settings: dict) -> dict:
    """Epochs are too coarse a grid for large batches and small ones, so the steps are taken by hand.

    ``seconds``: processor time of the steps so far, evaluations left out.
    """
    trainer = make_trainer(seed, settings)
    train, val = (trainer.images, trainer.masks), (trainer.val_images, trainer.val_masks)
    generator = torch.Generator().manual_seed(seed)
    columns = {name: [] for name in ("step", "seconds", "train_loss", "val_loss", "val_dice")}
    seconds, batches = 0.0, []
    while trainer.step < EVALUATED[key["batch"]][-1]:
        batches = batches or list(torch.randperm(len(trainer.images), generator=generator).split(key["batch"]))
        started = time.process_time()
        trainer.train_step(batches.pop(0))
        seconds += time.process_time() - started
        if trainer.step in EVALUATED[key["batch"]]:
            scores = trainer.evaluate(val, batch_size=16)
            row = {"step": trainer.step, "seconds": round(seconds, 3), "val_loss": scores["loss"]}
            row |= {"val_dice": scores["dice"], "train_loss": trainer.evaluate(train, batch_size=16)["loss"]}
            for name, values in columns.items():
                values.append(float(DIGITS[name].format(row[name])) if name in DIGITS else row[name])
    return columns


def imbalance() -> Iterator[tuple[dict, dict]]:
    """Cells on 1 % of the pixels, many images empty: six losses, two of them also at a larger rate."""
    rare = {"foreground": 0.01, "val_images": 64, "epochs": 30}
    for name, loss, lr in [
        ("CE", "ce", 1e-3),
        ("Dice", "dice", 1e-3),
        ("CE + Dice", "compound", 1e-3),
        ("CE, weight 20", {"name": "ce", "class_weights": (1, 20)}, 1e-3),
        ("Dice", "dice", 3e-3),
        ("CE + Dice", "compound", 3e-3),
        ("CE + 3 Dice", {"name": "compound", "lambda_dice": 3}, 1e-3),
        ("CE + 0.3 Dice", {"name": "compound", "lambda_dice": 0.3}, 1e-3),
    ]:
        yield {"loss": name, "base_lr": lr, "settings": rare}, rare | {"loss": loss, "lr": lr}


def imbalance_run(seed: int, key: dict, settings: dict) -> dict:
    """After every epoch: Dice of the pooled pixels, and the share of the empty images with a false alarm."""
    trainer = make_trainer(seed, settings)
    trainer.watched = list(range(len(trainer.val_masks)))
    trainer.fit(settings["epochs"], verbose=False)
    truth, predictions = trainer.val_masks.bool(), trainer.watched_predictions.values()
    empty = ~truth.flatten(1).any(1)
    return {
        "pooled_dice": [round(ul.dice_score(p, truth.long(), reduction="pooled"), 3) for p in predictions],
        "false_alarms": [round(p[empty].bool().flatten(1).any(1).float().mean().item(), 3) for p in predictions],
    }


def monitor() -> Iterator[tuple[dict, dict]]:
    """Ten training images for 120 epochs, without and with flips and turns; every epoch is scored on test images too."""
    few = {"images": 10, "val_images": 20, "epochs": 120, "batch_size": 4, "lr": 3e-3, "scheduler": "constant"}
    few |= {"norm": "group", "loss": "ce", "optimizer": "adamw", "augment": None, "test_images": 100}
    flips = few | {"augment": "flips", "test_images": 200, "images_a_set": 5}
    for name, settings in {"No augmentation": few, "Flips and turns": flips}.items():
        yield {"run": name, "settings": settings}, settings


def monitor_run(seed: int, key: dict, settings: dict) -> dict:
    """Test images are scored after every epoch as well; in one run also each set of five of them, in thousandths of Dice."""
    trainer = make_trainer(seed, settings)
    test = load_scene("cells", size=DEFAULTS["size"], n=(1, 1, settings["test_images"])).test
    scores = []
    for epoch in range(1, settings["epochs"] + 1):
        trainer.fit(epoch, verbose=None)
        scores.append(trainer.evaluate(test, batch_size=50))
    tested = {f"test_{name}": [float(f"{row[name]:.4f}") for row in scores] for name in ("loss", "dice")}
    if "images_a_set" in settings:
        dice = np.array([row["dice_per_image"] for row in scores]).reshape(len(scores), -1, settings["images_a_set"])
        tested["sets"] = np.rint(1000 * dice.mean(2)).astype(int).T.tolist()  # (sets, epochs)
    return rounded_columns(trainer.history) | tested


TRICKS = {  # chapter 5: what is done otherwise than in the baseline
    "baseline": {},
    "flips and turns in training (chapter 2)": {"augment": "flips"},
    "test-time augmentation, 8 views": {},
    "moving average of the weights, 0.95": {"ema": 0.95},
    "deep supervision": {},
    "dropout 0.2 at the bottom": {},
    "weight decay 0.1 instead of 0.01": {"optimizer": {"name": "adamw", "weight_decay": 0.1}},
    "gradient clipping at 1": {"grad_clip": 1.0},
    "label smoothing 0.1": {},
    "bf16 instead of float32": {"precision": "bf16"},
    "2 batches of 4 accumulated": {"batch_size": 4, "accumulate": 2},
    "last layer set to the prior": {},
    "encoder trained on another laboratory": {},
    "average, dropout, decay, clipping, smoothing, prior at once": {
        "ema": 0.95,
        "optimizer": {"name": "adamw", "weight_decay": 0.1},
        "grad_clip": 1.0,
    },
}


def tricks() -> Iterator[tuple[dict, dict]]:
    """Each trick alone against the same baseline: cells of twelve scanners, scored on test images of others."""
    shared = {"images": 48, "test_images": 96, "groups": 12, "group_shift": 0.5, "lr": 1e-2, "scheduler": "one_cycle"}
    for trick, settings in TRICKS.items():
        yield {"trick": trick, "settings": shared | settings}, shared | {"precision": "fp32"} | settings


def tricks_run(seed: int, key: dict, settings: dict) -> dict:
    """The Dice of the last weights on the test images, and the processor time of training and of predicting these."""
    s, trick = DEFAULTS | settings, key["trick"]
    knobs = {"size": s["size"], "groups": s["groups"], "group_shift": s["group_shift"]}
    data = load_scene("cells", n=(s["images"], s["val_images"], s["test_images"]), seed=seed, **knobs)
    options = {name: s[name] for name in ("lr", "scheduler", "batch_size", "precision")}
    options |= {
        name: s[name] for name in ("augment", "ema", "optimizer", "grad_clip", "accumulate") if name in settings
    }
    loss = ul.CompoundLoss()
    started = time.process_time()
    torch.manual_seed(seed)
    model = ul.UNet(base_channels=8, depth=3, dropout=0.2 if "dropout" in trick else 0.0)
    if trick == "deep supervision":
        model = DeepSupervision(model)
        loss = model.loss(loss)
    if "smoothing" in trick:
        loss = smoothed_compound
    if "prior" in trick:
        model.set_output_prior([data.train.masks.float().mean()])
    if trick.startswith("encoder"):
        other = load_scene("cells", n=(192, 1, 1), seed=1000 + seed, **knobs)
        first = ul.Trainer(copy.deepcopy(model), other.train, other.val, device="cpu", seed=seed, **options)
        first.fit(s["epochs"], verbose=None)
        model.encoder.load_state_dict(first.model.encoder.state_dict())
    trainer = ul.Trainer(model, data.train, data.val, loss=loss, device="cpu", seed=seed, **options)
    trainer.fit(s["epochs"], verbose=None)
    trained = time.process_time()
    if trick.startswith("test-time"):
        probabilities = average_views(trainer.model, data.test.images.float() / 255)
        dice = ul.dice_score(probabilities[:, 0] > 0.5, data.test.masks)
    else:
        dice = ul.dice_score(trainer.predict(data.test.images), data.test.masks)
    predicted = time.process_time()
    return {
        "test_dice": round(dice, 4),
        "train_seconds": round(trained - started, 2),
        "predict_seconds": round(predicted - trained, 2),
    }


def smoothed_compound(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy on smoothed labels plus the Dice loss on the true ones."""
    return cross_entropy(logits, smooth_labels(targets, 0.1)) + ul.DiceLoss()(logits, targets)


def search() -> Iterator[tuple[dict, dict]]:
    """Rate and weight decay: a grid of five by five, and 25 random pairs from the same square; six epochs each."""
    shared = {"images": 48, "test_images": 96, "epochs": 6, "groups": 12, "group_shift": 0.5}
    grid = [(lr, decay) for lr in np.logspace(-4, 0, 5) for decay in np.logspace(-4, 0, 5)]
    random = 10 ** np.random.default_rng(0).uniform(-4, 0, (25, 2))
    for kind, trials in (("grid", grid), ("random", random)):
        for trial, (lr, decay) in enumerate(trials):
            pair = {"lr": float(f"{lr:.3g}"), "weight_decay": float(f"{decay:.3g}")}
            yield {"kind": kind, "trial": trial, "settings": shared} | pair, shared | pair


def search_run(seed: int, key: dict, settings: dict) -> dict:
    """Best validation Dice of a run, as a search sees it, and the test Dice of its last weights."""
    s = DEFAULTS | settings
    knobs = {"size": s["size"], "groups": s["groups"], "group_shift": s["group_shift"]}
    data = load_scene("cells", n=(s["images"], s["val_images"], s["test_images"]), seed=seed, **knobs)
    torch.manual_seed(seed)
    model = ul.UNet(base_channels=8, depth=3)
    optimizer = {"name": "adamw", "weight_decay": s["weight_decay"]}
    options = {"lr": s["lr"], "optimizer": optimizer, "batch_size": s["batch_size"], "scheduler": "cosine"}
    trainer = ul.Trainer(model, data.train, data.val, device="cpu", seed=seed, **options)
    history = trainer.fit(s["epochs"], verbose=None)
    return {
        "val_dice": round(max(history.column("val_dice")), 4),
        "test_dice": round(trainer.evaluate(data.test)["dice"], 4),
    }


QUICK = {"loss": "compound", "batch_size": 4, "lr": 1e-2}
LEDGER = {  # page, row: the row that it changes, and what is otherwise than in the baseline
    ("01", "as built"): (None, {}),
    ("02c", "Dice in the loss"): ("as built", {"loss": "compound"}),
    ("02c", "batches of 4"): ("Dice in the loss", {"loss": "compound", "batch_size": 4}),
    ("03c", "rate 0.01"): ("batches of 4", QUICK),
    ("03c", "falling to 0 (one-cycle)"): ("rate 0.01", QUICK | {"scheduler": "one_cycle"}),
    ("04b", "constant 0.01, for 36 epochs"): ("rate 0.01", QUICK | {"epochs": 36}),
    ("04b", "the same, patience 5, best kept"): ("constant 0.01, for 36 epochs", QUICK | {"epochs": 36, "patience": 5}),
    ("05a", "row 4, moving average"): ("rate 0.01", QUICK | {"ema": 0.95}),
    ("05a", "row 4, 8 views"): ("rate 0.01", QUICK | {"views": 8}),
    ("05c", "batches of 4 alone"): ("as built", {"batch_size": 4}),
    ("05c", "rate 0.01 alone"): ("as built", {"lr": 1e-2}),
}


def ledger() -> Iterator[tuple[dict, dict]]:
    """One small task through all chapters: what the last page of each of them changes, and in 05c two changes alone."""
    for (page, row), (against, changes) in LEDGER.items():
        yield {"page": page, "row": row, "against": against, "changes": changes}, changes


RECORDS = {
    "schedules": (schedules, schedule_run),
    "stopping": (stopping, lambda seed, key, settings: curves(seed, settings)),
    "lr_finder": (lr_finder, lr_finder_run),
    "batch_size": (batch_size, batch_size_run),
    "imbalance": (imbalance, imbalance_run),
    "monitor": (monitor, monitor_run),
    "tricks": (tricks, tricks_run),
    "search": (search, search_run),
    "ledger": (ledger, lambda seed, key, settings: the_ledger.train(seed, **settings)),
}


def make(name: str, folder: Path) -> None:
    plan, run = RECORDS[name]
    cells, seeds = list(plan()), MORE_SEEDS.get(name, SEEDS)
    head = {
        "what": plan.__doc__,
        "command": f"python course.py records {name}",
        "seeds": seeds,
        "settings": DEFAULTS | {"scene": "cells", "base_channels": 8, "depth": 3} | OTHER_SETTINGS.get(name, {}),
        "environment": environment(torch.device("cpu"), numpy=np.__version__, unetlab=ul.__version__),
    }
    path = folder / f"{name}.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    if {part: record.get(part) for part in head} != head:
        record = head | {"cpu_seconds": 0, "runs": []}
    keys = [key | {"seed": seed} for key, _ in cells for seed in seeds]
    record["runs"] = [r for r in record["runs"] if any(key.items() <= r.items() for key in keys)]
    for i, key in enumerate(keys):
        if any(key.items() <= r.items() for r in record["runs"]):
            continue
        print(f"{name} {i + 1} of {len(keys)}: {key}", flush=True)
        started = time.process_time()
        record["runs"].append(key | run(key["seed"], key, cells[i // len(seeds)][1]))
        record["cpu_seconds"] = round(record["cpu_seconds"] + time.process_time() - started)
        write(path, record)
    print(f"{path.name}: {len(keys)} runs, {record['cpu_seconds']} CPU-seconds, {path.stat().st_size / 1000:.0f} kB")


def write(path: Path, record: dict) -> None:
    """One line a run, so that a change can be read; whole at any moment, so that a killed command loses one run."""
    head = json.dumps({part: value for part, value in record.items() if part != "runs"}, indent=1)
    runs = ",\n".join(json.dumps(run, separators=(",", ":")) for run in record["runs"])
    write_atomically(path, f'{head[:-2]},\n "runs": [\n{runs}\n]}}\n'.encode())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(RECORDS)}; all if none is given")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write (default: notebooks/records)")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in RECORDS:
            parser.error(f"unknown record {name!r}: choose one of {', '.join(RECORDS)}")
    torch.set_num_threads(1)  # the digits depend on the number of threads
    for name in options.names or RECORDS:
        make(name, options.folder)


if __name__ == "__main__":
    main()

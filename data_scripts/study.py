"""The study of chapters 3 and 4: learning-rate schedules and early stopping for U-Net segmentation, over five seeds.

python course.py study                  makes notebooks/records/study.json (half an hour), and goes on where it stopped
python course.py study --verify 0.1     makes a random tenth of the recorded runs again and compares; writes nothing

Three data sets, six schedules, three base rates; then two other batch sizes on one of the sets. The runs go seed by
seed, so that a record that is not complete is balanced: it holds all of seed 0 before any of seed 1. The seed makes the
split (of the real sets; of the scene the pictures), the first weights, the order of the images and the augmentation.
So two runs with the same seed differ in nothing but what the study compares, and are compared in pairs.

After each epoch the network is scored on the validation images. When a run is over, the weights of every epoch are
scored on the test images too: no run and no rule sees these numbers, but they say what a stopping rule would have cost.
``notebooks/03e_study`` is the report.
"""

import argparse
import dataclasses
import functools
import hashlib
import itertools
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from make_records import DIGITS, FOLDER, write
from torch import Tensor
from torch.nn.functional import avg_pool2d

import unetlab as ul
from unetlab.datasets import Dataset, Split
from unetlab.files import DataError
from unetlab.history import environment
from unetlab.ingredients import choose_device

SEEDS = [0, 1, 2, 3, 4]
SETS = ["cells", "nuclei", "pets"]
RATES = [1e-3, 5e-3, 2.5e-2]
SCHEDULES = ["constant", "step", "cosine", "polynomial", "one_cycle", "plateau"]
OPTIONS = {"step": {"gamma": 0.1}, "polynomial": {"power": 0.9}, "plateau": {"factor": 0.1, "patience": 2}}
SETTINGS = {
    "size": 40,
    "images": [36, 24, 48],  # to train, validate, test; the sample of pets has only 22 to validate and 22 to test
    "epochs": 16,
    "base_channels": 8,
    "depth": 3,
    "norm": "batch",
    "optimizer": "adamw",
    "loss": "compound",
    "augment": "flips and quarter turns",
    "precision": "fp32",
}
BATCH = 4
OTHER_BATCHES = {"data": "nuclei", "batch": [2, 16], "schedule": ["constant", "cosine"]}
COLUMNS = ("train_loss", "val_loss", "val_dice", "lr")


def plan() -> Iterator[dict]:
    """What each run is, in the order in which they are made."""
    for seed in SEEDS:
        for data, lr, schedule in itertools.product(SETS, RATES, SCHEDULES):
            yield {"data": data, "schedule": schedule, "base_lr": lr, "batch": BATCH, "seed": seed}
    for seed in SEEDS:
        for batch, lr, schedule in itertools.product(OTHER_BATCHES["batch"], RATES, OTHER_BATCHES["schedule"]):
            yield {"data": OTHER_BATCHES["data"], "schedule": schedule, "base_lr": lr, "batch": batch, "seed": seed}


@functools.cache
def load(name: str, seed: int) -> Dataset:
    """A set, split by the seed. Nuclei are cut out twice as large and halved: at 40 px many patches would be empty."""
    size, count = SETTINGS["size"], tuple(SETTINGS["images"])
    if name != "nuclei":
        return ul.load_dataset(name, size=size, n=count, seed=seed)
    data = ul.load_dataset(name, size=2 * size, n=count, seed=seed)
    return dataclasses.replace(data, **{part: halved(getattr(data, part)) for part in ("train", "val", "test")})


def halved(split: Split) -> Split:
    """Half the height and width: each pixel of an image is the mean of four, each of a mask the first of four."""
    images = avg_pool2d(split.images.float(), 2).round().to(torch.uint8)
    return dataclasses.replace(split, images=images, masks=split.masks[:, ::2, ::2].contiguous())


def flips_and_turns(images: Tensor, masks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One of the eight views of a square, the same for all images of a batch. Nothing is interpolated."""
    view = int(torch.randint(8, (), generator=generator, device=generator.device))
    if view >= 4:
        images, masks = images.flip(-1), masks.flip(-1)
    return images.rot90(view % 4, (-2, -1)), masks.rot90(view % 4, (-2, -1))


def make_run(key: dict) -> dict:
    """Train once. The columns of the history, the test Dice of each epoch's weights, and whether the loss went astray."""
    data, s = load(key["data"], key["seed"]), SETTINGS
    torch.manual_seed(key["seed"])
    model = ul.UNet(data.in_channels, data.num_classes, s["base_channels"], s["depth"], s["norm"])
    trainer = ul.Trainer(
        model,
        data.train,
        data.val,
        loss=s["loss"],
        optimizer=s["optimizer"],
        lr=key["base_lr"],
        scheduler={"name": key["schedule"]} | OPTIONS.get(key["schedule"], {}),
        batch_size=key["batch"],
        augment=flips_and_turns,
        precision=s["precision"],
        seed=key["seed"],
    )
    history = trainer.fit(s["epochs"], verbose=None)
    whole = trainer.epoch  # a run that diverged was put back to the end of its last whole epoch
    columns = {name: history.column(name)[:whole] for name in COLUMNS}
    columns["test_dice"] = [0.0] * whole
    for epoch in range(whole, 0, -1):
        trainer.rewind(epoch)
        columns["test_dice"][epoch - 1] = trainer.evaluate(data.test, batch_size=16)["dice"]
    digits = DIGITS | {"test_dice": "{:.4f}"}
    return {name: [float(digits[name].format(v)) for v in values] for name, values in columns.items()} | (
        {"diverged": True} if trainer.diverged else {}
    )


def head() -> dict:
    """All that the numbers depend on. Raises DataError if a set is missing; the message says how to get it."""
    device = choose_device("auto")
    hardware = {"cpu": torch.backends.cpu.get_cpu_capability()} if device.type == "cpu" else {}
    return {
        "what": "Learning-rate schedules, base rates and batch sizes, over seeds; the test Dice after every epoch.",
        "command": "python course.py study",
        "seeds": SEEDS,
        "settings": SETTINGS | {"schedules": {name: OPTIONS.get(name, {}) for name in SCHEDULES}},
        "data": {name: describe(name) for name in SETS},
        "environment": environment(device, numpy=np.__version__, unetlab=ul.__version__, **hardware),
    }


def describe(name: str) -> dict:
    """How many images a set has in each part, and a checksum of its splits for all seeds."""
    splits = [(d.train, d.val, d.test) for d in (load(name, seed) for seed in SEEDS)]
    digest = hashlib.sha256()
    for split in itertools.chain(*splits):
        digest.update(split.images.numpy().tobytes() + split.masks.numpy().tobytes())
    return {"images": [len(split) for split in splits[0]], "sha256": digest.hexdigest()[:16]}


def is_run(run: dict, key: dict) -> bool:
    return key.items() <= run.items()


def read(path: Path, now: dict) -> dict:
    """The record so far. Raises SystemExit where its runs and new ones would not belong together."""
    if not path.exists():
        return now | {"cpu_seconds": 0, "runs": []}
    record = json.loads(path.read_text(encoding="utf-8"))
    if other := differences(record, now):
        sys.exit(
            f"{path}: its {len(record['runs'])} runs were made otherwise ({other}), and cannot be mixed with new ones. "
            "Move the file away to make all of them here, or compare with --verify 0.1"
        )
    return record


def differences(record: dict, now: dict) -> str:
    """What was not the same when the record was made, in words; empty if nothing was."""
    then = {part: record.get(part) for part in now}
    flat = [(f"{part} {name}", then[part], name) for part in ("settings", "data", "environment") for name in now[part]]
    changed = [(what, (old or {}).get(name), now[what.split()[0]][name]) for what, old, name in flat]
    return "; ".join(f"{what}: {old}, now {new}" for what, old, new in changed if old != new)


def make(path: Path) -> None:
    """Make what is missing, one run at a time; the file is written after each."""
    record, keys = read(path, head()), list(plan())
    for i, key in enumerate(keys, start=1):
        if any(is_run(run, key) for run in record["runs"]):
            continue
        started = time.process_time()
        record["runs"].append(key | make_run(key))
        record["cpu_seconds"] = round(record["cpu_seconds"] + time.process_time() - started, 1)
        write(path, record)
        print(f"{i} of {len(keys)}, {record['cpu_seconds']:.0f} CPU-seconds so far: {key}", flush=True)
    print(
        f"{path.name}: {len(keys)} runs, {record['cpu_seconds']:.0f} CPU-seconds, {path.stat().st_size / 1000:.0f} kB"
    )


def verify(path: Path, share: float) -> int:
    """Make a random share of the recorded runs again; 1 if the same machine gives another number, else 0."""
    record, now = json.loads(path.read_text(encoding="utf-8")), head()
    chosen = random.sample(record["runs"], max(round(share * len(record["runs"])), 1))
    worst = 0.0
    for i, run in enumerate(chosen, start=1):
        key = next(key for key in plan() if is_run(run, key))
        again = key | make_run(key)
        gap = max((abs(a - b) for a, b in zip(run["test_dice"], again["test_dice"], strict=False)), default=0.0)
        worst = max(worst, gap, float(again != run) * 1e-4)
        print(
            f"{i} of {len(chosen)}, {'the same' if again == run else f'test Dice differs by {gap:.4f}'}: {key}",
            flush=True,
        )
    if not worst:
        print(f"all {len(chosen)} runs gave the recorded numbers, to the last digit")
        return 0
    other = differences(record, now)
    print(f"test Dice differs by up to {worst:.4f}; " + (f"made otherwise ({other})" if other else "the same machine"))
    return 0 if other else 1


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verify", type=float, metavar="SHARE", help="make this share of the runs again and compare")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where study.json is (default: notebooks/records)")
    options = parser.parse_args(arguments)
    if options.verify is not None and not 0 < options.verify <= 1:
        parser.error(f"--verify takes a share above 0, at most 1, not {options.verify}")
    torch.set_num_threads(1)  # the digits depend on the number of threads
    path = options.folder / "study.json"
    if options.verify is not None and not path.exists():
        parser.error(f"{path} is not there: make it first, without --verify")
    try:
        if options.verify is not None:
            return verify(path, options.verify)
        make(path)
    except DataError as error:
        print(f"The study needs real data. {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

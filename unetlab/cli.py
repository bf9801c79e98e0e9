"""The command line: the same engine as the notebooks, for a learner's own pictures.

unetlab train --images DIR --masks DIR --out RUN_DIR     (or --data NAME for a set of the course)
unetlab train --resume RUN_DIR
unetlab predict --run RUN_DIR --images DIR --out DIR
unetlab data list | check
unetlab doctor
"""

import argparse
import json
import math
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from unetlab import checkpoint, plots
from unetlab.augment import AUGMENTATIONS, make_augment
from unetlab.classes import IGNORE
from unetlab.controls import Script
from unetlab.datasets import Dataset, load_folder, nearest, smoothed
from unetlab.doctor import check_setup
from unetlab.early_stopping import EarlyStopping
from unetlab.files import DataError, image_files, read_image
from unetlab.history import History
from unetlab.ingredients import LOSSES, choose_device
from unetlab.metrics import class_ids
from unetlab.model import UNet
from unetlab.realsets import available_datasets, load_dataset
from unetlab.schedulers import SCHEDULES
from unetlab.training import Trainer

RUN_FILES = ("config.json", "split.json", "history.json", "best.safetensors", "curves.png", "predictions.png")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 if all went well, 1 if training diverged or a check failed, 2 for wrong input, 130 if interrupted."""
    options = _parser().parse_args(arguments)
    warnings.showwarning = _show_warning
    try:
        return options.run(options)
    except (DataError, checkpoint.CheckpointError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _show_warning(message, category, *place) -> None:
    print(f"note: {message}", file=sys.stderr)


# ---------------------------------------------------------------------------------------------------------- train


def train(options) -> int:
    """Train a network, or go on with a run."""
    if options.resume:
        run_dir, config = Path(options.resume), _read_config(options.resume)
        data = _load(config)
        trainer = Trainer.resume(run_dir, data.train, data.val, device=options.device)
        print(f"{run_dir}: goes on after epoch {trainer.epoch} of {config['epochs']}")
    else:
        config = {name: getattr(options, name) for name in _TRAIN_DEFAULTS} | {
            "classes": _whole_number(options.classes)
        }
        _check_sources(options)
        run_dir = Path(options.out)
        _make_run_dir(run_dir, options.overwrite)
        data = _load(config)
        print(data)
        trainer = _make_trainer(config, data)
        config["model"] = trainer.model.config
        config["class_names"] = list(data.class_names)
        config["shape"] = list(data.train.images.shape[-2:])
        _write_json(run_dir / "config.json", config)
        _write_json(run_dir / "split.json", data.split_json())
    script = Script.from_json(config["moves"]) if config["moves"] else None
    history = trainer.fit(config["epochs"], script=script, run_dir=run_dir)
    return _report(run_dir, data, trainer, history)


def _check_sources(options) -> None:
    own = options.images is not None or options.masks is not None
    if own == (options.data is not None) or (own and None in (options.images, options.masks)):
        raise ValueError("say what to train on: --images DIR and --masks DIR, or --data NAME (see: unetlab data list)")
    if options.out is None:
        raise ValueError("say where the run shall live: --out RUN_DIR")


def _make_run_dir(run_dir: Path, overwrite: bool) -> None:
    if run_dir.exists() and any(run_dir.iterdir()):
        if not (run_dir / "config.json").exists():
            raise ValueError(f"{run_dir} is not empty and holds no run: choose another --out")
        if not overwrite:
            raise ValueError(f"{run_dir} holds a run already: --resume {run_dir} goes on, --overwrite starts anew")
        for old in [run_dir / name for name in RUN_FILES] + list(run_dir.glob("checkpoint-*.safetensors")):
            old.unlink(missing_ok=True)
    run_dir.mkdir(parents=True, exist_ok=True)


def _load(config: dict) -> Dataset:
    if config["data"]:
        return load_dataset(config["data"], size=config["size"], seed=config["seed"])
    return load_folder(
        config["images"],
        config["masks"],
        size=config["size"] or 256,
        val_fraction=config["val_fraction"],
        test_fraction=config["test_fraction"],
        groups=config["groups"],
        classes=config["classes"],
        seed=config["seed"],
    )


def _make_trainer(config: dict, data: Dataset) -> Trainer:
    torch.manual_seed(config["seed"])
    model = UNet(data.in_channels, data.num_classes, config["base_channels"], config["depth"])
    model.set_output_prior(_class_shares(data))
    stopping = None
    if config["patience"] is not None:
        stopping = EarlyStopping("val_dice", "max", config["patience"])
    crop = config["crop"] if 0 < config["crop"] < min(data.train.images.shape[-2:]) else None
    names = ("loss", "lr", "scheduler", "batch_size", "device", "precision", "seed")
    return Trainer(
        model,
        data.train,
        data.val,
        early_stopping=stopping,
        augment=make_augment(config["augment"], crop),
        grad_clip=1.0,
        **{name: config[name] for name in names},
    )


def _class_shares(data: Dataset) -> list[float]:
    """Share of each class in the training masks (of the foreground alone if there are two), none quite 0 or 1."""
    masks = data.train.masks[data.train.masks != IGNORE] if data.ignore_index is not None else data.train.masks
    counts = torch.bincount(masks.flatten().long(), minlength=len(data.class_names)).double()
    shares = (counts / counts.sum()).clamp(1e-3, 1 - 1e-3)
    return shares[1:].tolist() if data.num_classes == 1 else shares.tolist()


def _report(run_dir: Path, data: Dataset, trainer: Trainer, history: History) -> int:
    """Figures and a last line; the predictions are those of the best weights, also where training ended elsewhere."""
    if not len(history):
        print("no epoch was finished: nothing to report", file=sys.stderr)
        return 1
    (run_dir / "curves.png").write_bytes(plots.to_png(plots.plot_history(history)))
    weights, about = checkpoint.load_weights(run_dir / "best.safetensors")
    checkpoint.put_weights(trainer.model, weights, run_dir / "best.safetensors")
    scores = trainer.evaluate(data.val)
    figure = plots.plot_predictions(
        data.val.images,
        data.val.masks,
        trainer.predict(data.val.images),
        scores["dice_per_image"],
        ignore_index=data.ignore_index,
    )
    (run_dir / "predictions.png").write_bytes(plots.to_png(figure))
    print(
        f"\nBest epoch {about['epoch']}: validation Dice {scores['dice']:.3f}, IoU {scores['iou']:.3f} "
        f"(means over {len(data.val)} images).\n{run_dir} holds curves.png, predictions.png (worst first), history.json, "
        f"best.safetensors.\nNext: unetlab predict --run {run_dir} --images YOUR_IMAGES --out PREDICTIONS"
    )
    return 0 if all(math.isfinite(row["val_loss"]) for row in history.epochs) and not trainer.diverged else 1


# ---------------------------------------------------------------------------------------------------------- others


def predict(options) -> int:
    """Write a mask for every image of a folder: 0 and 255 for two classes, class ids for more."""
    run_dir, out = Path(options.run_dir), Path(options.out)
    config = _read_config(run_dir)
    device = choose_device(options.device)
    model = UNet(**config["model"]).to(device).eval()
    weights, _ = checkpoint.load_weights(run_dir / "best.safetensors")
    checkpoint.put_weights(model, weights, run_dir / "best.safetensors")
    files, root = image_files(options.images), Path(options.images)
    for path in files:
        image = read_image(path)
        small = smoothed(_to_channels(image, config["model"]["in_channels"]), config["shape"])
        batch = torch.from_numpy(small.copy()).movedim(-1, 0)[None].to(device).float() / 255
        with torch.inference_mode():
            ids = class_ids(model(batch))[0].to("cpu", torch.uint8).numpy()
        mask = nearest(ids, image.shape[:2]) * (255 if config["model"]["num_classes"] == 1 else 1)
        target = (out / path.relative_to(root)).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask.astype(np.uint8)).save(target)
    print(f"{len(files)} masks written to {out} ({', '.join(config['class_names'])})")
    return 0


def _to_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """(H, W, 1 or 3) with as many channels as the network takes; grey is the mean of the colours."""
    if image.shape[2] == channels:
        return image
    return np.repeat(image, 3, axis=2) if channels == 3 else image.mean(2, keepdims=True).round().astype(np.uint8)


def data_list(options) -> int:
    """The sets of the course, and where they were found."""
    print(f"{'name':13}{'area':16}{'kind':11}{'images':>7}  found in")
    for row in available_datasets():
        where = row.folder or ("always there" if row.kind == "synthetic" else "not here: set UNETLAB_DATA")
        print(f"{row.name:13}{row.area:16}{row.kind:11}{row.images or '':>7}  {where}")
        if row.kind == "real":
            print(f"{'':13}licence: {row.licence}")
    return 0


def data_check(options) -> int:
    """Read a set (or your own --images and --masks) and say what is in it."""
    if options.name:
        data = load_dataset(options.name)
    elif options.images and options.masks:
        data = load_folder(options.images, options.masks, groups=options.groups, classes=_whole_number(options.classes))
    else:
        raise ValueError("say what to check: a NAME (see: unetlab data list), or --images DIR --masks DIR")
    print(data)
    for note in data.notes:
        print(f"note: {note}")
    for name, split in (("train", data.train), ("val", data.val), ("test", data.test)):
        if len(split):
            counts = torch.bincount(split.masks.flatten().long(), minlength=256)
            shares = {c: counts[i].item() / counts.sum().item() for i, c in enumerate(data.class_names)}
            balance = ", ".join(f"{c} {share:.1%}" for c, share in shares.items())
            empty = int((split.masks == 0).flatten(1).all(1).sum())
            print(f"{name:5}  {len(split):4} images, {len(set(split.groups)):4} groups, {empty:3} empty;  {balance}")
    return 0


def doctor(options) -> int:
    """Say OK or FAIL for each thing the course needs."""
    return 0 if check_setup() else 1


def _read_config(run_dir: str | Path) -> dict:
    path = Path(run_dir) / "config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{run_dir} is not the folder of a run: it has no config.json") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} cannot be read ({error}): start the run again") from None


def _write_json(path: Path, content: dict) -> None:
    checkpoint.write_atomically(path, json.dumps(content, indent=1).encode() + b"\n")


def _whole_number(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.isdigit() else text


_TRAIN_DEFAULTS = {
    "data": (str, None, "a set of the course instead of your own pictures (see: unetlab data list)"),
    "images": (str, None, "folder of images"),
    "masks": (str, None, "folder of masks, one for each image, of the same name"),
    "epochs": (int, 60, "length of the run"),
    "lr": (float, 4e-3, "the highest learning rate"),
    "batch_size": (int, 8, "images a step"),
    "scheduler": (str, "one_cycle", f"one of {', '.join(SCHEDULES)}"),
    "patience": (int, None, "stop after so many epochs without a better validation Dice (default: train to the end)"),
    "loss": (str, "compound", f"one of {', '.join(LOSSES)}"),
    "size": (int, None, "longer side of the images in pixels (default: 256, or the set's own)"),
    "base_channels": (int, 8, "width of the network's first level"),
    "depth": (int, 4, "poolings of the network"),
    "val_fraction": (float, 0.2, "share of the images to validate on"),
    "test_fraction": (float, 0.0, "share of the images to put aside for a test"),
    "groups": (str, None, "CSV file (name,group) or regular expression: images of a group stay in one split"),
    "classes": (str, None, "number of classes, or a file with their names and colours (default: from the masks)"),
    "augment": (str, "standard", f"one of {', '.join(AUGMENTATIONS)}"),
    "crop": (int, 128, "side of the random windows to train on where the images are larger; 0 for whole images"),
    "seed": (int, 0, "of the split, the weights and the order of the images"),
    "device": (str, "auto", "auto, cpu, cuda or mps"),
    "precision": (str, "auto", "auto, fp32 or bf16"),
    "moves": (str, None, "JSON file of moves to make on the way (see unetlab.Script)"),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("unetlab", description="Train a U-Net on your own pictures.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run, parent=commands):
        sub = parent.add_parser(name, help=run.__doc__.splitlines()[0], description=run.__doc__)
        sub.set_defaults(run=run)
        return sub

    sub = command("train", train)
    for name, (kind, default, help_text) in _TRAIN_DEFAULTS.items():
        shown = "" if default is None else f" (default: {default})"
        sub.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, help=help_text + shown)
    sub.add_argument("--out", metavar="RUN_DIR", help="folder for the run")
    sub.add_argument("--overwrite", action="store_true", help="replace a run that is in RUN_DIR")
    sub.add_argument("--resume", metavar="RUN_DIR", help="go on where this run stopped, with the same settings")

    sub = command("predict", predict)
    sub.add_argument("--run", dest="run_dir", required=True, metavar="RUN_DIR")
    sub.add_argument("--images", required=True, metavar="DIR")
    sub.add_argument("--out", required=True, metavar="DIR")
    sub.add_argument("--device", default="auto")

    data = commands.add_parser("data", help="the data sets").add_subparsers(required=True, metavar="COMMAND")
    command("list", data_list, data)
    sub = command("check", data_check, data)
    sub.add_argument("name", nargs="?", metavar="NAME")
    for name in ("images", "masks", "groups", "classes"):
        sub.add_argument(f"--{name}", help=_TRAIN_DEFAULTS[name][2])

    command("doctor", doctor)
    return parser

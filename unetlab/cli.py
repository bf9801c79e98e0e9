"""The command line: the same engine as the notebooks, for a learner's own pictures.

unetlab train --images DIR --masks DIR --out RUN_DIR     (or --data NAME for a set of the course)
unetlab train --resume RUN_DIR
unetlab predict --run RUN_DIR --images DIR --out DIR
unetlab test --run RUN_DIR                               (once, at the end)
unetlab card RUN_DIR                                     (one page on the run, for others)
unetlab data list | fetch NAME | check NAME|DIR
unetlab class FOLDER                                     (the hands of a class: docs/teaching/class.md)
unetlab doctor
torchrun --standalone --nproc-per-node=2 -m unetlab train ...     the same run on several processes (docs/many.md)

Results go to the standard output; errors (``error: ...``, one line) and what had to be interpreted (``note: ...``) go to
the standard error. Exit codes: 0 if all went well, 1 if training diverged or a check failed, 2 for wrong input, 130 if
interrupted.
"""

import argparse
import contextlib
import difflib
import getpass
import io
import json
import math
import sys
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from PIL import Image, ImageColor

from unetlab import checkpoint, parallel, plots
from unetlab.augment import AUGMENTATIONS, make_augment
from unetlab.card import write_card
from unetlab.class_command import class_mode
from unetlab.classes import IGNORE
from unetlab.controls import Script, check_change
from unetlab.data_commands import data_check, data_fetch, data_list
from unetlab.datasets import Dataset, Notes, load_folder, smoothed
from unetlab.doctor import check_setup
from unetlab.early_stopping import EarlyStopping
from unetlab.files import folder_and_pattern, image_files, read_image
from unetlab.ingredients import LOSSES, choose_device
from unetlab.metrics import class_ids
from unetlab.model import UNet
from unetlab.realsets import load_dataset
from unetlab.scenes import SCENES
from unetlab.schedulers import SCHEDULES
from unetlab.training import Trainer

RUN_FILES = (
    "config.json",
    "split.json",
    "history.json",
    "best.safetensors",
    "curves.png",
    "predictions.png",
    "test.json",
    "card.md",
    "card.html",
)


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code (see above)."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            options = _parser().parse_args(arguments)
            return options.run(options)
        except (ValueError, OSError) as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            return 2
        except parallel.ProcessLost as error:
            print(f"error: {error}. To go on: start the same command with --resume RUN_DIR", file=sys.stderr)
            return 1
        except (MemoryError, torch.OutOfMemoryError):
            print(
                "error: out of memory: try a smaller --batch-size, --crop, --size or --base-channels", file=sys.stderr
            )
            return 2
        except KeyboardInterrupt:
            return 130


def _show_warning(message, category, *place) -> None:
    if parallel.rank() == 0:
        print(f"note: {message}", file=sys.stderr)


# ---------------------------------------------------------------------------------------------------------- train


def train(options) -> int:
    """Train a network, or go on with a run."""
    given = {name: getattr(options, name) for name in _SETTINGS if hasattr(options, name)}
    with parallel.processes_of_torchrun(given.get("device", "auto")):
        first = parallel.rank() == 0
        with contextlib.nullcontext() if first else contextlib.redirect_stdout(io.StringIO()):
            run = _resume(Path(options.resume), given) if options.resume else _begin(options, given)
    return _report(*run) if first else 0


def _begin(options, given: dict) -> tuple[Path, Dataset, Trainer]:
    config = {name: default for name, (_, default, _, _) in _SETTINGS.items()} | given
    if options.out is None:
        raise ValueError("say where the run shall live: --out RUN_DIR")
    _check_sources(config, given)
    run_dir = Path(options.out)
    if parallel.rank() == 0:
        _check_run_dir(run_dir, options.overwrite)
    data = _load(config, config["split"] and Path(config["split"]))
    print(data)
    trainer = _make_trainer(config, data)
    script = _read_script(config["moves"], trainer)
    config |= {
        "moves": script.moves,
        "model": trainer.model.config,
        "class_names": data.class_names,
        "shape": data.train.images.shape[-2:],
    }
    if parallel.rank() == 0:
        _make_run_dir(run_dir, config, data)
    trainer.fit(config["epochs"], script=script, run_dir=run_dir)
    return run_dir, data, trainer


def _resume(run_dir: Path, given: dict) -> tuple[Path, Dataset, Trainer]:
    if given.keys() - {"device"}:
        wrong = ", ".join(f"--{name.replace('_', '-')}" for name in given.keys() - {"device"})
        raise ValueError(f"--resume goes on with the settings of the run: leave out {wrong}")
    config = _read_config(run_dir)
    data = _load(config, run_dir / "split.json")
    device = _available(given.get("device", config["device"]))
    trainer = Trainer.resume(run_dir, data.train, data.val, device=device)
    if trainer.epoch >= config["epochs"] or trainer.history.stop_reason:
        why = trainer.history.stop_reason or f"all {config['epochs']} epochs are done"
        print(f"{run_dir} is finished: {why}")
    else:
        print(f"{run_dir}: goes on after epoch {trainer.epoch} of {config['epochs']}")
        trainer.fit(config["epochs"], script=Script(config["moves"]), run_dir=run_dir)
    return run_dir, data, trainer


def _check_sources(config: dict, given: dict) -> None:
    folders = [config[name] for name in ("images", "masks") if config[name] is not None]
    if len(folders) != (0 if config["data"] else 2):
        raise ValueError("say what to train on: --images DIR and --masks DIR, or --data NAME (see: unetlab data list)")
    if config["split"] and (config["data"] in SCENES or given.keys() & {"val_fraction", "test_fraction"}):
        raise ValueError(
            "--split takes the place of --val-fraction and --test-fraction, for files: scenes are drawn anew"
        )
    own = given.keys() & {"val_fraction", "test_fraction", "groups", "classes", "without_mask"}
    if config["data"] and own:
        wrong = ", ".join(f"--{name.replace('_', '-')}" for name in own)
        raise ValueError(f"{wrong}: only for your own --images and --masks; the sets of the course bring their split")


def _check_run_dir(run_dir: Path, overwrite: bool) -> None:
    """Nothing that is worth keeping may be in the way; a run without a whole epoch is not."""
    if run_dir.exists() and not run_dir.is_dir():
        raise ValueError(f"{run_dir} is a file: --out needs a folder")
    if run_dir.exists() and any(run_dir.iterdir()) and not (run_dir / "split.json").exists():
        raise ValueError(f"{run_dir} is not empty and holds no run: choose another --out")
    if any(run_dir.glob("checkpoint-*.safetensors")) and not overwrite:
        raise ValueError(f"{run_dir} holds a run already: --resume {run_dir} goes on, --overwrite starts anew")


def _make_run_dir(run_dir: Path, config: dict, data: Dataset) -> None:
    """Begin a run: what an older one left goes away only here, when all that can be checked was found right."""
    for old in [*(run_dir / name for name in RUN_FILES), *run_dir.glob("checkpoint-*.safetensors")]:
        old.unlink(missing_ok=True)
    for name, content in (("split.json", data.split_json()), ("config.json", config)):
        checkpoint.write_atomically(run_dir / name, json.dumps(content, indent=1).encode() + b"\n")


def _load(config: dict, split: Path | None = None) -> Dataset:
    """The data of a run; `split`, the split.json of this run or of another, decides whatever was added since."""
    if config["data"]:
        split = None if config["data"] in SCENES else split  # scenes are drawn anew
        data = load_dataset(config["data"], size=config["size"], seed=config["seed"], split=split)
    else:
        data = load_folder(
            config["images"],
            config["masks"],
            size=config["size"] or 256,
            val_fraction=config["val_fraction"],
            test_fraction=config["test_fraction"],
            groups=config["groups"],
            classes=config["classes"],
            seed=config["seed"],
            split=split,
            without_mask=config["without_mask"],
        )
    if data.class_names[0] == "background" and not (data.val.masks[data.val.masks != IGNORE] > 0).any():
        empty = f"no validation mask ({', '.join(data.val.names[:3])}) holds an object"
        remedy = "try another --seed or a larger --val-fraction"
        if data.num_classes > 1:
            raise ValueError(f"{empty}, so there is nothing to score: {remedy}")
        warnings.warn(f"{empty}, so a Dice of 1 will only mean that nothing was found: {remedy}", stacklevel=2)
    return data


def _make_trainer(config: dict, data: Dataset) -> Trainer:
    torch.manual_seed(config["seed"])
    if "model" in config:  # of a run that exists
        model = UNet(**config["model"])
    else:  # a grey value depends on lamp and stain: a grey picture is seen standardised too; a colour says what a thing is
        size, grey = (config["base_channels"], config["depth"]), data.in_channels == 1
        model = UNet(data.in_channels, data.num_classes, *size, standardise=grey)
    shares, loss = _class_shares(data), config["loss"]
    if data.num_classes > 1 and loss == "compound":
        weights = _class_weights(shares, data.class_names)
        loss = {"name": loss, "class_weights": weights}
        weighed = [share * weight for share, weight in zip(shares, weights, strict=True)]
        shares = [share / sum(weighed) for share in weighed]
    model.set_output_prior(shares, weight_scale=1.0)
    stopping = None
    if config["patience"] is not None:
        stopping = EarlyStopping("val_dice", "max", config["patience"])
    crop = config["crop"] if 0 < config["crop"] < min(data.train.images.shape[-2:]) else None
    names = ("lr", "scheduler", "batch_size", "precision", "seed")
    return Trainer(
        model,
        data.train,
        data.val,
        loss=loss,
        early_stopping=stopping,
        augment=make_augment(config["augment"], crop),
        grad_clip=1.0,
        ema=config["ema"] or None,
        device=_available(config["device"]),
        **{name: config[name] for name in names},
    )


def _class_shares(data: Dataset) -> list[float]:
    """Share of each class in the training masks (of the foreground alone if there are two), none quite 0 or 1."""
    ids = data.train.masks[data.train.masks != IGNORE].long()
    counts = torch.bincount(ids, minlength=len(data.class_names)).double()
    shares = (counts / counts.sum()).clamp(1e-3, 1 - 1e-3)
    return shares[1:].tolist() if data.num_classes == 1 else shares.tolist()


def _class_weights(shares: list[float], names: tuple[str, ...]) -> list[float]:
    """Rarer classes weigh more, by the square root, or a short run never dares them. Background does not count in the
    score that is to become good, so it is not weighed down: it weighs as the most common of the others."""
    weights = [share**-0.5 for share in shares]
    return [min(weights[1:]), *weights[1:]] if names[0] == "background" else weights


def _read_script(path: str | None, trainer: Trainer) -> Script:
    """The moves of a file, each checked now and not hours later, when its turn comes."""
    script = Script.from_json(path) if path else Script([])
    changes = [change for _, changes in script.moves for change in changes.items()]
    for name, value in changes:
        if name != "stop" and (name, value) != ("lr", None):
            try:
                check_change(name, value, trainer.controls.adjustable)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
    return script


def _report(run_dir: Path, data: Dataset, trainer: Trainer) -> int:
    """Figures, a last line and the exit code; the predictions are those of the best weights, wherever training ended."""
    history, best = trainer.history, run_dir / "best.safetensors"
    interrupted = (history.stop_reason or "").startswith("interrupted")
    diverged = trainer.diverged or not all(math.isfinite(row["val_loss"]) for row in history.epochs)
    if len(history):
        _save_figure(run_dir / "curves.png", plots.plot_history(history))
    if best.exists():
        trainer.restore_best()
        epoch = checkpoint.load_weights(best)[1]["epoch"]
        scores = trainer.evaluate(data.val)
        figure = plots.plot_predictions(
            data.val.images,
            data.val.masks,
            trainer.predict(data.val.images),
            scores["dice_per_image"],
            ignore_index=data.ignore_index,
            class_names=data.class_names,
        )
        _save_figure(run_dir / "predictions.png", figure)
        print(
            f"\nBest epoch {epoch}: validation {_in_words(scores, trainer)}.\n{run_dir} holds curves.png, "
            "predictions.png (worst first), history.json, best.safetensors.\n"
            + (f"To go on: unetlab train --resume {run_dir}\n" if interrupted else "")
            + f"Next: unetlab predict --run {run_dir} --images YOUR_IMAGES --out PREDICTIONS"
        )
    else:
        print("note: the run ended before its first good epoch: there are no weights to keep", file=sys.stderr)
    if interrupted:
        return 130
    return 1 if diverged or not best.exists() else 0


def _in_words(scores: dict, trainer: Trainer) -> str:
    """What ``evaluate`` found, and what it is a mean of; of several classes each, as a mean hides one that is missed."""
    count = len(scores["dice_per_image"])
    over = f"over {count} image{'s' * (count > 1)}"
    if trainer.reduction == "pooled":
        first = 0 if trainer.include_background else 1
        each = zip(trainer.class_names[first:], scores["dice_per_class"][first:], strict=True)
        each = [f"{name} {'absent' if math.isnan(dice) else f'{dice:.3f}'}" for name, dice in each]
        over = f"over the classes: {', '.join(each)}"
    return f"Dice {scores['dice']:.3f}, IoU {scores['iou']:.3f} (mean {over})"


def _save_figure(path: Path, figure: plt.Figure) -> None:
    path.write_bytes(plots.to_png(figure))
    plt.close(figure)


# ---------------------------------------------------------------------------------------------------------- others


def predict(options) -> int:
    """Write a mask for every image of a folder: 0 and 255 for two classes, class ids (in colours) for more."""
    run_dir, out = Path(options.run_dir), Path(options.out)
    config = _read_config(run_dir)
    colours = plots.class_colours(len(config["class_names"]))
    device = choose_device(_available(options.device))
    model = UNet(**config["model"]).to(device).eval()
    weights, _ = checkpoint.load_weights(run_dir / "best.safetensors")
    checkpoint.put_weights(model, weights, run_dir / "best.safetensors")
    target_of, notes = _targets(options.images, out, options.overwrite), Notes()
    for path, target in target_of.items():
        image = read_image(path, notes)
        small = smoothed(_to_channels(image, config["model"]["in_channels"]), config["shape"])
        batch = torch.from_numpy(small).movedim(-1, 0)[None].to(device).float() / 255
        with torch.inference_mode():
            # The logits are enlarged, not the classes: edges stay smooth.
            logits = F.interpolate(model(batch), size=image.shape[:2], mode="bilinear")
            ids = class_ids(logits)[0].to("cpu", torch.uint8).numpy()
        mask = Image.fromarray(ids)
        mask.putpalette([value for colour in colours for value in ImageColor.getrgb(colour)])
        target.parent.mkdir(parents=True, exist_ok=True)
        (mask.convert("L") if len(colours) == 2 else mask).save(target)
    for line in notes.lines():
        warnings.warn(line, stacklevel=2)
    print(f"{len(target_of)} masks written to {out} ({', '.join(config['class_names'])})")
    return 0


def test(options) -> int:
    """Score the best weights on the test split, and write down in RUN_DIR/test.json who opened it, and when."""
    run_dir = Path(options.run_dir)
    config = _read_config(run_dir)
    data = _load(config, run_dir / "split.json")
    if not len(data.test):
        raise ValueError(f"{run_dir} has no test split: train with --test-fraction")
    trainer = _make_trainer(config | {"device": options.device}, data)
    weights, _ = checkpoint.load_weights(run_dir / "best.safetensors")
    checkpoint.put_weights(trainer.model, weights, run_dir / "best.safetensors")
    scores, log = trainer.evaluate(data.test), run_dir / "test.json"
    opened = json.loads(log.read_text(encoding="utf-8")) if log.exists() else []
    if opened:
        often = "once" if len(opened) == 1 else f"{len(opened)} times"
        again = f"opened {often} before: if anything was chosen by it, its score flatters"
        warnings.warn(f"the test split was {again}", stacklevel=2)
    now = {"when": datetime.now().isoformat(timespec="seconds"), "who": getpass.getuser()}
    opened.append(now | {name: scores[name] for name in ("dice", "iou")})
    checkpoint.write_atomically(log, json.dumps(opened, indent=1).encode() + b"\n")
    print(f"Test {_in_words(scores, trainer)}; see {log}")
    return 0


def card(options) -> int:
    """Write the model card of a run: one page from its files, as Markdown and as HTML."""
    run_dir = Path(options.run_dir)
    text, page = write_card(run_dir, _read_config(run_dir))
    print(f"{text} and {page} written. What only you know goes into {run_dir / 'notes.md'}; then make the card again.")
    return 0


def _targets(images: str, out: Path, overwrite: bool) -> dict[Path, Path]:
    """The mask file of each image; none may take the place of another, of an image, or of what was there before."""
    root, _ = folder_and_pattern(images)
    if out.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"--out {out} lies in --images {root}, where masks would be taken for images: choose another")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: --out needs a folder")
    image_of: dict[Path, Path] = {}
    for path in image_files(images):
        target = (out / path.relative_to(root)).with_suffix(".png")
        if target in image_of:
            raise ValueError(f"{image_of[target]} and {path} would both become {target}: rename one of them")
        if target.exists() and not overwrite:
            raise ValueError(f"{target} is there already: choose another --out, or replace masks with --overwrite")
        image_of[target] = path
    return {path: target for target, path in image_of.items()}


def _to_channels(image, channels: int):
    """(H, W, 1 or 3) with as many channels as the network takes; grey is the mean of the colours."""
    if image.shape[2] == channels:
        return image
    return image.repeat(3, axis=2) if channels == 3 else image.mean(2, keepdims=True).round().astype("uint8")


def doctor(options) -> int:
    """Say OK or FAIL for each thing the course needs."""
    return 0 if check_setup() else 1


def _read_config(run_dir: Path) -> dict:
    path = run_dir / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        config.setdefault("without_mask", None)  # older runs do not know it
        missing = {*_SETTINGS, "model", "class_names", "shape"} - config.keys()
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{run_dir} is not the folder of a run: it has no config.json") from None
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}): train again with --out {run_dir} --overwrite") from None
    if missing:
        raise ValueError(f"{path} is not the configuration of a run: it has no {', '.join(sorted(missing))}")
    return config


def _available(device: str) -> str:
    """The name of the device. Raises ValueError if it is not there."""
    there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if device in there and not there[device]():
        raise ValueError(f"there is no {device} device here, or torch cannot use it: try --device cpu")
    return device


# --------------------------------------------------------------------------------------------------------- options


def _whole(least: int, most: int = 10**6) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isdecimal() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}, not {text!r}")
        return int(text)

    return parse


def _one_of(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            close = difflib.get_close_matches(text, names, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise argparse.ArgumentTypeError(f"{text!r} is unknown; {hint}There are {', '.join(names)}")
        return text

    return parse


def _classes(text: str) -> int | str:
    return int(text) if text.isdecimal() else text if text == "colours" else _path(text)


def _path(text: str) -> str:
    """An absolute path, so that a run can be resumed from anywhere."""
    return str(Path(text).absolute())


def _groups(text: str) -> str:
    return _path(text) if text.lower().endswith(".csv") else text


_DEVICES = _one_of("auto", "cpu", "cuda", "mps")
_SETTINGS = {  # name: (type, default, placeholder, help); together with what the data say they make config.json
    "data": (str, None, "NAME", "a set of the course instead of your own pictures (see: unetlab data list)"),
    "images": (_path, None, "DIR", "folder of images"),
    "masks": (_path, None, "DIR", "folder of masks, one for each image, of the same name; or 'DIR/*_labels.png'"),
    "epochs": (_whole(1), 50, "N", "length of the run"),
    "lr": (float, 4e-3, "X", "the highest learning rate"),
    "batch_size": (_whole(1), 4, "N", "images a step"),
    "scheduler": (_one_of(*SCHEDULES), "cosine", "NAME", f"one of {', '.join(SCHEDULES)}"),
    "patience": (_whole(0), None, "N", "stop after so many epochs without a better validation Dice (default: never)"),
    "loss": (_one_of(*LOSSES), "compound", "NAME", f"one of {', '.join(LOSSES)}; compound weighs rare classes up"),
    "size": (_whole(1), None, "N", "longer side of the images in pixels (default: 256, or the set's own)"),
    "base_channels": (_whole(1, 1024), 8, "N", "width of the network's first level"),
    "depth": (_whole(1, 8), 3, "N", "poolings of the network"),
    "val_fraction": (float, 0.2, "X", "share of the images to validate on"),
    "test_fraction": (float, 0.0, "X", "share of the images to put aside for a test"),
    "split": (_path, None, "FILE", "split.json of another run: the same pictures in each part, whatever the seed"),
    "groups": (_groups, None, "FILE|REGEX", "CSV (name,group) or expression: a group stays in one split"),
    "classes": (_classes, None, "N|colours|FILE", "their number, each colour one, or a file with names and colours"),
    "without_mask": (
        _one_of("skip", "empty"),
        None,
        "skip|empty",
        "images without a mask: leave them out, or take them as showing nothing",
    ),
    "augment": (_one_of(*AUGMENTATIONS), "standard", "NAME", f"one of {', '.join(AUGMENTATIONS)}"),
    "crop": (_whole(0), 128, "N", "side of random windows to train on, where images are larger; 0: whole images"),
    "ema": (float, 0.9, "X", "decay of the moving average of the weights, which is what is scored and kept; 0: none"),
    "seed": (_whole(0, 2**32 - 1), 0, "N", "of the split, the weights and the order of the images"),
    "device": (_DEVICES, "auto", "NAME", "auto, cpu, cuda or mps"),
    "precision": (_one_of("auto", "fp32", "bf16"), "auto", "NAME", "auto, fp32 or bf16"),
    "moves": (str, None, "FILE", "JSON file of moves to make on the way (see unetlab.Script)"),
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str):
        raise ValueError(f"{message} (see: {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("unetlab", description="Train a U-Net on your own pictures.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run, parent=commands):
        sub = parent.add_parser(name, help=run.__doc__.splitlines()[0], description=run.__doc__)
        sub.set_defaults(run=run)
        return sub

    def setting(sub, name: str, default):
        kind, usual, placeholder, text = _SETTINGS[name]
        text += "" if usual is None else f" (default: {usual})"
        sub.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, metavar=placeholder, help=text)

    sub = command("train", train)
    for name in _SETTINGS:
        setting(sub, name, default=argparse.SUPPRESS)  # only what is given: a resumed run must not hear of defaults
    sub.add_argument("--out", metavar="RUN_DIR", help="folder for the run")
    sub.add_argument("--overwrite", action="store_true", help="replace a run that is in RUN_DIR")
    sub.add_argument("--resume", metavar="RUN_DIR", help="go on where this run stopped, with the same settings")

    sub = command("predict", predict)
    sub.add_argument("--run", dest="run_dir", required=True, metavar="RUN_DIR", help="folder of the run")
    sub.add_argument(
        "--images", required=True, metavar="DIR", help="folder of images, subfolders included; or 'DIR/*.jpg'"
    )
    sub.add_argument("--out", required=True, metavar="DIR", help="folder for the masks, PNG files of the same names")
    sub.add_argument("--overwrite", action="store_true", help="replace masks that are in the folder")
    setting(sub, "device", default="auto")

    sub = command("test", test)
    sub.add_argument("--run", dest="run_dir", required=True, metavar="RUN_DIR", help="folder of the run")
    setting(sub, "device", default="auto")

    sub = command("card", card)
    sub.add_argument("run_dir", metavar="RUN_DIR", help="folder of the run")

    data = commands.add_parser("data", help="the data sets").add_subparsers(required=True, metavar="COMMAND")
    command("list", data_list, data)
    sub = command("fetch", data_fetch, data)
    sub.add_argument("name", metavar="NAME", help="a real set of the course")
    sub.add_argument(
        "--from", dest="source", metavar="PATH_OR_URL", help="a local archive or folder, or the address of a mirror"
    )
    sub = command("check", data_check, data)
    sub.add_argument(
        "name", nargs="?", metavar="NAME|DIR", help="a set of the course, or a folder with images/ and masks/"
    )
    for name in ("images", "masks", "groups", "classes", "without_mask"):
        setting(sub, name, default=None)
    sub.add_argument("--sheet", metavar="FILE", help="the contact sheet, a PNG (default: NAME_sheet.png, here)")

    sub = command("class", class_mode)
    sub.add_argument("folder", metavar="FOLDER", help="files of LiveLab.save_hand, subfolders included")
    sub.add_argument(
        "--finalists", type=_whole(1), default=8, metavar="N", help="hands to replay on other seeds (default: 8)"
    )
    sub.add_argument("--out", default="class.html", metavar="FILE", help="the page (default: class.html, here)")

    command("doctor", doctor)
    return parser

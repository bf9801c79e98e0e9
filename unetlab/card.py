"""The model card: one page that says what a run made, from what, how well, and where it must not be trusted.

Taught in ``05d_capstone``; the headings follow Mitchell et al. (2019), "Model cards for model reporting". All figures
are read from the files of the run, so the card cannot say more than the run did. What only its author knows (whom it is
for, what was tried before) is written by hand into ``notes.md`` and never overwritten.
"""

import base64
import json
import math
import shlex
from pathlib import Path

import mistune

from unetlab.checkpoint import write_atomically
from unetlab.files import folder_and_pattern
from unetlab.history import History
from unetlab.plots import describe_history
from unetlab.realsets import REAL_SETS
from unetlab.scenes import SCENES

NOTES = """\
## Intended use

Who shall use it, for which pictures? What must it not be used for?

## Budget and what was tried

The budget that you declared before the first run (runs, hours), and each run that you made: one change, its validation
Dice, kept or not.
"""
_FEW = 30  # below this many validation groups the mean moves visibly from draw to draw (04b_what_to_monitor)

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff }
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem; line-height: 1.2 } h2 { font-size: 1.15rem; margin: 1.6rem 0 .4rem; border-bottom: 1px solid #ccc }
table { border-collapse: collapse } td, th { text-align: left; vertical-align: top; padding: .15rem 1.2rem .15rem 0 }
th { font-weight: 600 } thead tr:not(:has(th:not(:empty))) { display: none } img { max-width: 100% } code { font-size: .9em }
@media print { body { font-size: 11px; margin: 0 } h2 { margin-top: .8rem } img { max-height: 8cm } }
"""


def write_card(run_dir: Path, config: dict) -> list[Path]:
    """Write ``card.md`` and ``card.html`` (one file, figures inside) into the folder of a run, and return their paths.

    Args:
        run_dir: a folder that ``unetlab train`` made; ``notes.md`` in it is put into the card, or made, to be filled in.
        config: its ``config.json``.

    Raises:
        ValueError: no epoch was finished, or a file of the run is damaged.
    """
    history, split, tests = _read(run_dir)
    notes = run_dir / "notes.md"
    if not notes.exists():
        notes.write_text(NOTES, encoding="utf-8")
    figures = {
        "curves.png": describe_history(history),
        "predictions.png": "Validation images with the lowest Dice, worst first: image, truth, prediction, errors.",
    }
    figures = {name: alt for name, alt in figures.items() if (run_dir / name).exists()}
    parts = [
        f"# Model card: {run_dir.resolve().name}",
        _table(_model(config, history)),
        notes.read_text(encoding="utf-8").strip(),
        "## Data",
        _table(_data(config, split)),
        "## How it was trained",
        _table(_training(config, history)),
        f"Again: `{_command(config)}`",
        "## How well it does",
        _table(_scores(config, history, tests)),
        *(f"![{alt}]({name})" for name, alt in figures.items()),
        "## Read with care",
        "\n".join(f"* {line}" for line in _cautions(config, history, split, tests)),
    ]
    text = "\n\n".join(parts) + "\n"
    page = mistune.create_markdown(escape=True, plugins=["table"])(text)
    for name in figures:
        data = base64.b64encode((run_dir / name).read_bytes()).decode()
        page = page.replace(f'src="{name}"', f'src="data:image/png;base64,{data}"')
    head = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Model card</title><style>{STYLE}</style>'
    )
    contents = {"card.md": text, "card.html": f"{head}</head><body>\n{page}</body></html>\n"}
    for name, content in contents.items():
        write_atomically(run_dir / name, content.encode())
    return [run_dir / name for name in contents]


def _read(run_dir: Path) -> tuple[History, dict, list[dict]]:
    """The history, the split, and each time the test split was opened."""
    path = run_dir / "history.json"
    try:
        history = History.from_json(path)
        path = run_dir / "split.json"
        split = json.loads(path.read_text(encoding="utf-8"))
        path = run_dir / "test.json"
        tests = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    except FileNotFoundError:
        raise ValueError(
            f"{run_dir} has no {path.name}: no epoch was finished, so there is nothing to report"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): train again, or take it from a copy") from None
    if not history.epochs:
        raise ValueError(f"{run_dir}: no epoch was finished, so there is nothing to report")
    return history, split, tests


# Each of these gives rows of a table: what, and the text beside it.


def _model(config: dict, history: History) -> list[tuple[str, str]]:
    model, (height, width) = config["model"], config["shape"]
    colours = "colour (3 channels)" if model["in_channels"] == 3 else f"{model['in_channels']} channel"
    network = f"U-Net of {model['base_channels']} base channels, depth {model['depth']}, {model['norm']} norm"
    return [
        ("Takes", f"pictures, {colours}, brought to {height}×{width} pixels"),
        ("Gives", f"a class for every pixel: {', '.join(config['class_names'])}"),
        ("Network", f"{network}; {history.environment['parameters']:,} parameters"),
        ("Weights", "`best.safetensors`; use them with `unetlab predict`"),
    ]


def _data(config: dict, split: dict) -> list[tuple[str, str]]:
    if config["data"]:
        source = f"the set `{config['data']}` of the course"
    else:
        source = f"`{folder_and_pattern(config['images'])[0].name}`"
    rows = [("Source", source)]
    if config["data"] in REAL_SETS:
        known = REAL_SETS[config["data"]]
        rows += [("Licence", known.licence), ("Please cite", known.citation)]
    for part, what in (("train", "Training"), ("val", "Validation"), ("test", "Test")):
        pictures, groups = len(split[part]["names"]), _groups(config, split, part)
        rows.append((what, f"{pictures} pictures of {groups} group{'s' * (groups > 1)}" if pictures else "none"))
    return [*rows, ("Split", f"by group, seed {split['seed']}; every picture is named in `split.json`")]


def _groups(config: dict, split: dict, part: str) -> int:
    """How many independent things a split shows: patients, tiles; the pictures of a scene are each drawn on their own."""
    return len(split[part]["names"] if config["data"] in SCENES else set(split[part]["groups"]))


def _training(config: dict, history: History) -> list[tuple[str, str]]:
    seconds = sum(row["seconds"] for row in history.epochs)
    spent = f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"
    crop = f", windows of {config['crop']} px" if 0 < config["crop"] < min(config["shape"]) else ""
    weighed = config["loss"] == "compound" and len(config["class_names"]) > 2
    machine, threads = history.environment, history.environment["threads"]
    place = f"{machine['device']}, {machine['precision']}, {threads} thread{'s' * (threads > 1)}"
    return [
        ("Loss", config["loss"] + (", rare classes weighed up" if weighed else "")),
        ("Learning rate", f"{config['lr']:g}, {config['scheduler']}; {_moves(history)}"),
        ("Batch", f"{config['batch_size']} pictures; augmentation {config['augment']}{crop}"),
        ("Weights", f"moving average, decay {config['ema']:g}" if config["ema"] else "those of the last step"),
        ("Length", f"{len(history)} of {config['epochs']} epochs, {len(history.steps)} steps, {spent}"),
        ("Ended", history.stop_reason or "after its last epoch"),
        ("Machine", f"{place}; seed {config['seed']}"),
        ("Versions", f"Python {machine['python']}, torch {machine['torch']}"),
    ]


def _moves(history: History) -> str:
    count = len(history.moves)
    return f"{count} move{'s' * (count != 1)} by hand" if count else "no move by hand"


def _scores(config: dict, history: History, tests: list[dict]) -> list[tuple[str, str]]:
    finite = [row for row in history.epochs if math.isfinite(row["val_dice"])]
    rows = []
    if finite:
        best = max(finite, key=lambda row: row["val_dice"])
        for when, row in (("best", best), ("last", finite[-1])):
            rows.append((f"Validation, {when} epoch ({row['epoch']})", _score(row["val_dice"], row["val_iou"])))
    for n, row in enumerate(tests, 1):
        when = (
            f"opened on {row['when'][:10]}" if len(tests) == 1 else f"opening {n} of {len(tests)}, {row['when'][:10]}"
        )
        rows.append((f"Test, {when}", _score(row["dice"], row["iou"])))
    pooled = history.environment.get("reduction") == "pooled"
    counted = "mean over the " + ("classes, each counted over all pictures" if pooled else "pictures") + " of a split"
    return [*rows, ("Counted as", counted)]


def _score(dice: float, iou: float) -> str:
    return f"Dice {dice:.3f}, IoU {iou:.3f}"


def _cautions(config: dict, history: History, split: dict, tests: list[dict]) -> list[str]:
    """What a reader must know before believing the scores; each line follows from the files."""
    lines = ["One run with one seed. Another seed gives another score: how different, only more runs tell."]
    lines.append("The weights kept are those of the best validation epoch, so the validation score flatters them.")
    groups = _groups(config, split, "val")
    if not split["test"]["names"]:
        lines.append("There is no test split: no score here is free of choice.")
    elif not tests:
        lines.append("The test split was not opened yet: `unetlab test` scores it, once, at the end.")
    elif len(tests) > 1:
        lines.append(f"The test split was opened {len(tests)} times: if anything was chosen by it, its score flatters.")
    if groups < _FEW:
        lines.append(
            f"Validation has {groups} group{'s' * (groups > 1)} only: a small difference between two runs may be chance."
        )
    if not config["data"] and config["groups"] is None:
        lines.append(
            "No groups were named: if several pictures show the same patient, tile or scene, the split leaks (`--groups`)."
        )
    if history.moves:
        lines.append("The run was steered by hand: `history.json` holds the moves, and `--moves` makes them again.")
    if history.stop_reason and not history.stop_reason.startswith("early"):
        lines.append(f"The run did not end as planned: {history.stop_reason}.")
    return lines


def _command(config: dict) -> str:
    """The command of the run; folders by name alone, as a card goes to others."""
    source = ["--data", config["data"]] if config["data"] else []
    for name in ("images", "masks"):
        source += [f"--{name}", Path(config[name]).name] if config[name] else []
    options = (
        "epochs",
        "lr",
        "batch_size",
        "scheduler",
        "loss",
        "augment",
        "crop",
        "ema",
        "base_channels",
        "depth",
        "seed",
    )
    more = [part for name in options for part in (f"--{name.replace('_', '-')}", str(config[name]))]
    for name in ("size", "patience", "groups", "split", "classes"):
        more += [f"--{name}", str(config[name])] if config[name] is not None else []
    return shlex.join(["unetlab", "train", *source, *more, "--out", "RUN_DIR"])


def _table(rows: list[tuple[str, str]]) -> str:
    """A Markdown table without a heading; a bar in a text would be a new column."""
    lines = [f"| {what} | {text.replace('|', chr(92) + '|')} |" for what, text in rows]
    return "\n".join(["| | |", "|---|---|", *lines])

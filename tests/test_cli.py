"""The command line, as a learner uses it: what a run leaves behind, kills and resumes, wrong input, predictions."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import KILL, differences, exit_code, process, squares, without_seconds

import unetlab as ul
from unetlab import checkpoint, cli
from unetlab.augment import AUGMENTATIONS
from unetlab.cli import main
from unetlab.datasets import Dataset, Split, split_by_group
from unetlab.ingredients import LOSSES
from unetlab.schedulers import SCHEDULES

TINY = ["--epochs", 2, "--base-channels", 2, "--depth", 1, "--size", 32, "--device", "cpu", "--batch-size", 8]
FIGURES = {"curves.png", "predictions.png"}
RUN = {"config.json", "split.json", "history.json", "best.safetensors", *FIGURES}


def save(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path)


def own_pictures(folder, n=10, size=32, channels=1):
    """A learner's own pictures: folder/images and folder/masks, bright squares, masks of 0 and 255."""
    images, masks = squares(n, size, channels)
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        save(image.movedim(0, -1).squeeze(-1), folder / "images" / f"{i:02}.png")
        save(mask * 255, folder / "masks" / f"{i:02}.png")
    return folder


def sources(folder):
    return ["--images", folder / "images", "--masks", folder / "masks"]


def read(path):
    return json.loads(Path(path).read_text())


def command(*arguments, **options):
    """The command in a process of its own, as in a terminal."""
    line = [sys.executable, "-m", "unetlab", *map(str, arguments)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return own_pictures(tmp_path_factory.mktemp("own"))


@pytest.fixture
def unetlab(capsys):
    """Run a command here; returns (exit code, standard output, standard error)."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def refused(unetlab):
    """The one line with which a command refuses."""

    def run(*arguments):
        code, _, err = unetlab(*arguments)
        errors = [line for line in err.splitlines() if not line.startswith("note: ")]
        assert code == 2, err
        assert len(errors) == 1 and errors[0].startswith("error: "), err
        return errors[0]

    return run


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    """A run of two epochs. Copy it before you change it."""
    run_dir = tmp_path_factory.mktemp("trained") / "run"
    assert main([*map(str, ["train", *sources(pictures), "--out", run_dir, *TINY, "--lr", 0.05])]) == 0
    return run_dir


@pytest.fixture(scope="module")
def skilled(pictures, tmp_path_factory):
    """A run that has learned to find squares. Its best epoch is not its last."""
    run_dir = tmp_path_factory.mktemp("skilled") / "run"
    (run_dir.parent / "moves.json").write_text('[[58, {"lr": 1}]]')
    options = ["--epochs", 30, "--batch-size", 4, "--lr", 0.05, "--augment", "none"]
    line = ["train", *sources(pictures), "--out", run_dir, *TINY, *options, "--moves", run_dir.parent / "moves.json"]
    assert main([*map(str, line)]) == 0
    return run_dir


def network_of(run_dir):
    """A trainer with the best weights of a run and with its data."""
    config = read(run_dir / "config.json")
    with warnings.catch_warnings(action="ignore"):
        data = ul.load_folder(config["images"], config["masks"], size=32)
    model = ul.UNet(**config["model"])
    checkpoint.put_weights(model, checkpoint.load_weights(run_dir / "best.safetensors")[0], "best")
    return ul.Trainer(model, data.train, data.val, device="cpu"), data


# --------------------------------------------------------------------------------------------------- what a run leaves


def test_what_a_run_leaves(unetlab, pictures, tmp_path):
    code, out, err = unetlab("train", *sources(pictures), "--out", tmp_path / "new" / "run", *TINY)
    run_dir = tmp_path / "new" / "run"
    assert code == 0
    assert err == "note: masks of 0 and 255: read as 0 (background) and 1 (foreground)\n"
    assert {path.name for path in run_dir.iterdir()} == RUN | {f"checkpoint-00000{i}.safetensors" for i in (1, 2)}

    history = read(run_dir / "history.json")
    columns = {"epoch", "train_loss", "val_loss", "val_dice", "val_iou", "lr", "seconds"}
    assert [row["epoch"] for row in history["epochs"]] == [1, 2]
    assert all(columns <= row.keys() for row in history["epochs"])
    assert history["moves"] == [] and history["environment"]["device"] == "cpu"
    config = read(run_dir / "config.json")
    assert (config["epochs"], config["loss"], config["model"]["base_channels"]) == (2, "compound", 2)
    assert config["class_names"] == ["background", "foreground"] and config["shape"] == [32, 32]
    split = read(run_dir / "split.json")
    names = [name for part in ("train", "val", "test") for name in split[part]["names"]]
    assert sorted(names) == [f"{i:02}.png" for i in range(10)]
    for figure in FIGURES:
        with Image.open(run_dir / figure) as picture:
            assert picture.format == "PNG" and min(picture.size) > 300

    weights, about = checkpoint.load_weights(run_dir / "best.safetensors")
    best = max(history["epochs"], key=lambda row: row["val_dice"])
    assert about["epoch"] == best["epoch"] and about["model"] == config["model"]
    assert f"Best epoch {best['epoch']}: validation Dice {best['val_dice']:.3f}, IoU {best['val_iou']:.3f}" in out
    assert f"unetlab predict --run {run_dir}" in out


def test_what_is_reported_are_the_best_weights(unetlab, skilled):
    trainer, data = network_of(skilled)
    scores, rows = trainer.evaluate(data.val), read(skilled / "history.json")["epochs"]
    best = max(rows, key=lambda row: row["val_dice"])
    assert best["val_dice"] > 0.8 and best != rows[-1]
    assert (scores["dice"], scores["iou"]) == pytest.approx((best["val_dice"], best["val_iou"]))
    out = unetlab("train", "--resume", skilled)[1]
    assert f"Best epoch {best['epoch']}: validation Dice {scores['dice']:.3f}" in out


LINES = list(zip(SCHEDULES, [*LOSSES] * 2, [*AUGMENTATIONS] * 3, strict=False))


@pytest.mark.parametrize(("scheduler", "loss", "augment"), LINES)
def test_every_scheduler_loss_and_augmentation(unetlab, pictures, tmp_path, scheduler, loss, augment):
    names = ["--scheduler", scheduler, "--loss", loss, "--augment", augment]
    code, _, err = unetlab("train", *sources(pictures), "--out", tmp_path / "run", *TINY, *names)
    assert code == 0 and "error" not in err
    rates = [row["lr"] for row in read(tmp_path / "run/history.json")["steps"]]
    expected = ul.schedule_preview(scheduler, 2, lr=4e-3) if scheduler != "plateau" else [4e-3, 4e-3]
    assert rates == pytest.approx(list(expected))


def test_those_were_all():
    for names, column in zip((SCHEDULES, LOSSES, AUGMENTATIONS), zip(*LINES, strict=True), strict=True):
        assert set(names) == set(column)


def test_bf16_and_other_numbers(unetlab, pictures, tmp_path):
    options = ["--precision", "bf16", "--batch-size", 3, "--lr", 0.01, "--scheduler", "constant", "--crop", 16]
    options += ["--seed", 7, "--val-fraction", 0.4, "--test-fraction", 0.2]
    code, out, _ = unetlab("train", *sources(pictures), "--out", tmp_path / "run", *TINY, *options)
    assert code == 0
    assert "465 parameters on cpu (bf16" in out and "4 training and 4 validation images of 1x32x32" in out
    history, split = read(tmp_path / "run/history.json"), read(tmp_path / "run/split.json")
    assert [row["lr"] for row in history["steps"]] == [0.01] * 4  # 2 steps an epoch
    assert [len(split[part]["names"]) for part in ("train", "val", "test")] == [4, 4, 2] and split["seed"] == 7


@pytest.mark.parametrize("seed", [0, 1])
def test_the_seed_decides(unetlab, pictures, trained, tmp_path, seed):
    options = [*TINY, "--lr", 0.05, "--seed", seed]
    assert unetlab("train", *sources(pictures), "--out", tmp_path / "run", *options)[0] == 0
    same = (tmp_path / "run/best.safetensors").read_bytes() == (trained / "best.safetensors").read_bytes()
    assert same == (seed == 0)


def test_patience(unetlab, pictures, tmp_path):
    options = [*TINY, "--epochs", 90, "--patience", 1, "--lr", 1e-9, "--scheduler", "constant"]
    code, out, err = unetlab("train", *sources(pictures), "--out", tmp_path / "run", *options)
    stopped = re.search(r"stopped: early stopping at epoch (\d+)", out)
    assert code == 0 and 2 <= int(stopped[1]) < 90
    assert len(read(tmp_path / "run/history.json")["epochs"]) == int(stopped[1])


def test_what_works_against_each_other_is_noted(unetlab, pictures, tmp_path):
    _, _, err = unetlab(
        "train", *sources(pictures), "--out", tmp_path / "run", *TINY, "--patience", 3, "--scheduler", "one_cycle"
    )
    assert re.search("^note: the one_cycle schedule .* early stopping may cut it off", err, re.MULTILINE)


def test_moves(unetlab, pictures, tmp_path):
    (tmp_path / "moves.json").write_text('[[1, {"lr": 0.5}], [3, {"lr": null, "weight_decay": 0}]]')
    line = ["train", *sources(pictures), *TINY, "--batch-size", 4, "--scheduler", "constant"]
    assert unetlab(*line, "--out", tmp_path / "run", "--moves", tmp_path / "moves.json")[0] == 0
    history = read(tmp_path / "run/history.json")
    assert [row["lr"] for row in history["steps"]] == [4e-3, 0.5, 0.5, 4e-3]
    assert [(move["step"], move["name"], move["new"]) for move in history["moves"]] == [
        (1, "lr", 0.5),
        (3, "lr", None),
        (3, "weight_decay", 0),
    ]
    # A history is a list of moves too: the run can be made again from its own record.
    assert unetlab(*line, "--out", tmp_path / "again", "--moves", tmp_path / "run/history.json")[0] == 0
    assert read(tmp_path / "again/history.json")["moves"] == history["moves"]
    assert (tmp_path / "again/best.safetensors").read_bytes() == (tmp_path / "run/best.safetensors").read_bytes()


@pytest.mark.parametrize("kind", ["expression", "table"])
def test_groups_stay_together(unetlab, pictures, tmp_path, kind):
    groups = r"^\d(\d)$"
    if kind == "table":
        groups = tmp_path / "groups.csv"
        groups.write_text("name,group\n" + "".join(f"{i:02}.png,patient {i % 5}\n" for i in range(10)))
    line = ["train", *sources(pictures), "--out", tmp_path / "run", *TINY, "--epochs", 1]
    assert unetlab(*line, "--groups", groups)[0] == 0
    split = read(tmp_path / "run/split.json")
    train, val = (set(split[part]["groups"]) for part in ("train", "val"))
    assert train and val and not train & val
    assert train | val == ({f"patient {i}" for i in range(5)} if kind == "table" else set("0123456789"))


def test_several_classes_in_colour(unetlab, tmp_path):
    own_pictures(tmp_path, channels=3)
    for i, path in enumerate(sorted((tmp_path / "masks").iterdir())):
        save(np.asarray(Image.open(path)) // 255 * (1 + i % 2), path)
    line = ["train", *sources(tmp_path), "--out", tmp_path / "run", *TINY, "--epochs", 1, "--seed", 1]
    code, out, err = unetlab(*line, "--classes", 3)
    assert code == 0 and "3 channels; background, class 1, class 2" in out
    assert re.search(r"validation Dice 0\.\d{3}, IoU 0\.\d{3} \(mean over the classes: class 1 \S+, class 2 \S+\)", out)
    network = read(tmp_path / "run/config.json")["model"]
    assert (network["in_channels"], network["num_classes"], network["standardise"]) == (3, 3, False)
    code, _, _ = unetlab("predict", "--run", tmp_path / "run", "--images", tmp_path / "images", "--out", tmp_path / "p")
    with Image.open(tmp_path / "p/00.png") as mask:
        assert mask.mode == "P" and set(np.unique(mask)) <= {0, 1, 2}
        assert mask.getpalette()[:9] == [0, 0, 0, 0x56, 0xB4, 0xE9, 0xF0, 0xE4, 0x42]  # black, blue, yellow


def test_of_several_classes_rare_ones_weigh_more():
    masks = torch.zeros(10, 20, 20, dtype=torch.uint8)
    masks[:, :2], masks[:, 2, :8] = 1, 2  # shares of 0.88, 0.1 and 0.02
    split = Split(torch.zeros(10, 3, 20, 20, dtype=torch.uint8), masks, [""] * 10, [""] * 10)
    config = {name: default for name, (_, default, _, _) in cli._SETTINGS.items()} | {"device": "cpu"}
    for first, weigh in (("land", [1.0, 8.8**0.5, 44**0.5]), ("background", [1.0, 1.0, 5**0.5])):
        data, weigh = Dataset("three", split, split, split, (first, "common", "rare")), torch.tensor(weigh)
        run = cli._make_trainer(config, data)
        weights, start = run.loss.class_weights, run.model.head.bias.softmax(0)
        torch.testing.assert_close(weights / weights[0], weigh)
        torch.testing.assert_close(start / start[0], torch.tensor([0.88, 0.1, 0.02]) * weigh / 0.88)
    assert cli._make_trainer(config | {"loss": "ce"}, data).settings["loss"] == "ce"


def test_masks_in_colours_with_pixels_that_do_not_count(unetlab, tmp_path):
    own_pictures(tmp_path)
    for path in (tmp_path / "masks").iterdir():
        mask = np.asarray(Image.open(path))
        colours = np.zeros((32, 32, 3), np.uint8)
        colours[mask == 255] = (255, 0, 0)
        colours[:4] = 255
        save(colours, path)
    (tmp_path / "classes.csv").write_text("name,colour\nbackground,#000000\ncar,#FF0000\nignore,#FFFFFF\n")
    classes = ["--classes", tmp_path / "classes.csv"]
    code, out, _ = unetlab("train", *sources(tmp_path), "--out", tmp_path / "run", *TINY, "--epochs", 1, *classes)
    assert code == 0 and "background, car" in out
    code, out, _ = unetlab("data", "check", *sources(tmp_path), *classes, "--sheet", tmp_path / "sheet.png")
    assert code == 0 and out.count("does not count 12.5%") == 2


def test_a_set_of_the_course(unetlab, tmp_path):
    code, out, err = unetlab("train", "--data", "cells", "--out", tmp_path / "run", *TINY, "--epochs", 1)
    assert code == 0 and err == "" and "96 train, 64 val, 64 test; 32x32 pixels" in out


def test_a_run_is_made_again_only_if_asked(unetlab, refused, pictures, tmp_path):
    line = ["train", *sources(pictures), "--out", tmp_path / "run", *TINY]
    assert unetlab(*line)[0] == 0
    before = (tmp_path / "run/history.json").read_bytes()
    assert refused(*line).endswith(f"--resume {tmp_path / 'run'} goes on, --overwrite starts anew")
    assert (tmp_path / "run/history.json").read_bytes() == before
    code, _, _ = unetlab(*line, "--overwrite", "--epochs", 1)
    assert code == 0 and len(read(tmp_path / "run/history.json")["epochs"]) == 1
    assert [path.name for path in (tmp_path / "run").glob("checkpoint*")] == ["checkpoint-000001.safetensors"]


def test_a_mistake_with_overwrite_costs_nothing(refused, pictures, trained, tmp_path):
    run_dir = shutil.copytree(trained, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in run_dir.iterdir()}
    refused("train", "--images", "missing", "--masks", "missing", "--out", run_dir, "--overwrite")
    refused("train", *sources(pictures), "--out", run_dir, "--overwrite", "--lr", "nan")
    assert {path.name: path.read_bytes() for path in run_dir.iterdir()} == before


# --------------------------------------------------------------------------------------- kill, resume, interrupt, diverge

LONGER = [*TINY, "--epochs", 6, "--batch-size", 4, "--lr", 0.02]  # 2 optimizer steps an epoch
WAYS = {
    "cosine and moves": ["--scheduler", "cosine", "--moves", "MOVES"],
    "one_cycle": ["--scheduler", "one_cycle"],
    "plateau and patience": ["--scheduler", "plateau", "--patience", 20],
}


def run_command(arguments, before_step):
    """The command, for a process of its own; `before_step` is called before each optimizer step."""
    train_step = ul.Trainer.train_step

    def step(run, indices):
        before_step(run.step)
        return train_step(run, indices)

    ul.Trainer.train_step = step
    sys.exit(main([str(argument) for argument in arguments]))


def die_before_the_eighth(step):
    if step == 7:
        os.kill(os.getpid(), KILL)


def take_a_while(step):
    time.sleep(0.1)


def what_counts(run_dir):
    """All that must be the same after a kill: history, best weights and the whole checkpoints; seconds left out."""
    states = {path.name: checkpoint.load_state(path) for path in sorted(run_dir.glob("checkpoint-*"))}
    weights, about = checkpoint.load_weights(run_dir / "best.safetensors")
    return {
        "history": without_seconds({"history": read(run_dir / "history.json")}),
        "best": weights | about,
        "states": {name: without_seconds(state) for name, state in states.items()},
        "figures": (run_dir / "predictions.png").read_bytes(),
    }


@pytest.mark.parametrize("way", WAYS)
def test_killed_and_resumed_equals_undisturbed(unetlab, pictures, tmp_path, way):
    (tmp_path / "moves.json").write_text('[[3, {"lr": 0.05}], [7, {"grad_clip": 0.1}], [9, {"lr": null}]]')
    options = [tmp_path / "moves.json" if option == "MOVES" else option for option in WAYS[way]]
    line = ["train", *sources(pictures), *LONGER, *options]
    assert unetlab(*line, "--out", tmp_path / "whole")[0] == 0
    killed = tmp_path / "killed"
    assert exit_code(process(run_command, [*line, "--out", killed], die_before_the_eighth)) == -KILL
    assert not (killed / "curves.png").exists()
    (tmp_path / "moves.json").unlink()  # the run has its own copy
    code, out, _ = unetlab("train", "--resume", killed)
    assert code == 0 and f"{killed}: goes on after epoch 3 of 6" in out
    assert differences(what_counts(tmp_path / "whole"), what_counts(killed)) == []


def wait_for_epochs(run_dir, epochs, is_alive):
    end = time.monotonic() + 120
    while time.monotonic() < end and is_alive():
        if (run_dir / "history.json").exists() and len(read(run_dir / "history.json")["epochs"]) >= epochs:
            return
        time.sleep(0.01)
    pytest.fail(f"{run_dir} never had {epochs} epochs")


def test_a_folder_in_use_and_a_kill_at_any_moment(unetlab, pictures, tmp_path):
    line = ["train", *sources(pictures), *LONGER]
    assert unetlab(*line, "--out", tmp_path / "whole")[0] == 0
    trainer, data = network_of(tmp_path / "whole")
    run_dir = tmp_path / "killed"
    child = process(run_command, [*line, "--out", run_dir], take_a_while)
    wait_for_epochs(run_dir, 2, child.is_alive)
    for _ in range(5):  # while it trains, the last whole checkpoint is used
        assert ul.Trainer.resume(run_dir, data.train, data.val).epoch >= 2
    child.kill()
    exit_code(child)
    (run_dir / ".checkpoint-000099.safetensors.1.tmp").write_bytes(b"half a file")  # what a kill may leave
    assert unetlab("train", "--resume", run_dir)[0] == 0
    assert differences(what_counts(tmp_path / "whole"), what_counts(run_dir)) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_ctrl_c_ends_cleanly_and_the_run_can_go_on(pictures, tmp_path):
    run_dir = tmp_path / "run"
    child = command("train", *sources(pictures), *LONGER, "--epochs", 100_000, "--out", run_dir)
    wait_for_epochs(run_dir, 3, lambda: child.poll() is None)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "Traceback" not in err and "error" not in err
    assert re.search(r"^stopped: interrupted in epoch \d+; the state is that of epoch \d+$", out, re.MULTILINE)
    assert f"To go on: unetlab train --resume {run_dir}" in out
    assert {path.name for path in run_dir.iterdir()} > RUN
    history = read(run_dir / "history.json")
    newest = max(run_dir.glob("checkpoint-*"))
    assert checkpoint.load_state(newest)["training"]["step"] // 2 in (
        len(history["epochs"]),
        len(history["epochs"]) - 1,
    )


def test_interrupted_and_resumed_equals_undisturbed(unetlab, pictures, tmp_path, monkeypatch):
    line = ["train", *sources(pictures), *LONGER]
    assert unetlab(*line, "--out", tmp_path / "whole")[0] == 0
    train_step = ul.Trainer.train_step

    def interrupted(run, indices):
        if run.step == 7:
            raise KeyboardInterrupt
        return train_step(run, indices)

    monkeypatch.setattr(ul.Trainer, "train_step", interrupted)
    assert unetlab(*line, "--out", tmp_path / "run")[0] == 130
    assert {path.name for path in (tmp_path / "run").iterdir()} > RUN
    monkeypatch.setattr(ul.Trainer, "train_step", train_step)
    assert unetlab("train", "--resume", tmp_path / "run")[0] == 0
    assert differences(what_counts(tmp_path / "whole"), what_counts(tmp_path / "run")) == []


def test_interrupted_before_the_first_epoch(unetlab, pictures, tmp_path, monkeypatch):
    def interrupted(run, indices):
        raise KeyboardInterrupt

    line = ["train", *sources(pictures), *TINY, "--out", tmp_path / "run"]
    with monkeypatch.context() as patch:
        patch.setattr(ul.Trainer, "train_step", interrupted)
        code, out, err = unetlab(*line)
    assert code == 130 and "there are no weights to keep" in err and "To go on" not in out
    assert unetlab(*line)[0] == 0  # nothing is in the way of another start


def test_resuming_a_finished_run_says_so_and_changes_nothing(unetlab, trained, tmp_path):
    run_dir = shutil.copytree(trained, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in run_dir.iterdir()}
    (run_dir / "curves.png").unlink()  # as if it was killed before the figures
    code, out, err = unetlab("train", "--resume", run_dir)
    assert code == 0 and f"{run_dir} is finished: all 2 epochs are done" in out
    assert {path.name: path.read_bytes() for path in run_dir.iterdir()} == before


def test_resuming_a_run_that_stopped_early(unetlab, pictures, tmp_path):
    options = [*TINY, "--epochs", 90, "--patience", 1, "--lr", 1e-9, "--scheduler", "constant"]
    assert unetlab("train", *sources(pictures), "--out", tmp_path / "run", *options)[0] == 0
    before = (tmp_path / "run/history.json").read_bytes()
    stopped = len(read(tmp_path / "run/history.json")["epochs"])
    code, out, _ = unetlab("train", "--resume", tmp_path / "run")
    assert code == 0 and f"{tmp_path / 'run'} is finished: early stopping at epoch {stopped}:" in out
    assert (tmp_path / "run/history.json").read_bytes() == before


def test_a_truncated_checkpoint_is_passed_over(unetlab, pictures, trained, tmp_path):
    run_dir = shutil.copytree(trained, tmp_path / "run")
    newest = run_dir / "checkpoint-000002.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    code, out, err = unetlab("train", "--resume", run_dir)
    assert code == 0 and f"{run_dir}: goes on after epoch 1 of 2" in out
    assert f"note: {newest} is not a whole safetensors file" in err and "trying the checkpoint before it" in err
    assert differences(what_counts(trained), what_counts(run_dir)) == []


def test_a_run_that_never_finished_an_epoch_may_be_started_again(unetlab, refused, trained, tmp_path):
    run_dir = shutil.copytree(trained, tmp_path / "run")
    for path in run_dir.glob("checkpoint-*"):
        path.unlink()
    assert refused("train", "--resume", run_dir) == f"error: {run_dir} holds no whole checkpoint: start the run again"
    config = read(run_dir / "config.json")
    line = ["train", "--images", config["images"], "--masks", config["masks"], "--out", run_dir, *TINY]
    assert unetlab(*line)[0] == 0


def test_what_cannot_be_resumed(refused, pictures, trained, tmp_path):
    assert refused("train", "--resume", tmp_path).endswith("is not the folder of a run: it has no config.json")
    assert "is not the folder of a run" in refused("train", "--resume", tmp_path / "missing")
    assert "is not the folder of a run" in refused("train", "--resume", trained / "history.json")
    run_dir = shutil.copytree(trained, tmp_path / "run")
    for content, message in (
        (b"", "is damaged"),
        ((trained / "config.json").read_bytes()[:300], "is damaged"),
        (b"\xff\xfe\x00", "is damaged"),
        (b"[1, 2]", "is damaged"),
        (b"{}", "is not the configuration of a run: it has no augment, base_channels"),
    ):
        (run_dir / "config.json").write_bytes(content)
        error = refused("train", "--resume", run_dir)
        assert f"{run_dir / 'config.json'} {message}" in error, error


def test_resume_takes_no_new_settings(refused, trained):
    error = refused("train", "--resume", trained, "--lr", 1, "--device", "cpu")
    assert error == "error: --resume goes on with the settings of the run: leave out --lr"
    assert "leave out --base-channels" in refused("train", "--resume", trained, "--base-channels", 8)  # the default


def test_resume_with_other_pictures(refused, tmp_path):
    own_pictures(tmp_path)
    assert main([str(a) for a in ["train", *sources(tmp_path), "--out", tmp_path / "run", *TINY]]) == 0
    save(np.zeros((32, 32), np.uint8), tmp_path / "images/00.png")
    assert "was trained on other data" in refused("train", "--resume", tmp_path / "run")


def test_resume_from_another_folder(unetlab, pictures, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(pictures)
    line = ["train", "--images", "images", "--masks", "masks", "--out", tmp_path / "run", *TINY]
    assert unetlab(*line)[0] == 0
    monkeypatch.chdir(tmp_path)
    assert unetlab("train", "--resume", "run")[0] == 0


def test_a_run_that_diverges_at_once(unetlab, pictures, tmp_path):
    code, out, err = unetlab("train", *sources(pictures), "--out", tmp_path / "run", *TINY, "--lr", 1e30)
    assert code == 1
    assert re.search("^note: the (validation )?loss became (nan|inf) .*Likely causes: the learning rate", err, re.M)
    assert "note: the run ended before its first good epoch: there are no weights to keep" in err
    assert "Traceback" not in err and "Next:" not in out
    assert (tmp_path / "run/history.json").exists() and not (tmp_path / "run/best.safetensors").exists()


def test_a_run_that_diverges_later_keeps_what_was_learned(unetlab, pictures, tmp_path):
    (tmp_path / "moves.json").write_text('[[7, {"lr": 1e30}]]')
    line = ["train", *sources(pictures), "--out", tmp_path / "run", *LONGER, "--moves", tmp_path / "moves.json"]
    code, out, err = unetlab(*line)
    assert code == 1 and "Likely causes: the learning rate is too high" in err
    history = read(tmp_path / "run/history.json")
    assert len(history["epochs"]) >= 3 and "became" in history["stop_reason"]
    assert {path.name for path in (tmp_path / "run").iterdir()} > RUN
    _, about = checkpoint.load_weights(tmp_path / "run/best.safetensors")
    assert f"Best epoch {about['epoch']}" in out and about["epoch"] <= 4
    assert unetlab("train", "--resume", tmp_path / "run")[0] == 1  # it does not get better


def test_stopped_by_a_move_before_the_first_epoch(unetlab, pictures, tmp_path):
    (tmp_path / "moves.json").write_text('[[0, {"stop": true}]]')
    line = ["train", *sources(pictures), "--out", tmp_path / "run", *TINY, "--moves", tmp_path / "moves.json"]
    code, out, err = unetlab(*line)
    assert code == 1 and "stopped by hand at step 0" in out and "there are no weights to keep" in err


# ------------------------------------------------------------------------------------------------------------ bad input


def without_a_mask(folder):
    (folder / "masks/03.png").unlink()
    return "03.png: 1 of 10 images have no mask in"


def mask_of_another_size(folder):
    save(np.zeros((20, 32), np.uint8), folder / "masks/03.png")
    return "images/03.png has 32 x 32 pixels, its mask .*masks/03.png has 32 x 20; make the mask from this very picture"


def value_outside_the_classes(folder):
    mask = np.asarray(Image.open(folder / "masks/03.png")).copy()
    mask[0, 0] = 7
    save(mask, folder / "masks/03.png")
    return r"masks/03.png: the mask holds 7, which is no class \(0, 255 are\)"


def truncated_image(folder):
    path = folder / "images/03.png"
    path.write_bytes(path.read_bytes()[:300])
    return "images/03.png: cannot be read .*; save it again as PNG, or take it out"


def text_called_png(folder):
    (folder / "images/03.png").write_text("not a picture")
    return "images/03.png: no picture that can be read here"


def no_images(folder):
    shutil.rmtree(folder / "images")
    (folder / "images").mkdir()
    return "images: no pictures here, it is empty"


def no_folder_of_images(folder):
    shutil.rmtree(folder / "images")
    return "images: there is no such folder"


def no_folder_of_masks(folder):
    shutil.rmtree(folder / "masks")
    return "masks: there is no such folder"


def a_file_for_a_folder(folder):
    shutil.rmtree(folder / "images")
    (folder / "images").write_text("")
    return "images: "


def a_single_image(folder):
    for path in folder.glob("*/0[1-9].png"):
        path.unlink()
    return "images: a single image; at least two are needed"


def empty_masks(folder):
    for path in (folder / "masks").iterdir():
        save(np.zeros((32, 32), np.uint8), path)
    return "masks/00.png: it and all other masks hold only the value 0; draw the objects in"


BAD_FOLDERS = [
    without_a_mask,
    mask_of_another_size,
    value_outside_the_classes,
    truncated_image,
    text_called_png,
    no_images,
    no_folder_of_images,
    no_folder_of_masks,
    a_file_for_a_folder,
    a_single_image,
    empty_masks,
]


@pytest.mark.parametrize("spoil", BAD_FOLDERS, ids=lambda f: f.__name__)
def test_bad_folders_are_named_with_the_remedy(refused, unetlab, tmp_path, spoil):
    message = spoil(own_pictures(tmp_path))
    assert re.search(message, refused("train", *sources(tmp_path), "--out", tmp_path / "run", *TINY))
    assert not (tmp_path / "run").exists()
    code, out, err = unetlab("data", "check", *sources(tmp_path), "--sheet", tmp_path / "sheet.png")
    one_by_one = message.replace(r" \(1 more files with errors\)", "").replace("1 of 10 images have no", "has no")
    assert code and re.search(one_by_one, out + err), out + err


def test_in_a_terminal_there_is_one_line_and_no_traceback(tmp_path):
    message = truncated_image(own_pictures(tmp_path))
    child = command("train", *sources(tmp_path), "--out", tmp_path / "run")
    out, err = child.communicate(timeout=120)
    assert child.returncode == 2 and out == ""
    assert re.fullmatch(f"error: .*{message}\n", err)


def test_images_and_masks_in_the_same_folder(unetlab, refused, pictures, tmp_path):
    error = refused("train", "--images", pictures / "images", "--masks", pictures / "images", "--out", tmp_path / "no")
    assert "10 of 10 images have no mask" in error
    for path in (pictures / "images").iterdir():
        shutil.copy(path, tmp_path / path.name)
        shutil.copy(pictures / "masks" / path.name, tmp_path / f"{path.stem}_mask.png")
    line = ["train", "--images", tmp_path, "--masks", tmp_path, "--out", tmp_path / "run", *TINY, "--epochs", 1]
    code, out, _ = unetlab(*line)
    assert code == 0 and "8 train, 2 val" in out


def test_pictures_of_every_kind(unetlab, tmp_path):
    """RGBA, 16 bits, a palette: the right numbers and a note, not an error."""
    own_pictures(tmp_path)
    images = tmp_path / "images"
    Image.open(images / "00.png").convert("RGBA").save(images / "00.png")
    save(np.asarray(Image.open(images / "01.png")).astype(np.uint16) * 200, images / "01.png")
    Image.open(images / "02.png").convert("P").save(images / "02.png")
    code, out, err = unetlab("train", *sources(tmp_path), "--out", tmp_path / "run", *TINY, "--epochs", 1)
    assert code == 0 and "1 channel;" in out  # all are grey at heart
    assert "note: the alpha channel was dropped (1 file, first 00.png)" in err
    assert "note: more than 8 bits, scaled to 8" in err


def test_the_smallest_sets(unetlab, tmp_path):
    two = own_pictures(tmp_path / "two", n=2)
    line = ["train", "--epochs", 1, "--base-channels", 2]
    assert unetlab(*line, *sources(two), "--out", tmp_path / "a", "--depth", 4, "--size", 7)[0] == 0
    dots = tmp_path / "dots"
    for i in range(6):
        save(np.full((1, 1), 40 * i, np.uint8), dots / "images" / f"{i}.png")
        save(np.full((1, 1), 255 * (i % 2), np.uint8), dots / "masks" / f"{i}.png")
    assert unetlab(*line, *sources(dots), "--out", tmp_path / "b", "--depth", 3, "--val-fraction", 0.5)[0] == 0


def test_validation_without_an_object(unetlab, refused, tmp_path):
    """Nothing to score: with several classes an error, with two a warning of the Dice that means nothing."""
    own_pictures(tmp_path)
    groups = [f"{i:02}.png" for i in range(10)]
    for name in (groups[i] for i in split_by_group(groups, 0.2)[1]):
        save(np.zeros((32, 32), np.uint8), tmp_path / "masks" / name)
    code, _, err = unetlab("train", *sources(tmp_path), "--out", tmp_path / "run", *TINY, "--epochs", 1)
    assert code == 0 and "so a Dice of 1 will only mean that nothing was found: try another --seed" in err
    for i, path in enumerate(sorted((tmp_path / "masks").iterdir())):
        save(np.asarray(Image.open(path)) // 255 * (1 + i % 2), path)
    error = refused("train", *sources(tmp_path), "--out", tmp_path / "other", *TINY)
    assert "holds an object, so there is nothing to score: try another --seed or a larger --val-fraction" in error


BAD_OPTIONS = {
    "--scheduler cosin": "did you mean 'cosine'?",
    "--loss dise": "did you mean 'dice'?",
    "--augment standart": "did you mean 'standard'?",
    "--precision fp16": "There are auto, fp32, bf16",
    "--device gpu": "There are auto, cpu, cuda, mps",
    "--epochs 0": "--epochs: must be a whole number from 1",
    "--epochs -1": "--epochs: must be a whole number from 1",
    "--epochs two": "not 'two'",
    "--epochs 1.5": "not '1.5'",
    "--batch-size 0": "--batch-size: must be a whole number from 1",
    "--patience -1": "--patience: must be a whole number from 0",
    "--size 0": "--size: must be a whole number from 1",
    "--size -4": "--size: must be a whole number from 1",
    "--crop -1": "--crop: must be a whole number from 0",
    "--base-channels 0": "--base-channels: must be a whole number from 1",
    "--depth 0": "--depth: must be a whole number from 1 to 8",
    "--depth 30": "--depth: must be a whole number from 1 to 8",
    "--seed -1": "--seed: must be a whole number from 0",
    "--lr nan": "lr must be a finite learning rate above 0, not nan",
    "--lr inf": "lr must be a finite learning rate above 0",
    "--lr 0": "lr must be a finite learning rate above 0",
    "--lr -1": "lr must be a finite learning rate above 0",
    "--lr high": "invalid float value: 'high'",
    "--val-fraction 0": "need val > 0",
    "--val-fraction 1": "val + test < 1",
    "--val-fraction nan": "need val > 0",
    "--test-fraction 0.9": "val + test < 1",
    "--classes 1": "must be 2 to 254",
    "--classes 3": "masks/00.png: the mask holds 255, which is no class",
    "--classes no-such-file": "no-such-file: cannot be read as text",
    "--groups no-such.csv": "no-such.csv: cannot be read as text",
    "--groups (": "neither a .csv file nor a regular expression",
    "--groups abc": "put (...) around the part of the name that is the group",
    "--groups ^(0)": "10 pictures in 1 group(s), but the split needs 2 groups",
    "--groups ^(x)": "00.png: no group found",
    "--moves no-such.json": "no-such.json is no list of moves",
    "--colour red": "unrecognized arguments: --colour red",
}


@pytest.mark.parametrize("option", BAD_OPTIONS)
def test_bad_options(refused, pictures, tmp_path, option):
    error = refused("train", *sources(pictures), "--out", tmp_path / "run", *TINY, *option.split())
    assert BAD_OPTIONS[option] in error
    assert not (tmp_path / "run").exists()


BAD_MOVES = {
    "nonsense": "is no list of moves",
    "5": "is no list of moves",
    '"abc"': "is no list of moves",
    "[[1]]": "is no list of moves",
    '[["a", {"lr": 1}]]': "is no list of moves",
    '{"epochs": []}': "is no list of moves",
    '{"moves": [{"step": 1}]}': "is no list of moves",
    '[[0, {"lrr": 1}]]': "moves.json: 'lrr' cannot be moved: choose one of lr, weight_decay, grad_clip",
    '[[0, {"lr": "high"}]]': "moves.json: lr must be a finite learning rate above 0, not 'high'",
    '[[0, {"lr": -1}]]': "moves.json: lr must be a finite learning rate above 0, not -1",
    '[[0, {"lr": NaN}]]': "moves.json: lr must be a finite learning rate above 0, not nan",
    '[[0, {"patience": 3}]]': "this run has no early stopping",
    '[[999, {"lrr": 1}]]': "moves.json: 'lrr' cannot be moved",  # now, not when its turn comes
}


@pytest.mark.parametrize("moves", BAD_MOVES)
def test_bad_moves(refused, pictures, tmp_path, moves):
    (tmp_path / "moves.json").write_text(moves)
    line = ["train", *sources(pictures), "--out", tmp_path / "run", *TINY, "--moves", tmp_path / "moves.json"]
    assert BAD_MOVES[moves] in refused(*line)
    assert not (tmp_path / "run").exists()


def test_bad_sources(refused, pictures, tmp_path, monkeypatch):
    out = ["--out", tmp_path / "run"]
    for given in ([], ["--images", "a"], ["--masks", "a"], ["--data", "cells", *sources(pictures)]):
        assert "say what to train on" in refused("train", *given, *out)
    assert "say where the run shall live" in refused("train", *sources(pictures))
    assert "there is no data set 'cels'. Did you mean 'cells'?" in refused("train", "--data", "cels", *out)
    assert "--groups: only for your own" in refused("train", "--data", "cells", "--groups", "(.)", *out)
    split = ["--split", tmp_path / "split.json", *out]
    assert "--split takes the place of" in refused("train", "--data", "cells", *split)
    assert "--split takes the place of" in refused("train", *sources(pictures), "--val-fraction", 0.3, *split)
    assert f"{tmp_path / 'split.json'}: " in refused("train", *sources(pictures), *split)
    monkeypatch.delenv("UNETLAB_DATA", raising=False)
    assert "unetlab data fetch nuclei" in refused("train", "--data", "nuclei", *out)


def test_bad_places_for_a_run(refused, pictures, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/config.json").write_text("mine")
    line = ["train", *sources(pictures), *TINY, "--overwrite", "--out"]
    assert refused(*line, tmp_path / "file").endswith("file is a file: --out needs a folder")
    assert refused(*line, tmp_path / "full").endswith("is not empty and holds no run: choose another --out")
    assert str(tmp_path / "file") in refused(*line, tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == (tmp_path / "full/config.json").read_text() == "mine"


def test_a_device_that_is_not_there(refused, pictures, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for line in (
        ["train", *sources(pictures), "--out", tmp_path / "run"],
        ["train", "--resume", trained],
        ["predict", "--run", trained, "--images", pictures / "images", "--out", tmp_path / "p"],
    ):
        assert "there is no cuda device here" in refused(*line, "--device", "cuda")


def test_out_of_memory(refused, pictures, tmp_path, monkeypatch):
    def hungry(run, indices):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20 GiB")

    monkeypatch.setattr(ul.Trainer, "train_step", hungry)
    error = refused("train", *sources(pictures), "--out", tmp_path / "run", *TINY)
    assert error == "error: out of memory: try a smaller --batch-size, --crop, --size or --base-channels"


@pytest.mark.parametrize("arguments", [[], ["trian"], ["data"], ["data", "lst"], ["predict", "--run", "x"]])
def test_bad_commands(refused, arguments):
    assert "--help" in refused(*arguments)


@pytest.mark.parametrize("arguments", [[], ["train"], ["predict"], ["data"], ["data", "check"], ["doctor"]])
def test_help(unetlab, capsys, arguments):
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--help"])
    assert end.value.code == 0 and "usage: unetlab" in capsys.readouterr().out


def test_every_option_of_the_design_is_there(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    for name in """images masks out epochs lr batch-size scheduler patience loss size base-channels depth val-fraction
        groups split classes augment seed device precision moves resume""".split():
        assert f"--{name} " in text


# -------------------------------------------------------------------------------------------------------------- predict


def test_predictions_equal_those_of_the_trainer(unetlab, pictures, skilled, tmp_path):
    code, out, err = unetlab("predict", "--run", skilled, "--images", pictures / "images", "--out", tmp_path / "p")
    assert (code, err) == (0, "") and out == f"10 masks written to {tmp_path / 'p'} (background, foreground)\n"
    trainer, data = network_of(skilled)
    expected = trainer.predict(data.train.images)
    assert 0 < expected.sum() < expected.numel()
    for name, ids in zip(data.train.names, expected, strict=True):
        mask = np.asarray(Image.open(tmp_path / "p" / name))
        np.testing.assert_array_equal(mask, ids.numpy() * 255)


def test_dark_pictures_are_understood_like_bright_ones(unetlab, pictures, skilled, tmp_path):
    for path in (pictures / "images").iterdir():
        save(np.asarray(Image.open(path)) // 2, tmp_path / "dark" / path.name)
    for images, out in ((pictures / "images", "bright_masks"), (tmp_path / "dark", "dark_masks")):
        assert unetlab("predict", "--run", skilled, "--images", images, "--out", tmp_path / out)[0] == 0
    for path in (tmp_path / "bright_masks").iterdir():
        bright, dark = (np.asarray(Image.open(folder / path.name)) for folder in (path.parent, tmp_path / "dark_masks"))
        assert (bright == dark).mean() > 0.97


def test_predictions_of_pictures_of_every_kind(unetlab, skilled, tmp_path):
    """Every size, mode and folder; each mask has the size of its picture and finds the square in it."""
    square = np.full((40, 60), 40, np.uint8)
    square[10:25, 20:40] = 230
    grey = Image.fromarray(square)
    kinds = {
        "grey.png": grey,
        "sub/dir/colour.png": grey.convert("RGB"),
        "mein Ordner/Bild äöü (1).png": grey,
        "alpha.png": grey.convert("RGBA"),
        "palette.png": grey.convert("P"),
        "deep.tif": Image.fromarray(square.astype(np.uint16) * 100),
        "photo.jpg": grey,
        "large.png": grey.resize((180, 120)),
        "small.png": grey.resize((15, 10)),
        "dot.png": grey.resize((1, 1)),
        "one.two.PNG": grey.transpose(Image.Transpose.ROTATE_90),
    }
    for name, picture in kinds.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "in" / name)
    code, out, err = unetlab("predict", "--run", skilled, "--images", tmp_path / "in", "--out", tmp_path / "out")
    assert code == 0 and f"{len(kinds)} masks" in out
    assert "note: the alpha channel was dropped (1 file, first alpha.png)" in err
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert written == {str(Path(name).with_suffix(".png").as_posix()) for name in kinds}
    for name, picture in kinds.items():
        mask = Image.open((tmp_path / "out" / name).with_suffix(".png"))
        assert mask.size == picture.size and mask.mode == "L" and set(np.unique(mask)) <= {0, 255}
    same = [np.asarray(Image.open(tmp_path / "out" / name)) for name in ("grey.png", "sub/dir/colour.png", "alpha.png")]
    np.testing.assert_array_equal(same[0], same[1])
    np.testing.assert_array_equal(same[0], same[2])
    found = np.asarray(Image.open(tmp_path / "out/large.png").resize((60, 40), Image.Resampling.NEAREST)) == 255
    assert (found == (square == 230)).mean() > 0.97
    large = np.asarray(Image.open(tmp_path / "out/large.png")).astype(int)
    edges = set(np.flatnonzero(np.diff(large, axis=1).any(axis=0)) + 1)
    assert edges - {math.ceil(k * 180 / 32) for k in range(32)}, "edges are as coarse as the network's pixels"


def test_a_grey_picture_for_a_network_of_colours(unetlab, tmp_path):
    own_pictures(tmp_path, channels=3)
    assert unetlab("train", *sources(tmp_path), "--out", tmp_path / "run", *TINY, "--epochs", 1)[0] == 0
    image = np.asarray(Image.open(tmp_path / "images/00.png").convert("L"))
    save(image, tmp_path / "in/a.png")
    save(np.repeat(image[..., None], 3, axis=2), tmp_path / "in/b.png")
    assert unetlab("predict", "--run", tmp_path / "run", "--images", tmp_path / "in", "--out", tmp_path / "out")[0] == 0
    masks = [np.asarray(Image.open(tmp_path / "out" / name)) for name in ("a.png", "b.png")]
    np.testing.assert_array_equal(*masks)


def test_masks_take_no_ones_place(unetlab, refused, pictures, trained, tmp_path):
    images = shutil.copytree(pictures / "images", tmp_path / "in")
    line = ["predict", "--run", trained, "--images", images]
    for out in (images, images / "masks", tmp_path / "x" / ".." / "in"):
        assert "where masks would be taken for images" in refused(*line, "--out", out)
    Image.open(images / "00.png").save(images / "00.jpg")
    error = refused(*line, "--out", tmp_path / "out")
    assert re.search("00.jpg and .*00.png would both become .*00.png: rename one of them", error)
    assert not (tmp_path / "out").exists()
    (images / "00.jpg").unlink()
    assert "masks/00.png is there already" in refused(*line, "--out", pictures / "masks")
    (tmp_path / "file").write_text("mine")
    assert refused(*line, "--out", tmp_path / "file").endswith("file is a file: --out needs a folder")
    for overwrite in ([], ["--overwrite"]):
        assert unetlab(*line, "--out", tmp_path / "out", *overwrite)[0] == 0


def test_what_cannot_be_predicted(refused, pictures, trained, tmp_path):
    def line(run=trained, images=pictures / "images"):
        return refused("predict", "--run", run, "--images", images, "--out", tmp_path / "out")

    assert "is not the folder of a run" in line(run=tmp_path)
    assert "there is no such folder" in line(images=tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    assert "no pictures here, it is empty" in line(images=tmp_path / "empty")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.png").write_bytes((pictures / "images/00.png").read_bytes()[:300])
    assert "bad/a.png: cannot be read" in line(images=tmp_path / "bad")
    assert not (tmp_path / "out").exists()


class Bomb:
    """What a stranger may put into a pickle."""

    def __reduce__(self):
        return os.mkdir, ("the bomb went off",)


def test_weights_that_cannot_be_trusted(refused, pictures, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_dir = shutil.copytree(trained, tmp_path / "run")
    best = run_dir / "best.safetensors"
    whole = best.read_bytes()

    def line():
        return refused("predict", "--run", run_dir, "--images", pictures / "images", "--out", tmp_path / "out")

    for length in (0, 5, 100, len(whole) - 1):
        best.write_bytes(whole[:length])
        assert f"{best} is not a whole safetensors file" in line()
    torch.save({"weights": Bomb()}, best)
    assert "a pickle, which is not opened because it could run code" in line()
    assert not (tmp_path / "the bomb went off").exists()
    checkpoint.save_weights(best, ul.UNet(base_channels=4, depth=1).state_dict())
    assert f"{best} belongs to another architecture" in line()
    best.unlink()
    assert f"{best} does not exist" in line()
    assert not (tmp_path / "out").exists()


# --------------------------------------------------------------------------------------------------------- test, split


def test_the_test_split_is_opened_and_that_is_written_down(unetlab, refused, pictures, trained, tmp_path):
    run_dir = tmp_path / "run"
    line = ["train", *sources(pictures), "--out", run_dir, *TINY, "--epochs", 1, "--test-fraction", 0.3]
    assert unetlab(*line)[0] == 0 and not (run_dir / "test.json").exists()
    code, out, err = unetlab("test", "--run", run_dir, "--device", "cpu")
    (first,) = read(run_dir / "test.json")
    assert code == 0 and f"Test Dice {first['dice']:.3f}" in out and "mean over 3 images" in out
    assert first["who"] and first["when"] and "opened" not in err
    code, out, err = unetlab("test", "--run", run_dir, "--device", "cpu")
    assert (
        code == 0
        and "opened once before" in err
        and [row["dice"] for row in read(run_dir / "test.json")] == [first["dice"]] * 2
    )
    assert "has no test split: train with --test-fraction" in refused("test", "--run", trained)
    assert unetlab(*line, "--overwrite")[0] == 0 and not (run_dir / "test.json").exists()


def test_a_run_is_tested_with_its_own_network(unetlab, pictures, tmp_path):
    """Also a run of another day, whose network was built otherwise."""
    options = ["--epochs", 20, "--batch-size", 4, "--lr", 0.05, "--augment", "none", "--test-fraction", 0.2]
    assert unetlab("train", *sources(pictures), "--out", tmp_path / "run", *TINY, *options)[0] == 0
    config = read(tmp_path / "run" / "config.json")
    assert config["model"]["standardise"]
    assert unetlab("test", "--run", tmp_path / "run")[0] == 0
    config["model"]["standardise"] = False
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    code, _, err = unetlab("test", "--run", tmp_path / "run")
    assert code == 2 and "best.safetensors" in err and "Traceback" not in err


def test_pictures_that_were_added_do_not_change_the_split_of_a_run(unetlab, tmp_path):
    own_pictures(tmp_path)
    run_dir, line = tmp_path / "run", ["train", *sources(tmp_path), *TINY]
    assert unetlab(*line, "--out", run_dir)[0] == 0
    own_pictures(tmp_path, n=16)
    code, _, err = unetlab("train", "--resume", run_dir)
    assert code == 0 and "6 groups that split.json does not name, left out (first 10.png)" in err
    assert unetlab(*line, "--out", tmp_path / "new")[0] == 0
    assert len(read(tmp_path / "new/split.json")["train"]["names"]) > len(
        read(run_dir / "split.json")["train"]["names"]
    )


def test_another_seed_with_the_split_of_a_run(unetlab, pictures, trained, tmp_path):
    line = ["train", *sources(pictures), *TINY, "--seed", 1, "--out"]
    assert unetlab(*line, tmp_path / "own")[0] == 0
    assert unetlab(*line, tmp_path / "same", "--split", trained / "split.json")[0] == 0
    parts = [read(run / "split.json")["val"] for run in (trained, tmp_path / "own", tmp_path / "same")]
    assert parts[0] == parts[2] != parts[1]
    rows = [read(run / "history.json")["epochs"] for run in (trained, tmp_path / "same")]
    assert rows[0][0]["train_loss"] != rows[1][0]["train_loss"]


# ------------------------------------------------------------------------------------------------------------- doctor


def test_doctor(unetlab, monkeypatch):
    _, out, err = unetlab("doctor")
    assert err == "" and re.search(r"^OK    Python +3\.", out, re.MULTILINE)
    for complete, expected in ((True, 0), (False, 1)):
        monkeypatch.setattr(cli, "check_setup", lambda complete=complete: complete)
        assert unetlab("doctor")[0] == expected

"""The model card says what the files of a run say, and warns of what they show."""

import json
import re
from pathlib import Path

import pytest

from unetlab.card import NOTES, write_card
from unetlab.cli import main
from unetlab.history import History, Move


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of two epochs on the synthetic cells, as the command line makes it."""
    run_dir = tmp_path_factory.mktemp("card") / "first|<b>run"
    small = "--size 32 --epochs 2 --base-channels 2 --depth 1 --batch-size 64 --augment none --lr 0.01".split()
    assert main(["train", "--data", "cells", *small, "--out", str(run_dir)]) == 0
    return run_dir


@pytest.fixture
def run(made, tmp_path):
    """A copy that a test may spoil: (folder, config)."""
    folder = tmp_path / made.name
    folder.mkdir()
    for path in made.iterdir():
        if not path.name.startswith("checkpoint"):
            (folder / path.name).write_bytes(path.read_bytes())
    return folder, json.loads((folder / "config.json").read_text())


def card_of(run) -> str:
    return write_card(*run)[0].read_text(encoding="utf-8")


def change(path: Path, edit) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(edit(content) or content))


def test_the_command_writes_both_and_says_where(run, capsys):
    assert main(["card", str(run[0])]) == 0
    said = capsys.readouterr().out
    assert all(str(run[0] / name) in said for name in ("card.md", "card.html", "notes.md"))


def test_scores_are_those_of_the_history(run):
    history, text = History.from_json(run[0] / "history.json"), card_of(run)
    best = max(history.epochs, key=lambda row: row["val_dice"])
    assert f"best epoch ({best['epoch']}) | Dice {best['val_dice']:.3f}, IoU {best['val_iou']:.3f}" in text
    assert f"last epoch (2) | Dice {history.epochs[-1]['val_dice']:.3f}" in text
    assert f"2 of 2 epochs, {len(history.steps)} steps" in text


def test_how_the_scores_were_counted_is_what_the_history_says(run):
    assert "| Counted as | mean over the pictures of a split |" in card_of(run)
    change(run[0] / "history.json", lambda history: history["environment"].update(reduction="pooled"))
    assert "| Counted as | mean over the classes, each counted over all pictures of a split |" in card_of(run)


def test_the_command_on_the_card_makes_the_same_run(run, tmp_path):
    command = re.search(r"Again: `unetlab (.*)`", card_of(run))[1].split()
    again = tmp_path / "again"
    assert main([str(again) if part == "RUN_DIR" else part for part in command]) == 0
    first, second = (History.from_json(folder / "history.json") for folder in (run[0], again))
    assert first.column("val_dice") == second.column("val_dice")


def test_the_page_stands_alone_and_runs_nothing(run):
    (run[0] / "notes.md").write_text("## Use\n\n<script>alert(1)</script>\n\nFor *cells*.", encoding="utf-8")
    page = write_card(*run)[1].read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2
    assert 'src="curves.png"' not in page
    assert "<script" not in page and "<b>run" not in page
    assert "<em>cells</em>" in page
    assert all(alt for alt in re.findall(r'<img [^>]*alt="([^"]*)"', page))


def test_notes_are_made_once_and_kept(run):
    assert "## Intended use" in card_of(run)
    assert (run[0] / "notes.md").read_text(encoding="utf-8") == NOTES
    (run[0] / "notes.md").write_text("## Intended use\n\nCounting cells, for teaching.", encoding="utf-8")
    assert "Counting cells, for teaching." in card_of(run)
    assert (run[0] / "notes.md").read_text(encoding="utf-8").endswith("for teaching.")


@pytest.mark.parametrize("opened", [0, 1, 2])
def test_how_often_the_test_split_was_opened(run, opened):
    record = [{"when": "2026-01-02T03:04:05", "who": "x", "dice": 0.5, "iou": 0.4}] * opened
    if opened:
        (run[0] / "test.json").write_text(json.dumps(record))
    text = card_of(run)
    assert ("was not opened yet" in text) == (opened == 0)
    assert ("| Test, opened on 2026-01-02 | Dice 0.500, IoU 0.400 |" in text) == (opened == 1)
    assert ("opened 2 times" in text and "opening 2 of 2" in text) == (opened == 2)


def test_without_a_test_split_no_score_is_free_of_choice(run):
    change(run[0] / "split.json", lambda split: split["test"].update(names=[], groups=[]))
    assert "There is no test split" in card_of(run)


def test_few_groups_and_groups_not_named(run):
    assert "only: a small" not in card_of(run)  # the pictures of a scene are independent
    change(run[0] / "split.json", lambda split: split["val"].update(groups=["a", "b"]))
    own = run[1] | {"data": None, "images": "/somewhere/images", "masks": "/somewhere/masks"}
    text = card_of((run[0], own))
    assert "Validation has 2 groups only" in text
    assert "No groups were named" in text
    assert "--images images" in text and "/somewhere" not in text


def test_moves_and_an_early_end_are_told(run):
    history = History.from_json(run[0] / "history.json")
    history.moves.append(Move(1, 1, "lr", 0.01, 0.02))
    history.stop_reason = "interrupted by the user"
    history.to_json(run[0] / "history.json")
    text = card_of(run)
    assert "1 move by hand" in text and "steered by hand" in text
    assert "did not end as planned: interrupted by the user" in text


def test_a_validation_dice_that_is_no_number_is_no_best(run):
    def spoil(record):
        record["epochs"][0]["val_dice"] = None

    change(run[0] / "history.json", spoil)
    assert "best epoch (2)" in card_of(run)


@pytest.mark.parametrize("name", ["history.json", "split.json", "test.json"])
def test_a_damaged_file_is_named(run, name):
    (run[0] / name).write_text("{")
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        write_card(*run)


def test_nothing_to_report(run, capsys):
    (run[0] / "history.json").unlink()
    with pytest.raises(ValueError, match="nothing to report"):
        write_card(*run)
    assert main(["card", str(run[0].parent)]) == 2
    assert "is not the folder of a run" in capsys.readouterr().err

"""The hands of a class: thirty files, some damaged or forged, played again, compared and drawn."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hands_of import EPOCHS, a_trainer, changed, played

import unetlab as ul
from unetlab import class_board, classroom
from unetlab.class_board import against_schedules, draw, headline, picture, to_html, to_text
from unetlab.classroom import Board, Curve, Row, collect, compare, make_board, run_all
from unetlab.cli import main
from unetlab.hands import read_hand

PUPILS = 25
NAMES = ["Ada", "陈伟", "$x_2$", "<b>Eve</b>", "Ada", None, None]
FORGED = ("forged", "moved", "truncated", "settings", "zz_copy")


def forge(folder):
    """Five files that are not what they say, made from honest ones."""
    for name, source in zip(FORGED, ("00", "01", "02", "03", "04"), strict=True):
        shutil.copy(folder / f"{source}.json", folder / f"{name}.json")

    def better(record):  # a better score, and a curve to go with it
        record["val_dice"][-1] = record["best_val_dice"] = 0.97
        record["moves"][0]["new"] *= 1.01  # not the moves of an honest file

    def another_rate(record):
        record["moves"][0]["new"] *= 7

    changed(folder / "forged.json", better)
    changed(folder / "moved.json", another_rate)
    (folder / "truncated.json").write_text((folder / "truncated.json").read_text()[:700])
    changed(folder / "settings.json", lambda record: record["game"]["trainer"].update(lr=0.5))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Thirty files: hands of 25 pupils, and five damaged or forged ones."""
    folder = tmp_path_factory.mktemp("class")
    rng = np.random.default_rng(0)
    data = ul.load_dataset("cells", size=16, n=(8, 4, 1))
    for i in range(PUPILS):
        moves = [(1, {"lr": float(10 ** rng.uniform(-3, -1))}), (5, {"lr": float(10 ** rng.uniform(-4, -2))})]
        session = played(moves, a_trainer(seed=i % 4, data=data))
        session.save_hand(folder / f"{i:02}.json", NAMES[i] if i < len(NAMES) else f"Pupil {i}")
    forge(folder)
    return folder


@pytest.fixture(scope="module")
def board(folder):
    return make_board(folder, finalists=4)


def command(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    written = capsys.readouterr()
    return code, written.out, written.err


# ------------------------------------------------------------------------------------------- thirty files, five of them bad


def test_every_bad_file_is_refused_with_its_reason(board, folder):
    why = {path.stem: text for path, text in board.refused.items()}
    assert set(why) == set(FORGED)
    assert re.fullmatch(
        r"edited: the file says 0.9700, its moves give 0.\d{4}, on the same kind of machine", why["forged"]
    )
    assert why["moved"].startswith("edited: the file says")
    assert "damaged, not JSON" in why["truncated"]
    assert why["settings"] == "another game than the 27 others: trainer lr is 0.5, not 0.001"
    assert why["zz_copy"] == "the very moves of 04.json: one of the two is a copy"


def test_every_honest_file_is_on_the_board_with_its_own_score(board, folder):
    rows = [row for row in board.finalists + board.others if row.is_hand]
    assert len(rows) == board.hands == PUPILS
    for row in rows:
        assert row.note == "exact"
        assert row.curve.score == json.loads(row.file.read_text())["best_val_dice"]
    assert {row.label for row in rows} >= {"Ada 1", "Ada 2", "no name 1", "no name 2", "<b>Eve</b>", "Pupil 24"}


def test_the_final_is_on_seeds_that_nobody_played(board):
    assert board.seeds == (100, 101, 102)
    assert classroom._fresh_seeds({100, 102, 7}) == (101, 103, 104)
    hands = [row for row in board.finalists if row.is_hand]
    schedules = [row for row in board.finalists if not row.is_hand]
    assert len(hands) == 4 and all(len(row.finals) == 3 for row in board.finalists)
    assert min(row.curve.score for row in hands) >= max(row.curve.score for row in board.others)
    assert {row.label for row in schedules} == {
        f"schedule: {name}" for name in ("constant", "step", "cosine", "warmup-cosine", "one-cycle")
    }
    means = [row.mean for row in board.finalists]
    assert means == sorted(means, reverse=True)


def test_schedules_play_with_the_settings_of_the_hands(board):
    row = next(row for row in board.finalists if row.label == "schedule: one-cycle")
    peaks = [read_hand(row.file) for row in board.finalists + board.others if row.is_hand]
    middle = np.median([max([0.001, *(move.new for move in hand.moves)]) for hand in peaks])
    assert board.lr in (0.001, 0.0032, 0.01, 0.032, 0.1) and 10**-0.26 < board.lr / middle < 10**0.26
    scores = [
        a_trainer(seed, scheduler="one_cycle", lr=board.lr).fit(EPOCHS, verbose=None).column("val_dice")
        for seed in board.seeds
    ]
    assert row.finals == tuple(max(curve) for curve in scores)


def test_what_was_replayed_is_remembered(board, folder, monkeypatch):
    def no_pool(*_, **__):
        raise AssertionError("a run was made again")

    monkeypatch.setattr(classroom, "ProcessPoolExecutor", no_pool)
    again = make_board(folder, finalists=4)
    assert to_text(again) == to_text(board)
    monkeypatch.setattr(classroom, "_code", lambda: "another version of the package")
    with pytest.raises(AssertionError, match="made again"):
        make_board(folder, finalists=4)


def test_runs_are_told_as_they_end_and_the_longest_begin_first(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("UNETLAB_CACHE", str(tmp_path))
    monkeypatch.setattr(classroom, "cores", lambda: 1)
    game = json.dumps(read_hand(folder / "00.json").game)
    jobs, told = [classroom.Job(game, seed=0, epochs=epochs) for epochs in (1, 3, 2)], []

    def progress(runs, stage, total):
        told.append((stage, total))
        for future in runs:
            told.append(len(future.result().val_dice))
            yield future

    assert {job.epochs: len(curve.val_dice) for job, curve in run_all(jobs, progress, "replays").items()} == {
        1: 1,
        2: 2,
        3: 3,
    }
    assert told == [("replays", 3), 3, 2, 1]
    assert len(run_all(jobs, progress)) == 3 and len(told) == 4  # remembered: nothing to tell


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a system that does not pin processes to cores")
def test_no_more_cores_than_the_process_may_use():
    mine = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(mine)})
        assert classroom.cores() == 1
    finally:
        os.sched_setaffinity(0, mine)
    assert classroom.cores() == len(mine)


def test_the_command(folder, board, tmp_path, capsys):
    code, out, err = command(capsys, "class", folder, "--finalists", 4, "--out", tmp_path / "board.html")
    assert code == 0 and err == ""
    assert out.count("REFUSED") == len(FORGED) and "Traceback" not in out
    assert to_text(board) in out
    assert (tmp_path / "board.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "board.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;Eve&lt;/b&gt;" in page and "<b>Eve" not in page and "<script" not in page
    assert "陈伟" in page and "truncated" not in page  # files are named in the terminal alone
    assert headline(board).split(".")[0] in page


@pytest.mark.parametrize(
    "files, words",
    [
        (None, "there is no such folder"),
        ({}, "holds 0 .json files"),
        ({"a.json": "{", "b.json": "[]"}, "none of its 2 files is a hand that can be played again"),
    ],
)
def test_a_folder_without_hands(files, words, tmp_path, capsys):
    folder = tmp_path / "hands"
    if files is not None:
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
    code, out, err = command(capsys, "class", folder, "--out", tmp_path / "class.html")
    assert (code, out) == (2, "") and err.startswith("error: ") and words in err and err.count("\n") == 1
    assert not (tmp_path / "class.html").exists()


def test_out_names_a_page(folder, tmp_path, capsys):
    for out in (tmp_path, tmp_path / "board.png"):
        code, _, err = command(capsys, "class", folder, "--out", out)
        assert code == 2 and "name a page, such as class.html" in err


def test_what_is_not_a_file_or_hidden_is_passed_over(folder, tmp_path):
    inner = tmp_path / "hands" / "ada"
    inner.mkdir(parents=True)
    shutil.copy(folder / "00.json", inner / "moves.json")
    (tmp_path / "hands" / "folder.json").mkdir()
    os.mkfifo(tmp_path / "hands" / "pipe.json")
    hidden = inner / ".ipynb_checkpoints"
    hidden.mkdir()
    shutil.copy(folder / "01.json", hidden / "moves.json")
    hands, refused = collect(tmp_path / "hands")
    assert list(hands) == [inner / "moves.json"] and not refused


def test_no_file_writes_to_the_terminal_what_it_likes(folder, tmp_path, capsys):
    inner = tmp_path / "hands"
    inner.mkdir()
    for i in (0, 1):
        shutil.copy(folder / f"0{i}.json", inner)
    os.rename(inner / "01.json", os.fsencode(inner) + b"/\xff\x1b[2J.json")
    (inner / "moves.json").write_text(
        json.dumps({"unetlab_hand": 1, "game": None, "why_no_game": "\x1b[2J\n\ud800" * 99})
    )
    shutil.copy(folder / "02.json", inner)
    changed(inner / "02.json", lambda record: record["game"]["trainer"].update(loss="\x1b[31m\ud800"))
    code, out, _ = command(capsys, "class", inner, "--finalists", 1, "--out", tmp_path / "class.html")
    assert code == 0 and out.encode() and "\x1b" not in out and out.count("REFUSED") == 2
    assert all(len(line) < 400 for line in out.splitlines())


def test_settings_that_make_no_run_are_a_line(folder, tmp_path, monkeypatch):
    """Entries that only the trainer itself can judge."""
    for loss in ("nothing", {"name": "tversky", "alpha": "much"}, {"name": "dice", "smooth": [[]]}):
        shutil.copy(folder / "00.json", tmp_path / "00.json")
        changed(tmp_path / "00.json", lambda record, loss=loss: record["game"]["trainer"].update(loss=loss))
        hand = read_hand(tmp_path / "00.json")
        job = classroom.Job(json.dumps(hand.game), hand.seed, hand.epochs, hand.moves)
        with pytest.raises(ValueError, match="its settings make no run") as error:
            classroom.run(job)
        assert "\n" not in str(error.value)


def test_a_process_that_dies_is_said(monkeypatch):
    monkeypatch.setattr(classroom, "_alone", os.abort)
    with pytest.raises(ValueError, match="ended without an answer"):
        run_all([classroom.Job("{}", 0, 1)])


KILLED = """
import multiprocessing, os
from concurrent.futures import ProcessPoolExecutor
from unetlab.classroom import _alone

pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_alone)
pool.submit(os.getpid).result()
os._exit(0)
"""


def test_what_makes_runs_does_not_outlive_the_command():
    command = [sys.executable, "-c", KILLED]
    subprocess.run(command, check=True, capture_output=True, timeout=120)  # waits for all that hold its output


# ------------------------------------------------------------------------------------- what a replay must reproduce


def curve(values, lr=(0.1,)):
    return Curve(np.array(values), np.array(lr))


def test_on_the_same_kind_of_machine_every_digit_must_agree(folder):
    hand = read_hand(folder / "00.json")
    assert compare(hand, curve(hand.val_dice)) == "exact"
    almost = np.array(hand.val_dice) + [0, 0, 1e-4, 0]
    with pytest.raises(ValueError, match="edited: .* on the same kind of machine"):
        compare(hand, curve(almost))
    with pytest.raises(ValueError, match="edited"):
        compare(hand, curve(hand.val_dice[:-1]))


def test_on_another_machine_the_best_dice_must_agree_within_a_tolerance(folder, tmp_path):
    shutil.copy(folder / "00.json", tmp_path / "hand.json")
    changed(tmp_path / "hand.json", lambda record: record["environment"].update(device="cuda", precision="bf16"))
    hand = read_hand(tmp_path / "hand.json")
    near, far = (np.array(hand.val_dice) - less for less in (0.015, 0.03))
    assert compare(hand, curve(near)) == "to 0.015 (other device and precision)"
    assert compare(hand, curve(hand.val_dice)) == "exact"
    with pytest.raises(ValueError, match=r"more than 0.02, which another machine explains \(other device"):
        compare(hand, curve(far))


# --------------------------------------------------------------------------------------------- who leads, in words


def a_board(board, **finals):
    """A board with these finals; names that begin with an underscore are schedules."""
    file = next(iter(board.refused))
    rows = [
        Row(name.replace("_", "schedule: ", 1), curve([0.5] * EPOCHS), tuple(scores), None if name[0] == "_" else file)
        for name, scores in finals.items()
    ]
    rows.sort(key=lambda row: -row.mean)
    return Board(board.game, board.seeds, board.lr, rows, [], {})


def test_a_lead_inside_the_spread_is_none(board):
    close = a_board(board, Ada=(0.90, 0.92, 0.88), Bob=(0.85, 0.89, 0.84), _cosine=(0.80, 0.81, 0.82))
    assert headline(close) == "Nobody leads. 2 cannot be told apart on 3 seeds: Ada, Bob."
    assert "Of 2 hands in the final 2 beat it, 0 lie below it; 0 cannot be told from it." in against_schedules(close)
    assert [class_board._standing(row, close) for row in close.finalists] == [
        "no lead",
        "tied with the first",
        "behind",
    ]


def test_a_lead_is_one_if_all_runs_lie_above(board):
    clear = a_board(board, Ada=(0.90, 0.92, 0.895), Bob=(0.85, 0.89, 0.84), _cosine=(0.86, 0.88, 0.87))
    assert headline(clear).startswith("Ada leads: every one of its runs is better")
    assert "Of 2 hands in the final 1 beat it, 0 lie below it; 1 cannot be told from it." in against_schedules(clear)
    assert [class_board._standing(row, clear) for row in clear.finalists][0] == "leads"


def test_a_schedule_may_lead(board):
    clear = a_board(board, Ada=(0.5, 0.6, 0.55), _step=(0.9, 0.91, 0.92))
    assert headline(clear).startswith("schedule: step leads") and "1 lie below it" in against_schedules(clear)


# ---------------------------------------------------------------------------------------------------- the picture


def test_the_picture_shows_every_hand_and_fits_a_projector(board):
    figure = draw(board)
    dice, rate, final = figure.axes
    assert len(dice.lines) == len(rate.lines) == PUPILS + len(classroom.SCHEDULES)
    assert [label.get_text() for label in final.get_yticklabels()] == [
        class_board._tick(row, board) for row in board.finalists
    ]
    assert min(text.get_fontsize() for text in final.get_yticklabels()) >= 16
    png = picture(board)
    width, height = np.frombuffer(png[16:24], ">u4")
    assert width > 1900 and 1.5 < width / height < 2
    assert "alt=" in to_html(board, png)


def test_a_hand_that_stopped_early_says_so(board):
    hand = next(row for row in board.finalists if row.is_hand and len(row.curve.val_dice) == EPOCHS)
    early = replace(hand, curve=curve(hand.curve.val_dice[:2]))
    assert class_board._tick(hand, board) == hand.label
    assert class_board._tick(early, board) == f"{hand.label}, 2 ep."


def test_the_legend_names_the_best_hands_by_rank(board):
    texts = [text.get_text() for text in draw(board).axes[0].get_legend().get_texts()]
    hands = [row.label for row in board.finalists if row.is_hand]
    assert texts[:3] == hands[:3] and set(texts[3:]) == {"other hands", "schedules"}


def test_one_failed_run_does_not_press_the_others_together(board):
    final = draw(a_board(board, Ada=(0.90, 0.92, 0.895), Bob=(0.85, 0.0, 0.84), _cosine=(0.86, 0.88, 0.87))).axes[2]
    low, high = final.get_xlim()
    assert 0.7 < low < 0.84 and 0.92 < high < 0.95
    assert [text.get_text() for text in final.texts] == ["◀ 0.00"]
    final = draw(a_board(board, Ada=(0.90, 0.92, 0.895), Bob=(0.85, 0.8, 0.84), _cosine=(0.86, 0.88, 0.87))).axes[2]
    assert final.get_xlim()[0] < 0.8 and not final.texts

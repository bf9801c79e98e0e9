"""The study's runner on a grid of seconds: it goes on where it stopped, repeats itself, and mixes nothing; its record."""

import importlib
import itertools
import json
import math
import sys
from collections import Counter
from pathlib import Path

import pytest
import study as the_study

from unetlab.lab.records import load_record
from unetlab.schedulers import schedule_preview

ROOT = Path(__file__).parent.parent
COLUMNS = ("train_loss", "val_loss", "val_dice", "lr", "test_dice")


@pytest.fixture
def study():
    """The script as it is, whatever the test before has changed in it."""
    return importlib.reload(the_study)


@pytest.fixture
def tiny(study, monkeypatch):
    """Six runs of two epochs on four small images; `made` lists their keys."""
    study.SEEDS, study.SETS, study.RATES, study.SCHEDULES = [0, 1], ["cells"], [1e-3], ["constant", "plateau"]
    study.OTHER_BATCHES = {"data": "cells", "batch": [2], "schedule": ["constant"]}
    study.SETTINGS |= {"size": 16, "images": [4, 2, 2], "epochs": 2, "base_channels": 2, "depth": 1}
    study.made, make_run = [], study.make_run
    monkeypatch.setattr(study, "make_run", lambda key: study.made.append(key) or make_run(key))
    return study


def test_seeds_come_first_and_no_run_twice(study):
    keys = list(study.plan())
    assert len(keys) == 3 * 3 * 6 * 5 + 2 * 3 * 2 * 5
    assert len({json.dumps(key) for key in keys}) == len(keys)
    first = keys[: 3 * 3 * 6]
    assert {key["seed"] for key in first} == {0}
    assert set(Counter((key["data"], key["base_lr"]) for key in first).values()) == {6}
    seeds = [key["seed"] for key in keys[: 5 * len(first)]]
    assert seeds == sorted(seeds)


def test_a_record_is_made_once_and_completed(tiny, tmp_path):
    assert tiny.main(["--folder", str(tmp_path)]) == 0
    assert tiny.made == list(tiny.plan())
    record = load_record("study", tmp_path)
    assert all(len(run[name]) == 2 for run in record["runs"] for name in COLUMNS)
    assert record["environment"]["threads"] == 1
    assert record["data"]["cells"]["images"] == [4, 2, 2]

    tiny.made.clear()
    tiny.main(["--folder", str(tmp_path)])
    assert tiny.made == []

    whole, record["runs"] = record["runs"], record["runs"][:3]  # as if it had been killed in the fourth run
    tiny.write(tmp_path / "study.json", record)
    tiny.main(["--folder", str(tmp_path)])
    assert tiny.made == list(tiny.plan())[3:]
    assert load_record("study", tmp_path)["runs"] == whole  # the same digits


def test_the_file_is_written_after_each_run(tiny, tmp_path, monkeypatch):
    make_run = tiny.make_run
    monkeypatch.setattr(tiny, "make_run", lambda key: make_run(key) if len(tiny.made) < 2 else sys.exit("killed"))
    with pytest.raises(SystemExit, match="killed"):
        tiny.main(["--folder", str(tmp_path)])
    assert len(load_record("study", tmp_path)["runs"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]


def test_pairs_differ_in_nothing_but_the_schedule(tiny):
    """Before the first drop of plateau the two are the same run."""
    constant, plateau, *_ = tiny.plan()
    assert tiny.make_run(constant) == tiny.make_run(plateau)
    assert tiny.make_run(constant) != tiny.make_run(constant | {"seed": 1})


def test_test_dice_is_that_of_each_epochs_weights(tiny):
    key = next(tiny.plan())
    both = tiny.make_run(key)["test_dice"]
    tiny.SETTINGS["epochs"] = 1  # a constant rate does not depend on the length of the run
    assert tiny.make_run(key)["test_dice"] == both[:1]


def test_a_diverged_run_is_recorded_up_to_its_last_whole_epoch(tiny):
    tiny.SETTINGS |= {"norm": "none"}
    run = tiny.make_run(next(tiny.plan()) | {"base_lr": 1e38})
    assert run["diverged"]
    assert len({len(run[name]) for name in COLUMNS}) == 1
    assert len(run["val_dice"]) < 2


def test_verify_repeats_a_share(tiny, tmp_path, capsys):
    tiny.main(["--folder", str(tmp_path)])
    tiny.made.clear()
    assert tiny.main(["--folder", str(tmp_path), "--verify", "0.5"]) == 0
    assert len(tiny.made) == 3
    assert "all 3 runs gave the recorded numbers, to the last digit" in capsys.readouterr().out


def test_verify_finds_a_number_that_is_not_the_runs(tiny, tmp_path, capsys):
    tiny.main(["--folder", str(tmp_path)])
    record = load_record("study", tmp_path)
    record["runs"][2]["test_dice"][1] += 0.05
    tiny.write(tmp_path / "study.json", record)
    before = (tmp_path / "study.json").read_bytes()
    assert tiny.main(["--folder", str(tmp_path), "--verify", "1"]) == 1
    assert "test Dice differs by up to 0.0500; the same machine" in capsys.readouterr().out
    record["environment"]["torch"] = "1.0"
    tiny.write(tmp_path / "study.json", record)
    assert tiny.main(["--folder", str(tmp_path), "--verify", "1"]) == 0  # elsewhere other digits are no fault
    assert "made otherwise (environment torch: 1.0, now" in capsys.readouterr().out
    record["environment"]["torch"] = json.loads(before)["environment"]["torch"]
    record["runs"][2]["test_dice"].pop()  # a curve that is too short
    tiny.write(tmp_path / "study.json", record)
    assert tiny.main(["--folder", str(tmp_path), "--verify", "1"]) == 1


@pytest.mark.parametrize("part, name", [("environment", "torch"), ("settings", "epochs"), ("data", "cells")])
def test_runs_made_otherwise_are_not_mixed(tiny, tmp_path, part, name):
    tiny.main(["--folder", str(tmp_path)])
    record = load_record("study", tmp_path)
    record[part][name] = "other"
    tiny.write(tmp_path / "study.json", record)
    before = (tmp_path / "study.json").read_bytes()
    with pytest.raises(SystemExit, match=f"6 runs were made otherwise .{part} {name}: other, now .*--verify 0.1"):
        tiny.main(["--folder", str(tmp_path)])
    assert (tmp_path / "study.json").read_bytes() == before


def test_missing_data_say_how_to_get_them(study, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UNETLAB_DATA", str(tmp_path))
    assert study.main(["--folder", str(tmp_path / "records")]) == 1
    message = capsys.readouterr().err
    assert "The study needs real data. nuclei:" in message
    assert "unetlab data fetch nuclei" in message
    assert not (tmp_path / "records").exists()


def test_a_missing_record_says_which_command_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="python course.py study makes it"):
        load_record("study", tmp_path)


@pytest.mark.parametrize(
    "arguments, message",
    [(["--verify", "0"], "a share above 0, at most 1, not 0"), (["--verify", "1"], "make it first, without --verify")],
)
def test_wrong_arguments(study, tmp_path, arguments, message, capsys):
    with pytest.raises(SystemExit):
        study.main(["--folder", str(tmp_path), *arguments])
    assert message in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------- the shipped record


@pytest.fixture(scope="module")
def record():
    return load_record("study", ROOT / "notebooks" / "records")


def test_the_shipped_record_holds_whole_seeds(study, record):
    """A run for each line of the plan, from its beginning on, so that what is there can be compared in pairs."""
    keys = list(study.plan())
    for key, run in zip(keys, record["runs"], strict=False):
        assert study.is_run(run, key)
    pairs = itertools.groupby(record["runs"], lambda run: run["seed"])
    assert len([seed for seed, runs in pairs if len(list(runs)) >= 54]) >= 3
    assert record["seeds"] == study.SEEDS
    assert {name: record["settings"][name] for name in study.SETTINGS} == study.SETTINGS
    path = ROOT / "notebooks" / "records" / "study.json"
    assert path.stat().st_size < 400_000


def test_the_shipped_numbers_are_plausible(record):
    for run in record["runs"]:
        lengths = {len(run[name]) for name in COLUMNS}
        assert lengths == {record["settings"]["epochs"]} or run.get("diverged")
        assert all(math.isfinite(value) for name in COLUMNS for value in run[name])
        assert all(0 <= value <= 1 for name in ("val_dice", "test_dice") for value in run[name])


def test_the_shipped_rates_are_those_of_the_schedules_of_today(study, record):
    for run in record["runs"]:
        if run["schedule"] != "plateau":
            steps = math.ceil(record["data"][run["data"]]["images"][0] / run["batch"])
            total = steps * record["settings"]["epochs"]
            options = record["settings"]["schedules"][run["schedule"]]
            rates = schedule_preview(run["schedule"], total, run["base_lr"], **options)
            assert run["lr"] == pytest.approx(rates[steps - 1 :: steps].tolist(), rel=6e-3)


def test_runs_share_their_start_with_the_constant_rate(record):
    """Pairs: until the first drop of the rate a step schedule is the constant one, to the last digit."""
    runs = {(r["data"], r["schedule"], r["base_lr"], r["batch"], r["seed"]): r for r in record["runs"]}
    pairs = [(run, runs[key[0], "constant", *key[2:]]) for key, run in runs.items() if key[1] == "step"]
    assert len(pairs) >= 27
    for step, constant in pairs:
        assert step["val_loss"][:5] == constant["val_loss"][:5]

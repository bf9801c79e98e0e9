"""Records: finding them, what the shipped ones hold, and that making them goes on where it stopped."""

import json
import math
from pathlib import Path

import make_records
import pytest

from unetlab.lab.records import load_record, provenance
from unetlab.schedulers import schedule_preview

ROOT = Path(__file__).parent.parent
NAMES = ("schedules", "stopping", "lr_finder")
COLUMNS = ("train_loss", "val_loss", "val_dice", "lr")


def test_a_record_is_found_from_any_folder_and_beside_the_notebook_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_record("stopping")["seeds"] == [0, 1, 2]
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "stopping.json").write_text('{"seeds": [7]}')
    assert load_record("stopping")["seeds"] == [7]
    assert load_record("stopping", tmp_path / "records")["seeds"] == [7]


def test_a_missing_record_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="python course.py records schedules makes it") as caught:
        load_record("schedules", tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_provenance_names_seeds_network_versions_and_processor():
    record = load_record("stopping")
    text = provenance(record)
    for part in ("seeds 0, 1, 2", "base 8", record["environment"]["torch"], record["environment"]["device_name"]):
        assert part in text


@pytest.mark.parametrize("name", [*NAMES, "batch_size", "imbalance", "monitor"])
def test_shipped_records_are_whole(name):
    record = load_record(name, ROOT / "notebooks" / "records")
    plan, _ = make_records.RECORDS[name]
    keys = [key | {"seed": seed} for key, _ in plan() for seed in make_records.SEEDS]
    assert [{part: run[part] for part in key} for key, run in zip(keys, record["runs"], strict=True)] == keys
    assert (ROOT / "notebooks" / "records" / f"{name}.json").stat().st_size < 120_000
    assert record["seeds"] == make_records.SEEDS
    assert record["cpu_seconds"] > 0
    assert {"torch", "numpy", "unetlab", "device_name", "threads"} <= record["environment"].keys()


@pytest.mark.parametrize("name", NAMES)
def test_recorded_numbers_are_plausible(name):
    for run in load_record(name)["runs"]:
        if "val_dice" in run:
            lengths = {len(run[column]) for column in COLUMNS}
            assert len(lengths) == 1
            assert all(math.isfinite(v) for column in COLUMNS for v in run[column])
            assert all(0 <= v <= 1 for v in run["val_dice"])


def test_recorded_rates_are_those_of_the_schedules_of_today():
    """A changed schedule makes the record untrue: then make it again."""
    for run in load_record("schedules")["runs"]:
        if run["schedule"] != "plateau":
            rates = schedule_preview(run["schedule"], 144, run["base_lr"])
            used = rates[:12] if run["stepped"] == "epoch" else rates[11::12]
            assert run["lr"] == pytest.approx(used.tolist(), rel=6e-3)


def test_the_over_fitting_curve_over_fits_for_every_seed():
    for run in load_record("stopping")["runs"]:
        if run["curve"] == "Few images":
            assert len(run["val_loss"]) >= 100
            assert run["val_loss"][-1] > 1.1 * min(run["val_loss"])


@pytest.fixture
def tiny(monkeypatch):
    """Two cells whose runs are instant; `made` lists them."""

    def cells():
        """What it is."""
        yield {"curve": "a"}, {"lr": 1.0}
        yield {"curve": "b"}, {"lr": 2.0}

    made = []

    def run(seed, key, settings):
        made.append((key["curve"], seed))
        return {"val_loss": [settings["lr"] + seed]}

    monkeypatch.setitem(make_records.RECORDS, "stopping", (cells, run))
    return made


def test_records_are_made_once_and_completed(tiny, tmp_path):
    make_records.main(["stopping", "--folder", str(tmp_path)])
    assert tiny == [(curve, seed) for curve in "ab" for seed in (0, 1, 2)]
    record = load_record("stopping", tmp_path)
    assert record["runs"][4] == {"curve": "b", "seed": 1, "val_loss": [3.0]}
    tiny.clear()
    make_records.main(["stopping", "--folder", str(tmp_path)])
    assert tiny == []
    del record["runs"][4:]  # as if it had been interrupted there
    make_records.write(tmp_path / "stopping.json", record)
    make_records.main(["stopping", "--folder", str(tmp_path)])
    assert tiny == [("b", 1), ("b", 2)]


def test_another_version_starts_anew(tiny, tmp_path):
    make_records.main(["stopping", "--folder", str(tmp_path)])
    record = load_record("stopping", tmp_path)
    record["environment"]["torch"] = "1.0"
    make_records.write(tmp_path / "stopping.json", record)
    tiny.clear()
    make_records.main(["stopping", "--folder", str(tmp_path)])
    assert len(tiny) == 6


def test_a_run_is_a_line(tiny, tmp_path):
    make_records.main(["stopping", "--folder", str(tmp_path)])
    lines = (tmp_path / "stopping.json").read_text().splitlines()
    assert sum(line.startswith('{"curve"') for line in lines) == 6
    assert json.loads("\n".join(lines))["what"] == "What it is."


def test_an_unknown_record_is_refused(capsys):
    with pytest.raises(SystemExit):
        make_records.main(["nonsense"])
    assert "choose one of schedules, stopping, lr_finder" in capsys.readouterr().err


def test_curves_train_and_are_rounded():
    settings = {"images": 8, "val_images": 4, "size": 16, "epochs": 2}
    columns = make_records.curves(0, settings)
    assert set(columns) == set(COLUMNS)
    assert all(len(values) == 2 for values in columns.values())
    assert columns == make_records.curves(0, settings)
    assert columns["val_loss"] != make_records.curves(1, settings)["val_loss"]

"""The schedule composer: sliders against torch's options, the granularity bug, and what it says of the records."""

import lab_records
import numpy as np
import pytest
from lab_records import dead_text, series, touch

from unetlab.lab.schedule_composer import (
    CONTROLS,
    SHAPES,
    Plan,
    ScheduleComposer,
    describe,
    differences,
    rates,
    recorded_runs,
    stepped_per_epoch,
)
from unetlab.schedulers import SCHEDULES, schedule_preview

FALLING = list(np.linspace(1, 0.1, 50))


@pytest.fixture
def composer():
    return ScheduleComposer(lab_records.schedules(), FALLING)


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "plateau"])
def test_sliders_start_where_the_recorded_runs_were(name):
    """At its first values every slider means what make_scheduler does by itself."""
    assert rates(Plan(name), FALLING) == pytest.approx(schedule_preview(name, 144, 3e-3), rel=1e-9, abs=1e-15)


def test_every_schedule_has_its_sliders():
    assert list(SHAPES) == SCHEDULES
    ranges = {control["id"] for control in CONTROLS if control["kind"] == "range"}
    assert {slider for shape in SHAPES.values() for slider in shape} <= ranges


def test_one_cycle_stepped_per_epoch_never_gets_off_the_ground():
    """One-cycle up to 1.0 over 10 epochs of 25 steps, moved on once an epoch, goes from 0.040 to 0.075."""
    plan = Plan("one_cycle", base_lr=1.0, epochs=10, steps_per_epoch=25)
    meant = rates(plan, FALLING)
    bug = stepped_per_epoch(meant, 25)
    assert meant.max() == pytest.approx(1.0)
    assert len(bug) == len(meant) == 250
    assert bug[0] == pytest.approx(0.040, abs=5e-4)
    assert bug[-1] == bug.max() == pytest.approx(0.075, abs=5e-4)


@pytest.mark.parametrize(
    ("schedule", "shape", "check"),
    [
        ("step", {"first_drop": 0.5, "gamma": 0.2}, lambda r: (r[71], r[72]) == pytest.approx((1, 0.2))),
        (
            "multistep",
            {"first_drop": 0.2, "gamma": 0.5},
            lambda r: (r[28], r[29], r[-1]) == pytest.approx((1, 0.5, 0.25)),
        ),
        ("exponential", {"gamma": 0.5}, lambda r: (r[12], r[24]) == pytest.approx((0.5, 0.25))),
        ("polynomial", {"power": 2.0}, lambda r: r[72] == pytest.approx(0.25)),
        ("cosine", {"end": 0.5}, lambda r: r[-1] == pytest.approx(0.5, abs=1e-3)),
        ("cosine_restarts", {"first_cycle": 0.5, "cycle_factor": 1}, lambda r: r[72] == r[0] == pytest.approx(1)),
        ("one_cycle", {"warmup": 0.5, "start_divisor": 10}, lambda r: (r[0], r.argmax()) == pytest.approx((0.1, 71))),
        ("warmup_cosine", {"warmup": 0.5}, lambda r: r.argmax() == 72),
    ],
)
def test_sliders_shape_the_curve(schedule, shape, check):
    assert check(rates(Plan(schedule, base_lr=1.0, shape=shape), FALLING))


def test_plateau_follows_the_metric():
    plan = Plan("plateau", base_lr=1.0, epochs=6, steps_per_epoch=2, shape={"patience": 1, "factor": 0.5})
    assert rates(plan, [1.0] * 6).tolist() == [1] * 6 + [0.5] * 4 + [0.25] * 2
    assert rates(plan, FALLING).tolist() == [1] * 12


def test_nearest_recorded_runs_are_found_on_a_log_scale():
    record = lab_records.schedules()
    assert {run["base_lr"] for run in recorded_runs(record, "cosine", 9e-4)} == {3e-4}
    assert {run["base_lr"] for run in recorded_runs(record, "cosine", 1e-3)} == {3e-3}
    assert [run["seed"] for run in recorded_runs(record, "cosine", 1.0)] == [0, 1]
    assert recorded_runs(record, "cosine", 1.0, per_epoch=True) == []


def test_it_says_which_runs_are_shown_and_what_differs():
    runs = recorded_runs(lab_records.schedules(), "cosine", 3e-3)
    assert differences(Plan("cosine"), runs) == []
    plan = Plan("cosine", base_lr=2e-3, epochs=20, shape={"end": 0.1}, per_epoch=True)
    assert differences(plan, runs) == ["base rate", "total epochs", "stepped per epoch", "end, share of base"]
    text = describe(plan, runs)
    assert "recorded with base rate 0.003, 12 epochs of 12 steps, schedule moved at every step, seeds 0, 1" in text
    assert "Your settings differ: base rate, total epochs" in text


def test_controls_move_the_plan_and_the_charts(composer):
    touch(composer, "base_lr", 1.0)
    touch(composer, "epochs", 10)
    touch(composer, "steps_per_epoch", 25)
    touch(composer, "per_epoch", True)
    assert composer.plan == Plan("one_cycle", 1.0, 10, 25, True)
    steps, shown = series(composer, 0, "learning rate")
    assert len(steps) == 250
    assert shown.max() == pytest.approx(0.075, abs=5e-4)
    assert series(composer, 0, "as it is meant")[1].max() == pytest.approx(1.0)
    assert series(composer, 2, "one_cycle, mean of seeds")[1][-1] == pytest.approx(0.505)  # the runs with the bug
    assert series(composer, 2, "constant rate, mean")[1][-1] == pytest.approx(0.805)


def test_another_schedule_shows_its_own_sliders_as_recorded(composer):
    touch(composer, "warmup", 0.7)
    assert composer.plan.shape == {"warmup": 0.7}
    touch(composer, "schedule", "warmup_cosine")
    assert composer.plan.shape == {}
    values, enabled = composer._instrument.values, composer._instrument.enabled
    assert values["warmup"] == 0.1
    shown = {control["id"] for control in CONTROLS if enabled.get(control["id"], True) is not None}
    assert shown == {"schedule", "base_lr", "epochs", "steps_per_epoch", "per_epoch", "warmup", "end"}


def test_plateau_has_no_granularity_bug(composer):
    touch(composer, "per_epoch", True)
    touch(composer, "schedule", "plateau")
    assert not composer.plan.per_epoch
    assert composer._instrument.enabled["per_epoch"] is None


def test_the_bug_without_a_record_is_said(composer):
    touch(composer, "schedule", "cosine")
    touch(composer, "per_epoch", True)
    assert "stepped per epoch" in composer._instrument.status["text"].split("differ: ")[1]


def test_the_table_compares_with_a_constant_rate(composer):
    touch(composer, "schedule", "step")
    assert composer._instrument.table[0] == ["After 12 epochs at 0.003", "step", "constant"]
    assert composer._instrument.table[2] == ["Validation Dice", "0.905 (0.900 to 0.910)", "0.805 (0.800 to 0.810)"]
    touch(composer, "schedule", "constant")
    assert composer._instrument.table[0] == ["After 12 epochs at 0.003", "constant"]


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_survives_the_ends_of_its_sliders(composer, name):
    touch(composer, "schedule", name)
    shown = [
        c for c in CONTROLS if c["kind"] == "range" and composer._instrument.enabled.get(c["id"], True) is not None
    ]
    for control in shown:
        for value in (control["min"], control["max"]):
            touch(composer, control["id"], value)
            assert np.isfinite(series(composer, 0, composer._instrument.panels[0]["series"][0]["name"])[1]).all()


def test_with_the_shipped_records_plateau_lowers_the_rate():
    composer = ScheduleComposer()
    touch(composer, "schedule", "plateau")
    touch(composer, "epochs", 50)
    rate = series(composer, 0, "learning rate, watching the recorded loss 'Noisy, 4 validation images'")[1]
    assert rate[-1] < rate[0]


def test_text_where_widgets_are_dead(composer):
    assert dead_text(composer) == "Schedule composer: run this cell to use it"

"""The search arena: trials are recorded ones, rivals draw from their own pool, and the second look is at new seeds."""

import time

import numpy as np
import pytest
from lab_records import HEAD, dead_text, series, touch

from unetlab.lab.search_arena import TRIALS, SearchArena, best_so_far, lead, nearest, trials_of


@pytest.fixture
def record():
    """A grid of 4 by 3 and 12 random pairs. The Dice grows with the rate; on the other seed the order is turned round."""
    lrs, decays = np.geomspace(1e-4, 1, 4), np.geomspace(1e-4, 1, 3)
    grid = [(lr, decay) for lr in lrs for decay in decays]
    random = 10 ** np.random.default_rng(1).uniform(-4, 0, (12, 2))
    runs = []
    for kind, pairs in (("grid", grid), ("random", random)):
        for trial, (lr, decay) in enumerate(pairs):
            height = np.log10(lr) / 8 + 0.01 * np.log10(decay)  # -0.5 to 0
            for seed, dice in ((0, 0.8 + height), (1, 0.1 - height), (2, 0.3 - height)):
                key = {"kind": kind, "trial": trial, "lr": float(lr), "weight_decay": float(decay)}
                runs.append(key | {"seed": seed, "val_dice": float(dice)})
    return HEAD | {"seeds": [0, 1, 2], "runs": runs}


@pytest.fixture
def arena(record):
    return SearchArena(record)


def spend(arena, trials=TRIALS):
    for _ in range(trials):
        touch(arena, "try", True)


def test_the_columns_are_those_of_the_record(record):
    trials = trials_of(record)
    assert len(trials["lr"]) == 24 and list(trials["kind"][[0, 11, 12]]) == ["grid", "grid", "random"]
    assert trials["searched"][0] == pytest.approx(0.8 - 0.5 - 0.04)
    assert trials["again"][0] == pytest.approx(0.2 + 0.5 + 0.04)


def test_the_nearest_in_both_logarithms_and_none_twice():
    trials = {"lr": np.array([1e-3, 1e-2, 1e-2]), "weight_decay": np.array([1e-2, 1e-2, 1e-1])}
    assert nearest(trials, 4e-3, 1e-2, []) == 1  # nearer to 1e-2 by its factor, though not by its difference
    assert nearest(trials, 4e-3, 1e-2, [1]) == 0
    assert nearest(trials, 1e-2, 9e-2, []) == 2


def test_the_best_so_far():
    assert best_so_far(np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.4]])).tolist() == [[0.2, 0.5, 0.5], [0.1, 0.1, 0.4]]


def test_the_lead_of_the_winner_and_what_is_left_of_it():
    trials = {"searched": np.array([0.5, 0.8, 0.7, 0.1]), "again": np.array([0.6, 0.65, 0.7, 0.9])}
    assert lead(trials, np.array([0, 1, 2])) == (pytest.approx(0.1), pytest.approx(-0.05))
    many = lead(trials, np.array([[0, 1, 2], [3, 0, 2]]))
    assert many[0] == pytest.approx([0.1, 0.2]) and many[1] == pytest.approx([-0.05, 0.1])


def test_a_trial_moves_to_what_was_recorded(arena):
    touch(arena, "lr", 0.9)
    touch(arena, "weight_decay", 0.9)
    touch(arena, "try", True)
    assert len(arena.chosen) == 1
    found = arena.chosen[0]
    assert arena._instrument.values["lr"] == arena.trials["lr"][found]
    assert f"Dice {arena.trials['searched'][found]:.3f}" in arena._instrument.status["text"]
    assert arena._instrument.status["text"].startswith("Trial 1 of 10")


def test_the_map_takes_a_trial_as_well_and_a_drag_takes_one(arena):
    touch(arena, "map", [-4.0, 1e-4, True])
    touch(arena, "map", [-3.9, 1e-4, False])
    assert len(arena.chosen) == 1
    assert arena.trials["lr"][arena.chosen[0]] == pytest.approx(1e-4)


def test_ten_trials_and_no_more(arena):
    spend(arena, 12)
    assert len(arena.chosen) == len(set(arena.chosen)) == TRIALS
    assert arena._instrument.enabled["try"] is False and arena._instrument.status["progress"] == 1
    touch(arena, "again", True)
    assert arena.chosen == [] and arena._instrument.enabled == {"try": True, "again": False}


def test_the_second_look_comes_at_the_end(arena):
    spend(arena, 9)
    assert arena._instrument.table == []
    spend(arena, 1)
    rows = {row[0]: row for row in arena._instrument.table}
    first, again = (float(text) for text in rows["you"][2:])
    # On other seeds the order is turned round; either number has three digits.
    assert first >= 0 and again == pytest.approx(-first, abs=1.1e-3)
    assert float(rows["you"][1]) == pytest.approx(arena.trials["searched"][arena.chosen].max(), abs=6e-4)
    assert {"random", "grid", "random, mean of 500 orders", "grid, mean of 500 orders"} < rows.keys()


def test_rivals_draw_from_their_own_pool_without_repetition(arena):
    for luck in (0, 3):
        touch(arena, "luck", luck)
        for kind, order in arena.rivals.items():
            assert len(set(order)) == TRIALS and set(arena.trials["kind"][order]) == {kind}
    touch(arena, "luck", 0)
    before = arena.rivals
    touch(arena, "luck", 5)
    assert any((before[kind] != arena.rivals[kind]).any() for kind in before)


def test_the_race_is_not_told_before_it_is_run(arena):
    spend(arena, 3)
    for name in ("you", "random", "grid"):
        x, y = series(arena, 1, name)
        assert x.tolist() == [1, 2, 3] and (np.diff(y) >= 0).all()
    touch(arena, "guess", 0.7)
    assert arena._instrument.panels[1]["marks"][0]["y"] == 0.7


def test_the_map_tells_a_dice_by_colour_and_size(arena):
    touch(arena, "map", [0.0, 1.0, True])
    touch(arena, "map", [-4.0, 1e-4, True])
    dots = {line["name"]: line["dots"] for line in arena._instrument.panels[0]["series"] if "name" in line}
    assert dots == {"Dice from 0.7": 6.5, "Dice below 0.4": 3}
    assert "1, 1: 0.80; 0.0001, 0.0001: 0.26" in arena._instrument.panels[0]["label"]
    assert len(arena._instrument.panels[0]["series"]) == 24


def test_the_shipped_record_is_replayed_at_once():
    arena = SearchArena()
    assert len(arena.trials["lr"]) == 50
    started = time.process_time()
    spend(arena)
    assert (time.process_time() - started) / TRIALS < 0.1
    for leads in arena._mean_leads.values():
        assert leads[1] < leads[0], "on new seeds a winner leads by less"


def test_text_where_widgets_are_dead(arena):
    assert dead_text(arena) == "Search arena: run this cell to use it"

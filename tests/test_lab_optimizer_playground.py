"""The optimizer playground: its rules against torch.optim, its edges against divergence, and the lessons it must show."""

import math
import warnings

import numpy as np
import pytest
import torch
from lab_records import dead_text, series, touch

from unetlab.lab.optimizer_playground import (
    CEILING,
    FLOOR,
    OPTIMIZERS,
    RATES,
    STEPS,
    OptimizerPlayground,
    Settings,
    descend,
    describe,
    loss,
    stability_edge,
    valley,
)

IN_TORCH = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.01),
    "Momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.8),
    "Nesterov": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.8, nesterov=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.999)),
}


@pytest.fixture
def playground():
    return OptimizerPlayground()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_rules_are_those_of_torch(name):
    hessian, start = valley(30, 25)
    w = torch.tensor(start, requires_grad=True)
    optimizer = IN_TORCH[name]([w])
    path = [w.detach().clone()]
    for _ in range(50):
        optimizer.zero_grad()
        (0.5 * w @ torch.tensor(hessian) @ w).backward()
        optimizer.step()
        path.append(w.detach().clone())
    mine = descend(name, 0.01, 0.8, hessian, start, steps=50)
    np.testing.assert_allclose(mine, torch.stack(path), rtol=0, atol=1e-12)


@pytest.mark.parametrize("angle", [0, 20, 45])
def test_the_valley(angle):
    hessian, start = valley(100, angle)
    assert np.linalg.eigvalsh(hessian) == pytest.approx([1, 100])
    assert loss(hessian, start) == pytest.approx(loss(*valley(100, 0)))  # turned, not changed


def test_many_rates_at_once_are_the_single_ones():
    hessian, start = valley(10, 30)
    for name in OPTIMIZERS:
        together = descend(name, RATES[:30, None], 0.9, hessian, start, steps=20)
        assert together.shape == (21, 30, 2)
        np.testing.assert_allclose(together[:, 7], descend(name, RATES[7], 0.9, hessian, start, steps=20))


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("name", ["SGD", "Momentum", "Nesterov"])
def test_the_edge_parts_falling_from_growing(name, momentum):
    hessian, start = valley(50, 0)
    edge = stability_edge(name, momentum, 50)
    for factor, grows in ((0.98, False), (1.02, True)):
        path = descend(name, factor * edge, momentum, hessian, start, steps=4000)
        early, late = (np.abs(path[part, 1]).max() for part in (slice(0, 500), slice(3500, 4000)))
        assert (not late < early) == grows  # what overflowed is not less


def test_without_momentum_all_edges_are_2_over_the_curvature():
    assert {stability_edge(name, 0.0, 50) for name in OPTIMIZERS[:3]} == {2 / 50}
    assert {stability_edge(name, 0.9, 50) for name in OPTIMIZERS[3:]} == {None}


def arrived(widget):
    return {row[0]: row[1] for row in widget._instrument.table[1:]}


def test_momentum_beats_sgd_in_a_narrow_valley_and_not_in_a_round_one(playground):
    touch(playground, "condition", 300)
    touch(playground, "lr", 0.005)
    assert arrived(playground)["SGD"] == f"more than {STEPS}"
    assert int(arrived(playground)["Momentum"]) < STEPS
    touch(playground, "condition", 1)
    touch(playground, "lr", 0.5)
    assert int(arrived(playground)["SGD"]) < int(arrived(playground)["Momentum"])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_turning_the_valley_changes_only_what_rescales_each_weight(name):
    straight, turned = (
        loss(hessian, descend(name, 0.01, 0.9, hessian, start)) for hessian, start in (valley(100, 0), valley(100, 45))
    )
    assert np.allclose(straight, turned, rtol=1e-6) == (name in ("SGD", "Momentum", "Nesterov"))


def test_charts_show_the_path_the_loss_and_every_rate(playground):
    touch(playground, "optimizer", "Nesterov")
    s = playground.settings
    hessian, start = valley(s.condition, s.angle)
    path = descend("Nesterov", s.lr, s.momentum, hessian, start)
    np.testing.assert_allclose(np.transpose(series(playground, 0, "path of Nesterov")), path, rtol=1e-6, atol=1e-9)
    steps, losses = series(playground, 1, "Nesterov")
    assert steps.tolist() == list(range(STEPS + 1))
    first = loss(hessian, start)
    np.testing.assert_allclose(losses, loss(hessian, path).clip(FLOOR * first), rtol=1e-5)
    exponents, ends = series(playground, 2, "Nesterov")
    here = np.abs(exponents - math.log10(s.lr)).argmin()
    single = loss(hessian, descend("Nesterov", RATES[here], s.momentum, hessian, start)[-1])
    assert ends[here] == pytest.approx(max(single, FLOOR * first), rel=1e-5)
    assert ends[-1] == pytest.approx(CEILING * first)  # diverged: at the top, not a gap


def test_contours_are_lines_of_equal_loss(playground):
    touch(playground, "angle", 30)
    points = np.transpose(series(playground, 0, "equal loss")).astype(float)
    hessian, _ = valley(playground.settings.condition, 30)
    rings = np.split(points, np.flatnonzero(np.isnan(points[:, 0])))
    levels = [loss(hessian, ring[~np.isnan(ring[:, 0])]) for ring in rings]
    assert len(levels) > 5
    for level in levels[:-1]:
        assert level == pytest.approx(np.full_like(level, level.mean()), rel=1e-4)


def test_the_edge_is_marked_where_there_is_one(playground):
    marks = playground._instrument.panels[2]["marks"]
    assert [mark["x"] for mark in marks] == pytest.approx([math.log10(0.02), math.log10(2 / 30)])
    assert marks[1]["text"] == "edge 2/λ = 0.067"
    touch(playground, "optimizer", "Adam")
    assert len(playground._instrument.panels[2]["marks"]) == 1


def test_dragging_on_the_chart_picks_the_rate(playground):
    touch(playground, "drag", [-1.0, 0.5, True])
    assert playground.settings.lr == playground._instrument.values["lr"] == pytest.approx(0.1)
    assert "at or beyond the edge" in playground._instrument.status["text"]
    assert "higher than at the start" in playground._instrument.status["text"]


def test_only_what_has_a_momentum_shows_its_slider(playground):
    shown = {}
    for name in OPTIMIZERS:
        touch(playground, "optimizer", name)
        shown[name] = playground._instrument.enabled["momentum"]
    assert shown == {"SGD": None, "Momentum": True, "Nesterov": True, "RMSprop": None, "Adam": True}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_ends_of_all_sliders_give_charts_without_a_warning(playground, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        touch(playground, "optimizer", name)
        for lr in (1e-4, 10):
            for momentum in (0, 0.99):
                for condition in (1, 1000):
                    touch(playground, "lr", lr)
                    touch(playground, "momentum", momentum)
                    touch(playground, "condition", condition)
                    assert len(playground._instrument.panels) == 3


def test_a_status_that_knows_no_edge():
    text = describe(Settings("Adam"), np.array([2.0, 1.0]), None)
    assert "no fixed edge" in text and "5.0e-01 of the first" in text


def test_text_where_widgets_are_dead(playground):
    assert dead_text(playground) == "Optimizer playground: run this cell to use it"

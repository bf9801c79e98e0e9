"""The signal flow: sizes against the theory, gradients against autograd, and the lessons it must show."""

import math
import re
import statistics
import time

import numpy as np
import pytest
import torch
from lab_records import dead_text, series, touch
from torch import nn

from unetlab.lab.signal_flow import (
    ACTIVATIONS,
    CHANNELS,
    DEEPEST,
    DEFAULT,
    HE,
    NORMS,
    PICTURES,
    SIDE,
    Choice,
    SignalFlow,
    describe,
    input_pictures,
    make_stack,
    measure_flow,
)


@pytest.fixture
def bench():
    return SignalFlow()


def flow(**choice):
    return measure_flow(make_stack(Choice(**choice)), input_pictures())


def test_the_pictures_have_mean_0_and_variance_1():
    pictures = input_pictures()
    assert pictures.shape == (PICTURES, 1, SIDE, SIDE)
    assert (pictures.mean().item(), pictures.std().item()) == pytest.approx((0, 1), abs=1e-5)


@pytest.mark.parametrize(("layer", "incoming"), [(0, 9), (1, 9 * CHANNELS)])
def test_weights_have_the_size_that_the_gain_asks_for(layer, incoming):
    weight = make_stack(Choice(gain=3, depth=2))[layer][0].weight
    assert weight.std().item() == pytest.approx(3 / math.sqrt(incoming), rel=0.1)


def test_the_named_gains_are_those_of_he_and_of_pytorch():
    layer = nn.Conv2d(CHANNELS, 256, 3)
    assert layer.weight.std().item() == pytest.approx(DEFAULT / math.sqrt(9 * CHANNELS), rel=0.02)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    assert layer.weight.std().item() == pytest.approx(HE / math.sqrt(9 * CHANNELS), rel=0.02)


def test_the_numbers_are_those_of_the_values():
    result = flow(depth=3)
    last = result.values[-1]
    assert len(result.values) == 3
    assert result.spread[-1] == pytest.approx(last.std().item())
    assert result.silent[-1] == (last.amax((0, 2, 3)) == 0).float().mean().item()
    pictures = [picture - last.mean(0) for picture in last]
    assert result.picture[-1] == pytest.approx(torch.stack(pictures).std().item())


def test_a_picture_seen_four_times_has_no_part_of_its_own():
    result = measure_flow(make_stack(Choice(depth=4)), input_pictures()[:1].expand(PICTURES, -1, -1, -1))
    assert max(result.picture) < 1e-6 < min(result.spread)


def test_gradients_are_those_of_the_sum():
    """Scaling the last layer's weights scales every gradient before it."""
    one, two = make_stack(Choice(depth=3)), make_stack(Choice(depth=3))
    with torch.no_grad():
        two[-1][0].weight *= 2
    one, two = (measure_flow(stack, input_pictures()).gradient for stack in (one, two))
    assert one[-1] == pytest.approx(1, rel=0.05)
    assert np.divide(two, one) == pytest.approx([2, 2, 1], rel=1e-4)


def test_he_keeps_the_signal_and_pytorchs_gain_loses_it():
    he, default = flow(gain=HE), flow(gain=DEFAULT)
    assert he.picture[-1] > 0.01 and he.gradient[0] > 0.1
    assert default.picture[-1] < 1e-6 and default.gradient[0] < 1e-6


def test_a_large_gain_explodes_with_relu_and_saturates_with_tanh():
    assert flow(gain=10).spread[-1] > 1e10
    assert (flow(gain=10, activation="tanh").values[-1].abs() > 0.99).float().mean() > 0.5


@pytest.mark.parametrize("gain", [0.1, DEFAULT, HE, 10])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_batch_norm_makes_the_gain_irrelevant(gain, activation):
    assert flow(gain=gain, activation=activation, norm="batch").picture[-1] > 0.05


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_choice_can_be_measured(norm, activation):
    result = flow(norm=norm, activation=activation, depth=2)
    assert all(math.isfinite(number) for number in result.spread + result.picture + result.gradient)


def test_controls_change_the_stack(bench):
    touch(bench, "activation", "tanh")
    touch(bench, "norm", "group")
    touch(bench, "gain", 2.5)
    touch(bench, "depth", 7.0)
    touch(bench, "draw", True)
    assert bench.choice == Choice(gain=2.5, activation="tanh", norm="group", depth=7, seed=1)
    assert bench.layer == 7 and bench._instrument.ranges == {"layer": [1, 7]}
    assert len(bench.flow.values) == 7
    touch(bench, "he", True)
    assert bench.choice.gain == HE
    touch(bench, "default", True)
    assert bench.choice.gain == DEFAULT


def test_new_weights_give_new_numbers(bench):
    before = bench.flow.spread
    touch(bench, "draw", True)
    assert bench.flow.spread != before


def test_the_layer_is_chosen_by_slider_or_on_the_chart(bench):
    touch(bench, "layer", 3)
    assert bench.layer == 3 and bench._instrument.panels[2]["title"] == "Values of layer 3"
    touch(bench, "pick", [11.6, 0.1, True])
    assert bench.layer == 12 and bench._instrument.panels[0]["marks"][0]["x"] == 12
    touch(bench, "pick", [20.4, 0.1, False])
    assert bench.layer == 20


def test_charts_and_table_show_the_flow(bench):
    x, y = series(bench, 0, "the picture's part")
    assert list(x) == list(range(1, 21)) and y == pytest.approx(bench.flow.picture)
    assert series(bench, 1, "gradient")[1] == pytest.approx(bench.flow.gradient)
    table = dict(bench._instrument.table[1:])
    assert table["values, standard deviation"] == f"{bench.flow.spread[-1]:.2g}"


def test_the_bars_of_the_histogram_add_up_to_all_values(bench):
    line = bench._instrument.panels[2]["series"][0]
    numbers = np.frombuffer(bench._instrument.data, np.float32)
    start, length = line["y"]
    assert numbers[start : start + length - 1].sum() == pytest.approx(100, abs=0.01)


def test_values_too_small_for_the_chart_stay_on_it(bench):
    touch(bench, "gain", 0.1)
    touch(bench, "depth", 30)  # deeper than the slider goes
    assert min(bench.flow.picture) < 1e-30
    assert np.isfinite(np.log10(series(bench, 0, "the picture's part")[1])).all()


def test_it_says_what_happens_from_layer_to_layer(bench):
    touch(bench, "gain", DEFAULT)
    assert bench._instrument.status["text"] == describe(bench.flow)
    factor = float(re.search(r"the picture's part × ([\d.]+)", describe(bench.flow))[1])
    assert factor == pytest.approx(1 / math.sqrt(6), abs=0.04)
    assert describe(flow(depth=1)) == "One layer: nothing to compare yet."


def test_it_answers_in_a_tenth_of_a_second(bench):
    touch(bench, "depth", DEEPEST)
    seconds = []
    for norm in (*NORMS, *NORMS):
        start = time.process_time()
        touch(bench, "norm", norm)
        seconds.append(time.process_time() - start)
    assert statistics.median(seconds) < 0.1


def test_text_where_widgets_are_dead(bench):
    assert dead_text(bench) == "Signal flow: run this cell to use it"

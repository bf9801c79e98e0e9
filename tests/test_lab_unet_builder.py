"""The U-Net builder: what it says of a network, and that the drawing and the numbers follow the controls."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image

import unetlab as ul
from unetlab.lab.unet_builder import Facts, UNetBuilder, build
from unetlab.plots import STYLE

VIEW = "application/vnd.jupyter.widget-view+json"


# --------------------------------------------------------------------------------------------------------- the logic


def test_the_network_of_the_paper():
    model, facts = build(depth=4, base_channels=64, padding="valid", size=572)
    assert (facts.output_size, facts.problem) == (388, None)
    assert facts.parameters == 31_030_658 - 65  # one logit instead of two: 64 weights and a bias less
    assert all(parameter.is_meta for parameter in model.parameters())  # no memory for weights


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("base", [4, 16])
def test_parameters_are_those_of_a_real_network(depth, base):
    real = ul.UNet(base_channels=base, depth=depth)
    assert build(depth, base, "same", 64)[1].parameters == sum(p.numel() for p in real.parameters())


@pytest.mark.parametrize(("depth", "size"), [(1, 20), (2, 44)])
def test_the_receptive_field_is_that_of_a_real_network(depth, size):
    """The widest stretch of input rows that can change one output pixel, asked by gradients."""
    torch.manual_seed(0)
    model = ul.UNet(base_channels=8, depth=depth, padding="valid", norm="none").double()
    image = torch.rand(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    output = model(image)
    widths = []
    for row in range(output.shape[2]):
        (gradient,) = torch.autograd.grad(output[0, 0, row].sum(), image, retain_graph=True)
        rows = np.flatnonzero(gradient[0, 0].abs().sum(1))
        widths.append(rows[-1] - rows[0] + 1)
    assert build(depth, 8, "valid", size)[1].reach == max(widths)


def test_a_size_that_does_not_fit():
    _, facts = build(depth=4, base_channels=64, padding="valid", size=570)
    assert facts.output_size is None and "cannot take a side of 570 pixels" in facts.problem
    assert "556 or 572" in facts.problem
    assert build(depth=4, base_channels=64, padding="same", size=570)[1] == Facts(
        facts.parameters + batch_norm(64, 4), 570, facts.reach, None
    )


def batch_norm(base, depth):
    """Parameters that BatchNorm adds (two a channel) to those that it makes superfluous (a bias a channel)."""
    widths = [base * 2**level for level in range(depth + 1)]
    return sum(2 * width for width in widths) + sum(2 * width for width in widths[:-1])


# ------------------------------------------------------------------------------------------------------- the widget


def picture_of(builder):
    data, alt = re.search(r'src="data:image/png;base64,([^"]+)" alt="([^"]+)"', builder.picture.value).groups()
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), alt


@pytest.mark.parametrize("style", ["default", STYLE])
def test_it_begins_with_the_paper(style):
    with plt.style.context(style):
        builder = UNetBuilder()
    picture, alt = picture_of(builder)
    assert picture.shape[1] == 900 and len(np.unique(picture.reshape(-1, 4), axis=0)) > 20
    assert alt == "U-Net of depth 4, 572 pixels in, 388 out"
    assert "31,030,593" in builder.facts.value and "388 px" in builder.facts.value


def test_the_controls_have_names():
    builder = UNetBuilder()
    controls = [builder.depth, builder.base, builder.padding, builder.size]
    assert [control.description for control in controls] == ["Depth", "Base channels", "Padding", "Input side (px)"]


def test_the_drawing_and_the_numbers_follow_every_control():
    builder = UNetBuilder(depth=2, base_channels=8, padding="same", size=64)
    seen = [(picture_of(builder)[0].tobytes(), builder.facts.value)]
    for control, value in ((builder.depth, 3), (builder.base, 16), (builder.size, 60)):
        control.value = value
        seen.append((picture_of(builder)[0].tobytes(), builder.facts.value))
    assert len({drawing for drawing, _ in seen}) == len({facts for _, facts in seen}) == 4
    facts = build(3, 16, "same", 60)[1]
    assert f"{facts.parameters:,}" in builder.facts.value and f"up to {facts.reach} px" in builder.facts.value


def test_a_network_that_does_not_fit_is_not_drawn():
    builder = UNetBuilder(depth=2, base_channels=8, padding="valid", size=44)
    builder.size.value = 45
    assert builder.picture.value == ""
    assert "role='alert'" in builder.facts.value and "cannot take a side of 45 pixels" in builder.facts.value
    builder.padding.value = "same"
    assert picture_of(builder)[1] == "U-Net of depth 2, 45 pixels in, 45 out"
    assert "alert" not in builder.facts.value


def test_every_depth_and_width_can_be_drawn():
    builder = UNetBuilder(padding="same", size=1)
    for depth in range(builder.depth.min, builder.depth.max + 1):
        builder.depth.value = depth
        assert picture_of(builder)[1] == f"U-Net of depth {depth}, 1 pixels in, 1 out"
    builder.size.value, builder.base.value = 2048, 4
    assert picture_of(builder)[1] == "U-Net of depth 5, 2048 pixels in, 2048 out"


def test_no_figure_stays_open():
    before = plt.get_fignums()
    UNetBuilder()
    assert plt.get_fignums() == before


def test_where_widgets_are_dead_a_line_is_left():
    builder = UNetBuilder()
    bundle = builder._repr_mimebundle_()
    assert bundle["text/plain"] == "U-Net builder: run this cell to move its sliders."
    assert VIEW in bundle

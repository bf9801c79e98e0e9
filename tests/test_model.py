"""The network: the paper's numbers, every size, every option, and what each output pixel can see."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import unetlab as ul
from unetlab.model import receptive_field

NORMS = ("batch", "group", "instance", "none")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def paper():
    return ul.UNet(in_channels=1, num_classes=2, base_channels=64, depth=4, norm="none", padding="valid")


# ------------------------------------------------------------------------------------------------ the paper's numbers


def test_paper_shapes():
    with torch.device("meta"):  # shapes without the arithmetic
        assert paper()(torch.empty(1, 1, 572, 572)).shape == (1, 2, 388, 388)
    assert paper().output_size(572) == 388


def test_paper_parameters_and_convolutions():
    model = paper()
    assert sum(p.numel() for p in model.parameters()) == 31_030_658
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) == 23
    widths = [block[0].out_channels for block in [*model.encoder, model.bottleneck, *model.decoder]]
    assert widths == [64, 128, 256, 512, 1024, 512, 256, 128, 64]


def test_he_initialisation():
    model = paper()
    weight = model.encoder[1][3].weight  # 128 channels, 3x3: N = 1152 incoming values
    assert weight.std().item() == pytest.approx(math.sqrt(2 / 1152), rel=0.01)
    up = model.upsamplers[0].weight  # 1024 channels, one pixel each
    assert up.std().item() == pytest.approx(math.sqrt(2 / 1024), rel=0.01)
    assert all(not m.bias.any() for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d))


# -------------------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=40)
@given(height=st.integers(1, 40), width=st.integers(1, 40), depth=st.integers(1, 4), training=st.booleans())
def test_every_size(norm, height, width, depth, training):
    model = ul.UNet(base_channels=2, depth=depth, norm=norm).train(training)
    output = model(torch.rand(1, 1, height, width))
    assert output.shape == (1, 1, height, width)
    assert output.isfinite().all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("base_channels", [1, 3, 5, 6, 9, 12])
def test_every_width(norm, base_channels):
    model = ul.UNet(base_channels=base_channels, depth=1, norm=norm).train()
    assert model(torch.rand(1, 1, 1, 1)).shape == (1, 1, 1, 1)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_one_pixel_trains(depth):
    """Torch's BatchNorm refuses a single value a channel, which a 1x1 map at the bottom would be."""
    model = ul.UNet(base_channels=2, depth=depth).train()
    model(torch.rand(1, 1, 1, 1)).sum().backward()


def test_padding_repeats_the_border():
    """A constant image of an odd size looks the same as a larger one: nothing but its own border was added."""
    model = ul.UNet(base_channels=2, depth=2, norm="none").eval()
    x = torch.rand(1, 1, 6, 7)
    by_hand = F.pad(x, (0, 1, 1, 1), mode="replicate")  # 8 x 8, the extra column right, the rows on both sides
    torch.testing.assert_close(model(x), model(by_hand)[..., 1:7, 0:7])


@pytest.mark.parametrize("depth, size", [(1, 18), (1, 20), (2, 44), (2, 48), (3, 92)])
def test_valid_sizes_come_out_as_said(depth, size):
    model = ul.UNet(base_channels=1, depth=depth, norm="none", padding="valid")
    assert model(torch.rand(1, 1, size, size)).shape[-1] == model.output_size(size)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 6])
def test_wrong_valid_sizes_name_the_nearest(depth):
    """Checked against the arithmetic of the paper: minus 4, halved, ..., and back."""

    def fits(size):
        for _ in range(depth):
            size -= 4
            if size <= 0 or size % 2:
                return False
            size //= 2
        size -= 4
        for _ in range(depth):
            size = 2 * size - 4
        return size >= 1

    model = ul.UNet(base_channels=1, depth=depth, norm="none", padding="valid")
    good = [size for size in range(1, 1200) if fits(size)]
    for size in range(1, 900, 7):
        if fits(size):
            assert model.output_size(size) >= 1
            continue
        below, above = max((g for g in good if g < size), default=None), min(g for g in good if g > size)
        nearest = f"nearest that fits: {above}." if below is None else f"nearest that fits: {below} or {above}."
        with pytest.raises(ValueError, match=nearest):
            model.output_size(size)


def test_wrong_valid_size_in_forward():
    model = ul.UNet(base_channels=1, depth=2, norm="none", padding="valid")
    with pytest.raises(ValueError, match="side of 47 pixels .* 44 or 48"):
        model(torch.rand(1, 1, 44, 47))


@pytest.mark.parametrize("shape", [(1, 1, 0, 5), (1, 1, 5, 0), (1, 3, 5, 5), (1, 5, 5), (5, 5)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_wrong_inputs(shape, padding):
    with pytest.raises(ValueError, match=r"takes \(N, 1, H, W\) images"):
        ul.UNet(base_channels=2, depth=1, padding=padding)(torch.zeros(shape))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"in_channels": 0}, "in_channels must be at least 1"),
        ({"num_classes": 0}, "num_classes must be at least 1"),
        ({"base_channels": 0}, "base_channels must be at least 1"),
        ({"depth": 0}, "depth must be at least 1"),
        ({"norm": "layer"}, "norm must be one of batch, group, instance, none"),
        ({"padding": "reflect"}, "padding must be one of same, valid"),
        ({"upsample": "cubic"}, "upsample must be one of transpose, bilinear, nearest"),
        ({"dropout": 1.0}, "dropout must lie in"),
        ({"dropout": -0.1}, "dropout must lie in"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        ul.UNet(**options)


# ------------------------------------------------------------------------------------------------------------ options


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("upsample", ["transpose", "bilinear", "nearest"])
@pytest.mark.parametrize("in_channels, num_classes", [(1, 1), (3, 4)])
def test_options(norm, upsample, in_channels, num_classes):
    model = ul.UNet(in_channels, num_classes, base_channels=4, depth=2, norm=norm, upsample=upsample)
    assert model(torch.rand(2, in_channels, 13, 10)).shape == (2, num_classes, 13, 10)
    again = ul.UNet(**model.config)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


def test_norms_are_the_ones_named():
    kinds = {"batch": nn.BatchNorm2d, "group": nn.GroupNorm, "instance": nn.InstanceNorm2d, "none": nn.Identity}
    for norm, kind in kinds.items():
        block = ul.UNet(base_channels=4, depth=1, norm=norm).encoder[0]
        assert isinstance(block[1], kind)
        assert (block[0].bias is None) == (norm != "none")


@pytest.mark.parametrize("upsample", ["bilinear", "nearest"])
def test_narrowing_before_interpolating_is_the_same(upsample):
    convolution, interpolation = ul.UNet(base_channels=4, depth=1, upsample=upsample).upsamplers[0]
    x = torch.rand(1, 8, 5, 6)
    torch.testing.assert_close(interpolation(convolution(x)), convolution(interpolation(x)))


def test_dropout():
    x = torch.rand(1, 1, 16, 16)
    model = ul.UNet(base_channels=4, depth=1, norm="none", dropout=0.5)
    assert not torch.equal(model.train()(x), model(x))
    assert torch.equal(model.eval()(x), model(x))
    without = ul.UNet(base_channels=4, depth=1, norm="none").train()
    assert torch.equal(without(x), without(x))


@pytest.mark.parametrize("num_classes", [1, 3])
def test_output_is_logits(num_classes):
    """No sigmoid and no softmax: what the last layer says comes out, of either sign and of any size."""
    model = ul.UNet(num_classes=num_classes, base_channels=2, depth=1)
    model.head.weight.data.zero_()
    for value in (-7.0, 0.0, 7.0):
        model.head.bias.data.fill_(value)
        assert (model(torch.rand(1, 1, 5, 5)) == value).all()


# --------------------------------------------------------------------------------------------------- skip connections


def test_valid_padding_crops_the_centre():
    """Where no padding is in sight, the unpadded network computes the same numbers as the padded one."""
    valid = ul.UNet(base_channels=3, depth=1, norm="none", padding="valid").double()
    same = ul.UNet(base_channels=3, depth=1, norm="none").double()
    same.load_state_dict(valid.state_dict())
    x = torch.rand(1, 1, 20, 26, dtype=torch.float64)
    torch.testing.assert_close(valid(x), same(x)[..., 8:12, 8:18])


def test_merge_can_be_overridden():
    class WithoutSkips(ul.UNet):
        def merge(self, skip, up):
            return torch.cat([torch.zeros_like(skip), up], dim=1)

    plain, without = (kind(base_channels=2, depth=2).eval() for kind in (ul.UNet, WithoutSkips))
    without.load_state_dict(plain.state_dict())
    x = torch.rand(1, 1, 16, 16)
    assert not torch.allclose(plain(x), without(x))
    for block in plain.decoder:  # the same by other means: weights that look at no skip
        block[0].weight.data[:, : block[0].in_channels // 2] = 0
    torch.testing.assert_close(plain(x), without(x))


# ---------------------------------------------------------------------------------------------------- receptive field


@pytest.mark.parametrize("depth, size", [(1, 32), (2, 64), (3, 128)])
@pytest.mark.parametrize("place", [0.0, 0.4, 0.5, 0.53, 0.55, 0.6])
@pytest.mark.parametrize("upsample", ["transpose", "nearest"])
def test_receptive_field_equals_the_gradient(depth, size, place, upsample):
    """Positive weights and inputs keep every ReLU open, so the gradient reaches whatever can be reached.

    A pooling hands the gradient to its largest input only, so the rows seen by many random images are put together.
    """
    model = ul.UNet(base_channels=1, depth=depth, norm="none", upsample=upsample).double()
    for parameter in model.parameters():
        parameter.data.abs_()
    x = torch.rand(16, 1, size, 16, dtype=torch.float64, requires_grad=True)
    position = int(place * size)
    model(x)[:, :, position].sum().backward()
    rows = x.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten().tolist()
    first, last = receptive_field(depth, position)
    assert (rows[0], rows[-1]) == (max(first, 0), min(last, size - 1))


def test_receptive_field_grows_with_depth_and_depends_on_the_position():
    extents = [receptive_field(depth, 512) for depth in range(1, 5)]
    widths = [last - first + 1 for first, last in extents]
    assert widths == sorted(set(widths))
    assert len({last - first for first, last in (receptive_field(3, p) for p in range(64))}) > 1


# ------------------------------------------------------------------------------------------------------- output prior


@pytest.mark.parametrize("share", [0.02, 0.2, 0.7])
def test_output_prior_binary(share):
    model = ul.UNet(base_channels=8, depth=2)
    x = torch.rand(4, 1, 32, 32)
    assert abs(model(x).sigmoid().mean().item() - share) > 0.05  # before: somewhere else
    model.set_output_prior(share)
    assert model(x).sigmoid().mean().item() == pytest.approx(share, rel=0.15)


def test_output_prior_classes():
    model = ul.UNet(num_classes=3, base_channels=8, depth=2)
    model.set_output_prior([0.7, 0.2, 0.1])
    mean = model(torch.rand(4, 1, 32, 32)).softmax(dim=1).mean(dim=(0, 2, 3))
    torch.testing.assert_close(mean, torch.tensor([0.7, 0.2, 0.1]), rtol=0.15, atol=0)


def test_output_prior_beside_whole_weights():
    model = ul.UNet(base_channels=8, depth=2)
    weights = model.head.weight.clone()
    model.set_output_prior(0.02, weight_scale=1.0)
    assert torch.equal(model.head.weight, weights)
    assert model.head.bias.sigmoid().item() == pytest.approx(0.02)


@pytest.mark.parametrize("shares", [0.0, 1.0, -0.1, float("nan"), [0.5, 0.5]])
def test_output_prior_errors(shares):
    with pytest.raises(ValueError, match=r"needs 1 share\(s\) in \(0, 1\)"):
        ul.UNet(base_channels=2, depth=1).set_output_prior(shares)


def test_a_standardising_network_starts_without_brightness_and_contrast_and_can_learn_them():
    torch.manual_seed(0)
    model, images = ul.UNet(2, base_channels=4, depth=2, standardise=True).eval(), torch.rand(2, 2, 16, 16)

    def logits():
        with torch.no_grad():
            return [model(x) for x in (images, 0.4 * images + 0.1, torch.full_like(images, 0.3))]

    as_it_is, darker, flat = logits()
    # Not to the last digit: the small number that keeps a flat picture finite weighs more where the contrast is low.
    torch.testing.assert_close(darker, as_it_is, atol=0.02, rtol=0.02)
    assert flat.isfinite().all()

    first = model.encoder[0][0].weight
    assert first.shape[1] == 4 and first[:, :2].std().item() == pytest.approx((2 / (2 * 9)) ** 0.5, rel=0.2)  # He
    assert not first[:, 2:].any()
    model(images).sum().backward()
    assert first.grad[:, 2:].any()
    with torch.no_grad():
        first -= first.grad / first.grad.norm()
    as_it_is, darker, _ = logits()
    assert (darker - as_it_is).abs().max() > 0.05
    assert ul.UNet(base_channels=4).config["standardise"] is False

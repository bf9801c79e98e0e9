"""The drawing of the U: its numbers are those of a real forward pass."""

import pytest
import torch
from matplotlib import pyplot as plt

import unetlab as ul
from unetlab.diagram import level_sizes, plot_unet
from unetlab.plots import to_png


def real_sizes(model, size):
    """Sides after each block, as the network computes them."""
    sides = []
    for block in [*model.encoder, model.bottleneck, *model.decoder]:
        block.register_forward_hook(lambda module, inputs, output: sides.append(output.shape[-1]))
    with torch.inference_mode():
        model(torch.zeros(1, model.config["in_channels"], size, size))
    return sides[: model.depth + 1], sides[model.depth + 1 :]


def unet(padding="same", **options):
    return ul.UNet(**{"base_channels": 1, "norm": "none", "padding": padding} | options)


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_the_paper():
    down, up = level_sizes(unet("valid", depth=4), 572)
    assert down == [568, 280, 136, 64, 28] and up == [52, 100, 196, 388]


@pytest.mark.parametrize(
    ("padding", "depth", "size"),
    [("same", 1, 1), ("same", 2, 7), ("same", 3, 64), ("same", 4, 60), ("valid", 1, 20), ("valid", 2, 44)]
    + [("valid", 3, 92), ("valid", 4, 188)],
)
def test_sides_are_those_of_a_forward_pass(padding, depth, size):
    model = unet(padding, depth=depth)
    assert level_sizes(model, size) == real_sizes(model, size)


def test_every_block_is_labelled():
    model = unet("valid", depth=2, base_channels=64, in_channels=3, num_classes=2)
    found = texts(plot_unet(model, 60))
    assert "image\n3 ch\n60²" in found and "logits\n2 ch\n20²" in found
    for label in ("64 ch\n56²", "128 ch\n24²", "256 ch\n8²", "128 ch\n12²", "64 ch\n20²"):
        assert found.count(label) == 1
    assert [text for text in found if "crop" in text] == ["crop to 24²", "crop to 16²"]


def test_a_padded_network_crops_nothing():
    found = texts(plot_unet(unet(depth=3), 50))
    assert not [text for text in found if "crop" in text]
    assert found.count("1 ch\n56²") == 2 and "logits\n1 ch\n50²" in found


def test_a_size_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="cannot take a side of 570 pixels"):
        plot_unet(unet("valid", depth=4), 570)


def test_weights_are_not_needed():
    with torch.device("meta"):
        model = ul.UNet(base_channels=64, depth=5)
    assert to_png(plot_unet(model, 512)) == to_png(plot_unet(model, 512))


@pytest.mark.parametrize(("padding", "depth", "size"), [("same", 1, 8), ("valid", 4, 572), ("same", 5, 2048)])
def test_nothing_overlaps_or_is_cut_off(padding, depth, size):
    figure = plot_unet(unet(padding, depth=depth, base_channels=64), size)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, figure.axes[0].texts[i]
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, figure.axes[0].texts[i]
        for other in boxes[:i]:
            assert not box.overlaps(other)

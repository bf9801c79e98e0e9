"""The U, drawn to scale: one box a level with its channels and its size in pixels. Used by ``01_unet_anatomy``."""

import math

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from unetlab.model import UNet
from unetlab.plots import STYLE

_DOWN, _UP, _SKIP, _BOTTOM = "#0072B2", "#D55E00", "#8C8C8C", "#009E73"


def level_sizes(model: UNet, size: int) -> tuple[list[int], list[int]]:
    """Side in pixels after each encoder block (bottleneck last), and after each decoder block (top last).

    Raises:
        ValueError: a size that the network does not take.
    """
    model.output_size(size)
    loss = 0 if model.padding == "same" else 4  # two 3x3 convolutions
    multiple = 2**model.depth
    side = -(-size // multiple) * multiple if model.padding == "same" else size
    down = []
    for _ in range(model.depth):
        down.append(side - loss)
        side = down[-1] // 2
    down.append(side - loss)
    up = [2 * down[-1] - loss]
    for _ in range(model.depth - 1):
        up.append(2 * up[-1] - loss)
    return down, up


def plot_unet(model: UNet, size: int) -> Figure:
    """Draw a network for a square input: channels and sides of every block, poolings, up-convolutions and skips.

    Args:
        model: the network (its weights are not used, so it may live on torch's "meta" device).
        size: side of the input in pixels.

    Raises:
        ValueError: a size that the network does not take.
    """
    down, up = level_sizes(model, size)
    depth, base = model.depth, model.config["base_channels"]
    with plt.style.context(STYLE):
        figure, axis = plt.subplots(figsize=(9, 0.85 * depth + 1.5), layout="none")
        figure.subplots_adjust(0, 0, 1, 1)
        axis.axis("off")
        axis.set(xlim=(-2.05, 2 * depth + 2.05), ylim=(-depth - 0.75, 0.55))

        def box(x, level, side, colour, label_at=0):
            """A block; its label stands to the left (-1), below (0) or to the right (1). Returns half its width."""
            channels = base * 2**level
            width = 0.10 + 0.055 * math.log2(channels)
            height = 0.56 * (side / down[0]) ** 0.35
            y = -level
            axis.add_patch(
                Rectangle((x - width / 2, y - height / 2), width, height, facecolor=colour, edgecolor="white")
            )
            where = (x + label_at * (width / 2 + 0.06), y) if label_at else (x, y - height / 2 - 0.05)
            align = {-1: ("right", "center"), 0: ("center", "top"), 1: ("left", "center")}[label_at]
            axis.text(*where, f"{channels} ch\n{side}²", ha=align[0], va=align[1], fontsize=9, linespacing=1.15)
            return width / 2

        def arrow(start, end, colour, style="-"):
            axis.add_patch(
                FancyArrowPatch(
                    start,
                    end,
                    arrowstyle="-|>",
                    mutation_scale=9,
                    color=colour,
                    linestyle=style,
                    linewidth=1.3,
                    shrinkA=0,
                    shrinkB=0,
                )
            )

        for level in range(depth):
            left, right = level, 2 * depth - level
            half = box(left, level, down[level], _DOWN, -1)
            box(right, level, up[depth - 1 - level], _UP, 1)
            arrow((left + half + 0.06, -level), (right - half - 0.06, -level), _SKIP, "--")
            if model.padding == "valid":
                crop = f"crop to {up[depth - 1 - level] + 4}²"
                axis.text(depth, -level + 0.05, crop, ha="center", va="bottom", fontsize=9, color="#555555")
            arrow((left + half + 0.04, -level - 0.17), (left + 0.8, -level - 0.72), _DOWN)
            arrow((right - 0.8, -level - 0.72), (right - half - 0.04, -level - 0.17), _UP)
        box(depth, depth, down[-1], _BOTTOM)

        arrow((-1.3, 0), (-0.95, 0), "black")
        axis.text(-1.36, 0, f"image\n{model.config['in_channels']} ch\n{size}²", ha="right", va="center", fontsize=9)
        arrow((2 * depth + 0.95, 0), (2 * depth + 1.3, 0), "black")
        text = f"logits\n{model.config['num_classes']} ch\n{model.output_size(size)}²"
        axis.text(2 * depth + 1.36, 0, text, ha="left", va="center", fontsize=9)
        for x, align, text, colour in (
            (-2.0, "left", "blue: 2 convolutions 3x3, pooling 2x2", _DOWN),
            (depth, "center", "dashed: skip connection", "#555555"),
            (2 * depth + 2.0, "right", "orange: up-convolution 2x2, 2 convolutions 3x3", _UP),
        ):
            axis.text(x, -depth - 0.72, text, fontsize=9, color=colour, va="bottom", ha=align)
    return figure

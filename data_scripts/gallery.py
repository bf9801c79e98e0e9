"""Make docs/images/gallery.png: each synthetic scene beside the real set of its area, in pictures and in numbers.

python course.py docs makes it, where all real sets are (see docs/data.md). Pictures of a set are shown only where its
licence lets anybody pass them on (CC0); of the others only shares and histograms, which hold no picture.
"""

import io
import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from PIL import Image

import unetlab as ul
from unetlab.plots import STYLE, TRUTH, to_png
from unetlab.realsets import REAL_SETS

TARGET = Path(__file__).parents[1] / "docs" / "images" / "gallery.png"
ROWS = (  # area, scene, real set, class that stands for the object
    ("Medical", "cells", "nuclei", "nucleus"),
    ("Natural", "animals", "pets", "pet"),
    ("Remote sensing", "roads", "aerial", "road"),
    ("Industrial", "defects", "tiles", "defect"),
)
SHOWN = 4


def pictures(axes, split, class_id) -> None:
    """Of the pictures that show the object, some from the middle of the order by share, with outlines."""
    share = (split.masks == class_id).float().mean((1, 2)).numpy()
    order = np.argsort(share)[np.count_nonzero(share < 0.01) :]
    middle = order[int(0.3 * len(order)) : int(0.85 * len(order))]
    for axis, i in zip(axes, middle[np.linspace(0, len(middle) - 1, SHOWN).astype(int)], strict=True):
        image = split.images[i].permute(1, 2, 0).numpy()
        axis.imshow(image if image.shape[2] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=255)
        axis.contour(split.masks[i] == class_id, [0.5], colors=TRUTH, linewidths=0.9)


def numbers(histogram, shares, data, class_id, label, colour, style) -> None:
    images, masks = data.train.images, data.train.masks
    counted = (masks != (255 if data.ignore_index is None else data.ignore_index)).numpy()
    grey = images.float().mean(1).numpy()
    edges = np.linspace(0, 255, 33)
    for part, line in ((masks.numpy() == class_id, style), (counted & (masks.numpy() != class_id), ":")):
        height, _ = np.histogram(grey[part & counted], edges, density=True)
        histogram.plot((edges[1:] + edges[:-1]) / 2, height, line, color=colour, linewidth=1.3)
    object_share = (masks.numpy() == class_id).sum((1, 2)) / counted.sum((1, 2)).clip(1)
    values = np.sort(object_share)
    shares.plot(values, np.linspace(0, 1, len(values)), style, color=colour, linewidth=1.5)
    mean = f"{label}:\nmean {object_share.mean():.0%}"
    shares.plot([], [], style, color=colour, label=mean)


def main() -> None:
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(
            4, 2 * SHOWN + 2, figsize=(13, 6), width_ratios=[1] * 2 * SHOWN + [1.5, 1.5], layout="constrained"
        )
        colours = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
        for row, (area, scene, real, name) in zip(axes, ROWS, strict=True):
            known = REAL_SETS[real]
            drawn, photographed = ul.load_dataset(scene, n=(200, 1, 1)), ul.load_dataset(real)
            class_id = photographed.class_names.index(name)
            for axis in row[: 2 * SHOWN]:
                axis.set(xticks=[], yticks=[])
                axis.patch.set_visible(False)
                axis.grid(False)
                axis.spines[:].set_visible(False)
            pictures(row[:SHOWN], drawn.train, 1)
            row[0].set_ylabel(area, fontweight="bold")
            for axis, title in (
                (row[0], f"scene: {scene}"),
                (row[SHOWN], f"real: {real} ({known.licence.split(',')[0]})"),
            ):
                axis.set_title(title, fontsize=9, loc="left").set_in_layout(False)
                axis.set_box_aspect(1)
            if known.licence.startswith("CC0"):
                pictures(row[SHOWN : 2 * SHOWN], photographed.train, class_id)
            else:
                why = "Not shown here:\nthe pictures are not ours to pass on."
                row[SHOWN].text(0, 0.5, f"{why}\nunetlab data fetch {real}", va="center", fontsize=9, in_layout=False)
            for k, (data, i, label) in enumerate(((drawn, 1, scene), (photographed, class_id, f"{real} ({name})"))):
                numbers(row[-2], row[-1], data, i, label, colours[k], ("-", "--")[k])
            row[-2].set(yticks=[], xlim=(0, 255), xticks=(0, 128, 255))
            row[-1].set(xlim=(0, 0.6), ylim=(0, 1.05), yticks=(0, 0.5, 1))
            row[-1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1), handlelength=1.2)
            for axis in row[-2:]:
                axis.tick_params(labelsize=7)
        axes[0, -2].set_title("object (rest dotted)", fontsize=8, loc="left")
        axes[0, -1].set_title("share of pictures below", fontsize=8, loc="left")
        axes[-1, -2].set_xlabel("grey level", fontsize=8)
        axes[-1, -1].set_xlabel("object share", fontsize=8)
        figure.supxlabel(
            f"Pictures: nuclei, {REAL_SETS['nuclei'].citation}; aerial, {REAL_SETS['aerial'].citation}. Both CC0.",
            fontsize=7,
        )
    # 128 colours are enough for it, and half the bytes.
    small = Image.open(io.BytesIO(to_png(figure))).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    small.save(TARGET, optimize=True)
    print(f"{TARGET.name}: {TARGET.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    try:
        main()
    except ul.DataError as error:  # a real set is not there
        sys.exit(f"gallery: {error}")

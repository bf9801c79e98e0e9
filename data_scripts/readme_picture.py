"""Make docs/images/first_run.png, the picture in the README: a run on the cells scene with one move of the hand."""

import io
from pathlib import Path

import torch
from matplotlib import pyplot as plt

import unetlab as ul
from unetlab.plots import to_png

TARGET = Path(__file__).parents[1] / "docs" / "images" / "first_run.png"


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cells = ul.load_dataset("cells")
    trainer = ul.Trainer(ul.UNet(base_channels=8, depth=3), cells.train, cells.val, lr=3e-2, batch_size=8)
    trainer.fit(12, script=ul.Script([(84, {"lr": 3e-3})]), verbose=False)
    scores = trainer.evaluate(cells.val)["dice_per_image"]
    figures = [
        ul.plot_history(trainer.history),
        ul.plot_predictions(cells.val.images, cells.val.masks, trainer.predict(cells.val.images), scores, count=7),
    ]
    pictures = [plt.imread(io.BytesIO(to_png(figure))) for figure in figures]
    width, height = 10, sum(p.shape[0] / p.shape[1] for p in pictures) * 10
    both, axes = plt.subplots(
        2, 1, figsize=(width, height), height_ratios=[p.shape[0] / p.shape[1] for p in pictures], layout="none"
    )
    both.subplots_adjust(0, 0, 1, 1, 0, 0)
    for axis, picture in zip(axes, pictures, strict=True):
        axis.imshow(picture)
        axis.axis("off")
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_bytes(to_png(both))


if __name__ == "__main__":
    main()

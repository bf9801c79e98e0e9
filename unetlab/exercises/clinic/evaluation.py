"""Ward 5 of the bug clinic, the evaluation: scripts as learners write them. A line's cure stands behind ``# fix:``."""

import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unetlab.exercises.clinic.bench import dice, fit, pictures, sick_if
from unetlab.model import UNet


@sick_if(lambda run: max(run["report"].values()) - min(run["report"].values()) > 1e-6)
def another_score(seed):
    images, masks = pictures(8, seed)
    masks[1:4, :, 4:] = 0  # three images with next to nothing in them
    found = masks * (torch.rand(masks.shape) > 0.2) + (1 - masks) * (torch.rand(masks.shape) < 0.05)

    def evaluate(batch_size):
        scores = []
        for part in torch.arange(8).split(batch_size):
            scores += [dice(found[part], masks[part])]  # fix: scores += [dice(found[i], masks[i]) for i in part]
        return sum(scores) / len(scores)

    report = {f"Dice, evaluated in batches of {n}": evaluate(n) for n in (1, 2, 8)}
    return locals()


@sick_if(lambda run: math.isnan(run["report"]["mean Dice"]))
def not_a_number(seed):
    images, masks = pictures(8, seed)
    masks[2] = 0  # a picture without a cell
    found = masks * (torch.rand(masks.shape) > 0.1)
    overlap = (found * masks).sum((1, 2, 3))
    sizes = found.sum((1, 2, 3)) + masks.sum((1, 2, 3))
    scores = 2 * overlap / sizes  # fix: scores = torch.where(sizes > 0, 2 * overlap / sizes, 1.0)
    report = {"mean Dice": scores.mean().item()}
    return locals()


@sick_if(lambda run: abs(run["report"]["first time"] - run["report"]["second time"]) > 1e-4)
def score_of_the_day(seed):
    images, masks = pictures(10, seed)
    found = masks * (torch.rand(masks.shape) < torch.rand(10, 1, 1, 1))  # each image has a quality of its own
    drop_last = True  # fix: drop_last = False
    loader = DataLoader(TensorDataset(found, masks), batch_size=4, shuffle=True, drop_last=drop_last)

    def evaluate():
        scores = [dice(f, m) for part in loader for f, m in zip(*part, strict=True)]
        return sum(scores) / len(scores)

    report = {"first time": evaluate(), "second time": evaluate()}
    return locals()


@sick_if(
    lambda run: run["val_dice"][run["kept"]] < max(run["val_dice"]) and run["val_loss"][-1] > 1.1 * min(run["val_loss"])
)
def rising_loss(seed):
    images, masks = pictures(3, seed)
    new_images, new_masks = pictures(8, seed + 100)
    net = UNet(base_channels=8, depth=2, norm="group")
    optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
    loss_function = nn.BCEWithLogitsLoss()
    losses, val_loss, val_dice = [], [], []
    for _ in range(45):
        losses += fit(net, optimizer, loss_function, images, masks, steps=2)
        with torch.no_grad():
            outputs = net(new_images)
        val_loss.append(loss_function(outputs, new_masks).item())
        val_dice.append(dice(outputs > 0, new_masks))
    kept = val_loss.index(min(val_loss))  # fix: kept = val_dice.index(max(val_dice))
    return locals()

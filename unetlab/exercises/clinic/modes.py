"""Ward 4 of the bug clinic, training and evaluation mode: learners' scripts. A line's cure stands behind ``# fix:``."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unetlab.exercises.clinic.bench import PlainUNet, dice, fit, pictures, sick_if
from unetlab.model import UNet


@sick_if(lambda run: any(one.with_gradient and not one.training for one in run.network_passes()))
def slow_after_epoch_one(seed):
    images, masks = pictures(8, seed)
    new_images, new_masks = pictures(8, seed + 100)
    net = UNet(base_channels=4, depth=2)
    loss_function = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)

    @torch.no_grad()
    def evaluate():
        net.eval()
        return dice(net(new_images) > 0, new_masks)

    losses, val_dice = [], []
    for _ in range(8):
        # fix: net.train()
        losses += fit(net, optimizer, loss_function, images, masks, steps=4)
        val_dice.append(evaluate())
    return locals()


@sick_if(lambda run: abs(run["report"]["Dice of image 1, alone"] - run["report"]["Dice of it beside 7 others"]) > 1e-3)
def company(seed):
    images, masks = pictures(8, seed, groups=8, group_shift=0.5)
    net = UNet(base_channels=8, depth=2)
    loss_function = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    losses = fit(net, optimizer, loss_function, images, masks, steps=30)
    # fix: net.eval()
    with torch.no_grad():
        alone, together = net(images[:1]), net(images)[:1]
    report = {
        "Dice of image 1, alone": dice(alone > 0, masks[:1]),
        "Dice of it beside 7 others": dice(together > 0, masks[:1]),
    }
    return locals()


@sick_if(lambda run: run["report"]["Dice in training mode"] - run["report"]["Dice in evaluation mode"] > 0.03)
def good_only_in_training(seed):
    images, masks = pictures(8, seed)
    net = UNet(base_channels=8, depth=2)
    loss_function = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    losses = fit(net, optimizer, loss_function, images, masks, steps=8)
    with torch.no_grad():
        # fix: [net(images) for _ in range(50)]  # the averages catch up, the weights stay
        report = {"Dice in training mode": dice(net(images) > 0, masks)}
        report["Dice in evaluation mode"] = dice(net.eval()(images) > 0, masks)
    return locals()


@sick_if(lambda run: "Expected more than 1 value per channel" in (run.error or ""))
def last_batch(seed):
    images, masks = pictures(17, seed, size=16)
    drop_last = False  # fix: drop_last = True
    loader = DataLoader(TensorDataset(images, masks), batch_size=8, shuffle=True, drop_last=drop_last)
    net = PlainUNet(depth=4)
    loss_function = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for image, mask in loader:
        losses += fit(net, optimizer, loss_function, image, mask, steps=1)
    return locals()

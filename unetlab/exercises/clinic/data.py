"""Ward 1 of the bug clinic, the data: scripts as learners write them. A line's cure stands behind ``# fix:``."""

import torch
from torch import nn
from torch.nn import functional as F

from unetlab.exercises.clinic.bench import PlainUNet, dice, fit, pictures, sick_if
from unetlab.model import UNet


@sick_if(lambda run: min(run["losses"]) < 0 and run["report"]["Dice"] > 1)
def below_zero(seed):
    images, drawn = pictures(8, seed)
    files = 255 * drawn  # the masks as they lie on the disk: an image editor wrote them
    masks = files  # fix: masks = (files > 127).float()
    net = UNet(base_channels=4, depth=2)
    loss_function = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    losses = fit(net, optimizer, loss_function, images, masks, steps=30)
    report = {"Dice": dice(net(images) > 0, masks)}
    return locals()


@sick_if(lambda run: run["losses"][-1] < 0.3 and run["report"]["object pixels found"] == 0)
def nothing_to_find(seed):
    images, drawn = pictures(8, seed)
    files = drawn  # the masks as they lie on the disk
    masks = (files > 127).float()  # fix: masks = (files > 0).float()
    net = UNet(base_channels=4, depth=2)
    loss_function = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    losses = fit(net, optimizer, loss_function, images, masks, steps=30)
    report = {"object pixels found": int((net(images) > 0).sum())}
    return locals()


@sick_if(lambda run: run["report"]["pixels of class 1 (vessel)"] > 0)
def rims(seed):
    images, drawn = pictures(4, seed, size=64)
    files = 2 * drawn  # these patients have class 2 (tumour) only: no vessel was drawn
    how = "bilinear"  # fix: how = "nearest"
    masks = F.interpolate(files, size=(40, 40), mode=how).round()
    images = F.interpolate(images, size=(40, 40), mode="bilinear")
    names = ("background", "vessel", "tumour")
    report = {f"pixels of class {k} ({name})": int((masks == k).sum()) for k, name in enumerate(names)}
    return locals()


@sick_if(lambda run: run["report"]["pixel accuracy"] > 0.97 and run["report"]["Dice"] < 0.05)
def all_black(seed):
    images, masks = pictures(8, seed, size=32, foreground=0.01, contrast=0.5)
    net = UNet(base_channels=8, depth=2)
    weight = None  # fix: weight = torch.tensor(20.0)
    loss_function = nn.BCEWithLogitsLoss(pos_weight=weight)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = fit(net, optimizer, loss_function, images, masks, steps=25)
    found = (net(images) > 0).float()
    report = {"pixel accuracy": (found == masks).float().mean().item(), "Dice": dice(found, masks)}
    return locals()


@sick_if(lambda run: "Sizes of tensors must match" in (run.error or ""))
def odd_size(seed):
    images, masks = pictures(4, seed, size=30)
    right = bottom = 0  # fix: right = bottom = -30 % 4
    images = F.pad(images, (0, right, 0, bottom), mode="replicate")
    net = PlainUNet(depth=2)
    outputs = net(images)[..., :30, :30]
    report = {"loss": F.binary_cross_entropy_with_logits(outputs, masks).item()}
    return locals()


@sick_if(lambda run: not set(run["train_groups"]).isdisjoint(run["val_groups"]))
def new_hospital(seed):
    images, masks = pictures(48, seed, size=24, groups=12, group_shift=1.0)
    patient = torch.arange(48) % 12
    here, elsewhere = patient < 6, patient >= 6
    chosen = torch.rand(48) < 0.3  # fix: chosen = patient >= 4
    train, val = here & ~chosen, here & chosen
    train_groups, val_groups = patient[train].tolist(), patient[val].tolist()
    net = UNet(base_channels=4, depth=2)
    loss_function = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
    losses = fit(net, optimizer, loss_function, images[train], masks[train], steps=40)
    net.eval()
    report = {
        "validation Dice": dice(net(images[val]) > 0, masks[val]),
        "Dice in the other hospital": dice(net(images[elsewhere]) > 0, masks[elsewhere]),
    }
    return locals()

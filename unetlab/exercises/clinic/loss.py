"""Ward 2 of the bug clinic, the loss: scripts as learners write them. A line's cure stands behind ``# fix:``."""

import math

import torch
from torch import nn

from unetlab.exercises.clinic.bench import dice, fit, pictures, sick_if, with_rim
from unetlab.losses import CompoundLoss
from unetlab.model import UNet


@sick_if(lambda run: math.isnan(run["report"]["loss, 4 images of 512 px"]))
def nan_when_large(seed):
    images, masks = pictures(4, seed, size=512)
    net = nn.Conv2d(1, 1, 3, padding=1)

    def dice_loss(outputs, truth):
        p, truth = outputs.sigmoid().half(), truth.half()  # fix: p = outputs.sigmoid()
        return 1 - 2 * (p * truth).sum() / (p.sum() + truth.sum())

    small, large = images[:1, :, :128, :128], images
    report = {"loss, 1 image of 128 px": dice_loss(net(small), masks[:1, :, :128, :128]).item()}
    report["loss, 4 images of 512 px"] = dice_loss(net(large), masks).item()
    return locals()


@sick_if(lambda run: min(run["losses"]) > run["share"] * 0.3132 + (1 - run["share"]) * 0.6931)
def high_floor(seed):
    images, masks = pictures(8, seed)
    share = masks.mean().item()
    last_layer = nn.Sigmoid()  # fix: last_layer = nn.Identity()
    net = nn.Sequential(UNet(base_channels=4, depth=2), last_layer)
    loss_function = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
    losses = fit(net, optimizer, loss_function, images, masks, steps=40)
    report = {"last loss": losses[-1], "best Dice": max(dice(net(images) > t, masks) for t in (0, 0.5))}
    return locals()


@sick_if(lambda run: min(run["losses"]) > 0.5514)
def never_below_half(seed):
    images, masks = with_rim(*pictures(8, seed))  # classes 0, 1, 2: background, rim, inside
    last_layer = nn.Softmax(dim=1)  # fix: last_layer = nn.Identity()
    net = nn.Sequential(UNet(num_classes=3, base_channels=4, depth=2), last_layer)
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
    losses = fit(net, optimizer, loss_function, images, masks, steps=40)
    report = {"pixels that are right": (net(images).argmax(1) == masks).float().mean().item()}
    return locals()


@sick_if(lambda run: run["losses"][0] - run["losses"][-1] < 0.05 and run["losses"][-1] > 0.9)
def almost_one(seed):
    images, masks = pictures(8, seed)
    net = UNet(base_channels=4, depth=2)
    net.set_output_prior([0.0001])  # taken over from a project with rare objects
    loss_function = CompoundLoss(lambda_ce=0)  # fix: loss_function = CompoundLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    losses = fit(net, optimizer, loss_function, images, masks, steps=40)
    report = {"first loss": losses[0], "last loss": losses[-1]}
    return locals()


@sick_if(lambda run: "only batches of spatial targets supported" in (run.error or ""))
def one_axis_too_many(seed):
    images, masks = pictures(4, seed)  # both of shape (4, 1, 24, 24)
    net = UNet(num_classes=2, base_channels=4, depth=2)
    target = masks  # fix: target = masks[:, 0].long()
    loss = nn.CrossEntropyLoss()(net(images), target)
    report = {"loss": loss.item()}
    return locals()

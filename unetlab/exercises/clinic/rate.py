"""Ward 3 of the bug clinic, the learning rate: scripts as learners write them. A line's cure stands behind ``# fix:``."""

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, OneCycleLR, ReduceLROnPlateau

from unetlab.exercises.clinic.bench import NoisyNet, dice, fit, pictures, sick_if
from unetlab.model import UNet


@sick_if(lambda run: run["losses"][-1] > run["losses"][0])
def blown_up(seed):
    images, masks = pictures(8, seed)
    net = UNet(base_channels=4, depth=2, norm="none")
    loss_function = nn.BCEWithLogitsLoss()
    lr = 30.0  # fix: lr = 0.3
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    losses = fit(net, optimizer, loss_function, images, masks, steps=30)
    report = {"last loss": losses[-1], "Dice": dice(net(images) > 0, masks)}
    return locals()


@sick_if(lambda run: abs(run["losses"][0] - run["losses"][-1]) < 0.01)
def nothing_moves(seed):
    images, masks = pictures(8, seed)
    net = UNet(base_channels=4, depth=2)
    loss_function = nn.BCEWithLogitsLoss()
    lr = 1e-6  # fix: lr = 1e-2
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    losses = fit(net, optimizer, loss_function, images, masks, steps=30)
    report = {"first loss": losses[0], "last loss": losses[-1], "Dice": dice(net(images) > 0, masks)}
    return locals()


@sick_if(lambda run: max(run["losses"][12:]) > 0.3 * run["losses"][0])
def overshoot(seed):
    net = NoisyNet(noise=0.1)
    momentum = 0.99  # fix: momentum = 0.9
    optimizer = torch.optim.SGD(net.parameters(), lr=0.03, momentum=momentum)
    losses = [net.train_an_epoch(optimizer, steps=1) for _ in range(80)]
    report = {"lowest loss": min(losses), "last loss": losses[-1]}
    return locals()


@sick_if(lambda run: run.rates[0] != 0.1)
def lost_first_rate(seed):
    images, masks = pictures(8, seed)
    net = UNet(base_channels=4, depth=2)
    loss_function = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    scheduler = ExponentialLR(optimizer, gamma=0.1)
    losses = []
    for _ in range(3):
        scheduler.step()  # fix:
        losses += fit(net, optimizer, loss_function, images, masks, steps=5)
        # fix: scheduler.step()
    return locals()


@sick_if(lambda run: min(run.rates) == max(run.rates))
def never_fires(seed):
    val_dice = [0.9 + 0.000101 * epoch for epoch in range(40)]  # the log of a run: it creeps
    net = UNet(base_channels=4, depth=2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    options = {}  # fix: options = {"threshold": 0.002, "threshold_mode": "abs"}
    scheduler = ReduceLROnPlateau(optimizer, mode="max", patience=15, **options)
    for value in val_dice:
        optimizer.step()  # stands for the training of an epoch
        scheduler.step(value)
    return locals()


@sick_if(lambda run: run.rates[-1] < run.rates[0] / 100)
def fading(seed):
    images, masks = pictures(8, seed)
    net = UNet(base_channels=8, depth=2)
    loss_function = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    options = {}  # fix: options = {"mode": "max"}
    scheduler = ReduceLROnPlateau(optimizer, patience=2, **options)
    losses, val_dice = [], []
    for _ in range(30):
        losses += fit(net, optimizer, loss_function, images, masks, steps=1)
        val_dice.append(dice(net(images) > 0, masks))
        scheduler.step(val_dice[-1])
    return locals()


@sick_if(lambda run: max(run.rates) < 0.5 * run["peak"])
def never_warm(seed):
    images, masks = pictures(36, seed)
    net = UNet(base_channels=4, depth=2)
    epochs, batches, peak = 4, 9, 0.1
    loss_function = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    scheduler = OneCycleLR(optimizer, max_lr=peak, total_steps=epochs * batches)
    losses = []
    for _ in range(epochs):
        for part in torch.randperm(36).split(4):
            losses += fit(net, optimizer, loss_function, images[part], masks[part], steps=1)
            # fix: scheduler.step()
        scheduler.step()  # fix:
    return locals()


@sick_if(lambda run: run.rates[-1] > 2 * min(run.rates))
def rises_again(seed):
    images, masks = pictures(8, seed)
    net = UNet(base_channels=4, depth=2)
    epochs = 30
    loss_function = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0, momentum=0.9)
    scheduler = CosineAnnealingLR(optimizer, T_max=15)  # fix: scheduler = CosineAnnealingLR(optimizer, T_max=epochs)
    losses = []
    for _ in range(epochs):
        losses += fit(net, optimizer, loss_function, images, masks, steps=1)
        scheduler.step()
    return locals()


@sick_if(lambda run: max(run.moves) > 0.2)
def spikes(seed):
    images, masks = pictures(24, seed)
    images[13] *= 300  # one picture of the set is far too bright
    net = UNet(base_channels=4, depth=2, norm="none")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loss_function = nn.BCEWithLogitsLoss()
    losses = []
    for _ in range(3):
        for part in torch.randperm(24).split(2):
            optimizer.zero_grad()
            loss = loss_function(net(images[part]), masks[part])
            loss.backward()
            # fix: nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
    return locals()

"""Ward 6 of the bug clinic, early stopping: scripts as learners write them. A line's cure stands behind ``# fix:``."""

import copy

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

from unetlab.early_stopping import EarlyStopping
from unetlab.exercises.clinic.bench import NoisyNet, dice, fit, pictures, sick_if
from unetlab.model import UNet


@sick_if(lambda run: run["stopper"].stopped_epoch is not None and run["report"]["epochs without progress"] < 5)
def too_soon(seed):
    net = NoisyNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02)
    looks = 5  # the validation set is looked at five times an epoch
    patience = 5  # fix: patience = 5 * looks
    stopper = EarlyStopping(monitor="val_loss", patience=patience)
    val_loss = []
    for _ in range(30 * looks):
        noise = 0.1 * torch.randn(1).item()  # a small validation set, each look at a fresh part of it
        val_loss.append(net.train_an_epoch(optimizer, steps=1) + noise)
        if stopper.update(val_loss[-1]).stop:
            break
    report = {"epochs trained": len(val_loss) / looks, "epochs without progress": stopper.wait / looks}
    return locals()


@sick_if(lambda run: run["report"]["Dice of the restored network"] < max(run["val_dice"]) - 0.1)
def backwards(seed):
    images, masks = pictures(8, seed)
    net = UNet(base_channels=8, depth=2)
    loss_function = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
    mode = "min"  # fix: mode = "max"
    stopper = EarlyStopping(monitor="val_dice", mode=mode, patience=6)
    losses, val_dice, kept = [], [], None
    for _ in range(30):
        losses += fit(net, optimizer, loss_function, images, masks, steps=1)
        val_dice.append(dice(net(images) > 0, masks))
        decision = stopper.update(val_dice[-1])
        if decision.improved:
            kept = copy.deepcopy(net.state_dict())
        if decision.stop:
            break
    net.load_state_dict(kept)
    report = {"epochs": len(val_dice), "Dice of the restored network": dice(net(images) > 0, masks)}
    return locals()


@sick_if(lambda run: min(run.rates) == max(run.rates))
def lost_race(seed):
    net = NoisyNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    scheduler = ReduceLROnPlateau(optimizer, patience=10)
    stopper = EarlyStopping(patience=10)  # fix: stopper = EarlyStopping(patience=30)
    val_loss = []
    for _ in range(150):
        val_loss.append(net.train_an_epoch(optimizer))
        scheduler.step(val_loss[-1])
        if stopper.update(val_loss[-1]).stop:
            break
    report = {"epochs": len(val_loss), "best loss": min(val_loss)}
    return locals()


@sick_if(lambda run: run.rates[-1] > 0.5 * run.rates[0])
def cut_short(seed):
    net = NoisyNet()
    epochs = 100
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    scheduler = CosineAnnealingLR(optimizer, T_max=epochs)
    stopper = EarlyStopping(patience=8)  # fix: stopper = EarlyStopping(patience=epochs)
    val_loss = []
    for _ in range(epochs):
        val_loss.append(net.train_an_epoch(optimizer))
        scheduler.step()
        if stopper.update(val_loss[-1]).stop:
            break
    report = {"epochs": len(val_loss), "best loss": min(val_loss)}
    return locals()


@sick_if(lambda run: run["report"]["loss of the restored network"] > min(run["val_loss"]) + 1e-6)
def best_is_last(seed):
    net = NoisyNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    best, kept, val_loss = float("inf"), None, []
    for _ in range(40):
        val_loss.append(net.train_an_epoch(optimizer))
        if val_loss[-1] < best:
            best = val_loss[-1]
            kept = net.state_dict()  # fix: kept = copy.deepcopy(net.state_dict())
    net.load_state_dict(kept)
    report = {"best loss": best, "loss of the restored network": net.weight.square().mean().item()}
    return locals()


@sick_if(lambda run: run["report"]["checkpoints written"] == 0)
def nothing_kept(seed):
    images, masks = pictures(8, seed)
    net = UNet(base_channels=8, depth=2)
    loss_function = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
    monitor = "val_dice_score"  # fix: monitor = "val_dice"
    best, kept, written, losses = 0.0, None, 0, []
    for _ in range(20):
        losses += fit(net, optimizer, loss_function, images, masks, steps=1)
        logs = {"loss": losses[-1], "val_dice": dice(net(images) > 0, masks)}
        if monitor in logs and logs[monitor] > best:
            best, kept, written = logs[monitor], copy.deepcopy(net.state_dict()), written + 1
    report = {"checkpoints written": written}
    return locals()

"""The recipes that are compared: ours, and what a learner would use instead, all on the same network.

Each is a function of (data, seed, epochs, watch): it trains a fresh network on ``data.train`` and calls ``watch(score)``
after every epoch, ``score()`` being the validation Dice. ``watch`` raises ``Enough`` to end the run. A learning rate that
a recipe found is left in ``watch.rate``. Every recipe pays for one evaluation an epoch, and for finding its rate.
"""

import logging
import warnings

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import unetlab as ul
from unetlab.cli import _SETTINGS, _make_trainer

WIDTH, DEPTH, BATCH = 8, 3, 8


class Enough(Exception):
    """The score was reached, or the time is up."""


def network(data, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return ul.UNet(data.in_channels, data.num_classes, WIDTH, DEPTH)


@torch.inference_mode()
def dice(model: nn.Module, data) -> float:
    """Mean Dice over the validation images, the same for all."""
    training = model.training
    model.eval()
    logits = [model(part.float() / 255) for part in data.val.images.split(BATCH)]
    model.train(training)
    return ul.dice_score(torch.cat(logits), data.val.masks, ignore_index=data.ignore_index)


def tensors(data) -> tuple[torch.Tensor, torch.Tensor]:
    return data.train.images.float() / 255, data.train.masks.float()[:, None]


def bce_and_dice(logits, masks):
    """The sum that most recipes on the web use, Dice over the batch."""
    p = logits.sigmoid()
    overlap = (2 * (p * masks).sum() + 1e-6) / (p.sum() + masks.sum() + 1e-6)
    return nn.functional.binary_cross_entropy_with_logits(logits, masks) + 1 - overlap


def default_trainer(data, seed: int) -> ul.Trainer:
    """What `unetlab train` makes without options."""
    config = {name: default for name, (_, default, _, _) in _SETTINGS.items()} | {"seed": seed, "device": "cpu"}
    trainer = _make_trainer(config, data)
    assert (trainer.model.config["base_channels"], trainer.model.config["depth"]) == (WIDTH, DEPTH)
    return trainer


def unetlab(data, seed, epochs, watch):
    """Ours, for as long as `unetlab train` trains without options."""
    trainer = default_trainer(data, seed)
    finish = trainer._finish_epoch

    def finish_and_watch(started):
        improved = finish(started)
        watch(lambda: trainer.history.epochs[-1]["val_dice"])
        return improved

    trainer._finish_epoch = finish_and_watch
    trainer.fit(epochs or _SETTINGS["epochs"][1], verbose=None)


def plain_adam(data, seed, epochs, watch):
    """The loop of most tutorials: Adam 1e-4, constant, float32."""
    model = network(data, seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    for _ in range(10**6):
        for x, y in DataLoader(TensorDataset(*tensors(data)), BATCH, shuffle=True):
            optimizer.zero_grad()
            loss = bce_and_dice(model(x), y)
            loss.backward()
            optimizer.step()
            loss.item()
        watch(lambda: dice(model, data))


def milesial(data, seed, epochs, watch):
    """The published defaults of milesial/Pytorch-UNet: batch 1, RMSprop 1e-5 with momentum 0.999, plateau, clip 1."""
    model = network(data, seed)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-5, weight_decay=1e-8, momentum=0.999, foreach=True)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", patience=5)
    for _ in range(10**6):
        for x, y in DataLoader(TensorDataset(*tensors(data)), 1, shuffle=True):
            optimizer.zero_grad()
            loss = bce_and_dice(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            loss.item()
        score = dice(model, data)
        plateau.step(score)
        watch(lambda score=score: score)


def lightning(data, seed, epochs, watch):
    """Lightning: Adam, one cycle at the rate that its tuner suggests."""
    import lightning as L
    from lightning.pytorch.tuner import Tuner

    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    loader = DataLoader(TensorDataset(*tensors(data)), BATCH, shuffle=True)

    class Module(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.model, self.lr, self.searching = network(data, seed), 1e-3, True

        def training_step(self, batch, _):
            return bce_and_dice(self.model(batch[0]), batch[1])

        def configure_optimizers(self):
            optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
            if self.searching:
                return optimizer
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.lr, total_steps=epochs * len(loader))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

        def on_train_epoch_end(self):
            if not self.searching:
                watch(lambda: dice(self.model, data))

    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    module = Module()
    Tuner(L.Trainer(accelerator="cpu", max_epochs=epochs, **quiet)).lr_find(module, train_dataloaders=loader)
    module.searching, watch.rate = False, module.lr
    L.Trainer(accelerator="cpu", max_epochs=epochs, **quiet).fit(module, loader)


def fastai(data, seed, epochs, watch):
    """fastai: lr_find, then fit_one_cycle at the rate it suggests."""
    from fastai.basics import Callback, DataLoaders, Learner
    from fastai.basics import DataLoader as Loader
    from fastai.callback import schedule  # noqa: F401, gives Learner its lr_find and fit_one_cycle

    warnings.simplefilter("ignore")
    x, y = tensors(data)
    train = Loader(TensorDataset(x, y), bs=BATCH, shuffle=True, num_workers=0)
    loaders = DataLoaders(train, Loader(TensorDataset(x[:1], y[:1]), bs=1, num_workers=0), device="cpu")

    class Watch(Callback):
        def after_train(self):
            watch(lambda: dice(self.learn.model, data))

    learner = Learner(loaders, network(data, seed), loss_func=bce_and_dice)
    with learner.no_bar(), learner.no_logging():
        watch.rate = learner.lr_find(show_plot=False).valley
        learner.fit_one_cycle(epochs, watch.rate, cbs=Watch())


RECIPES = {r.__name__: r for r in (unetlab, lightning, fastai, plain_adam, milesial)}

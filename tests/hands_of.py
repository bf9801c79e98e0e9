"""Hands of a game so small that a test can play dozens of them."""

import json

import torch

import unetlab as ul
from unetlab.lab.session import Session

EPOCHS, STEPS = 4, 2  # of the game; optimizer steps in an epoch


def a_trainer(seed=0, data=None, model=None, **options):
    """A trainer of the game: eight pictures of 16 pixels, a U-Net of base 2."""
    data = data or ul.load_dataset("cells", size=16, n=(8, 4, 1))
    if model is None:
        torch.manual_seed(seed)
        model = ul.UNet(base_channels=2, depth=1)
    return ul.Trainer(model, data.train, data.val, **{"batch_size": 4, "seed": seed, "device": "cpu"} | options)


def played(moves=(), trainer=None, epochs=EPOCHS):
    """A session that trained to its end."""
    session = Session(trainer or a_trainer(), epochs, ul.Script(moves))
    session.start()
    session.wait(60)
    return session


def changed(path, change):
    """Edit a file by hand: ``change`` gets its content."""
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))

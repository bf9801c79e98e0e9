"""A training run that takes a step only when the test says so, and a patient way to wait for a thread."""

import threading
import time

import torch
from tiny import trainer
from torch import nn

import unetlab as ul


class Gate(nn.Module):
    """A loss at which every training step waits, until it is let through or the gate is opened for good."""

    def __init__(self):
        super().__init__()
        self.loss = ul.CompoundLoss()
        self.passes = threading.Semaphore(0)
        self.is_open = False
        self.waiting = 0  # steps that came to the gate

    def forward(self, logits, masks):
        if torch.is_grad_enabled() and not self.is_open:
            self.waiting += 1
            assert self.passes.acquire(timeout=60), "nobody let this step through"
        return self.loss(logits, masks)

    def let(self, steps=1):
        """Let so many steps through and wait until the next one stands at the gate."""
        until(lambda: self.waiting)
        came = self.waiting + steps
        for _ in range(steps):
            self.passes.release()
        until(lambda: self.waiting == came)

    def open(self):
        self.is_open = True
        self.passes.release()


def gated_trainer(**options):
    gate = Gate()
    return trainer(loss=gate, **options), gate


def until(true, seconds=60):
    """Wait until a function of no arguments says True."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"did not come true in {seconds} s"
        time.sleep(0.002)


def rows(history):
    """What a run did, without the seconds it took."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history.epochs], history.steps, history.moves

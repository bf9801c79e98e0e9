"""An exponential moving average of the weights: a calmer copy of a network that is still moving.

Taught in ``05a_tricks``. Source: Polyak and Juditsky 1992; the growing decay is that of TensorFlow's
``ExponentialMovingAverage``: ``min(decay, (1 + n) / (10 + n))`` after n updates, so that a short run is not dominated by
its random start.
"""

import copy
from itertools import compress

import torch
from torch import nn


class EMA:
    """Keeps ``module``, an averaged copy of a network, up to date.

    Args:
        model: the network that is trained.
        decay: weight of the old average, in (0, 1): 0.99 averages over about the last 100 steps.

    Raises:
        ValueError: a decay outside (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float = 0.99):
        if not 0 < decay < 1:
            raise ValueError(f"ema must lie in (0, 1), not {decay}")
        self.decay, self.updates = decay, 0
        self.module = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the network: its weights, and the BatchNorm statistics that belong to them."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        averages, currents = ([*network.parameters(), *network.buffers()] for network in (self.module, model))
        numbers = [average.is_floating_point() for average in averages]
        torch._foreach_lerp_([*compress(averages, numbers)], [*compress(currents, numbers)], 1 - decay)
        for average, current, number in zip(averages, currents, numbers, strict=True):
            if not number:  # a counter of BatchNorm
                average.copy_(current)

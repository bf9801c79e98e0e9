"""What the scripts of the bug clinic share: small pictures, the plain training loop, a Dice, a U-Net that does not pad."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unetlab.model import DoubleConv
from unetlab.scenes import make_scene


def sick_if(symptom: Callable) -> Callable:
    """Mark a script with its symptom: a function of the finished ``Run``, true of the broken run, false of the cured one."""

    def mark(script: Callable) -> Callable:
        script.symptom = symptom
        return script

    return mark


def pictures(n: int, seed: int, size: int = 24, **knobs) -> tuple[Tensor, Tensor]:
    """Synthetic cells: images (n, 1, size, size) from 0 to 1, masks of 0 and 1. ``knobs`` are those of ``make_scene``."""
    scene = make_scene("cells", n, size, seed, **knobs)
    return scene.images.float() / 255, scene.masks[:, None].float()


def fit(net: nn.Module, optimizer, loss_function: Callable, images: Tensor, masks: Tensor, steps: int) -> list[float]:
    """The plain training loop: all images in each step. Returns the loss of every step."""
    losses = []
    for _ in range(steps):
        loss = loss_function(net(images), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def dice(found: Tensor, truth: Tensor) -> float:
    """2 |found and truth| / (|found| + |truth|), all pixels pooled; nan where both are empty."""
    found, truth = found.float(), truth.float()
    return (2 * (found * truth).sum() / (found.sum() + truth.sum())).item()


class PlainUNet(nn.Module):
    """A U-Net as many repositories have it: it neither pads nor crops, so each side must be a multiple of ``2**depth``."""

    def __init__(self, depth: int, width: int = 4):
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(DoubleConv(a, b, "batch", 1) for a, b in zip([1, *widths], widths, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[-2::-1])
        self.merge = nn.ModuleList(DoubleConv(2 * w, w, "batch", 1) for w in widths[-2::-1])
        self.pool, self.head = nn.MaxPool2d(2), nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for block in self.down[:-1]:
            skips.append(block(x))
            x = self.pool(skips[-1])
        x = self.down[-1](x)
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([skips.pop(), up(x)], dim=1))
        return self.head(x)


def with_rim(images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Class ids (n, H, W) in place of masks (n, 1, H, W): 0 background, 1 the rim of a cell, 2 its inside."""
    inside = -F.max_pool2d(-masks, kernel_size=3, stride=1, padding=1)
    return images, (masks + inside)[:, 0].long()


class NoisyNet(nn.Module):
    """The smallest thing that trains like a network: its loss falls, then jitters on a floor that the learning rate sets.

    Fifty weights that should all be 0, seen through noise. It lets a run of a hundred epochs pass in milliseconds.
    """

    def __init__(self, noise: float = 1.0):
        super().__init__()
        self.noise, self.weight = noise, nn.Parameter(torch.ones(50))

    def train_an_epoch(self, optimizer, steps: int = 5) -> float:
        """Make some noisy steps; returns the validation loss after them."""
        for _ in range(steps):
            self.weight.grad = self.weight.detach() + self.noise * torch.randn(50)
            optimizer.step()
        return self.weight.square().mean().item()

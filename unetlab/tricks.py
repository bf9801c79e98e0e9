"""Three tricks that are not an option of the trainer: test-time augmentation, deep supervision, label smoothing.

Taught in ``05a_tricks``, where each is measured against the same network without it. The others are options:
``Trainer(ema=, grad_clip=, accumulate=, precision=, optimizer={"name": "adamw", "weight_decay": ...})``, ``UNet(dropout=)``
and ``UNet.set_output_prior``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.inference_mode()
def average_views(model: nn.Module, images: Tensor) -> Tensor:
    """Test-time augmentation: the mean prediction over the eight flips and quarter turns of each image.

    The U-Net paper averages over seven rotated versions of its input (table 1). Costs eight predictions instead of one.

    Args:
        model: gives logits (N, C, H, W); it is left in evaluation mode.
        images: (N, channels, H, W) float in [0, 1], square.

    Returns:
        Probabilities (N, C, H, W): of the foreground for C = 1, of each class for more.

    Raises:
        ValueError: images that are not square.
    """
    if images.shape[-1] != images.shape[-2]:
        raise ValueError(f"quarter turns need square images, not {tuple(images.shape[-2:])}")
    model.eval()
    total: Tensor | float = 0.0
    for turns in range(4):
        for flip in (False, True):
            view = images.rot90(turns, (2, 3))
            logits = model(view.flip(3) if flip else view).float()
            probabilities = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)
            total = total + (probabilities.flip(3) if flip else probabilities).rot90(-turns, (2, 3))
    return total / 8


class DeepSupervision(nn.Module):
    """A U-Net whose lower decoder levels must predict the mask as well, each through a 1x1 convolution of its own.

    The gradient then reaches the bottom on a short way (Lee et al. 2015, arXiv:1409.5185). In evaluation it is the plain
    network. Train it with ``loss=network.loss(ul.CompoundLoss())``.

    Args:
        unet: a ``UNet`` with ``padding="same"``; H and W of the images must be multiples of ``2**depth``.
    """

    def __init__(self, unet: nn.Module):
        super().__init__()
        self.unet, self.config = unet, unet.config
        lower = list(unet.decoder)[:-1]
        self.heads = nn.ModuleList(nn.Conv2d(block[-3].out_channels, unet.config["num_classes"], 1) for block in lower)
        self.side: list[Tensor] = []
        for block, head in zip(lower, self.heads, strict=True):
            block.register_forward_hook(lambda _, __, features, head=head: self._listen(head, features))

    def _listen(self, head: nn.Module, features: Tensor) -> None:
        if self.training:
            self.side.append(head(features))

    def forward(self, images: Tensor) -> Tensor:
        self.side = []
        return self.unet(images)

    def loss(self, loss: nn.Module):
        """The loss of the full size plus those of the levels below, with half the weight a level (nnU-Net's weights)."""

        def supervised(logits: Tensor, targets: Tensor) -> Tensor:
            outputs = [logits, *self.side[::-1]]  # largest first; in evaluation only the logits
            weights = [0.5**level for level in range(len(outputs))]
            total = sum(
                weight * loss(F.interpolate(output, size=targets.shape[-2:], mode="bilinear"), targets)
                for weight, output in zip(weights, outputs, strict=True)
            )
            return total / sum(weights)

        return supervised


def smooth_labels(targets: Tensor, smoothing: float) -> Tensor:
    """Label smoothing of a binary mask: (N, H, W) ids 0 and 1 -> (N, 1, H, W) float, half of ``smoothing`` away from both.

    Szegedy et al. 2016, arXiv:1512.00567, section 7. Raises ValueError if ``smoothing`` is not in [0, 1).
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing must lie in [0, 1), not {smoothing}")
    return targets[:, None].float() * (1 - smoothing) + smoothing / 2

"""Augmentation: new views of the training images, drawn anew at every step, on the device, in one resampling.

Taught in ``02a_data``. Flips, quarter turns, rotation, scale, shift and the elastic deformation of the U-Net paper
(section 3.1: random displacements on a coarse 3x3 grid, standard deviation 10 px) are composed into **one** sampling
grid, so an image is interpolated once, and its mask follows the very same grid with the nearest class id (interpolated
ids would be classes that do not exist). What leaves the image is filled by its mirror, as in the paper.
"""

import math
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augment:
    """A batched random warp, plus brightness and contrast. All zeros and False: images pass unchanged.

    Args:
        flip: mirror left-right and up-down, each with probability 1/2.
        turn: quarter turns, each of the four with probability 1/4 (square images only).
        rotate: largest angle in degrees, uniform in [-rotate, rotate].
        scale: largest zoom, log-uniform in [1 / (1 + scale), 1 + scale].
        shift: largest shift as a share of the side.
        elastic: standard deviation in pixels of the displacements on a 3x3 grid.
        brightness: largest offset, on the [0, 1] scale of the image.
        contrast: largest change of the gain around the image's mean, log-uniform like ``scale``.
        crop: side in pixels of a square window cut at random (at the original resolution); None for the whole image.
        probability: share of the images that are distorted. The others are flipped, turned by quarters and cropped, which
            moves pixels but mixes none: so the network also sees pictures as sharp as those it will be asked about.

    Raises:
        ValueError: a negative strength; a probability above 1; ``turn`` on images that are not square; a crop larger
            than the image.
    """

    flip: bool = False
    turn: bool = False
    rotate: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    elastic: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    crop: int | None = None
    probability: float = 1.0

    def __post_init__(self):
        for name, value in asdict(self).items():
            if value is not None and value < 0:
                raise ValueError(f"Augment({name}={value}): must be at least 0")
        if self.probability > 1:
            raise ValueError(f"Augment(probability={self.probability}): must be at most 1")

    @torch.no_grad()
    def __call__(
        self, images: Tensor, masks: Tensor, generator: torch.Generator, batch: int | None = None, first: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Images (N, C, H, W) float in [0, 1] and masks (N, H, W) integer -> the same, H and W being ``crop`` if set.

        ``generator`` lives on the images' device; the same generator state gives the same views. Where several processes
        share a batch, each passes its own images, and says that they are ``first`` to ``first + N - 1`` of ``batch``:
        then every image gets the view that it would get in one process.
        """
        draw = _Draws(generator, len(images), batch or len(images), first, self.probability)
        grid = self._grid(images, draw)
        if grid is not None:
            images = F.grid_sample(images, grid, "bilinear", "reflection", align_corners=False)
            warped = F.grid_sample(masks[:, None].float(), grid, "nearest", "reflection", align_corners=False)
            masks = warped[:, 0].to(masks.dtype)
        if self.contrast or self.brightness:
            mean = images.mean((1, 2, 3), keepdim=True)
            gain = draw.log_uniform(self.contrast)[:, None, None, None]
            offset = draw.uniform(self.brightness)[:, None, None, None]
            images = ((images - mean) * gain + mean + offset).clamp(0, 1)
        return images, masks

    def _grid(self, images: Tensor, draw: "_Draws") -> Tensor | None:
        """Where each output pixel looks in the input: (N, h, w, 2) in grid_sample's units, or None for nowhere new."""
        if not (self.flip or self.turn or self.rotate or self.scale or self.shift or self.elastic or self.crop):
            return None
        n, _, height, width = images.shape
        if self.turn and height != width:
            raise ValueError(f"Augment(turn=True) needs square images, not {height}x{width}: use flip and rotate")
        if self.crop and self.crop > min(height, width):
            raise ValueError(f"Augment(crop={self.crop}) is larger than the images ({height}x{width})")
        # From here on in pixels from the centre, x first. Sizes come to the device by arithmetic: a copy from the CPU
        # would make a GPU wait.
        half = _pair(width / 2, height / 2, images)

        angle = torch.deg2rad(draw.uniform(self.rotate))
        if self.turn:
            angle = angle + draw.whole(4) * (math.pi / 2)
        matrix = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(n, 2, 2)
        if self.flip:
            matrix = matrix * (draw.whole(2, 1, 2) * 2 - 1)
        if self.scale:
            matrix = matrix / draw.log_uniform(self.scale)[:, None, None]

        out_h, out_w = (self.crop, self.crop) if self.crop else (height, width)
        y = torch.arange(out_h, device=images.device) - (out_h - 1) / 2
        x = torch.arange(out_w, device=images.device) - (out_w - 1) / 2
        pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).expand(n, out_h, out_w, 2)
        if self.elastic:
            coarse = draw.normal(self.elastic, 2, 3, 3)
            smooth = F.interpolate(coarse, size=(out_h, out_w), mode="bicubic", align_corners=True)
            pixels = pixels + smooth.movedim(1, -1)
        pixels = pixels @ matrix.transpose(1, 2)[:, None]  # one product a row of pixels
        if self.crop:
            room = _pair(width - out_w, height - out_h, images)
            pixels = pixels + ((draw.share(2) * (room + 1)).floor() - room / 2)[:, None, None]
        if self.shift:
            pixels = pixels + (draw.uniform(self.shift, 2) * 2 * half)[:, None, None]
        return pixels / half


class _Draws:
    """Random numbers for images ``first`` to ``first + n - 1`` of a batch: drawn for all of it, and cut.

    Distortions (uniform, log_uniform, normal) are those of a share ``probability`` of the images, and 0 for the others.
    """

    def __init__(self, generator: torch.Generator, n: int, batch: int, first: int, probability: float):
        self.generator, self.batch, self.own = generator, batch, slice(first, first + n)
        self.distorted = self.share() < probability if probability < 1 else torch.ones(n, device=generator.device)

    def share(self, *shape: int) -> Tensor:
        """Uniform in [0, 1): (n, *shape)."""
        return torch.rand((self.batch, *shape), generator=self.generator, device=self.generator.device)[self.own]

    def whole(self, below: int, *shape: int) -> Tensor:
        """Whole numbers from 0 to ``below - 1``."""
        size = (self.batch, *shape)
        return torch.randint(below, size, generator=self.generator, device=self.generator.device)[self.own]

    def normal(self, deviation: float, *shape: int) -> Tensor:
        size = (self.batch, *shape)
        drawn = torch.randn(size, generator=self.generator, device=self.generator.device)[self.own]
        return self._of_the_distorted(drawn * deviation)

    def uniform(self, limit: float, *shape: int) -> Tensor:
        return self._of_the_distorted((self.share(*shape) * 2 - 1) * limit)

    def log_uniform(self, limit: float) -> Tensor:
        return torch.exp(self.uniform(math.log1p(limit)))

    def _of_the_distorted(self, drawn: Tensor) -> Tensor:
        return drawn * self.distorted.view(-1, *[1] * (drawn.dim() - 1))


def _pair(x: float, y: float, like: Tensor) -> Tensor:
    return torch.stack([like.new_full((), x), like.new_full((), y)])


AUGMENTATIONS = {
    "none": None,
    "flips": Augment(flip=True, turn=True),
    # No mirror, no large turn: the front and the back of a hippocampus would become one another.
    # And half of the pictures as they are, as sharp as those that will be asked about.
    "standard": Augment(rotate=15, scale=0.2, brightness=0.1, contrast=0.25, probability=0.5),
    "elastic": Augment(flip=True, rotate=180, scale=0.25, elastic=10, brightness=0.1, contrast=0.25),
}


def make_augment(name: str, crop: int | None = None) -> Augment | None:
    """An augmentation by name, with an optional random crop in pixels.

    "standard" takes no symmetry for granted: it turns half of the pictures a little, zooms, and changes the light. "flips"
    mirrors and makes quarter turns, "elastic" does all of it and bends: both are for pictures that are as likely the
    other way round.

    Raises:
        ValueError: an unknown name.
    """
    if name not in AUGMENTATIONS:
        raise ValueError(f"unknown augmentation {name!r}: choose one of {', '.join(AUGMENTATIONS)}")
    chosen = AUGMENTATIONS[name]
    return chosen if crop is None else replace(chosen or Augment(), crop=crop)

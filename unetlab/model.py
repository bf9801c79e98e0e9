"""The U-Net: a contracting path, an expansive path, and skip connections between equal levels.

Taught in ``01_unet_anatomy``. Source: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image
Segmentation", MICCAI 2015, arXiv:1505.04597 (section 2 and figure 1). With ``padding="valid", base_channels=64, depth=4,
norm="none", in_channels=1, num_classes=2`` this is the network of the paper: 572 in, 388 out, 23 convolutions,
31,030,658 parameters. The defaults are today's habit: padded convolutions, BatchNorm, any image size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _norm(kind: str, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        # Up to 8 groups of equal size, never of a single channel (that would be instance norm).
        return nn.GroupNorm(math.gcd(8, channels, channels // 2), channels)
    if kind == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    return nn.Identity()


class DoubleConv(nn.Sequential):
    """Two times (3x3 convolution, normalisation, ReLU): the block of every level. (N, in, H, W) -> (N, out, H', W')."""

    def __init__(self, in_channels: int, out_channels: int, norm: str, padding: int):
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            # A normalisation layer has a shift of its own, so the convolution before it needs none.
            layers += [
                nn.Conv2d(channels, out_channels, kernel_size=3, padding=padding, bias=norm == "none"),
                _norm(norm, out_channels),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


def _upsampler(kind: str, in_channels: int, out_channels: int) -> nn.Module:
    """Double the height and width, halve the channels (the paper's "up-convolution")."""
    if kind == "transpose":
        return nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
    # A 1x1 convolution and an interpolation commute; narrowing first does a quarter of the work.
    align = {"align_corners": False} if kind == "bilinear" else {}
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.Upsample(scale_factor=2, mode=kind, **align))


class UNet(nn.Module):
    """A 2-D U-Net that returns **logits**: no sigmoid, no softmax (those belong to the loss and to prediction).

    Args:
        in_channels: channels of the input image (1 grey, 3 colour).
        num_classes: channels of the output. 1 means binary (foreground or not), more mean that many classes.
        base_channels: width of the first level; each level down doubles it.
        depth: number of 2x2 poolings.
        norm: "batch", "group", "instance" or "none" (the paper has none).
        padding: "same" takes any height and width (it pads to a multiple of ``2**depth`` by repeating the border, and
            crops the output back); "valid" is the paper's: unpadded convolutions, the output is smaller than the input.
        upsample: "transpose" (learned 2x2 up-convolution, the paper's), "bilinear" or "nearest".
        dropout: probability of dropout at the end of the contracting path (paper, section 3.1), in [0, 1).
        standardise: show the network, beside each image, the same image with mean 0 and standard deviation 1 (the z-score
            of ``02a_data``, image by image), in which dark and bright pictures look alike. It starts from that one alone
            and learns what the image itself adds: a bright background, say, on which the objects are dark.

    Shape:
        input (N, in_channels, H, W) float -> output (N, num_classes, H, W); with ``padding="valid"`` the output is
        ``output_size(H) x output_size(W)``.

    Raises:
        ValueError: an argument outside the values above; an input that is not (N, in_channels, H, W); with
            ``padding="valid"`` a height or width that the poolings cannot halve evenly (the message names the nearest
            sizes that work).
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 1,
        base_channels: int = 32,
        depth: int = 4,
        norm: str = "batch",
        padding: str = "same",
        upsample: str = "transpose",
        dropout: float = 0.0,
        standardise: bool = False,
    ):
        super().__init__()
        self.config = {
            "in_channels": in_channels,
            "num_classes": num_classes,
            "base_channels": base_channels,
            "depth": depth,
            "norm": norm,
            "padding": padding,
            "upsample": upsample,
            "dropout": dropout,
            "standardise": standardise,
        }
        for name in ("in_channels", "num_classes", "base_channels", "depth"):
            if self.config[name] < 1:
                raise ValueError(f"{name} must be at least 1, not {self.config[name]}")
        for name, allowed in {
            "norm": ("batch", "group", "instance", "none"),
            "padding": ("same", "valid"),
            "upsample": ("transpose", "bilinear", "nearest"),
        }.items():
            if self.config[name] not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {self.config[name]!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), not {dropout}")

        self.depth, self.padding = depth, padding
        widths = [base_channels * 2**level for level in range(depth + 1)]
        pad = 1 if padding == "same" else 0
        self.encoder = nn.ModuleList(
            DoubleConv(before, after, norm, pad)
            for before, after in zip([in_channels * (1 + standardise), *widths], widths[:-1], strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = DoubleConv(widths[-2], widths[-1], norm, pad)
        self.dropout = nn.Dropout(dropout)
        upwards = list(zip(widths[:0:-1], widths[-2::-1], strict=True))  # (wide, narrow) from the bottom to the top
        self.upsamplers = nn.ModuleList(_upsampler(upsample, wide, narrow) for wide, narrow in upwards)
        self.decoder = nn.ModuleList(DoubleConv(2 * narrow, narrow, norm, pad) for _, narrow in upwards)
        self.head = nn.Conv2d(base_channels, num_classes, kernel_size=1)
        self.output_prior: list[float] | None = None  # what set_output_prior was given
        # Statistics of a single value do not exist, so these layers need at least two values at the bottom.
        self._needs_two_values = norm != "none"
        self._initialise()

    def _initialise(self) -> None:
        """He initialisation, standard deviation sqrt(2 / N) for N incoming values (paper, section 3)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            elif isinstance(module, nn.ConvTranspose2d):
                # Stride 2 and kernel 2: each output value sums over the input channels of one pixel only.
                nn.init.normal_(module.weight, std=math.sqrt(2 / module.in_channels))
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
                nn.init.zeros_(module.bias)
        if self.config["standardise"]:
            with torch.no_grad():
                standardised, as_it_is = self.encoder[0][0].weight.chunk(2, dim=1)
                standardised.mul_(math.sqrt(2))  # half as many incoming values
                as_it_is.zero_()

    @torch.no_grad()
    def set_output_prior(self, shares, weight_scale: float = 0.1) -> None:
        """Start from the class shares of the training masks instead of from one half (taught in appendix A3).

        Sets the bias of the last layer to log(p / (1 - p)) for a one-channel network and to log(p) for several classes,
        so that the first steps need not learn the prior.

        Args:
            shares: for a one-channel network the foreground share; otherwise one share a class. Each in (0, 1).
            weight_scale: factor on the last layer's weights. With 0.1 the first prediction is the prior nearly everywhere;
                with 1 it scatters around it, which leaves rare classes larger gradients to begin with.

        Raises:
            ValueError: a wrong number of shares, or one outside (0, 1).
        """
        shares = torch.as_tensor(shares, dtype=torch.float32).reshape(-1)
        if len(shares) != self.head.out_channels or not bool(((shares > 0) & (shares < 1)).all()):
            raise ValueError(
                f"set_output_prior needs {self.head.out_channels} share(s) in (0, 1), not {shares.tolist()}"
            )
        self.output_prior = shares.tolist()
        self.head.bias.copy_(torch.logit(shares) if len(shares) == 1 else shares.log())
        self.head.weight.mul_(weight_scale)

    def forward(self, x: Tensor) -> Tensor:
        channels = self.config["in_channels"]
        if x.dim() != 4 or x.shape[1] != channels or 0 in x.shape[2:]:
            raise ValueError(f"UNet takes (N, {channels}, H, W) images with H, W of at least 1, not {tuple(x.shape)}")
        height, width = x.shape[-2:]
        if self.config["standardise"]:
            variance, mean = torch.var_mean(x.float(), dim=(1, 2, 3), keepdim=True, correction=0)
            standardised = (x - mean) * (variance + 1e-4).rsqrt()  # a picture of one grey becomes 0, and not noise
            x = torch.cat([standardised, x], dim=1)
        if self.padding == "same":
            x, (top, left) = self._pad(x)
        else:
            self.output_size(height), self.output_size(width)  # raises for sizes that do not fit

        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
            x = self.pool(x)
        x = self.dropout(self.bottleneck(x))
        for upsample, block in zip(self.upsamplers, self.decoder, strict=True):
            x = block(self.merge(skips.pop(), upsample(x)))
        x = self.head(x)

        return x[..., top : top + height, left : left + width] if self.padding == "same" else x

    def merge(self, skip: Tensor, up: Tensor) -> Tensor:
        """The skip connection: crop the encoder's map to the decoder's size (valid padding only) and concatenate.

        ``skip`` (N, C, H, W), ``up`` (N, C, h, w) with h <= H, w <= W -> (N, 2C, h, w). Override it for an experiment.
        """
        top, left = (skip.shape[-2] - up.shape[-2]) // 2, (skip.shape[-1] - up.shape[-1]) // 2
        skip = skip[..., top : top + up.shape[-2], left : left + up.shape[-1]]
        return torch.cat([skip, up], dim=1)

    def _pad(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Repeat the border until both sides are a multiple of 2**depth; returns the image and (top, left)."""
        multiple = 2**self.depth
        height, width = (-(-side // multiple) * multiple for side in x.shape[-2:])
        if self._needs_two_values and height == width == multiple:
            width += multiple
        extra_h, extra_w = height - x.shape[-2], width - x.shape[-1]
        top, left = extra_h // 2, extra_w // 2
        if extra_h or extra_w:
            x = F.pad(x, (left, extra_w - left, top, extra_h - top), mode="replicate")
        return x, (top, left)

    def output_size(self, size: int) -> int:
        """The output's height (or width) for an input's, both in pixels: 572 -> 388 for the network of the paper.

        Raises:
            ValueError: with ``padding="valid"``, a size that some 2x2 pooling would cut unevenly or that is too small.
        """
        if size < 1:
            raise ValueError(f"a size must be at least 1 pixel, not {size}")
        if self.padding == "same":
            return size
        output = _valid_output(size, self.depth)
        if output is None:
            # Valid sizes repeat every 2**depth pixels; the smallest leaves the bottom with at least one pixel.
            smallest = next(s for s in range(1, 12 * 2**self.depth) if _valid_output(s, self.depth))
            step = 2**self.depth
            below = smallest + (max(size - smallest, 0) // step) * step
            above = below if below > size else below + step
            nearest = f"{above}" if below > size else f"{below} or {above}"
            raise ValueError(
                f"an unpadded U-Net of depth {self.depth} cannot take a side of {size} pixels (a 2x2 pooling meets an odd "
                f"or empty map); the nearest that fits: {nearest}. Or use padding='same'."
            )
        return output


def _valid_output(size: int, depth: int) -> int | None:
    """Follow one side through the unpadded network; None where a pooling meets an odd or empty map."""
    for _ in range(depth):
        size -= 4  # two 3x3 convolutions without padding
        if size < 2 or size % 2:
            return None
        size //= 2
    size -= 4
    for _ in range(depth):
        size = 2 * size - 4
    return size if size >= 1 else None


def receptive_field(depth: int, position: int) -> tuple[int, int]:
    """Which input rows can change output row ``position`` of a padded U-Net: ``(first, last)``, both included, in pixels.

    Follows one interval back from the output: a 3x3 convolution widens it by one on both sides, an up-convolution maps
    row i to row i // 2 of the level below, a pooling maps row i to rows 2i and 2i + 1. Rows before 0 lie in the padding.
    It depends on ``position`` because the poolings cut the image into fixed blocks. ``transpose`` and ``nearest`` only.
    """
    low = high = position
    for _ in range(depth):
        low, high = (low - 2) // 2, (high + 2) // 2  # the decoder's two convolutions, then the up-convolution
    low, high = low - 2, high + 2  # the bottleneck
    for _ in range(depth):
        low, high = 2 * low - 2, 2 * high + 1 + 2  # the pooling, then the encoder's two convolutions
    return low, high

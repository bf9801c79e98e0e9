"""Checkers for the exercises of ``01_unet_anatomy``. Each answers right, wrong (because ...) or not attempted."""

from collections.abc import Callable
from numbers import Number

import torch

from unetlab.exercises.verdict import Verdict, not_attempted, right, wrong
from unetlab.model import UNet


def check_pad_to_multiple(function: Callable) -> Verdict:
    """``pad_to_multiple(x, multiple)``: images (N, C, H, W) whose H and W become multiples, the picture left intact."""
    for height, width, multiple in ((60, 60, 16), (33, 64, 8), (1, 7, 4), (64, 48, 16)):
        x = torch.arange(2.0 * height * width).reshape(1, 2, height, width) + 1
        padded = function(x.clone(), multiple)
        case = f"for {height}x{width} and multiple {multiple}"
        if padded is None or padded is Ellipsis:
            return not_attempted("your function returns nothing yet: replace the dots and run the cell again.")
        if not isinstance(padded, torch.Tensor) or padded.dim() != 4:
            return wrong(f"{case} it returns {type(padded).__name__}, not a tensor (N, C, H, W).")
        if padded.shape[:2] != x.shape[:2]:
            return wrong(f"{case} {tuple(x.shape)} became {tuple(padded.shape)}: only H and W may change.")
        h, w = padded.shape[-2:]
        missing_h, missing_w = (-height) % multiple, (-width) % multiple
        if (h, w) == (height, width) and (missing_h or missing_w):
            return wrong(f"{case} the size is unchanged. How many pixels are missing to the next multiple?")
        if h < height or w < width:
            return wrong(f"{case} the result is smaller ({h}x{w}): you cropped, and the border of the picture is lost.")
        if missing_h != missing_w and (h, w) == (height + missing_w, width + missing_h):
            return wrong(
                f"{case} the result is {h}x{w}: height and width are swapped. F.pad takes the last axis first."
            )
        if h % multiple == 0 and w % multiple:
            return wrong(f"{case} the height fits but the width is {w}: the two axes need their own padding.")
        if w % multiple == 0 and h % multiple:
            return wrong(f"{case} the width fits but the height is {h}: the two axes need their own padding.")
        if h % multiple or w % multiple:
            return wrong(f"{case} the result is {h}x{w}: neither side is a multiple of {multiple}.")
        if h - height >= multiple or w - width >= multiple:
            return wrong(
                f"{case} you added a whole block too many ({h}x{w}). Where the size already fits, nothing is missing: "
                "take the remainder once more, (-size) % multiple."
            )
        if not _contains(padded, x):
            return wrong(f"{case} the size is right but the picture changed: resizing moves every pixel. Pad instead.")
    return right("every size from 1x7 up becomes a multiple, and the picture is intact.")


def _contains(padded: torch.Tensor, x: torch.Tensor) -> bool:
    """Whether x stands somewhere in padded, unchanged."""
    windows = padded.unfold(2, x.shape[2], 1).unfold(3, x.shape[3], 1)  # (N, C, rows, columns, H, W)
    return bool((windows == x[:, :, None, None]).all(dim=(0, 1, 4, 5)).any())


def check_output_size(function: Callable) -> Verdict:
    """``output_size(size, depth)`` of the unpadded network: pixels out, or None where a pooling does not fit."""
    for depth, size in ((4, 572), (4, 188), (2, 44), (1, 20), (3, 92)):
        truth = UNet(base_channels=1, depth=depth, norm="none", padding="valid").output_size(size)
        answer = function(size, depth)
        case = f"for a side of {size} and depth {depth}"
        if answer is Ellipsis or (answer is None and (depth, size) == (4, 572)):
            return not_attempted("your function returns nothing yet: follow one side down the U and up again.")
        if not isinstance(answer, Number | None):
            return wrong(f"{case} it returns a {type(answer).__name__}, not a number of pixels.")
        if answer == truth:
            continue
        known = {
            size: "that is the input's side: unpadded 3x3 convolutions lose one pixel at each border.",
            truth + 4: "4 pixels too many: the last block, at the top, has two unpadded convolutions too.",
            _follow(size, depth, 4, 4, decoder=0): "the decoder has two unpadded convolutions a level too.",
            _follow(size, depth, 4, bottleneck=0, decoder=4): "the bottleneck has two unpadded convolutions too.",
            _follow(size, depth, encoder=0, bottleneck=4, decoder=4): "the encoder's convolutions are unpadded too.",
            _follow(size, depth, 2, 2, 2): "each block has two convolutions, and each loses 2 pixels.",
            _follow(size, depth, 8, 8, 8): "a 3x3 convolution loses 1 pixel at each border: 2 in all, 4 a block.",
            size - 8 * depth - 4: "a pixel lost below a pooling is worth two pixels above it: follow the sizes.",
        }
        return wrong(
            f"{case} you say {answer}, the network gives {truth}. {known.get(answer, 'Check it block by block.')}"
        )
    odd = "a 2x2 pooling meets an odd map, so the tile does not fit"
    for depth, size, why in ((4, 570, odd), (2, 45, odd), (1, 16, "no pixel is left at the end")):
        answer = function(size, depth)
        if answer is not None:
            return wrong(f"for a side of {size} and depth {depth} {why}: return None, not {answer}.")
    return right("572 gives 388, and you refuse the tiles that do not fit.")


def _follow(size: int, depth: int, encoder: int, bottleneck: int, decoder: int) -> int:
    """The output size if the blocks of each part lost so many pixels."""
    for _ in range(depth):
        size = (size - encoder) // 2
    size -= bottleneck
    for _ in range(depth):
        size = 2 * size - decoder
    return size


def check_convolution_parameters(answer) -> Verdict:
    """How many numbers a 3x3 convolution from 64 to 128 channels learns, biases included: 73,856."""
    if answer is None or answer is Ellipsis:
        return not_attempted("put your number in place of the dots.")
    if not isinstance(answer, Number):
        return wrong(f"{answer!r} is a {type(answer).__name__}, not a number.")
    known = {
        9 * 64 * 128: "you counted the weights; each of the 128 outputs has a bias too.",
        9 * 128 + 128: "each filter looks at all 64 input channels, not at one.",
        9 * 64: "that is N, the inputs of one output value. There are 128 filters, each with a bias.",
        9 * 64 + 1: "that is one filter with its bias. There are 128 of them.",
        9 * 64 * 128 + 64: "there is a bias for every output channel, not for every input channel.",
        64 * 128 + 128: "that is a 1x1 convolution: a 3x3 kernel has nine positions.",
    }
    if answer == 9 * 64 * 128 + 128:
        return right("9 x 64 weights for each of 128 filters, and 128 biases.")
    return wrong(known.get(answer, f"{answer} is not 9 positions x inputs x filters, plus one bias a filter."))

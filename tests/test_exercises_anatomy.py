"""The checkers of the second notebook: every known wrong answer has its message, the folded solutions are right."""

import numpy as np
import pytest
import torch
from checkers import said, solved_by
from torch.nn import functional as F

from unetlab.exercises.anatomy import check_convolution_parameters, check_output_size, check_pad_to_multiple


@pytest.fixture
def solved():
    return solved_by("01_unet_anatomy")


def test_the_folded_solutions_are_right(solved):
    assert said(check_pad_to_multiple(solved["pad_to_multiple"]), "right")
    assert said(check_output_size(solved["output_size"]), "right", "572 gives 388")
    assert said(check_convolution_parameters(solved["my_count"]), "right", "9 x 64 weights for each of 128 filters")


@pytest.mark.parametrize("nothing", [None, ...])
def test_not_attempted(nothing):
    assert said(check_pad_to_multiple(lambda x, multiple: nothing), "not attempted", "replace the dots")
    assert said(check_output_size(lambda size, depth: nothing), "not attempted", "follow one side down the U")
    assert said(check_convolution_parameters(nothing), "not attempted", "put your number in place of the dots")


# --------------------------------------------------------------------------------------------------- pad to a multiple


def pad(x, bottom, right, mode="replicate"):
    return F.pad(x, (0, right, 0, bottom), mode=mode)


def crop(x, multiple):
    height, width = (side // multiple * multiple for side in x.shape[2:])
    return x[..., :height, :width]


def a_block_too_many(x, multiple):
    return pad(x, *(multiple - side % multiple for side in x.shape[2:]))


def resize(x, multiple):
    return F.interpolate(x, size=[side + -side % multiple for side in x.shape[2:]])


PADDINGS = {
    "it returns tuple, not a tensor": lambda x, multiple: tuple(x.shape),
    "not a tensor (N, C, H, W)": lambda x, multiple: x[0],
    "only H and W may change": lambda x, multiple: torch.cat([x, x], dim=1),
    "the size is unchanged": lambda x, multiple: x,
    "you cropped, and the border of the picture is lost": crop,
    "F.pad takes the last axis first": lambda x, multiple: pad(x, -x.shape[3] % multiple, -x.shape[2] % multiple),
    "the height fits but the width is 60": lambda x, multiple: pad(x, -x.shape[2] % multiple, 0),
    "the width fits but the height is 60": lambda x, multiple: pad(x, 0, -x.shape[3] % multiple),
    "neither side is a multiple of 16": lambda x, multiple: pad(x, 1, 1),
    "you added a whole block too many": a_block_too_many,
    "resizing moves every pixel": resize,
}


@pytest.mark.parametrize("message", PADDINGS)
def test_wrong_paddings(message):
    assert said(check_pad_to_multiple(PADDINGS[message]), "wrong", message)


@pytest.mark.parametrize("mode", ["constant", "replicate", "symmetric"])
def test_every_way_to_pad_is_right(mode):
    def function(x, multiple):
        height, width = (-side % multiple for side in x.shape[2:])
        if mode == "symmetric":  # on both sides
            return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return pad(x, height, width, mode)

    assert said(check_pad_to_multiple(function), "right", "every size from 1x7 up")


# -------------------------------------------------------------------------------------------------------- output size


def follow(size, depth, encoder=4, bottleneck=4, decoder=4, top=0):
    """What a learner's function computes who forgets, or miscounts, the convolutions of a part."""
    for _ in range(depth):
        size = (size - encoder) // 2
    size -= bottleneck
    for _ in range(depth):
        size = 2 * size - decoder
    return size + top


SIZES = {
    "that is the input's side": lambda size, depth: size,
    "the last block, at the top, has two unpadded convolutions too": lambda s, d: follow(s, d, top=4),
    "the decoder has two unpadded convolutions a level too": lambda s, d: follow(s, d, decoder=0),
    "the bottleneck has two unpadded convolutions too": lambda s, d: follow(s, d, bottleneck=0),
    "the encoder's convolutions are unpadded too": lambda s, d: follow(s, d, encoder=0),
    "each block has two convolutions, and each loses 2 pixels": lambda s, d: follow(s, d, 2, 2, 2),
    "a 3x3 convolution loses 1 pixel at each border": lambda s, d: follow(s, d, 8, 8, 8),
    "a pixel lost below a pooling is worth two pixels above it": lambda size, depth: size - 8 * depth - 4,
    "you say 7, the network gives 388. Check it block by block.": lambda size, depth: 7,
    "for a side of 188 and depth 4 you say 388": lambda size, depth: 388,
    "for a side of 188 and depth 4 you say None": lambda size, depth: 388 if size == 572 else None,
    "it returns a list, not a number of pixels": lambda size, depth: [388, 388],
    "it returns a Tensor, not a number of pixels": lambda size, depth: torch.tensor([388, 388]),
    "a 2x2 pooling meets an odd map, so the tile does not fit: return None, not 372": follow,
}


@pytest.mark.parametrize("message", SIZES)
def test_wrong_output_sizes(message):
    assert said(check_output_size(SIZES[message]), "wrong", message)


def test_an_output_without_pixels():
    def function(size, depth):
        return None if size in (570, 45) else follow(size, depth)

    assert said(check_output_size(function), "wrong", "no pixel is left at the end: return None, not 0")


def test_sizes_as_floats_are_right(solved):
    def function(size, depth):
        answer = solved["output_size"](size, depth)
        return answer if answer is None else np.float64(answer)

    assert said(check_output_size(function), "right")


# --------------------------------------------------------------------------------------------------------- parameters

COUNTS = {
    73_728: "each of the 128 outputs has a bias too",
    9 * 128 + 128: "each filter looks at all 64 input channels",
    576: "that is N, the inputs of one output value",
    577: "that is one filter with its bias",
    73_728 + 64: "a bias for every output channel, not for every input channel",
    64 * 128 + 128: "that is a 1x1 convolution",
    1: "1 is not 9 positions x inputs x filters, plus one bias a filter",
    "73,856": "'73,856' is a str, not a number",
    (73_856,): "is a tuple, not a number",
}


@pytest.mark.parametrize("answer", COUNTS, ids=str)
def test_wrong_counts(answer):
    assert said(check_convolution_parameters(answer), "wrong", COUNTS[answer])


def test_the_right_count_is_the_real_one():
    layer = torch.nn.Conv2d(64, 128, 3)
    for answer in (sum(p.numel() for p in layer.parameters()), np.int64(73_856), 73_856.0):
        assert said(check_convolution_parameters(answer), "right")

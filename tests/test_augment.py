"""Augmentation: image and mask stay together, the warps do what their names and strengths say, and nothing else moves."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import random_states

import unetlab as ul
from unetlab.augment import AUGMENTATIONS

WARPS = {
    "flip": ul.Augment(flip=True),
    "turn": ul.Augment(turn=True),
    "rotate": ul.Augment(rotate=180),
    "scale": ul.Augment(scale=0.5),
    "shift": ul.Augment(shift=0.3),
    "elastic": ul.Augment(elastic=4),
    "crop": ul.Augment(crop=11),
    "all": ul.Augment(
        flip=True, turn=True, rotate=30, scale=0.3, shift=0.1, elastic=3, brightness=0, contrast=0, crop=16
    ),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def coordinates(n, height, width):
    """Images whose two channels are each pixel's own x and y in [0, 1]: a warped one says where it looked."""
    x = (torch.arange(width) / (width - 1)).expand(height, width)
    y = (torch.arange(height) / (height - 1))[:, None].expand(height, width)
    return torch.stack([x, y]).expand(n, 2, height, width).contiguous()


def looked_at(images, height, width):
    """The places in pixels, (N, h, w) each, which warped coordinate images show."""
    return images[:, 0] * (width - 1), images[:, 1] * (height - 1)


# ------------------------------------------------------------------------------------------------- image with its mask


SQUARE, OBLONG = (24, 24), (20, 27)
CASES = [(name, size) for name in WARPS for size in (SQUARE, OBLONG) if size == SQUARE or not WARPS[name].turn]


@pytest.mark.parametrize("name, size", CASES)
def test_mask_follows_its_image(name, size):
    """Each mask pixel is the class of the very place (rounded to a pixel) that the image shows there."""
    height, width = size
    masks = torch.randint(256, (8, height, width), dtype=torch.uint8, generator=generator(1))
    warped, warped_masks = WARPS[name](coordinates(8, height, width), masks, generator())
    x, y = looked_at(warped, height, width)
    expected = masks[torch.arange(8)[:, None, None], y.round().long(), x.round().long()]
    between = ((x % 1 - 0.5).abs() < 1e-3) | ((y % 1 - 0.5).abs() < 1e-3)  # two neighbours equally near
    assert ((warped_masks == expected) | between).all()
    assert between.float().mean() < 0.1
    assert warped_masks.dtype == torch.uint8 and warped_masks.shape == warped.shape[:1] + warped.shape[2:]


@pytest.mark.parametrize("name", WARPS)
def test_masks_keep_their_ids(name):
    """A blend of the classes 0, 7 and 255 would be a class that does not exist."""
    masks = torch.tensor([0, 7, 255], dtype=torch.uint8)[torch.randint(3, (16, 24, 24), generator=generator(1))]
    _, warped = WARPS[name](torch.rand(16, 1, 24, 24), masks, generator())
    assert set(warped.unique().tolist()) == {0, 7, 255}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.int32])
def test_types_stay(dtype):
    images, masks = AUGMENTATIONS["elastic"](torch.rand(2, 3, 16, 16), torch.ones(2, 16, 16, dtype=dtype), generator())
    assert (images.dtype, masks.dtype) == (torch.float32, dtype)


def test_brightness_and_contrast_leave_masks_alone():
    images, masks = torch.rand(4, 3, 8, 8), torch.randint(2, (4, 8, 8))
    changed, same = ul.Augment(brightness=0.2, contrast=0.5)(images, masks, generator())
    assert torch.equal(same, masks)
    assert not torch.allclose(changed, images)
    assert changed.min() >= 0 and changed.max() <= 1


# -------------------------------------------------------------------------------------------------------- exact copies


def variants(image, turns):
    """All images that flips (and quarter turns) can make, as bytes."""
    rotated = [image.rot90(k, (-2, -1)) for k in (range(4) if turns else range(1))]
    flips = [(), (-1,), (-2,), (-2, -1)]
    return {r.flip(f).numpy().tobytes() for r in rotated for f in flips}


@pytest.mark.parametrize("turn, size", [(False, (9, 12)), (True, (9, 9)), (True, (10, 10))])
def test_flips_and_turns_are_permutations(turn, size):
    """No pixel is blended, and each of the 4 (with turns 8) variants comes up."""
    image = torch.randint(256, (1, 1, *size), generator=generator(1)).float()
    augment = ul.Augment(flip=True, turn=turn)
    images, masks = augment(
        (image / 255).expand(200, 1, *size), image[:, 0].to(torch.uint8).expand(200, *size), generator()
    )
    assert (images * 255 - (images * 255).round()).abs().max() < 0.01
    assert torch.equal((images[:, 0] * 255).round().to(torch.uint8), masks)
    assert {mask.numpy().tobytes() for mask in masks} == variants(image[0, 0].to(torch.uint8), turn)


def test_nothing_asked_nothing_changed():
    images, masks = torch.rand(2, 1, 7, 9), torch.randint(2, (2, 7, 9))
    same, same_masks = ul.Augment()(images, masks, generator())
    assert torch.equal(same, images) and torch.equal(same_masks, masks)


@pytest.mark.parametrize("height, width, crop", [(20, 20, 8), (15, 21, 8), (16, 16, 16), (21, 30, 15)])
def test_crop_is_a_window(height, width, crop):
    n = 400
    images = torch.cat([coordinates(n, height, width), torch.rand(n, 1, height, width)], dim=1)
    masks = torch.randint(256, (n, height, width), dtype=torch.uint8)
    cropped, cropped_masks = ul.Augment(crop=crop)(images, masks, generator())
    x, y = (place[:, 0, 0].round().long().tolist() for place in looked_at(cropped, height, width))
    for i in range(n):
        window = np.s_[i, ..., y[i] : y[i] + crop, x[i] : x[i] + crop]
        torch.testing.assert_close(cropped[i], images[window], rtol=0, atol=1e-4)
        assert torch.equal(cropped_masks[i], masks[window])
    assert set(x) == set(range(width - crop + 1))  # every place comes up, to the very border
    assert set(y) == set(range(height - crop + 1))


# ------------------------------------------------------------------------------------------------------------ strengths


def directions(augment, n=300, size=33):
    """How each image's x axis maps: its length (the inverse zoom) and its angle in degrees; from the image's middle."""
    warped, _ = augment(coordinates(n, size, size), torch.zeros(n, size, size, dtype=torch.uint8), generator())
    x, y = looked_at(warped, size, size)
    m = size // 2
    dx, dy = (place[:, m, m + 1] - place[:, m, m - 1] for place in (x, y))
    return torch.hypot(dx, dy) / 2, torch.rad2deg(torch.atan2(dy, dx)), (x[:, m, m] - m, y[:, m, m] - m)


def test_rotate_in_degrees():
    length, angle, (x, y) = directions(ul.Augment(rotate=40))
    assert angle.abs().max() <= 40.01 and angle.max() > 35 and angle.min() < -35
    torch.testing.assert_close(length, torch.ones(300), atol=1e-3, rtol=0)
    assert x.abs().max() < 1e-3 and y.abs().max() < 1e-3  # around the middle


def test_scale_zooms_in_and_out():
    length, angle, _ = directions(ul.Augment(scale=0.5))
    assert 1 / 1.5 - 1e-3 <= length.min() < 0.72 and 1.42 < length.max() <= 1.5 + 1e-3
    assert length.log().mean().abs() < 0.05  # as often larger as smaller
    assert angle.abs().max() < 0.1


def test_shift_as_a_share_of_the_side():
    length, _, (x, y) = directions(ul.Augment(shift=0.2))
    for offset in (x, y):
        assert offset.abs().max() <= 0.2 * 33 + 1e-3 and offset.max() > 6 and offset.min() < -6
    assert np.corrcoef(x, y)[0, 1] < 0.2


@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_elastic_in_pixels(sigma):
    """At the knots of the 3x3 grid, the middle among them, the displacement has the standard deviation asked for."""
    _, _, (x, y) = directions(ul.Augment(elastic=sigma), n=2000)
    for offset in (x, y):
        assert offset.std().item() == pytest.approx(sigma, rel=0.06)
        assert abs(offset.mean().item()) < 0.1 * sigma
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.1


def test_elastic_is_smooth():
    """Neighbours move together: the picture is bent, not torn."""
    warped, _ = ul.Augment(elastic=3)(coordinates(50, 65, 65), torch.zeros(50, 65, 65), generator())
    x, _ = looked_at(warped[..., 16:49, 16:49], 65, 65)  # away from the border, where the mirror begins
    steps = x[:, :, 1:] - x[:, :, :-1]
    assert steps.std() > 0.05 and (steps - 1).abs().max() < 1


def test_brightness_and_contrast_strength():
    image = torch.full((500, 1, 4, 4), 0.5)
    image[..., :2] = 0.4
    image[..., 2:] = 0.6
    masks = torch.zeros(500, 4, 4)
    brighter, _ = ul.Augment(brightness=0.1)(image, masks, generator())
    offset = (brighter - image).mean((1, 2, 3))
    assert 0.09 < offset.max() <= 0.1001 and -0.1001 <= offset.min() < -0.09
    contrasted, _ = ul.Augment(contrast=0.5)(image, masks, generator())
    torch.testing.assert_close(contrasted.mean((1, 2, 3)), torch.full((500,), 0.5))  # around the image's mean
    gain = (contrasted[:, 0, 0, 3] - contrasted[:, 0, 0, 0]) / 0.2
    assert 1 / 1.5 - 1e-3 <= gain.min() < 0.7 and 1.45 < gain.max() <= 1.5 + 1e-3


def test_a_share_of_the_images_is_distorted_and_the_others_keep_every_pixel():
    image, mask = (
        torch.rand(1, 1, 16, 16, generator=generator(1)),
        torch.randint(2, (1, 16, 16), generator=generator(1)),
    )
    images, masks = image.expand(400, 1, 16, 16), mask.expand(400, 16, 16)
    everything = ul.Augment(rotate=30, scale=0.3, shift=0.2, elastic=3, brightness=0.1, contrast=0.2, probability=0.3)
    views, ids = everything(images, masks, generator())
    as_they_were = (views - image).abs().amax((1, 2, 3)) < 1e-5
    assert 0.62 < as_they_were.float().mean() < 0.78  # five standard deviations of a binomial are 0.11
    assert torch.equal(ids[as_they_were], masks[as_they_were])
    exact = replace(everything, flip=True, turn=True, probability=0)
    views, _ = exact(image.expand(50, 1, 16, 16), mask.expand(50, 16, 16), generator())
    turned = torch.stack([torch.rot90(side, k, (-2, -1)) for side in (image[0], image[0].flip(-1)) for k in range(4)])
    torch.testing.assert_close(
        (views[:, None] - turned).abs().amax((2, 3, 4)).amin(1), torch.zeros(50), rtol=0, atol=1e-5
    )


def test_images_of_a_batch_differ():
    image = torch.rand(1, 1, 16, 16).expand(20, 1, 16, 16)
    views, _ = replace(AUGMENTATIONS["standard"], probability=1)(image, torch.zeros(20, 16, 16), generator())
    assert len({view.numpy().tobytes() for view in views}) == 20


@pytest.mark.parametrize("axis", [1, 2])
def test_standard_takes_no_symmetry_for_granted(axis):
    """What lies on the left, or above, stays there: the two halves of a hippocampus are two classes."""
    masks = torch.zeros(200, 32, 32)
    masks.narrow(axis, 16, 16).fill_(1)
    _, views = AUGMENTATIONS["standard"](torch.zeros(200, 1, 32, 32), masks, generator())
    first, second = (views.narrow(axis, start, 16).mean((1, 2)) for start in (0, 16))
    assert (second - first).min() > 0.7


# ----------------------------------------------------------------------------------------------------------- repeatable


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name != "none"])
def test_the_generator_decides(name):
    images, masks = torch.rand(4, 1, 16, 16), torch.randint(2, (4, 16, 16))
    augment = ul.make_augment(name, crop=12)
    first, again, other = (augment(images, masks, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("name", WARPS)
def test_global_random_state_is_left_alone(name):
    before = random_states()
    replace(WARPS[name], brightness=0.1, contrast=0.1)(torch.zeros(2, 1, 24, 24), torch.zeros(2, 24, 24), generator())
    assert random_states() == before


def test_the_input_is_left_alone():
    images, masks = torch.rand(2, 1, 16, 16), torch.randint(2, (2, 16, 16))
    copies = images.clone(), masks.clone()
    AUGMENTATIONS["elastic"](images, masks, generator())
    assert torch.equal(images, copies[0]) and torch.equal(masks, copies[1])


# --------------------------------------------------------------------------------------------------------------- names


def test_names():
    assert ul.make_augment("none") is None
    assert ul.make_augment("none", crop=8) == ul.Augment(crop=8)
    assert ul.make_augment("standard", crop=8) == replace(AUGMENTATIONS["standard"], crop=8)
    assert ul.make_augment("elastic").elastic == 10  # the paper's standard deviation in pixels
    with pytest.raises(ValueError, match="unknown augmentation 'heavy': choose one of none, flips, standard, elastic"):
        ul.make_augment("heavy")


@pytest.mark.parametrize(
    "option", ["rotate", "scale", "shift", "elastic", "brightness", "contrast", "crop", "probability"]
)
def test_negative_strength(option):
    with pytest.raises(ValueError, match=rf"Augment\({option}=-1\): must be at least 0"):
        ul.Augment(**{option: -1})


def test_a_probability_above_one():
    with pytest.raises(ValueError, match=r"Augment\(probability=1.5\): must be at most 1"):
        ul.Augment(probability=1.5)


def test_images_that_do_not_fit():
    with pytest.raises(ValueError, match="needs square images, not 8x9"):
        ul.Augment(turn=True)(torch.zeros(1, 1, 8, 9), torch.zeros(1, 8, 9), generator())
    with pytest.raises(ValueError, match=r"crop=9\) is larger than the images \(8x12\)"):
        ul.Augment(crop=9)(torch.zeros(1, 1, 8, 12), torch.zeros(1, 8, 12), generator())


@pytest.mark.parametrize("shares", [(0, 5), (0, 3, 5), (0, 0, 1, 5)])
def test_the_views_do_not_depend_on_how_a_batch_is_shared(shares):
    """Several processes with a slice each (one may be empty) see what one process sees."""
    images = torch.rand(5, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    masks = (images[:, 0] > 0.5).to(torch.uint8)
    everything = ul.Augment(True, True, 30, 0.2, 0.1, 2, 0.1, 0.2, crop=12, probability=0.5)
    whole = everything(images, masks, torch.Generator().manual_seed(3))
    parts = []
    for first, end in zip(shares, shares[1:], strict=False):
        generator = torch.Generator().manual_seed(3)
        parts.append(everything(images[first:end], masks[first:end], generator, len(images), first))
    for together, one in zip(zip(*parts, strict=True), whole, strict=True):
        torch.testing.assert_close(torch.cat(together), one, rtol=0, atol=1e-6)
    assert torch.equal(torch.cat([masks for _, masks in parts]), whole[1])

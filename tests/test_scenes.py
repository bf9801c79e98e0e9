"""The synthetic scenes: shapes, seeds, and every knob does what its line in the docstring says and nothing else."""

import random

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from unetlab.scenes import SCENES, make_scene

SHARES = {
    "cells": (0.01, 0.2, 0.45),
    "animals": (0.1, 0.25, 0.4),
    "roads": (0.08, 0.2, 0.4),
    "defects": (0.01, 0.02, 0.08),
}
every_scene = pytest.mark.parametrize("name", SCENES)


def dice(prediction, truth):
    return (2 * (prediction & truth).sum() / (prediction.sum() + truth.sum())).item()


def test_the_four_scenes():
    assert SCENES == ("cells", "animals", "roads", "defects")


@every_scene
@pytest.mark.parametrize("size", [16, 45, 64])
def test_shapes_types_and_values(name, size):
    scene = make_scene(name, 20, size, groups=3)
    channels = 3 if name in ("animals", "roads") else 1
    assert scene.images.shape == (20, channels, size, size) and scene.images.dtype == torch.uint8
    assert scene.masks.shape == (20, size, size) and scene.masks.dtype == torch.uint8
    assert scene.masks.unique().tolist() == [0, 1]
    assert scene.groups.tolist() == [0, 1, 2] * 6 + [0, 1] and scene.groups.dtype == torch.int64
    assert scene.images.float().std() > 10


@every_scene
def test_same_seed_same_pixels_and_the_first_of_many_are_the_few(name):
    knobs = {"noise": 9, "label_error": 1.0, "group_shift": 0.7, "groups": 3}
    few = make_scene(name, 7, seed=5, **knobs)
    make_scene(name, 3, seed=6, group_shift=1.0, groups=9)  # another call in between leaves no trace
    many = make_scene(name, 40, seed=5, **knobs)
    for one, other in zip(few, many, strict=True):
        assert one is other or torch.equal(one, other[:7])
    assert not torch.equal(many.images[:7], make_scene(name, 7, seed=6, **knobs).images)
    assert len({picture.numpy().tobytes() for picture in many.images}) == 40


@every_scene
def test_global_random_numbers_are_left_alone(name):
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    make_scene(name, 2, label_error=1.0, group_shift=1.0, groups=2)
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert torch.equal(torch.get_rng_state(), before[2])


@every_scene
def test_another_size_is_the_same_scene(name):
    small, large = make_scene(name, 16, 48, noise=0), make_scene(name, 16, 144, noise=0)
    pooled = torch.nn.functional.avg_pool2d(large.images.float(), 3)
    assert np.corrcoef(pooled.flatten(), small.images.float().flatten())[0, 1] > 0.9
    pooled = torch.nn.functional.avg_pool2d(large.masks.float(), 3) > 0.5
    assert dice(pooled, small.masks.bool()) > 0.8


@pytest.mark.parametrize(("name", "share"), [(name, share) for name in SCENES for share in SHARES[name]])
def test_foreground_is_the_mean_share_of_object_pixels(name, share):
    assert make_scene(name, 96, foreground=share).masks.float().mean().item() == pytest.approx(share, rel=0.1)


def test_rare_cells_leave_pictures_empty():
    empty = (make_scene("cells", 200, foreground=0.01).masks.sum((1, 2)) == 0).float().mean()
    assert 0.15 < empty < 0.45


def test_some_metal_is_sound_and_every_other_picture_has_its_subject():
    pixels = {name: make_scene(name, 200).masks.sum((1, 2)) for name in SCENES}
    assert 0.15 < (pixels["defects"] == 0).float().mean() < 0.35
    assert pixels["animals"].min() > 200 and pixels["roads"].min() > 100


@every_scene
def test_noise_is_a_standard_deviation_in_grey_levels(name):
    clean, noisy = make_scene(name, 32, noise=0), make_scene(name, 32, noise=8)
    middle = (clean.images > 60) & (clean.images < 190)  # where nothing is clipped
    difference = noisy.images.float() - clean.images.float()
    assert difference[middle].std().item() == pytest.approx(8, rel=0.05)
    assert torch.equal(clean.masks, noisy.masks)


@every_scene
def test_contrast_fades_the_objects_into_the_background(name):
    none, half, full = (make_scene(name, 32, noise=0, contrast=contrast) for contrast in (0, 0.5, 1))
    assert torch.equal(none.masks, full.masks)
    shown = (full.images.float() - none.images.float()).abs().mean(1)
    half_shown = (half.images.float() - none.images.float()).abs().mean(1)
    inside = full.masks.bool()
    assert shown[inside].mean() > 5 * shown[~inside].mean()
    assert half_shown[inside].mean().item() == pytest.approx(shown[inside].mean().item() / 2, rel=0.1)


def test_touching_cells_share_borders():
    def shared_border(touching):
        ids = make_scene("cells", 64, touching=touching).instances
        left, right = ids[:, :, :-1], ids[:, :, 1:]
        return ((left != right) & (left > 0) & (right > 0)).sum().item()

    assert shared_border(1.0) > 3 * shared_border(0.0)


@pytest.mark.parametrize("label_error", [0.0, 1.5])
def test_instances_number_the_pixels_of_the_mask(label_error):
    scene = make_scene("cells", 32, label_error=label_error)
    assert scene.instances.dtype == torch.int32
    assert torch.equal(scene.instances > 0, scene.masks.bool())
    assert scene.instances.amax((1, 2)).float().mean() > 3
    assert all(make_scene(name, 1).instances is None for name in SCENES if name != "cells")


@every_scene
def test_label_error_moves_outlines_in_the_masks_and_nothing_in_the_images(name):
    true, slight, gross = (make_scene(name, 32, label_error=pixels) for pixels in (0.0, 0.5, 2.0))
    assert torch.equal(true.images, gross.images)
    truth = true.masks.bool()
    assert 1 > dice(slight.masks.bool(), truth) > dice(gross.masks.bool(), truth) > 0.3
    outside = np.stack([distance_transform_edt(~mask) for mask in truth.numpy() if mask.any()])
    added = (gross.masks.bool() & ~truth).numpy()[truth.any((1, 2)).numpy()]
    assert added.any() and np.percentile(outside[added], 95) < 3 * 2.0  # three standard deviations


@every_scene
def test_groups_differ_by_as_much_as_group_shift_says(name):
    def spread(shift):
        scene = make_scene(name, 120, group_shift=shift, groups=6)
        means = torch.stack([scene.images[scene.groups == g].float().mean() for g in range(6)])
        return means.std(), scene.masks

    (alike, masks), (mild, _), (strong, shifted) = spread(0.0), spread(0.3), spread(1.0)
    assert alike < mild < strong and strong > 3 * alike
    assert torch.equal(masks, shifted)


def test_some_scanners_show_negatives_of_grey_pictures_only():
    def sign_of_contrast(name):
        scene = make_scene(name, 96, group_shift=1.0, groups=12)
        plain = make_scene(name, 96)
        pairs = [(scene.images[scene.groups == g], plain.images[scene.groups == g]) for g in range(12)]
        return [np.sign(np.corrcoef(a.flatten(), b.flatten())[0, 1]) for a, b in pairs]

    assert set(sign_of_contrast("cells")) == {-1, 1}
    assert set(sign_of_contrast("roads")) == {1}


def test_no_threshold_finds_the_cells():
    scene = make_scene("cells", 128)
    grey, truth = scene.images[:, 0], scene.masks.bool()
    assert 0.4 < max(dice(grey > threshold, truth) for threshold in range(20, 250, 5)) < 0.8


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("cats", {}, "choose one of cells, animals, roads, defects"),
        ("cells", {"n": 0}, "n=0 .* at least 1"),
        ("cells", {"size": 15}, "size=15 .* at least 16"),
        ("cells", {"seed": -1}, "seed=-1 .* at least 0"),
        ("cells", {"groups": 0}, "groups=0 .* at least 1"),
        ("cells", {"foreground": 0.0}, "foreground=0.0 .* from 0.005 to 0.5"),
        ("roads", {"foreground": 0.9}, "foreground=0.9 .* 'roads': choose a number from 0.05 to 0.4"),
        ("cells", {"noise": -1}, "noise=-1 .* from 0 to 100"),
        ("cells", {"contrast": float("nan")}, "contrast=nan .* from 0 to 2"),
        ("cells", {"touching": 1.1}, "touching=1.1 .* from 0 to 1"),
        ("roads", {"touching": 0.5}, "Only cells can touch: leave touching out"),
        ("cells", {"label_error": -0.5}, "label_error=-0.5 .* from 0 to 10"),
        ("cells", {"group_shift": 2}, "group_shift=2 .* from 0 to 1"),
    ],
)
def test_a_wrong_knob_is_refused_with_its_remedy(name, knobs, message):
    with pytest.raises(ValueError, match=message):
        make_scene(name, **{"n": 1, **knobs})

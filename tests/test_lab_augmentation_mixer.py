"""The augmentation mixer: views are those of the package, a desync is seen and said, and bilinear masks are found out."""

import time

import numpy as np
import pytest
import torch
from lab_records import dead_text, touch

from unetlab.augment import Augment
from unetlab.lab.augmentation_mixer import GAP, SIDE, VIEWS, ZOOM, AugmentationMixer, mix, picture_of
from unetlab.scenes import SCENES, make_scene

TURN = Augment(flip=True, rotate=90)
OUTLINE = [0xE6, 0x9F, 0x00]


@pytest.fixture
def mixer():
    return AugmentationMixer()


@pytest.fixture(scope="module")
def scene():
    drawn = make_scene("cells", 1, size=SIDE, seed=3)
    return drawn.images[0], drawn.masks[0]


def test_the_views_are_those_that_training_would_see(scene):
    augment = Augment(flip=True, rotate=20, elastic=4, brightness=0.1, contrast=0.5)
    views = mix(*scene, augment, desync=False, filling="nearest", seed=4)
    images, masks = (x.expand(VIEWS, *x.shape) for x in scene)
    expected = augment(images.float() / 255, masks, torch.Generator().manual_seed(4))
    assert torch.equal(views.images, expected[0])
    assert torch.equal(views.masks, expected[1])
    assert views.agreement == [1.0] * VIEWS


def test_desync_moves_the_mask_and_leaves_the_image(scene):
    together, apart = (mix(*scene, TURN, desync, "nearest", 0) for desync in (False, True))
    assert torch.equal(together.images, apart.images)
    assert max(apart.agreement) < 0.8


@pytest.mark.parametrize("desync", [False, True])
def test_desync_of_nothing_is_nothing(scene, desync):
    assert mix(*scene, Augment(), desync, "nearest", 0).agreement == [1.0] * VIEWS


def test_bilinear_masks_hold_values_that_are_no_class(scene):
    nearest, smooth = (mix(*scene, TURN, False, filling, 0) for filling in ("nearest", "bilinear"))
    assert set(nearest.masks.unique().tolist()) == {0, 1}
    assert len(smooth.masks.unique()) > 100
    assert 0 <= smooth.masks.min() and smooth.masks.max() <= 1
    assert min(smooth.agreement) > 0.9  # cut at one half, they lie where they should


def test_the_outline_runs_around_the_object():
    mask = torch.zeros(1, 4, 4, dtype=torch.uint8)
    mask[0, 1:3, 1:3] = 1
    picture = picture_of(torch.full((1, 1, 4, 4), 0.2), mask)
    assert picture.shape == (4 * ZOOM, 4 * ZOOM, 3)
    outlined = (picture == OUTLINE).all(-1)
    rows, columns = np.nonzero(outlined)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 6, 2, 6)  # the square is 2 to 5
    assert not outlined[3:6, 3:6].any()
    assert (picture[~outlined] == 51).all()


@pytest.mark.parametrize("name", SCENES)
def test_every_scene_is_drawn_with_a_title_for_each_column(mixer, name):
    touch(mixer, "scene", name)
    instrument = mixer._instrument
    assert instrument.strip_size == [(1 + VIEWS) * (SIDE * ZOOM + GAP) - GAP, SIDE * ZOOM]
    assert len(instrument.strip_titles) == 1 + VIEWS
    picture = np.frombuffer(instrument.strip, np.uint8).reshape(SIDE * ZOOM, -1, 3)
    assert (picture == OUTLINE).all(-1).any()
    assert instrument.values["scene"] == name


def test_sliders_make_the_augment_that_is_shown_to_copy(mixer):
    touch(mixer, "none", True)
    assert mixer.augment == Augment()
    touch(mixer, "rotate", 15)
    touch(mixer, "elastic", 2.5)
    assert mixer.augment == Augment(rotate=15, elastic=2.5)
    assert mixer._instrument.status["text"] == "ul.Augment(rotate=15, elastic=2.5)"
    assert mixer._instrument.values["elastic"] == 2.5


def test_draw_again_gives_other_views_and_the_same_ones_again(mixer):
    first = mixer.views.images
    touch(mixer, "draw", True)
    assert not torch.equal(first, mixer.views.images)
    assert torch.equal(AugmentationMixer().views.images, first)


def test_what_goes_wrong_is_said(mixer):
    assert mixer._instrument.status["problem"] is None
    touch(mixer, "desync", True)
    assert mixer._instrument.status["problem"].startswith("Desync: the mask lies beside its object")
    touch(mixer, "filling", "bilinear")
    assert "values that are no class" in mixer._instrument.status["problem"]
    assert "values in the masks: 0, 0.01, 0.02, 0.03, ..." in mixer._instrument.caption[1][0]
    touch(mixer, "desync", False)
    assert mixer._instrument.status["problem"].startswith("Bilinear")
    touch(mixer, "filling", "nearest")
    assert mixer._instrument.status["problem"] is None
    assert mixer._instrument.caption[1][0].endswith("values in the masks: 0, 1")


def test_a_touch_is_answered_at_once(mixer):
    started = time.process_time()
    for angle in range(0, 180, 20):
        touch(mixer, "rotate", angle)
    assert (time.process_time() - started) / 9 < 0.1


def test_text_where_widgets_are_dead(mixer):
    assert dead_text(mixer) == "Augmentation mixer: run this cell to use it"

"""The split inspector: its splits are the package's, what is torn is found and said, and the picture shows it."""

import time

import numpy as np
import pytest
from lab_records import dead_text, touch

from unetlab.data_check import near_identical
from unetlab.datasets import split_by_group
from unetlab.lab.split_inspector import (
    PARTS,
    PATIENTS,
    SHOTS,
    TORN,
    VIEWS,
    WAYS,
    SplitInspector,
    divide,
    inspect,
    photographs,
    picture_of,
)

PHOTOS = photographs()
PAIRS = near_identical(PHOTOS.images)


@pytest.fixture
def inspector():
    return SplitInspector()


def test_the_shots_of_a_view_and_no_others_are_near_identical():
    view = [name.rsplit("-", 1)[0] for name in PHOTOS.names]
    alike = [(i, j) for i in range(len(view)) for j in range(i + 1, len(view)) if view[i] == view[j]]
    assert PAIRS == alike and len(PAIRS) == PATIENTS * VIEWS * SHOTS * (SHOTS - 1) // 2
    assert not any((PHOTOS.images[i] == PHOTOS.images[j]).all() for i, j in PAIRS)


def test_names_and_groups():
    assert PHOTOS.names[:4] == ["p00-view0-shot0", "p00-view0-shot1", "p00-view0-shot2", "p00-view1-shot0"]
    assert len(set(PHOTOS.names)) == len(PHOTOS) and all(
        n.startswith(g) for n, g in zip(PHOTOS.names, PHOTOS.groups, strict=True)
    )


def test_the_split_by_patient_is_the_package_s():
    parts = divide(PHOTOS, "by patient", 0.25, 4)
    for part, index in zip(PARTS, split_by_group(PHOTOS.groups, 0.25, 0.25, 4), strict=True):
        assert np.flatnonzero(parts == part).tolist() == index.tolist()


@pytest.mark.parametrize("share", [0.1, 0.25, 0.4])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_kept_together_is_not_torn(share, seed):
    picture, view, patient = (inspect(PHOTOS, divide(PHOTOS, way, share, seed), PAIRS) for way in WAYS)
    assert picture.torn_pairs > 20 and len(picture.torn) == len(set(picture.torn)) > 6
    assert view.torn_pairs == 0 and len(view.torn) > 2
    assert patient.torn_pairs == 0 and patient.torn == []


def test_the_counts_of_the_parts():
    parts = np.array(["train"] * 50 + ["val"] * 40 + ["test"] * 18)  # cuts p05 behind its view1-shot1
    found = inspect(PHOTOS, parts, PAIRS)
    assert found.torn == ["p05"] and (found.torn_pairs, found.pairs) == (2, 108)
    assert [counts[:2] for counts in found.parts.values()] == [(50, 6), (40, 5), (18, 2)]
    assert found.parts["test"][2] == pytest.approx((PHOTOS.masks[90:] > 0).float().mean().item())


def test_frames_in_the_colour_of_the_part_and_a_bar_under_a_torn_patient():
    parts = np.array(["train"] * 50 + ["val"] * 58)
    picture = picture_of(PHOTOS, parts, ["p05"])
    width = picture.shape[1] // PATIENTS
    assert picture.shape == (126, PATIENTS * width, 3)

    def holds(patient, colour):
        block = picture[:, patient * width : (patient + 1) * width]
        return (block == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(-1).any()

    shown = [[holds(p, colour) for colour in (PARTS["train"], PARTS["val"], TORN)] for p in (4, 5, 6)]
    assert shown == [[True, False, False], [True, True, True], [False, True, False]]


def test_it_begins_with_a_leak_and_the_patient_split_ends_it(inspector):
    instrument = inspector._instrument
    assert instrument.status["text"].startswith("12 of 12 patients torn")
    assert instrument.status["problem"].startswith("Leak: pictures that are nearly the same")
    assert instrument.strip_titles[0] == "p00 torn" and len(instrument.strip_titles) == PATIENTS
    touch(inspector, "way", "by view")
    assert instrument.status["problem"].startswith("Leak: no picture stands in two parts, but patients do")
    touch(inspector, "way", "by patient")
    assert instrument.status["text"] == "0 of 12 patients torn; 0 of 108 near-identical pairs torn"
    assert instrument.status["problem"] is None and instrument.strip_titles[0] == "p00"


def test_share_and_seed_are_those_of_the_split(inspector):
    touch(inspector, "share", 0.1)
    touch(inspector, "seed", 7)
    assert (inspector.parts == divide(inspector.photos, "by picture", 0.1, 7)).all()
    assert inspector._instrument.values == {"way": "by picture", "share": 0.1, "seed": 7}
    assert [row[:2] for row in inspector._instrument.table[1:]] == [["train", "86"], ["val", "11"], ["test", "11"]]


def test_a_touch_is_answered_at_once(inspector):
    started = time.process_time()
    for seed in range(10):
        touch(inspector, "seed", seed)
    assert (time.process_time() - started) / 10 < 0.1


def test_text_where_widgets_are_dead(inspector):
    assert dead_text(inspector) == "Split inspector: run this cell to use it"

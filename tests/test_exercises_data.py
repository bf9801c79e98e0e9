"""The checkers of the notebook on data: every known wrong answer has its message, the folded solutions are right."""

import pytest
from checkers import said, solved_by
from torch.nn import functional as F

from unetlab.exercises.data import STEPS, check_assert_no_leak, check_order, check_resize_mask


@pytest.fixture
def solved():
    return solved_by("02a_data")


def test_the_folded_solutions_are_right(solved):
    assert said(check_assert_no_leak(solved["assert_no_leak"]), "right", "all three pairs")
    assert said(check_resize_mask(solved["resize_mask"]), "right", "keeps its classes 0, 2 and 5")
    assert said(check_order(solved["order"]), "right", "the test set last")


@pytest.mark.parametrize("nothing", [None, ...])
def test_not_attempted(nothing):
    assert said(check_assert_no_leak(lambda *parts: nothing), "not attempted", "lets every split pass")
    assert said(check_resize_mask(lambda *arguments: nothing), "not attempted", "the nearest old one")
    assert said(check_order(nothing), "not attempted", "put the seven words in order")
    assert said(check_order([]), "not attempted", "augment, choose, fit, judge, normalise, split, tile")


# ------------------------------------------------------------------------------------------------------------ no leak


def refuses_if(*conditions):
    """A learner's function that refuses a split where one of these conditions on (train, val, test) holds."""

    def function(*parts):
        for condition in conditions:
            assert not condition(*parts), f"these are on both sides: {condition(*parts)}"

    return function


def shared(i, j):
    return lambda *parts: sorted(set(parts[i]) & set(parts[j]))


ALL = [shared(0, 1), shared(1, 2), shared(0, 2)]


def twice_anywhere(*parts):
    return len(set(sum(parts, []))) < len(sum(parts, []))


def part_of_a_name(train, val, test):
    return [b for a in train for b in val if b in a]


def says_only_leak(*parts):
    assert not any(condition(*parts) for condition in ALL), "leak"


def takes_a_tuple(train, val, test):
    return train + val + (test,)


LEAKS = {
    "equal lists are not the question": refuses_if(lambda *parts: parts[0] == parts[1], *ALL[1:]),
    "compare val with test": refuses_if(ALL[0], ALL[2]),
    "there are three pairs to compare": refuses_if(ALL[0], ALL[1]),
    "several pictures of one group in one part are no leak": refuses_if(twice_anywhere),
    "a part may be empty": refuses_if(*ALL, lambda *parts: not all(parts)),
    "compare whole names": refuses_if(part_of_a_name, *ALL),
    "it returns True. Nobody reads a returned value": lambda *parts: not any(condition(*parts) for condition in ALL),
    "does not name the group 'b'": says_only_leak,
    "it raises TypeError": takes_a_tuple,
}


@pytest.mark.parametrize("message", LEAKS)
def test_wrong_leak_checks(message):
    assert said(check_assert_no_leak(LEAKS[message]), "wrong", message)


# ------------------------------------------------------------------------------------------------------ resize a mask


def interpolated(mask, height, width, **options):
    return F.interpolate(mask[None, None].float(), size=(height, width), **options)[0, 0]


def bilinear(mask, height, width):
    return interpolated(mask, height, width, mode="bilinear")


def padded(mask, height, width):
    return F.pad(mask, (0, width - mask.shape[1], 0, height - mask.shape[0]))


RESIZES = {
    "it returns tuple, not a tensor": lambda mask, height, width: (height, width),
    "take the two axes that you added away again": lambda mask, *size: interpolated(mask, *size)[None, None],
    "height comes first": lambda mask, height, width: interpolated(mask, width, height).to(mask.dtype),
    "the shape is (12, 16), not (24, 32)": lambda mask, height, width: mask,
    "an interpolated id is no class": bilinear,
    "class 1 appears, which the mask never held": lambda mask, *size: bilinear(mask, *size).round().to(mask.dtype),
    "the ids come back as torch.float32": interpolated,
    "do not crop or pad": padded,
}


@pytest.mark.parametrize("message", RESIZES)
def test_wrong_resizes(message):
    assert said(check_resize_mask(RESIZES[message]), "wrong", message)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_both_nearest_modes_of_torch_are_right(mode):
    assert said(check_resize_mask(lambda m, h, w: interpolated(m, h, w, mode=mode).to(m.dtype)), "right")


# -------------------------------------------------------------------------------------------------------------- order

RIGHT = list(STEPS)


def swapped(first, then):
    order = [*RIGHT]
    i, j = order.index(first), order.index(then)
    order[i], order[j] = order[j], order[i]
    return order


ORDERS = {
    "cut first, and a random split puts shared pixels on both sides": ["tile", *(s for s in RIGHT if s != "tile")],
    "over patients that are to be strangers": ["fit", *(s for s in RIGHT if s != "fit")],
    "turned copies of one picture would lie on both sides": ["augment", *(s for s in RIGHT if s != "augment")],
    "the mean is that of the training tiles": swapped("tile", "fit"),
    "there is no mean to subtract yet": swapped("fit", "normalise"),
    "needs them in validation too": ["split", "tile", "fit", "augment", "choose", "normalise", "judge"],
    "it is the training tiles that are turned": ["split", "augment", "tile", "fit", "normalise", "choose", "judge"],
    "one of the settings that you compare": swapped("augment", "choose"),
    "it no longer judges strangers": swapped("choose", "judge"),
    "'judge' is missing: score the chosen network": RIGHT[:-1],
    "'shuffle' is none of the seven": [*RIGHT, "shuffle"],
    "the test set is opened once": [*RIGHT, "judge"],
    "it must be a list of words": "split tile fit",
}


@pytest.mark.parametrize("message", ORDERS)
def test_wrong_orders(message):
    assert said(check_order(ORDERS[message]), "wrong", message)


def test_where_augmentation_stands_is_free_between_tiles_and_choice():
    for place in range(2, 5):
        order = [step for step in RIGHT if step != "augment"]
        order.insert(place, "augment")
        assert said(check_order(tuple(order)), "right")

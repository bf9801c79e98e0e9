"""Figures: what they show, in which order and colour, and that the same figure gives the same bytes."""

import copy
import io
import math
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt
from PIL import Image
from tiny import STEPS, rich_trainer, script, squares, trainer

import unetlab as ul
from unetlab import plots
from unetlab.plots import FALSE_ALARM, IGNORED, MISS, TRUTH, class_colours, error_map, painted, to_png

IMAGES, MASKS = squares(5, size=16)


def rgb(colour):
    return matplotlib.colors.to_rgb(colour)


def legend_of(part):
    legend = part.get_legend() if hasattr(part, "get_legend") else part.legends[0]
    return [text.get_text() for text in legend.get_texts()]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def moved():
    run = rich_trainer()
    run.fit(4, script(), verbose=None)
    return run.history


@pytest.fixture(scope="module")
def plain():
    run = trainer()
    run.fit(3, verbose=None)
    return run.history


# ---------------------------------------------------------------------------------------------------------- histories


def test_curves_are_those_of_the_history(plain):
    loss, dice, rate = ul.plot_history(plain).axes
    training, validation = loss.lines[:2]
    assert list(training.get_xdata()) == [1, 2, 3]
    assert list(training.get_ydata()) == plain.column("train_loss")
    assert list(validation.get_ydata()) == plain.column("val_loss")
    assert training.get_linestyle() != validation.get_linestyle()  # for print in grey
    assert list(dice.lines[0].get_ydata()) == plain.column("val_dice")
    steps = rate.patches[0].get_data()
    assert list(steps.values) == [row["lr"] for row in plain.steps]
    np.testing.assert_allclose(steps.edges, np.arange(3 * STEPS + 1) / STEPS)


def test_everything_is_labelled(plain):
    axes = ul.plot_history(plain).axes
    assert [axis.get_title("left") for axis in axes] == ["Loss", "Validation Dice", "Learning rate"]
    assert [axis.get_xlabel() for axis in axes] == ["epoch"] * 3
    assert [axis.get_ylabel() for axis in axes] == ["loss", "Dice, mean over images", "rate (log scale)"]
    assert legend_of(axes[0]) == ["training", "validation"]
    assert axes[2].get_yscale() == "log"
    several = copy.deepcopy(plain)
    several.environment["reduction"] = "pooled"
    assert ul.plot_history(several).axes[1].get_ylabel() == "Dice, mean over classes"


def test_the_best_epoch_is_marked(plain):
    history = ul.History.from_dict(plain.to_dict())
    for row, value in zip(history.epochs, (0.2, 0.75, math.nan), strict=True):
        row["val_dice"] = value
    _, dice, _ = ul.plot_history(history).axes
    assert (dice.lines[1].get_xdata(), dice.lines[1].get_ydata()) == ([2], [0.75])
    assert [text.get_text() for text in dice.texts] == ["0.750"]


def test_moves_stand_where_they_were_made(moved):
    assert [move.step for move in moved.moves] == [2, 8, 8]
    for axis in ul.plot_history(moved).axes:
        marks = [line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == ":"]
        assert marks == [2 / STEPS, 8 / STEPS, 8 / STEPS]
    assert legend_of(axis) == ["move"]


def test_steps_after_the_last_whole_epoch_do_not_shift_the_others(plain):
    """An interrupted or diverged run has more steps than its epochs hold."""
    history = ul.History.from_dict(plain.to_dict())
    history.epochs.pop()
    history.steps.pop()
    assert len(history.steps) == 3 * STEPS - 1
    rate = ul.plot_history(history).axes[2]
    np.testing.assert_allclose(rate.patches[0].get_data().edges, np.arange(3 * STEPS) / STEPS)


def test_several_runs(moved, plain):
    loss, dice, rate = ul.plot_history({"moved": moved, "alone": plain}).axes
    assert legend_of(loss) == ["moved training", "moved validation", "alone training", "alone validation"]
    best = [max(history.column("val_dice")) for history in (moved, plain)]
    assert legend_of(dice) == [f"moved, best {best[0]:.3f}", f"alone, best {best[1]:.3f}"]
    assert legend_of(rate) == ["move moved"]
    colours = [line.get_color() for line in loss.lines if line.get_label() in legend_of(loss)]
    assert colours[0] == colours[1] != colours[2] == colours[3]


def test_a_loss_that_explodes_does_not_flatten_the_others():
    run = trainer()
    run.fit(2, verbose=False)
    assert ul.plot_history(run.history).axes[0].get_yscale() == "linear"
    run.history.epochs[0]["val_loss"] = 1e5
    loss = ul.plot_history(run.history).axes[0]
    assert (loss.get_yscale(), loss.get_ylabel()) == ("log", "loss (log scale)")
    for nothing_to_lift in ([], [math.nan], [0.0, 5.0], [-1.0, 500.0], [1.0, math.inf]):
        assert not plots.is_wide(nothing_to_lift)


def test_a_single_epoch_is_visible():
    run = trainer()
    run.fit(1, verbose=None)
    loss, dice, _ = ul.plot_history(run.history).axes
    assert all(line.get_marker() == "o" for line in [*loss.lines, *dice.lines])


@pytest.mark.parametrize(("lr", "scheduler"), [(1.9e-3, "constant"), (1, "constant"), (4e-3, "one_cycle")])
def test_the_rate_has_ticks_and_shows_four_decades_at_most(lr, scheduler):
    run = trainer(lr=lr, scheduler=scheduler)
    run.fit(1, verbose=None)
    figure = ul.plot_history(run.history)
    figure.canvas.draw()
    rate = figure.axes[2]
    low, high = rate.get_ylim()
    ticks = [text.get_text() for text in rate.get_yticklabels()]
    inside = [tick for tick in ticks if low <= float(tick) <= high]
    assert inside and all("e" in tick and "e-0" not in tick for tick in inside)
    assert high / low <= 3e4 and low < max(row["lr"] for row in run.history.steps) < high


@pytest.mark.parametrize("nothing", [ul.History(), {}, {"a": ul.History()}])
def test_no_epoch_no_figure(nothing):
    with pytest.raises(ValueError, match="at least one run with at least one epoch"):
        ul.plot_history(nothing)


def test_the_description_says_what_the_curves_do(plain):
    history = ul.History.from_dict(plain.to_dict())
    values = [(1.5, 0.25), (1.0, 0.875), (0.75, 0.5)]
    for row, (loss, dice) in zip(history.epochs, values, strict=True):
        row |= {"train_loss": loss, "val_dice": dice}
    assert ul.describe_history(history) == (
        "Over 3 epochs the training loss goes from 1.50 to 0.75; the validation Dice starts at 0.25, is highest at epoch 2 "
        "with 0.88 and ends at 0.50."
    )


# --------------------------------------------------------------------------------------------------------- predictions


def shown(figure, row):
    """The pictures of one row of a figure of predictions."""
    columns = len(figure.axes) // 4
    return [np.asarray(axis.images[0].get_array()) for axis in figure.axes[row * columns : (row + 1) * columns]]


def test_worst_first():
    scores = [0.9, 0.1, 0.5, math.nan, 0.1]
    figure = ul.plot_predictions(IMAGES, MASKS, MASKS, scores, count=4)
    titles = [axis.get_title("center") for axis in figure.axes[:4]]
    assert titles == ["Dice 0.10", "Dice 0.10", "Dice 0.50", "Dice 0.90"]  # a score that is NaN comes last
    for picture, i in zip(shown(figure, 0), (1, 4, 2, 0), strict=True):
        np.testing.assert_allclose(picture, IMAGES[i, 0] / 255)
    assert figure.get_suptitle() == "Worst first: 4 of 5"


def test_without_scores_the_order_is_kept():
    figure = ul.plot_predictions(IMAGES, MASKS, MASKS, count=2)
    for i, picture in enumerate(shown(figure, 0)):
        np.testing.assert_allclose(picture, IMAGES[i, 0] / 255)
    assert figure.get_suptitle() == "" and figure.axes[0].get_title("center") == ""


def test_rows_are_named_and_hold_what_they_say():
    predictions = 1 - MASKS
    figure = ul.plot_predictions(IMAGES, MASKS, predictions, count=3)
    assert [axis.get_ylabel() for axis in figure.axes[::3]] == ["image", "truth", "prediction", "errors"]
    for i in range(3):
        np.testing.assert_array_equal(shown(figure, 1)[i][..., 0], MASKS[i])  # black and white
        np.testing.assert_array_equal(shown(figure, 2)[i][..., 0], predictions[i])
        np.testing.assert_array_equal(shown(figure, 3)[i], error_map(IMAGES[i], MASKS[i], predictions[i]))
    assert legend_of(figure) == ["missed", "false alarm"]


def test_pixels_that_do_not_count():
    masks = MASKS.clone()
    masks[0, 0] = 255
    figure = ul.plot_predictions(IMAGES, masks, MASKS, count=2, ignore_index=255)
    assert (shown(figure, 1)[0][0] == rgb(IGNORED)).all()
    assert not (shown(figure, 3)[0][0] == rgb(MISS)).all(-1).any()
    assert legend_of(figure) == ["does not count", "missed", "false alarm"]
    figure = ul.plot_predictions(IMAGES[1:], masks[1:], MASKS[1:], count=2, ignore_index=255)
    assert legend_of(figure) == ["missed", "false alarm"]  # nothing is ignored in these


def test_classes_are_named_and_coloured():
    masks, names = MASKS.clone(), ("background", "car", "tree")
    masks[0, :4] = 2
    figure = ul.plot_predictions(IMAGES, masks, MASKS, class_names=names)
    assert legend_of(figure) == [*names, "missed", "false alarm"]
    colours = np.array([patch.get_facecolor()[:3] for patch in figure.legends[0].get_patches()])
    np.testing.assert_allclose(shown(figure, 1)[0], colours[masks[0]])
    np.testing.assert_allclose(shown(figure, 2)[0], colours[MASKS[0]])
    assert legend_of(ul.plot_predictions(IMAGES, masks, MASKS))[:3] == ["class 0", "class 1", "class 2"]


def test_where_every_class_is_an_object_an_error_is_a_wrong_class():
    figure = ul.plot_predictions(IMAGES, MASKS, 1 - MASKS, class_names=("land", "water", "road"))
    assert legend_of(figure) == ["land", "water", "road", "wrong class"]
    assert (shown(figure, 3)[0] == rgb(MISS)).all()


def test_a_single_picture_is_not_cut_off():
    figure = ul.plot_predictions(IMAGES[:1], MASKS[:1], MASKS[:1], [0.5], class_names=("background", "a", "b"))
    figure.canvas.draw()
    for part in (figure.legends[0], figure._suptitle):
        box = part.get_window_extent()
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1


def test_all_pixels_ignored():
    masks = np.full((2, 16, 16), 255, np.uint8)
    figure = ul.plot_predictions(IMAGES[:2], masks, MASKS[:2], ignore_index=255)
    assert legend_of(figure)[0] == "does not count"


def test_colours_of_classes():
    assert class_colours(2) == ["#000000", "#FFFFFF"]
    for count in (3, 8, 9, 40):
        assert len(set(class_colours(count))) == count
    assert MISS not in class_colours(7)
    ids = np.array([[0, 1], [2, 255]])
    picture = painted(ids, 3, ignore_index=None)
    assert [tuple(pixel) for pixel in picture.reshape(4, 3)] == [*map(rgb, class_colours(3)), rgb(IGNORED)]
    assert tuple(painted(ids, 3, ignore_index=2)[1, 0]) == rgb(IGNORED)


# ------------------------------------------------------------------------------------------------------------- errors


def test_errors_have_their_colours():
    mask, prediction = np.array([[1, 0, 1, 0]]), np.array([[0, 1, 1, 0]])
    picture = error_map(np.full((1, 1, 4), 255, np.uint8), mask, prediction)
    assert tuple(picture[0, 0]) == rgb(MISS) and tuple(picture[0, 1]) == rgb(FALSE_ALARM)
    np.testing.assert_allclose(picture[0, 2:], 0.6)  # right: the image, in faint grey


def test_errors_among_several_classes():
    mask, prediction = np.array([[1, 2, 0, 2, 255]]), np.array([[2, 0, 2, 2, 1]])
    colours = [rgb(MISS), rgb(MISS), rgb(FALSE_ALARM)]
    picture = error_map(np.zeros((3, 1, 5)), mask, prediction, ignore_index=255)
    assert [tuple(pixel) for pixel in picture[0, :3]] == colours
    np.testing.assert_allclose(picture[0, 3:], 0.15)
    picture = error_map(np.zeros((3, 1, 5)), mask, prediction, ignore_index=255, background=None)
    assert [tuple(pixel) for pixel in picture[0, :3]] == [rgb(MISS)] * 3
    assert tuple(error_map(np.zeros((3, 1, 5)), mask, prediction)[0, 4]) == rgb(MISS)  # nothing to ignore


def test_tensors_arrays_bytes_and_floats_give_the_same():
    expected = error_map(IMAGES[0].numpy(), MASKS[0].numpy(), MASKS[1].numpy())
    np.testing.assert_array_equal(error_map(IMAGES[0], MASKS[0], MASKS[1]), expected)
    np.testing.assert_allclose(error_map(IMAGES[0].float() / 255, MASKS[0], MASKS[1]), expected, atol=1e-6)
    assert expected.min() >= 0 and expected.max() <= 1


# ------------------------------------------------------------------------------------------------------------- images


def test_images_with_the_outline_of_their_masks():
    masks = MASKS.clone()
    masks[1] = 0  # no object: no outline, and no warning
    with warnings.catch_warnings(action="error"):
        figure = ul.plot_images(IMAGES, masks, titles=list("abcde"), columns=3)
        figure.canvas.draw()
    assert len(figure.axes) == 6
    assert [len(axis.collections) for axis in figure.axes] == [1, 0, 1, 1, 1, 0]
    assert tuple(figure.axes[0].collections[0].get_edgecolor()[0][:3]) == rgb(TRUTH)
    assert [axis.get_title() for axis in figure.axes[:5]] == list("abcde")


def test_every_class_boundary_is_outlined():
    mask = np.zeros((1, 16, 16), np.uint8)
    mask[0, 2:6], mask[0, 8:12] = 1, 3
    assert len(ul.plot_images(IMAGES[:1], mask).axes[0].collections) == 2


@pytest.mark.parametrize("shape", [(1, 8, 32), (3, 32, 8)])
def test_pictures_that_are_not_square(shape):
    images, masks = np.random.default_rng(0).random((4, *shape)), np.zeros((4, *shape[1:]), int)
    for figure in (ul.plot_images(images, masks), ul.plot_predictions(images, masks, masks)):
        figure.canvas.draw()
        box = figure.axes[0].get_window_extent()
        assert box.height / box.width == pytest.approx(shape[1] / shape[2], rel=0.05)


# --------------------------------------------------------------------------------------------------------- bytes, page


def test_the_same_figure_gives_the_same_bytes(moved):
    for draw in (
        lambda: ul.plot_history(moved),
        lambda: ul.plot_predictions(IMAGES, MASKS, 1 - MASKS, [0.1] * 5),
        lambda: ul.plot_images(IMAGES, MASKS),
    ):
        first, second = to_png(draw()), to_png(draw())
        assert first == second
        assert b"Software" not in first and b"Matplotlib" not in first


def test_figures_do_not_depend_on_the_session(plain):
    expected = to_png(ul.plot_history(plain))
    with plt.rc_context({"font.size": 20, "lines.linewidth": 9}):
        assert to_png(ul.plot_history(plain)) == expected


def test_use_style():
    with plt.rc_context():
        ul.use_style()
        assert plt.rcParams["axes.spines.top"] is False


def test_show_puts_the_picture_and_its_text_on_the_page(monkeypatch, plain):
    import IPython.display

    page = []
    monkeypatch.setattr(IPython.display, "display", page.append)
    figure = ul.plot_history(plain)
    ul.show(figure, alt='The loss falls, "fast" & < 1.')
    picture, caption = page
    _, metadata = picture._repr_png_()
    assert metadata["alt"] == 'The loss falls, "fast" & < 1.'
    width, _ = Image.open(io.BytesIO(picture.data)).size
    assert metadata["width"] == int(width * 100 / 144)  # sharp on screens of high resolution
    assert "The loss falls, &quot;fast&quot; &amp; &lt; 1." in caption.data
    assert not plt.fignum_exists(figure.number)


@pytest.mark.parametrize("alt", ["", "  \n"])
def test_a_figure_needs_its_text(plain, alt):
    with pytest.raises(ValueError, match="alt text that says what the curve does"):
        ul.show(ul.plot_history(plain), alt)
    with pytest.raises(TypeError):
        ul.show(ul.plot_history(plain))


def test_the_colours_of_errors_differ_in_grey_too():
    def lightness(colour):
        return np.dot(rgb(colour), [0.299, 0.587, 0.114])

    assert abs(lightness(MISS) - lightness(FALSE_ALARM)) > 0.15
    assert plots.STYLE.exists()

"""Sets that the package was not made for: their names and encodings go through after at most one option."""

import re
import warnings

import numpy as np
import pytest
from PIL import Image

from unetlab.cli import main
from unetlab.datasets import load_folder
from unetlab.files import DataError, DataNote

COLOURS = np.array([(0, 0, 0), (128, 0, 0), (128, 64, 128), (64, 64, 0)], np.uint8)


def drawn(count=6, classes=2, size=(36, 48)):
    """Pictures of discs, and the class ids."""
    rng, (rows, columns) = np.random.default_rng(0), np.mgrid[: size[0], : size[1]]
    for i in range(count):
        ids = np.zeros(size, np.uint8)
        for k in range(1, classes):
            ids[np.hypot(rows - 9 * k, columns - 6 * i - 8) < 7] = k
        yield i, (rng.integers(0, 90, (*size, 3)) + 50 * ids[..., None]).astype(np.uint8), ids


def save(picture, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **options)


def vessels(root):
    """DRIVE: 21_training.tif beside 21_manual1.gif."""
    for i, image, ids in drawn():
        save(image, root / f"images/{21 + i}_training.tif")
        save(Image.fromarray(ids * 255), root / f"masks/{21 + i}_manual1.gif")


def stare(root):
    """STARE: im0001.ppm beside im0001.ah.pgm."""
    for i, image, ids in drawn():
        save(image, root / f"images/im{i:04}.ppm")
        save(ids * 255, root / f"masks/im{i:04}.ah.pgm")


def retina(root):
    """CHASE: Image_01L.jpg beside Image_01L_1stHO.png, 1 bit."""
    for i, image, ids in drawn():
        save(image, root / f"images/Image_{i:02}L.jpg")
        save(Image.fromarray(ids * 255).convert("1"), root / f"masks/Image_{i:02}L_1stHO.png")


def buildings(root):
    """Alpha in the images (as QGIS writes them), 0/255 masks of three equal channels."""
    for i, image, ids in drawn():
        rgba = np.dstack([image, np.full(ids.shape, 255, np.uint8)])
        save(rgba, root / f"images/austin{i}.png")
        save(np.dstack([ids * 255] * 3), root / f"masks/austin{i}.png")


def cut_outs(root):
    """Masks that show the object by their alpha channel alone."""
    for i, image, ids in drawn():
        save(image, root / f"images/{i}.jpg")
        save(np.dstack([np.zeros((*ids.shape, 3), np.uint8), ids * 255]), root / f"masks/{i}.png")


def street(root):
    """Cityscapes: many classes by number, long names."""
    for i, image, ids in drawn(classes=4):
        save(image, root / f"images/aachen_{i:06}_000019_leftImg8bit.png")
        save(np.array([0, 7, 11, 26], np.uint8)[ids], root / f"masks/aachen_{i:06}_000019_gtFine_labelIds.png")


def street_to_train(root):
    """trainIds: 0, 1, 2, ... and 255 for what does not count."""
    for i, image, ids in drawn(classes=4):
        save(image, root / f"images/a_{i}.png")
        save(np.array([0, 1, 2, 255], np.uint8)[ids], root / f"masks/a_{i}.png")


def driving(root):
    """CamVid: colours, and _L behind the name."""
    for i, image, ids in drawn(classes=4):
        save(image, root / f"images/0001TP_{6690 + 30 * i:06}.png")
        save(COLOURS[ids], root / f"masks/0001TP_{6690 + 30 * i:06}_L.png")


def palettes(root):
    """Pascal VOC: palette PNG with a border of 255."""
    for i, image, ids in drawn(classes=4):
        picture = Image.fromarray(np.where(ids == 3, 255, ids).astype(np.uint8), "P")
        picture.putpalette([*COLOURS.ravel().tolist()] + [0] * (3 * 251) + [224, 224, 192])
        save(image, root / f"images/2007_{i:06}.jpg")
        save(picture, root / f"masks/2007_{i:06}.png")


def machine_parts(root):
    """MVTec: 000.png beside 000_mask.png, in folders of kinds, 16-bit grey images."""
    for i, image, ids in drawn():
        save(image[..., 0].astype(np.uint16) * 200, root / f"images/broken/{i:03}.png")
        save(ids * 255, root / f"masks/broken/{i:03}_mask.png")


SETS = {  # the option it takes, the classes it gives
    vessels: ([], 2),
    stare: ([], 2),
    retina: ([], 2),
    buildings: ([], 2),
    cut_outs: ([], 2),
    machine_parts: ([], 2),
    palettes: ([], 3),
    street_to_train: ([], 3),
    street: (["--classes", "27"], 27),
    driving: (["--classes", "colours"], 4),
}


@pytest.mark.parametrize("make", SETS, ids=lambda make: make.__name__)
def test_a_foreign_set_loads(make, tmp_path):
    make(tmp_path)
    option, classes = SETS[make]
    given = {"classes": int(option[1]) if option[1].isdecimal() else option[1]} if option else {}
    if option:  # without it, the error says which option helps
        with pytest.raises(DataError, match=re.escape(" ".join(option))):
            load_folder(tmp_path / "images", tmp_path / "masks")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DataNote)
        data = load_folder(tmp_path / "images", tmp_path / "masks", **given)
    assert len(data.train) + len(data.val) == 6 and len(data.class_names) == classes
    used = set(data.train.masks.unique().tolist()) - {255}
    assert used == ({0, 7, 11, 26} if make is street else set(range(classes)))
    for split in (data.train, data.val):  # each picture has its own mask: brighter where the mask is higher
        for image, mask in zip(split.images, split.masks, strict=True):
            assert image.float().mean(0)[mask > 0].mean() > image.float().mean(0)[mask == 0].mean() + 25


@pytest.mark.parametrize("make", [vessels, driving], ids=lambda make: make.__name__)
def test_a_foreign_set_trains(make, tmp_path, capsys):
    make(tmp_path)
    option, _ = SETS[make]
    line = ["train", "--images", tmp_path / "images", "--masks", tmp_path / "masks", "--out", tmp_path / "run", *option]
    tiny = ["--epochs", 1, "--base-channels", 2, "--depth", 1, "--size", 32, "--device", "cpu"]
    assert main([*map(str, line + tiny)]) == 0, capsys.readouterr().err


def in_one_folder(root):
    """CHASE as it comes: two observers' masks beside the pictures."""
    for i, image, ids in drawn():
        save(image, root / f"Image_{i:02}L.jpg")
        save(Image.fromarray(ids * 255).convert("1"), root / f"Image_{i:02}L_1stHO.png")
        save(Image.fromarray(ids * 0).convert("1"), root / f"Image_{i:02}L_2ndHO.png")
    return root / "*.jpg", root / "*_1stHO.png"


def three_kinds_of_masks(root):
    """Cityscapes as it comes: classes, objects and colours beside each other, in folders of cities."""
    for i, image, ids in drawn():
        name = f"train/{'aachen' if i % 2 else 'bochum'}/x_{i:06}_000019"
        save(image, root / f"leftImg8bit/{name}_leftImg8bit.png")
        for kind, picture in {
            "labelIds": ids,
            "instanceIds": ids.astype(np.uint16) * 1000,
            "color": COLOURS[ids],
        }.items():
            save(picture, root / f"gtFine/{name}_gtFine_{kind}.png")
    return root / "leftImg8bit", root / "gtFine/*_labelIds.png"


@pytest.mark.parametrize("make", [in_one_folder, three_kinds_of_masks], ids=lambda make: make.__name__)
def test_a_pattern_says_which_files_are_masks(make, tmp_path, capsys):
    images, masks = make(tmp_path)
    with pytest.raises(DataError, match=r'in quotes \("masks/\*_labels.png"\)'):
        load_folder(images, masks.parent)
    data = load_folder(images, masks)
    assert len(data.train) + len(data.val) == 6 and data.class_names == ("background", "foreground")
    assert (data.train.masks.flatten(1).amax(1) == 1).all()
    assert "*" not in data.name and not any("HO" in name for name in data.train.names)
    given, tiny = ["--images", images, "--masks", masks], ["--epochs", 1, "--base-channels", 2, "--depth", 1]
    assert main([*map(str, ["data", "check", *given, "--sheet", tmp_path / "sheet.png"])]) == 0
    assert main([*map(str, ["train", *given, "--out", tmp_path / "run", "--device", "cpu", *tiny])]) == 0
    predict = ["predict", "--run", tmp_path / "run", "--images", images, "--out", tmp_path.parent / "predicted"]
    assert main([*map(str, predict)]) == 0 and "6 masks written" in capsys.readouterr().out
    assert (
        main(["card", str(tmp_path / "run")]) == 0
        and "*" not in (tmp_path / "run/card.md").read_text().split("Source")[1][:60]
    )


def test_a_pattern_that_fits_nothing(tmp_path):
    images, _ = in_one_folder(tmp_path)
    with pytest.raises(DataError, match="no picture in it is named .*_3rdHO.png; check the pattern"):
        load_folder(images, tmp_path / "*_3rdHO.png")


def with_sound_parts(root):
    """MVTec as it comes: sound parts have no mask."""
    machine_parts(root)
    for i in range(4):
        noise = np.random.default_rng(i).integers(0, 9000, (36, 48))
        save(noise.astype(np.uint16), root / f"images/good/{i:03}.png")


@pytest.mark.parametrize("how, count, note", [("skip", 6, "left out"), ("empty", 10, "taken as showing no object")])
def test_images_without_a_mask(tmp_path, capsys, how, count, note):
    with_sound_parts(tmp_path)
    images, masks = tmp_path / "images", tmp_path / "masks"
    with pytest.raises(DataError, match="4 of 10 images have no mask .* --without-mask skip or empty"):
        load_folder(images, masks)
    with pytest.warns(DataNote, match=rf"images without a mask, {note} \(4 files, first 000.png\)"):
        data = load_folder(images, masks, without_mask=how)
    found = dict(zip(data.train.names + data.val.names, [*data.train.masks, *data.val.masks], strict=True))
    assert len(found) == count and {bool(mask.any()) for name, mask in found.items() if "broken" in name} == {True}
    assert not any(mask.any() for name, mask in found.items() if "good" in name)
    given, tiny = ["--images", images, "--masks", masks, "--without-mask", how], ["--epochs", 1, "--base-channels", 2]
    assert main([*map(str, ["data", "check", *given, "--sheet", tmp_path / "sheet.png"])]) == 0
    assert main([*map(str, ["train", *given, "--out", tmp_path / "run", "--device", "cpu", *tiny])]) == 0
    assert f"{count - count // 5} train" in capsys.readouterr().out


def test_without_mask_has_two_meanings(tmp_path):
    with pytest.raises(DataError, match="must be 'skip', 'empty' or None"):
        load_folder(tmp_path, tmp_path, without_mask="drop")


def test_more_colours_than_classes(tmp_path):
    for i, image, _ in drawn():
        save(image, tmp_path / f"images/{i}.png")
        save(image, tmp_path / f"masks/{i}.png")
    with pytest.raises(DataError, match=r"\d+ colours in the masks, not 2 to 32; blurred by JPEG or smoothing\?"):
        load_folder(tmp_path / "images", tmp_path / "masks", classes="colours")

"""unetlab/classes.py: the numbers and colours in masks become the right class ids, or a line that names the file."""

import json

import numpy as np
import pytest
from PIL import Image

from unetlab.classes import IGNORE, Coding, read_classes, scan_mask
from unetlab.files import DataError

BASE = np.zeros((12, 10), np.uint8)


def mask(*values, weight=1):
    """A mask whose first rows hold these values, a row each; the rest is 0."""
    array = BASE.copy()
    for row, value in enumerate(values):
        array[row * weight : (row + 1) * weight] = value
    return array


def write(folder, **masks):
    """Save masks; a name that ends in _jpg becomes a JPEG."""
    for name, array in masks.items():
        stem, _, kind = name.partition("_")
        Image.fromarray(array).save(folder / f"{stem}.{kind or 'png'}", quality=90)
    return folder


def code(folder, classes=None):
    """The coding of all masks in a folder, and the notes."""
    asked, notes = read_classes(classes), []
    scans = [
        scan_mask(path, asked.as_colours) for path in sorted(folder.glob("*.*")) if path.suffix in (".png", ".jpg")
    ]
    return asked.completed(scans, lambda path, what: notes.append(what)), notes


def refusal(folder, classes=None):
    with pytest.raises(DataError) as caught:
        code(folder, classes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------ inferred from masks


def test_0_and_1_need_no_word(tmp_path):
    coding, notes = code(write(tmp_path, a=mask(1), b=mask()))
    assert (coding.names, coding.ids, notes) == (("background", "foreground"), {0: 0, 1: 1}, [])


@pytest.mark.parametrize("value", [2, 128, 255, 1000])
@pytest.mark.parametrize("classes", [None, 2])
def test_0_and_another_value_are_said(tmp_path, value, classes):
    array = mask(1).astype(np.uint16 if value > 255 else np.uint8) * value
    coding, notes = code(write(tmp_path, a=array, b=mask()), classes)
    assert coding(array, "a").tolist() == mask(1).tolist()
    assert notes == [f"masks of 0 and {value}: read as 0 (background) and 1 (foreground)"]


def test_consecutive_values_are_classes_and_the_rarest_is_said(tmp_path):
    coding, notes = code(write(tmp_path, a=mask(1, 2), b=mask(1), c=mask(1, 3), d=mask(1, 2)))
    assert coding.names == ("background", "class 1", "class 2", "class 3")
    assert coding.ids == {0: 0, 1: 1, 2: 2, 3: 3}
    assert notes == ["masks of 4 values: read as 4 classes; value 3 is in 1 of 4 masks"]


@pytest.mark.parametrize(
    "values, strange, known", [((1, 7), 7, "0, 1"), ((1, 2, 4), 4, "0, 1, 2"), ((128, 255), 128, "0, 255")]
)
def test_a_value_outside_the_classes_names_the_file(tmp_path, values, strange, known):
    others = {name: mask(*(v for v in values if v != strange)) for name in "acd"}
    text = refusal(write(tmp_path, **others, b=mask(*values)))
    assert text.startswith(
        f"{tmp_path / 'b.png'}: the mask holds {strange}, which is no class ({known} are); mend the mask"
    )


def test_several_such_files_are_counted(tmp_path):
    assert "b.png: the mask holds 9" in (
        text := refusal(write(tmp_path, a=mask(1), b=mask(9), c=mask(9), d=mask(1, 1)))
    )
    assert text.endswith("(1 more files with errors)")


def test_a_mixture_of_0_1_and_0_255_is_no_set(tmp_path):
    assert "255" in refusal(write(tmp_path, a=mask(1), b=mask(255), c=mask(1)))


def test_masks_that_do_not_start_at_0(tmp_path):
    assert "which is no class (0, 1 are)" in refusal(write(tmp_path, a=mask(1, 2) + 1))


@pytest.mark.parametrize("value", [0, 1, 255])
@pytest.mark.parametrize("classes", [None, 2, 3])
def test_masks_of_one_value_teach_nothing(tmp_path, value, classes):
    text = refusal(write(tmp_path, a=BASE + value, b=BASE + value), classes)
    assert "a.png" in text and f"only the value {value}" in text


def test_numbered_objects_are_no_classes(tmp_path):
    assert "numbered objects" in refusal(write(tmp_path, a=np.arange(120, dtype=np.uint8).reshape(12, 10)))


def soft_disc(scale=1.0):
    distance = np.hypot(*np.mgrid[-30:30, -30:30])
    return ((20.5 - distance).clip(0, 1) * 255 * scale).astype(np.uint8)


def test_soft_edges_are_cut_at_127_and_said(tmp_path):
    coding, notes = code(write(tmp_path, a=soft_disc(), b=soft_disc()))
    assert np.array_equal(coding(soft_disc(), "a"), soft_disc() > 127)
    assert notes == ["masks with values between 0 and 255 (JPEG or soft edges): above 127 is foreground"]


def test_jpeg_masks_are_cut_at_127_and_said(tmp_path):
    disc = 255 * (soft_disc() > 127).astype(np.uint8)
    write(tmp_path, a_jpg=disc)
    coding, notes = code(tmp_path, 2)
    blurred = np.asarray(Image.open(tmp_path / "a.jpg"))
    assert len(np.unique(blurred)) > 2 and np.array_equal(coding(blurred, "a"), disc // 255)
    assert "above 127" in notes[0]


def test_thin_lines_in_jpeg_are_cut_at_127_too(tmp_path):
    lines = np.zeros((64, 64), np.uint8)
    lines[np.arange(64), (np.arange(64) * 7 // 10 + 5)] = 255
    lines[20, :] = 255
    write(tmp_path, a_jpg=lines, b_jpg=lines.T)
    coding, _ = code(tmp_path)
    assert (coding(np.asarray(Image.open(tmp_path / "a.jpg")), "a") == lines // 255).mean() > 0.99


@pytest.mark.parametrize("step, classes", [(1, None), (1, 2), (60, None), (80, 4), (80, None), (127, None)])
def test_jpeg_masks_of_class_numbers_are_refused(tmp_path, step, classes):
    numbers = np.kron(np.array([[0, 1], [2, 2 if step == 127 else 3]], np.uint8), np.ones((32, 32), np.uint8))
    assert "a.jpg: JPEG has blurred" in refusal(write(tmp_path, a_jpg=numbers * np.uint8(step)), classes)


def test_a_grey_photograph_is_no_mask(tmp_path):
    photograph = np.random.default_rng(0).integers(0, 256, (60, 60), dtype=np.uint8)
    assert "a.png" in refusal(write(tmp_path, a=photograph))


# --------------------------------------------------------------------------------------------------- a number of classes


def test_a_number_of_classes(tmp_path):
    coding, notes = code(write(tmp_path, a=mask(1), b=mask(3)), 4)
    assert coding.ids == {0: 0, 1: 1, 2: 2, 3: 3}
    assert notes == ["no mask holds the class 'class 2'"]
    _, notes = code(tmp_path, 9)
    assert notes == ["no mask holds 6 of the classes ('class 2', 'class 4', 'class 5', ...)"]
    assert "b.png: the mask holds 3, which is no class (0, 1, 2 are)" in refusal(tmp_path, 3)
    assert "b.png" in refusal(tmp_path, 2)


@pytest.mark.parametrize("classes", [-1, 0, 1, 255, 1000])
def test_an_impossible_number_of_classes(classes):
    with pytest.raises(DataError, match=f"classes={classes}: must be 2 to 254"):
        read_classes(classes)


# ------------------------------------------------------------------------------------------------------------ palettes


def palette_mask(path, ids, *colours):
    picture = Image.new("P", ids.shape[::-1])
    picture.putdata(ids.ravel().tolist())
    picture.putpalette([channel for colour in colours for channel in colour])
    picture.save(path)


def test_palette_indices_are_classes_where_the_palettes_agree(tmp_path):
    black, red, blue = (0, 0, 0), (255, 0, 0), (0, 0, 255)
    palette_mask(tmp_path / "a.png", mask(1), black, red)
    palette_mask(tmp_path / "b.png", mask(1, 2), black, red, blue)
    assert code(tmp_path)[0].ids == {0: 0, 1: 1, 2: 2}
    palette_mask(tmp_path / "c.png", mask(1), black, blue)
    text = refusal(tmp_path)
    assert text.startswith(f"{tmp_path / 'c.png'}: palette entry 1 has the colour (0, 0, 255), but (255, 0, 0) in ")
    assert "file of classes" in text


def test_colours_settle_palettes_that_disagree(tmp_path):
    palette_mask(tmp_path / "a.png", mask(1), (0, 0, 0), (255, 0, 0))
    palette_mask(tmp_path / "b.png", 1 - mask(1), (255, 0, 0), (0, 0, 0))
    (tmp_path / "c.csv").write_text("name,colour\nground,#000000\nroof,#ff0000\n")
    coding, _ = code(tmp_path, tmp_path / "c.csv")
    assert coding.names == ("ground", "roof") and coding.ids == {0: 0, 0xFF0000: 1}


# ---------------------------------------------------------------------------------------------------- a file of classes

GROUND_ROOF = Coding(("ground", "roof"), {0x000000: 0, 0xFF8000: 1, 0x9B9B9B: IGNORE}, as_colours=True)


@pytest.mark.parametrize(
    "name, text, wanted",
    [
        ("c.txt", "ground\n\n roof \n", Coding(("ground", "roof"))),
        ("c.json", '["ground", "roof"]', Coding(("ground", "roof"))),
        ("c.csv", "name\nground\nroof\n", Coding(("ground", "roof"))),
        ("c.csv", "name,value\nground,0\nroof,255\nignore,7\n", Coding(("ground", "roof"), {0: 0, 255: 1, 7: IGNORE})),
        ("c.csv", "name;colour\nground;#000000\nroof;#ff8000\nignore;#9B9B9B\n", GROUND_ROOF),
        ("c.csv", "id,name,color\n5,ground,#000000\n6,roof,#ff8000\n7,ignore,#9B9B9B\n", GROUND_ROOF),
        ("c.json", '{"ground": "#000000", "roof": "#FF8000", "ignore": "#9b9b9b"}', GROUND_ROOF),
        ("c.json", '{"ground": 1, "roof": 2}', Coding(("ground", "roof"), {1: 0, 2: 1})),
        ("c.csv", "name,value\nland,0\nroof,1\nland,2\n", Coding(("land", "roof"), {0: 0, 1: 1, 2: 0})),
    ],
)
def test_files_of_classes(tmp_path, name, text, wanted):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_classes(tmp_path / name) == wanted == read_classes(str(tmp_path / name))


@pytest.mark.parametrize(
    "name, text, word",
    [
        ("c.txt", "", "classes; must be 2 to 254"),
        ("c.txt", "background", "classes; must be 2 to 254"),
        ("c.txt", "a\nb\nignore", "a value of its own"),
        ("c.json", "{", "not JSON"),
        ("c.json", "7", "list of names"),
        ("c.json", '[{"title": "Water", "color": "#50E3C2"}]', "list of names"),
        ("c.json", '{"classes": [{"title": "Water"}], "b": 1}', "class 'classes'"),
        ("c.json", '{"a": true, "b": 1}', "class 'a'"),
        ("c.csv", "title\na\nb\n", "columns name"),
        ("c.csv", "name,colour\na,red\nb,#000000\n", "'red'"),
        ("c.csv", "name,value\na,0\nb,-1\n", "'-1'"),
        ("c.csv", "name,value\na,0\nb,\n", "a value of its own"),
        ("c.csv", "name,value\na,0\nb,0\n", "a value of its own"),
        ("c.json", '{"a": 0, "b": "#000001"}', "a value of its own"),
    ],
)
def test_bad_files_of_classes(tmp_path, name, text, word):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        read_classes(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value) and word in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_of_classes(tmp_path):
    with pytest.raises(DataError, match=r"c\.json: cannot be read"):
        read_classes(tmp_path / "c.json")


def test_named_classes_go_with_every_way_of_writing_a_mask(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(["outside", "cell"]))
    coding, notes = code(write(tmp_path, a=mask(255)), tmp_path / "c.json")
    assert coding.names == ("outside", "cell") and coding.ids == {0: 0, 255: 1} and "0 and 255" in notes[0]


def test_ignored_values(tmp_path):
    (tmp_path / "c.csv").write_text("name,value\npet,1\nbackground,2\nignore,3\n")
    coding, _ = code(write(tmp_path, a=mask(1, 3, 2, weight=4)), tmp_path / "c.csv")
    assert coding(mask(1, 3, 2, weight=4), "a")[::4, 0].tolist() == [0, IGNORE, 1]


def test_a_colour_that_is_not_in_the_table(tmp_path):
    colours = np.zeros((12, 10, 3), np.uint8)
    colours[0, 0] = (1, 2, 3)
    (tmp_path / "c.json").write_text('{"a": "#000000", "b": "#FFFFFF"}')
    text = refusal(write(tmp_path, a=np.zeros_like(colours), b=colours), tmp_path / "c.json")
    assert text.startswith(f"{tmp_path / 'b.png'}: the mask holds #010203, which is no class (#000000, #FFFFFF are)")


def test_coding_refuses_what_it_does_not_know():
    with pytest.raises(DataError, match="m.png: the mask holds -1"):
        Coding(("a", "b"), {0: 0, 9: 1})(np.array([[0, 9, -1]]), "m.png")
    with pytest.raises(DataError, match="m.png: the mask holds 10"):
        Coding(("a", "b"), {0: 0, 9: 1})(np.array([[0, 9, 10]]), "m.png")

"""unetlab/files.py: every kind of picture file is read rightly, or refused in one line that names it."""

import struct
import warnings
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFile

from unetlab.files import (
    DataError,
    DataNote,
    image_files,
    palette_of,
    picture_size,
    read_all,
    read_image,
    read_mask,
    read_table,
    read_text,
    read_volume,
    to_8_bits,
)

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (40, 50), dtype=np.uint8)
RGB = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
DISC = (np.hypot(*np.mgrid[-20:20, -25:25]) < 12).astype(np.uint8)


def saved(array, path, mode=None, **options):
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


def write_png(path, width, bits, colour_type, rows):
    """A PNG of a kind that Pillow reads but does not write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), bits, colour_type, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b""))


def refusal(read, path, *words):
    """The DataError for `path` as text: one line, the file's name, these words, and no library's traceback behind."""
    with pytest.raises(DataError) as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text and str(path) in text
    assert caught.value.__cause__ is None and (caught.value.__suppress_context__ or caught.value.__context__ is None)
    for word in words:
        assert word in text
    return text


@pytest.fixture(autouse=True)
def only_notes():
    """A library's warning is a failure: learners shall read ours alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DataNote)  # those that matter are asserted
        yield


# ------------------------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_lossless_formats_give_the_very_pixels(tmp_path, name):
    assert np.array_equal(read_image(saved(GREY, tmp_path / name)), GREY[..., None])
    assert np.array_equal(read_image(saved(RGB, tmp_path / name)), RGB)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.webp", "a.gif"])
def test_other_formats_give_the_shape_and_nearly_the_pixels(tmp_path, name):
    smooth = np.asarray(Image.fromarray(RGB).resize((5, 4)).resize((50, 40), Image.Resampling.BICUBIC))
    image = read_image(saved(smooth, tmp_path / name))
    assert image.shape == (40, 50, 3) and image.dtype == np.uint8
    assert np.abs(image.astype(float) - smooth).mean() < 8


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_tiff_compressions(tmp_path, compression):
    for array in (GREY, RGB):
        image = read_image(saved(array, tmp_path / "a.tif", compression=compression))
        assert np.array_equal(image, array.reshape(40, 50, -1))
    with pytest.warns(DataNote, match="more than 8 bits"):
        deep = read_image(saved(GREY.astype(np.uint16) * 100, tmp_path / "a.tif", compression=compression))
    assert np.array_equal(deep[..., 0], to_8_bits(GREY, "a"))


def test_one_bit_palette_and_cmyk(tmp_path):
    assert np.array_equal(read_image(saved(DISC > 0, tmp_path / "a.png"))[..., 0], 255 * DISC)
    paletted = Image.fromarray(RGB).quantize(16)
    paletted.save(tmp_path / "p.png")
    assert np.array_equal(read_image(tmp_path / "p.png"), np.asarray(paletted.convert("RGB")))
    assert read_image(saved(RGB, tmp_path / "c.tif", "CMYK")).shape == (40, 50, 3)


@pytest.mark.parametrize("mode, channels", [("RGBA", 3), ("LA", 1)])
def test_alpha_is_dropped_and_said(tmp_path, mode, channels):
    picture = Image.fromarray(RGB).convert(mode)
    picture.putalpha(Image.fromarray(GREY))
    picture.save(tmp_path / "a.png")
    with pytest.warns(DataNote, match="a.png: the alpha channel was dropped"):
        image = read_image(tmp_path / "a.png")
    wanted = np.asarray(picture)[..., :channels]
    assert np.array_equal(image, wanted)


def test_transparent_palette(tmp_path):
    Image.fromarray(RGB).quantize(16).save(tmp_path / "a.png", transparency=bytes([0, 9, 255]))
    with pytest.warns(DataNote, match="alpha"):
        assert read_image(tmp_path / "a.png").shape == (40, 50, 3)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64, np.int16])
@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3)])
def test_deep_tiff_is_scaled_by_its_own_percentiles(tmp_path, dtype, shape):
    values = (RNG.random(shape) * 3000).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb" if len(shape) == 3 else "minisblack")
    with pytest.warns(DataNote, match="scaled to 8"):
        image = read_image(tmp_path / "a.tif")
    low, high = np.percentile(values, (0.5, 99.5))
    wanted = ((values - low) / (high - low)).clip(0, 1) * 255
    assert image.dtype == np.uint8 and np.abs(image.reshape(shape) - wanted).max() <= 0.5 + 1e-9


def test_planar_tiff_is_turned_to_channels_last(tmp_path):
    values = np.moveaxis(RGB, -1, 0).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", planarconfig="separate")
    with pytest.warns(DataNote):
        assert np.array_equal(read_image(tmp_path / "a.tif"), to_8_bits(RGB, "a"))


def test_deep_png(tmp_path):
    saved(GREY.astype(np.uint16) * 16, tmp_path / "a.png")
    with pytest.warns(DataNote, match="scaled to 8"):
        assert np.array_equal(read_image(tmp_path / "a.png")[..., 0], to_8_bits(GREY, "a"))


def test_deep_colour_png_is_refused_because_pillow_would_cut_it(tmp_path):
    write_png(tmp_path / "a.png", 50, bits=16, colour_type=2, rows=[row.astype(">u2").tobytes() for row in RGB])
    refusal(read_image, tmp_path / "a.png", "16 bits", "TIFF")


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_exif_orientation_is_applied_to_images_and_masks(tmp_path, name):
    exif = Image.Exif()
    exif[274] = 6  # the camera was held upright: turn clockwise to see it right
    square = np.zeros((40, 60), np.uint8)
    square[:20, :20] = 255
    saved(square, tmp_path / name, exif=exif)
    for read in (read_image, read_mask):
        with pytest.warns(DataNote, match="upright"):
            turned = read(tmp_path / name).reshape(60, 40)
        assert np.abs(turned.astype(int) - np.rot90(square, -1)).mean() < 2


def test_an_invalid_exif_orientation_means_nothing(tmp_path):
    exif = Image.Exif()
    exif[274] = 0
    assert np.array_equal(read_image(saved(GREY, tmp_path / "a.png", exif=exif))[..., 0], GREY)


def test_a_telephones_jpeg_with_a_preview_is_one_picture(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.fromarray(RGB[:9, :9])])
    assert read_image(tmp_path / "a.jpg").shape == (40, 50, 3)


def write_stack(path):
    if path.suffix == ".tif":
        tifffile.imwrite(path, np.stack([GREY] * 5).astype(np.uint8 if path.stem == "b" else np.uint16))
    else:
        Image.fromarray(RGB).save(path, save_all=True, append_images=[Image.fromarray(RGB[::-1])])
    return path


@pytest.mark.parametrize("name", ["a.tif", "b.tif", "a.gif", "a.webp"])
def test_stacks_are_refused_with_the_remedy(tmp_path, name):
    for read in (read_image, read_mask):
        refusal(read, write_stack(tmp_path / name), "stack", "each page as a file")


def test_two_channels_are_refused(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", RGB[..., :2].astype(np.uint16), photometric="minisblack", planarconfig="contig"
    )
    refusal(read_image, tmp_path / "a.tif", "2 channels")


def test_alpha_of_a_deep_tiff_is_dropped_before_scaling(tmp_path):
    values = np.dstack([RGB, np.zeros_like(GREY)]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=["unassalpha"])
    with pytest.warns(DataNote, match="alpha"):
        assert np.array_equal(read_image(tmp_path / "a.tif"), to_8_bits(RGB, "a"))


def test_nan_is_refused(tmp_path):
    values = GREY.astype(np.float32)
    values[3, 4] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", values)
    refusal(read_image, tmp_path / "a.tif", "NaN")
    refusal(read_mask, tmp_path / "a.tif", "NaN")


def test_huge_pictures_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("unetlab.files.MAX_PIXELS", 1999)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    refusal(read_image, saved(GREY, tmp_path / "a.png"), "50 x 40 pixels", "tiles")


def test_a_bomb_is_refused(tmp_path):
    write_png(tmp_path / "bomb.png", width=15_000, bits=1, colour_type=0, rows=15_000 * [b""])
    refusal(read_image, tmp_path / "bomb.png", "decompression bomb")


@pytest.mark.parametrize("read", [read_image, read_mask, palette_of, picture_size, read_volume, read_text])
def test_a_missing_file(tmp_path, read):
    refusal(read, tmp_path / "none.png", "no such file" if read is not read_text else "No such file")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.gif", "a.webp", "a.tif", "deep.tif", "a.nii.gz"])
def test_what_is_cut_off_or_no_picture_is_refused(tmp_path, name, caplog):
    path = tmp_path / name
    read = read_volume if ".nii" in name else read_image
    if ".nii" in name:
        nibabel.save(nibabel.Nifti1Image(np.tile(GREY, (5, 1, 1)), np.eye(4)), path)
    elif name == "deep.tif":
        tifffile.imwrite(path, RGB.astype(np.uint16), photometric="rgb")
    else:
        saved(RGB, path)
    whole = path.read_bytes()
    for share in (0, 0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        refusal(read, path)
    path.write_text("this is no picture")
    refusal(read, path)


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_damaged_bytes_never_leak_a_decoders_exception(tmp_path, suffix, caplog):
    rng = np.random.default_rng(1)
    whole = saved(RGB, tmp_path / f"a.{suffix}").read_bytes()
    refused = 0
    for _ in range(100):
        damaged = bytearray(whole)
        for position in rng.integers(0, min(len(whole), 400), 5):
            damaged[position] = rng.integers(256)
        path = tmp_path / f"b.{suffix}"
        path.write_bytes(damaged)
        try:
            assert read_image(path).dtype == np.uint8
        except DataError as error:
            assert "\n" not in str(error) and path.name in str(error)
            refused += 1
    assert refused > 20


# -------------------------------------------------------------------------------------------------------------- masks


def test_grey_masks_give_their_values(tmp_path):
    for top in (1, 7, 255):
        assert np.array_equal(read_mask(saved(DISC * np.uint8(top), tmp_path / "m.png")), DISC * np.uint8(top))
    deep = DISC.astype(np.uint16) * 1000
    for name in ("m.png", "m.tif"):
        assert np.array_equal(read_mask(saved(deep, tmp_path / name)), deep)


def test_one_bit_masks_are_0_and_1(tmp_path):
    for name in ("m.png", "m.bmp"):
        assert np.array_equal(read_mask(saved(DISC > 0, tmp_path / name)), DISC)
    for photometric in ("minisblack", "miniswhite"):  # tifffile writes bool as the latter unless told otherwise
        tifffile.imwrite(tmp_path / "m.tif", DISC > 0, photometric=photometric)
        assert np.array_equal(read_mask(tmp_path / "m.tif"), DISC)
    assert np.array_equal(read_image(tmp_path / "m.tif")[..., 0], 255 * (1 - DISC))  # shown, 0 is white
    saved(DISC > 0, tmp_path / "m.tif", compression="group4")
    assert np.array_equal(read_mask(tmp_path / "m.tif"), DISC)


@pytest.mark.parametrize("bits", [2, 4])
def test_masks_of_few_bits_are_not_stretched(tmp_path, bits):
    ids = RNG.integers(0, 2**bits, (8, 8), dtype=np.uint8)
    digits = ["".join(f"{value:0{bits}b}" for value in row) for row in ids]
    rows = [int(row, 2).to_bytes(bits, "big") for row in digits]
    write_png(tmp_path / "m.png", width=8, bits=bits, colour_type=0, rows=rows)
    assert np.array_equal(read_mask(tmp_path / "m.png"), ids)


def palette_mask(ids, colours, path):
    picture = Image.new("P", ids.shape[::-1])
    picture.putdata(ids.ravel().tolist())
    picture.putpalette([channel for colour in colours for channel in colour])
    picture.save(path)
    return path


def test_palette_masks_give_indices_or_colours(tmp_path):
    path = palette_mask(DISC * 2, [(0, 0, 0), (9, 9, 9), (200, 100, 50)], tmp_path / "m.png")
    assert np.array_equal(read_mask(path), 2 * DISC)
    assert np.array_equal(read_mask(path, as_colours=True), DISC.astype(int) * 0xC86432)
    assert palette_of(path)[2] == (200, 100, 50)
    assert palette_of(saved(GREY, tmp_path / "g.png")) is None


def test_colour_masks_need_a_table(tmp_path):
    colours = np.zeros((40, 50, 3), np.uint8)
    colours[DISC > 0] = (226, 169, 41)
    path = saved(colours, tmp_path / "m.png")
    refusal(read_mask, path, "#E2A929", "#000000", "file of classes")
    assert np.array_equal(read_mask(path, as_colours=True), DISC.astype(int) * 0xE2A929)


def test_grey_saved_as_colour_is_grey(tmp_path):
    for mode in ("RGB", "CMYK"):
        name = tmp_path / ("m.png" if mode == "RGB" else "m.tif")
        assert np.array_equal(read_mask(saved(DISC * np.uint8(255), name, mode)), DISC * 255)
    assert np.array_equal(read_mask(saved(DISC, tmp_path / "m.png"), as_colours=True), DISC.astype(int) * 0x010101)


def test_alpha_of_a_mask(tmp_path):
    saved(DISC * np.uint8(3), tmp_path / "m.png", "RGBA")
    with pytest.warns(DataNote, match="alpha"):
        assert np.array_equal(read_mask(tmp_path / "m.png"), 3 * DISC)
    only_alpha = Image.new("RGBA", (50, 40), (255, 0, 0, 255))
    only_alpha.putalpha(Image.fromarray(DISC * np.uint8(255)))
    only_alpha.save(tmp_path / "m.png")
    with pytest.warns(DataNote, match="the mask is its alpha channel, all else is of one colour"):
        assert np.array_equal(read_mask(tmp_path / "m.png"), 255 * DISC)


def test_jpeg_masks_are_said(tmp_path):
    with pytest.warns(DataNote, match="m.jpg: a JPEG mask"):
        assert read_mask(saved(DISC * np.uint8(255), tmp_path / "m.jpg")).max() > 200


def test_float_masks(tmp_path):
    tifffile.imwrite(tmp_path / "m.tif", DISC.astype(np.float32) * 2)
    mask = read_mask(tmp_path / "m.tif")
    assert mask.dtype.kind == "i" and np.array_equal(mask, DISC * 2)
    tifffile.imwrite(tmp_path / "m.tif", DISC.astype(np.float32) / 3)
    refusal(read_mask, tmp_path / "m.tif", "fractions")


# ------------------------------------------------------------------------------------- folders, volumes, tables, many


def test_image_files_are_sorted_and_hidden_ones_left_out(tmp_path):
    for name in ("b.png", "a.JPG", "sub/c.tiff", ".hidden.png", ".cache/d.png", "notes.txt", "._b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert image_files(tmp_path) == [tmp_path / "a.JPG", tmp_path / "b.png", tmp_path / "sub/c.tiff"]


def test_image_files_of_folders_that_do_not_serve(tmp_path):
    refusal(image_files, tmp_path / "none", "no such folder")
    refusal(image_files, tmp_path, "it is empty", ".png")
    (tmp_path / "a.npy").touch()
    refusal(image_files, tmp_path, "1 other files (.npy)")
    refusal(image_files, tmp_path / "a.npy", "no such folder")


def test_to_8_bits_is_blind_to_gain_and_offset_and_keeps_rare_bright_pixels():
    values = RNG.random((50, 50))
    assert np.array_equal(to_8_bits(values, "a"), to_8_bits(1000 * values + 7, "a"))
    sparse = np.zeros((100, 100))
    sparse[5, 5] = 9
    assert to_8_bits(sparse, "a")[5, 5] == 255 and to_8_bits(sparse, "a").sum() == 255
    assert not to_8_bits(np.full((3, 3), 7), "a").any()


def test_read_volume_turns_to_right_front_top(tmp_path):
    volume = RNG.integers(0, 99, (3, 4, 5), dtype=np.uint8)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([-1, -1, 1, 1])), tmp_path / "v.nii.gz")
    assert np.array_equal(read_volume(tmp_path / "v.nii.gz"), volume[::-1, ::-1])


def test_read_table(tmp_path):
    path = tmp_path / "t.csv"
    for text in ("name,group\na.png,p1\n", "\ufeffname; group\na.png; p1\n", "id,name,group\n1, a.png , p1\n"):
        path.write_text(text, encoding="utf-8")
        row = read_table(path, "name", "group")[0]
        assert (row["name"], row["group"]) == ("a.png", "p1")
    for text in ("", "name,group\n", "a.png,p1\n", "name\na.png\n"):
        path.write_text(text)
        refusal(lambda p: read_table(p, "name", "group"), path, "columns name, group")
    path.write_bytes(b"name,group\n\xff,1\n")
    refusal(lambda p: read_table(p, "name", "group"), path, "UTF-8")


def test_read_all_keeps_the_order_names_the_first_and_counts_the_others():
    def read(number):
        if number % 4 == 1:
            raise DataError(f"{number}.png: broken")
        return number * 2

    assert read_all([0, 2, 4], read) == [0, 4, 8]
    with pytest.raises(DataError, match=r"^1\.png: broken$"):
        read_all([0, 1, 2], read)
    with pytest.raises(DataError, match=r"^1\.png: broken \(2 more files with errors\)$"):
        read_all(range(10), read)


def test_a_programming_error_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        read_all([Path("a")], lambda path: 1 / 0)

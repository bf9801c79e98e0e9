"""Pictures, masks, volumes and tables from files: the ugly facts about file formats are settled here and nowhere else.

Chapter 2 (`02a_data`) teaches why: a network learns whatever a wrongly read mask tells it, and no line turns red.
Three rules hold for every function of this page:

* an image arrives as numbers 0 to 255, a mask with the very values that stand in its file;
* what had to be interpreted (16 bits, an alpha channel, a lossy mask) is said, as a `DataNote`;
* what cannot be read is a `DataError` of one line, with the file and the remedy, never a decoder's traceback.
"""

import csv
import gzip
import os
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
import tifffile
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

TIFF_SUFFIXES = (".tif", ".tiff")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pbm", *TIFF_SUFFIXES)
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "F")  # Pillow's modes of more than 8 bits
MAX_PIXELS = Image.MAX_IMAGE_PIXELS  # about 89 million: beyond it Pillow suspects a decompression bomb

# Pillow stretches grey PNG of 2 and 4 bits to 0..255. In a mask that would turn class 1 into 85 or 17.
STRETCHED = {"L;2": 85, "L;4": 17}


class DataError(ValueError):
    """Data that cannot be used. The message is one line: the file, what is wrong with it, what to do.

    Where it is single files that are wrong, the message names the first and `each` has a line for each of them.
    """

    def __init__(self, message: str, each: Iterable[str] = ()):
        super().__init__(message)
        self.each = list(each)


class DataNote(UserWarning):
    """Something in the data that was interpreted, and how."""


def warn_of(path: Path, what: str) -> None:
    """Say at once what was interpreted in a file. (`load_folder` collects instead, and says it once per kind.)"""
    warnings.warn(f"{path}: {what}", DataNote, stacklevel=3)


def folder_and_pattern(where) -> tuple[Path, str]:
    """`masks/*_labels.png` -> the folder `masks` and the pattern for file names; of a folder the pattern is `*`."""
    where = Path(where)
    return (where.parent, where.name) if "*" in where.name and not where.exists() else (where, "*")


def image_files(where) -> list[Path]:
    """All picture files under a folder, subfolders included, sorted; hidden files and folders are left out.

    where: a folder, or one with a pattern for the names of the files (`folder_and_pattern`).
    Raises DataError if the folder is missing or holds no such picture.
    """
    folder, pattern = folder_and_pattern(where)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; check the path")
    files = [f for f in sorted(folder.rglob("*")) if f.is_file()]
    files = [f for f in files if not any(part.startswith(".") for part in f.relative_to(folder).parts)]
    pictures = [f for f in files if f.suffix.lower() in SUFFIXES and f.match(pattern)]
    if not pictures and pattern != "*":
        raise DataError(f"{folder}: no picture in it is named {pattern}; check the pattern, and that it is in quotes")
    if not pictures:
        kinds = ", ".join(sorted({f.suffix or f.name for f in files})[:5])
        holds = f"it holds {len(files)} other files ({kinds})" if files else "it is empty"
        raise DataError(f"{folder}: no pictures here, {holds}; put in files ending in {', '.join(SUFFIXES)}")
    return pictures


def read_image(path, note: Callable[[Path, str], None] = warn_of) -> np.ndarray:
    """Read one picture as uint8 (H, W, C): C is 1 for grey, 3 for colour. Alpha is dropped, EXIF orientation applied.

    Values of 16 or 32 bits are scaled to 8, for each picture by itself (`to_8_bits`). Raises DataError.
    `note(path, what)` hears what was interpreted; by default it is a DataNote warning.
    """
    path = Path(path)
    with _blaming(path):
        pixels = _deep_tiff(path)
        if pixels is None:
            picture, _, _ = _decode(path, note)
            if picture.has_transparency_data:
                note(path, "the alpha channel was dropped")
            if picture.mode in ("1", "L", "LA"):
                pixels = np.asarray(picture.convert("L"))
            elif picture.mode in DEEP_MODES:
                pixels = np.asarray(picture)
            else:
                pixels = _colours(picture)
        if pixels.ndim == 3 and pixels.shape[2] == 4:
            note(path, "the alpha channel was dropped")
            pixels = pixels[..., :3]
        if pixels.dtype != np.uint8:
            pixels = to_8_bits(pixels, path)
            note(path, "more than 8 bits, scaled to 8 by the picture's own percentiles 0.5 and 99.5")
        return pixels if pixels.ndim == 3 else pixels[..., None]


def read_mask(path, as_colours: bool = False, note: Callable[[Path, str], None] = warn_of) -> np.ndarray:
    """Read one mask as integers (H, W), the values that stand in the file.

    A grey or 1-bit mask gives its values, a palette mask its indices, an RGB mask with equal channels one of them.
    With `as_colours` a pixel is its colour as one number, 0xRRGGBB, in palette and grey masks too. Raises DataError,
    also for a mask in colours that was not read `as_colours`. `note` as in `read_image`.
    """
    path = Path(path)
    with _blaming(path):
        values = _deep_tiff(path, stored=True)
        if values is None:
            picture, codec, raw_mode = _decode(path, note)
            if codec == "jpeg":
                note(path, "a JPEG mask: JPEG blurs the edges of a mask, PNG keeps them")
            if as_colours or picture.mode not in ("1", "L", "P", *DEEP_MODES):
                values = _colours(picture)
                if picture.has_transparency_data:
                    alpha = np.asarray(picture.convert("RGBA"))[..., 3]
                    shown_by_alpha = (values == values[0, 0]).all() and (alpha != alpha[0, 0]).any()
                    values = alpha if shown_by_alpha and not as_colours else values
                    what = "the mask is its alpha channel, all else is of one colour"
                    note(path, what if shown_by_alpha else "the alpha channel was dropped")
            else:
                values = np.asarray(picture) // np.uint8(STRETCHED.get(raw_mode, 1))
        if values.dtype.kind == "f" and not np.array_equal(values, np.round(values)):
            raise DataError(f"{path}: the mask holds fractions or NaN; save it with whole class numbers")
        if values.ndim == 2:
            return values.astype(np.int64) if values.dtype.kind in "fb" else values
        if values.dtype != np.uint8:
            raise DataError(f"{path}: a mask in colours of more than 8 bits; save it with 8")
        red, green, blue = np.moveaxis(values[..., :3].astype(np.int32), -1, 0)
        if as_colours:
            return red << 16 | green << 8 | blue
        if (red != green).any() or (red != blue).any():
            found = np.unique(red << 16 | green << 8 | blue)
            some = ", ".join(f"#{colour:06X}" for colour in found[:8]) + (", ..." if len(found) > 8 else "")
            raise DataError(
                f'{path}: a mask in colours ({some}); say --classes colours (in Python classes="colours") to make '
                "each colour a class, or name them in a file of classes (see load_folder)"
            )
        return red


def count_pages(path) -> int:
    """Pages of a TIFF stack. Raises DataError."""
    with _blaming(path), tifffile.TiffFile(path) as tiff:
        return len(tiff.pages)


def read_page(path, page: int) -> np.ndarray:
    """One page (H, W) of a stack of grey 8-bit pictures, the values that stand in the file. Raises DataError."""
    with _blaming(path):
        pixels = tifffile.imread(path, key=page)
        if pixels.ndim != 2 or pixels.dtype != np.uint8:
            raise DataError(f"{path}: {pixels.dtype} of shape {pixels.shape}, not grey pages of 8 bits; fetch it again")
        return pixels


def picture_size(path) -> tuple[int, int]:
    """(width, height) as the file's head says, without decoding it. Raises DataError."""
    with _blaming(path), Image.open(path) as picture:
        return picture.size


def palette_of(path) -> list[tuple[int, int, int]] | None:
    """The colours behind the indices of a palette picture; None for all others. Raises DataError."""
    with _blaming(path), Image.open(path) as picture:
        if picture.mode != "P":
            return None
        flat = picture.getpalette()
        return list(zip(flat[::3], flat[1::3], flat[2::3], strict=True))


def read_volume(path) -> np.ndarray:
    """Read a NIfTI volume as (X, Y, Z), turned so that X runs to the right, Y forwards, Z upwards. Raises DataError."""
    path = Path(path)
    with _blaming(path):
        if path.suffix == ".gz":  # read to its end, where its checksum stands; nibabel stops before
            volume = nibabel.Nifti1Image.from_bytes(gzip.decompress(path.read_bytes()))
        else:
            volume = nibabel.load(path)
        return np.asarray(nibabel.as_closest_canonical(volume).dataobj)


def read_table(path, *columns) -> list[dict[str, str]]:
    """The rows of a CSV file (comma or semicolon) as dicts that have at least these columns. Raises DataError."""
    text = read_text(path)
    delimiter = ";" if ";" in text.partition("\n")[0] else ","
    rows = list(csv.DictReader(text.splitlines(), delimiter=delimiter, skipinitialspace=True))
    if not rows or any(row.get(column) is None for row in rows for column in columns):
        raise DataError(f"{path}: each row needs the columns {', '.join(columns)}; the first line names the columns")
    return [{key.strip(): value.strip() for key, value in row.items() if key and value is not None} for row in rows]


def read_text(path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark. Raises DataError."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error}); check the path, save it as UTF-8") from None


def to_8_bits(pixels: np.ndarray, path) -> np.ndarray:
    """Scale numbers of any kind to uint8: percentile 0.5 becomes 0, percentile 99.5 becomes 255, the rest is clipped.

    Percentiles, because one hot pixel would make a minimum-to-maximum scale black. The scale is the array's own:
    two arrays of the same content at different gains become equal. Raises DataError if a value is NaN or infinite.
    """
    if not np.isfinite(pixels).all():
        raise DataError(f"{path}: holds NaN or infinite values; replace them before training")
    low, high = np.percentile(pixels, (0.5, 99.5))
    if low == high:  # nearly all pixels are equal: the few others must not vanish
        low, high = pixels.min(), pixels.max()
    scaled = (pixels.astype(np.float64) - low) / max(float(high) - float(low), 1e-12)
    return (scaled.clip(0, 1) * 255).round().astype(np.uint8)


def read_all(items: Iterable, read: Callable) -> list:
    """`[read(item) for item in items]` on all cores. If some fail, one DataError names the first, counts the others."""

    def attempt(item):
        try:
            return read(item)
        except DataError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # the decoders let other threads run
        results = list(pool.map(attempt, items))
    errors = [str(r) for r in results if isinstance(r, DataError)]
    if errors:
        raise DataError(errors[0] + (f" ({len(errors) - 1} more files with errors)" if errors[1:] else ""), errors)
    return results


@contextmanager
def _blaming(path):
    """Turn whatever a decoder trips over (they raise nearly everything) into one line that names the file."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; check the path") from None
    except UnidentifiedImageError:
        raise DataError(
            f"{path}: no picture that can be read here, or damaged; save it again as PNG, or take it out"
        ) from None
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(f"{path}: cannot be read ({reason}); save it again as PNG, or take it out") from None


def _decode(path, note):
    """Decode with Pillow what it decodes rightly, upright: the picture, its codec and the codec's raw mode."""
    with Image.open(path) as picture:
        _check_size(path, picture.size)
        # MPO is what telephones write: a JPEG with a preview behind it.
        if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
            raise _stack_error(path, f"{picture.n_frames} pictures")
        codec, _, _, raw_mode = picture.tile[0] if picture.tile else (None, None, None, None)
        if codec == "zip" and picture.mode in ("RGB", "RGBA", "LA") and raw_mode.endswith("16B"):
            raise DataError(f"{path}: a PNG of 3 times 16 bits, which loses the lower 8 here; save it as TIFF")
        if picture.getexif().get(ExifTags.Base.Orientation) in range(2, 9):
            note(path, "turned upright, as its EXIF orientation says")
        return ImageOps.exif_transpose(picture), codec, raw_mode


def _colours(picture):
    """The colours (H, W, 3) of a picture in any mode, without its alpha."""
    if picture.has_transparency_data:  # Pillow warns of transparent palettes unless they pass through RGBA
        picture = picture.convert("RGBA")
    return np.asarray(picture.convert("RGB"))


def _deep_tiff(path, stored=False):
    """The pixels (H, W) or (H, W, C) of a TIFF for which Pillow does not suffice; None for every other file.

    Such are those of more than 8 bits and, if the values are wanted as `stored`, those in which 0 is white: Pillow turns
    them round. That is right for images, but bool masks of tifffile and masks of ImageJ are stored like this.
    """
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return None
    with tifffile.TiffFile(path) as tiff:
        series = [s for s in tiff.series if not s.keyframe.is_reduced]  # smaller copies for viewers do not count
        axes, shape = series[0].axes, series[0].shape
        sides = dict(zip(axes, shape, strict=True))
        if len(series) > 1 or any(sides[axis] > 1 for axis in set(axes) - set("YXS")):
            raise _stack_error(path, f"{len(tiff.pages)} pages, shape {shape}")
        if sides.get("S", 1) not in (1, 3, 4):
            raise DataError(f"{path}: {sides['S']} channels; save the 1 or 3 that the network shall see")
        zero_is_white = series[0].keyframe.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        if series[0].dtype in (np.uint8, bool) and not (stored and zero_is_white):
            return None
        _check_size(path, (sides["X"], sides["Y"]))
        try:
            pixels = series[0].asarray()
        except ValueError:  # a compression that tifffile leaves to others (LZW): Pillow knows it for grey pictures
            if sides.get("S", 1) > 1 or zero_is_white:
                raise
            return None
    if "S" in axes:
        pixels = np.moveaxis(pixels, axes.index("S"), -1)
    pixels = pixels.reshape(sides["Y"], sides["X"], -1)
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _check_size(path, size):
    if size[0] * size[1] > MAX_PIXELS:
        raise DataError(f"{path}: {size[0]} x {size[1]} pixels are too many to load at once; cut it into tiles")


def _stack_error(path, what):
    return DataError(f"{path}: a stack ({what}); save each page as a file of its own, and give the pages one group")

"""The real sets as their makers pack them: small archives in the official layout, built from the copies for tests."""

import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image


def zipped(files, path):
    """A zip of {name inside: file or bytes}."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content if isinstance(content, bytes) else Path(content).read_bytes())
    return path


def tarred(files, path):
    """A tar (gzipped if its name says so) of {name inside: file or bytes}."""
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, content in files.items():
            content = content if isinstance(content, bytes) else Path(content).read_bytes()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def pack(name, data, folder, count=12):
    """The official files of a set in `folder`, with about `count` pictures from the copies in `data`."""
    folder.mkdir(parents=True, exist_ok=True)
    globals()[f"_pack_{name}"](data, folder, count)
    return folder


def _pack_nuclei(data, folder, count):
    root = data / "nuclei_dsb2018/stage1_train"
    files = [f for one in sorted(root.iterdir())[:count] for f in sorted(one.rglob("*.png"))]
    zipped({f.relative_to(root).as_posix(): f for f in files}, folder / "stage1_train.zip")


def _pack_membranes(data, folder, count):
    root = data / "em_isbi2012/train"
    for kind, name in (("image", "train-volume.tif"), ("label", "train-labels.tif")):
        pages = [np.asarray(Image.open(root / kind / f"{k}.png")) for k in range(30)]
        tifffile.imwrite(folder / name, np.stack(pages), photometric="minisblack")


def _pack_hippocampus(data, folder, count):
    root, files = data / "hippocampus_msd04", {"Task04_Hippocampus/dataset.json": b"{}"}
    for image in sorted(root.glob("images/*.nii.gz"))[:count]:
        files[f"Task04_Hippocampus/imagesTr/._{image.name}"] = b"what macOS adds"
        files[f"Task04_Hippocampus/imagesTr/{image.name}"] = image
        files[f"Task04_Hippocampus/labelsTr/{image.name}"] = root / "labels" / image.name
    tarred(files, folder / "Task04_Hippocampus.tar")


def _pack_pets(data, folder, count):
    root = data / "pets_oxford_sample"
    images = sorted(root.glob("images/**/*.jpg"))[:count]
    tarred({f"images/{f.name}": f for f in images} | {"images/x.mat": b"Matlab"}, folder / "images.tar.gz")
    trimaps = {f"annotations/trimaps/{f.stem}.png": root / f"derived_trimaps/{f.stem}.png" for f in images}
    trimaps |= {f"annotations/trimaps/._{f.stem}.png": b"what macOS adds" for f in images}
    table = "#Image CLASS-ID SPECIES\n" + "".join(f"{f.stem} 1 1 1\n" for f in images[:-1])
    tarred(trimaps | {"annotations/list.txt": table.encode()}, folder / "annotations.tar.gz")


def _pack_aerial(data, folder, count):
    root = data / "aerial_dubai"
    files = [f for tile in sorted(root.glob("*/Tile *")) for f in sorted(tile.rglob("*_00[12].*"))]
    files.append(next(root.glob("*/classes.json")))
    zipped({f.relative_to(root).as_posix(): f for f in files}, folder / "archive.zip")


def _pack_tiles(data, folder, count):
    root, top = data / "magnetic_tile", "Magnetic-tile-defect-datasets.-master"
    files = [f for kind in sorted(root.glob("MT_*")) for f in sorted(kind.glob("Imgs/*.jpg"))[::6]]
    files += [f.with_suffix(".png") for f in files]
    zipped(
        {f"{top}/{f.relative_to(root).as_posix()}": f for f in files} | {f"{top}/README.md": b"cite"},
        folder / "master.zip",
    )


def draw_nuclei(count=10):
    """A set of our own in the layout of stage1_train.zip: {name inside: bytes}."""
    rng, files = np.random.default_rng(0), {}
    for i in range(count):
        image, mask = rng.integers(0, 256, (64, 64, 4), dtype=np.uint8), np.zeros((64, 64), np.uint8)
        mask[:20, : 10 + i] = 255
        for name, array in ((f"images/n{i}", image), ("masks/0", mask)):
            stream = io.BytesIO()
            Image.fromarray(array).save(stream, "PNG")
            files[f"n{i}/{name}.png"] = stream.getvalue()
    return files


def unpacked(files, folder):
    """The files of a dict as they lie on disk."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            shutil.copyfile(content, path)
    return folder

"""unetlab data list | fetch | check: the commands around the data sets."""

import warnings
from pathlib import Path

from unetlab.data_check import check_dataset, check_folder, contact_sheet
from unetlab.fetch import fetch
from unetlab.files import folder_and_pattern
from unetlab.realsets import available_datasets, data_root, load_dataset


def data_list(options) -> int:
    """The sets of the course, and where they were found."""
    print(f"{'name':13}{'area':16}{'kind':11}{'images':>7}  found in")
    for row in available_datasets():
        where = row.folder or (
            "always there" if row.kind == "synthetic" else f"not here: unetlab data fetch {row.name}"
        )
        print(f"{row.name:13}{row.area:16}{row.kind:11}{row.images or '':>7}  {where}")
        if row.kind == "real":
            print(f"{'':13}licence: {row.licence}")
    print(f"\nThe real sets lie in {data_root()} (the variable UNETLAB_DATA names another folder).")
    return 0


def data_fetch(options) -> int:
    """Download a real set (or take it from a mirror, an archive, a folder), check it and put it in its place."""
    fetch(options.name, options.source)
    return 0


def data_check(options) -> int:
    """Read a set (or your own pictures), say what is in it and list what is wrong with it."""
    folders = _folders(options)
    if folders:
        data, problems, notes = check_folder(*folders, options.groups, options.classes, options.without_mask)
        name = folder_and_pattern(options.name or options.images)[0].resolve().name
    else:
        data, name = load_dataset(options.name), options.name
        problems, notes = [], data.notes
    for note in notes:
        warnings.warn(note, stacklevel=2)
    if data is not None:
        lines, found = check_dataset(data)
        problems += found
        print(data, *lines, sep="\n")
        sheet = Path(options.sheet or f"{name}_sheet.png")
        sheet.write_bytes(contact_sheet(data))
        print(f"Contact sheet: {sheet}")
    for problem in problems:
        print(f"WRONG  {problem}")
    print(f"{len(problems)} problem{'s' * (len(problems) > 1)}" if problems else "Nothing wrong was found.")
    return 1 if problems else 0


def _folders(options) -> tuple[Path, Path] | None:
    """The folders of images and masks, or None for a set of the course. Raises ValueError."""
    if options.name and not (options.images or options.masks):
        folder = Path(options.name)
        if (folder / "images").is_dir() and (folder / "masks").is_dir():
            return folder / "images", folder / "masks"
        if folder.is_dir():
            raise ValueError(f"{folder}: holds no images/ and masks/; name the two with --images DIR --masks DIR")
        return None
    if options.images and options.masks and not options.name:
        return Path(options.images), Path(options.masks)
    raise ValueError(
        "say what to check: a NAME (see: unetlab data list), a DIR with images/ and masks/, or --images DIR --masks DIR"
    )

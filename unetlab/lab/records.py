"""Recorded runs, which the widgets of chapters 2 to 4 replay instead of training: ``notebooks/records/NAME.json``.

Made by ``python course.py records`` (``data_scripts/make_records.py``); every file holds its seeds, settings, versions
and hardware.
"""

import json
from pathlib import Path

_IN_REPOSITORY = Path(__file__).parents[2] / "notebooks" / "records"


def load_record(name: str, folder: str | Path | None = None) -> dict:
    """Read a record.

    Args:
        name: batch_size, schedules, stopping, lr_finder, study, ...
        folder: where the files are. None looks in ``records`` beside the notebook, then in the repository of the
            course, if the package was installed from there with ``pip install -e``.

    Returns:
        ``what``, ``command``, ``seeds``, ``settings``, ``environment``, ``cpu_seconds`` and ``runs``, a list of dicts.

    Raises:
        FileNotFoundError: there is no such file; the message says how to get one.
    """
    folders = [Path("records"), _IN_REPOSITORY] if folder is None else [Path(folder)]
    for place in folders:
        path = place / f"{name}.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
    command = "study" if name == "study" else f"records {name}"
    looked = ", ".join(str(place.absolute()) for place in folders)
    raise FileNotFoundError(
        f"no record {name}.json in {looked}. Start the notebook from the folder notebooks/ of the course, or pass "
        f"load_record({name!r}, folder=...); python course.py {command} makes it."
    )


def provenance(record: dict) -> str:
    """Where the numbers of a record come from, in a line: data, network, seeds, versions, processor."""
    settings, made = record["settings"], record["environment"]
    seeds = ", ".join(map(str, record["seeds"]))
    return (
        f"Recorded, nothing is trained here: synthetic {settings['scene']} of {settings['size']} px, U-Net of base "
        f"{settings['base_channels']} and depth {settings['depth']}, {settings['optimizer']}, seeds {seeds}; torch "
        f"{made['torch']} on {made['device_name']}, {made['threads']} thread{'s' * (made['threads'] > 1)}"
    )

"""Run notebooks again, clean them and save them: python course.py notebooks [--check] [NAME ...]

The stored outputs are those of the synthetic data: UNETLAB_DATA is not set while the notebooks run. Twice in a row
gives the same bytes on one machine, so `git diff` shows what a change of code or of a library did to the pages.
"""

import argparse
import os
import re
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

FOLDER = Path(__file__).parents[2] / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def refresh(path, save):
    """Run one notebook and save it if anything changed; returns what happened."""
    try:
        text = executed(path)
    except (CellExecutionError, CellTimeoutError, FileNotFoundError) as error:
        return f"FAILED\n{error}"
    if text == path.read_text(encoding="utf-8"):
        return "unchanged"
    if not save:
        return "DIFFERS from what is stored"
    path.write_text(text, encoding="utf-8", newline="\n")
    return "saved"


def executed(path):
    """The text of the notebook file after a run: executed in its own folder, cleaned, cell ids as they were."""
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(path.parent)}}
    options = {"kernel_name": "python3", "timeout": 600, "record_timing": False, "coalesce_streams": True}
    NotebookClient(notebook, resources=place, **options).execute()
    clean(notebook)
    return nbformat.writes(notebook) + "\n"


def clean(notebook):
    """Leave out what is of this run or this machine only; what is left is what a reader sees."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({key: cell.metadata[key] for key in cell.metadata.keys() & {"tags"}})
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = settled(output.text)
            elif "data" in output:
                output.data.pop(WIDGET_VIEW, None)  # a widget is dead on paper: its one-line text stays


def settled(text):
    """Printed text as a terminal shows it in the end; a progress bar without its times."""
    lines = [line.rstrip("\r").split("\r")[-1] for line in text.split("\n")]
    return "\n".join(re.sub(r" \[\d\d(:\d\d)+[<,][^\]]*\]", "", line) for line in lines)


def main():
    parser = argparse.ArgumentParser(prog="course.py notebooks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as 02b_losses; none means all")
    parser.add_argument("--check", action="store_true", help="save nothing, fail if a notebook would change")
    options = parser.parse_args()
    paths = [FOLDER / f"{Path(name).stem}.ipynb" for name in options.names] or sorted(FOLDER.glob("*.ipynb"))

    os.environ["OMP_NUM_THREADS"] = "1"  # the same digits whatever the number of cores
    for name in ("UNETLAB_DATA", "MPLBACKEND"):
        os.environ.pop(name, None)

    outcomes = []
    for path in paths:
        start = time.monotonic()
        outcomes.append(refresh(path, save=not options.check))
        print(f"{path.name:45} {time.monotonic() - start:6.1f} s  {outcomes[-1]}", flush=True)
    return int(not {"unchanged", "saved"}.issuperset(outcomes))


if __name__ == "__main__":
    raise SystemExit(main())

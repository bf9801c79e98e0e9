"""Re-executing a notebook: clean, the same bytes twice, and in agreement with nbval."""

import subprocess
import sys
from pathlib import Path

import execute
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

CELLS = [
    "# NBVAL_IGNORE_OUTPUT\nimport os\nprint(os.environ.get('UNETLAB_DATA'), os.environ['OMP_NUM_THREADS'])",
    "import ipywidgets\nipywidgets.IntSlider(value=3)",
    "from tqdm import tqdm\nfor _ in tqdm(range(3), leave=True):\n    print('step')",
    "for _ in tqdm(range(3), leave=False):\n    pass",
    "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()",
]
HERE = Path(__file__).parent


def call(*arguments):
    """execute.py as `course.py notebooks` calls it, on the notebooks of a folder of our own."""
    code = "import sys, execute, pathlib; execute.FOLDER = pathlib.Path(sys.argv.pop(1)); sys.exit(execute.main())"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with one executed notebook, whose metadata were those of an author's machine."""
    folder = tmp_path_factory.mktemp("notebooks")
    cells = [new_code_cell(source, id=f"cell-{number}") for number, source in enumerate(CELLS)]
    cells[0].metadata = {"tags": ["a-tag"], "collapsed": True, "execution": {"iopub.status.busy": "2026"}}
    kernel = {"kernelspec": {"name": "python3", "display_name": "mine", "language": "python"}, "widgets": {}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), folder / "sample.ipynb")
    result = call(folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "saved" in result.stdout
    return folder


def one_cell(source, folder):
    path = folder / "sample.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(source, id="one")]), path)
    return path


def test_what_is_stored(folder):
    notebook = nbformat.read(folder / "sample.ipynb", as_version=4)
    assert notebook.metadata == execute.METADATA
    assert [cell.id for cell in notebook.cells] == [f"cell-{number}" for number in range(len(CELLS))]
    assert [cell.metadata for cell in notebook.cells] == [{"tags": ["a-tag"]}, {}, {}, {}, {}]
    data, slider, bar, wiped, plot = [cell.outputs for cell in notebook.cells]
    assert data[0].text == "None 1\n"
    assert slider[0].data == {"text/plain": "IntSlider(value=3)"}
    assert {output.name: output.text for output in bar} == {
        "stdout": "step\nstep\nstep\n",
        "stderr": "100%|██████████| 3/3\n",
    }
    assert wiped[0].text.strip() == ""
    assert "image/png" in plot[0].data


def test_a_second_run_gives_the_same_bytes(folder):
    before = (folder / "sample.ipynb").read_bytes()
    result = call(folder, "sample")
    assert (result.returncode, "unchanged" in result.stdout) == (0, True), result.stdout
    assert (folder / "sample.ipynb").read_bytes() == before


def test_nbval_agrees_with_what_is_stored(folder):
    options = ["--nbval", "--nbval-current-env", f"--nbval-sanitize-with={HERE / 'sanitize.ini'}"]
    options += ["-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    command = [sys.executable, "-m", "pytest", *options]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert f"{len(CELLS)} passed" in result.stdout, result.stdout


def test_check_saves_nothing_and_fails_on_a_difference(tmp_path):
    path = one_cell("print(1)", tmp_path)
    before = path.read_bytes()
    result = call(tmp_path, "--check")
    assert (result.returncode, "DIFFERS" in result.stdout) == (1, True), result.stdout + result.stderr
    assert path.read_bytes() == before


def test_an_error_is_told_and_nothing_saved(tmp_path):
    path = one_cell("1 / 0", tmp_path)
    before = path.read_bytes()
    result = call(tmp_path, "sample", "missing.ipynb")
    assert result.returncode == 1
    assert "ZeroDivisionError" in result.stdout
    assert "missing.ipynb" in result.stdout
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("printed", "kept"),
    [
        ("one\ntwo\n", "one\ntwo\n"),
        ("1 of 2\r2 of 2\n", "2 of 2\n"),
        ("\r 50%|█ | 1/2 [00:01<00:01, 1it/s]\r100%|██| 2/2 [00:02<00:00, 1it/s, loss=0.3]\n", "100%|██| 2/2\n"),
        ("done\r\n", "done\n"),
        ("3it [00:00, 9it/s]\n", "3it\n"),
        ("shape [2, 3], at [12:30]", "shape [2, 3], at [12:30]"),
    ],
)
def test_settled(printed, kept):
    assert execute.settled(printed) == kept

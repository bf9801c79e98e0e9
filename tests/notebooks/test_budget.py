"""The budget plugin adds up the seconds of a notebook and fails a run, green otherwise, that is over the budget."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

PROGRAM = "import sys, pytest, budget; budget.BUDGET = float(sys.argv[1]); sys.exit(pytest.main(sys.argv[2:]))"


@pytest.mark.parametrize(("budget", "code"), [(100, 0), (0.8, 1)])
def test_budget(tmp_path, budget, code):
    source = "import time; time.sleep(0.3)\nprint('done')"
    output = new_output("stream", text="done\n")
    cells = [new_code_cell(source, execution_count=number, outputs=[output]) for number in (1, 2, 3)]
    nbformat.write(new_notebook(cells=cells), tmp_path / "sample.ipynb")
    options = ["-p", "budget", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile"]
    options += ["--nbval", "--nbval-current-env", "--rootdir", str(tmp_path), str(tmp_path)]
    command = [sys.executable, "-c", PROGRAM, str(budget), *options]
    result = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    assert result.returncode == code, result.stdout + result.stderr
    assert "3 passed" in result.stdout
    assert ("FAILED sample.ipynb" in result.stdout) == bool(code)

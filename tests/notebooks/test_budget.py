"""The budget plugin fails a run that is green otherwise."""

import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook, new_output

PROGRAM = "import sys, pytest, budget; budget.BUDGET = float(sys.argv[1]); sys.exit(pytest.main(sys.argv[2:]))"


def test_a_notebook_over_its_budget_fails_the_run(tmp_path):
    source = "sum(range(30_000_000))\nprint('done')"
    output = new_output("stream", text="done\n")
    cells = [new_code_cell(source, execution_count=number, outputs=[output]) for number in (1, 2)]
    nbformat.write(new_notebook(cells=cells), tmp_path / "sample.ipynb")
    options = ["-p", "budget", "-p", "no:cacheprovider", "--nbval", "--nbval-current-env"]
    command = [sys.executable, "-c", PROGRAM, "0.8", *options, "--rootdir", str(tmp_path), str(tmp_path)]
    result = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "2 passed" in result.stdout
    assert "FAILED sample.ipynb" in result.stdout

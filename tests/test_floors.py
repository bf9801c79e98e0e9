"""The floors of the package: imports point down, widgets stay in unetlab/lab, every file has its floor."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "unetlab"


def imported(source):
    """The top-level names of all modules that a source file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    return names


def test_imports_point_down():
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", program, "--no-cache"]  # a process of its own: it redirects the output for good
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


def test_every_module_has_a_floor():
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    on_floors = {name for layer in contract["layers"] for name in re.findall(r"unetlab\.(\w+)", layer)}
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    subpackages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert modules | subpackages == on_floors


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_widgets_stay_in_the_lab(path):
    if path.parent != PACKAGE / "lab":
        assert not imported(path.read_text()) & {"ipywidgets", "anywidget"}


def test_imported_finds_every_form():
    source = "import a.b\nfrom c import d\nfrom . import e\ndef f():\n    import g as h"
    assert imported(source) == {"a", "c", "g"}

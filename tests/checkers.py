"""What the tests of all answer checkers share: a verdict must say this, and the folded solutions of a notebook."""

import sys
from pathlib import Path

import nbformat

TESTS = Path(__file__).parent
sys.path.append(str(TESTS / "notebooks"))

from rules import solutions  # noqa: E402


def said(verdict, status, part=""):
    assert verdict.status == status, verdict
    assert part in verdict.message, verdict
    return True


def solved_by(notebook):
    """What the folded solutions of a notebook define."""
    names = {}
    for code in solutions(nbformat.read(TESTS.parent / "notebooks" / f"{notebook}.ipynb", as_version=4)):
        exec(code, names)
    return names

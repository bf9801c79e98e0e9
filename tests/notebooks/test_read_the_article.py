"""00_read_the_article: the folded solutions satisfy their checkers, and the references hold what the board cites."""

import ast
from html import escape

import nbformat
import pytest
from execute import FOLDER
from rules import code_cells, markdown, solutions

from unetlab.exercises.claims import CLAIMS

NOTEBOOK = nbformat.read(FOLDER / "00_read_the_article.ipynb", as_version=4)
SOLUTIONS = solutions(NOTEBOOK)


def value_of(code):
    """Run code as a cell is run: the value of its last line."""
    *statements, last = ast.parse(code).body
    names = {}
    exec(compile(ast.Module(statements, type_ignores=[]), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)


@pytest.mark.parametrize("code", SOLUTIONS, ids=range(1, len(SOLUTIONS) + 1))
def test_solution_is_right(code):
    assert value_of(code).status == "right"


def test_every_exercise_has_a_checker_that_waits_and_a_solution():
    waiting = [cell for cell in code_cells(NOTEBOOK) if "… Not attempted." in str(cell.outputs)]
    exercises = [source for source in markdown(NOTEBOOK) if "# Exercise" in source]
    assert len(waiting) == len(exercises) == len(SOLUTIONS) == 3


def test_references_hold_every_source_of_the_board():
    references = next(source for source in markdown(NOTEBOOK) if source.startswith("## References"))
    missing = {source.url for claim in CLAIMS for source in claim.sources if source.url not in references}
    assert not missing


def test_the_board_is_readable_without_a_kernel():
    board = next(cell for cell in NOTEBOOK.cells if cell.id == "board")
    html = board.outputs[0].data["text/html"]
    assert all(escape(claim.evidence) in html for claim in CLAIMS)


def test_every_choice_of_the_quiz_is_explained():
    questions = [cell.source for cell in NOTEBOOK.cells if cell.id.startswith("quiz-")]
    assert 4 <= len(questions) <= 6
    for question in questions:
        answers = question.split("<details>")[1:]
        assert len(answers) >= 3
        assert sum("\n✓ " in answer for answer in answers) == 1
        assert all(answer.count("\n✓ ") + answer.count("\n✗ ") == 1 for answer in answers)
        assert all(len(answer.split("</summary>")[1].split()) > 8 for answer in answers)

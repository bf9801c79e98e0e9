"""Each notebook keeps the rules of rules.py, and each rule notices a notebook that breaks it."""

import base64
import copy

import nbformat
import pytest
from execute import FOLDER, METADATA, WIDGET_VIEW
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from rules import RULES, SKELETON, solutions

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SENTENCE = "Skip connections carry the fine detail of each level straight across to the decoder of the network. "
SOLUTION = "<details><summary>Solution</summary>\n\n```python\nanswer = 42\n```\n\n</details>"


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_keeps_the_rule(path, rule):
    assert list(rule(nbformat.read(path, as_version=4))) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_valid_with_an_id_for_each_cell(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)


def figure():
    picture = base64.b64encode(b"a picture").decode()
    alt = {"image/png": {"alt": "The loss falls and then levels out"}}
    return new_output("display_data", {"image/png": picture, "text/plain": "<Figure>"}, metadata=alt)


@pytest.fixture
def good():
    """A small notebook that keeps every rule."""
    cells = [new_markdown_cell("# A title")]
    cells += [new_markdown_cell(f"## {title}\n\n{SENTENCE * 3}") for title in SKELETON]
    cells[2].source += "Runs in about 1 minute on two CPU cores, 20 seconds on a GPU."
    cells[3].source += SOLUTION
    cells += [
        new_code_cell("print(1 + 1)", execution_count=1, outputs=[new_output("stream", text="2\n")]),
        new_code_cell("figure", execution_count=2, outputs=[figure()]),
    ]
    return new_notebook(cells=cells, metadata=copy.deepcopy(METADATA))


def complaints(notebook):
    return [(rule.__name__, sentence) for rule in RULES for sentence in rule(notebook)]


def test_a_good_notebook_keeps_every_rule(good):
    assert complaints(good) == []


def not_run(notebook):
    notebook.cells[-1].execution_count = None


def run_out_of_order(notebook):
    notebook.cells[-2].execution_count = 3


def stored_error(notebook):
    notebook.cells[-2].outputs = [new_output("error", ename="NameError", evalue="x", traceback=[])]


def tagged_error(notebook):
    notebook.cells[-2].metadata.tags = ["raises-exception"]


def other_kernel(notebook):
    notebook.metadata.kernelspec.name = "my-env"


def stored_widget_state(notebook):
    notebook.metadata.widgets = {}


def time_stamps(notebook):
    notebook.cells[-1].metadata.execution = {"iopub.execute_input": "2026-01-01T00:00:00Z"}


def widget_view(notebook):
    notebook.cells[-1].outputs[0].data[WIDGET_VIEW] = {"model_id": "0a1b"}


def printed_path(notebook):
    notebook.cells[-2].outputs[0].text = "saved in /home/ada/unetlab/run"


def printed_windows_path(notebook):
    notebook.cells[-2].outputs = [new_output("execute_result", {"text/plain": r"'C:\Users\ada'"})]


def path_in_the_source(notebook):
    notebook.cells[-2].source = "open('/tmp/mask.png')"


def printed_address(notebook):
    notebook.cells[-2].outputs[0].text = "<UNet object at 0x7f3a5c00ffd0>"


def heavy_picture(notebook):
    notebook.cells[-1].outputs[0].data["image/png"] = base64.b64encode(bytes(500_000)).decode()


def heavy_file(notebook):
    notebook.cells[-2].outputs[0].text = "x" * 2_000_000


def no_quiz(notebook):
    del notebook.cells[4]


def quiz_before_exercise(notebook):
    notebook.cells[3:5] = notebook.cells[4:2:-1]


def no_title(notebook):
    del notebook.cells[0]


def no_time_on_a_gpu(notebook):
    notebook.cells[2].source = notebook.cells[2].source.replace(", 20 seconds on a GPU", "")


def three_minutes(notebook):
    notebook.cells[2].source = notebook.cells[2].source.replace("1 minute", "3 minutes")


def long_cells(notebook):
    for cell in notebook.cells[-2:]:
        cell.source = "step()\n" * 9


def one_very_long_cell(notebook):
    notebook.cells[-1].source = "step()\n" * 41
    notebook.cells[-2].source = "# a comment is not counted\n\nstep()"


def three_code_cells(notebook):
    notebook.cells.append(new_code_cell("3", execution_count=3))


def long_prose(notebook):
    for cell in notebook.cells[1:7]:
        cell.source += SENTENCE * 3


def short_prose(notebook):
    for cell in notebook.cells[1:7]:
        cell.source = cell.source.replace(SENTENCE * 2, "")


def figure_without_alt(notebook):
    notebook.cells[-1].outputs[0].metadata = {}


def picture_without_alt(notebook):
    notebook.cells[1].source += "![](unet.png)"


def no_solution(notebook):
    notebook.cells[3].source = notebook.cells[3].source.replace(SOLUTION, "")


def solution_not_python(notebook):
    notebook.cells[3].source = notebook.cells[3].source.replace("answer = 42", "answer = = 42")


BREAKS = {
    "outputs_are_stored": [not_run, run_out_of_order],
    "no_errors": [stored_error, tagged_error],
    "clean_metadata": [other_kernel, stored_widget_state, time_stamps],
    "no_widget_views": [widget_view],
    "nothing_of_this_machine": [printed_path, printed_windows_path, path_in_the_source, printed_address],
    "light": [heavy_picture, heavy_file],
    "skeleton": [no_quiz, quiz_before_exercise, no_title],
    "stated_time": [no_time_on_a_gpu, three_minutes],
    "short_code": [long_cells, one_very_long_cell],
    "at_most_two_code_cells_in_a_row": [three_code_cells],
    "prose_of_readable_length": [long_prose, short_prose],
    "pictures_have_alt_text": [figure_without_alt, picture_without_alt],
    "solutions_are_folded": [no_solution, solution_not_python],
}


def test_every_rule_is_tested():
    assert list(BREAKS) == [rule.__name__ for rule in RULES]


@pytest.mark.parametrize("spoil", sum(BREAKS.values(), []), ids=lambda spoil: spoil.__name__)
def test_a_rule_notices_and_the_others_keep_quiet(good, spoil):
    spoil(good)
    broken = {name for name, _ in complaints(good)}
    assert broken == {name for name, spoilers in BREAKS.items() if spoil in spoilers}


def test_solutions_are_found_in_order(good):
    good.cells[4].source += SOLUTION.replace("42", "43").replace("Solution", "A solution with a trick")
    assert solutions(good) == ["answer = 42\n", "answer = 43\n"]

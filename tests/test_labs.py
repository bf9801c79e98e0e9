"""The graded labs: stub and solution agree, nothing leaks, and right and wrong submissions get their marks and reasons."""

import ast
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path

import matplotlib
import nbformat
import pytest
from lab_answers import WRONG

pytest.importorskip("nbgrader", reason="nbgrader is not here: pip install -e '.[labs]'")

from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI, ZipCollectApp
from nbgrader.coursedir import CourseDirectory
from traitlets.config.loader import PyFileConfigLoader

ROOT = Path(__file__).parent.parent
sys.path.append(str(Path(__file__).parent / "notebooks"))

from rules import light, markdown, nothing_of_this_machine, prose_of_readable_length  # noqa: E402

MASTERS = {path.stem: path for path in sorted((ROOT / "labs/source").glob("*/*.ipynb"))}
CHAPTERS = {lab: path.parent.name for lab, path in MASTERS.items()}
TASK = re.compile(r"^\| (\d) .*\| (\d+) \| (\d+) \|$", re.MULTILINE)


def cells_of(notebook):
    """The cells that nbgrader knows, by name."""
    return {cell.metadata.nbgrader.grade_id: cell for cell in notebook.cells if "nbgrader" in cell.metadata}


def read(lab):
    return nbformat.read(MASTERS[lab], as_version=4)


def reasons(source):
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]


# ------------------------------------------------------------------------------------------------------ masters


def test_there_is_a_lab_for_each_of_three_chapters():
    assert CHAPTERS == {"lab2": "chapter2", "lab3": "chapter3", "lab4": "chapter4"}


@pytest.mark.parametrize("lab", MASTERS)
def test_master_keeps_the_rules_and_adds_up(lab):
    notebook = read(lab)
    nbformat.validate(notebook)
    for rule in (nothing_of_this_machine, light, prose_of_readable_length):
        assert list(rule(notebook)) == []
    points = {}
    for name, cell in cells_of(notebook).items():
        if cell.metadata.nbgrader.grade:
            task = name.split("-")[0]
            points[task] = points.get(task, 0) + cell.metadata.nbgrader.points
    table = TASK.findall("\n".join(markdown(notebook)))
    assert [int(row[2]) for row in table] == list(points.values())
    assert sum(points.values()) == 20 and 5 <= len(points) <= 7
    assert 60 <= sum(int(row[1]) for row in table) <= 90
    by_hand = cells_of(notebook)["words"]
    assert by_hand.cell_type == "markdown" and by_hand.source.count("MARK SCHEME") == 2


@pytest.mark.parametrize("lab", MASTERS)
def test_every_test_says_why_and_none_is_wholly_hidden_or_wholly_shown(lab):
    cells = cells_of(read(lab))
    tests = {name: cell.source for name, cell in cells.items() if cell.metadata.nbgrader.grade and name != "words"}
    for name, source in tests.items():
        assert reasons(source) and all(check.msg is not None for check in reasons(source)), name
        assert ("BEGIN HIDDEN TESTS" in source) == name.endswith("-rest"), name
    assert len(tests) == 2 * len({name.split("-")[0] for name in tests})


@pytest.fixture(scope="module")
def solved():
    """What a lab defines after its setup and the master's answers; the trainings are left out."""
    matplotlib.use("agg")
    begun = {}
    with matplotlib.rc_context():  # the setup takes the course's style, which is no other test's concern
        for lab in MASTERS:
            begun[lab] = {}
            exec(cells_of(read(lab))["setup"].source, begun[lab])

    def solve(lab, **instead):
        names = dict(begun[lab])
        for name, cell in cells_of(read(lab)).items():
            if cell.metadata.nbgrader.solution and cell.cell_type == "code":
                exec(instead.get(name, cell.source), names)
        return names

    return solve


@pytest.mark.parametrize(
    "lab, answer, code, test, why", WRONG, ids=[f"{lab}-{test}-{i}" for i, (lab, _, _, test, _) in enumerate(WRONG)]
)
def test_a_known_mistake_is_told(solved, lab, answer, code, test, why):
    names = solved(lab, **{answer: code})
    with pytest.raises(AssertionError) as caught:
        exec(cells_of(read(lab))[test].source, names)
    assert why in str(caught.value)


def test_every_hidden_test_meets_a_mistake():
    tried = {(lab, test) for lab, _, _, test, _ in WRONG}
    hidden = {(lab, name) for lab in MASTERS for name in cells_of(read(lab)) if name.endswith("-rest")}
    assert hidden <= tried


# ------------------------------------------------------------------------------------------------ nbgrader's cycle

HANG = """
def epochs_for_as_many_steps(images, epochs, batch_size, new_batch_size):
    steps, each, new_epochs = epochs * -(-images // batch_size), -(-images // new_batch_size), 0
    while new_epochs * each != steps:  # never, where the steps do not fill the last epoch
        new_epochs += 1
    return new_epochs
"""


def right(notebook, lab):
    master = cells_of(read(lab))
    for name, cell in cells_of(notebook).items():
        if cell.metadata.nbgrader.solution:
            cell.source = master[name].source


def right_without_tests(notebook, lab):
    """Every test is deleted, and so is the cell with the imports."""
    right(notebook, lab)
    gone = [cell for name, cell in cells_of(notebook).items() if cell.metadata.nbgrader.grade and name != "words"]
    gone.append(cells_of(notebook)["setup"])
    notebook.cells = [cell for cell in notebook.cells if cell not in gone]


def nearly_right(notebook, lab):
    """Mistakes that only the hidden tests see, a loop that never ends there, an answer deleted, imports of nonsense."""
    right(notebook, lab)
    cells = cells_of(notebook)
    for answer, test in (("dice", "dice-rest"), ("verdict", "verdict-rest")):
        cells[answer].source = next(code for _, cell, code, where, _ in WRONG if (cell, where) == (answer, test))
    cells["steps"].source = HANG
    cells["pull"].source = "import segmentation_wizard\n\n" + cells["pull"].source
    notebook.cells.remove(cells["flip"])
    notebook.cells.insert(0, nbformat.v4.new_code_cell("from unetlab import Everything"))


def empty(notebook, lab):
    """As it was given out."""


RIGHT = [("lab2", right), ("lab3", right), ("lab4", right_without_tests)]
SUBMISSIONS = [*RIGHT, ("lab2", nearly_right), ("lab3", empty)]

# No point depends on what is trained: full marks take a few steps, and the other submissions train nothing.
BRIEFLY = {"lab2": "steps=3", "lab3": "total=3", "lab4": "budget=3"}


def train_less(notebook, lab, kind):
    briefly = f"from functools import partial\n\ntrain = partial(train, {BRIEFLY[lab]})"
    code = briefly if (lab, kind) in RIGHT else "train = None"
    place = notebook.cells.index(cells_of(notebook)["run-train"])
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(code))


def settings(folder):
    """The settings of the repository, for a course folder of the test's own."""
    config = PyFileConfigLoader("nbgrader_config.py", path=str(ROOT / "labs")).load_config()
    config.CourseDirectory.root = str(folder)
    return config


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course folder in which everything was released, submitted, graded and explained, with the repository's settings."""
    folder = tmp_path_factory.mktemp("labs")
    shutil.copytree(ROOT / "labs/source", folder / "source")
    config = settings(folder)
    hangs = cells_of(read("lab2"))["steps-rest"].source  # the one cell that is not waited for
    config.Execute.timeout_func = lambda cell: 3 if cell.source == hangs else 120
    with pytest.MonkeyPatch.context() as patch:
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        patch.setenv("PATH", programs)  # nbgrader calls alembic by its name, as course.py knows
        api = NbGraderAPI(config=config)
        done = [api.generate_assignment(chapter) for chapter in CHAPTERS.values()]
        for lab, kind in SUBMISSIONS:
            notebook = nbformat.read(folder / "release" / CHAPTERS[lab] / f"{lab}.ipynb", as_version=4)
            kind(notebook, lab)
            train_less(notebook, lab, kind)
            place = folder / "submitted" / kind.__name__ / CHAPTERS[lab]
            place.mkdir(parents=True)
            nbformat.write(notebook, place / f"{lab}.ipynb")
        done += [api.autograde(chapter, "*") for chapter in CHAPTERS.values()]
        done += [api.generate_feedback(chapter, "*") for chapter in CHAPTERS.values()]
    assert all(each["success"] for each in done), [each.get("error") for each in done if not each["success"]]
    return folder


def test_files_of_a_learning_platform_are_sorted_by_pupil(tmp_path):
    delivered = {
        "Ada Lovelace_417_assignsubmission_file/lab2.ipynb": "Ada Lovelace_417",
        "Ada Lovelace_455_assignsubmission_file_/lab2 (1).ipynb": "Ada Lovelace_455",
        "Bob O'Hara_433_assignsubmission_file_lab2.ipynb": "Bob O'Hara_433",
        "mullerzoe_1201_88301_lab2.ipynb": "mullerzoe",
        "latecomer_LATE_1202_88302_lab2-1.ipynb": "latecomer",
        "Wrong Name_470_assignsubmission_file/homework.ipynb": None,
        "Wrong File_471_assignsubmission_file/lab2.pdf": None,
    }
    archive = tmp_path / "downloaded/chapter2/archive"
    archive.mkdir(parents=True)
    with zipfile.ZipFile(archive / "all of them.zip", "w") as file:
        for name in delivered:
            file.writestr(name, "{}")
    config = settings(tmp_path)
    place = CourseDirectory(config=config)
    place.assignment_id = "chapter2"
    ZipCollectApp(config=config, coursedir=place).start()
    collected = {path.parts[-3] for path in tmp_path.glob("submitted/*/chapter2/lab2.ipynb")}
    assert collected == set(filter(None, delivered.values()))
    assert len(list(tmp_path.glob("submitted/**/*.*"))) == len(collected)


def marks(course, lab, kind):
    """Points of each test of a submission; None where a person has to read."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        (notebook,) = gradebook.find_submission(CHAPTERS[lab], kind.__name__).notebooks
        return {grade.name: grade.auto_score for grade in notebook.grades}


def lost(course, lab, kind):
    """The tests that gave no points, with the error that the pupil is shown."""
    notebook = nbformat.read(course / "autograded" / kind.__name__ / CHAPTERS[lab] / f"{lab}.ipynb", as_version=4)
    cells, shown = cells_of(notebook), {}
    for name, points in marks(course, lab, kind).items():
        if points == 0 and cells[name].cell_type == "code":
            errors = [output for output in cells[name].outputs if output.output_type == "error"]
            shown[name] = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(errors[-1].traceback))
    return shown


@pytest.mark.parametrize("lab", MASTERS)
def test_the_pupils_version_holds_no_solution_and_no_hidden_test(course, lab):
    text = (course / "release" / CHAPTERS[lab] / f"{lab}.ipynb").read_text(encoding="utf-8")
    for mark in ("SOLUTION", "HIDDEN", "MARK SCHEME", "A model answer."):
        assert mark not in text
    released, master = cells_of(nbformat.reads(text, as_version=4)), cells_of(read(lab))
    assert released.keys() == master.keys()
    for name, cell in master.items():
        secret = re.findall(r"### BEGIN.*?\n(.*?)### END", cell.source, re.DOTALL)
        secret = [line.strip() for part in secret for line in part.splitlines() if len(line.strip()) > 12]
        assert not [line for line in secret if line in released[name].source], name
        if cell.metadata.nbgrader.solution and cell.cell_type == "code":
            assert 'raise NotImplementedError("not attempted")' in released[name].source
            assert secret
        if name.endswith("-rest"):
            assert released[name].source.startswith("# Graded on: ") and secret
    assert len(released["words"].source) < 60


@pytest.mark.parametrize("lab, kind", RIGHT, ids=CHAPTERS)
def test_the_master_runs_to_full_marks_with_its_tests_or_when_they_were_put_back(course, lab, kind):
    given = marks(course, lab, kind)
    assert lost(course, lab, kind) == {}
    assert given.pop("words") is None  # a person reads it
    assert sum(given.values()) == 16
    notebook = nbformat.read(course / "autograded" / kind.__name__ / CHAPTERS[lab] / f"{lab}.ipynb", as_version=4)
    assert not [
        output for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "error"
    ]


def test_each_mistake_costs_its_own_points_and_is_told(course):
    shown = lost(course, "lab2", nearly_right)
    assert "the mean of one Dice for each picture" in shown.pop("dice-rest")
    assert "ran too long" in shown.pop("steps-rest")
    assert "compare pairs" in shown.pop("verdict-rest")  # after the loop the kernel went on
    for test in ("flip-shown", "flip-rest"):
        assert "not attempted" in shown.pop(test)
    for test in ("pull-shown", "pull-rest"):
        assert "'pull' is not defined" in shown.pop(test)
    assert shown == {}


def test_an_empty_submission_is_told_that_nothing_was_attempted(course):
    given = marks(course, "lab3", empty)
    assert sum(given.values()) == 0  # the explanation too: the line that asks for it was left as it was
    assert all("not attempted" in why for why in lost(course, "lab3", empty).values())


@pytest.mark.parametrize("lab, kind", SUBMISSIONS, ids=lambda value: getattr(value, "__name__", value))
def test_feedback_tells_every_reason_in_one_line(course, lab, kind):
    page = course / "feedback" / kind.__name__ / CHAPTERS[lab] / f"{lab}.html"
    text = page.read_text(encoding="utf-8")
    shown = lost(course, lab, kind)
    for why in shown.values():
        assert len(why.strip().splitlines()) == 1, why
    for part in ("compare pairs", "ran too long", "not attempted", "is not defined"):
        assert (part in text) >= any(part in why for why in shown.values())


# ------------------------------------------------------------------------------------------- who gets the masters


def test_no_way_of_handing_out_the_course_holds_the_masters():
    image = (ROOT / ".binder/.dockerignore").read_text().splitlines()
    assert {"labs", "tests", ".git"} <= set(image)
    archive = (ROOT / ".gitattributes").read_text()
    for path in ("/labs", "/tests/lab_answers.py", "/tests/test_labs.py"):
        assert f"{path} export-ignore" in archive
    hub = (ROOT / "deploy/jupyterhub_config.py").read_text()
    assert 'setting("COURSE", "/srv/unetlab/notebooks")' in hub and "labs/source" not in hub
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "/labs/*" in ignored  # submissions and marks are never committed
